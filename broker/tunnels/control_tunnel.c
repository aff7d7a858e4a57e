/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_tunnel.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/anam/anam_route.h"
#include "broker/config/config.h"
#include "broker/limits/subjects.h"
#include "broker/store/message_file.h"
#include "broker/tunnels/control_revocations.h"
#include "broker/tunnels/lease_resume.h"
#include "broker/tunnels/tunnel_probe.h"
#include "broker/tunnels/tunnel_route.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/ws_frame.h"
#include "common/xalloc.h"

#define EVENTS_MAX	 4096
#define EVENTS_WINDOW_MS 10000
#define ENDED_MAX	 4096 /* that wait until what they have used is booked */

/* ---- asking for a tunnel ------------------------------------------------ */

/*
 * A client of Anam's opens a new socket before it knows that the old one is
 * dead: past the maximum, the session's oldest makes room.
 */
static void
supersede(struct control_server *srv, const struct lease_info *new)
{
	struct control_connection *conn, *oldest = NULL;
	unsigned count = 0;

	if (strcmp(new->route, ANAM_ROUTE) != 0)
		return;
	TAILQ_FOREACH (conn, &srv->leased, entry) {
		const struct lease_info *info = lease_peek(conn->lease);

		if (conn->superseded || conn->ended ||
		    strcmp(info->route, ANAM_ROUTE) != 0 ||
		    strcmp(info->session, new->session) != 0)
			continue;
		count++;
		if (oldest == NULL)
			oldest = conn;
	}
	if (count <= ANAM_SOCKETS_MAX)
		return;
	oldest->superseded = true;
	control_connection_order_close(oldest, 1000, "superseded");
}

/* It has its lease. */
static void
hold(struct control_server *srv, struct control_connection *conn,
    struct lease *lease, const struct wire_limits *limits)
{
	conn->lease = lease;
	conn->limits = *limits;
	control_connection_set(srv, conn, CONTROL_STATE_LEASED);
	control_asks_join(srv->asks, lease_peek(lease), conn);
}

static void
grant(struct control_server *srv, struct control_connection *conn)
{
	struct tunnel_route *route = conn->route;
	struct wire_packet *packet;
	const struct lease_info *info;
	struct lease *lease;
	int fd = -1;

	tunnel_route_take(route, &packet, &lease);
	info = lease_peek(lease);
	if (packet->grant.resume != NULL)
		conn->resume_until =
		    lease_resume_expires(info, &packet->grant.limits);
	if (packet->grant.upstream.passed)
		fd = tunnel_route_connect(route);
	conn->route = NULL;
	tunnel_route_free(route);
	hold(srv, conn, lease, &packet->grant.limits);
	control_log_open(info, conn->peer.cred.pid);
	supersede(srv, info);
	(void)control_connection_send_with(srv, conn, packet, fd);
	wire_packet_free(packet);
	if (fd != -1)
		(void)close(fd);
}

/* Takes the packet. */
static void
send_denial(struct control_server *srv, struct control_connection *conn,
    struct wire_packet *packet)
{
	control_connection_set(srv, conn, CONTROL_STATE_DENIED);
	(void)control_connection_send(srv, conn, packet);
	wire_packet_free(packet);
}

static void
deny(struct control_server *srv, struct control_connection *conn, enum err err,
    const struct diag *diag)
{
	struct wire_packet *packet =
	    tunnel_route_refuse(conn->route, err, diag);

	control_log_denied(tunnel_route_open(conn->route),
	    tunnel_route_name(conn->route), tunnel_route_user(conn->route), err,
	    diag);
	/* with all that it holds, before anybody hears of it */
	tunnel_route_free(conn->route);
	conn->route = NULL;
	send_denial(srv, conn, packet);
}

/*
 * A decision goes to a job and back, twice: who it is, and, once the name is
 * resolved, whether he may.
 */
static void
identify(void *arg)
{
	struct control_job *job = arg;

	job->err = tunnel_route_identify(job->route, &job->diag);
}

static void
admit(void *arg)
{
	struct control_job *job = arg;

	job->err = tunnel_route_admit(job->route, &job->diag);
}

/* Back from a job: NULL where nobody waits any more, or it was a refusal. */
static struct control_connection *
take_back(struct control_server *srv, struct control_job *job)
{
	struct control_connection *conn = job->conn;

	if (conn == NULL) {
		tunnel_route_free(job->route);
		free(job);
		return NULL;
	}
	conn->job = NULL;
	conn->route = job->route;
	if (job->err != ERR_OK) {
		deny(srv, conn, job->err, &job->diag);
		conn = NULL;
	}
	free(job);
	return conn;
}

static void
admitted(void *context, void *arg)
{
	struct control_connection *conn = take_back(context, arg);

	if (conn != NULL)
		grant(context, conn);
}

static void
decide(struct control_server *srv, struct control_connection *conn,
    control_jobs_work *work, control_jobs_done *done)
{
	struct control_job *job = xcalloc(1, sizeof(*job));

	*job = (struct control_job){
		.conn = conn,
		.route = conn->route,
		.err = ERR_UNAVAIL, /* where we end before it is looked at */
	};
	if (control_jobs_add(srv->jobs, work, done, job) != ERR_OK) {
		struct diag diag = { "" };

		diag_set(&diag, "too many requests are decided on at once");
		free(job);
		deny(srv, conn, ERR_UNAVAIL, &diag);
		return;
	}
	conn->job = job;
	conn->route = NULL;
	control_connection_set(srv, conn, CONTROL_STATE_DECIDING);
}

static void
resolve(struct control_server *srv, struct control_connection *conn)
{
	struct diag diag = { "" };
	enum err err = tunnel_route_resolve(conn->route, &diag);

	if (err == ERR_OK)
		decide(srv, conn, admit, admitted);
	else if (err != ERR_AGAIN)
		deny(srv, conn, err, &diag);
}

static void
identified(void *context, void *arg)
{
	struct control_connection *conn = take_back(context, arg);

	if (conn == NULL)
		return;
	control_connection_set(context, conn, CONTROL_STATE_RESOLVING);
	resolve(context, conn);
}

void
control_tunnel_open(struct control_server *srv, struct control_connection *conn,
    struct wire_packet *packet)
{
	const struct tunnel_route_context context = {
		.config = config_current(),
		.resolver = srv->resolver,
		.leases = srv->leases,
		.refusals = srv->refusals,
	};
	struct wire_packet *answer = tunnel_probe_answer(&packet->open);
	struct diag diag = { "" };
	enum err err;

	if (answer != NULL) {
		config_unref(context.config);
		wire_packet_free(packet);
		send_denial(srv, conn, answer);
		return;
	}
	conn->route = tunnel_route_new(&context, packet);
	config_unref(context.config);
	err = tunnel_route_prepare(conn->route, &diag);
	if (err == ERR_OK)
		decide(srv, conn, identify, identified);
	else
		deny(srv, conn, err, &diag);
}

void
control_tunnel_retry(struct control_server *srv)
{
	struct control_connection *conn, *next;

	for (conn = TAILQ_FIRST(&srv->waiting); conn != NULL; conn = next) {
		/* it may be dropped, or go to the tail */
		next = TAILQ_NEXT(conn, entry);
		if (conn->state == CONTROL_STATE_RESOLVING)
			resolve(srv, conn);
	}
}

/* ---- a lease of before ----------------------------------------------------
 */

/*
 * What is configured for it now, narrowed by the plans of now; false where the
 * route is no relay, or none any more: what it was granted stays.
 */
static bool
limits_of_now(const struct config *config, const struct subjects *subjects,
    const char *route, struct wire_limits *ret)
{
	const struct config_relay *relay =
	    config_find_relay_by_name(config, route);

	if (relay == NULL)
		return false;
	*ret = relay->limits;
	subjects_limit_tunnel(subjects, ret);
	return true;
}

static void
subjects_of(const struct config *config, const struct lease_request *request,
    struct subjects *ret)
{
	const struct config_relay *relay =
	    config_find_relay_by_name(config, request->route);
	const struct subjects_request who = {
		.user = request->user,
		.plan = request->plan,
		.anon_id = request->anon_id,
		.address = request->client,
		.route = request->route,
		.route_plan = relay == NULL ? NULL : relay->plan,
	};

	subjects_fill(config, &who, ret);
}

static bool
has_hung_up(const struct control_connection *conn)
{
	struct pollfd pfd = { .fd = conn->fd };

	return poll(&pfd, 1, 0) == 1 &&
	    (pfd.revents & (POLLHUP | POLLERR)) != 0;
}

/*
 * A tunnel may come back before we have heard that its connection is gone: that
 * one has no lease any more, and is dropped when its turn comes.
 */
static bool
free_lost(struct control_server *srv, const char *id)
{
	struct control_connection *conn;

	TAILQ_FOREACH (conn, &srv->leased, entry)
		if (strcmp(lease_peek(conn->lease)->id, id) == 0)
			break;
	if (conn == NULL)
		return true;
	if (!has_hung_up(conn))
		return false;
	control_asks_leave(srv->asks, lease_peek(conn->lease),
	    conn->ended ? CONTROL_ASKS_ENDED : CONTROL_ASKS_LOST);
	lease_release(conn->lease);
	conn->lease = NULL;
	control_connection_set(srv, conn, CONTROL_STATE_DENIED);
	return true;
}

static enum err
take_up(struct control_server *srv, struct config *config,
    struct lease_resume *resume, struct lease **ret, struct diag *diag)
{
	struct lease_request *request = &resume->request;
	struct subjects subjects;
	enum err err;

	subjects_of(config, request, &subjects);
	request->subjects = &subjects;
	request->config = config;
	request->started = resume->started;
	if (control_ends_have(srv->ends, request->id)) {
		diag_set(diag, "this connection is over");
		err = ERR_DENIED;
	} else if (free_lost(srv, request->id)) {
		err = leases_take(srv->leases, request, ret, diag);
	} else {
		diag_set(diag, "this connection is open already");
		err = ERR_CONFLICT;
	}
	if (err == ERR_OK)
		(void)limits_of_now(config, &subjects, request->route,
		    &resume->limits);
	return err;
}

/* False where it was dropped. */
static bool
send_limits(struct control_server *srv, struct control_connection *conn,
    enum wire_type type)
{
	struct wire_packet *packet = wire_packet_new(type);
	bool sent;

	packet->limits = conn->limits;
	sent = control_connection_send(srv, conn, packet);
	wire_packet_free(packet);
	return sent;
}

void
control_tunnel_resume(struct control_server *srv,
    struct control_connection *conn, const struct wire_resume *in)
{
	struct config *config = config_current();
	struct lease_resume resume;
	struct lease *lease;
	struct diag diag = { "" };
	enum err err =
	    lease_resume_read(in->resume, clock_unix(), &resume, &diag);

	if (err == ERR_OK) {
		err = take_up(srv, config, &resume, &lease, &diag);
		conn->resume_until = resume.expires;
		if (err == ERR_OK)
			hold(srv, conn, lease, &resume.limits);
		lease_resume_done(&resume);
	}
	config_unref(config);
	if (err != ERR_OK) {
		log_warning("lease.not_resumed", "pid=%d reason=\"%s\"",
		    (int)conn->peer.cred.pid, diag.text);
		send_denial(srv, conn, tunnel_route_deny(err, &diag));
		return;
	}
	control_log_resume(lease_peek(conn->lease), conn->peer.cred.pid,
	    in->elapsed_ms);
	/* what it has still to report counts, whoever is revoked */
	if (send_limits(srv, conn, WIRE_RESUMED))
		(void)control_revocations_close(conn);
}

/* ---- reports ---------------------------------------------------------------
 */

/* What a tunnel has used, while it runs and when it ends. */
static void
book(struct control_server *srv, struct control_connection *conn,
    const struct wire_usage *usage)
{
	for (size_t i = 0; i < json_array_size(usage->events); i++) {
		int64_t n = json_integer_value(
		    json_object_get(json_array_get(usage->events, i), "n"));

		if (n > conn->reported)
			conn->reported = n;
	}
	lease_update(conn->lease, usage);
	control_asks_report(srv->asks, lease_peek(conn->lease), usage);
}

/*
 * More than any vendor makes, and what a tunnel has kept comes at once: others'
 * rows wait in the same queue.
 */
static bool
reports_too_much(struct control_connection *conn,
    const struct wire_usage *usage)
{
	int64_t now_ms = clock_ms();

	if (now_ms - conn->events_ms >= EVENTS_WINDOW_MS) {
		conn->events_ms = now_ms;
		conn->events = 0;
	}
	conn->events += json_array_size(usage->events);
	return conn->events > EVENTS_MAX;
}

/*
 * A report: limits that a reload has changed are the answer to it, and its
 * budgets are those of now.
 */
static void
take_usage(struct control_server *srv, struct control_connection *conn,
    const struct wire_usage *usage)
{
	const struct lease_info *info = lease_peek(conn->lease);
	const struct lease_request who = {
		.route = info->route,
		.client = info->client,
		.user = info->user,
		.plan = info->plan,
		.anon_id = info->anon_id,
	};
	struct config *config = config_current();
	struct subjects subjects;
	struct wire_limits limits;

	book(srv, conn, usage);
	subjects_of(config, &who, &subjects);
	if (info->config != NULL && config != info->config) {
		lease_replan(conn->lease, &subjects, config);
		control_asks_replan(srv->asks, info);
	}
	if (limits_of_now(config, &subjects, info->route, &limits) &&
	    memcmp(&limits, &conn->limits, sizeof(limits)) != 0) {
		conn->limits = limits;
		(void)send_limits(srv, conn, WIRE_LIMITS);
	}
	config_unref(config);
}

/* Records for the route's message log, if it has one by now. */
static void
take_log(const struct control_connection *conn, const struct wire_log *log)
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

/* It need not come back, and may not. */
static void
finish(struct control_server *srv, struct control_connection *conn)
{
	control_ends_add(srv->ends, lease_peek(conn->lease)->id,
	    conn->resume_until);
	control_connection_drop(srv, conn, CONTROL_ENDED, NULL);
}

/*
 * It is over, and its slot is free.  Its process stays until it has heard that
 * what it has reported is in the ledger, and what came of its asks: a broker
 * that dies before has the next one told.
 */
static void
take_end(struct control_server *srv, struct control_connection *conn,
    const struct wire_usage *usage)
{
	book(srv, conn, usage);
	control_log_end(&conn->peer.cred, lease_peek(conn->lease),
	    CONTROL_ENDED, usage);
	conn->ended = true;
	conn->ended_ms = clock_ms();
	lease_end(conn->lease);
	control_asks_end(srv->asks, lease_peek(conn->lease));
	if (++srv->ended_count > ENDED_MAX)
		finish(srv, conn);
}

static void
take_ask(struct control_server *srv, struct control_connection *conn,
    const struct wire_ask *ask)
{
	struct diag diag = { "" };

	if (control_asks_ask(srv->asks, lease_peek(conn->lease), ask, &diag) !=
	    ERR_OK)
		control_connection_drop(srv, conn, CONTROL_UNEXPECTED, NULL);
}

static void
acknowledge(struct control_server *srv, struct control_connection *conn,
    struct wire_ack *ack, const struct wire_packet *packet)
{
	bool over;

	if (ack->n > conn->booked)
		conn->booked = ack->n;
	conn->settled |= ack->ended;
	over = conn->ended && conn->settled && conn->booked >= conn->reported;
	if (ack->n == 0 && !over)
		return; /* there are events whose turn comes */
	*ack = (struct wire_ack){ .n = conn->booked, .ended = over };
	/* a tunnel that does not read is dropped, and has left then */
	if (control_connection_send(srv, conn, packet) && over)
		finish(srv, conn);
}

static void
note_close(struct control_connection *conn, const struct wire_packet *packet)
{
	if (packet->type == WIRE_CLOSE && conn->told_ms == 0)
		conn->told_ms = clock_ms();
}

void
control_tunnel_answer(struct control_server *srv)
{
	struct wire_packet *packet;
	void *owner;

	while (control_asks_take(srv->asks, &owner, &packet)) {
		note_close(owner, packet);
		if (packet->type == WIRE_ACK)
			acknowledge(srv, owner, &packet->ack, packet);
		else
			(void)control_connection_send(srv, owner, packet);
		wire_packet_free(packet);
	}
}

void
control_tunnel_take(struct control_server *srv, struct control_connection *conn,
    const struct wire_packet *packet)
{
	if (conn->ended) {
		control_connection_drop(srv, conn, CONTROL_UNEXPECTED, NULL);
	} else if ((packet->type == WIRE_USAGE || packet->type == WIRE_END) &&
	    reports_too_much(conn, &packet->usage)) {
		control_connection_drop(srv, conn, CONTROL_TOO_MANY, NULL);
	} else if (packet->type == WIRE_USAGE) {
		take_usage(srv, conn, &packet->usage);
	} else if (packet->type == WIRE_ASK) {
		take_ask(srv, conn, &packet->ask);
	} else if (packet->type == WIRE_LOG) {
		take_log(conn, &packet->log);
	} else if (packet->type == WIRE_END) {
		take_end(srv, conn, &packet->usage);
	} else {
		control_connection_drop(srv, conn, CONTROL_UNEXPECTED, NULL);
	}
}

/*
 * A tunnel ends itself when its time is over, which it counts from when it had
 * its vendor; one that does not holds what others want.
 */
static bool
is_overdue(const struct control_server *srv,
    const struct control_connection *conn, int64_t now_ms)
{
	const struct wire_limits *limits = &conn->limits;

	return limits->lifetime_ms > 0 && !conn->ended && conn->told_ms == 0 &&
	    now_ms - lease_peek(conn->lease)->started_ms - limits->lifetime_ms -
		limits->connect_ms >=
	    srv->overdue_ms;
}

void
control_tunnel_sweep(struct control_server *srv, int64_t now_ms)
{
	struct control_connection *conn, *next;

	for (conn = TAILQ_FIRST(&srv->leased); conn != NULL; conn = next) {
		next = TAILQ_NEXT(conn, entry);
		if (is_overdue(srv, conn, now_ms))
			control_connection_order_close(conn, WS_CODE_LIFETIME,
			    "time limit");
		if (conn->ended && now_ms - conn->ended_ms >= srv->ended_ms) {
			finish(srv, conn);
		} else if (!conn->ended && conn->told_ms != 0 &&
		    now_ms - conn->told_ms >= srv->closing_ms) {
			control_ends_add(srv->ends, lease_peek(conn->lease)->id,
			    conn->resume_until);
			control_connection_drop(srv, conn, CONTROL_NOT_CLOSING,
			    NULL);
		}
	}
}
