/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ACCEPT_POOL_H
#define BROKER_ACCEPT_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * accept_pool: threads that take turns in accepting connections.
 *
 * Leader and followers: one thread waits for a connection, accepts it, lets
 * the next one wait, and serves it.  Without descriptors or memory for one
 * more connection it pauses, and does not spin.  There is one pool in a
 * process at a time.
 */
struct accept_pool_options {
	unsigned threads;   /* connections at once, at least 1 */
	size_t stack_bytes; /* of a thread */
	int64_t stop_ms;    /* for what runs when it is stopped */
	/* Serve a connection and close it; it is blocking. */
	void (*serve)(int fd, void *arg);
	void *arg;
};

/*
 * Serve until accept_pool_stop().  listen_fd stays the caller's and is made
 * non-blocking.  ERR_TIMEOUT where connections still were in work after
 * stop_ms: their threads run on, so the process must end without cleaning up
 * what they use.  ERR_SYS where it could not begin.
 */
enum err accept_pool_run(int listen_fd,
    const struct accept_pool_options *options, struct diag *diag) MUST_CHECK;

/*
 * Accept no more.  Safe in a signal handler and from any thread; before
 * accept_pool_run() it makes that return at once.
 */
void accept_pool_stop(void);

#endif
