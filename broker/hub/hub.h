/* SPDX-License-Identifier: MIT */
#ifndef BROKER_HUB_H
#define BROKER_HUB_H

#include <stdbool.h>

#include "common/err.h"
#include "common/loop.h"

/*
 * hub: the one thread that has all that waits.
 *
 * Streams to clients, calls to vendors that stream, parked polls and Engine.IO
 * connections are descriptors and timers in its loop, and cost no thread.
 * Nothing in it may block: what does, is a job (broker/hub/jobs.h).
 */

/* Make the loop and start its thread.  ERR_SYS.  Before anything is served. */
enum err hub_start(struct diag *diag) MUST_CHECK;

/*
 * Run what has been posted, then end the thread and free the loop.  Who has
 * watches or timers in it has taken them out before.  Harmless where nothing
 * was started.
 */
void hub_stop(void);

/* The loop, for the hub's thread alone. */
struct loop *hub_loop(void);

/* Whether this is the hub's thread. */
bool hub_is_here(void);

/*
 * Have run(arg) called in the hub's thread; in the order of the calls.  From
 * any thread, the hub's too, where it is not called within this call.  False
 * where there is no hub (any more): then it is never called, and arg is still
 * the caller's.
 */
typedef void hub_run(void *arg);
bool hub_post(hub_run *run, void *arg) MUST_CHECK;

/* The same, and wait until it has run; not from the hub's thread. */
bool hub_call(hub_run *run, void *arg) MUST_CHECK;

#endif
