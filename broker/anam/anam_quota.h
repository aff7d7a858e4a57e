/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_QUOTA_H
#define BROKER_ANAM_QUOTA_H

#include <stdint.h>

#include "common/err.h"

/*
 * anam_quota: how many sessions may be made in their time of life.  The count
 * is this process's.  Thread-safe.
 */

/*
 * Count a session that is about to be made at `now' (seconds).  ERR_RATE where
 * max were made in the last ttl_s seconds; 0: no limit.
 */
enum err anam_quota_take(uint64_t max, int64_t ttl_s, int64_t now,
    struct diag *diag) MUST_CHECK;

/* Take one that was counted at `now' back: it was not made after all. */
void anam_quota_give_back(int64_t now);

#endif
