/* SPDX-License-Identifier: MIT */
#ifndef SIM_PACER_H
#define SIM_PACER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/err.h"

/*
 * pacer: who waits before the next piece, in one thread for all; and who of
 * them is gone meanwhile, which libmicrohttpd does not see while it waits.
 */
struct pacer;

/* One that waits; zeroed by its owner, and otherwise the pacer's. */
struct waiter {
	TAILQ_ENTRY(waiter) known, queued;
	void *arg;
	int fd;
	uint64_t id; /* 0: not known yet */
	bool waits;
	int64_t until_ms;
	atomic_bool gone;
};

/*
 * resume(arg) is called in the pacer's thread when the time has come, when the
 * client has hung up, and when the pacer stops.
 */
enum err pacer_new(void (*resume)(void *arg), struct pacer **ret) MUST_CHECK;

/* Have all go on, then stop; nobody may wait any longer.  NULL is allowed. */
void pacer_stop(struct pacer *pacer);
void pacer_free(struct pacer *pacer);

/* False once it has stopped: then resume() is not called. */
bool pacer_wait(struct pacer *pacer, struct waiter *waiter, int fd, int64_t ms,
    void *arg);

/* It does not wait, and never will again. */
void pacer_forget(struct pacer *pacer, struct waiter *waiter);

#endif
