/* SPDX-License-Identifier: MIT */
#include "broker/tickets/tickets.h"

#include <stdlib.h>
#include <string.h>

#include "broker/limits/admission.h"
#include "broker/openai/openai_ask.h"
#include "broker/tickets/ticket.h"
#include "broker/users/identity.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

#define ROUTE_MAX_BYTES 1024
#define SOCKETS		"socket.io"

/* What is asked for. */
struct ask {
	const char *route;		  /* the name that the ticket is for */
	const struct config_relay *relay; /* NULL: it is none */
	const char *path;		  /* of its WebSockets; NULL: none */
	const char *plan;		  /* of the route; NULL: none */
	bool needs_user;		  /* the site's */
	int64_t seconds;
	bool bind_address;
	const char *model;
	const json_t *session;
};

/* ---- the request ---- */

/* Members that are not known may be ones that matter: they are refused. */
static enum err
check_members(const json_t *body, struct diag *diag)
{
	static const char *const known[] = { "route", "seconds", "bind_address",
		"model", "session" };
	size_t count = 0;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		count += json_object_get(body, known[i]) != NULL;
	if (count == json_object_size(body))
		return ERR_OK;
	diag_set(diag,
	    "the request has a member that is not known: route, seconds, "
	    "bind_address, model and session may be set");
	return ERR_PROTO;
}

static void
take_relay(const struct config_relay *relay, struct ask *ask)
{
	ask->relay = relay;
	ask->route = relay->name;
	ask->path = relay->paths.items[0];
	ask->plan = relay->plan;
	/* without a user a ticket would say nothing of who has it */
	ask->needs_user = relay->require_user || relay->require_ticket;
}

/* Of what is no relay; false where there is none of this name. */
static bool
take_section(const struct config *config, const char *name, struct ask *ask)
{
	const struct {
		const char *name;
		bool is_there, needs_user;
		const char *plan;
	} sections[] = {
		{ "chat", config->chat != NULL,
		    config->chat != NULL && config->chat->require_user,
		    config->chat == NULL ? NULL : config->chat->plan },
		{ "livekit", config->livekit != NULL,
		    config->livekit != NULL && config->livekit->require_user,
		    config->livekit == NULL ? NULL : config->livekit->plan },
		{ "anam", config->anam != NULL,
		    config->anam != NULL && config->anam->require_user,
		    config->anam == NULL ? NULL : config->anam->plan },
		/* without a user it would say nothing */
		{ SOCKETS, config->socketio != NULL, true, NULL },
	};

	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		if (!sections[i].is_there ||
		    strcmp(sections[i].name, name) != 0)
			continue;
		ask->route = sections[i].name;
		ask->needs_user = sections[i].needs_user;
		ask->plan = sections[i].plan;
		return true;
	}
	return false;
}

static enum err
take_route(const struct config *config, const json_t *body, struct ask *ask,
    struct diag *diag)
{
	const struct config_relay *relay;
	const char *name;

	if (json_get_string(body, "route", ROUTE_MAX_BYTES, &name) != ERR_OK) {
		diag_set(diag, "route is missing or not a usable text");
		return ERR_PROTO;
	}
	relay = config_find_relay_by_name(config, name);
	if (relay == NULL)
		relay = config_find_relay(config, name);
	if (relay != NULL)
		take_relay(relay, ask);
	else if (!take_section(config, name, ask)) {
		diag_set(diag,
		    "there is no such route: it is the name or the path of a "
		    "section of the configuration");
		return ERR_NOTFOUND;
	}
	return ERR_OK;
}

/* null is not the same as absent here: whoever wrote it meant something. */
static enum err
take_optional(const struct config *config, const json_t *body, struct ask *ask,
    struct diag *diag)
{
	const json_t *seconds = json_object_get(body, "seconds");
	const json_t *bind = json_object_get(body, "bind_address");
	const json_t *model = json_object_get(body, "model");

	ask->seconds = config->tickets.ttl_s;
	if (seconds != NULL &&
	    json_get_int(body, "seconds", 1, config->tickets.ttl_max_s,
		&ask->seconds) != ERR_OK) {
		diag_set(diag, "seconds is a number from 1 to %lld",
		    (long long)config->tickets.ttl_max_s);
		return ERR_PROTO;
	}
	if (bind != NULL && !json_is_boolean(bind)) {
		diag_set(diag, "bind_address is true or false");
		return ERR_PROTO;
	}
	ask->bind_address = json_is_true(bind);
	ask->session = json_object_get(body, "session");
	ask->model = json_string_value(model);
	if (model != NULL &&
	    (ask->model == NULL ||
		!str_is_field_value(ask->model, json_string_length(model)))) {
		diag_set(diag, "the model is no name of one");
		return ERR_PROTO;
	}
	if ((model != NULL || ask->session != NULL) &&
	    (ask->relay == NULL || !ask->relay->client_secrets)) {
		diag_set(diag,
		    "tickets of this route have no model or session");
		return ERR_PROTO;
	}
	return ERR_OK;
}

static enum err
read_ask(struct request *req, struct ask *ask, struct diag *diag)
{
	const struct config *config = request_config(req);
	const json_t *body;
	enum err err = request_json(req, &body, diag);

	if (err == ERR_OK)
		err = check_members(body, diag);
	if (err == ERR_OK)
		err = take_route(config, body, ask, diag);
	if (err == ERR_OK)
		err = take_optional(config, body, ask, diag);
	return err;
}

/* ---- who asks ---- */

/* A ticket is for no route of this name: it does not give another one. */
static enum err
identify(struct request *req, const struct ask *ask, struct identity *ret,
    struct diag *diag)
{
	enum err err = identity_of_request(req,
	    IDENTITY_BEARER | IDENTITY_COOKIE | IDENTITY_ANON_ID, "", ret,
	    diag);

	if (err != ERR_OK)
		return err;
	err = identity_check_required(ret, ask->needs_user, diag);
	if (err != ERR_OK)
		identity_done(ret);
	return err;
}

/* ---- the answer ---- */

static const char *
escape_client(const struct request *req, char *out, size_t size)
{
	const char *client = request_client(req);

	if (client == NULL)
		client = "-";
	return str_escape(out, size, client, strlen(client));
}

static void
refuse(struct request *req, const struct ask *ask, enum err err,
    const struct diag *diag)
{
	static struct log_limit denied = LOG_LIMIT_A_MINUTE;
	bool ours = err_http_status(err) >= 500;
	const char *route = ask->route == NULL ? "-" : ask->route;
	char client[64];

	if (ours)
		log_error("ticket.failed", "route=%s reason=\"%s\"", route,
		    diag->text);
	else if (err == ERR_DENIED || err == ERR_UNAUTH)
		log_limited(&denied, LOG_LEVEL_INFO, "ticket.denied",
		    "client=%s route=%s reason=\"%s\"",
		    escape_client(req, client, sizeof(client)), route,
		    diag->text);
	request_reply_error(req, err,
	    ours || diag->text[0] == '\0' ? NULL : diag->text);
}

static void
reply(struct request *req, const struct ask *ask,
    const struct store_ticket *ticket, const char *text)
{
	json_t *body = json_made(json_pack("{s:s, s:I, s:s, s:b}", "ticket",
	    text, "expires_at", (json_int_t)ticket->expires, "route",
	    ticket->route, "once", (int)ticket->once));

	if (ask->path != NULL)
		(void)json_object_set_new(body, "url",
		    json_made(json_sprintf("%s?ticket=%s", ask->path, text)));
	request_reply_json(req, 200, body);
}

static void
give(struct request *req, const struct ask *ask,
    const struct identity *identity, const struct openai_session *session)
{
	const char *user = identity->user;
	int64_t now = clock_unix(), expires = now + ask->seconds;
	/* the row borrows what it is written from */
	struct store_ticket ticket = {
		.route = (char *)(uintptr_t)ask->route,
		.user = identity->user,
		.plan = identity->plan,
		.anon_id = identity->anon_id,
		.model = session->model,
		.address = ask->bind_address
		    ? (char *)(uintptr_t)request_client(req)
		    : NULL,
		.session = session->members,
		/* a relay's is for one conversation, the others for requests */
		.once = ask->relay != NULL && ask->relay->ticket_once,
		.created = now,
		.expires = expires,
		.issued = user == NULL ? now : identity->issued,
	};
	char id[TICKET_ID_BYTES + 1], client[64], word[2 * TICKET_USER_MAX];
	char challenge[IDENTITY_CHALLENGE_SIZE];
	struct diag diag = { "" };
	char *text;
	enum err err;

	/* of a socket's Origin nothing is known when it shows its ticket */
	if (strcmp(ask->route, SOCKETS) != 0)
		ticket.origin =
		    (char *)(uintptr_t)request_header(req, "origin");
	/* not beyond what shows who it is for */
	if (identity->expires != 0 && identity->expires < expires)
		ticket.expires = identity->expires;
	err = ticket_make(&ticket, id, &text, &diag);
	if (err == ERR_UNAUTH)
		request_add_header(req, "WWW-Authenticate",
		    identity_challenge(&diag, challenge));
	if (err != ERR_OK) {
		refuse(req, ask, err, &diag);
		return;
	}
	if (user == NULL)
		user = "-";
	log_info("ticket.given",
	    "client=%s route=%s ticket=%s user=%s seconds=%lld once=%s",
	    escape_client(req, client, sizeof(client)), ask->route, id,
	    str_escape(word, sizeof(word), user, strlen(user)),
	    (long long)(ticket.expires - now), ticket.once ? "yes" : "no");
	reply(req, ask, &ticket, text);
	explicit_bzero(text, strlen(text));
	free(text);
}

/* Whether he is within his limits; or it is answered. */
static bool
is_within_limits(struct request *req, const struct ask *ask,
    const struct identity *identity)
{
	const struct subjects_request who = {
		.user = identity->user,
		.plan = identity->plan,
		.anon_id = identity->anon_id,
		.route = ask->route,
		.route_plan = ask->plan,
	};

	return admission_admits(req, &who);
}

void
tickets_handle(struct request *req)
{
	struct ask ask = { .route = NULL };
	struct identity identity = { .user = NULL };
	struct openai_session session = { .members = NULL };
	struct diag diag = { "" };
	enum err err = read_ask(req, &ask, &diag);

	if (err == ERR_OK)
		err = identify(req, &ask, &identity, &diag);
	if (err != ERR_OK) {
		refuse(req, &ask, err, &diag);
		return;
	}
	/* a session that will not do is answered as OpenAI does */
	if (is_within_limits(req, &ask, &identity) &&
	    ((ask.model == NULL && ask.session == NULL) ||
		(openai_ask_session(req, ask.relay, ask.session, ask.model,
		     &session) &&
		    openai_ask_fits(req, ask.relay, &session))))
		give(req, &ask, &identity, &session);
	openai_session_done(&session);
	identity_done(&identity);
}
