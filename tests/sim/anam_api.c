/* SPDX-License-Identifier: MIT */
#include "anam_api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/crypt.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"

#define TOKEN_S	    3600
#define NAME_BYTES  4096
#define PERSONA_MAX 200

#define ENGINES "/v1/webrtc/engines/"

struct token {
	TAILQ_ENTRY(token) entry;
	char *text;
	char *persona; /* its id, or NULL for one that came along */
	int64_t expires;
	bool used;
};

struct session {
	TAILQ_ENTRY(session) entry;
	char id[37];
	char engine[32]; /* "" for the plain form of a host */
	char *persona;	 /* or NULL */
};

struct anam_api {
	pthread_mutex_t mutex;
	const struct secret *key;
	struct crypt_key *signer;
	struct script *script;
	TAILQ_HEAD(, token) tokens;
	TAILQ_HEAD(, session) sessions;
	size_t token_count, session_count;
};

/* ---- the lists, with the mutex held ---- */

static void
token_remove(struct anam_api *api, struct token *t)
{
	TAILQ_REMOVE(&api->tokens, t, entry);
	api->token_count--;
	free(t->text);
	free(t->persona);
	free(t);
}

static void
session_remove(struct anam_api *api, struct session *s)
{
	TAILQ_REMOVE(&api->sessions, s, entry);
	api->session_count--;
	free(s->persona);
	free(s);
}

static struct token *
token_find(struct anam_api *api, const char *text, size_t len)
{
	struct token *t;

	TAILQ_FOREACH (t, &api->tokens, entry)
		if (strlen(t->text) == len && memcmp(t->text, text, len) == 0)
			return t;
	return NULL;
}

static struct session *
session_find(struct anam_api *api, const char *id)
{
	struct session *s;

	TAILQ_FOREACH (s, &api->sessions, entry)
		if (id != NULL && strcmp(s->id, id) == 0)
			return s;
	return NULL;
}

/* ---- life ---- */

struct anam_api *
anam_api_new(const struct secret *key, struct script *script)
{
	struct anam_api *api = xcalloc(1, sizeof(*api));
	char random[65];
	struct secret *secret;

	pthread_mutex_init(&api->mutex, NULL);
	TAILQ_INIT(&api->tokens);
	TAILQ_INIT(&api->sessions);
	api->key = key;
	api->script = script;
	crypt_random_hex(random, 32);
	secret = secret_new(random, 64, "random");
	/* 64 bytes are enough for any algorithm: it cannot fail. */
	if (crypt_key_from_secret(secret, &api->signer, NULL) != ERR_OK)
		abort();
	secret_free(secret);
	return api;
}

void
anam_api_free(struct anam_api *api)
{
	if (api == NULL)
		return;
	while (!TAILQ_EMPTY(&api->tokens))
		token_remove(api, TAILQ_FIRST(&api->tokens));
	while (!TAILQ_EMPTY(&api->sessions))
		session_remove(api, TAILQ_FIRST(&api->sessions));
	crypt_key_free(api->signer);
	pthread_mutex_destroy(&api->mutex);
	free(api);
}

/* ---- POST /v1/auth/session-token ---- */

static struct reply *
fail(int status, const char *error, const char *message)
{
	return reply_error(VENDOR_ANAM, status, error, message);
}

static struct reply *
fail_method(void)
{
	return fail(405, "Method Not Allowed", "Use POST.");
}

static bool
key_is_good(const struct anam_api *api, const char *key, size_t len)
{
	size_t right_len;
	const char *right;

	if (key == NULL || api->key == NULL)
		return key != NULL;
	right = secret_peek(api->key, &right_len);
	return right_len == len && crypt_equal(right, key, len);
}

/* An object, and not an empty one of no persona: NULL for good. */
static const char *
persona_fault(const json_t *persona)
{
	static const char *const needed[] = { "name", "avatarId", "voiceId" };
	const char *text;

	if (!json_is_object(persona))
		return "personaConfig must be an object";
	if (json_object_get(persona, "personaId") != NULL)
		return json_get_string(persona, "personaId", PERSONA_MAX,
			   &text) == ERR_OK &&
			*text != '\0'
		    ? NULL
		    : "personaConfig.personaId must be a string";
	for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++)
		if (json_get_string(persona, needed[i], NAME_BYTES, &text) !=
		    ERR_OK)
			return "personaConfig needs a personaId, or a name, "
			       "avatarId and voiceId";
	return NULL;
}

static char *
token_new(struct anam_api *api, const char *persona, int64_t now)
{
	struct token *t = xcalloc(1, sizeof(*t));
	char id[33], *text;
	json_t *claims;

	crypt_random_hex(id, 16);
	claims = json_pack("{s:s, s:s, s:s, s:I, s:I}", "type", "ephemeral",
	    "accountId", "sim-account", "jti", id, "iat", (json_int_t)now,
	    "exp", (json_int_t)(now + TOKEN_S));
	if (jwt_sign(claims, api->signer, "HS256", "JWT", NULL, &t->text) !=
	    ERR_OK)
		abort();
	json_decref(claims);
	t->persona = persona == NULL ? NULL : xstrdup(persona);
	t->expires = now + TOKEN_S;
	text = xstrdup(t->text);
	pthread_mutex_lock(&api->mutex);
	if (api->token_count == ANAM_MAX)
		token_remove(api, TAILQ_FIRST(&api->tokens));
	TAILQ_INSERT_TAIL(&api->tokens, t, entry);
	api->token_count++;
	pthread_mutex_unlock(&api->mutex);
	return text;
}

static struct reply *
create_token(struct anam_api *api, const struct request *r, const json_t *body,
    int64_t now)
{
	const json_t *persona = json_object_get(body, "personaConfig");
	const char *id = NULL, *why;
	size_t len = 0;
	const char *key = request_key(r, &len);
	struct reply *reply;
	char *token;

	if (!key_is_good(api, key, len))
		return fail(401, "Unauthorized", "Invalid API key");
	why = persona_fault(persona);
	if (why != NULL)
		return fail(400, "Bad Request", why);
	if (json_get_string(persona, "personaId", PERSONA_MAX, &id) != ERR_OK)
		id = NULL;
	token = token_new(api, id, now);
	reply = reply_json(200, json_pack("{s:s}", "sessionToken", token));
	free(token);
	return reply;
}

/* ---- POST /v1/engine/session ---- */

static void
random_uuid(char out[37])
{
	char hex[33];

	crypt_random_hex(hex, 16);
	hex[12] = '4';
	hex[16] = '8';
	snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
	    hex + 16, hex + 20);
}

/* A new session; its answer as the client gets it. */
static json_t *
session_new(struct anam_api *api, const char *persona, const char *host,
    bool tls, bool plain)
{
	struct session *s = xcalloc(1, sizeof(*s));
	char name[9], *engine_host, *endpoint;
	json_t *out;

	random_uuid(s->id);
	crypt_random_hex(name, 4);
	if (!plain)
		snprintf(s->engine, sizeof(s->engine), "anam-engine-%s", name);
	s->persona = persona == NULL ? NULL : xstrdup(persona);
	engine_host = plain ? xstrdup(host)
			    : xasprintf("%s" ENGINES "%s", host, s->engine);
	endpoint =
	    plain ? xstrdup("/ws") : xasprintf(ENGINES "%s/ws", s->engine);
	out = json_pack("{s:s, s:s, s:s, s:s, s:s,"
			" s:{s:[], s:s, s:i, s:i, s:i, s:i}}",
	    "sessionId", s->id, "region", "eu", "engineHost", engine_host,
	    "engineProtocol", tls ? "https" : "http", "signallingEndpoint",
	    endpoint, "clientConfig", "iceServers", "iceTransportPolicy", "all",
	    "heartbeatIntervalSeconds", 5, "expectedHeartbeatIntervalSecs", 5,
	    "maxWsReconnectionAttempts", 5, "maxWsReconnectAttempts", 5);
	free(engine_host);
	free(endpoint);
	pthread_mutex_lock(&api->mutex);
	if (api->session_count == ANAM_MAX)
		session_remove(api, TAILQ_FIRST(&api->sessions));
	TAILQ_INSERT_TAIL(&api->sessions, s, entry);
	api->session_count++;
	pthread_mutex_unlock(&api->mutex);
	return out;
}

/* Why the token may not, or NULL: it is used then. */
static const char *
token_use(struct anam_api *api, const char *text, size_t len, int64_t now)
{
	const char *why = NULL;
	struct token *t;

	pthread_mutex_lock(&api->mutex);
	t = text == NULL ? NULL : token_find(api, text, len);
	if (t == NULL)
		why = "Invalid session token";
	else if (t->expires <= now)
		why = "The session token has expired";
	else if (t->used)
		why = "The session token was used already";
	else
		t->used = true;
	pthread_mutex_unlock(&api->mutex);
	return why;
}

static struct reply *
create_session(struct anam_api *api, const struct request *r, bool tls,
    int64_t now, const json_t *entry, const char *persona)
{
	const char *host = request_header(r, "Host");
	const char *mode = json_string_value(json_object_get(entry, "mode"));
	size_t len = 0;
	const char *token = request_key(r, &len);
	const char *why = token_use(api, token, len, now);
	json_t *session;

	if (why != NULL)
		return fail(401, "Unauthorized", why);
	host = host == NULL ? "localhost" : host;
	session = session_new(api, persona, host, tls,
	    mode != NULL && strcmp(mode, "plain") == 0);
	script_change(entry, host, session);
	return reply_json(201, session);
}

/* ---- the rest ---- */

/* ENGINE of ENGINES "ENGINE/REST", or NULL; *ret_len is its length. */
static const char *
engine_of(const char *path, const char *rest, size_t *ret_len)
{
	const char *name = path + strlen(ENGINES);

	if (strncmp(path, ENGINES, strlen(ENGINES)) != 0)
		return NULL;
	*ret_len = strcspn(name, "/");
	return strcmp(name + *ret_len, rest) == 0 ? name : NULL;
}

/* 0, 404 or 403 for a path of an engine that ends so. */
static int
check_engine(struct anam_api *api, const struct request *r, const char *rest)
{
	const char *id = request_query(r, "session_id");
	size_t len = 0;
	const char *engine = engine_of(request_path(r), rest, &len);
	const struct session *s;
	bool known = false;
	int status = 403;

	engine = engine == NULL ? "" : engine;
	pthread_mutex_lock(&api->mutex);
	TAILQ_FOREACH (s, &api->sessions, entry)
		known |= strlen(s->engine) == len &&
		    strncmp(s->engine, engine, len) == 0;
	s = session_find(api, id);
	if (!known)
		status = 404;
	else if (s != NULL && strlen(s->engine) == len &&
	    strncmp(s->engine, engine, len) == 0)
		status = 0;
	pthread_mutex_unlock(&api->mutex);
	return status;
}

bool
anam_api_is_signalling(const struct request *r)
{
	const char *path = request_path(r);
	size_t len;

	return engine_of(path, "/ws", &len) != NULL ||
	    (strcmp(path, "/ws") == 0 &&
		request_query(r, "session_id") != NULL);
}

int
anam_api_check(struct anam_api *api, const struct request *r)
{
	return check_engine(api, r, "/ws");
}

static struct reply *
talk(struct anam_api *api, const struct request *r, const json_t *body)
{
	const char *content;
	int status = check_engine(api, r, "/talk");

	if (status != 0)
		return status == 404
		    ? fail(404, "Not Found", "There is no such engine")
		    : fail(403, "Forbidden", "Not a session of this engine");
	if (json_get_string(body, "content", SIZE_MAX, &content) != ERR_OK)
		return fail(400, "Bad Request", "content must be a string");
	return reply_json(200, json_object());
}

/* The persona of the token that a session is asked for with; or NULL. */
static char *
persona_of(struct anam_api *api, const struct request *r)
{
	size_t len = 0;
	const char *text = request_key(r, &len);
	const struct token *t;
	char *persona;

	pthread_mutex_lock(&api->mutex);
	t = text == NULL ? NULL : token_find(api, text, len);
	persona = t == NULL || t->persona == NULL ? NULL : xstrdup(t->persona);
	pthread_mutex_unlock(&api->mutex);
	return persona;
}

/*
 * What is to be done with this request: the script's, or that of a persona
 * "sim-MODE" (for the session) or "sim-token-MODE" (for the token).
 */
static json_t *
entry_for(struct anam_api *api, const char *path, const char *persona,
    const char *prefix)
{
	json_t *entry = script_take(api->script, VENDOR_ANAM, path);

	if (entry == NULL && persona != NULL &&
	    strncmp(persona, prefix, strlen(prefix)) == 0 &&
	    script_knows(persona + strlen(prefix)))
		entry = json_pack("{s:s}", "mode", persona + strlen(prefix));
	return entry;
}

static struct reply *
answer_path(struct anam_api *api, const struct request *r, const json_t *body,
    bool tls, int64_t now)
{
	const json_t *config = json_object_get(body, "personaConfig");
	const char *path = request_path(r), *id = NULL;
	bool token = strcmp(path, "/v1/auth/session-token") == 0;
	char *persona = NULL;
	struct reply *reply;
	json_t *entry;

	if (!token)
		persona = persona_of(api, r);
	else if (json_get_string(config, "personaId", PERSONA_MAX, &id) ==
	    ERR_OK)
		persona = xstrdup(id);
	entry = entry_for(api, path, persona, token ? "sim-token-" : "sim-");
	reply = script_reply(entry, VENDOR_ANAM);
	if (reply == NULL && strcmp(request_method(r), "POST") != 0)
		reply = fail_method();
	else if (reply == NULL && token)
		reply = create_token(api, r, body, now);
	else if (reply == NULL && strcmp(path, "/v1/engine/session") == 0)
		reply = create_session(api, r, tls, now, entry, persona);
	else if (reply == NULL && strcmp(path, "/v1/metrics/client") == 0)
		reply = reply_json(200, json_object());
	else if (reply == NULL)
		reply = talk(api, r, body);
	script_delay(entry, reply);
	json_decref(entry);
	free(persona);
	return reply;
}

struct reply *
anam_api_answer(struct anam_api *api, const struct request *r, const void *data,
    size_t len, bool tls, int64_t now)
{
	const char *path = request_path(r);
	struct reply *reply;
	json_t *body = NULL;
	size_t n;

	if (strcmp(path, "/v1/auth/session-token") != 0 &&
	    strcmp(path, "/v1/engine/session") != 0 &&
	    strcmp(path, "/v1/metrics/client") != 0 &&
	    engine_of(path, "/talk", &n) == NULL && strcmp(path, "/talk") != 0)
		return NULL;
	if (len > 0 && json_parse(data, len, &body, NULL) != ERR_OK)
		return fail(400, "Bad Request", "The body is no JSON");
	reply = answer_path(api, r, body, tls, now);
	json_decref(body);
	return reply;
}

json_t *
anam_api_json(struct anam_api *api)
{
	json_t *list = json_array();
	const struct session *s;

	pthread_mutex_lock(&api->mutex);
	TAILQ_FOREACH (s, &api->sessions, entry)
		json_array_append_new(list,
		    json_pack("{s:s, s:s, s:s?}", "id", s->id, "engine",
			s->engine, "personaId", s->persona));
	pthread_mutex_unlock(&api->mutex);
	return list;
}
