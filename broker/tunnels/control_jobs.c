/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/thread.h"
#include "common/xalloc.h"

/* Some may wait for an issuer's keys, and the others go on. */
#define THREADS 6

struct job {
	control_jobs_work *work;
	control_jobs_done *done;
	void *arg;
	STAILQ_ENTRY(job) next;
};

STAILQ_HEAD(job_list, job);

struct control_jobs {
	int fd;
	pthread_t threads[THREADS];
	unsigned thread_count;
	unsigned count; /* of the caller's thread */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct job_list waiting, done;
	bool ends;
};

/* The next one; NULL: no more. */
static struct job *
take_waiting(struct control_jobs *jobs)
{
	struct job *job = NULL;

	(void)pthread_mutex_lock(&jobs->lock);
	while (!jobs->ends && STAILQ_EMPTY(&jobs->waiting))
		(void)pthread_cond_wait(&jobs->wake, &jobs->lock);
	if (!jobs->ends) {
		job = STAILQ_FIRST(&jobs->waiting);
		STAILQ_REMOVE_HEAD(&jobs->waiting, next);
	}
	(void)pthread_mutex_unlock(&jobs->lock);
	return job;
}

static void *
run(void *arg)
{
	struct control_jobs *jobs = arg;
	struct job *job;

	while ((job = take_waiting(jobs)) != NULL) {
		job->work(job->arg);
		(void)pthread_mutex_lock(&jobs->lock);
		STAILQ_INSERT_TAIL(&jobs->done, job, next);
		(void)pthread_mutex_unlock(&jobs->lock);
		(void)eventfd_write(jobs->fd, 1);
	}
	return NULL;
}

enum err
control_jobs_new(struct control_jobs **ret, struct diag *diag)
{
	struct control_jobs *jobs;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	enum err err = ERR_OK;

	if (fd == -1) {
		diag_set(diag, "eventfd: %s", strerror(errno));
		return ERR_SYS;
	}
	jobs = xcalloc(1, sizeof(*jobs));
	jobs->fd = fd;
	(void)pthread_mutex_init(&jobs->lock, NULL);
	(void)pthread_cond_init(&jobs->wake, NULL);
	STAILQ_INIT(&jobs->waiting);
	STAILQ_INIT(&jobs->done);
	while (err == ERR_OK && jobs->thread_count < THREADS) {
		err = thread_start(&jobs->threads[jobs->thread_count], "decide",
		    run, jobs, diag);
		if (err == ERR_OK)
			jobs->thread_count++;
	}
	if (err == ERR_OK)
		*ret = jobs;
	else
		control_jobs_free(jobs, NULL);
	return err;
}

int
control_jobs_fd(const struct control_jobs *jobs)
{
	return jobs->fd;
}

enum err
control_jobs_add(struct control_jobs *jobs, control_jobs_work *work,
    control_jobs_done *done, void *arg)
{
	struct job *job;

	if (jobs->count >= CONTROL_JOBS_MAX)
		return ERR_UNAVAIL;
	jobs->count++;
	job = xcalloc(1, sizeof(*job));
	*job = (struct job){ .work = work, .done = done, .arg = arg };
	(void)pthread_mutex_lock(&jobs->lock);
	STAILQ_INSERT_TAIL(&jobs->waiting, job, next);
	(void)pthread_cond_signal(&jobs->wake);
	(void)pthread_mutex_unlock(&jobs->lock);
	return ERR_OK;
}

/* done() may add others, which are none of these. */
static void
finish(struct control_jobs *jobs, struct job_list *list, void *context)
{
	struct job *job;

	while ((job = STAILQ_FIRST(list)) != NULL) {
		STAILQ_REMOVE_HEAD(list, next);
		jobs->count--;
		job->done(context, job->arg);
		free(job);
	}
}

void
control_jobs_finish(struct control_jobs *jobs, void *context)
{
	struct job_list list = STAILQ_HEAD_INITIALIZER(list);
	eventfd_t value;

	(void)eventfd_read(jobs->fd, &value);
	(void)pthread_mutex_lock(&jobs->lock);
	STAILQ_CONCAT(&list, &jobs->done);
	(void)pthread_mutex_unlock(&jobs->lock);
	finish(jobs, &list, context);
}

void
control_jobs_free(struct control_jobs *jobs, void *context)
{
	if (jobs == NULL)
		return;
	(void)pthread_mutex_lock(&jobs->lock);
	jobs->ends = true;
	(void)pthread_cond_broadcast(&jobs->wake);
	(void)pthread_mutex_unlock(&jobs->lock);
	while (jobs->thread_count > 0)
		(void)pthread_join(jobs->threads[--jobs->thread_count], NULL);
	finish(jobs, &jobs->done, context);
	finish(jobs, &jobs->waiting, context);
	(void)pthread_cond_destroy(&jobs->wake);
	(void)pthread_mutex_destroy(&jobs->lock);
	(void)close(jobs->fd);
	free(jobs);
}
