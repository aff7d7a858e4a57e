/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_accept.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/xalloc.h"

/* After what would come again at once: no descriptors, no memory. */
#define PAUSE_MS      500
#define FULL_PAUSE_MS 50 /* whether there is room now */
#define TURN_MAX      64 /* that are sent away at a time */
#define LOG_EVERY_MS  60000

/* Accept no more for so long. */
static void
pause_accepting(struct control_server *srv, int64_t pause_ms)
{
	if (srv->accepting)
		(void)epoll_ctl(srv->epoll_fd, EPOLL_CTL_DEL, srv->listen_fd,
		    NULL);
	srv->accepting = false;
	srv->accept_again_ms = clock_ms() + pause_ms;
}

void
control_accept_begin(struct control_server *srv)
{
	srv->accepting =
	    control_connection_watch(srv, srv->listen_fd, &srv->listen_fd);
	if (!srv->accepting)
		srv->accept_again_ms = clock_ms() + PAUSE_MS;
}

static bool
has_room(const struct control_server *srv)
{
	return srv->waiting_count < CONTROL_WAITING_MAX &&
	    srv->tunnels_count < CONTROL_TUNNELS_MAX;
}

/* What it has said is still to be read, or it is gone, which its event says. */
static bool
has_event(const struct control_connection *conn)
{
	struct pollfd pfd = { .fd = conn->fd, .events = POLLIN };

	return poll(&pfd, 1, 0) != 0;
}

/* The one that is to make room for another tunnel; NULL: none. */
static struct control_connection *
find_stale(const struct control_server *srv, int64_t now_ms)
{
	struct control_connection *conn;

	TAILQ_FOREACH (conn, &srv->waiting, entry) {
		if (conn->deadline_ms - srv->silence_ms + CONTROL_IDLE_MS >
		    now_ms)
			break;
		if (!conn->peer.is_operator &&
		    (conn->state == CONTROL_STATE_IDLE ||
			conn->state == CONTROL_STATE_DENIED) &&
		    !has_event(conn))
			return conn;
	}
	return NULL;
}

/* Whether the next one may be taken from the queue, whoever it is. */
static bool
may_accept(const struct control_server *srv, int64_t now_ms)
{
	if (has_room(srv))
		return true;
	if (srv->waiting_count >= CONTROL_WAITING_MAX)
		return false;
	return now_ms - srv->full_ms >= CONTROL_FULL_MS ||
	    find_stale(srv, now_ms) != NULL;
}

/* Have room for one more tunnel; false where there is none. */
static bool
make_room(struct control_server *srv)
{
	struct control_connection *stale;

	if (srv->tunnels_count < CONTROL_TUNNELS_MAX)
		return true;
	stale = find_stale(srv, clock_ms());
	if (stale == NULL)
		return false;
	control_connection_drop(srv, stale, CONTROL_CROWDED, NULL);
	srv->crowded++;
	srv->full_ms = clock_ms();
	return true;
}

/* Take a new descriptor into the loop, or close it; false: for lack of room. */
static bool
adopt(struct control_server *srv, int fd)
{
	struct control_connection *conn;
	struct control_peer peer;

	if (!control_peer_get(fd, &peer)) {
		log_warning("control.refused", "pid=%d uid=%d",
		    (int)peer.cred.pid, (int)peer.cred.uid);
		(void)close(fd);
		return true;
	}
	if (!peer.is_operator && !make_room(srv)) {
		(void)close(fd);
		srv->crowded++;
		return false;
	}
	conn = xcalloc(1, sizeof(*conn));
	if (!control_connection_watch(srv, fd, conn)) {
		log_error("control.accept_failed", "reason=\"%s\"",
		    strerror(errno));
		(void)close(fd);
		free(conn);
		return true;
	}
	conn->fd = fd;
	conn->peer = peer;
	control_connection_add(srv, conn, CONTROL_STATE_IDLE);
	return true;
}

void
control_accept_all(struct control_server *srv)
{
	int sent_away = 0;

	while (sent_away < TURN_MAX && may_accept(srv, clock_ms())) {
		int fd = accept4(srv->listen_fd, NULL, NULL,
		    SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd != -1) {
			sent_away += !adopt(srv, fd);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			/* EMFILE and the like: it would come at once again */
			log_warning("control.accept_paused", "reason=\"%s\"",
			    strerror(errno));
			pause_accepting(srv, PAUSE_MS);
			return;
		}
	}
	pause_accepting(srv, FULL_PAUSE_MS);
}

void
control_accept_tick(struct control_server *srv, int64_t now_ms)
{
	bool full = !has_room(srv);

	if (!full)
		srv->full_ms = now_ms;
	if (!srv->accepting &&
	    (now_ms >= srv->accept_again_ms || (srv->full && !full)))
		control_accept_begin(srv);
	srv->full = full;
	if (srv->crowded > 0 && now_ms >= srv->crowded_log_ms) {
		log_warning("control.crowded", "dropped=%u", srv->crowded);
		srv->crowded = 0;
		srv->crowded_log_ms = now_ms + LOG_EVERY_MS;
	}
}

int64_t
control_accept_next_ms(const struct control_server *srv)
{
	return srv->accepting ? INT64_MAX : srv->accept_again_ms;
}
