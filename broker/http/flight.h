/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_FLIGHT_H
#define BROKER_ANAM_FLIGHT_H

#include <stdint.h>

#include "common/err.h"

/*
 * anam_flight: sessions that are being started now, one at a time for each
 * client token.
 *
 * A client that hears nothing for ten seconds asks again; whoever asks with the
 * token of a start that is running waits for that one's end, and then finds its
 * session in the store.  Each start and each wait holds a thread, so they are
 * bounded together, and with them whatever else waits for a vendor (OpenAI's
 * calls).  There is one table in a process.  Thread-safe.
 */
struct anam_flight;

/*
 * Begin one, for a token's id, or for NULL, which is never waited for.
 * ERR_UNAVAIL where max run or wait already, ERR_UPSTREAM_TIMEOUT where the
 * one that runs is not over at the deadline (clock_ms()).  The caller ends it.
 */
enum err anam_flight_begin(const char *token_id, unsigned max,
    int64_t deadline_ms, struct anam_flight **ret,
    struct diag *diag) MUST_CHECK;

/* End and free it; NULL is allowed. */
void anam_flight_end(struct anam_flight *flight);

/*
 * Count a session that is about to be made at `now' (seconds).  ERR_RATE where
 * max were made in the last ttl_s seconds; 0: no limit.  The count is this
 * process's.
 */
enum err anam_flight_count(uint64_t max, int64_t ttl_s, int64_t now,
    struct diag *diag) MUST_CHECK;

/* Take one that was counted at `now' back: it was not made after all. */
void anam_flight_uncount(int64_t now);

#endif
