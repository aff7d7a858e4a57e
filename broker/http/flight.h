/* SPDX-License-Identifier: MIT */
#ifndef BROKER_FLIGHT_H
#define BROKER_FLIGHT_H

#include <stdint.h>

#include "common/err.h"

/*
 * flight: requests that wait for a vendor, one at a time for each key.
 *
 * Each that waits, for the vendor or for the one before it, holds a thread, so
 * they are bounded together: by half of the threads, since the others are for
 * what does not wait.  There is one table in a process.  Thread-safe.
 */
struct flight;

/*
 * Begin one, of `threads' (requests.threads): of a key, as of a client's token,
 * whose last one is waited for; NULL is a key of its own.  ERR_UNAVAIL where as
 * many fly or wait already as may, ERR_UPSTREAM_TIMEOUT where the last one is
 * not over at the deadline (clock_ms()).  The caller ends it.
 */
enum err flight_begin(const char *key, unsigned threads, int64_t deadline_ms,
    struct flight **ret, struct diag *diag) MUST_CHECK;

/* End and free it; NULL is allowed. */
void flight_end(struct flight *flight);

#endif
