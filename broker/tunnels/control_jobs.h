/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_JOBS_H
#define BROKER_CONTROL_JOBS_H

#include "common/err.h"

/*
 * control_jobs: threads for what the control server's must not wait for: the
 * store, an issuer's keys.
 *
 * A job is work(arg) in one of a few threads, then done(context, arg) in the
 * one that calls control_jobs_finish().  That one makes all calls.
 *
 * These are not the hub's (broker/hub/jobs.h), which are in lanes, report to
 * the hub, and all run before a stop: a decision about a tunnel waits for no
 * chat's, and one that waits when the server stops is not made any more.
 */
struct control_jobs;

typedef void control_jobs_work(void *arg);
typedef void control_jobs_done(void *context, void *arg);

/* Most that may wait or run; past it the caller has to refuse. */
#define CONTROL_JOBS_MAX 512

/* ERR_SYS.  The caller frees it. */
enum err control_jobs_new(struct control_jobs **ret,
    struct diag *diag) MUST_CHECK;

/* Readable when some are done. */
int control_jobs_fd(const struct control_jobs *jobs);

/* ERR_UNAVAIL past CONTROL_JOBS_MAX: arg is still the caller's. */
enum err control_jobs_add(struct control_jobs *jobs, control_jobs_work *work,
    control_jobs_done *done, void *arg) MUST_CHECK;

/* Call done() of those that are. */
void control_jobs_finish(struct control_jobs *jobs, void *context);

/*
 * End the threads: what they do now is waited for, what waits is not done any
 * more, and done() is called for all.  NULL is allowed.
 */
void control_jobs_free(struct control_jobs *jobs, void *context);

#endif
