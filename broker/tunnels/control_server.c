/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/tunnels/control_accept.h"
#include "broker/tunnels/control_connection.h"
#include "broker/tunnels/control_jobs.h"
#include "broker/tunnels/control_operator.h"
#include "broker/tunnels/control_revocations.h"
#include "broker/tunnels/control_tunnel.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/wire.h"
#include "common/xalloc.h"

#define EVENTS_MAX	64
#define PACKETS_PER_S	50 /* of one peer */
#define RESOLVE_TICK_MS 200
#define SWEEP_MS	1000

const struct control_server_options control_server_defaults = {
	.lookup = resolver_system,
	.lookup_ms = 4000, /* a tunnel waits 5 s for its answer */
	.silence_ms = 10000,
	.overdue_ms = 30000,
	.closing_ms = 60000,
	.ended_ms = 660000, /* a tunnel waits for ten minutes */
};

static struct control_server *server;

/* ---- what peers ask ---------------------------------------------------- */

/* Act on a packet, which is this function's. */
static void
handle(struct control_server *srv, struct control_connection *conn,
    struct wire_packet *packet)
{
	if (conn->state == CONTROL_STATE_IDLE && packet->type == WIRE_OPEN) {
		control_tunnel_open(srv, conn, packet);
		return;
	}
	if (conn->state == CONTROL_STATE_IDLE &&
	    control_operator_is_order(packet)) {
		control_operator_obey(srv, conn, packet);
		return;
	}
	if (conn->state == CONTROL_STATE_LEASED)
		control_tunnel_take(srv, conn, packet);
	else if (conn->state == CONTROL_STATE_IDLE &&
	    packet->type == WIRE_RESUME)
		control_tunnel_resume(srv, conn, &packet->resume);
	else
		control_connection_drop(srv, conn, CONTROL_UNEXPECTED, NULL);
	wire_packet_free(packet);
}

static bool
is_flooding(struct control_connection *conn)
{
	int64_t now_ms = clock_ms();

	if (now_ms - conn->second_ms >= 1000) {
		conn->second_ms = now_ms;
		conn->packets = 0;
	}
	return ++conn->packets > PACKETS_PER_S;
}

/* One packet a turn: nobody keeps the others waiting. */
static void
read_packet(struct control_server *srv, struct control_connection *conn)
{
	ssize_t n = recv(conn->fd, srv->packet, sizeof(srv->packet),
	    MSG_DONTWAIT | MSG_TRUNC);
	struct wire_packet *packet;
	enum err err;

	/*
	 * A peer that died with packets of ours unread is a reset, once, and
	 * what it sent before is still to be read.
	 */
	if (n == -1 &&
	    (errno == EAGAIN || errno == EINTR || errno == ECONNRESET))
		return;
	if (n <= 0) {
		control_connection_drop(srv, conn, CONTROL_DISCONNECTED, NULL);
	} else if (n > WIRE_MAX_BYTES) {
		control_connection_drop(srv, conn, CONTROL_TOO_LARGE, NULL);
	} else if (is_flooding(conn)) {
		control_connection_drop(srv, conn, CONTROL_TOO_MANY, NULL);
	} else {
		err = wire_parse(srv->packet, (size_t)n, &packet, NULL);
		/* a client's headers may hold credentials */
		explicit_bzero(srv->packet, (size_t)n);
		if (err == ERR_OK)
			handle(srv, conn, packet);
		else
			control_connection_drop(srv, conn, CONTROL_MALFORMED,
			    NULL);
	}
}

/* ---- the loop ---------------------------------------------------------- */

static void
expire(struct control_server *srv, int64_t now_ms)
{
	struct control_connection *conn;

	while ((conn = TAILQ_FIRST(&srv->waiting)) != NULL &&
	    conn->deadline_ms <= now_ms) {
		/* the silence is ours */
		if (conn->state == CONTROL_STATE_ASKING ||
		    conn->state == CONTROL_STATE_DECIDING)
			control_connection_set(srv, conn, conn->state);
		else
			control_connection_drop(srv, conn, CONTROL_SILENT,
			    NULL);
	}
}

/* Milliseconds until something is due; -1 for nothing. */
static int
next_timeout_ms(const struct control_server *srv, int64_t now_ms)
{
	const struct control_connection *first = TAILQ_FIRST(&srv->waiting);
	int64_t wait_ms = INT32_MAX;

	if (first != NULL)
		wait_ms = first->deadline_ms - now_ms;
	if (wait_ms > srv->load_ms - now_ms)
		wait_ms = srv->load_ms - now_ms;
	if (srv->resolving_count > 0 && wait_ms > RESOLVE_TICK_MS)
		wait_ms = RESOLVE_TICK_MS;
	if (wait_ms > control_ends_next_ms(srv->ends) - now_ms)
		wait_ms = control_ends_next_ms(srv->ends) - now_ms;
	if (wait_ms > control_accept_next_ms(srv) - now_ms)
		wait_ms = control_accept_next_ms(srv) - now_ms;
	if (wait_ms == INT32_MAX)
		return -1;
	return wait_ms < 0 ? 0 : (int)wait_ms;
}

/* Handle one event; false when the server is to stop. */
static bool
dispatch(struct control_server *srv, void *source)
{
	if (source == &srv->stop_fd)
		return false;
	if (source == &srv->listen_fd) {
		srv->ready = true;
	} else if (source == &srv->questions) {
		srv->answered = true;
	} else if (source == &srv->asks) {
		srv->asked = true;
	} else if (source == &srv->jobs) {
		srv->decided = true;
	} else if (source == &srv->resolver) {
		resolver_clear(srv->resolver);
		srv->retry_ms = 0;
	} else {
		read_packet(srv, source);
	}
	return true;
}

/*
 * What time brings, and what may drop another connection than the event's:
 * after the events, of which none is that connection's any more.
 */
static void
tick(struct control_server *srv, int64_t now_ms)
{
	if (srv->answered)
		control_operator_answer(srv);
	if (srv->asked) {
		srv->asked = false;
		control_tunnel_answer(srv);
	}
	if (srv->decided) {
		srv->decided = false;
		control_jobs_finish(srv->jobs, srv);
	}
	control_revocations_tick(srv, now_ms);
	if (now_ms >= srv->retry_ms) {
		srv->retry_ms = now_ms + RESOLVE_TICK_MS;
		control_tunnel_retry(srv);
	}
	expire(srv, now_ms);
	if (now_ms >= srv->sweep_ms) {
		srv->sweep_ms = now_ms + SWEEP_MS;
		control_tunnel_sweep(srv, now_ms);
	}
	if (srv->ready) {
		srv->ready = false;
		control_accept_all(srv);
	}
	control_accept_tick(srv, now_ms);
	control_ends_tick(srv->ends, srv->jobs, now_ms);
}

static void *
run(void *arg)
{
	struct epoll_event events[EVENTS_MAX];
	struct control_server *srv = arg;
	bool go_on = true;

	while (go_on) {
		int n = epoll_wait(srv->epoll_fd, events, EVENTS_MAX,
		    next_timeout_ms(srv, clock_ms()));

		for (int i = 0; i < n; i++)
			go_on &= dispatch(srv, events[i].data.ptr);
		tick(srv, clock_ms());
	}
	return NULL;
}

/* ---- start and stop ---------------------------------------------------- */

static void
drop_all(struct control_server *srv, struct control_connections *connections)
{
	struct control_connection *conn;

	while ((conn = TAILQ_FIRST(connections)) != NULL)
		control_connection_drop(srv, conn, CONTROL_STOPPED, NULL);
}

/* Free a server whose thread does not run, half-built ones too. */
static void
server_free(struct control_server *srv)
{
	drop_all(srv, &srv->waiting);
	drop_all(srv, &srv->leased);
	control_revocations_stop();
	/* what they decide now is for nobody any more */
	control_jobs_free(srv->jobs, srv);
	control_ends_free(srv->ends);
	control_asks_free(srv->asks);
	control_questions_free(srv->questions);
	resolver_free(srv->resolver);
	leases_free(srv->leases);
	refusals_free(srv->refusals);
	if (srv->epoll_fd != -1)
		(void)close(srv->epoll_fd);
	if (srv->stop_fd != -1)
		(void)close(srv->stop_fd);
	free(srv);
}

static enum err
server_start(struct control_server *srv,
    const struct control_server_options *options, struct diag *diag)
{
	int flags = fcntl(srv->listen_fd, F_GETFL);
	enum err err;

	err = resolver_new(options->lookup, options->lookup_ms, &srv->resolver,
	    diag);
	if (err == ERR_OK)
		err = control_questions_new(&srv->questions, diag);
	if (err == ERR_OK)
		err = control_jobs_new(&srv->jobs, diag);
	if (err == ERR_OK)
		err = control_ends_new(&srv->ends, diag);
	if (err == ERR_OK)
		err =
		    control_asks_new(&control_asks_defaults, &srv->asks, diag);
	if (err != ERR_OK)
		return err;
	srv->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	srv->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* a socket that systemd passed may be blocking */
	if (srv->epoll_fd == -1 || srv->stop_fd == -1 || flags == -1 ||
	    fcntl(srv->listen_fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    !control_connection_watch(srv, srv->stop_fd, &srv->stop_fd) ||
	    !control_connection_watch(srv, resolver_fd(srv->resolver),
		&srv->resolver) ||
	    !control_connection_watch(srv, control_questions_fd(srv->questions),
		&srv->questions) ||
	    !control_connection_watch(srv, control_asks_fd(srv->asks),
		&srv->asks) ||
	    !control_connection_watch(srv, control_jobs_fd(srv->jobs),
		&srv->jobs)) {
		diag_set(diag, "the control server cannot start: %s",
		    strerror(errno));
		return ERR_SYS;
	}
	control_accept_begin(srv);
	control_revocations_start();
	return thread_start(&srv->thread, "control", run, srv, diag);
}

enum err
control_server_start(int listen_fd,
    const struct control_server_options *options, struct diag *diag)
{
	struct control_server *srv = xcalloc(1, sizeof(*srv));
	enum err err;

	TAILQ_INIT(&srv->waiting);
	TAILQ_INIT(&srv->leased);
	srv->listen_fd = listen_fd;
	srv->epoll_fd = -1;
	srv->stop_fd = -1;
	srv->silence_ms = options->silence_ms;
	srv->overdue_ms = options->overdue_ms;
	srv->closing_ms = options->closing_ms;
	srv->ended_ms = options->ended_ms;
	srv->leases = leases_new();
	srv->refusals = refusals_new();
	err = server_start(srv, options, diag);
	if (err != ERR_OK) {
		server_free(srv);
		return err;
	}
	server = srv;
	return ERR_OK;
}

void
control_server_stop(void)
{
	if (server == NULL)
		return;
	(void)eventfd_write(server->stop_fd, 1);
	(void)pthread_join(server->thread, NULL);
	server_free(server);
	server = NULL;
}
