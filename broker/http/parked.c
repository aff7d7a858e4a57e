/* SPDX-License-Identifier: MIT */
#include "broker/http/parked.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/http/address.h"
#include "broker/http/answer.h"
#include "broker/hub/hub.h"
#include "broker/limits/slots.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/loop.h"
#include "common/xalloc.h"

/* FastCGI 1.0, 3.3 and 8: records, which we write without padding. */
#define FCGI_VERSION	   1
#define FCGI_ABORT_REQUEST 2
#define FCGI_END_REQUEST   3
#define FCGI_STDOUT	   6
#define RECORD_HEAD	   8
#define RECORD_END	   16

/*
 * What a peer that is slow keeps of a piece is kept here: so a record is much
 * smaller than it could be.
 */
#define PIECE_MAX_BYTES (16 * 1024)

struct parked {
	struct request_left left;
	struct slots *slots; /* of the client's address */
	int64_t timeout_ms;
	int status; /* 0: no answer has begun */
	bool no_body;
	bool broken;	  /* nothing can be sent any more */
	bool full;	  /* whoever writes waits for room */
	bool ending;	  /* is ours alone, and freed once `rest' is sent */
	struct buf *rest; /* of what was written; NULL: nothing */
	struct loop_watch *watch; /* NULL until parked_begin() */
	struct loop_timer *timer; /* of a peer that takes nothing; or NULL */
	const struct parked_events *events;
	void *arg;
	LIST_ENTRY(parked) next; /* of those that are ending */
};

static atomic_uint count;
static LIST_HEAD(, parked) endings = LIST_HEAD_INITIALIZER(endings);

/* Some descriptors are for others: requests, tunnels, the store. */
static unsigned
most(const struct config *config)
{
	uint64_t waiting = config->requests.waiting;
	struct rlimit limit;
	rlim_t quarter;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return 0;
	quarter = limit.rlim_cur / 4;
	return (unsigned)(quarter * 3 < waiting ? quarter * 3 : waiting);
}

/*
 * One address has at most a quarter of them, so that it shuts out nobody else;
 * this machine's own clients, as which all may come, are not counted so.
 */
static enum err
take_slot(const struct request *req, unsigned max, struct slots **ret,
    struct diag *diag)
{
	const char *address = request_client(req);
	const struct config_plan plan = {
		.max_parked = address_is_loopback(address) ? 0 : (max + 3) / 4,
	};
	struct subjects subjects;
	uint64_t full;
	enum err err;

	subjects_fill_address(request_config(req), address, &subjects);
	subjects.items[0].plan = &plan;
	err = slots_take(SLOTS_PARKED, &subjects, false, ret, &full, diag);
	if (err != ERR_OK)
		diag_set(diag, "too many requests of this address wait");
	return err;
}

enum err
parked_take(struct request *req, struct parked **ret, struct diag *diag)
{
	int64_t timeout_ms = request_config(req)->requests.timeout_ms;
	struct slots *slots = NULL;
	struct request_left left;
	struct parked *parked;
	unsigned max = most(request_config(req));
	enum err err;
	int flags;

	if (atomic_fetch_add(&count, 1) >= max) {
		diag_set(diag, "too many requests wait");
		err = ERR_UNAVAIL;
	} else {
		err = take_slot(req, max, &slots, diag);
	}
	if (err == ERR_OK)
		err = request_leave(req, &left, diag);
	if (err != ERR_OK) {
		slots_release(slots);
		atomic_fetch_sub(&count, 1);
		return err;
	}
	flags = fcntl(left.fd, F_GETFL);
	(void)fcntl(left.fd, F_SETFL, flags | O_NONBLOCK);
	parked = xcalloc(1, sizeof(*parked));
	parked->left = left;
	parked->slots = slots;
	parked->timeout_ms = timeout_ms;
	*ret = parked;
	return ERR_OK;
}

/* Close it, whatever is left to be sent. */
static void
parked_free(struct parked *parked)
{
	enum answer_end end = !parked->ending	     ? ANSWER_LEFT
	    : parked->rest != NULL || parked->broken ? ANSWER_NOT_TAKEN
						     : ANSWER_TAKEN;

	if (parked->ending)
		LIST_REMOVE(parked, next);
	answer_log(parked->left.words, parked->status, parked->left.started_ms,
	    end);
	loop_timer_free(parked->timer);
	loop_watch_free(parked->watch);
	(void)close(parked->left.fd);
	buf_free(parked->rest);
	free(parked->left.headers);
	free(parked->left.words);
	slots_release(parked->slots);
	free(parked);
	atomic_fetch_sub(&count, 1);
}

void
parked_drop(struct parked *parked)
{
	if (parked != NULL)
		parked_free(parked);
}

static void
await_nothing(struct parked *parked)
{
	buf_free(parked->rest);
	parked->rest = NULL;
	if (parked->timer != NULL)
		loop_timer_stop(parked->timer);
	loop_watch_set(parked->watch, true, false);
}

/* The owner is told by a call from the loop, or there is none any more. */
static void
lose(struct parked *parked)
{
	const struct parked_events *events = parked->events;

	if (parked->ending) {
		parked_free(parked);
		return;
	}
	parked->broken = true;
	await_nothing(parked);
	loop_watch_set(parked->watch, false, false);
	events->gone(parked->arg);
}

static void
expire(void *arg)
{
	lose(arg);
}

/* ---- sending ----------------------------------------------------------- */

/* Something is to be sent: the peer has this long to take a part of it. */
static void
await_room(struct parked *parked)
{
	if (parked->timer == NULL)
		parked->timer = loop_timer_new(hub_loop(), expire, parked);
	loop_timer_set(parked->timer, parked->timeout_ms);
	loop_watch_set(parked->watch, true, true);
}

/* How much the socket took; a peer that is gone takes all. */
static size_t
send_now(struct parked *parked, const uint8_t *data, size_t len)
{
	ssize_t n;

	if (parked->broken)
		return len;
	do
		n = send(parked->left.fd, data, len, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	if (n >= 0)
		return (size_t)n;
	if (errno == EAGAIN)
		return 0;
	/* the owner is told of it by the loop, not within its own call */
	parked->broken = true;
	loop_watch_kick(parked->watch);
	return len;
}

/* Send as far as there is room; the rest waits, and follows what waits. */
static void
send_all(struct parked *parked, const uint8_t *data, size_t len)
{
	size_t taken = 0;

	if (parked->rest == NULL)
		taken = send_now(parked, data, len);
	if (taken == len)
		return;
	if (parked->rest == NULL) {
		parked->rest = buf_new(SIZE_MAX); /* of one answer */
		await_room(parked);
	}
	if (buf_add(parked->rest, data + taken, len - taken) != ERR_OK)
		abort();
}

static void
put_record_head(const struct parked *parked, uint8_t *out, uint8_t type,
    size_t len)
{
	out[0] = FCGI_VERSION;
	out[1] = type;
	out[2] = (uint8_t)(parked->left.id >> 8);
	out[3] = (uint8_t)parked->left.id;
	out[4] = (uint8_t)(len >> 8);
	out[5] = (uint8_t)len;
	out[6] = out[7] = 0;
}

/* At most PIECE_MAX_BYTES as one record in one write. */
static void
send_piece(struct parked *parked, const uint8_t *data, size_t len)
{
	uint8_t record[RECORD_HEAD + PIECE_MAX_BYTES];

	put_record_head(parked, record, FCGI_STDOUT, len);
	memcpy(record + RECORD_HEAD, data, len);
	send_all(parked, record, RECORD_HEAD + len);
}

static void
send_data(struct parked *parked, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t n; len > 0; bytes += n, len -= n) {
		n = len < PIECE_MAX_BYTES ? len : PIECE_MAX_BYTES;
		send_piece(parked, bytes, n);
	}
}

/* The end of output, and of the request: complete, whatever our status. */
static void
send_end(struct parked *parked)
{
	uint8_t records[RECORD_HEAD + RECORD_END] = { 0 };

	put_record_head(parked, records, FCGI_STDOUT, 0);
	put_record_head(parked, records + RECORD_HEAD, FCGI_END_REQUEST,
	    RECORD_END - RECORD_HEAD);
	send_all(parked, records, sizeof(records));
}

static void
send_head(struct parked *parked, int status, const char *content_type,
    int64_t length)
{
	size_t len;
	char *head;

	assert(parked->status == 0);
	parked->status = status;
	parked->no_body = content_type == NULL || parked->left.is_head;
	head = answer_head(status, content_type, length, parked->left.headers,
	    &len);
	send_data(parked, head, len);
	free(head);
	free(parked->left.headers);
	parked->left.headers = NULL;
}

/* ---- the loop ---------------------------------------------------------- */

/*
 * Whether the peer is still there: all input has been read at the start, and
 * what it may still say is that its client has left (FastCGI 1.0, 5.4).
 */
static bool
is_there(struct parked *parked)
{
	uint8_t trash[512];
	ssize_t n;

	if (parked->broken)
		return false;
	n = recv(parked->left.fd, trash, sizeof(trash), 0);
	if (n >= RECORD_HEAD && trash[0] == FCGI_VERSION &&
	    trash[1] == FCGI_ABORT_REQUEST)
		return false;
	return n > 0 || (n == -1 && (errno == EAGAIN || errno == EINTR));
}

/* Send more of what waits; whether the owner may be told of room. */
static bool
send_rest(struct parked *parked)
{
	bool told = parked->full;
	size_t len, taken;
	const uint8_t *data = buf_peek(parked->rest, &len);

	taken = send_now(parked, data, len);
	if (taken < len) {
		buf_drain(parked->rest, taken);
		if (taken > 0)
			await_room(parked);
		return false;
	}
	await_nothing(parked);
	if (parked->ending) {
		parked_free(parked);
		return false;
	}
	parked->full = false;
	return told && !parked->broken;
}

static void
on_ready(void *arg, bool readable, bool writable)
{
	struct parked *parked = arg;

	if (readable && !is_there(parked))
		lose(parked);
	else if (writable && parked->rest != NULL && send_rest(parked))
		parked->events->writable(parked->arg);
}

void
parked_begin(struct parked *parked, const struct parked_events *events,
    void *arg)
{
	parked->events = events;
	parked->arg = arg;
	if (parked->watch != NULL)
		return;
	parked->watch =
	    loop_watch_new(hub_loop(), parked->left.fd, on_ready, parked);
	loop_watch_set(parked->watch, true, false);
}

/* ---- answering --------------------------------------------------------- */

/* All has been written: the owner is done with it. */
static void
finish(struct parked *parked)
{
	send_end(parked);
	parked->ending = true;
	LIST_INSERT_HEAD(&endings, parked, next);
	if (parked->rest == NULL)
		parked_free(parked);
}

void
parked_reply(struct parked *parked, int status, const char *content_type,
    const void *body, size_t len)
{
	if (body == NULL || status == 204 || status == 304)
		content_type = NULL;
	send_head(parked, status, content_type, (int64_t)len);
	if (!parked->no_body)
		send_data(parked, body, len);
	finish(parked);
}

void
parked_reply_error(struct parked *parked, enum err err, const char *message)
{
	json_t *body = request_error_body(parked->left.error_form,
	    err_code(err), message == NULL ? err_text(err) : message);
	size_t len;
	char *text = json_text(body, &len);

	json_decref(body);
	parked_reply(parked, err_http_status(err), "application/json", text,
	    len);
	free(text);
}

void
parked_add_header(struct parked *parked, const char *name, const char *value)
{
	answer_add_header(&parked->left.headers, name, value);
}

void
parked_start(struct parked *parked, int status, const char *content_type)
{
	/* nginx would collect pieces until they are worth a packet */
	parked_add_header(parked, "X-Accel-Buffering", "no");
	send_head(parked, status, content_type, -1);
}

size_t
parked_write(struct parked *parked, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	size_t done = 0;

	if (parked->no_body)
		return len;
	while (done < len && parked->rest == NULL) {
		size_t n = len - done;

		if (n > PIECE_MAX_BYTES)
			n = PIECE_MAX_BYTES;
		send_piece(parked, bytes + done, n);
		done += n;
	}
	parked->full = done < len;
	return done;
}

void
parked_end(struct parked *parked)
{
	finish(parked);
}

static void
drop_endings(void *arg)
{
	(void)arg;
	while (!LIST_EMPTY(&endings))
		parked_free(LIST_FIRST(&endings));
}

void
parked_stop(void)
{
	(void)!hub_call(drop_endings, NULL);
}
