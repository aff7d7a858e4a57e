/* SPDX-License-Identifier: MIT */
#include "pacer.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define EVENTS_MAX 64

struct pacer {
	void (*resume)(void *arg);
	int epoll_fd, wake_fd;
	pthread_t thread;
	bool started;
	pthread_mutex_t mutex;
	bool stopping;
	uint64_t last_id;
	int64_t wakes_ms; /* when the thread looks again; -1: not by itself */
	TAILQ_HEAD(, waiter) all;
	TAILQ_HEAD(waiters, waiter) queue; /* who waits; the first is first */
};

/* With the mutex held; so is all that follows. */
static void
go_on(struct pacer *p, struct waiter *w)
{
	TAILQ_REMOVE(&p->queue, w, queued);
	w->waits = false;
	p->resume(w->arg);
}

/* Whoever is due goes on; milliseconds to the next, or -1. */
static int
release_due(struct pacer *p)
{
	int64_t now = clock_ms();
	struct waiter *w;

	while ((w = TAILQ_FIRST(&p->queue)) != NULL &&
	    (p->stopping || w->until_ms <= now))
		go_on(p, w);
	p->wakes_ms = w == NULL ? -1 : w->until_ms;
	return w == NULL ? -1 : (int)(w->until_ms - now);
}

/* Mostly the last: those of one pace come in turns. */
static void
enqueue(struct pacer *p, struct waiter *w)
{
	struct waiter *before = TAILQ_LAST(&p->queue, waiters);

	while (before != NULL && before->until_ms > w->until_ms)
		before = TAILQ_PREV(before, waiters, queued);
	if (before == NULL)
		TAILQ_INSERT_HEAD(&p->queue, w, queued);
	else
		TAILQ_INSERT_AFTER(&p->queue, before, w, queued);
}

/* By its number: its memory may be another's by now. */
static void
note_gone(struct pacer *p, uint64_t id)
{
	struct waiter *w;

	TAILQ_FOREACH (w, &p->all, known)
		if (w->id == id) {
			w->gone = true;
			if (w->waits)
				go_on(p, w);
			return;
		}
}

static void *
pacer_main(void *arg)
{
	struct pacer *p = arg;
	struct epoll_event events[EVENTS_MAX];

	pthread_mutex_lock(&p->mutex);
	for (;;) {
		int ms = release_due(p), n;
		uint64_t count;

		if (p->stopping)
			break;
		pthread_mutex_unlock(&p->mutex);
		n = epoll_wait(p->epoll_fd, events, EVENTS_MAX, ms);
		pthread_mutex_lock(&p->mutex);
		for (int i = 0; i < n; i++) {
			if (events[i].data.u64 != 0)
				note_gone(p, events[i].data.u64);
			else if (read(p->wake_fd, &count, sizeof(count)) < 0)
				abort(); /* it is readable */
		}
	}
	pthread_mutex_unlock(&p->mutex);
	return NULL;
}

static void
wake(struct pacer *p)
{
	uint64_t one = 1;

	if (write(p->wake_fd, &one, sizeof(one)) < 0)
		abort(); /* it counts to 2^64 */
}

enum err
pacer_new(void (*resume)(void *arg), struct pacer **ret)
{
	struct pacer *p = xcalloc(1, sizeof(*p));
	struct epoll_event event = { .events = EPOLLIN };

	p->resume = resume;
	p->wakes_ms = -1;
	TAILQ_INIT(&p->all);
	TAILQ_INIT(&p->queue);
	pthread_mutex_init(&p->mutex, NULL);
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	p->wake_fd = eventfd(0, EFD_CLOEXEC);
	p->started = p->epoll_fd >= 0 && p->wake_fd >= 0 &&
	    epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->wake_fd, &event) == 0 &&
	    thread_start(&p->thread, "pacer", pacer_main, p, NULL) == ERR_OK;
	if (!p->started) {
		pacer_free(p);
		return ERR_SYS;
	}
	*ret = p;
	return ERR_OK;
}

void
pacer_stop(struct pacer *p)
{
	if (p == NULL || !p->started)
		return;
	pthread_mutex_lock(&p->mutex);
	p->stopping = true;
	pthread_mutex_unlock(&p->mutex);
	wake(p);
	pthread_join(p->thread, NULL);
	p->started = false;
}

void
pacer_free(struct pacer *p)
{
	if (p == NULL)
		return;
	pacer_stop(p);
	if (p->epoll_fd >= 0)
		close(p->epoll_fd);
	if (p->wake_fd >= 0)
		close(p->wake_fd);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}

/* Once: from then on its hanging up is told. */
static void
introduce(struct pacer *p, struct waiter *w, int fd)
{
	struct epoll_event event = { .events = EPOLLRDHUP | EPOLLONESHOT };

	w->fd = fd;
	w->id = event.data.u64 = ++p->last_id;
	TAILQ_INSERT_TAIL(&p->all, w, known);
	(void)epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

bool
pacer_wait(struct pacer *p, struct waiter *w, int fd, int64_t ms, void *arg)
{
	bool ok, sooner = false;

	pthread_mutex_lock(&p->mutex);
	ok = !p->stopping;
	if (ok) {
		if (w->id == 0)
			introduce(p, w, fd);
		w->arg = arg;
		w->until_ms = w->gone ? 0 : clock_ms() + ms;
		w->waits = true;
		enqueue(p, w);
		sooner = p->wakes_ms < 0 || w->until_ms < p->wakes_ms;
		if (sooner)
			p->wakes_ms = w->until_ms;
	}
	pthread_mutex_unlock(&p->mutex);
	if (sooner)
		wake(p);
	return ok;
}

void
pacer_forget(struct pacer *p, struct waiter *w)
{
	if (w->id == 0)
		return;
	pthread_mutex_lock(&p->mutex);
	TAILQ_REMOVE(&p->all, w, known);
	(void)epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	pthread_mutex_unlock(&p->mutex);
}
