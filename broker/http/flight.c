/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_flight.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "common/xalloc.h"

struct anam_flight {
	char *token_id; /* may be NULL */
	TAILQ_ENTRY(anam_flight) entry;
};

/* Times at which sessions were made, the oldest first. */
struct made {
	int64_t at;
	TAILQ_ENTRY(made) entry;
};

static struct {
	pthread_mutex_t lock; /* over all that follows */
	TAILQ_HEAD(, anam_flight) running;
	unsigned count; /* that run or wait */
	TAILQ_HEAD(, made) made;
	uint64_t made_count;
} table = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.running = TAILQ_HEAD_INITIALIZER(table.running),
	.made = TAILQ_HEAD_INITIALIZER(table.made),
};

/* The end of any of them; waits by clock_ms()'s clock. */
static pthread_cond_t ended;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
init(void)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&ended, &attr);
	(void)pthread_condattr_destroy(&attr);
}

/* Whether one of this token runs; locked. */
static bool
is_running(const char *token_id)
{
	struct anam_flight *flight;

	if (token_id == NULL)
		return false;
	TAILQ_FOREACH (flight, &table.running, entry)
		if (flight->token_id != NULL &&
		    strcmp(flight->token_id, token_id) == 0)
			return true;
	return false;
}

/* Until none of this token runs, or the deadline; locked. */
static enum err
wait_for(const char *token_id, int64_t deadline_ms)
{
	const struct timespec until = {
		.tv_sec = (time_t)(deadline_ms / 1000),
		.tv_nsec = (long)(deadline_ms % 1000) * 1000000,
	};

	while (is_running(token_id))
		if (pthread_cond_timedwait(&ended, &table.lock, &until) ==
		    ETIMEDOUT)
			return is_running(token_id) ? ERR_UPSTREAM_TIMEOUT
						    : ERR_OK;
	return ERR_OK;
}

enum err
anam_flight_begin(const char *token_id, unsigned max, int64_t deadline_ms,
    struct anam_flight **ret, struct diag *diag)
{
	struct anam_flight *flight;
	enum err err = ERR_UNAVAIL;

	(void)pthread_once(&once, init);
	(void)pthread_mutex_lock(&table.lock);
	if (table.count >= max) {
		diag_set(diag, "%u requests wait for a vendor already", max);
	} else {
		table.count++;
		err = wait_for(token_id, deadline_ms);
		if (err != ERR_OK) {
			table.count--;
			diag_set(diag, "a start with this token still runs");
		}
	}
	if (err == ERR_OK) {
		flight = xcalloc(1, sizeof(*flight));
		flight->token_id = token_id == NULL ? NULL : xstrdup(token_id);
		TAILQ_INSERT_TAIL(&table.running, flight, entry);
		*ret = flight;
	}
	(void)pthread_mutex_unlock(&table.lock);
	return err;
}

void
anam_flight_end(struct anam_flight *flight)
{
	if (flight == NULL)
		return;
	(void)pthread_mutex_lock(&table.lock);
	TAILQ_REMOVE(&table.running, flight, entry);
	table.count--;
	(void)pthread_cond_broadcast(&ended);
	(void)pthread_mutex_unlock(&table.lock);
	free(flight->token_id);
	free(flight);
}

/* Locked. */
static void
forget(struct made *made)
{
	TAILQ_REMOVE(&table.made, made, entry);
	table.made_count--;
	free(made);
}

enum err
anam_flight_count(uint64_t max, int64_t ttl_s, int64_t now, struct diag *diag)
{
	struct made *made;
	enum err err = ERR_OK;

	(void)pthread_mutex_lock(&table.lock);
	while ((made = TAILQ_FIRST(&table.made)) != NULL &&
	    (max == 0 || made->at <= now - ttl_s))
		forget(made);
	if (max > 0 && table.made_count >= max) {
		diag_set(diag, "max_sessions, %llu, were made in %lld s",
		    (unsigned long long)max, (long long)ttl_s);
		err = ERR_RATE;
	} else if (max > 0) {
		made = xcalloc(1, sizeof(*made));
		made->at = now;
		TAILQ_INSERT_TAIL(&table.made, made, entry);
		table.made_count++;
	}
	(void)pthread_mutex_unlock(&table.lock);
	return err;
}

void
anam_flight_uncount(int64_t now)
{
	struct made *made;

	(void)pthread_mutex_lock(&table.lock);
	TAILQ_FOREACH (made, &table.made, entry)
		if (made->at == now)
			break;
	if (made != NULL)
		forget(made);
	(void)pthread_mutex_unlock(&table.lock);
}
