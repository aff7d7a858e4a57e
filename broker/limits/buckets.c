/* SPDX-License-Identifier: MIT */
#include "broker/limits/buckets.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "broker/limits/subject_key.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

#define CHAINS	  16384
#define MINUTE_MS 60000
#define LINES_MAX 60 /* of the log, a minute */

/* Doubles add up with an error; far below a millisecond it means nothing. */
#define EPSILON_MS 1e-3

/*
 * One subject's bucket, by the generic cell rate algorithm: all that is kept
 * of it is when it will be full.
 */
struct bucket {
	struct subject_key key;
	double full_ms; /* clock_ms() */
	/* since the last line in the log, and when there may be another */
	uint64_t refused;
	int64_t tell_ms;
	LIST_ENTRY(bucket) chain;
	TAILQ_ENTRY(bucket) age;
};

static struct {
	pthread_mutex_t lock; /* over all of it */
	LIST_HEAD(chain, bucket) chains[CHAINS];
	TAILQ_HEAD(, bucket) ages; /* who was seen last is the last */
	size_t count;
	/* lines in the log of this minute, and when it ends */
	unsigned lines;
	int64_t minute_ms;
} table = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.ages = TAILQ_HEAD_INITIALIZER(table.ages),
};

static void
drop(struct bucket *bucket)
{
	LIST_REMOVE(bucket, chain);
	TAILQ_REMOVE(&table.ages, bucket, age);
	table.count--;
	free(bucket);
}

/* The subject's, as one that was just seen; locked. */
static struct bucket *
find(const struct subject_key *key)
{
	struct chain *chain = &table.chains[key->words[0] % CHAINS];
	struct bucket *bucket;

	LIST_FOREACH (bucket, chain, chain)
		if (bucket->key.words[0] == key->words[0] &&
		    bucket->key.words[1] == key->words[1])
			break;
	if (bucket != NULL) {
		TAILQ_REMOVE(&table.ages, bucket, age);
	} else {
		if (table.count == BUCKETS_MAX)
			drop(TAILQ_FIRST(&table.ages));
		bucket = xcalloc(1, sizeof(*bucket));
		bucket->key = *key;
		LIST_INSERT_HEAD(chain, bucket, chain);
		table.count++;
	}
	TAILQ_INSERT_TAIL(&table.ages, bucket, age);
	return bucket;
}

/* One subject that has a limit, and its bucket while the lock is held. */
struct draw {
	const char *name;
	const struct config_plan *plan;
	struct subject_key key;
	struct bucket *bucket;
	double interval_ms; /* in which one comes in */
	double full_ms;	    /* once this one is taken */
};

static size_t
prepare(const struct subjects *subjects, struct draw draws[STORE_SUBJECTS_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < subjects->count; i++) {
		const struct config_plan *plan = subjects->items[i].plan;

		if (plan == NULL || plan->requests_per_s <= 0)
			continue;
		draws[count++] = (struct draw){
			.name = subjects->items[i].name,
			.plan = plan,
			.key = subject_key_of(subjects->items[i].name),
			.interval_ms = 1000 / plan->requests_per_s,
		};
	}
	return count;
}

/* How it would stand with one taken out, or stands with none. */
static struct buckets_state
state_of(struct draw *draw, int64_t now_ms)
{
	double now = (double)now_ms, size, wait_ms, full_ms;
	struct buckets_state state = {
		.plan = draw->plan->name,
		.limit = draw->plan->burst,
	};

	full_ms = fmax(draw->bucket->full_ms, now);
	size = draw->interval_ms * (double)draw->plan->burst;
	state.window_s = (int64_t)ceil((size - EPSILON_MS) / 1000);
	draw->full_ms = full_ms + draw->interval_ms;
	wait_ms = draw->full_ms - now - size;
	if (wait_ms > EPSILON_MS)
		state.retry_after_ms = (int64_t)ceil(wait_ms);
	else
		full_ms = draw->full_ms;
	state.reset_ms = (int64_t)ceil(full_ms - now);
	state.remaining = (uint64_t)fmax(0,
	    floor((size - (full_ms - now) + EPSILON_MS) / draw->interval_ms));
	return state;
}

/* Whether a says more about what may follow than b does. */
static bool
is_fuller(const struct buckets_state *a, const struct buckets_state *b)
{
	if (a->retry_after_ms != b->retry_after_ms)
		return a->retry_after_ms > b->retry_after_ms;
	return a->remaining < b->remaining;
}

/*
 * Count a refusal; whether it is time to say so, for *ret of them: nobody fills
 * the log with what is refused him, nor do many together.
 */
static bool
count_refusal(struct bucket *bucket, int64_t now_ms, uint64_t *ret)
{
	bucket->refused++;
	if (now_ms >= table.minute_ms) {
		table.minute_ms = now_ms + MINUTE_MS;
		table.lines = 0;
	}
	if (now_ms < bucket->tell_ms || table.lines == LINES_MAX)
		return false;
	table.lines++;
	bucket->tell_ms = now_ms + MINUTE_MS;
	*ret = bucket->refused;
	bucket->refused = 0;
	return true;
}

/* *ret_full is the one that refuses, where one does. */
static struct buckets_state
take_locked(struct draw *draws, size_t count, int64_t now_ms,
    struct draw **ret_full)
{
	struct buckets_state fullest = { .plan = NULL };

	for (size_t i = 0; i < count; i++) {
		struct buckets_state state;

		draws[i].bucket = find(&draws[i].key);
		state = state_of(&draws[i], now_ms);
		if (fullest.plan == NULL || is_fuller(&state, &fullest)) {
			fullest = state;
			*ret_full = &draws[i];
		}
	}
	for (size_t i = 0; fullest.retry_after_ms == 0 && i < count; i++)
		draws[i].bucket->full_ms = draws[i].full_ms;
	return fullest;
}

/* A subject's name may be what a client made up. */
static void
log_refusal(const struct draw *draw, uint64_t refused)
{
	char name[256];

	log_info("requests.refused", "of=%s plan=%s requests=%" PRIu64,
	    str_escape(name, sizeof(name), draw->name, strlen(draw->name)),
	    draw->plan->name, refused);
}

enum err
buckets_take(const struct subjects *subjects, int64_t now_ms,
    struct buckets_state *ret, struct diag *diag)
{
	struct draw draws[STORE_SUBJECTS_MAX], *full = NULL;
	size_t count = prepare(subjects, draws);
	uint64_t refused;
	int64_t wait_s;
	bool tell;

	*ret = (struct buckets_state){ .plan = NULL };
	if (count == 0)
		return ERR_OK;
	(void)pthread_mutex_lock(&table.lock);
	*ret = take_locked(draws, count, now_ms, &full);
	tell = ret->retry_after_ms > 0 &&
	    count_refusal(full->bucket, now_ms, &refused);
	(void)pthread_mutex_unlock(&table.lock);
	if (ret->retry_after_ms == 0)
		return ERR_OK;
	if (tell)
		log_refusal(full, refused);
	wait_s = buckets_seconds(ret->retry_after_ms);
	diag_set(diag, "too many requests: try again in %" PRId64 " second%s",
	    wait_s, wait_s == 1 ? "" : "s");
	return ERR_RATE;
}

int64_t
buckets_seconds(int64_t ms)
{
	return (ms + 999) / 1000;
}

/* A plan's name is a token: nothing in it wants escaping. */
void
buckets_format_policy(const struct buckets_state *state,
    char out[BUCKETS_HEADER_SIZE])
{
	(void)snprintf(out, BUCKETS_HEADER_SIZE,
	    "\"%s\";q=%" PRIu64 ";w=%" PRId64, state->plan, state->limit,
	    state->window_s);
}

void
buckets_format_limit(const struct buckets_state *state,
    char out[BUCKETS_HEADER_SIZE])
{
	(void)snprintf(out, BUCKETS_HEADER_SIZE,
	    "\"%s\";r=%" PRIu64 ";t=%" PRId64, state->plan, state->remaining,
	    buckets_seconds(state->reset_ms));
}

void
buckets_done(void)
{
	(void)pthread_mutex_lock(&table.lock);
	while (!TAILQ_EMPTY(&table.ages))
		drop(TAILQ_FIRST(&table.ages));
	table.lines = 0;
	table.minute_ms = 0;
	(void)pthread_mutex_unlock(&table.lock);
}
