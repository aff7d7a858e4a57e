/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/anam/anam_quota.h"
#include "broker/anam/anam_route.h"
#include "broker/anam/anam_session.h"
#include "broker/anam/anam_token.h"
#include "broker/anam/anam_vendor.h"
#include "broker/config/url.h"
#include "broker/http/flight.h"
#include "broker/http/request_parse.h"
#include "broker/limits/admission.h"
#include "broker/limits/revocations.h"
#include "broker/signing_key.h"
#include "broker/store/store.h"
#include "broker/users/identity.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

/* The SDKs give up after ten seconds. */
#define DEADLINE_MS 9000

#define PERSONA_BYTES 128
#define TARGET_URL    "x-anam-target-url"
#define RETRY_AFTER_S "5"

/* ---- refusing ------------------------------------------------------------ */

json_t *
anam_error(const char *code, const char *message)
{
	return json_made(
	    json_pack("{s:s, s:s}", "error", code, "message", message));
}

static const char *
escape(const char *text, char *out, size_t size)
{
	return str_escape(out, size, text == NULL ? "-" : text,
	    text == NULL ? 1 : strlen(text));
}

/*
 * Our own failures are for the log; the client's are for the client, and for
 * the log where it may be the configuration that is wrong.
 */
static void
refuse(struct request *req, enum err err, const struct diag *diag)
{
	static struct log_limit denied = LOG_LIMIT_A_MINUTE;
	char client[64];

	if (err == ERR_RATE)
		request_add_header(req, "Retry-After", RETRY_AFTER_S);
	if (err_http_status(err) >= 500) {
		log_error("anam.failed", "client=%s reason=\"%s\"",
		    escape(request_client(req), client, sizeof(client)),
		    diag->text);
		request_reply_error(req, err, NULL);
		return;
	}
	if (err == ERR_DENIED || err == ERR_UNAUTH || err == ERR_RATE)
		log_limited(&denied, LOG_LEVEL_NOTICE, "anam.denied",
		    "client=%s reason=\"%s\"",
		    escape(request_client(req), client, sizeof(client)),
		    diag->text);
	if (err == ERR_RATE)
		request_reply_status(req, 429,
		    "Concurrent session limit reached",
		    "no more sessions are started now");
	else
		request_reply_error(req, err, diag->text);
}

/* What the vendor's failure is for the client; why is for the log. */
static void
refuse_as(struct request *req, const struct anam_refusal *refusal,
    const char *of_persona, const struct diag *diag)
{
	char client[64], persona[160], seconds[24];

	escape(request_client(req), client, sizeof(client));
	escape(of_persona, persona, sizeof(persona));
	if (refusal->ours)
		log_error("anam.key_refused", "client=%s reason=\"%s\"", client,
		    diag->text);
	else if (refusal->status >= 500)
		log_error("anam.failed", "client=%s persona=%s reason=\"%s\"",
		    client, persona, diag->text);
	else
		log_notice("anam.refused",
		    "client=%s persona=%s status=%d reason=\"%s\"", client,
		    persona, refusal->status, diag->text);
	if (refusal->retry_after_s > 0) {
		(void)snprintf(seconds, sizeof(seconds), "%" PRId64,
		    refusal->retry_after_s);
		request_add_header(req, "Retry-After", seconds);
	} else if (refusal->status == 429) {
		request_add_header(req, "Retry-After", RETRY_AFTER_S);
	}
	request_reply_status(req, refusal->status, refusal->error,
	    refusal->message);
}

/* ---- what a request says ------------------------------------------------- */

/* The section, and all that it needs; NULL where it was answered. */
static const struct config_anam *
find_anam(struct request *req)
{
	const struct config_anam *anam = request_config(req)->anam;
	struct diag diag = { "" };

	if (anam == NULL) {
		request_reply_error(req, ERR_NOTFOUND,
		    "Anam is not configured here");
		return NULL;
	}
	if (store_current() == NULL || !signing_key_is_there()) {
		diag_set(&diag,
		    "the store is not open: the section anam needs one, and a "
		    "restart where that is new");
		refuse(req, ERR_UNAVAIL, &diag);
		return NULL;
	}
	return anam;
}

/*
 * The body, an object, which the caller decrefs.  Dart's http client calls
 * everything text/plain that it is not told to call otherwise.
 */
static enum err
read_body(struct request *req, json_t **ret, struct diag *diag)
{
	static const char *const types[] = { "application/json", "text/plain",
		NULL };
	const char *data, *type;
	json_t *body = NULL;
	size_t len;
	enum err err = request_body(req, types,
	    (size_t)request_config(req)->requests.body_bytes, &data, &len,
	    &type, diag);

	if (err == ERR_OK)
		err = json_parse(data, len, &body, diag);
	if (err == ERR_OK && !json_is_object(body)) {
		diag_set(diag, "the body is not a JSON object");
		err = ERR_PROTO;
	}
	if (err == ERR_OK)
		*ret = body;
	else
		json_decref(body);
	return err;
}

/* Whether a URL is this scheme and host, prefix and path. */
static bool
is_url_of(const char *url, const char *base, const char *prefix,
    const char *path)
{
	char *text = xasprintf("%s%s%s", base, prefix, path);
	bool is = strcasecmp(url, text) == 0;

	free(text);
	return is;
}

/*
 * A gateway's request says where it would go: it may name this path at the
 * vendor's API, ours or the SDKs' own, and goes where it always goes.
 */
static enum err
check_target(struct request *req, const struct config_anam *anam,
    struct diag *diag)
{
	const char *url = request_header(req, TARGET_URL);
	const char *host = request_header(req, "host");
	const char *prefix = request_config(req)->requests.base_path;
	const char *path = request_path(req);
	const char *rest = NULL;

	if (url == NULL || is_url_of(url, "https://api.anam.ai", "", path) ||
	    is_url_of(url, anam->url, "", path))
		return ERR_OK;
	if (anam->public_url != NULL &&
	    is_url_of(url, anam->public_url, prefix, path))
		return ERR_OK;
	/* a web server before ours may have ended TLS: either scheme */
	if (strncmp(url, "https://", 8) == 0)
		rest = url + 8;
	else if (strncmp(url, "http://", 7) == 0)
		rest = url + 7;
	if (host != NULL && rest != NULL && is_url_of(rest, host, prefix, path))
		return ERR_OK;
	diag_set(diag, "X-Anam-Target-Url is not this request's");
	return ERR_DENIED;
}

static bool
is_allowed(const struct config *config, const char *persona)
{
	const struct config_strings *ids = &config->anam->personas;

	if (config_find_persona(config, persona) != NULL)
		return true;
	for (size_t i = 0; i < ids->count; i++)
		if (str_match(ids->items[i], persona))
			return true;
	return false;
}

static enum err
check_persona(const struct config *config, const char *persona,
    struct diag *diag)
{
	char word[160];

	if (is_allowed(config, persona))
		return ERR_OK;
	/* whoever configures this reads it in the log */
	diag_set(diag,
	    "persona %s is not allowed: write personas = {\"ID\"} in the "
	    "section anam",
	    escape(persona, word, sizeof(word)));
	return ERR_DENIED;
}

/* The id that a body asks for, checked; borrowed from it. */
static enum err
find_persona(const struct config *config, const json_t *body, const char **ret,
    struct diag *diag)
{
	const json_t *wish = json_object_get(body, "personaConfig");
	enum err err = json_get_string(json_is_object(wish) ? wish : body,
	    "personaId", PERSONA_BYTES, ret);

	if (err != ERR_OK || **ret == '\0' ||
	    !str_is_field_value(*ret, strlen(*ret))) {
		diag_set(diag, "personaId is missing or not a usable text");
		return ERR_PROTO;
	}
	return check_persona(config, *ret, diag);
}

/* ---- POST /v1/auth/session-token ----------------------------------------- */

/* Who asks, where he is served and within his limits; or it is answered. */
static bool
identify(struct request *req, const struct config_anam *anam,
    struct identity *ret)
{
	struct subjects_request who = {
		.route = "anam",
		.route_plan = anam->plan,
	};
	struct diag diag = { "" };
	enum err err = identity_of_request(req,
	    IDENTITY_BEARER | IDENTITY_COOKIE | IDENTITY_VENDOR_KEYS |
		IDENTITY_ANON_ID,
	    "anam", ret, &diag);

	if (err != ERR_OK) {
		refuse(req, err, &diag);
		return false;
	}
	who.user = ret->user;
	who.plan = ret->plan;
	who.anon_id = ret->anon_id;
	err = identity_check_required(ret, anam->require_user, &diag);
	if (err != ERR_OK)
		refuse(req, err, &diag);
	else if (admission_admits(req, &who))
		return true;
	identity_done(ret);
	return false;
}

/* A token for the persona that the body names. */
static enum err
make_token(const struct request *req, const char *user, const json_t *body,
    struct anam_token *ret, char **ret_text, struct diag *diag)
{
	const struct config *config = request_config(req);
	const char *persona;
	enum err err = find_persona(config, body, &persona, diag);

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
	    escape(request_client(req), client, sizeof(client)),
	    escape(token->user, user, sizeof(user)),
	    escape(token->persona, persona, sizeof(persona)));
}

void
anam_token_handle(struct request *req)
{
	const struct config_anam *anam = find_anam(req);
	struct anam_token token;
	struct identity who;
	struct diag diag = { "" };
	json_t *body = NULL;
	char *text = NULL;
	enum err err;

	if (anam == NULL || !identify(req, anam, &who))
		return;
	err = check_target(req, anam, &diag);
	if (err == ERR_OK)
		err = read_body(req, &body, &diag);
	if (err == ERR_OK)
		err = make_token(req, who.user, body, &token, &text, &diag);
	json_decref(body);
	identity_done(&who);
	if (err != ERR_OK) {
		refuse(req, err, &diag);
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
		err = check_persona(config, start->token.persona, diag);
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

	front->gateway = request_header(start->req, TARGET_URL) != NULL;
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
	    escape(request_client(start->req), client, sizeof(client)),
	    escape(session->user, user, sizeof(user)),
	    escape(session->persona, persona, sizeof(persona)), how,
	    (long long)(clock_ms() - (start->deadline_ms - DEADLINE_MS)));
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
		.anam = find_anam(req),
		.deadline_ms = clock_ms() + DEADLINE_MS };
	struct store_anam session;
	struct diag diag = { "" };
	enum err err;

	if (start.anam == NULL ||
	    (request_header(req, "authorization") == NULL &&
		!identify(req, start.anam, &start.who)))
		return;
	err = check_target(req, start.anam, &diag);
	if (err == ERR_OK)
		err = read_body(req, &start.body, &diag);
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
		refuse_as(req, &start.refusal, start.token.persona, &diag);
	} else {
		refuse(req, err, &diag);
	}
	start_done(&start);
}

/* ---- POST /b/ID/talk, /talk ---------------------------------------------- */

/* The session's id, from the path and the query, which must agree. */
static enum err
find_id(struct request *req, char **ret, struct diag *diag)
{
	const char *path = request_path(req), *given = NULL;
	enum err err = request_query(req, "session_id", &given, diag);
	char *id;

	if (err != ERR_OK)
		return err;
	if (strcmp(path, "/talk") != 0) {
		id = anam_session_id_in_path(path, "/talk");
	} else if (given != NULL) {
		id = xstrdup(given);
	} else {
		diag_set(diag, "session_id is missing");
		return ERR_PROTO;
	}
	if (id == NULL || !anam_session_is_id(id)) {
		diag_set(diag, "there is no such session");
		err = ERR_NOTFOUND;
	} else if (given != NULL && strcmp(id, given) != 0) {
		diag_set(diag, "session_id is not the path's");
		err = ERR_DENIED;
	}
	if (err == ERR_OK)
		*ret = id;
	else
		free(id);
	return err;
}

/* What is stored of it, where it has not ended. */
static enum err
load_session(struct request *req, const char *id, struct store_anam *ret,
    struct diag *diag)
{
	struct store *store = store_current();
	const char *url = request_header(req, TARGET_URL);
	/* expired ones, too: they are told apart */
	enum err err = store->ops->get_anam(store, id, 0, ret, diag);

	if (err != ERR_OK) {
		if (err == ERR_NOTFOUND)
			diag_set(diag, "there is no such session");
		return err;
	}
	if (ret->expires <= clock_unix()) {
		diag_set(diag, "the session is over");
		err = ERR_UNAUTH;
	} else if (url != NULL && !anam_session_has_url(ret->session, url)) {
		diag_set(diag, "X-Anam-Target-Url is not this session's");
		err = ERR_DENIED;
	} else {
		err = anam_route_check_revoked(ret, diag);
	}
	if (err != ERR_OK)
		store_anam_done(ret);
	return err;
}

/* Send the body to the engine; *ret_refused: refusal says how to answer. */
static enum err
talk(struct request *req, const struct store_anam *session, int64_t deadline_ms,
    bool *ret_refused, struct anam_refusal *refusal, struct diag *diag)
{
	const struct config *config = request_config(req);
	struct flight *flight = NULL;
	struct anam_engine engine;
	json_t *body = NULL;
	char *text;
	size_t len;
	enum err err = read_body(req, &body, diag);

	if (err == ERR_OK)
		err = anam_session_check(config->anam, session->session,
		    &engine, diag);
	if (err != ERR_OK) {
		json_decref(body);
		return err;
	}
	text = json_text(body, &len);
	json_decref(body);
	err = flight_begin(NULL, config->requests.threads, deadline_ms, &flight,
	    diag);
	if (err == ERR_OK) {
		err = anam_vendor_talk(config->anam, engine.talk, session->id,
		    text, len, deadline_ms, refusal, diag);
		*ret_refused = err != ERR_OK;
	}
	flight_end(flight);
	explicit_bzero(text, len);
	free(text);
	anam_engine_done(&engine);
	return err;
}

void
anam_talk_handle(struct request *req)
{
	const struct config_anam *anam = find_anam(req);
	int64_t deadline_ms = clock_ms() + DEADLINE_MS;
	struct anam_refusal refusal;
	struct store_anam session;
	struct diag diag = { "" };
	bool refused = false;
	char *id = NULL;
	enum err err;

	if (anam == NULL)
		return;
	err = find_id(req, &id, &diag);
	if (err == ERR_OK)
		err = load_session(req, id, &session, &diag);
	if (err == ERR_OK) {
		err =
		    talk(req, &session, deadline_ms, &refused, &refusal, &diag);
		store_anam_done(&session);
	}
	if (id != NULL)
		explicit_bzero(id, strlen(id));
	free(id);
	if (err == ERR_OK)
		request_reply_json(req, 200, json_object());
	else if (refused)
		refuse_as(req, &refusal, NULL, &diag);
	else
		refuse(req, err, &diag);
}

/* ---- POST /v1/metrics/client --------------------------------------------- */

/* The vendor's own, about its own clients: nothing of it is read. */
void
anam_metrics_handle(struct request *req)
{
	if (find_anam(req) != NULL)
		request_reply_empty(req, 204);
}
