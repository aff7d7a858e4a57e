/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/tunnel_route.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "broker/anam/anam_route.h"
#include "broker/http/access.h"
#include "broker/openai/session_rules.h"
#include "broker/socketio/engineio.h"
#include "broker/store/store.h"
#include "broker/tickets/ticket.h"
#include "broker/tickets/tunnel_ticket.h"
#include "broker/tunnels/target.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/str.h"
#include "common/xalloc.h"

#define SESSION_BYTES	  16
#define RETRY_AFTER_S	  "5"
#define OFFERED_MAX	  32 /* subprotocols in one request */
#define SUBPROTOCOL_BYTES 128

#define BETA "openai-beta.realtime-v1"

#define SOCKETIO_ROUTE "socket.io"
/* Engine.IO's own pings find out who is gone, and come to a client in time */
#define SOCKETIO_PING_MS  30000
#define SOCKETIO_PONG_MS  20000
#define SOCKETIO_STALL_MS 30000
#define SOCKETIO_USAGE_MS 60000

/* Subprotocols that a client asked for and the relay has, in its order. */
struct offer {
	char names[WIRE_SUBPROTOCOLS_MAX][SUBPROTOCOL_BYTES + 1];
	size_t count;
	size_t offered; /* whether the relay has them or not */
};

/* ---- who asks ---------------------------------------------------------- */

/* The last line's last element: what our own web server put there. */
static enum err
forwarded_for(const struct wire_headers *headers, char *out, size_t size)
{
	const char *list = NULL, *last;
	size_t len;

	for (size_t i = 0; i < headers->count; i++)
		if (strcasecmp(headers->items[i].name, "x-forwarded-for") == 0)
			list = headers->items[i].value;
	if (list == NULL)
		return ERR_NOTFOUND;
	last = strrchr(list, ',');
	last = last == NULL ? list : last + 1;
	last += strspn(last, " \t");
	/* blanks around the value are not there any more */
	len = strlen(last);
	if (len >= size)
		return ERR_PROTO;
	memcpy(out, last, len + 1);
	return str_is_address(out) ? ERR_OK : ERR_PROTO;
}

enum err
tunnel_route_client(const struct wire_open *open, char out[INET6_ADDRSTRLEN],
    struct diag *diag)
{
	enum err err;

	if (!open->peer_local) {
		(void)strcpy(out, open->peer_address);
		return ERR_OK;
	}
	err = forwarded_for(&open->headers, out, INET6_ADDRSTRLEN);
	if (err == ERR_OK)
		return ERR_OK;
	diag_set(diag,
	    err == ERR_NOTFOUND
		? "the client's address is not known: the web server must send "
		  "X-Forwarded-For"
		: "the last element of X-Forwarded-For is not an address: the "
		  "web server must set it");
	return ERR_DENIED;
}

/* The only header of this name, or NULL; ERR_PROTO where there are two. */
static enum err
single_header(const struct wire_headers *headers, const char *name,
    const char **ret, struct diag *diag)
{
	*ret = NULL;
	for (size_t i = 0; i < headers->count; i++) {
		if (strcasecmp(headers->items[i].name, name) != 0)
			continue;
		if (*ret != NULL) {
			diag_set(diag, "more than one %s header", name);
			return ERR_PROTO;
		}
		*ret = headers->items[i].value;
	}
	return ERR_OK;
}

static enum err
admit(const struct config *config, const struct wire_open *open,
    char client[INET6_ADDRSTRLEN], struct diag *diag)
{
	struct access_request request = {
		.client = client,
		.method = open->method,
	};
	const struct {
		const char *name, **value;
	} headers[] = {
		{ "Origin", &request.origin },
		{ "Host", &request.host },
		{ "Sec-Fetch-Site", &request.fetch_site },
	};
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < 3; i++)
		err = single_header(&open->headers, headers[i].name,
		    headers[i].value, diag);
	if (err == ERR_OK)
		err = tunnel_route_client(open, client, diag);
	if (err == ERR_OK)
		err = access_check(config, &request, diag);
	return err;
}

/* ---- subprotocols ------------------------------------------------------ */

/* Items that browsers carry a key in, for want of an Authorization header. */
static bool
is_credential(const char *name)
{
	return str_match("openai-insecure-api-key.*", name) ||
	    str_match("base64url.bearer.authorization.*", name);
}

static bool
has_name(const struct offer *offer, const char *name)
{
	for (size_t i = 0; i < offer->count; i++)
		if (strcmp(offer->names[i], name) == 0)
			return true;
	return false;
}

/* Clients of the beta say so; that is for us, and is not passed on. */
static bool
is_known(const struct config_relay *relay, const char *name)
{
	const struct config_strings *known = &relay->subprotocols;

	for (size_t i = 0; i < known->count; i++)
		if (strcmp(known->items[i], name) == 0)
			return true;
	return relay->messages.beta && !relay->subprotocol_pass &&
	    known->count > 0 && strcmp(name, BETA) == 0;
}

/* One item of the client's list. */
static enum err
take_item(const struct config_relay *relay, const char *item, size_t len,
    struct offer *offer, struct diag *diag)
{
	char name[SUBPROTOCOL_BYTES + 1];

	if (!str_is_token(item, len) || ++offer->offered > OFFERED_MAX) {
		diag_set(diag, "Sec-WebSocket-Protocol is malformed");
		return ERR_PROTO;
	}
	if (len > SUBPROTOCOL_BYTES)
		return ERR_OK; /* a key may be long; no subprotocol is */
	memcpy(name, item, len);
	name[len] = '\0';
	if (is_known(relay, name) && !is_credential(name) &&
	    !has_name(offer, name) && offer->count < WIRE_SUBPROTOCOLS_MAX)
		(void)strcpy(offer->names[offer->count++], name);
	return ERR_OK;
}

/* One header's comma-separated list (RFC 9110 5.6.1). */
static enum err
take_list(const struct config_relay *relay, const char *list,
    struct offer *offer, struct diag *diag)
{
	enum err err = ERR_OK;

	while (err == ERR_OK && *list != '\0') {
		size_t span, len;

		list += strspn(list, " \t");
		span = len = strcspn(list, ",");
		while (len > 0 && strchr(" \t", list[len - 1]) != NULL)
			len--;
		if (len > 0)
			err = take_item(relay, list, len, offer, diag);
		list += span;
		list += *list == ',';
	}
	return err;
}

/* What to offer upstream, or to answer: see struct config_relay. */
static enum err
choose_subprotocol(const struct config_relay *relay,
    const struct wire_headers *headers, struct wire_grant *grant,
    struct diag *diag)
{
	struct offer offer = { .count = 0 };
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < headers->count; i++)
		if (strcasecmp(headers->items[i].name,
			"sec-websocket-protocol") == 0)
			err = take_list(relay, headers->items[i].value, &offer,
			    diag);
	if (err != ERR_OK)
		return err;
	if (offer.count == 0 && offer.offered > 0 &&
	    relay->subprotocols.count > 0) {
		diag_set(diag, "none of the subprotocols is served here");
		return ERR_PROTO;
	}
	if (relay->subprotocol_pass)
		for (size_t i = 0; i < offer.count; i++)
			grant->upstream
			    .subprotocols[grant->upstream.subprotocol_count++] =
			    xstrdup(offer.names[i]);
	else if (offer.count > 0)
		grant->subprotocol = xstrdup(offer.names[0]);
	return ERR_OK;
}

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
	}
	return ERR_OK;
}

static enum err
resolve(const struct tunnel_route_context *context, const char *host,
    bool allow_private, struct wire_grant *grant, struct diag *diag)
{
	struct resolver_answer answer;
	enum err err;

	err = resolver_resolve(context->resolver, host, allow_private, &answer,
	    diag);
	if (err != ERR_OK)
		return err;
	for (size_t i = 0; i < answer.count; i++)
		grant->upstream.addresses[i] = xstrdup(answer.addresses[i]);
	grant->upstream.address_count = answer.count;
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

static enum err
take_lease(const struct tunnel_route_context *context,
    const struct lease_request *request, struct wire_grant *grant,
    struct lease **ret, struct diag *diag)
{
	struct lease *lease;
	enum err err = leases_take(context->leases, request, &lease, diag);

	if (err != ERR_OK)
		return err;
	grant->lease = xstrdup(lease_peek(lease)->id);
	grant->session = xstrdup(request->session);
	grant->route = xstrdup(request->route);
	*ret = lease;
	return ERR_OK;
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

/* ---- the decision ------------------------------------------------------ */

static enum err
fill_grant(const struct tunnel_route_context *context,
    const struct wire_open *open, const struct config_relay *relay,
    const struct target *target, const struct store_ticket *ticket,
    const char *model, struct wire_grant *grant, struct diag *diag)
{
	enum err err;

	err = target_rewrite(target, relay, &grant->upstream.target, diag);
	if (err == ERR_OK)
		err = choose_subprotocol(relay, &open->headers, grant, diag);
	if (err == ERR_OK)
		err =
		    fill_messages(relay, ticket, model, &grant->messages, diag);
	if (err != ERR_OK)
		return err;
	fill_upstream(&relay->upstream, relay->ca_file, grant);
	grant->limits = relay->limits;
	err = resolve(context, relay->upstream.host, relay->allow_private,
	    grant, diag);
	if (err == ERR_OK)
		err = add_secret_headers(relay, &grant->upstream.headers, diag);
	return err;
}

static enum err
grant_relay(const struct tunnel_route_context *context,
    const struct wire_open *open, struct target *target, const char *client,
    struct wire_grant *grant, struct lease **ret_lease, struct diag *diag)
{
	const struct config_relay *relay =
	    config_find_relay(context->config, target->path);
	char session[2 * SESSION_BYTES + 1];
	struct lease_request request = { .session = session };
	struct store_ticket ticket;
	enum err err;

	if (relay == NULL) {
		diag_set(diag, "there is no relay at this path");
		return ERR_NOTFOUND;
	}
	/* before anything of the route is told or used */
	err = tunnel_ticket_take(relay, &open->headers, target, &ticket, diag);
	if (err != ERR_OK)
		return err;
	crypt_random_hex(session, SESSION_BYTES);
	request.route = relay->name;
	request.client = client;
	request.user = ticket.user;
	request.max_route = relay->max_connections;
	request.max_total = context->config->control.max_connections;
	err = target_value(target, relay, "model", &request.model, diag);
	if (err == ERR_OK)
		err = fill_grant(context, open, relay, target, &ticket,
		    request.model, grant, diag);
	if (err == ERR_OK)
		err = take_lease(context, &request, grant, ret_lease, diag);
	store_ticket_done(&ticket);
	return err;
}

/* ---- Anam ---------------------------------------------------------------- */

/* The tunnel of a session that was found. */
static enum err
grant_session(const struct tunnel_route_context *context,
    const struct anam_route *route, const char *client,
    struct wire_grant *grant, struct lease **ret_lease, struct diag *diag)
{
	const struct config_anam *anam = context->config->anam;
	const struct config_url *url = &route->engine.signalling;
	int64_t left_ms = route->left_s * 1000;
	enum err err;

	fill_upstream(url, anam->ca_file, grant);
	grant->upstream.target = xstrdup(route->target);
	grant->limits = anam->limits;
	/* so that it does not outlive its session */
	if (grant->limits.lifetime_ms == 0 ||
	    grant->limits.lifetime_ms > left_ms)
		grant->limits.lifetime_ms = left_ms;
	err = resolve(context, url->host, anam->allow_private, grant, diag);
	if (err != ERR_OK)
		return err;
	return take_lease(context,
	    &(const struct lease_request){
		.session = route->session,
		.route = ANAM_ROUTE,
		.client = client,
		.max_route = anam->max_connections,
		.max_total = context->config->control.max_connections,
	    },
	    grant, ret_lease, diag);
}

/*
 * Whoever has been refused often is refused at once: clients that try for ever
 * must not cost a look into the store each time.
 */
static enum err
grant_anam(const struct tunnel_route_context *context,
    const struct wire_open *open, const struct target *target,
    const char *client, struct wire_grant *grant, struct lease **ret_lease,
    struct diag *diag)
{
	struct anam_route route = { .target = NULL };
	int64_t now_ms = clock_ms();
	enum err err;

	if (refusals_reached(context->refusals, client, now_ms)) {
		diag_set(diag, "refused too often: wait half a minute");
		return ERR_RATE;
	}
	err = anam_route_find(context->config, store_current(), target,
	    &open->headers, clock_unix(), &route, diag);
	if (err != ERR_OK) {
		refusals_add(context->refusals, client, now_ms);
		return err;
	}
	err = grant_session(context, &route, client, grant, ret_lease, diag);
	anam_route_done(&route);
	return err;
}

/* ---- Engine.IO ----------------------------------------------------------- */

/* The broker is the upstream: what may be sent is said there, and checked. */
static enum err
grant_socketio(const struct tunnel_route_context *context,
    const struct target *target, const char *client, struct wire_grant *grant,
    struct lease **ret_lease, json_t **ret_body, struct diag *diag)
{
	const struct config_socketio *socketio = context->config->socketio;
	char session[2 * SESSION_BYTES + 1];
	enum err err;

	if (socketio == NULL) {
		diag_set(diag, "Socket.IO is not served any more");
		return ERR_NOTFOUND;
	}
	err = eio_may_open(target, client, ret_body, diag);
	if (err != ERR_OK)
		return err;
	grant->upstream.passed = true;
	grant->limits = (struct wire_limits){
		.connect_ms = SOCKETIO_PONG_MS,
		.ping_ms = SOCKETIO_PING_MS,
		.pong_ms = SOCKETIO_PONG_MS,
		.stall_ms = SOCKETIO_STALL_MS,
		.usage_ms = SOCKETIO_USAGE_MS,
	};
	crypt_random_hex(session, SESSION_BYTES);
	return take_lease(context,
	    &(const struct lease_request){
		.session = session,
		.route = SOCKETIO_ROUTE,
		.client = client,
		.max_route = socketio->max_sessions,
		.max_total = context->config->control.max_connections,
	    },
	    grant, ret_lease, diag);
}

int
tunnel_route_connect(const struct wire_open *open)
{
	char client[INET6_ADDRSTRLEN];
	struct target *target;
	int fds[2];

	if (target_parse(open->target, &target, NULL) != ERR_OK)
		return -1;
	if (tunnel_route_client(open, client, NULL) != ERR_OK ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		fds) == -1) {
		target_free(target);
		return -1;
	}
	eio_open(target, &open->headers, client, fds[0]);
	target_free(target);
	return fds[1];
}

enum err
tunnel_route_decide(const struct tunnel_route_context *context,
    const struct wire_open *open, struct wire_packet **ret_grant,
    struct lease **ret_lease, json_t **ret_body, struct diag *diag)
{
	char client[INET6_ADDRSTRLEN];
	struct wire_packet *packet;
	struct target *target;
	enum err err;

	if (strcmp(open->method, "GET") != 0) {
		diag_set(diag, "a tunnel is opened with GET");
		return ERR_METHOD;
	}
	err = target_parse(open->target, &target, diag);
	if (err != ERR_OK)
		return err;
	packet = wire_packet_new(WIRE_GRANT);
	err = admit(context->config, open, client, diag);
	if (err == ERR_OK && eio_takes(target->path))
		err = grant_socketio(context, target, client, &packet->grant,
		    ret_lease, ret_body, diag);
	else if (err == ERR_OK && anam_route_takes(context->config, target))
		err = grant_anam(context, open, target, client, &packet->grant,
		    ret_lease, diag);
	else if (err == ERR_OK)
		err = grant_relay(context, open, target, client, &packet->grant,
		    ret_lease, diag);
	target_free(target);
	if (err != ERR_OK) {
		wire_packet_free(packet);
		return err;
	}
	*ret_grant = packet;
	return ERR_OK;
}

struct wire_packet *
tunnel_route_deny(enum err err, const struct diag *diag)
{
	struct wire_packet *packet = wire_packet_new(WIRE_DENY);
	struct wire_deny *deny = &packet->deny;
	bool tell = err_http_status(err) < 500 && diag->text[0] != '\0';

	deny->status = err_http_status(err);
	deny->code = xstrdup(err_code(err));
	deny->message = xstrdup(tell ? diag->text : err_text(err));
	if (err == ERR_RATE || err == ERR_UNAVAIL)
		(void)!wire_headers_add(&deny->headers, "Retry-After",
		    RETRY_AFTER_S);
	if (err == ERR_METHOD)
		(void)!wire_headers_add(&deny->headers, "Allow", "GET");
	if (err == ERR_UNAUTH)
		(void)!wire_headers_add(&deny->headers, "WWW-Authenticate",
		    "Bearer");
	return packet;
}
