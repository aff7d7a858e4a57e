/* SPDX-License-Identifier: MIT */
#ifndef BROKER_EIO_SERVER_H
#define BROKER_EIO_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/err.h"

/*
 * eio_server: servers of Engine.IO by their path, and their sessions by id.
 *
 * All that other threads than the hub's may know of a session is here, under
 * one lock.  The hub alone adds and removes sessions, and so it may keep what
 * eio_server_get() finds until it removes it.
 */
struct eio_server;

#define EIO_SID_BYTES 20

struct eio_network;

/* How a session is entered; embedded in it. */
struct eio_member {
	char sid[EIO_SID_BYTES + 1]; /* unguessable: who has it is the client */
	bool websocket;		     /* its transport; else polling */
	bool posting;		     /* a request of its client is being read */
	struct eio_network *network; /* whose it is */
	LIST_ENTRY(eio_member) entry;
};

struct eio_events; /* eio_session.h */

/* What a server is made of; events outlives it, path is copied. */
struct eio_rules {
	const char *path;
	int64_t ping_interval_ms, ping_timeout_ms;
	size_t max_payload;
	uint64_t max_sessions, max_sessions_per_address;
	const struct eio_events *events;
	void *arg;
};

/* Enter a server, with one reference; NULL where there are too many. */
struct eio_server *eio_server_enter(const struct eio_rules *rules);

/* Nobody finds it any more. */
void eio_server_retire(struct eio_server *server);

/* The server of a path, referenced; NULL where there is none. */
struct eio_server *eio_server_find(const char *path);
struct eio_server *eio_server_ref(struct eio_server *server);
void eio_server_unref(struct eio_server *server); /* NULL is allowed */

/* As it was entered; borrowed. */
const struct eio_rules *eio_server_rules(const struct eio_server *server);

/* ---- from any thread ----------------------------------------------------- */

enum eio_standing {
	EIO_UNKNOWN,
	EIO_POLLING,
	EIO_WEBSOCKET,
};
enum eio_standing eio_server_ask(struct eio_server *server, const char *sid);

/*
 * Whether there is room for another session: ERR_UNAVAIL where there are as
 * many as may be, ERR_RATE where this address has so many; of IPv6, its /64,
 * which is one visitor's.
 */
enum err eio_server_admit(struct eio_server *server,
    const char *address) MUST_CHECK;

/*
 * The client begins to send something: false where something else of its is
 * being read.  eio_server_end_post() follows, from any thread.
 */
bool eio_server_begin_post(struct eio_server *server, const char *sid);
void eio_server_end_post(struct eio_server *server, const char *sid);

/* ---- in the hub's thread --------------------------------------------------
 */

/* Enter a session under a new id, or as eio_server_admit(). */
enum err eio_server_add(struct eio_server *server, struct eio_member *member,
    const char *address) MUST_CHECK;
void eio_server_remove(struct eio_server *server, struct eio_member *member);

struct eio_member *eio_server_get(struct eio_server *server, const char *sid);

/* Any of them; NULL where there is none. */
struct eio_member *eio_server_first(struct eio_server *server);

/* Its transport is a WebSocket from now on. */
void eio_server_upgrade(struct eio_member *member);

#endif
