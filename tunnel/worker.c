/* SPDX-License-Identifier: MIT */
#include "tunnel/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/crypt.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/xalloc.h"
#include "tunnel/session.h"
#include "tunnel/stream.h"

#define ACCEPT_PAUSE_MS 100 /* where there is no descriptor or memory */

struct member {
	struct session *session;
	struct member *next;
};

struct worker {
	struct session_env env;
	struct stream_trust *trust;
	struct member *members;
	unsigned connections; /* that may still be accepted */
	bool accepted_any;
	unsigned pauses; /* since it was last accepted */
	bool stopping;
	struct worker_sockets sockets; /* -1: closed, or never given */
	int signal_fd, epoll_fd;
	struct loop_watch *signal_watch, *accept_watch;
	struct loop_timer *pause;
};

/* What is looked up at its first use is looked up before fork(). */
static void
warm_up(void)
{
	char accept[29];

	crypt_ws_accept("", 0, accept);
}

enum err
worker_new(const char *control_path, unsigned connections, struct worker **ret,
    struct diag *diag)
{
	static const struct log_limit refusals = LOG_LIMIT_A_MINUTE;
	struct worker *worker = xcalloc(1, sizeof(*worker));
	enum err err;

	worker->connections = connections;
	worker->signal_fd = worker->epoll_fd = -1;
	worker->sockets = (struct worker_sockets){ -1, -1, -1 };
	worker->env.control_path = control_path;
	worker->env.refusals = log_limit_share(&refusals);
	err = loop_new(&worker->env.loop, diag);
	if (err == ERR_OK)
		err = stream_trust_new(NULL, &worker->trust, diag);
	if (err != ERR_OK) {
		worker_free(worker);
		return err;
	}
	worker->env.trust = worker->trust;
	warm_up();
	*ret = worker;
	return ERR_OK;
}

static void
close_fd(int *fd)
{
	if (*fd != -1)
		(void)close(*fd);
	*fd = -1;
}

void
worker_free(struct worker *worker)
{
	if (worker == NULL)
		return;
	while (worker->members != NULL) {
		struct member *member = worker->members;

		worker->members = member->next;
		session_free(member->session);
		free(member);
	}
	loop_watch_free(worker->signal_watch);
	loop_watch_free(worker->accept_watch);
	loop_timer_free(worker->pause);
	loop_free(worker->env.loop);
	stream_trust_free(worker->trust);
	close_fd(&worker->signal_fd);
	close_fd(&worker->epoll_fd);
	free(worker);
}

/* ---- sessions ---------------------------------------------------------- */

static void
stop_if_idle(struct worker *worker)
{
	if (worker->members == NULL && worker->connections == 0)
		loop_stop(worker->env.loop);
}

static void
on_session_done(void *arg, struct session *session)
{
	struct worker *worker = arg;

	for (struct member **at = &worker->members; *at != NULL;
	     at = &(*at)->next) {
		struct member *member = *at;

		if (member->session != session)
			continue;
		*at = member->next;
		free(member);
		break;
	}
	session_free(session);
	stop_if_idle(worker);
}

static void
add_session(struct worker *worker, int fd)
{
	struct member *member = xcalloc(1, sizeof(*member));

	member->next = worker->members;
	worker->members = member;
	member->session =
	    session_start(&worker->env, fd, on_session_done, worker);
}

static void
report(const struct worker *worker, enum worker_event event)
{
	const struct worker_status status = { (int)getpid(), event };

	/* where it fails, the supervisor is dead, and the lifeline tells */
	if (worker->sockets.status != -1)
		(void)!write(worker->sockets.status, &status, sizeof(status));
}

/*
 * No more connections; what is open goes on.  The listener has to be closed:
 * a new supervisor must find the old one's socket dead.
 */
static void
accept_no_more(struct worker *worker)
{
	report(worker, WORKER_FULL);
	worker->connections = 0;
	loop_watch_free(worker->accept_watch);
	worker->accept_watch = NULL;
	close_fd(&worker->epoll_fd);
	close_fd(&worker->sockets.listener);
	close_fd(&worker->sockets.lifeline);
	close_fd(&worker->sockets.status);
	stop_if_idle(worker);
}

static void
stop_all(struct worker *worker)
{
	struct member *next;

	if (worker->stopping)
		return;
	worker->stopping = true;
	for (struct member *m = worker->members; m != NULL; m = next) {
		next = m->next;
		session_stop(m->session);
	}
	accept_no_more(worker);
}

static void
on_signal(void *arg, bool readable, bool writable)
{
	struct worker *worker = arg;
	struct signalfd_siginfo info;

	(void)readable;
	(void)writable;
	if (read(worker->signal_fd, &info, sizeof(info)) !=
	    (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGUSR1)
		accept_no_more(worker);
	else
		stop_all(worker);
}

static enum err
watch_signals(struct worker *worker)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGUSR1);
	worker->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (worker->signal_fd == -1)
		return ERR_SYS;
	worker->signal_watch = loop_watch_new(worker->env.loop,
	    worker->signal_fd, on_signal, worker);
	loop_watch_set(worker->signal_watch, true, false);
	return ERR_OK;
}

enum err
worker_serve(struct worker *worker, int fd)
{
	enum err err = loop_begin(worker->env.loop);

	if (err == ERR_OK)
		err = watch_signals(worker);
	if (err != ERR_OK) {
		(void)close(fd);
		return err;
	}
	worker->connections = 0;
	add_session(worker, fd);
	return loop_run(worker->env.loop);
}

/* ---- accepting --------------------------------------------------------- */

/*
 * Accept one connection; false where there was none.  *ret_busy: there is
 * one, but no descriptor or memory for it.
 */
static bool
accept_one(struct worker *worker, bool *ret_busy)
{
	int fd = accept4(worker->sockets.listener, NULL, NULL,
	    SOCK_CLOEXEC | SOCK_NONBLOCK);

	*ret_busy = false;
	if (fd == -1) {
		*ret_busy = errno == EMFILE || errno == ENFILE ||
		    errno == ENOMEM || errno == ENOBUFS;
		if (*ret_busy && worker->pauses++ == 0)
			log_error("worker.paused", "reason=\"%s\"",
			    strerror(errno));
		return false;
	}
	if (worker->pauses > 0)
		log_notice("worker.resumed", "pauses=%u", worker->pauses);
	worker->pauses = 0;
	if (!worker->accepted_any)
		report(worker, WORKER_ACCEPTED);
	worker->accepted_any = true;
	worker->connections--;
	add_session(worker, fd);
	if (worker->connections == 0)
		accept_no_more(worker);
	return true;
}

static void
on_pause_over(void *arg)
{
	struct worker *worker = arg;

	if (worker->accept_watch != NULL)
		loop_watch_set(worker->accept_watch, true, false);
}

static void
on_connection(void *arg, bool readable, bool writable)
{
	struct worker *worker = arg;
	struct epoll_event event;
	bool busy;

	(void)readable;
	(void)writable;
	if (epoll_wait(worker->epoll_fd, &event, 1, 0) != 1)
		return;
	if (event.data.fd == worker->sockets.lifeline) {
		accept_no_more(worker);
	} else if (!accept_one(worker, &busy) && busy) {
		/* not even to refuse: wait, and do not spin */
		loop_watch_set(worker->accept_watch, false, false);
		loop_timer_set(worker->pause, ACCEPT_PAUSE_MS);
	}
}

static enum err
make_epoll(struct worker *worker)
{
	/* of all the children that wait, the kernel wakes one */
	struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE };

	worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (worker->epoll_fd == -1)
		return ERR_SYS;
	event.data.fd = worker->sockets.listener;
	if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, event.data.fd, &event) ==
	    -1)
		return ERR_SYS;
	event = (struct epoll_event){ .events = EPOLLIN };
	event.data.fd = worker->sockets.lifeline;
	if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, event.data.fd, &event) ==
	    -1)
		return ERR_SYS;
	return ERR_OK;
}

/*
 * Wait as a spare, without the loop, until there is a connection: ERR_OK.
 * Signals kill meanwhile.  ERR_UNAVAIL where the supervisor has died.
 */
static enum err
wait_first(struct worker *worker)
{
	const struct timespec pause = { .tv_nsec = ACCEPT_PAUSE_MS * 1000000 };
	struct epoll_event event;
	sigset_t mask;
	bool busy;
	int n;

	(void)sigprocmask(SIG_SETMASK, NULL, &mask);
	(void)sigdelset(&mask, SIGTERM);
	(void)sigdelset(&mask, SIGUSR1);
	for (;;) {
		n = epoll_pwait(worker->epoll_fd, &event, 1, -1, &mask);
		if (n == -1 && errno != EINTR)
			return ERR_SYS;
		if (n != 1)
			continue;
		if (event.data.fd == worker->sockets.lifeline)
			return ERR_UNAVAIL;
		if (accept_one(worker, &busy))
			return ERR_OK;
		if (busy)
			(void)ppoll(NULL, 0, &pause, &mask);
	}
}

static void
go_on_accepting(struct worker *worker)
{
	if (worker->connections == 0)
		return;
	worker->accept_watch = loop_watch_new(worker->env.loop,
	    worker->epoll_fd, on_connection, worker);
	loop_watch_set(worker->accept_watch, true, false);
}

enum err
worker_run(struct worker *worker, const struct worker_sockets *sockets)
{
	enum err err;

	worker->sockets = *sockets;
	worker->pause = loop_timer_new(worker->env.loop, on_pause_over, worker);
	err = loop_begin(worker->env.loop);
	if (err == ERR_OK)
		err = make_epoll(worker);
	if (err == ERR_OK)
		err = watch_signals(worker);
	if (err == ERR_OK)
		err = wait_first(worker);
	if (err == ERR_UNAVAIL)
		return ERR_OK;
	if (err != ERR_OK)
		return err;
	go_on_accepting(worker);
	return loop_run(worker->env.loop);
}
