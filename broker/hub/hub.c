/* SPDX-License-Identifier: MIT */
#include "broker/hub/hub.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/thread.h"
#include "common/xalloc.h"

struct posted {
	hub_run *run;
	void *arg;
	STAILQ_ENTRY(posted) next;
};
STAILQ_HEAD(posts, posted);

/* There is one in a process. */
static struct {
	pthread_t thread;
	struct loop *loop;
	struct loop_watch *watch; /* of wake_fd */
	int wake_fd;
	pthread_mutex_t lock; /* over what follows */
	bool open;
	struct posts posts;
} hub = {
	.wake_fd = -1,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.posts = STAILQ_HEAD_INITIALIZER(hub.posts),
};

static _Thread_local bool here;

/* Run what has been posted until now; what that posts, comes next time. */
static void
run_posts(void *arg, bool readable, bool writable)
{
	struct posts posts = STAILQ_HEAD_INITIALIZER(posts);
	struct posted *posted;
	uint64_t count;

	(void)arg;
	(void)readable;
	(void)writable;
	(void)!read(hub.wake_fd, &count, sizeof(count));
	(void)pthread_mutex_lock(&hub.lock);
	STAILQ_CONCAT(&posts, &hub.posts);
	(void)pthread_mutex_unlock(&hub.lock);
	while ((posted = STAILQ_FIRST(&posts)) != NULL) {
		STAILQ_REMOVE_HEAD(&posts, next);
		posted->run(posted->arg);
		free(posted);
	}
}

static void *
run_hub(void *arg)
{
	(void)arg;
	here = true;
	if (loop_run(hub.loop) != ERR_OK)
		abort(); /* only for a descriptor of ours that is none */
	return NULL;
}

/* Take apart what hub_start() made, wholly or in part. */
static void
done(void)
{
	loop_watch_free(hub.watch);
	hub.watch = NULL;
	loop_free(hub.loop);
	hub.loop = NULL;
	if (hub.wake_fd != -1)
		(void)close(hub.wake_fd);
	hub.wake_fd = -1;
}

enum err
hub_start(struct diag *diag)
{
	enum err err = loop_new(&hub.loop, diag);

	if (err != ERR_OK)
		return err;
	hub.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hub.wake_fd == -1 || loop_begin(hub.loop) != ERR_OK) {
		diag_set(diag, "cannot make the hub: %s", strerror(errno));
		done();
		return ERR_SYS;
	}
	hub.watch = loop_watch_new(hub.loop, hub.wake_fd, run_posts, NULL);
	loop_watch_set(hub.watch, true, false);
	hub.open = true;
	err = thread_start(&hub.thread, "hub", run_hub, NULL, diag);
	if (err != ERR_OK) {
		hub.open = false;
		done();
	}
	return err;
}

struct loop *
hub_loop(void)
{
	assert(here);
	return hub.loop;
}

bool
hub_is_here(void)
{
	return here;
}

/* Locked. */
static void
push(hub_run *run, void *arg)
{
	struct posted *posted = xcalloc(1, sizeof(*posted));
	uint64_t one = 1;

	posted->run = run;
	posted->arg = arg;
	/* one wake-up is enough for all that is taken with it */
	if (STAILQ_EMPTY(&hub.posts))
		(void)!write(hub.wake_fd, &one, sizeof(one));
	STAILQ_INSERT_TAIL(&hub.posts, posted, next);
}

bool
hub_post(hub_run *run, void *arg)
{
	bool open;

	(void)pthread_mutex_lock(&hub.lock);
	open = hub.open;
	if (open)
		push(run, arg);
	(void)pthread_mutex_unlock(&hub.lock);
	return open;
}

/* ---- waiting for it ---------------------------------------------------- */

struct call {
	hub_run *run;
	void *arg;
	bool ended;
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

static void
run_call(void *arg)
{
	struct call *call = arg;

	call->run(call->arg);
	/* the caller's stack is not touched once it sees the end */
	(void)pthread_mutex_lock(&call->lock);
	call->ended = true;
	(void)pthread_cond_signal(&call->wake);
	(void)pthread_mutex_unlock(&call->lock);
}

bool
hub_call(hub_run *run, void *arg)
{
	struct call call = {
		.run = run,
		.arg = arg,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.wake = PTHREAD_COND_INITIALIZER,
	};

	assert(!here);
	if (!hub_post(run_call, &call))
		return false;
	(void)pthread_mutex_lock(&call.lock);
	while (!call.ended)
		(void)pthread_cond_wait(&call.wake, &call.lock);
	(void)pthread_mutex_unlock(&call.lock);
	(void)pthread_cond_destroy(&call.wake);
	(void)pthread_mutex_destroy(&call.lock);
	return true;
}

/* ---- stopping ---------------------------------------------------------- */

static void
end(void *arg)
{
	(void)arg;
	loop_stop(hub.loop);
}

void
hub_stop(void)
{
	bool open;

	(void)pthread_mutex_lock(&hub.lock);
	open = hub.open;
	hub.open = false;
	if (open)
		push(end, NULL); /* the last */
	(void)pthread_mutex_unlock(&hub.lock);
	if (!open)
		return;
	(void)pthread_join(hub.thread, NULL);
	done();
}
