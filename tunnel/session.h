/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_SESSION_H
#define TUNNEL_SESSION_H

#include "common/log.h"
#include "common/loop.h"
#include "tunnel/stream.h"

/*
 * session: one client's connection, from its first byte to its last.
 *
 * Reads the request, asks the broker, dials the vendor, answers, and relays.
 * Until the 101 whatever goes wrong is answered with an HTTP status.  A session
 * whose end cannot be reported yet, because the broker is away, stays without
 * its clients until it is, for some minutes at most.
 */
struct session;

/* What sessions share; it outlives them. */
struct session_env {
	struct loop *loop;
	const struct stream_trust *trust; /* the system's store */
	const char *control_path;
	struct log_limit *refusals; /* lines of them */
};

typedef void (*session_done)(void *arg, struct session *session);

/*
 * Start to serve a connected stream socket, which is the session's from now
 * on.  done comes once, never in this call, and only for it to be freed.
 */
struct session *session_start(const struct session_env *env, int fd,
    session_done done, void *arg);

/*
 * End it: close 1012 to both peers, or 503 where there was no 101 yet; and what
 * waits for the broker does so for some seconds at most.
 */
void session_stop(struct session *session);

void session_free(struct session *session);

#endif
