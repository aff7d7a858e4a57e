/* SPDX-License-Identifier: MIT */
#include "broker/openai/openai.h"

#include <stdlib.h>
#include <string.h>

#include "broker/openai/openai_ask.h"
#include "broker/tickets/ticket.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"

/* ---- the request ---- */

/* Whether an object has no member but these two. */
static bool
has_only(const json_t *object, const char *a, const char *b)
{
	size_t known = (json_object_get(object, a) != NULL) +
	    (json_object_get(object, b) != NULL);

	return json_object_size(object) == known;
}

/* How long the ticket is to be good; false where the request is answered. */
static bool
take_lifetime(struct request *req, const struct config_relay *relay,
    const json_t *after, int64_t *ret)
{
	const char *anchor = "created_at";
	enum err err = ERR_OK;

	*ret = relay->ticket_s;
	if (after == NULL || json_is_null(after))
		return true;
	if (!json_is_object(after) || !has_only(after, "anchor", "seconds")) {
		openai_ask_refuse_param(req, relay, ERR_PROTO, "invalid_type",
		    "expires_after",
		    "expires_after is an object of anchor and seconds.");
		return false;
	}
	err = json_get_string(after, "anchor", 64, &anchor);
	if ((err != ERR_OK && err != ERR_NOTFOUND) ||
	    strcmp(anchor, "created_at") != 0) {
		openai_ask_refuse_param(req, relay, ERR_PROTO, "invalid_value",
		    "expires_after.anchor", "The anchor is created_at.");
		return false;
	}
	err = json_get_int(after, "seconds", CONFIG_TICKET_MIN_S,
	    relay->ticket_max_s, ret);
	if (err == ERR_OK || err == ERR_NOTFOUND)
		return true;
	openai_ask_refuse_param(req, relay, ERR_PROTO, "invalid_value",
	    "expires_after.seconds",
	    "The seconds are a number in the range that this site allows.");
	return false;
}

/* ---- the answer ---- */

/* What the client asked for, in the shape of the vendor's answer. */
static json_t *
format_session(const struct openai_session *session, const char *id)
{
	json_t *echo = session->members == NULL
	    ? json_pack("{s:s}", "type", "realtime")
	    : json_deep_copy(session->members);

	(void)json_object_set_new(json_made(echo), "id",
	    json_made(json_sprintf("sess_%s", id)));
	(void)json_object_set_new(echo, "object",
	    json_made(json_string("realtime.session")));
	if (session->served != NULL)
		(void)json_object_set_new(echo, "model",
		    json_made(json_string(session->served)));
	return echo;
}

static void
log_ticket(const struct request *req, const struct store_ticket *ticket,
    const char *id)
{
	const char *user = ticket->user == NULL ? "-" : ticket->user;
	char client[64], word[2 * TICKET_USER_MAX];

	log_info("openai.ticket",
	    "client=%s route=%s ticket=%s user=%s seconds=%lld",
	    openai_ask_client(req, client, sizeof(client)), ticket->route, id,
	    str_escape(word, sizeof(word), user, strlen(user)),
	    (long long)(ticket->expires - ticket->created));
}

static void
answer(struct request *req, const struct config_relay *relay,
    const struct identity *who, const struct openai_session *session,
    int64_t seconds)
{
	int64_t now = clock_unix();
	/* the rows borrow what they are written from */
	struct store_ticket ticket = {
		.route = relay->name,
		.user = who->user,
		.plan = who->plan,
		.anon_id = who->anon_id,
		.model = session->model,
		.session = session->members,
		.once = relay->secret_once,
		.created = now,
		.expires = now + seconds,
		.issued = who->user == NULL ? now : who->issued,
	};
	char id[TICKET_ID_BYTES + 1], *text;
	char challenge[IDENTITY_CHALLENGE_SIZE];
	struct diag diag = { "" };
	enum err err;

	/* not beyond what shows who it is for */
	if (who->expires != 0 && who->expires < ticket.expires)
		ticket.expires = who->expires;
	err = ticket_make(&ticket, id, &text, &diag);
	if (err == ERR_UNAUTH)
		request_add_header(req, "WWW-Authenticate",
		    identity_challenge(&diag, challenge));
	if (err != ERR_OK) {
		openai_ask_refuse(req, relay, err, &diag);
		return;
	}
	log_ticket(req, &ticket, id);
	request_reply_json(req, 200,
	    json_made(json_pack("{s:s, s:I, s:o}", "value", text, "expires_at",
		(json_int_t)ticket.expires, "session",
		format_session(session, id))));
	explicit_bzero(text, strlen(text));
	free(text);
}

/* Do what the body asks for; whatever becomes of it, it is answered. */
static void
handle(struct request *req, const struct config_relay *relay,
    const struct identity *who)
{
	struct openai_session session;
	struct diag diag = { "" };
	const json_t *body;
	int64_t seconds;
	enum err err = request_json(req, &body, &diag);

	if (err == ERR_OK && who->ticket.id != NULL) {
		diag_set(&diag, "a short-lived key makes no other");
		err = ERR_DENIED;
	}
	if (err != ERR_OK) {
		openai_ask_refuse(req, relay, err, &diag);
		return;
	}
	if (!has_only(body, "expires_after", "session")) {
		openai_ask_refuse_param(req, relay, ERR_PROTO,
		    "unknown_parameter", NULL,
		    "The request has a parameter that is not known.");
		return;
	}
	if (!take_lifetime(req, relay, json_object_get(body, "expires_after"),
		&seconds) ||
	    !openai_ask_session(req, relay, json_object_get(body, "session"),
		NULL, &session))
		return;
	if (openai_ask_fits(req, relay, &session))
		answer(req, relay, who, &session, seconds);
	openai_session_done(&session);
}

void
openai_client_secrets_handle(struct request *req)
{
	const struct config_relay *relay = openai_ask_relay(req);
	struct identity who;

	if (relay == NULL)
		return;
	if (!relay->client_secrets) {
		request_reply_error(req, ERR_NOTFOUND,
		    "short-lived keys are not served here");
		return;
	}
	if (!openai_ask_identity(req, relay, &who))
		return;
	handle(req, relay, &who);
	identity_done(&who);
}
