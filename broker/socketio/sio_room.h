/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SIO_ROOM_H
#define BROKER_SIO_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/socketio/sio_packet.h"

/*
 * sio_room: who is told what, and what has been told.
 *
 * A room has sessions; a session has a socket, or has lost it and waits for
 * its client to come back.  A room keeps what it was told last, so that who
 * comes back is told what it missed (connection state recovery).  Pure: the
 * caller says what time it is, and a socket is a pointer of the caller's.
 */
struct sio_rooms;
struct sio_room;    /* there is one as long as there are sessions in it */
struct sio_session; /* of one client, in one room */

struct sio_room_limits {
	int64_t recovery_ms; /* a lost session waits so long; 0: not at all */
	int64_t keep_ms;     /* what is older, nobody can have missed */
	size_t lost_max;     /* lost sessions; the oldest goes first */
	size_t room_packets, room_bytes; /* kept in a room */
	size_t all_bytes;		 /* kept in all */
};

/*
 * What is told is numbered from first on.  Clients remember the last number,
 * so no earlier process has come so far.
 */
struct sio_rooms *sio_rooms_new(const struct sio_room_limits *limits,
    int64_t first);

/* No session has a socket any more.  NULL is allowed. */
void sio_rooms_free(struct sio_rooms *rooms);

/* Forget what is too old; whether anything is left that will be. */
bool sio_rooms_tidy(struct sio_rooms *rooms, int64_t now_ms);

/* The room of this name; NULL where nobody is in it. */
struct sio_room *sio_room_find(const struct sio_rooms *rooms,
    const char *namespace, const char *name);

/* Visit the sockets in a room; visit() changes no room. */
void sio_room_each(const struct sio_room *room,
    void (*visit)(void *arg, void *socket), void *arg);

/* ---- sessions --------------------------------------------------------------
 */

/*
 * A new one in the room of this name; NULL: in a room of its own.  namespace
 * outlives it.
 */
struct sio_session *sio_session_new(struct sio_rooms *rooms,
    const char *namespace, const char *room, void *socket);

/*
 * The session of this pid in such a room, lost or not, whose client was told
 * all up to offset (NULL: nothing).  NULL where there is none, or something
 * that was told since is not kept.
 */
struct sio_session *sio_session_find(const struct sio_rooms *rooms,
    const char *namespace, const char *room, const char *pid,
    const char *offset, int64_t now_ms);

/* The socket is gone: for good, or so that the session can be taken up. */
void sio_session_end(struct sio_session *session);
void sio_session_lose(struct sio_session *session, int64_t now_ms);

/* Give a lost session a socket again. */
void sio_session_take(struct sio_session *session, void *socket);

const char *sio_session_sid(const struct sio_session *session);
const char *sio_session_pid(const struct sio_session *session);
void *sio_session_socket(const struct sio_session *session); /* NULL: lost */
struct sio_room *sio_session_room(const struct sio_session *session);

/* ---- what is told ----------------------------------------------------------
 */

/* A packet as it is sent: a text, and what it refers to. */
struct sio_told {
	char *text;
	size_t len;
	const struct sio_attachment *attachments;
	size_t attachment_count;
};

/* The offset of what is told next: its last argument. */
#define SIO_OFFSET_SIZE 24
void sio_rooms_offset(struct sio_rooms *rooms, char out[SIO_OFFSET_SIZE]);

/*
 * Keep what was told to a session of a room, or to all of it (NULL), with the
 * latest offset; the text becomes the callee's, attachments are copied.
 */
void sio_room_keep(struct sio_room *room, const struct sio_session *only,
    const struct sio_told *told, int64_t now_ms);

/* Visit what a session that was found was told after that offset. */
void sio_session_missed(const struct sio_session *session, const char *offset,
    void (*visit)(void *arg, const struct sio_told *told), void *arg);

#endif
