/* SPDX-License-Identifier: MIT */
#include "broker/hub/jobs.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "broker/hub/hub.h"
#include "common/thread.h"
#include "common/xalloc.h"

/* That wait: of all lanes, and of one, so that one client leaves some. */
#define JOBS_MAX 10000
#define LANE_MAX 1000

#define BUCKETS 1024 /* a power of two */

struct job {
	jobs_run *work, *done;
	void *arg;
	STAILQ_ENTRY(job) next;
};

/* Is ready, and has jobs, or is in the hands of one thread. */
struct lane {
	unsigned long number;
	size_t waiting;
	STAILQ_HEAD(, job) jobs;
	STAILQ_ENTRY(lane) ready;
	LIST_ENTRY(lane) same; /* of its bucket */
};

/* There is one in a process. */
static struct {
	pthread_t *threads;
	unsigned started;
	pthread_mutex_t lock; /* over what follows */
	pthread_cond_t wake;
	bool open;
	size_t waiting;
	STAILQ_HEAD(, lane) ready;
	LIST_HEAD(, lane) buckets[BUCKETS];
} jobs = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.ready = STAILQ_HEAD_INITIALIZER(jobs.ready),
};

/* In the hub. */
static void
run_done(void *arg)
{
	struct job *job = arg;

	job->done(job->arg);
	free(job);
}

/* Unlocked; its lane waits until it has run. */
static void
run_job(struct job *job)
{
	job->work(job->arg);
	/* the hub outlives us: what is lost otherwise, nobody waits for */
	if (job->done == NULL || !hub_post(run_done, job))
		free(job);
}

/* The next job of the lane that has been ready for longest; locked. */
static void
run_next(void)
{
	struct lane *lane = STAILQ_FIRST(&jobs.ready);
	struct job *job = STAILQ_FIRST(&lane->jobs);

	STAILQ_REMOVE_HEAD(&jobs.ready, ready);
	STAILQ_REMOVE_HEAD(&lane->jobs, next);
	jobs.waiting--;
	lane->waiting--;
	(void)pthread_mutex_unlock(&jobs.lock);
	run_job(job);
	(void)pthread_mutex_lock(&jobs.lock);
	if (!STAILQ_EMPTY(&lane->jobs)) {
		STAILQ_INSERT_TAIL(&jobs.ready, lane, ready);
	} else {
		LIST_REMOVE(lane, same);
		free(lane);
	}
}

static void *
run_thread(void *arg)
{
	(void)arg;
	(void)pthread_mutex_lock(&jobs.lock);
	while (jobs.open || !STAILQ_EMPTY(&jobs.ready)) {
		if (STAILQ_EMPTY(&jobs.ready))
			(void)pthread_cond_wait(&jobs.wake, &jobs.lock);
		else
			run_next();
	}
	(void)pthread_mutex_unlock(&jobs.lock);
	return NULL;
}

enum err
jobs_start(unsigned threads, struct diag *diag)
{
	enum err err = ERR_OK;

	jobs.open = true;
	jobs.threads = xcalloc(threads, sizeof(*jobs.threads));
	while (err == ERR_OK && jobs.started < threads) {
		err = thread_start(&jobs.threads[jobs.started], "job",
		    run_thread, NULL, diag);
		if (err == ERR_OK)
			jobs.started++;
	}
	if (err != ERR_OK)
		jobs_stop();
	return err;
}

void
jobs_stop(void)
{
	(void)pthread_mutex_lock(&jobs.lock);
	jobs.open = false;
	(void)pthread_cond_broadcast(&jobs.wake);
	(void)pthread_mutex_unlock(&jobs.lock);
	while (jobs.started > 0)
		(void)pthread_join(jobs.threads[--jobs.started], NULL);
	free(jobs.threads);
	jobs.threads = NULL;
}

/* The lane of this number, made where it is not there; locked. */
static struct lane *
find_lane(unsigned long number)
{
	size_t bucket =
	    number * UINT64_C(0x9e3779b97f4a7c15) >> 32 & (BUCKETS - 1);
	struct lane *lane;

	LIST_FOREACH (lane, &jobs.buckets[bucket], same)
		if (lane->number == number)
			return lane;
	lane = xcalloc(1, sizeof(*lane));
	lane->number = number;
	STAILQ_INIT(&lane->jobs);
	LIST_INSERT_HEAD(&jobs.buckets[bucket], lane, same);
	STAILQ_INSERT_TAIL(&jobs.ready, lane, ready);
	(void)pthread_cond_signal(&jobs.wake);
	return lane;
}

/* Locked. */
static enum err
push(unsigned long number, const struct job *job)
{
	struct lane *lane;
	struct job *copy;

	if (!jobs.open || jobs.waiting >= JOBS_MAX)
		return ERR_UNAVAIL;
	lane = find_lane(number);
	if (lane->waiting >= LANE_MAX)
		return ERR_UNAVAIL;
	copy = xcalloc(1, sizeof(*copy));
	*copy = *job;
	STAILQ_INSERT_TAIL(&lane->jobs, copy, next);
	lane->waiting++;
	jobs.waiting++;
	return ERR_OK;
}

enum err
jobs_add(unsigned long lane, jobs_run *work, jobs_run *done, void *arg)
{
	struct job job = { .work = work, .done = done, .arg = arg };
	enum err err;

	(void)pthread_mutex_lock(&jobs.lock);
	err = push(lane, &job);
	(void)pthread_mutex_unlock(&jobs.lock);
	return err;
}
