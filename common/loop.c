/* SPDX-License-Identifier: MIT */
#include "common/loop.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/xalloc.h"

#define SCRATCH_BYTES (64 * 1024)
#define SCRATCH_PAGES (SCRATCH_BYTES + 4096) /* LOOP_HEADROOM is in front */
#define EVENTS_MAX    32		     /* of one wait */
#define HANGUP_ONCE   ((uint32_t)(EPOLLRDHUP | EPOLLONESHOT))

struct loop_watch {
	struct loop *loop;
	int fd;
	loop_ready ready;
	void *arg;
	uint32_t events; /* what epoll was told; 0: the fd is not in it */
	bool freed;
	bool tells_hangup, hangup_told;
	bool due_read, due_write; /* without waiting; is in loop->due then */
	TAILQ_ENTRY(loop_watch) due;
	SLIST_ENTRY(loop_watch) dead;
};

struct loop_timer {
	struct loop *loop;
	loop_expired expired;
	void *arg;
	int64_t at_ms;
	size_t place; /* in the heap, from 1; 0: stopped */
};

TAILQ_HEAD(due_watches, loop_watch);

struct loop {
	int epoll_fd;
	bool stopped;
	struct due_watches due;
	SLIST_HEAD(, loop_watch) dead; /* freed when no event names them */
	struct loop_timer **heap;      /* from 1: the earliest is first */
	size_t timers, heap_size;
	uint8_t *scratch;
};

enum err
loop_new(struct loop **ret, struct diag *diag)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));

	loop->epoll_fd = -1;
	TAILQ_INIT(&loop->due);
	SLIST_INIT(&loop->dead);
	/* whole pages, which are there only while they are in use */
	loop->scratch = mmap(NULL, SCRATCH_PAGES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (loop->scratch == MAP_FAILED) {
		diag_set(diag, "no memory");
		free(loop);
		return ERR_SYS;
	}
	*ret = loop;
	return ERR_OK;
}

enum err
loop_begin(struct loop *loop)
{
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return loop->epoll_fd == -1 ? ERR_SYS : ERR_OK;
}

static void
bury_dead(struct loop *loop)
{
	while (!SLIST_EMPTY(&loop->dead)) {
		struct loop_watch *watch = SLIST_FIRST(&loop->dead);

		SLIST_REMOVE_HEAD(&loop->dead, dead);
		free(watch);
	}
}

void
loop_free(struct loop *loop)
{
	if (loop == NULL)
		return;
	bury_dead(loop);
	if (loop->epoll_fd != -1)
		(void)close(loop->epoll_fd);
	(void)munmap(loop->scratch, SCRATCH_PAGES);
	free(loop->heap);
	free(loop);
}

uint8_t *
loop_scratch(struct loop *loop, size_t *ret_size)
{
	*ret_size = SCRATCH_BYTES;
	return loop->scratch + LOOP_HEADROOM;
}

void
loop_rest(struct loop *loop)
{
	(void)madvise(loop->scratch, SCRATCH_PAGES, MADV_DONTNEED);
	(void)malloc_trim(0);
}

/* ---- watches ----------------------------------------------------------- */

struct loop_watch *
loop_watch_new(struct loop *loop, int fd, loop_ready ready, void *arg)
{
	struct loop_watch *watch = xcalloc(1, sizeof(*watch));

	watch->loop = loop;
	watch->fd = fd;
	watch->ready = ready;
	watch->arg = arg;
	return watch;
}

void
loop_watch_bind(struct loop_watch *watch, loop_ready ready, void *arg)
{
	watch->ready = ready;
	watch->arg = arg;
	watch->tells_hangup = watch->hangup_told = false;
}

void
loop_watch_tell_hangup(struct loop_watch *watch)
{
	watch->tells_hangup = true;
}

static void
set_due(struct loop_watch *watch, bool read, bool write)
{
	if (!watch->due_read && !watch->due_write)
		TAILQ_INSERT_TAIL(&watch->loop->due, watch, due);
	watch->due_read |= read;
	watch->due_write |= write;
}

static void
unset_due(struct loop_watch *watch)
{
	if (watch->due_read || watch->due_write)
		TAILQ_REMOVE(&watch->loop->due, watch, due);
	watch->due_read = watch->due_write = false;
}

/*
 * A descriptor of which nothing is wanted is taken out, or asked for one
 * report: epoll would go on to report a peer that has hung up.
 */
static uint32_t
wanted_events(const struct loop_watch *watch, bool read, bool write)
{
	if (!read && !write && watch->tells_hangup && !watch->hangup_told)
		return HANGUP_ONCE;
	return (read ? EPOLLIN : 0U) | (write ? EPOLLOUT : 0U);
}

void
loop_watch_set(struct loop_watch *watch, bool read, bool write)
{
	struct epoll_event event = {
		.events = wanted_events(watch, read, write),
		.data.ptr = watch,
	};
	int op = watch->events == 0 ? EPOLL_CTL_ADD
	    : event.events == 0	    ? EPOLL_CTL_DEL
				    : EPOLL_CTL_MOD;

	if (event.events == watch->events)
		return;
	if (epoll_ctl(watch->loop->epoll_fd, op, watch->fd, &event) == -1 &&
	    (read || write))
		set_due(watch, read, write);
	watch->events = event.events;
}

void
loop_watch_kick(struct loop_watch *watch)
{
	set_due(watch, true, false);
}

void
loop_watch_free(struct loop_watch *watch)
{
	if (watch == NULL)
		return;
	watch->tells_hangup = false;
	loop_watch_set(watch, false, false);
	unset_due(watch);
	watch->freed = true;
	SLIST_INSERT_HEAD(&watch->loop->dead, watch, dead);
}

static void
dispatch(struct loop_watch *watch, bool readable, bool writable)
{
	readable = readable && (watch->events & EPOLLIN) != 0;
	writable = writable && (watch->events & EPOLLOUT) != 0;
	if (!watch->freed && (readable || writable))
		watch->ready(watch->arg, readable, writable);
}

static void
dispatch_event(struct loop_watch *watch, uint32_t events)
{
	const uint32_t broken = EPOLLERR | EPOLLHUP;

	if (watch->events != HANGUP_ONCE) {
		dispatch(watch, (events & (EPOLLIN | broken)) != 0,
		    (events & (EPOLLOUT | broken)) != 0);
	} else if ((events & (EPOLLRDHUP | broken)) != 0 &&
	    !watch->hangup_told) {
		watch->hangup_told = true;
		watch->ready(watch->arg, false, false);
	}
}

/* Call back those that are due now; what they make due comes next time. */
static void
dispatch_due(struct loop *loop)
{
	struct loop_watch *watch;
	bool read, write;
	size_t most = 0;

	TAILQ_FOREACH (watch, &loop->due, due)
		most++;
	while (most-- > 0 && (watch = TAILQ_FIRST(&loop->due)) != NULL) {
		read = watch->due_read;
		write = watch->due_write;
		unset_due(watch);
		dispatch(watch, read, write);
	}
}

/* ---- timers: a binary heap --------------------------------------------- */

static void
put_timer(struct loop *loop, size_t place, struct loop_timer *timer)
{
	loop->heap[place] = timer;
	timer->place = place;
}

/* Move the timer at this place to where its time belongs. */
static void
sift(struct loop *loop, size_t place)
{
	struct loop_timer *timer = loop->heap[place];
	size_t child;

	while (place > 1 && timer->at_ms < loop->heap[place / 2]->at_ms) {
		put_timer(loop, place, loop->heap[place / 2]);
		place /= 2;
	}
	while ((child = place * 2) <= loop->timers) {
		if (child < loop->timers &&
		    loop->heap[child + 1]->at_ms < loop->heap[child]->at_ms)
			child++;
		if (timer->at_ms <= loop->heap[child]->at_ms)
			break;
		put_timer(loop, place, loop->heap[child]);
		place = child;
	}
	put_timer(loop, place, timer);
}

struct loop_timer *
loop_timer_new(struct loop *loop, loop_expired expired, void *arg)
{
	struct loop_timer *timer = xcalloc(1, sizeof(*timer));

	timer->loop = loop;
	timer->expired = expired;
	timer->arg = arg;
	return timer;
}

void
loop_timer_set(struct loop_timer *timer, int64_t ms)
{
	struct loop *loop = timer->loop;

	timer->at_ms = clock_ms() + (ms > 0 ? ms : 0);
	if (timer->place == 0) {
		if (loop->timers + 2 > loop->heap_size) {
			loop->heap_size = 2 * loop->heap_size + 8;
			loop->heap = xreallocarray(loop->heap, loop->heap_size,
			    sizeof(struct loop_timer *));
		}
		put_timer(loop, ++loop->timers, timer);
	}
	sift(loop, timer->place);
}

void
loop_timer_stop(struct loop_timer *timer)
{
	struct loop *loop = timer->loop;
	size_t place = timer->place;
	struct loop_timer *moved;

	if (place == 0)
		return;
	timer->place = 0;
	moved = loop->heap[loop->timers--];
	if (moved != timer) {
		put_timer(loop, place, moved);
		sift(loop, place);
	}
}

void
loop_timer_free(struct loop_timer *timer)
{
	if (timer == NULL)
		return;
	loop_timer_stop(timer);
	free(timer);
}

/* Milliseconds to wait: -1 for ever, 0 where something is due. */
static int
next_wait_ms(const struct loop *loop, int64_t now)
{
	int64_t wait;

	if (!TAILQ_EMPTY(&loop->due))
		return 0;
	if (loop->timers == 0)
		return -1;
	wait = loop->heap[1]->at_ms - now;
	return wait < 0 ? 0 : wait < INT_MAX ? (int)wait : INT_MAX;
}

/* One that sets itself anew to 0 comes again after the next wait. */
static void
expire_timers(struct loop *loop, int64_t now)
{
	size_t most = loop->timers;

	for (; most > 0 && loop->timers > 0 && loop->heap[1]->at_ms <= now;
	     most--) {
		struct loop_timer *timer = loop->heap[1];

		loop_timer_stop(timer);
		timer->expired(timer->arg);
	}
}

/* ---- running ----------------------------------------------------------- */

enum err
loop_run(struct loop *loop)
{
	struct epoll_event events[EVENTS_MAX];
	int n;

	loop->stopped = false;
	while (!loop->stopped) {
		n = epoll_wait(loop->epoll_fd, events, EVENTS_MAX,
		    next_wait_ms(loop, clock_ms()));
		if (n == -1 && errno != EINTR)
			return ERR_SYS;
		dispatch_due(loop);
		for (int i = 0; i < n; i++)
			dispatch_event(events[i].data.ptr, events[i].events);
		expire_timers(loop, clock_ms());
		bury_dead(loop);
	}
	return ERR_OK;
}

void
loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
