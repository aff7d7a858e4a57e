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

#include "broker/anam/anam_route.h"
#include "broker/config/config.h"
#include "broker/store/ledger.h"
#include "broker/store/message_file.h"
#include "broker/tunnels/control_log.h"
#include "broker/tunnels/control_peer.h"
#include "broker/tunnels/control_report.h"
#include "broker/tunnels/leases.h"
#include "broker/tunnels/tunnel_route.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/wire.h"
#include "common/xalloc.h"

#define EVENTS_MAX	  64
#define WITHOUT_LEASE_MAX 256 /* connections that have no lease */
#define PACKETS_PER_S	  50  /* of one peer */
#define RESOLVE_TICK_MS	  200
#define ACCEPT_PAUSE_MS	  500
#define LIST_BYTES	  (WIRE_MAX_BYTES - 1024)

const struct control_server_options control_server_defaults = {
	.lookup = resolver_system,
	.lookup_ms = 4000, /* a tunnel waits 5 s for its answer */
	.silence_ms = 10000,
};

enum state {
	STATE_IDLE,	 /* may ask, and has to soon */
	STATE_RESOLVING, /* asked; the answer waits for a name */
	STATE_LEASED,	 /* its tunnel is open */
	STATE_DENIED,	 /* has its refusal, and goes */
	STATE_REPORTING, /* asked; the answer waits for the ledger */
};

struct connection {
	int fd;
	enum state state;
	struct control_peer peer;
	int64_t deadline_ms; /* without a lease */
	int64_t second_ms;   /* when the count below began */
	unsigned packets;
	struct wire_packet *open; /* while resolving ... */
	struct config *config;	  /* ... and what it began with */
	struct lease *lease;
	bool superseded;	   /* was told to make room for another */
	struct wire_limits limits; /* what its tunnel was told last */
	TAILQ_ENTRY(connection) entry;
};

TAILQ_HEAD(connections, connection);

struct server {
	int listen_fd, epoll_fd, stop_fd;
	struct control_server_options options;
	struct resolver *resolver;
	struct leases *leases;
	struct refusals *refusals;
	struct control_report *report;
	struct connection *reporting; /* whose it is; NULL: it has left */
	bool reported;		      /* its answer is there */
	/* Those without a lease, by deadline; those with one. */
	struct connections waiting, leased;
	unsigned waiting_count, resolving_count;
	int64_t retry_ms; /* when those that resolve ask again */
	bool accepting;
	int64_t accept_again_ms; /* while not accepting */
	pthread_t thread;
	char packet[WIRE_MAX_BYTES + 1];
};

static struct server *server;

/* The loop tells sources apart by their address. */
static bool
watch(struct server *srv, int fd, void *source)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = source };

	return epoll_ctl(srv->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* ---- connections ------------------------------------------------------- */

static void
stop_accepting(struct server *srv, int64_t pause_ms)
{
	if (srv->accepting)
		(void)epoll_ctl(srv->epoll_fd, EPOLL_CTL_DEL, srv->listen_fd,
		    NULL);
	srv->accepting = false;
	srv->accept_again_ms = clock_ms() + pause_ms;
}

static void
start_accepting(struct server *srv)
{
	srv->accepting = watch(srv, srv->listen_fd, &srv->listen_fd);
	if (!srv->accepting)
		srv->accept_again_ms = clock_ms() + ACCEPT_PAUSE_MS;
}

/* Take it out of its state, with what that state holds. */
static void
leave_state(struct server *srv, struct connection *conn)
{
	if (conn->state == STATE_LEASED) {
		TAILQ_REMOVE(&srv->leased, conn, entry);
		return;
	}
	TAILQ_REMOVE(&srv->waiting, conn, entry);
	srv->waiting_count--;
	if (conn->state != STATE_RESOLVING)
		return;
	srv->resolving_count--;
	wire_packet_free(conn->open);
	config_unref(conn->config);
	conn->open = NULL;
	conn->config = NULL;
}

/* All waits are equally long: the list is in the order of its deadlines. */
static void
enter_state(struct server *srv, struct connection *conn, enum state state)
{
	conn->state = state;
	if (state == STATE_LEASED) {
		TAILQ_INSERT_TAIL(&srv->leased, conn, entry);
		return;
	}
	conn->deadline_ms = clock_ms() + srv->options.silence_ms;
	TAILQ_INSERT_TAIL(&srv->waiting, conn, entry);
	srv->waiting_count++;
	if (state == STATE_RESOLVING)
		srv->resolving_count++;
}

static void
set_state(struct server *srv, struct connection *conn, enum state state)
{
	leave_state(srv, conn);
	enter_state(srv, conn, state);
}

/* The one exit of a connection: with it ends its lease. */
static void
drop(struct server *srv, struct connection *conn, enum control_cause cause,
    const struct wire_usage *end)
{
	control_log_end(&conn->peer.cred,
	    conn->lease == NULL ? NULL : lease_peek(conn->lease), cause, end);
	if (srv->reporting == conn)
		srv->reporting = NULL;
	lease_release(conn->lease);
	leave_state(srv, conn);
	/* close() alone would not do where a forked child has it too */
	(void)epoll_ctl(srv->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	(void)close(conn->fd);
	free(conn);
	if (!srv->accepting)
		srv->accept_again_ms = clock_ms();
}

/*
 * Send one packet, with a descriptor or -1, or drop the peer.  Nothing is ever
 * queued: what a peer may be sent before it has read the last is less than its
 * socket holds.
 */
static void
send_with(struct server *srv, struct connection *conn,
    const struct wire_packet *packet, int fd)
{
	bool sent;
	enum err err;
	size_t len;
	char *text;
	int error;

	err = wire_format(packet, &text, &len);
	if (err != ERR_OK) {
		log_error("control.format", "type=%d reason=\"%s\"",
		    (int)packet->type, err_text(err));
		drop(srv, conn, CONTROL_INTERNAL, NULL);
		return;
	}
	sent = control_peer_send(conn->fd, text, len, fd);
	error = errno;
	wire_text_free(text, len);
	if (!sent)
		drop(srv, conn,
		    error == EAGAIN ? CONTROL_NOT_READING
				    : CONTROL_DISCONNECTED,
		    NULL);
}

static void
send_packet(struct server *srv, struct connection *conn,
    const struct wire_packet *packet)
{
	send_with(srv, conn, packet, -1);
}

/* ---- what peers ask ---------------------------------------------------- */

/* Have a tunnel end itself; that of another connection than the event's. */
static void
order_close(struct connection *tunnel, int code, const char *reason)
{
	struct wire_packet *packet = wire_packet_new(WIRE_CLOSE);
	char *text;
	size_t len;

	log_notice("lease.close", "lease=%s code=%d",
	    lease_peek(tunnel->lease)->id, code);
	packet->close.code = code;
	packet->close.reason = xstrdup(reason);
	if (wire_format(packet, &text, &len) == ERR_OK) {
		/* it may have an event of its own in this turn: no drop() */
		if (send(tunnel->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) ==
		    -1)
			(void)shutdown(tunnel->fd, SHUT_RDWR);
		wire_text_free(text, len);
	}
	wire_packet_free(packet);
}

/*
 * A client of Anam's opens a new socket before it knows that the old one is
 * dead: past the maximum, the session's oldest makes room.
 */
static void
supersede(struct server *srv, const struct lease_info *new)
{
	struct connection *conn, *oldest = NULL;
	unsigned count = 0;

	if (strcmp(new->route, ANAM_ROUTE) != 0)
		return;
	TAILQ_FOREACH (conn, &srv->leased, entry) {
		const struct lease_info *info = lease_peek(conn->lease);

		if (conn->superseded || strcmp(info->route, ANAM_ROUTE) != 0 ||
		    strcmp(info->session, new->session) != 0)
			continue;
		count++;
		if (oldest == NULL)
			oldest = conn;
	}
	if (count <= ANAM_SOCKETS_MAX)
		return;
	oldest->superseded = true;
	order_close(oldest, 1000, "superseded");
}

/* fd is the tunnel's upstream; -1 where it dials one. */
static void
grant(struct server *srv, struct connection *conn, struct lease *lease,
    const struct wire_packet *packet, int fd)
{
	const struct lease_info *info = lease_peek(lease);

	conn->lease = lease;
	conn->limits = packet->grant.limits;
	set_state(srv, conn, STATE_LEASED);
	log_info("lease.open", "lease=%s session=%s route=%s client=%s pid=%d",
	    info->id, info->session, info->route, info->client,
	    (int)conn->peer.cred.pid);
	supersede(srv, info);
	send_with(srv, conn, packet, fd);
}

static void
deny(struct server *srv, struct connection *conn, enum err err, json_t *body,
    const struct diag *diag)
{
	struct wire_packet *packet = tunnel_route_deny(err, diag);

	packet->deny.body = body;
	set_state(srv, conn, STATE_DENIED);
	send_packet(srv, conn, packet);
	wire_packet_free(packet);
}

/* Decide on a connection in STATE_RESOLVING; it stays there on ERR_AGAIN. */
static void
decide(struct server *srv, struct connection *conn)
{
	const struct tunnel_route_context context = {
		.config = conn->config,
		.resolver = srv->resolver,
		.leases = srv->leases,
		.refusals = srv->refusals,
	};
	const struct wire_open *open = &conn->open->open;
	struct diag diag = { "" };
	struct wire_packet *packet;
	json_t *body = NULL;
	struct lease *lease;
	enum err err;
	int fd = -1;

	err =
	    tunnel_route_decide(&context, open, &packet, &lease, &body, &diag);
	if (err == ERR_OK && packet->grant.upstream.passed)
		fd = tunnel_route_connect(open);
	if (err == ERR_OK) {
		grant(srv, conn, lease, packet, fd);
		wire_packet_free(packet);
	} else if (err != ERR_AGAIN) {
		control_log_denied(open, err, &diag);
		deny(srv, conn, err, body, &diag);
	}
	if (fd != -1)
		(void)close(fd);
}

/* Answer an operator, who may ask again; takes the value. */
static void
reply(struct server *srv, struct connection *conn, json_t *value)
{
	struct wire_packet *packet = wire_packet_new(WIRE_REPLY);

	packet->reply = value;
	set_state(srv, conn, STATE_IDLE);
	send_packet(srv, conn, packet);
	wire_packet_free(packet);
}

static void
start_report(struct server *srv, struct connection *conn,
    const struct wire_report *question)
{
	struct diag diag;
	enum err err =
	    control_report_start(srv->report, question, LIST_BYTES, &diag);

	if (err != ERR_OK) {
		reply(srv, conn, control_report_error(err, &diag));
		return;
	}
	set_state(srv, conn, STATE_REPORTING);
	srv->reporting = conn;
}

static void
end_report(struct server *srv)
{
	json_t *answer = control_report_take(srv->report);
	struct connection *conn = srv->reporting;

	srv->reporting = NULL;
	srv->reported = false;
	if (conn != NULL)
		reply(srv, conn, answer);
	else
		json_decref(answer);
}

static struct connection *
find_lease(struct server *srv, const char *id)
{
	struct connection *conn;

	TAILQ_FOREACH (conn, &srv->leased, entry)
		if (strcmp(lease_peek(conn->lease)->id, id) == 0)
			return conn;
	return NULL;
}

/* An operator's order to a tunnel, which ends by itself then. */
static void
close_tunnel(struct server *srv, struct connection *conn,
    const struct wire_close *order)
{
	struct connection *tunnel = find_lease(srv, order->lease);

	reply(srv, conn, json_pack("{s:b}", "closed", tunnel != NULL));
	if (tunnel != NULL)
		order_close(tunnel, order->code, order->reason);
}

/* What a tunnel has used, while it runs and when it ends. */
static void
book(const struct connection *conn, const struct wire_usage *usage)
{
	lease_update(conn->lease, usage);
	ledger_add(lease_peek(conn->lease), usage->events);
}

/* A report: limits that a reload has changed are the answer to it. */
static void
take_usage(struct server *srv, struct connection *conn,
    const struct wire_usage *usage)
{
	struct config *config = config_current();
	const struct config_relay *relay =
	    config_find_relay_by_name(config, lease_peek(conn->lease)->route);
	struct wire_packet *packet;

	book(conn, usage);
	if (relay != NULL &&
	    memcmp(&relay->limits, &conn->limits, sizeof(conn->limits)) != 0) {
		conn->limits = relay->limits;
		packet = wire_packet_new(WIRE_LIMITS);
		packet->limits = relay->limits;
		send_packet(srv, conn, packet);
		wire_packet_free(packet);
	}
	config_unref(config);
}

/* Records for the route's message log, if it has one by now. */
static void
take_log(const struct connection *conn, const struct wire_log *log)
{
	const struct lease_info *info = lease_peek(conn->lease);
	struct config *config = config_current();
	const struct config_relay *relay =
	    config_find_relay_by_name(config, info->route);

	if (relay != NULL && relay->message_log.mode != NULL)
		message_file_write(
		    &(const struct message_file){
			.path = relay->message_log.file,
			.max_bytes = relay->message_log.max_bytes,
			.keep = relay->message_log.keep,
			.content = strcmp(relay->message_log.mode, "full") == 0,
		    },
		    info, log);
	config_unref(config);
}

/* What an operator may ask; true where it was that. */
static bool
obey(struct server *srv, struct connection *conn,
    const struct wire_packet *packet)
{
	bool is_order = packet->type == WIRE_LIST ||
	    packet->type == WIRE_REPORT ||
	    (packet->type == WIRE_CLOSE && packet->close.lease != NULL);

	if (conn->state != STATE_IDLE || !is_order)
		return false;
	if (!conn->peer.is_operator)
		drop(srv, conn, CONTROL_NOT_ALLOWED, NULL);
	else if (packet->type == WIRE_LIST)
		reply(srv, conn, leases_list(srv->leases, LIST_BYTES));
	else if (packet->type == WIRE_REPORT)
		start_report(srv, conn, &packet->report);
	else
		close_tunnel(srv, conn, &packet->close);
	return true;
}

/* Act on a packet, which is this function's. */
static void
handle(struct server *srv, struct connection *conn, struct wire_packet *packet)
{
	enum wire_type type = packet->type;

	if (conn->state == STATE_IDLE && type == WIRE_OPEN) {
		set_state(srv, conn, STATE_RESOLVING);
		conn->open = packet;
		conn->config = config_current();
		decide(srv, conn);
		return;
	}
	if (obey(srv, conn, packet)) {
		/* done */
	} else if (conn->state == STATE_LEASED && type == WIRE_USAGE) {
		take_usage(srv, conn, &packet->usage);
	} else if (conn->state == STATE_LEASED && type == WIRE_LOG) {
		take_log(conn, &packet->log);
	} else if (conn->state == STATE_LEASED && type == WIRE_END) {
		book(conn, &packet->usage);
		drop(srv, conn, CONTROL_ENDED, &packet->usage);
	} else {
		drop(srv, conn, CONTROL_UNEXPECTED, NULL);
	}
	wire_packet_free(packet);
}

static bool
is_flooding(struct connection *conn)
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
read_packet(struct server *srv, struct connection *conn)
{
	ssize_t n = recv(conn->fd, srv->packet, sizeof(srv->packet),
	    MSG_DONTWAIT | MSG_TRUNC);
	struct wire_packet *packet;
	enum err err;

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(srv, conn, CONTROL_DISCONNECTED, NULL);
	} else if (n > WIRE_MAX_BYTES) {
		drop(srv, conn, CONTROL_TOO_LARGE, NULL);
	} else if (is_flooding(conn)) {
		drop(srv, conn, CONTROL_TOO_MANY, NULL);
	} else {
		err = wire_parse(srv->packet, (size_t)n, &packet, NULL);
		/* a client's headers may hold credentials */
		explicit_bzero(srv->packet, (size_t)n);
		if (err == ERR_OK)
			handle(srv, conn, packet);
		else
			drop(srv, conn, CONTROL_MALFORMED, NULL);
	}
}

/* ---- accepting --------------------------------------------------------- */

/* Take a new descriptor into the loop, or close it. */
static void
adopt(struct server *srv, int fd)
{
	struct connection *conn;
	struct control_peer peer;

	if (!control_peer_get(fd, &peer)) {
		log_warning("control.refused", "pid=%d uid=%d",
		    (int)peer.cred.pid, (int)peer.cred.uid);
		(void)close(fd);
		return;
	}
	conn = xcalloc(1, sizeof(*conn));
	if (!watch(srv, fd, conn)) {
		log_error("control.accept_failed", "reason=\"%s\"",
		    strerror(errno));
		(void)close(fd);
		free(conn);
		return;
	}
	conn->fd = fd;
	conn->peer = peer;
	enter_state(srv, conn, STATE_IDLE);
}

/* Whether there are as many connections without a lease as there may be. */
static bool
is_full(const struct server *srv)
{
	return srv->waiting_count >= WITHOUT_LEASE_MAX;
}

static void
accept_all(struct server *srv)
{
	while (!is_full(srv)) {
		int fd = accept4(srv->listen_fd, NULL, NULL,
		    SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd != -1) {
			adopt(srv, fd);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			/* EMFILE and the like: it would come at once again */
			log_warning("control.accept_paused", "reason=\"%s\"",
			    strerror(errno));
			stop_accepting(srv, ACCEPT_PAUSE_MS);
			return;
		}
	}
	/* until one of them has its lease, or goes */
	stop_accepting(srv, 0);
}

/* ---- the loop ---------------------------------------------------------- */

/* Ask again for those whose upstream's name was not known yet. */
static void
retry_resolving(struct server *srv)
{
	struct connection *conn, *next;

	for (conn = TAILQ_FIRST(&srv->waiting); conn != NULL; conn = next) {
		/* it may be dropped, or go to the tail */
		next = TAILQ_NEXT(conn, entry);
		if (conn->state == STATE_RESOLVING)
			decide(srv, conn);
	}
}

static void
expire(struct server *srv, int64_t now_ms)
{
	struct connection *conn;

	while ((conn = TAILQ_FIRST(&srv->waiting)) != NULL &&
	    conn->deadline_ms <= now_ms) {
		/* the silence is ours */
		if (conn->state == STATE_REPORTING)
			set_state(srv, conn, STATE_REPORTING);
		else
			drop(srv, conn, CONTROL_SILENT, NULL);
	}
}

/* Milliseconds until something is due; -1 for nothing. */
static int
next_timeout_ms(const struct server *srv, int64_t now_ms)
{
	const struct connection *first = TAILQ_FIRST(&srv->waiting);
	int64_t wait_ms = INT32_MAX;

	if (first != NULL)
		wait_ms = first->deadline_ms - now_ms;
	if (srv->resolving_count > 0 && wait_ms > RESOLVE_TICK_MS)
		wait_ms = RESOLVE_TICK_MS;
	if (!srv->accepting && !is_full(srv) &&
	    wait_ms > srv->accept_again_ms - now_ms)
		wait_ms = srv->accept_again_ms - now_ms;
	if (wait_ms == INT32_MAX)
		return -1;
	return wait_ms < 0 ? 0 : (int)wait_ms;
}

/* Handle one event; false when the server is to stop. */
static bool
dispatch(struct server *srv, void *source)
{
	if (source == &srv->stop_fd)
		return false;
	if (source == &srv->listen_fd) {
		accept_all(srv);
	} else if (source == &srv->report) {
		srv->reported = true;
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
tick(struct server *srv, int64_t now_ms)
{
	if (srv->reported)
		end_report(srv);
	if (now_ms >= srv->retry_ms) {
		srv->retry_ms = now_ms + RESOLVE_TICK_MS;
		retry_resolving(srv);
	}
	expire(srv, now_ms);
	if (!srv->accepting && !is_full(srv) && now_ms >= srv->accept_again_ms)
		start_accepting(srv);
}

static void *
run(void *arg)
{
	struct epoll_event events[EVENTS_MAX];
	struct server *srv = arg;
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
drop_all(struct server *srv, struct connections *connections)
{
	struct connection *conn;

	while ((conn = TAILQ_FIRST(connections)) != NULL)
		drop(srv, conn, CONTROL_STOPPED, NULL);
}

/* Free a server whose thread does not run, half-built ones too. */
static void
server_free(struct server *srv)
{
	drop_all(srv, &srv->waiting);
	drop_all(srv, &srv->leased);
	control_report_free(srv->report);
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
server_start(struct server *srv, struct diag *diag)
{
	int flags = fcntl(srv->listen_fd, F_GETFL);
	enum err err;

	err = resolver_new(srv->options.lookup, srv->options.lookup_ms,
	    &srv->resolver, diag);
	if (err == ERR_OK)
		err = control_report_new(&srv->report, diag);
	if (err != ERR_OK)
		return err;
	srv->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	srv->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* a socket that systemd passed may be blocking */
	if (srv->epoll_fd == -1 || srv->stop_fd == -1 || flags == -1 ||
	    fcntl(srv->listen_fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    !watch(srv, srv->stop_fd, &srv->stop_fd) ||
	    !watch(srv, resolver_fd(srv->resolver), &srv->resolver) ||
	    !watch(srv, control_report_fd(srv->report), &srv->report)) {
		diag_set(diag, "the control server cannot start: %s",
		    strerror(errno));
		return ERR_SYS;
	}
	start_accepting(srv);
	return thread_start(&srv->thread, "control", run, srv, diag);
}

enum err
control_server_start(int listen_fd,
    const struct control_server_options *options, struct diag *diag)
{
	struct server *srv = xcalloc(1, sizeof(*srv));
	enum err err;

	TAILQ_INIT(&srv->waiting);
	TAILQ_INIT(&srv->leased);
	srv->listen_fd = listen_fd;
	srv->epoll_fd = -1;
	srv->stop_fd = -1;
	srv->options = *options;
	srv->leases = leases_new();
	srv->refusals = refusals_new();
	err = server_start(srv, diag);
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
