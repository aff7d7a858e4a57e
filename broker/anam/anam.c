/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam.h"

#include <stdlib.h>
#include <string.h>

#include "broker/anam/anam_quota.h"
#include "broker/anam/anam_refuse.h"
#include "broker/anam/anam_request.h"
#include "broker/anam/anam_session.h"
#include "broker/anam/anam_token.h"
#include "broker/anam/anam_vendor.h"
#include "broker/config/url.h"
#include "broker/http/flight.h"
#include "broker/http/request_parse.h"
#include "broker/limits/revocations.h"
#include "broker/store/store.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/xalloc.h"

/* ---- POST /v1/auth/session-token ----------------------------------------- */

/* A token for the persona that the body names. */
static enum err
make_token(const struct request *req, const char *user, const json_t *body,
    struct anam_token *ret, char **ret_text, struct diag *diag)
{
	const struct config *config = request_config(req);
	const char *persona;
	enum err err = anam_request_persona(config, body, &persona, diag);

	if (err != ERR_OK)
		return err;
	return anam_token_make(persona, user, clock_unix(),
	    config->anam->token_ttl_s, ret, ret_text, diag);
}

static void
log_token(const struct request *req, const struct anam_token *token)
{
	char client[64], persona[160], user[128];

	log_info("anam.token", "client=%s user=%s persona=%s",
	    anam_escape(request_client(req), client, sizeof(client)),
	    anam_escape(token->user, user, sizeof(user)),
	    anam_escape(token->persona, persona, sizeof(persona)));
}

void
anam_token_handle(struct request *req)
{
	const struct config_anam *anam = anam_request_find(req);
	struct anam_token token;
	struct identity who;
	struct diag diag = { "" };
	json_t *body = NULL;
	char *text = NULL;
	enum err err;

	if (anam == NULL || !anam_request_identify(req, anam, &who))
		return;
	err = anam_request_check_target(req, anam, &diag);
	if (err == ERR_OK)
		err = anam_request_body(req, &body, &diag);
	if (err == ERR_OK)
		err = make_token(req, who.user, body, &token, &text, &diag);
	json_decref(body);
	identity_done(&who);
	if (err != ERR_OK) {
		anam_refuse(req, err, &diag);
		return;
	}
	log_token(req, &token);
	request_reply_json(req, 200, json_pack("{s:s}", "sessionToken", text));
	explicit_bzero(text, strlen(text));
	free(text);
	anam_token_done(&token);
}

/* ---- POST /v1/engine/session --------------------------------------------- */

struct start {
	struct request *req;
	const struct config_anam *anam;
	int64_t deadline_ms;
	json_t *body;
	struct identity who; /* who sent no token */
	struct anam_token token;
	char *text; /* of the token, for who sent none; else NULL */
	struct anam_front front;
	char *host;   /* of front */
	bool refused; /* by the vendor: refusal says how to answer */
	struct anam_refusal refusal;
};

static void
start_done(struct start *start)
{
	json_decref(start->body);
	identity_done(&start->who);
	anam_token_done(&start->token);
	if (start->text != NULL)
		explicit_bzero(start->text, strlen(start->text));
	free(start->text);
	free(start->host);
}

static enum err
check_revoked(const struct anam_token *token, struct diag *diag)
{
	const struct revocations_subject subject = {
		.user = token->user,
		.ticket = token->id,
		.route = "anam",
		.issued = token->issued,
	};

	if (!revocations_have(&subject))
		return ERR_OK;
	diag_set(diag, "the token has been revoked");
	return ERR_UNAUTH;
}

/* Who asks: with a token, or for a persona. */
static enum err
take_token(struct start *start, struct diag *diag)
{
	const char *header = request_header(start->req, "authorization");
	const struct config *config = request_config(start->req);
	const char *text;
	enum err err;

	if (header == NULL)
		return make_token(start->req, start->who.user, start->body,
		    &start->token, &start->text, diag);
	text = request_parse_bearer(header);
	if (text == NULL) {
		diag_set(diag, "Authorization is not a Bearer token");
		return ERR_UNAUTH;
	}
	err = anam_token_verify(text, strlen(text), clock_unix(), &start->token,
	    diag);
	if (err == ERR_OK)
		err = check_revoked(&start->token, diag);
	/* the configuration may have changed since it was made */
	if (err == ERR_OK)
		err = anam_request_check_persona(config, start->token.persona,
		    diag);
	return err;
}

/* How the client reaches us: as the operator says, or as it just did. */
static enum err
find_front(struct start *start, struct diag *diag)
{
	const char *public_url = start->anam->public_url;
	const char *host = request_header(start->req, "host");
	struct anam_front *front = &start->front;
	struct config_url url;
	bool tls;
	char *text;
	enum err err;

	front->gateway = request_header(start->req, ANAM_TARGET_URL) != NULL;
	front->base_path = request_config(start->req)->requests.base_path;
	tls = public_url == NULL
	    ? strcmp(request_scheme(start->req), "https") == 0
	    : strncmp(public_url, "https", 5) == 0;
	front->protocol = tls ? "https" : "http";
	if (public_url != NULL)
		host = strstr(public_url, "://") + 3;
	text =
	    xasprintf("%s://%s", tls ? "wss" : "ws", host == NULL ? "" : host);
	err = strpbrk(host == NULL ? "/" : host, "/?") != NULL
	    ? ERR_PROTO
	    : url_parse(text, &url, NULL);
	free(text);
	if (err != ERR_OK) {
		diag_set(diag, "the Host header is missing or malformed");
		return ERR_PROTO;
	}
	start->host = xstrdup(url.authority);
	front->host = start->host;
	config_url_done(&url);
	return ERR_OK;
}

/* Ask the vendor for a session; its record is the caller's. */
static enum err
ask_vendor(struct start *start, json_t **ret, struct diag *diag)
{
	const struct config_persona *kept =
	    config_find_persona(request_config(start->req),
		start->token.persona);
	json_t *persona = kept != NULL
	    ? json_incref(kept->value)
	    : json_pack("{s:s}", "personaId", start->token.persona);
	json_t *request = anam_session_request(start->body), *answer;
	struct anam_engine engine;
	enum err err = anam_vendor_start(start->anam, persona, request,
	    start->deadline_ms, &answer, &start->refusal, diag);

	json_decref(persona);
	json_decref(request);
	if (err != ERR_OK) {
		start->refused = true;
		return err;
	}
	err = anam_session_check(start->anam, answer, &engine, diag);
	if (err == ERR_OK) {
		anam_engine_done(&engine);
		*ret = anam_session_record(answer, &start->front);
	}
	json_decref(answer);
	return err;
}

static void
log_session(const struct start *start, const struct store_anam *session,
    const char *how)
{
	char client[64], persona[160], user[128], hash[ANAM_HASH_BYTES];

	anam_session_hash(session->id, hash);
	log_info("anam.session",
	    "session=%s client=%s user=%s persona=%s how=%s ms=%lld", hash,
	    anam_escape(request_client(start->req), client, sizeof(client)),
	    anam_escape(session->user, user, sizeof(user)),
	    anam_escape(session->persona, persona, sizeof(persona)), how,
	    (long long)(clock_ms() - (start->deadline_ms - ANAM_DEADLINE_MS)));
}

/*
 * Keep it.  Where another process was faster with this token, its session is
 * the one that counts.
 */
static enum err
keep(const struct start *start, struct store_anam *session, struct diag *diag)
{
	struct store *store = store_current();
	struct store_anam other;
	enum err err = store->ops->put_anam(store, session, diag);

	if (err != ERR_DENIED)
		return err;
	err = store->ops->get_anam_by_token(store, session->token_id,
	    clock_unix(), &other, diag);
	if (err != ERR_OK) {
		diag_set(diag,
		    "the vendor gave an id that another session has");
		return err == ERR_NOTFOUND ? ERR_UPSTREAM : err;
	}
	log_session(start, session, "dropped");
	store_anam_done(session);
	*session = other;
	return ERR_OK;
}

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

static enum err
make_session(struct start *start, struct store_anam *ret, struct diag *diag)
{
	int64_t now = clock_unix();
	json_t *record = NULL;
	enum err err = anam_quota_take(start->anam->max_sessions,
	    start->anam->session_ttl_s, now, diag);

	if (err != ERR_OK)
		return err;
	err = ask_vendor(start, &record, diag);
	/* one that is of no use to us was made all the same, and is paid for */
	if (start->refused)
		anam_quota_give_back(now);
	if (err != ERR_OK)
		return err;
	*ret = (struct store_anam){
		.id = copy(
		    json_string_value(json_object_get(record, "sessionId"))),
		.user = copy(start->token.user),
		.persona = copy(start->token.persona),
		.token_id = copy(start->token.id),
		.session = record,
		.created = now,
		.expires = now + start->anam->session_ttl_s,
	};
	err = keep(start, ret, diag);
	if (err == ERR_OK)
		log_session(start, ret, "new");
	else
		store_anam_done(ret);
	return err;
}

/* The session of this token: the one that there is, or a new one. */
static enum err
find_session(struct start *start, struct store_anam *ret, struct diag *diag)
{
	struct store *store = store_current();
	unsigned threads = request_config(start->req)->requests.threads;
	struct flight *flight;
	/* a client that hears nothing for ten seconds asks again */
	enum err err = flight_begin(start->token.id, threads,
	    start->deadline_ms, &flight, diag);

	if (err != ERR_OK)
		return err;
	err = store->ops->get_anam_by_token(store, start->token.id,
	    clock_unix(), ret, diag);
	if (err == ERR_OK)
		log_session(start, ret, "again");
	else if (err == ERR_NOTFOUND)
		err = make_session(start, ret, diag);
	flight_end(flight);
	return err;
}

void
anam_session_handle(struct request *req)
{
	struct start start = { .req = req,
		.anam = anam_request_find(req),
		.deadline_ms = clock_ms() + ANAM_DEADLINE_MS };
	struct store_anam session;
	struct diag diag = { "" };
	enum err err;

	if (start.anam == NULL ||
	    (request_header(req, "authorization") == NULL &&
		!anam_request_identify(req, start.anam, &start.who)))
		return;
	err = anam_request_check_target(req, start.anam, &diag);
	if (err == ERR_OK)
		err = anam_request_body(req, &start.body, &diag);
	if (err == ERR_OK)
		err = take_token(&start, &diag);
	if (err == ERR_OK)
		err = find_front(&start, &diag);
	if (err == ERR_OK)
		err = find_session(&start, &session, &diag);
	if (err == ERR_OK) {
		request_reply_json(req, 200,
		    anam_session_answer(session.session, start.text));
		store_anam_done(&session);
	} else if (start.refused) {
		anam_refuse_as(req, &start.refusal, start.token.persona, &diag);
	} else {
		anam_refuse(req, err, &diag);
	}
	start_done(&start);
}

/* ---- POST /v1/metrics/client --------------------------------------------- */

/* The vendor's own, about its own clients: nothing of it is read. */
void
anam_metrics_handle(struct request *req)
{
	if (anam_request_find(req) != NULL)
		request_reply_empty(req, 204);
}
