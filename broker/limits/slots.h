/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SLOTS_H
#define BROKER_SLOTS_H

#include <stdbool.h>

#include "broker/limits/subjects.h"
#include "common/err.h"

/*
 * slots: how much of something runs at once for each subject: tunnels
 * (max_tunnels), streams (max_streams), requests that wait (max_parked).
 *
 * What is taken has one owner, who gives it back; the counts are of what is
 * taken, so nothing can leak.  Thread-safe.
 */
enum slots_kind {
	SLOTS_TUNNELS,
	SLOTS_STREAMS,
	SLOTS_PARKED,
};

struct slots;

/*
 * Take one of each subject, or none: ERR_RATE, and *ret_max is how many there
 * may be.  With `force' the limits are passed over: it runs already
 * (WIRE_RESUME).
 */
enum err slots_take(enum slots_kind kind, const struct subjects *subjects,
    bool force, struct slots **ret, uint64_t *ret_max,
    struct diag *diag) MUST_CHECK;

/* Give it back; NULL is allowed. */
void slots_release(struct slots *slots);

#endif
