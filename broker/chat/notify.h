/* SPDX-License-Identifier: MIT */
#ifndef BROKER_NOTIFY_H
#define BROKER_NOTIFY_H

#include <jansson.h>

/*
 * notify: tells an owner's sockets what has changed, whoever changed it.
 *
 * Any thread may call; nothing waits.  Where nobody listens nothing happens.
 */
struct notify_sink {
	/* All in the caller's thread; event's data is the callee's. */
	void (*event)(const char *owner, const char *event, json_t *data);
	void (*usage)(const char *owner);
	void (*revoked)(const char *owner);
};

/*
 * Who brings it to the sockets; NULL: nobody (any more).  It has to stay: a
 * thread may still be in it.
 */
void notify_set_sink(const struct notify_sink *sink);

/* Takes data. */
void notify_event(const char *owner, const char *event, json_t *data);

/* What the owner has left has changed: `usage_info' is due. */
void notify_usage(const char *owner);

/* What the owner has shown is not good any more: the sockets are closed. */
void notify_revoked(const char *owner);

#endif
