/* SPDX-License-Identifier: MIT */
#include "broker/http/accept_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/xalloc.h"

#define PAUSE_MS 100

struct accept_pool {
	struct accept_pool_options options;
	int listen_fd;
	int stop_fd;		/* readable once stopped, until all is over */
	pthread_mutex_t leader; /* who has it, accepts */
	unsigned pauses; /* since it was last accepted; guarded by leader */
	pthread_mutex_t lock;
	pthread_cond_t ended; /* alive has become 0 */
	unsigned alive;	      /* guarded by lock */
	pthread_t *threads;
	unsigned started; /* how many of them there are */
};

/*
 * For accept_pool_stop(), which has to do without an argument and a lock; so
 * the descriptor, once made, stays: it may be written to at any time.
 */
static atomic_bool stopped;
static atomic_int stop_fd = -1;

/*
 * A pool whose threads did not end: kept, because they use it.  volatile: or a
 * compiler that sees no reader leaves the store out, and it looks leaked.
 */
static struct accept_pool *volatile abandoned;

static void
wake(int fd)
{
	uint64_t one = 1;
	int old_errno = errno;

	if (fd != -1 && write(fd, &one, sizeof(one)) == -1)
		errno = old_errno; /* full: it is readable all the more */
}

void
accept_pool_stop(void)
{
	atomic_store(&stopped, true);
	wake(atomic_load(&stop_fd));
}

/* Whether the listener's queue may be asked again at once after this error. */
static bool
is_passing(int error)
{
	switch (error) {
	case EAGAIN: /* another process was faster */
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case ENETDOWN:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return true;
	default:
		return false;
	}
}

/* Out of something: let running requests give it back. */
static void
pause_accepting(struct accept_pool *pool, int error)
{
	struct pollfd stop = { .fd = pool->stop_fd, .events = POLLIN };

	if (pool->pauses++ == 0)
		log_error("accept.paused", "reason=\"%s\"", strerror(error));
	(void)poll(&stop, 1, PAUSE_MS);
}

/* The next connection, or -1 when the pool is stopped; as the leader. */
static int
wait_for_connection(struct accept_pool *pool)
{
	for (;;) {
		struct pollfd fds[2] = {
			{ .fd = pool->stop_fd, .events = POLLIN },
			{ .fd = pool->listen_fd, .events = POLLIN },
		};
		int fd;

		if (poll(fds, 2, -1) == -1 && !is_passing(errno)) {
			pause_accepting(pool, errno);
			continue;
		}
		if (fds[0].revents != 0)
			return -1;
		if (fds[1].revents == 0)
			continue;
		fd = accept4(pool->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd != -1) {
			if (pool->pauses > 0)
				log_notice("accept.resumed", "pauses=%u",
				    pool->pauses);
			pool->pauses = 0;
			return fd;
		}
		if (!is_passing(errno))
			pause_accepting(pool, errno);
	}
}

static void *
run_thread(void *arg)
{
	struct accept_pool *pool = arg;
	int fd;

	for (;;) {
		(void)pthread_mutex_lock(&pool->leader);
		fd = wait_for_connection(pool);
		(void)pthread_mutex_unlock(&pool->leader);
		if (fd == -1)
			break;
		pool->options.serve(fd, pool->options.arg);
	}
	(void)pthread_mutex_lock(&pool->lock);
	if (--pool->alive == 0)
		(void)pthread_cond_signal(&pool->ended);
	(void)pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Start the threads, with all signals blocked; returns the last error. */
static int
start_threads(struct accept_pool *pool)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int error = 0;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, pool->options.stack_bytes);
	(void)pthread_mutex_lock(&pool->lock);
	while (pool->started < pool->options.threads) {
		error = pthread_create(&pool->threads[pool->started], &attr,
		    run_thread, pool);
		if (error != 0)
			break;
		(void)pthread_setname_np(pool->threads[pool->started++],
		    "request");
	}
	pool->alive = pool->started;
	(void)pthread_mutex_unlock(&pool->lock);
	(void)pthread_attr_destroy(&attr);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return error;
}

static struct accept_pool *
pool_new(int listen_fd, const struct accept_pool_options *options)
{
	struct accept_pool *pool = xcalloc(1, sizeof(*pool));
	pthread_condattr_t attr;

	pool->options = *options;
	pool->listen_fd = listen_fd;
	if (atomic_load(&stop_fd) == -1)
		atomic_store(&stop_fd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	pool->stop_fd = atomic_load(&stop_fd);
	pool->threads = xcalloc(options->threads, sizeof(*pool->threads));
	(void)pthread_mutex_init(&pool->leader, NULL);
	(void)pthread_mutex_init(&pool->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&pool->ended, &attr);
	(void)pthread_condattr_destroy(&attr);
	return pool;
}

static void
pool_free(struct accept_pool *pool)
{
	(void)pthread_mutex_destroy(&pool->leader);
	(void)pthread_mutex_destroy(&pool->lock);
	(void)pthread_cond_destroy(&pool->ended);
	free(pool->threads);
	free(pool);
}

/* Wait for the stop, then for the threads; how many run on. */
static unsigned
wait_for_end(struct accept_pool *pool)
{
	struct pollfd stop = { .fd = pool->stop_fd, .events = POLLIN };
	struct timespec until;
	unsigned alive;

	while (poll(&stop, 1, -1) != 1)
		;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += pool->options.stop_ms / 1000;
	until.tv_nsec += pool->options.stop_ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_mutex_lock(&pool->lock);
	while (pool->alive > 0)
		if (pthread_cond_timedwait(&pool->ended, &pool->lock, &until) !=
		    0)
			break;
	alive = pool->alive;
	(void)pthread_mutex_unlock(&pool->lock);
	return alive;
}

/* Serve with as many threads as could be made. */
static enum err
run(struct accept_pool *pool, struct diag *diag)
{
	int error = start_threads(pool);
	unsigned alive;

	if (pool->started == 0) {
		diag_set(diag, "cannot start a thread: %s", strerror(error));
		return ERR_SYS;
	}
	if (error != 0)
		log_warning("accept.threads",
		    "started=%u wanted=%u "
		    "reason=\"%s\"",
		    pool->started, pool->options.threads, strerror(error));
	alive = wait_for_end(pool);
	if (alive > 0) {
		diag_set(diag, "%u requests did not end in time", alive);
		/* nobody waits for them, nor for those that have ended */
		for (unsigned i = 0; i < pool->started; i++)
			(void)pthread_detach(pool->threads[i]);
		return ERR_TIMEOUT;
	}
	for (unsigned i = 0; i < pool->started; i++)
		(void)pthread_join(pool->threads[i], NULL);
	return ERR_OK;
}

enum err
accept_pool_run(int listen_fd, const struct accept_pool_options *options,
    struct diag *diag)
{
	struct accept_pool *pool = pool_new(listen_fd, options);
	int flags = fcntl(listen_fd, F_GETFL);
	uint64_t count;
	enum err err;

	/* or a connection that is gone again would block the leader */
	if (pool->stop_fd == -1 || flags == -1 ||
	    fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) == -1) {
		diag_set(diag, "cannot listen: %s", strerror(errno));
		pool_free(pool);
		return ERR_SYS;
	}
	if (atomic_load(&stopped))
		wake(pool->stop_fd);
	err = run(pool, diag);
	if (err == ERR_TIMEOUT) {
		abandoned = pool;
		return err;
	}
	atomic_store(&stopped, false);
	(void)!read(pool->stop_fd, &count, sizeof(count));
	pool_free(pool);
	return err;
}
