/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_WORKER_H
#define TUNNEL_WORKER_H

#include "common/err.h"

/*
 * worker: a process that serves.
 *
 * It is made before fork(), so that what it holds (the event loop, OpenSSL's
 * context) is shared by the children until they write to it.
 */
struct worker;

/* control_path is borrowed.  A worker serves `connections' in its life. */
enum err worker_new(const char *control_path, unsigned connections,
    struct worker **ret, struct diag *diag) MUST_CHECK;
void worker_free(struct worker *worker); /* NULL is allowed */

/* Serve this connected socket until it has ended; SIGTERM ends it. */
enum err worker_serve(struct worker *worker, int fd) MUST_CHECK;

/* What a child of the supervisor gets; the worker closes them. */
struct worker_sockets {
	int listener; /* non-blocking, shared by all children */
	int lifeline; /* end of file: the supervisor has died */
	int status;   /* struct worker_status goes here, one write each */
};

enum worker_event {
	WORKER_ACCEPTED, /* its first connection: it works */
	WORKER_FULL,	 /* it accepts no more */
};

struct worker_status {
	int pid;
	enum worker_event event;
};

/*
 * In a child: accept and serve connections until all have ended.  Returns
 * early, with nothing served, when the supervisor has died.
 *
 * Signals (blocked by the caller): SIGTERM ends the child, and
 * what it serves with close 1012; SIGUSR1 makes it accept no more:
 * one that has nothing to serve ends by it.
 */
enum err worker_run(struct worker *worker,
    const struct worker_sockets *sockets) MUST_CHECK;

#endif
