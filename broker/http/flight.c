/* SPDX-License-Identifier: MIT */
#include "broker/http/flight.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "common/xalloc.h"

struct flight {
	char *key; /* may be NULL */
	TAILQ_ENTRY(flight) entry;
};

static struct {
	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t ended; /* any of them has */
	TAILQ_HEAD(, flight) running;
	unsigned count; /* that run or wait */
} table = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.ended = PTHREAD_COND_INITIALIZER,
	.running = TAILQ_HEAD_INITIALIZER(table.running),
};

/* Whether one of this key runs; locked. */
static bool
is_running(const char *key)
{
	struct flight *flight;

	if (key == NULL)
		return false;
	TAILQ_FOREACH (flight, &table.running, entry)
		if (flight->key != NULL && strcmp(flight->key, key) == 0)
			return true;
	return false;
}

/* Until none of this key runs, or the deadline; locked. */
static enum err
wait_for(const char *key, int64_t deadline_ms)
{
	const struct timespec until = {
		.tv_sec = (time_t)(deadline_ms / 1000),
		.tv_nsec = (long)(deadline_ms % 1000) * 1000000,
	};

	while (is_running(key))
		/* the clock of clock_ms() */
		if (pthread_cond_clockwait(&table.ended, &table.lock,
			CLOCK_MONOTONIC, &until) == ETIMEDOUT)
			return is_running(key) ? ERR_UPSTREAM_TIMEOUT : ERR_OK;
	return ERR_OK;
}

enum err
flight_begin(const char *key, unsigned threads, int64_t deadline_ms,
    struct flight **ret, struct diag *diag)
{
	unsigned max = (threads + 1) / 2;
	struct flight *flight;
	enum err err = ERR_UNAVAIL;

	(void)pthread_mutex_lock(&table.lock);
	if (table.count >= max) {
		diag_set(diag, "%u requests wait for a vendor already", max);
	} else {
		table.count++;
		err = wait_for(key, deadline_ms);
		if (err != ERR_OK) {
			table.count--;
			diag_set(diag, "the one before it still runs");
		}
	}
	if (err == ERR_OK) {
		flight = xcalloc(1, sizeof(*flight));
		flight->key = key == NULL ? NULL : xstrdup(key);
		TAILQ_INSERT_TAIL(&table.running, flight, entry);
		*ret = flight;
	}
	(void)pthread_mutex_unlock(&table.lock);
	return err;
}

void
flight_end(struct flight *flight)
{
	if (flight == NULL)
		return;
	(void)pthread_mutex_lock(&table.lock);
	TAILQ_REMOVE(&table.running, flight, entry);
	table.count--;
	(void)pthread_cond_broadcast(&table.ended);
	(void)pthread_mutex_unlock(&table.lock);
	free(flight->key);
	free(flight);
}
