/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_ENDS_H
#define BROKER_CONTROL_ENDS_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/tunnels/control_jobs.h"
#include "common/err.h"

/*
 * control_ends: leases that are over, while what would take one up again is
 * still good (lease_resume): who kept it is not let in with it.
 *
 * In memory, so that nobody waits, of CONTROL_ENDS_MAX the last ones; and in
 * the store, where there is one, within a second, for the next broker.  All
 * calls are the control server's.
 */
#define CONTROL_ENDS_MAX 65536

struct control_ends;

/* With those that the store has.  ERR_UNAVAIL. */
enum err control_ends_new(struct control_ends **ret,
    struct diag *diag) MUST_CHECK;

/* Stores those that are not yet; after its jobs have ended.  NULL is allowed.
 */
void control_ends_free(struct control_ends *ends);

void control_ends_add(struct control_ends *ends, const char *lease,
    int64_t expires);
bool control_ends_have(const struct control_ends *ends, const char *lease);

/* Have them stored by one of the jobs; when that is due next, clock_ms(). */
void control_ends_tick(struct control_ends *ends, struct control_jobs *jobs,
    int64_t now_ms);
int64_t control_ends_next_ms(const struct control_ends *ends);

#endif
