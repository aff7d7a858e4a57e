/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/tunnel_route.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/anam/anam_route.h"
#include "broker/limits/buckets.h"
#include "broker/limits/budget.h"
#include "broker/limits/revocations.h"
#include "broker/limits/subjects.h"
#include "broker/openai/session_rules.h"
#include "broker/socketio/engineio.h"
#include "broker/store/store.h"
#include "broker/tickets/ticket.h"
#include "broker/tickets/tunnel_ticket.h"
#include "broker/tunnels/lease_resume.h"
#include "broker/tunnels/target.h"
#include "broker/tunnels/tunnel_request.h"
#include "broker/users/identity.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/xalloc.h"

#define SESSION_BYTES 16
/* Until when to stay away where nobody knows: not all the same time. */
#define RETRY_MIN_S 3
#define RETRY_MAX_S 7

#define SOCKETIO_ROUTE "socket.io"
/* Engine.IO's own pings find out who is gone, and come to a client in time */
#define SOCKETIO_PING_MS  30000
#define SOCKETIO_PONG_MS  20000
#define SOCKETIO_STALL_MS 30000
#define SOCKETIO_USAGE_MS 60000

enum kind {
	KIND_RELAY,
	KIND_ANAM,
	KIND_SOCKETIO,
};

struct tunnel_route {
	struct tunnel_route_context context;
	struct wire_packet *open;
	struct target *target; /* NULL: not looked at yet */
	char client[INET6_ADDRSTRLEN];
	enum kind kind;
	const struct config_relay *relay; /* of a relay */
	struct anam_route anam;		  /* of a session of Anam's */
	char session[ANAM_HASH_BYTES + 2 * SESSION_BYTES];
	const char *model;
	struct identity identity;
	struct subjects subjects;
	struct wire_packet *packet; /* the grant to be */
	struct lease *lease;
	/* of a refusal */
	bool counts; /* among the refusals of the client's address */
	json_t *body;
	struct buckets_state requests;
	uint64_t full; /* so many connections are open: all there may be */
	struct store_budget_state budget;
};

/* ---- the upstream ------------------------------------------------------ */

static enum err
add_secret_headers(const struct config_relay *relay,
    struct wire_headers *headers, struct diag *diag)
{
	for (size_t i = 0; i < relay->header_count; i++) {
		const struct config_header *header = &relay->headers[i];
		char *value = xasprintf("%s%s", header->prefix,
		    header->secret == NULL ? ""
					   : secret_peek(header->secret, NULL));
		enum err err = wire_headers_add(headers, header->name, value);

		wire_text_free(value, strlen(value));
		if (err != ERR_OK) {
			diag_set(diag, "header %s of %s cannot be sent",
			    header->name, relay->name);
			return ERR_SYS;
		}
		headers->items[headers->count - 1].secret =
		    header->secret != NULL;
	}
	return ERR_OK;
}

/* Whom to dial, and whom to trust there; ca_file may be NULL. */
static void
fill_upstream(const struct config_url *url, const char *ca_file,
    struct wire_grant *grant)
{
	grant->upstream.tls = url->tls;
	grant->upstream.port = url->port;
	grant->upstream.name = xstrdup(url->host);
	grant->upstream.host = xstrdup(url->authority);
	if (ca_file != NULL)
		grant->upstream.ca_file = xstrdup(ca_file);
}

/* ---- messages ---------------------------------------------------------- */

/* A ticket was checked when it was made, by what was configured then. */
static enum err
fill_session(const struct config_relay *relay,
    const struct store_ticket *ticket, const char *model,
    struct wire_messages *messages, struct diag *diag)
{
	struct pin_refusal refusal;

	if (ticket->session != NULL &&
	    session_rules_check(relay, model, ticket->session, &refusal) !=
		ERR_OK) {
		diag_set(diag,
		    "the short-lived key is not good: this site does not "
		    "allow its session any more");
		return ERR_UNAUTH;
	}
	if (session_rules_merge(relay, ticket->session, NULL,
		&messages->session) != ERR_OK) {
		diag_set(diag,
		    "the short-lived key is not good: its session is too "
		    "large");
		return ERR_UNAUTH;
	}
	/* who sends text has no way to ask for anything */
	if (!relay->messages.text)
		messages->pin = session_rules_pin(relay, model);
	return ERR_OK;
}

static enum err
fill_messages(const struct config_relay *relay,
    const struct store_ticket *ticket, const char *model,
    struct wire_messages *messages, struct diag *diag)
{
	const struct config_messages *rules = &relay->messages;
	const char *form = rules->text ? "text" : rules->beta ? "beta" : NULL;
	enum err err = fill_session(relay, ticket, model, messages, diag);

	if (form != NULL)
		messages->form = xstrdup(form);
	if (relay->message_log.mode != NULL)
		messages->log = xstrdup(relay->message_log.mode);
	/* without a store there is no ledger */
	messages->usage = rules->usage && store_current() != NULL;
	if (form != NULL || messages->log != NULL || messages->usage ||
	    messages->session != NULL || messages->pin != NULL)
		messages->inspect_bytes = rules->inspect_bytes;
	return err;
}

/* ---- first: where it leads ---------------------------------------------- */

/*
 * Whoever has been refused often is refused at once: clients that try for ever
 * must not cost a look into the store each time.
 */
static enum err
check_refusals(const struct tunnel_route *route, struct diag *diag)
{
	if (!refusals_reached(route->context.refusals, route->client,
		clock_ms()))
		return ERR_OK;
	diag_set(diag, "refused too often: wait half a minute");
	return ERR_RATE;
}

static enum err
find_route(struct tunnel_route *route, struct diag *diag)
{
	const struct config *config = route->context.config;

	if (eio_takes(route->target->path)) {
		route->kind = KIND_SOCKETIO;
		if (config->socketio != NULL)
			return ERR_OK;
		diag_set(diag, "Socket.IO is not served any more");
		return ERR_NOTFOUND;
	}
	if (anam_route_takes(config, route->target)) {
		route->kind = KIND_ANAM;
		return check_refusals(route, diag);
	}
	route->kind = KIND_RELAY;
	route->relay = config_find_relay(config, route->target->path);
	if (route->relay != NULL)
		return ERR_OK;
	diag_set(diag, "there is no relay at this path");
	return ERR_NOTFOUND;
}

enum err
tunnel_route_prepare(struct tunnel_route *route, struct diag *diag)
{
	const struct wire_open *open = &route->open->open;
	enum err err;

	if (strcmp(open->method, "GET") != 0) {
		diag_set(diag, "a tunnel is opened with GET");
		return ERR_METHOD;
	}
	err = target_parse(open->target, &route->target, diag);
	if (err == ERR_OK)
		err = tunnel_request_admit(route->context.config, open,
		    route->client, diag);
	if (err == ERR_OK)
		err = find_route(route, diag);
	if (err == ERR_OK && route->kind == KIND_RELAY)
		fill_upstream(&route->relay->upstream, route->relay->ca_file,
		    &route->packet->grant);
	return err;
}

/* ---- second: who it is, and what he would get -----------------------------
 */

static enum err
fill_relay(struct tunnel_route *route, struct diag *diag)
{
	const struct config_relay *relay = route->relay;
	struct wire_grant *grant = &route->packet->grant;
	enum err err;

	err = target_value(route->target, relay, "model", &route->model, diag);
	if (err == ERR_OK)
		err = target_rewrite(route->target, relay,
		    &grant->upstream.target, diag);
	if (err == ERR_OK)
		err = tunnel_request_subprotocol(relay,
		    &route->open->open.headers, grant, diag);
	if (err == ERR_OK)
		err = fill_messages(relay, &route->identity.ticket,
		    route->model, &grant->messages, diag);
	if (err == ERR_OK)
		err = add_secret_headers(relay, &grant->upstream.headers, diag);
	grant->limits = relay->limits;
	crypt_random_hex(route->session, SESSION_BYTES);
	return err;
}

/* Who has a session's id is whoever it was made for, and nobody else. */
static enum err
take_owner(const struct config_anam *anam, const struct anam_route *session,
    struct identity *identity, struct diag *diag)
{
	if (session->user == NULL)
		return identity_check_required(identity, anam->require_user,
		    diag);
	if (identity->user == NULL) {
		identity->user = xstrdup(session->user);
		identity->issued = session->created;
	}
	if (strcmp(identity->user, session->user) == 0)
		return ERR_OK;
	diag_set(diag, "the session is another user's");
	return ERR_DENIED;
}

static enum err
fill_anam(struct tunnel_route *route, struct diag *diag)
{
	const struct config_anam *anam = route->context.config->anam;
	struct wire_grant *grant = &route->packet->grant;
	int64_t left_ms;
	enum err err = anam_route_find(route->context.config, store_current(),
	    route->target, &route->open->open.headers, clock_unix(),
	    &route->anam, diag);

	if (err == ERR_OK)
		err = take_owner(anam, &route->anam, &route->identity, diag);
	route->counts = err != ERR_OK;
	if (err != ERR_OK)
		return err;
	fill_upstream(&route->anam.engine.signalling, anam->ca_file, grant);
	grant->upstream.target = xstrdup(route->anam.target);
	grant->limits = anam->limits;
	/* so that it does not outlive its session */
	left_ms = route->anam.left_s * 1000;
	if (grant->limits.lifetime_ms == 0 ||
	    grant->limits.lifetime_ms > left_ms)
		grant->limits.lifetime_ms = left_ms;
	(void)strcpy(route->session, route->anam.session);
	return ERR_OK;
}

/* The broker is the upstream: what may be sent is said there, and checked. */
static enum err
fill_socketio(struct tunnel_route *route, struct diag *diag)
{
	struct wire_grant *grant = &route->packet->grant;

	grant->upstream.passed = true;
	grant->limits = (struct wire_limits){
		.connect_ms = SOCKETIO_PONG_MS,
		.ping_ms = SOCKETIO_PING_MS,
		.pong_ms = SOCKETIO_PONG_MS,
		.stall_ms = SOCKETIO_STALL_MS,
		.usage_ms = SOCKETIO_USAGE_MS,
	};
	crypt_random_hex(route->session, SESSION_BYTES);
	return eio_may_open(route->target, route->client, &route->body, diag);
}

/* What the three kinds of routes are called, and have as limits of their own.
 */
static struct lease_request
describe(const struct tunnel_route *route)
{
	const struct config *config = route->context.config;
	struct lease_request request = {
		.session = route->session,
		.client = route->client,
		.user = route->identity.user,
		.model = route->model,
		.plan = route->identity.plan,
		.anon_id = route->identity.anon_id,
		.ticket = route->identity.token_id,
		.issued = route->identity.issued,
		.subjects = &route->subjects,
		.config = route->context.config,
		.max_total = config->control.max_connections,
	};

	if (route->kind == KIND_RELAY) {
		request.route = route->relay->name;
		request.max_route = route->relay->max_connections;
	} else if (route->kind == KIND_ANAM) {
		request.route = ANAM_ROUTE;
		request.max_route = config->anam->max_connections;
	} else {
		request.route = SOCKETIO_ROUTE;
		request.max_route = config->socketio->max_sessions;
	}
	/* who shows nothing was let in by nothing but us, now */
	if (request.user == NULL && request.ticket == NULL)
		request.issued = clock_unix();
	return request;
}

static const char *
plan_of(const struct tunnel_route *route)
{
	if (route->kind == KIND_RELAY)
		return route->relay->plan;
	return route->kind == KIND_ANAM ? route->context.config->anam->plan
					: NULL;
}

/*
 * What the route is called, and whether it is for users alone; a session of
 * Anam's has its own.
 */
static const char *
name_of(const struct tunnel_route *route, bool *ret_user, bool *ret_ticket)
{
	*ret_user = *ret_ticket = false;
	if (route->kind == KIND_RELAY) {
		*ret_user = route->relay->require_user;
		*ret_ticket = route->relay->require_ticket;
		return route->relay->name;
	}
	return route->kind == KIND_ANAM ? ANAM_ROUTE : SOCKETIO_ROUTE;
}

/* Before anything of the route is told or used. */
static enum err
identify(struct tunnel_route *route, struct diag *diag)
{
	struct identity *identity = &route->identity;
	bool require_user, require_ticket;
	const char *name = name_of(route, &require_user, &require_ticket);
	enum err err;

	/* the sockets of Socket.IO say it themselves */
	if (route->kind == KIND_SOCKETIO)
		return ERR_OK;
	err = identity_of_tunnel(route->context.config,
	    &route->open->open.headers, route->target, route->client, name,
	    identity, diag);
	if (err != ERR_OK)
		return err;
	if (require_ticket && !ticket_is_possible()) {
		diag_set(diag, "there is no store, which tickets need");
		return ERR_UNAVAIL;
	}
	if (require_ticket && identity->ticket.id == NULL) {
		diag_set(diag, "a short-lived key is needed here");
		return ERR_UNAUTH;
	}
	/* a ticket was made by somebody who might */
	if (require_user && identity->user == NULL &&
	    identity->ticket.id == NULL) {
		diag_set(diag,
		    "this is for users who have signed in: send the site's "
		    "token as ?token= or as the subprotocol "
		    "openai-insecure-api-key.TOKEN, or a ticket as ?ticket=");
		return ERR_UNAUTH;
	}
	return route->kind == KIND_RELAY
	    ? tunnel_ticket_apply(&identity->ticket, route->target, diag)
	    : ERR_OK;
}

static enum err
check_revocations(const struct lease_request *request, struct diag *diag)
{
	const struct revocations_subject subject = {
		.user = request->user,
		.session = request->session,
		.ticket = request->ticket,
		.route = request->route,
		.issued = request->issued,
	};

	if (!revocations_have(&subject))
		return ERR_OK;
	diag_set(diag, "what is shown has been revoked: sign in again");
	return ERR_UNAUTH;
}

enum err
tunnel_route_identify(struct tunnel_route *route, struct diag *diag)
{
	struct lease_request request;
	enum err err = identify(route, diag);

	if (err == ERR_OK && route->kind == KIND_RELAY)
		err = fill_relay(route, diag);
	else if (err == ERR_OK && route->kind == KIND_ANAM)
		err = fill_anam(route, diag);
	else if (err == ERR_OK)
		err = fill_socketio(route, diag);
	if (err != ERR_OK)
		return err;
	request = describe(route);
	return check_revocations(&request, diag);
}

/* ---- third: the addresses of it --------------------------------------------
 */

enum err
tunnel_route_resolve(struct tunnel_route *route, struct diag *diag)
{
	const struct config *config = route->context.config;
	struct wire_grant *grant = &route->packet->grant;
	struct resolver_answer answer;
	enum err err;

	if (grant->upstream.passed)
		return ERR_OK;
	err = resolver_resolve(route->context.resolver, grant->upstream.name,
	    route->kind == KIND_ANAM ? config->anam->allow_private
				     : route->relay->allow_private,
	    &answer, diag);
	if (err != ERR_OK)
		return err;
	for (size_t i = 0; i < answer.count; i++)
		grant->upstream.addresses[i] = xstrdup(answer.addresses[i]);
	grant->upstream.address_count = answer.count;
	return ERR_OK;
}

/* ---- last: a place, and the grant ------------------------------------------
 */

static enum err
check_budget(struct tunnel_route *route, struct diag *diag)
{
	struct store *store = store_current();
	struct store_budgets budgets;

	subjects_budgets(&route->subjects, &budgets);
	if (store == NULL || budgets.count == 0)
		return ERR_OK;
	return store->ops->check_budgets(store, &budgets, clock_unix(),
	    &route->budget, diag);
}

/* A limit of what a plan has of a day needs to be asked about, and told. */
static void
limit(struct tunnel_route *route)
{
	struct wire_grant *grant = &route->packet->grant;

	subjects_limit_tunnel(&route->subjects, &grant->limits);
	if (route->kind != KIND_RELAY || !grant->messages.usage ||
	    !subjects_have_budget(&route->subjects))
		return;
	grant->messages.budget = xstrdup(route->relay->over_budget == NULL
		? "close"
		: route->relay->over_budget);
	grant->messages.inspect_bytes = route->relay->messages.inspect_bytes;
}

/* A place at each thing that is limited; the ticket last, as it is spent. */
static enum err
take_place(struct tunnel_route *route, const struct lease_request *request,
    struct diag *diag)
{
	const struct subjects_request who = {
		.user = request->user,
		.plan = request->plan,
		.anon_id = request->user != NULL ? NULL : request->anon_id,
		.address = request->client,
		.route = request->route,
		.route_plan = plan_of(route),
	};
	struct lease_request wanted = *request;
	enum err err;

	wanted.ret_full = &route->full;
	subjects_fill(route->context.config, &who, &route->subjects);
	err =
	    buckets_take(&route->subjects, clock_ms(), &route->requests, diag);
	if (err == ERR_OK)
		err = leases_take(route->context.leases, &wanted, &route->lease,
		    diag);
	if (err == ERR_OK)
		err = check_budget(route, diag);
	if (err == ERR_OK)
		err = ticket_spend(&route->identity.ticket, clock_unix(), diag);
	return err;
}

enum err
tunnel_route_admit(struct tunnel_route *route, struct diag *diag)
{
	struct wire_grant *grant = &route->packet->grant;
	const struct lease_request request = describe(route);
	const struct lease_info *info;
	enum err err;

	/* again: the name may have taken its time */
	err = check_revocations(&request, diag);
	if (err == ERR_OK)
		err = take_place(route, &request, diag);
	if (err != ERR_OK)
		return err;
	limit(route);
	info = lease_peek(route->lease);
	/* our end of a socket pair ends with us */
	if (!grant->upstream.passed)
		grant->resume = lease_resume_make(info, &grant->limits);
	grant->lease = xstrdup(info->id);
	grant->session = xstrdup(info->session);
	grant->route = xstrdup(info->route);
	return ERR_OK;
}

struct tunnel_route *
tunnel_route_new(const struct tunnel_route_context *context,
    struct wire_packet *open)
{
	struct tunnel_route *route = xcalloc(1, sizeof(*route));

	route->context = *context;
	(void)config_ref(route->context.config);
	route->open = open;
	route->packet = wire_packet_new(WIRE_GRANT);
	return route;
}

void
tunnel_route_free(struct tunnel_route *route)
{
	if (route == NULL)
		return;
	lease_release(route->lease);
	wire_packet_free(route->packet);
	wire_packet_free(route->open);
	target_free(route->target);
	anam_route_done(&route->anam);
	identity_done(&route->identity);
	json_decref(route->body);
	config_unref(route->context.config);
	free(route);
}

const struct wire_open *
tunnel_route_open(const struct tunnel_route *route)
{
	return &route->open->open;
}

const char *
tunnel_route_name(const struct tunnel_route *route)
{
	bool user, ticket;

	/* a relay that there is none of, or not yet */
	return route->kind == KIND_RELAY && route->relay == NULL
	    ? NULL
	    : name_of(route, &user, &ticket);
}

const char *
tunnel_route_user(const struct tunnel_route *route)
{
	return route->identity.user;
}

void
tunnel_route_take(struct tunnel_route *route, struct wire_packet **ret_grant,
    struct lease **ret_lease)
{
	*ret_grant = route->packet;
	*ret_lease = route->lease;
	route->packet = NULL;
	route->lease = NULL;
}

int
tunnel_route_connect(const struct tunnel_route *route)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		fds) == -1)
		return -1;
	eio_open(route->context.config, route->target,
	    &route->open->open.headers, route->client, fds[0]);
	return fds[1];
}

/* ---- refusals ---------------------------------------------------------------
 */

static struct wire_packet *
make_deny(enum err err, const struct diag *diag, const char *challenge)
{
	struct wire_packet *packet = wire_packet_new(WIRE_DENY);
	struct wire_deny *deny = &packet->deny;
	bool tell = err_http_status(err) < 500 && diag->text[0] != '\0';

	deny->status = err_http_status(err);
	deny->code = xstrdup(err_code(err));
	deny->message = xstrdup(tell ? diag->text : err_text(err));
	if (err == ERR_METHOD)
		(void)!wire_headers_add(&deny->headers, "Allow", "GET");
	if (err == ERR_UNAUTH)
		(void)!wire_headers_add(&deny->headers, "WWW-Authenticate",
		    challenge);
	return packet;
}

struct wire_packet *
tunnel_route_deny(enum err err, const struct diag *diag)
{
	return make_deny(err, diag, "Bearer");
}

static void
add_retry(struct wire_headers *headers, int64_t retry_s)
{
	char value[BUCKETS_HEADER_SIZE];

	(void)snprintf(value, sizeof(value), "%" PRId64, retry_s);
	(void)!wire_headers_add(headers, "Retry-After", value);
}

/* A bucket that is empty (draft-ietf-httpapi-ratelimit-headers). */
static void
add_requests(struct wire_headers *headers, const struct buckets_state *state)
{
	char value[BUCKETS_HEADER_SIZE];

	add_retry(headers, buckets_seconds(state->retry_after_ms));
	buckets_format_policy(state, value);
	(void)!wire_headers_add(headers, "RateLimit-Policy", value);
	buckets_format_limit(state, value);
	(void)!wire_headers_add(headers, "RateLimit", value);
}

/* The same of connections; when one of them ends nobody knows. */
static void
add_connections(struct wire_headers *headers, uint64_t max)
{
	char value[BUCKETS_HEADER_SIZE];

	(void)snprintf(value, sizeof(value),
	    "\"connections\";q=%" PRIu64 ";qu=\"concurrent-requests\"", max);
	(void)!wire_headers_add(headers, "RateLimit-Policy", value);
	(void)!wire_headers_add(headers, "RateLimit", "\"connections\";r=0");
	add_retry(headers, crypt_random_between(RETRY_MIN_S, RETRY_MAX_S));
}

/* The same of a budget, which is so until the day ends. */
static void
add_day(struct wire_headers *headers, int64_t left_s)
{
	char value[BUDGET_HEADER_SIZE];

	add_retry(headers, left_s);
	budget_format_limit(left_s, value);
	(void)!wire_headers_add(headers, "RateLimit", value);
}

struct wire_packet *
tunnel_route_refuse(struct tunnel_route *route, enum err err,
    const struct diag *diag)
{
	char challenge[IDENTITY_CHALLENGE_SIZE] = "Bearer";
	struct wire_packet *packet = make_deny(err, diag,
	    route->identity.shown ? identity_challenge(diag, challenge)
				  : challenge);
	struct wire_headers *headers = &packet->deny.headers;
	const struct buckets_state *requests = &route->requests;

	if (err == ERR_BUDGET)
		add_day(headers,
		    budget_resets_in_s(&route->budget, clock_unix()));
	else if (err == ERR_RATE && requests->retry_after_ms > 0)
		add_requests(headers, requests);
	else if (err == ERR_RATE && route->full > 0)
		add_connections(headers, route->full);
	else if (err == ERR_RATE || err == ERR_UNAVAIL)
		add_retry(headers,
		    crypt_random_between(RETRY_MIN_S, RETRY_MAX_S));
	if (route->counts)
		refusals_add(route->context.refusals, route->client,
		    clock_ms());
	packet->deny.body = route->body;
	route->body = NULL;
	return packet;
}
