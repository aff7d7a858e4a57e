/* SPDX-License-Identifier: MIT */
#include "broker/socketio/sio_room.h"

#include <assert.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/crypt.h"
#include "common/str.h"
#include "common/xalloc.h"

/* 20 characters, as npm socket.io's */
#define ID_BYTES 15

struct kept {
	struct sio_told told;
	int64_t n, at_ms;
	int64_t only; /* the session's number; 0: all */
	size_t bytes;
	struct sio_room *room;
	TAILQ_ENTRY(kept) in_room, in_all;
};

TAILQ_HEAD(kept_list, kept);

struct sio_session {
	char *sid, *pid;
	/* what has a greater number was told after it began */
	int64_t number;
	void *socket;
	int64_t lost_ms;
	struct sio_room *room;
	TAILQ_ENTRY(sio_session) in_room, in_lost;
};

struct sio_room {
	const char *namespace;
	char *name; /* the pid of whose own it is */
	bool own;
	struct sio_rooms *rooms;
	TAILQ_HEAD(, sio_session) sessions;
	struct kept_list kept;
	size_t kept_count, kept_bytes;
	int64_t gone; /* up to here, something had to give way */
};

struct sio_rooms {
	struct sio_room_limits limits;
	int64_t last; /* number given */
	void *tree;   /* of rooms: tsearch(3) */
	TAILQ_HEAD(, sio_session) lost;
	size_t lost_count;
	struct kept_list kept;
	size_t kept_bytes;
};

struct sio_rooms *
sio_rooms_new(const struct sio_room_limits *limits, int64_t first)
{
	struct sio_rooms *rooms = xcalloc(1, sizeof(*rooms));

	rooms->limits = *limits;
	rooms->last = first;
	TAILQ_INIT(&rooms->lost);
	TAILQ_INIT(&rooms->kept);
	return rooms;
}

void
sio_rooms_free(struct sio_rooms *rooms)
{
	struct sio_session *session;

	if (rooms == NULL)
		return;
	while ((session = TAILQ_FIRST(&rooms->lost)) != NULL)
		sio_session_end(session);
	assert(rooms->tree == NULL);
	free(rooms);
}

/* ---- what was told ----------------------------------------------------- */

static void
forget(struct kept *kept)
{
	struct sio_room *room = kept->room;
	struct sio_rooms *rooms = room->rooms;

	TAILQ_REMOVE(&room->kept, kept, in_room);
	TAILQ_REMOVE(&rooms->kept, kept, in_all);
	room->kept_count--;
	room->kept_bytes -= kept->bytes;
	rooms->kept_bytes -= kept->bytes;
	for (size_t i = 0; i < kept->told.attachment_count; i++)
		free(kept->told.attachments[i].data);
	free((void *)(uintptr_t)kept->told.attachments);
	free(kept->told.text);
	free(kept);
}

/* For want of room: who has not been told it, cannot be told it any more. */
static void
give_way(struct kept *kept)
{
	kept->room->gone = kept->n;
	forget(kept);
}

void
sio_rooms_offset(struct sio_rooms *rooms, char out[SIO_OFFSET_SIZE])
{
	(void)snprintf(out, SIO_OFFSET_SIZE, "%" PRId64, ++rooms->last);
}

static size_t
copy_told(struct sio_told *to, const struct sio_told *from)
{
	struct sio_attachment *copies;
	size_t bytes = from->len;

	*to = *from;
	copies = xcalloc(from->attachment_count + 1, sizeof(*copies));
	for (size_t i = 0; i < from->attachment_count; i++) {
		const struct sio_attachment *attachment = &from->attachments[i];

		copies[i].len = attachment->len;
		copies[i].data = xcalloc(1, attachment->len + 1);
		if (attachment->len > 0)
			memcpy(copies[i].data, attachment->data,
			    attachment->len);
		bytes += sizeof(*copies) + attachment->len;
	}
	to->attachments = copies;
	return bytes;
}

void
sio_room_keep(struct sio_room *room, const struct sio_session *only,
    const struct sio_told *told, int64_t now_ms)
{
	struct kept *kept = xcalloc(1, sizeof(*kept));
	struct sio_rooms *rooms = room->rooms;
	const struct sio_room_limits *limits = &rooms->limits;

	kept->bytes = sizeof(*kept) + copy_told(&kept->told, told);
	kept->n = rooms->last;
	kept->at_ms = now_ms;
	kept->only = only == NULL ? 0 : only->number;
	kept->room = room;
	TAILQ_INSERT_TAIL(&room->kept, kept, in_room);
	TAILQ_INSERT_TAIL(&rooms->kept, kept, in_all);
	room->kept_count++;
	room->kept_bytes += kept->bytes;
	rooms->kept_bytes += kept->bytes;
	while (room->kept_count > limits->room_packets ||
	    room->kept_bytes > limits->room_bytes)
		give_way(TAILQ_FIRST(&room->kept));
	while (rooms->kept_bytes > limits->all_bytes)
		give_way(TAILQ_FIRST(&rooms->kept));
}

bool
sio_rooms_tidy(struct sio_rooms *rooms, int64_t now_ms)
{
	struct sio_session *session;
	struct kept *kept;

	while ((session = TAILQ_FIRST(&rooms->lost)) != NULL &&
	    now_ms - session->lost_ms > rooms->limits.recovery_ms)
		sio_session_end(session);
	while ((kept = TAILQ_FIRST(&rooms->kept)) != NULL &&
	    now_ms - kept->at_ms > rooms->limits.keep_ms)
		forget(kept);
	return !TAILQ_EMPTY(&rooms->lost) || !TAILQ_EMPTY(&rooms->kept);
}

/* ---- rooms ------------------------------------------------------------- */

static int
compare(const void *a, const void *b)
{
	const struct sio_room *left = a, *right = b;
	int order = strcmp(left->name, right->name);

	if (order == 0)
		order = strcmp(left->namespace, right->namespace);
	return order != 0 ? order : left->own - right->own;
}

static struct sio_room *
find_room(const struct sio_rooms *rooms, const char *namespace,
    const char *name, bool own)
{
	struct sio_room key = { .namespace = namespace,
		.name = (char *)(uintptr_t)name,
		.own = own };
	struct sio_room *const *node = tfind(&key, &rooms->tree, compare);

	return node == NULL ? NULL : *node;
}

struct sio_room *
sio_room_find(const struct sio_rooms *rooms, const char *namespace,
    const char *name)
{
	return find_room(rooms, namespace, name, false);
}

static struct sio_room *
make_room(struct sio_rooms *rooms, const char *namespace, const char *name,
    bool own)
{
	struct sio_room *room = find_room(rooms, namespace, name, own);

	if (room != NULL)
		return room;
	room = xcalloc(1, sizeof(*room));
	room->namespace = namespace;
	room->name = xstrdup(name);
	room->own = own;
	room->rooms = rooms;
	TAILQ_INIT(&room->sessions);
	TAILQ_INIT(&room->kept);
	if (tsearch(room, &rooms->tree, compare) == NULL)
		abort(); /* no memory */
	return room;
}

static void
room_free(struct sio_room *room)
{
	struct kept *kept;

	while ((kept = TAILQ_FIRST(&room->kept)) != NULL)
		forget(kept);
	(void)tdelete(room, &room->rooms->tree, compare);
	free(room->name);
	free(room);
}

void
sio_room_each(const struct sio_room *room,
    void (*visit)(void *arg, void *socket), void *arg)
{
	struct sio_session *session;

	TAILQ_FOREACH (session, &room->sessions, in_room)
		if (session->socket != NULL)
			visit(arg, session->socket);
}

/* ---- sessions ---------------------------------------------------------- */

static char *
make_id(void)
{
	uint8_t bytes[ID_BYTES];

	crypt_random(bytes, sizeof(bytes));
	return crypt_base64url(bytes, sizeof(bytes));
}

struct sio_session *
sio_session_new(struct sio_rooms *rooms, const char *namespace,
    const char *room, void *socket)
{
	struct sio_session *session = xcalloc(1, sizeof(*session));

	session->sid = make_id();
	session->pid = make_id();
	session->number = ++rooms->last;
	session->socket = socket;
	session->room = make_room(rooms, namespace,
	    room == NULL ? session->pid : room, room == NULL);
	TAILQ_INSERT_TAIL(&session->room->sessions, session, in_room);
	return session;
}

/*
 * The number after which a session was told something new.  A client goes on
 * naming its last offset when its session has become another, which has told it
 * nothing yet.
 */
static bool
read_offset(const struct sio_session *session, const char *offset, int64_t *ret)
{
	uint64_t n = 0;

	if (offset != NULL &&
	    str_to_u64(offset, strlen(offset),
		(uint64_t)session->room->rooms->last, &n) != ERR_OK)
		return false;
	*ret = (int64_t)n > session->number ? (int64_t)n : session->number;
	return true;
}

struct sio_session *
sio_session_find(const struct sio_rooms *rooms, const char *namespace,
    const char *room, const char *pid, const char *offset, int64_t now_ms)
{
	struct sio_session *session;
	struct sio_room *found;
	int64_t n;

	found = find_room(rooms, namespace, room == NULL ? pid : room,
	    room == NULL);
	if (found == NULL)
		return NULL;
	TAILQ_FOREACH (session, &found->sessions, in_room)
		if (strcmp(session->pid, pid) == 0)
			break;
	if (session == NULL || !read_offset(session, offset, &n) ||
	    n < found->gone)
		return NULL;
	if (session->socket == NULL &&
	    now_ms - session->lost_ms > rooms->limits.recovery_ms)
		return NULL;
	return session;
}

/* It is not lost any more. */
static void
find_again(struct sio_session *session)
{
	struct sio_rooms *rooms = session->room->rooms;

	TAILQ_REMOVE(&rooms->lost, session, in_lost);
	rooms->lost_count--;
}

void
sio_session_end(struct sio_session *session)
{
	struct sio_room *room = session->room;

	if (session->socket == NULL)
		find_again(session);
	TAILQ_REMOVE(&room->sessions, session, in_room);
	free(session->sid);
	free(session->pid);
	free(session);
	if (TAILQ_EMPTY(&room->sessions))
		room_free(room);
}

void
sio_session_lose(struct sio_session *session, int64_t now_ms)
{
	struct sio_rooms *rooms = session->room->rooms;

	if (rooms->limits.recovery_ms == 0) {
		sio_session_end(session);
		return;
	}
	session->socket = NULL;
	session->lost_ms = now_ms;
	TAILQ_INSERT_TAIL(&rooms->lost, session, in_lost);
	if (++rooms->lost_count > rooms->limits.lost_max)
		sio_session_end(TAILQ_FIRST(&rooms->lost));
}

void
sio_session_take(struct sio_session *session, void *socket)
{
	find_again(session);
	session->socket = socket;
}

const char *
sio_session_sid(const struct sio_session *session)
{
	return session->sid;
}

const char *
sio_session_pid(const struct sio_session *session)
{
	return session->pid;
}

void *
sio_session_socket(const struct sio_session *session)
{
	return session->socket;
}

struct sio_room *
sio_session_room(const struct sio_session *session)
{
	return session->room;
}

void
sio_session_missed(const struct sio_session *session, const char *offset,
    void (*visit)(void *arg, const struct sio_told *told), void *arg)
{
	const struct kept *kept;
	int64_t n;

	if (!read_offset(session, offset, &n))
		return;
	TAILQ_FOREACH (kept, &session->room->kept, in_room)
		if (kept->n > n &&
		    (kept->only == 0 || kept->only == session->number))
			visit(arg, &kept->told);
}
