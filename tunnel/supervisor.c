/* SPDX-License-Identifier: MIT */
#include "tunnel/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/service.h"
#include "common/xalloc.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
/*
 * After the drain, before SIGKILL: longer than peers that do not answer may
 * take (5 s), and the broker, which is to hear of the end then (3 s).
 */
#define KILL_MS	    10000
#define KILL_NOW_MS 1000 /* the same, after a second signal */
#define NEVER	    INT64_MAX

struct child {
	pid_t pid;
	bool accepted; /* it has served */
	bool full;     /* it accepts no more */
	bool told;     /* to go: it is no spare any more */
};

struct supervisor {
	const struct supervisor_config *config;
	struct worker *worker;
	struct child *children;
	unsigned count, size;
	int signal_fd;
	int status[2];	 /* read, write */
	int lifeline[2]; /* read, write: only we hold the write end */
	int64_t backoff_ms, start_ms; /* no start before */
	bool draining;
	bool leaving;	  /* its children go on without it */
	int64_t drain_ms; /* how long, from drain_start_ms */
	int64_t drain_start_ms, kill_ms;
	unsigned drain_count; /* children to be told within it */
	unsigned drain_told;
};

/*
 * ---- a child -----------------------------------------------------------
 *
 * It works in the main thread.  A thread of its own would give it a malloc()
 * arena of its own, which saves copies of pages where the heap that is shared
 * with the supervisor has many holes.  It has few: OpenSSL's trust is a
 * directory that is read when it is needed.  Measured, the thread costs 16 kB.
 */

static _Noreturn void
be_child(struct supervisor *sup)
{
	const struct worker_sockets sockets = {
		.listener = sup->config->listener,
		.lifeline = sup->lifeline[0],
		.status = sup->status[1],
	};
	enum err err;

	/* a terminal's signals go to all: only the supervisor decides */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)close(sup->signal_fd);
	(void)close(sup->status[0]);
	(void)close(sup->lifeline[1]);
	err = worker_run(sup->worker, &sockets);
	if (err != ERR_OK)
		log_error("worker.failed", "reason=\"%s: %s\"", err_text(err),
		    strerror(errno));
	/* what the parent would do at its end is not ours to do */
	_exit(err == ERR_OK ? 0 : 1);
}

/* ---- the table --------------------------------------------------------- */

static struct child *
find_child(struct supervisor *sup, pid_t pid)
{
	for (unsigned i = 0; i < sup->count; i++)
		if (sup->children[i].pid == pid)
			return &sup->children[i];
	return NULL;
}

static void
add_child(struct supervisor *sup, pid_t pid)
{
	if (sup->count == sup->size) {
		sup->size = sup->size == 0 ? 16 : sup->size * 2;
		sup->children = xreallocarray(sup->children, sup->size,
		    sizeof(*sup->children));
	}
	sup->children[sup->count++] = (struct child){ .pid = pid };
}

static unsigned
count_waiting(const struct supervisor *sup)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sup->count; i++)
		n += !sup->children[i].full && !sup->children[i].told;
	return n;
}

static void
tell(struct child *child, int signo)
{
	child->told = true;
	(void)kill(child->pid, signo);
}

/* ---- starting ---------------------------------------------------------- */

/* Children that fail together count as one failure. */
static void
back_off(struct supervisor *sup, const char *why)
{
	if (clock_ms() < sup->start_ms)
		return;
	sup->backoff_ms =
	    sup->backoff_ms == 0 ? BACKOFF_MIN_MS : sup->backoff_ms * 2;
	if (sup->backoff_ms > BACKOFF_MAX_MS)
		sup->backoff_ms = BACKOFF_MAX_MS;
	sup->start_ms = clock_ms() + sup->backoff_ms;
	log_error("supervisor.start_failed", "reason=\"%s\" wait_ms=%lld", why,
	    (long long)sup->backoff_ms);
}

static void
start_children(struct supervisor *sup)
{
	unsigned waiting = count_waiting(sup);
	pid_t pid;

	while (!sup->draining && waiting < sup->config->spare &&
	    sup->count < sup->config->max_processes &&
	    clock_ms() >= sup->start_ms) {
		pid = fork();
		if (pid == 0)
			be_child(sup);
		if (pid == -1) {
			back_off(sup, strerror(errno));
			return;
		}
		add_child(sup, pid);
		waiting++;
	}
}

/* ---- what children do -------------------------------------------------- */

static void
read_status(struct supervisor *sup)
{
	struct worker_status status;
	struct child *child;

	while (read(sup->status[0], &status, sizeof(status)) ==
	    (ssize_t)sizeof(status)) {
		child = find_child(sup, status.pid);
		if (child == NULL)
			continue;
		if (child->told && !child->accepted) {
			/* retired in the moment in which it accepted */
			child->told = false;
			child->full = true;
			sup->drain_count += sup->draining;
		}
		child->accepted = true;
		child->full |= status.event == WORKER_FULL;
		sup->backoff_ms = 0;
		sup->start_ms = 0;
	}
}

static void
bury(struct supervisor *sup, pid_t pid, int status)
{
	struct child *child, dead;

	/* what it said before it died has arrived before its death */
	read_status(sup);
	child = find_child(sup, pid);
	if (child == NULL)
		return;
	dead = *child;
	*child = sup->children[--sup->count];
	if (WIFSIGNALED(status) && !dead.told)
		log_error("supervisor.child_died", "pid=%d signal=%d", (int)pid,
		    WTERMSIG(status));
	if (!dead.accepted && !dead.told)
		back_off(sup, "a process ended before it served");
}

static void
reap(struct supervisor *sup)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		bury(sup, pid, status);
}

/* ---- signals ----------------------------------------------------------- */

/*
 * Those that wait go; those that serve accept no more.  One signal does either,
 * because who has just accepted knows it before we do.
 */
static void
retire_waiting(struct supervisor *sup)
{
	for (unsigned i = 0; i < sup->count; i++) {
		struct child *child = &sup->children[i];

		if (child->told || child->full)
			continue;
		(void)kill(child->pid, SIGUSR1);
		child->told = !child->accepted;
	}
}

static void
start_drain(struct supervisor *sup)
{
	service_stopping();
	/* at once: somebody else may listen there while we drain */
	if (sup->config->listen_path != NULL)
		(void)unlink(sup->config->listen_path);
	(void)close(sup->config->listener);
	retire_waiting(sup);
	sup->draining = true;
	sup->drain_ms = sup->config->drain_ms;
	sup->drain_start_ms = clock_ms();
	sup->kill_ms = sup->drain_start_ms + sup->drain_ms + KILL_MS;
	for (unsigned i = 0; i < sup->count; i++)
		sup->drain_count += !sup->children[i].told;
	log_notice("supervisor.draining", "serving=%u seconds=%lld",
	    sup->drain_count, (long long)sup->drain_ms / 1000);
}

static void
stop_now(struct supervisor *sup)
{
	log_notice("supervisor.stopping", "processes=%u", sup->count);
	sup->drain_ms = 0;
	sup->kill_ms = clock_ms() + KILL_NOW_MS;
}

/*
 * Another supervisor takes our place: what runs goes on, and those that wait
 * leave by themselves when we do.
 */
static void
leave(struct supervisor *sup)
{
	unsigned serving = 0;

	service_stopping();
	if (sup->config->listen_path != NULL)
		(void)unlink(sup->config->listen_path);
	for (unsigned i = 0; i < sup->count; i++)
		serving += sup->children[i].accepted;
	log_notice("supervisor.leaving", "serving=%u", serving);
	sup->leaving = true;
}

static void
replace_waiting(struct supervisor *sup)
{
	service_reloading();
	log_notice("supervisor.replacing", "waiting=%u", count_waiting(sup));
	retire_waiting(sup);
	for (unsigned i = 0; i < sup->count; i++)
		sup->children[i].full |= sup->children[i].accepted;
	service_ready("serving");
}

static void
take_signals(struct supervisor *sup)
{
	struct signalfd_siginfo info;

	while (read(sup->signal_fd, &info, sizeof(info)) ==
	    (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(sup);
		else if (info.ssi_signo == SIGHUP) {
			if (!sup->draining)
				replace_waiting(sup);
		} else if (info.ssi_signo == SIGQUIT)
			leave(sup);
		else if (sup->draining)
			stop_now(sup);
		else
			start_drain(sup);
	}
}

/* Tell the next children to go, so that all have been told in time. */
static void
advance_drain(struct supervisor *sup)
{
	int64_t now = clock_ms(), elapsed = now - sup->drain_start_ms;
	uint64_t due = sup->drain_count;

	if (!sup->draining)
		return;
	if (elapsed < sup->drain_ms)
		due = 1 +
		    (uint64_t)elapsed * sup->drain_count /
			(uint64_t)sup->drain_ms;
	for (unsigned i = 0; i < sup->count && sup->drain_told < due; i++)
		if (!sup->children[i].told) {
			tell(&sup->children[i], SIGTERM);
			sup->drain_told++;
		}
	/* the turn of those that have left by themselves has passed too */
	if (sup->drain_told < due)
		sup->drain_told = (unsigned)due;
	if (now < sup->kill_ms)
		return;
	for (unsigned i = 0; i < sup->count; i++)
		tell(&sup->children[i], SIGKILL);
	sup->kill_ms = now + KILL_MS;
}

/* ---- the loop ---------------------------------------------------------- */

/* Milliseconds until something is to be done without an event, or -1. */
static int
next_timeout(const struct supervisor *sup)
{
	int64_t at = NEVER, now = clock_ms();

	if (sup->draining) {
		at = sup->kill_ms;
		if (sup->drain_told < sup->drain_count) {
			int64_t next = sup->drain_start_ms +
			    sup->drain_ms * sup->drain_told /
				(int64_t)sup->drain_count;

			at = next < at ? next : at;
		}
	} else if (sup->start_ms > now) {
		at = sup->start_ms;
	}
	if (at == NEVER)
		return -1;
	return at <= now ? 0 : (int)(at - now + 1);
}

static bool
open_descriptors(struct supervisor *sup)
{
	sigset_t set;
	int flags;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGQUIT);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGUSR1); /* for the children */
	if (sigprocmask(SIG_BLOCK, &set, NULL) == -1)
		return false;
	(void)sigdelset(&set, SIGUSR1);
	sup->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sup->signal_fd == -1 || pipe2(sup->status, O_CLOEXEC) == -1 ||
	    pipe2(sup->lifeline, O_CLOEXEC) == -1)
		return false;
	(void)fcntl(sup->status[0], F_SETFL, O_NONBLOCK);
	flags = fcntl(sup->config->listener, F_GETFL);
	return flags != -1 &&
	    fcntl(sup->config->listener, F_SETFL, flags | O_NONBLOCK) == 0;
}

static void
run(struct supervisor *sup)
{
	struct pollfd fds[] = {
		{ .fd = sup->signal_fd, .events = POLLIN },
		{ .fd = sup->status[0], .events = POLLIN },
	};

	for (;;) {
		start_children(sup);
		advance_drain(sup);
		if (sup->leaving || (sup->draining && sup->count == 0))
			return;
		(void)poll(fds, 2, next_timeout(sup));
		read_status(sup);
		take_signals(sup);
	}
}

enum err
supervisor_run(const struct supervisor_config *config, struct worker *worker,
    struct diag *diag)
{
	struct supervisor sup = { .config = config, .worker = worker };

	if (!open_descriptors(&sup)) {
		diag_set(diag, "cannot start: %s", strerror(errno));
		return ERR_SYS;
	}
	service_ready("serving");
	log_notice("supervisor.ready", "spare=%u max_processes=%u",
	    config->spare, config->max_processes);
	run(&sup);
	log_notice("supervisor.stopped", " ");
	free(sup.children);
	(void)close(sup.signal_fd);
	for (int i = 0; i < 2; i++) {
		(void)close(sup.status[i]);
		(void)close(sup.lifeline[i]);
	}
	return ERR_OK;
}
