/* SPDX-License-Identifier: MIT */
#ifndef BROKER_BUCKETS_H
#define BROKER_BUCKETS_H

#include <stddef.h>
#include <stdint.h>

#include "broker/limits/subjects.h"
#include "common/err.h"

/*
 * buckets: requests a second of each subject, as token buckets in memory.
 *
 * Of bounded size: the table forgets the subject that it has not seen for
 * longest, whose bucket is full by then or as good as.  Thread-safe.  A program
 * that is started for each request (plain CGI) has none.
 *
 * The log has requests.refused for the first refusal of a subject, and then
 * once a minute with their number; 60 lines a minute for all together.
 */
#define BUCKETS_MAX 65536

/* How the fullest of them stands, for RateLimit headers. */
struct buckets_state {
	const char *plan; /* borrowed of the configuration; NULL: no limit */
	uint64_t limit, remaining;
	int64_t window_s;	/* in which an empty one fills */
	int64_t reset_ms;	/* until it is full */
	int64_t retry_after_ms; /* until the next one passes; 0: now */
};

/* Take one of each, or none; ERR_RATE.  now is clock_ms(). */
enum err buckets_take(const struct subjects *subjects, int64_t now_ms,
    struct buckets_state *ret, struct diag *diag) MUST_CHECK;

/*
 * The values of RateLimit-Policy and RateLimit for a state that has a plan
 * (draft-ietf-httpapi-ratelimit-headers-10).
 */
#define BUCKETS_HEADER_SIZE 160
void buckets_format_policy(const struct buckets_state *state,
    char out[BUCKETS_HEADER_SIZE]);
void buckets_format_limit(const struct buckets_state *state,
    char out[BUCKETS_HEADER_SIZE]);

/* Milliseconds as whole seconds, rounded up. */
int64_t buckets_seconds(int64_t ms);

void buckets_done(void);

#endif
