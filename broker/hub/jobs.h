/* SPDX-License-Identifier: MIT */
#ifndef BROKER_JOBS_H
#define BROKER_JOBS_H

#include <stdbool.h>

#include "common/err.h"

/*
 * jobs: threads for what the hub must not wait for: the store.
 *
 * A job is work(arg) in one of a few threads, then done(arg) in the hub's.
 * Jobs of the same lane (a number of the caller's, as of one client) run one
 * after another, in the order of the calls; other lanes at the same time.
 * What the control socket's thread must not wait for has threads of its own:
 * broker/tunnels/control_jobs.h.
 */
typedef void jobs_run(void *arg);

/* hub_start() comes first.  ERR_SYS. */
enum err jobs_start(unsigned threads, struct diag *diag) MUST_CHECK;

/* Run what waits, and end the threads; before hub_stop(). */
void jobs_stop(void);

/*
 * ERR_UNAVAIL where too many wait already (of the lane, or of all) or jobs have
 * been stopped: nothing is called then, and arg is still the caller's.  done
 * may be NULL.
 */
enum err jobs_add(unsigned long lane, jobs_run *work, jobs_run *done,
    void *arg) MUST_CHECK;

#endif
