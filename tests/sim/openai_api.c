/* SPDX-License-Identifier: MIT */
#include "openai_api.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "common/xalloc.h"
#include "multipart.h"
#include "openai.h"
#include "sdp.h"

#define LIFE_MIN_S     10
#define LIFE_MAX_S     7200
#define LIFE_DEFAULT_S 600

static struct reply *
fail(int status, const char *code, const char *message)
{
	return reply_error(VENDOR_OPENAI, status, code, message);
}

static struct reply *
fail_key(const char *key)
{
	return fail(401, key == NULL ? NULL : "invalid_api_key",
	    key == NULL ? "Missing bearer authentication in header."
			: "Incorrect API key provided. You can find your API "
			  "key at "
			  "https://platform.openai.com/account/api-keys.");
}

/* ---- GET /v1/models ---- */

static struct reply *
get_models(const struct options *o, const struct request *r, int64_t now)
{
	json_t *data;
	size_t len = 0;
	const char *key = request_key(r, &len);

	if (!options_key_is_good(o, key, len, now))
		return fail_key(key);
	data = json_array();
	for (size_t i = 0; i < o->models.count; i++) {
		const char *name = o->models.items[i];

		if (strchr(name, '*') == NULL)
			json_array_append_new(data,
			    json_pack("{s:s, s:s, s:i, s:s}", "id", name,
				"object", "model", "created", 1756310470,
				"owned_by", "system"));
	}
	return reply_json(200,
	    json_pack("{s:s, s:o}", "object", "list", "data", data));
}

/* ---- sessions that are described in a body ---- */

/* The session, or NULL after an error reply. */
static json_t *
make_session(const struct options *o, const json_t *wanted, int64_t now,
    struct reply **ret_fail)
{
	json_t *error = NULL, *session;
	const char *model;

	if (wanted != NULL && !json_is_object(wanted)) {
		*ret_fail = fail(400, "invalid_type",
		    "Invalid type for 'session': expected an object.");
		return NULL;
	}
	session = openai_session_make(wanted, now, &error);
	if (session == NULL) {
		*ret_fail = reply_json(400, json_pack("{s:o}", "error", error));
		return NULL;
	}
	model = json_string_value(json_object_get(session, "model"));
	if (model != NULL && !options_has_model(o, model)) {
		json_decref(session);
		*ret_fail = fail(404, "model_not_found",
		    "The model does not exist or you do not have access to "
		    "it.");
		return NULL;
	}
	return session;
}

/* ---- POST /v1/realtime/client_secrets ---- */

/* Seconds that a key shall live, or 0 after an error reply. */
static int64_t
life_of(const json_t *body, struct reply **ret_fail)
{
	const json_t *after = json_object_get(body, "expires_after");
	const char *anchor = "created_at";
	int64_t seconds = LIFE_DEFAULT_S;
	enum err err;

	if (after == NULL)
		return seconds;
	err = json_get_int(after, "seconds", LIFE_MIN_S, LIFE_MAX_S, &seconds);
	if (json_object_get(after, "anchor") != NULL &&
	    json_get_string(after, "anchor", 100, &anchor) != ERR_OK)
		anchor = "";
	if (json_is_object(after) && strcmp(anchor, "created_at") == 0 &&
	    (err == ERR_OK || err == ERR_NOTFOUND))
		return seconds;
	*ret_fail = fail(400, "invalid_value",
	    "Invalid 'expires_after': anchor is 'created_at', seconds are 10 "
	    "to 7200.");
	return 0;
}

static struct reply *
create_secret(const struct options *o, const struct request *r,
    const void *data, size_t len, int64_t now)
{
	size_t key_len = 0;
	const char *key = request_key(r, &key_len);
	struct reply *reply = NULL;
	json_t *body = NULL, *session;
	int64_t life;
	char *value;

	if (!options_is_main_key(o, key, key_len))
		return fail_key(key);
	if (len > 0 &&
	    (json_parse(data, len, &body, NULL) != ERR_OK ||
		!json_is_object(body))) {
		json_decref(body);
		return fail(400, "invalid_json",
		    "We could not parse the JSON body of your request.");
	}
	life = life_of(body, &reply);
	session = life == 0
	    ? NULL
	    : make_session(o, json_object_get(body, "session"), now, &reply);
	json_decref(body);
	if (session == NULL)
		return reply;
	value = ephemeral_issue(o->ephemeral, now + life);
	reply = reply_json(200,
	    json_pack("{s:s, s:I, s:o}", "value", value, "expires_at",
		(json_int_t)(now + life), "session", session));
	free(value);
	return reply;
}

/* ---- POST /v1/realtime/calls ---- */

/* What came in: borrowed from the body. */
struct call {
	const char *sdp, *session;
	size_t sdp_len, session_len;
};

static struct reply *
read_call(const struct request *r, const char *data, size_t len,
    struct call *ret)
{
	const char *type = request_header(r, "Content-Type");

	type = type == NULL ? "" : type;
	if (strncasecmp(type, "application/sdp", 15) == 0) {
		*ret = (struct call){ .sdp = data, .sdp_len = len };
		return NULL;
	}
	if (strncasecmp(type, "multipart/form-data", 19) != 0)
		return fail(415, "unsupported_content_type",
		    "Use application/sdp or multipart/form-data.");
	ret->sdp = multipart_find(type, data, len, "sdp", &ret->sdp_len);
	ret->session =
	    multipart_find(type, data, len, "session", &ret->session_len);
	return ret->sdp != NULL ? NULL
				: fail(400, "missing_required_parameter",
				      "Missing required parameter: 'sdp'.");
}

/* NULL for good. */
static struct reply *
check_call(const struct options *o, const struct request *r,
    const struct call *call, bool main_key, int64_t now)
{
	const char *model = request_query(r, "model");
	struct reply *reply = NULL;
	json_t *wanted = NULL, *session;

	if (call->session != NULL &&
	    json_parse(call->session, call->session_len, &wanted, NULL) !=
		ERR_OK)
		return fail(400, "invalid_json", "The session is no JSON.");
	if (main_key && model == NULL &&
	    json_object_get(wanted, "model") == NULL)
		reply = fail(400, "missing_model",
		    "You must provide a model parameter.");
	else if (model != NULL && !options_has_model(o, model))
		reply = fail(404, "model_not_found",
		    "The model does not exist or you do not have access to "
		    "it.");
	else if ((session = make_session(o, wanted, now, &reply)) != NULL)
		json_decref(session);
	json_decref(wanted);
	return reply;
}

static struct reply *
create_call(const struct options *o, const struct request *r, const char *data,
    size_t len, int64_t now)
{
	struct call call = { .sdp = NULL };
	size_t key_len = 0;
	const char *key = request_key(r, &key_len);
	struct reply *reply;
	char *answer, *id;

	if (!options_key_is_good(o, key, key_len, now))
		return fail_key(key);
	reply = read_call(r, data, len, &call);
	if (reply == NULL)
		reply = check_call(o, r, &call,
		    options_is_main_key(o, key, key_len), now);
	if (reply != NULL)
		return reply;
	answer = sdp_answer(call.sdp, call.sdp_len);
	if (answer == NULL)
		return fail(400, "invalid_offer", "The SDP offer is none.");
	reply = reply_new(201, "application/sdp", answer, strlen(answer));
	id = openai_id("rtc");
	reply->location = xasprintf("/v1/realtime/calls/%s", id);
	free(id);
	return reply;
}

/* ---- POST /v1/realtime/calls/ID/hangup ---- */

#define CALLS "/v1/realtime/calls/"

/* Whether the path is this one. */
static bool
is_hangup(const char *path)
{
	size_t len = strlen(CALLS);
	const char *rest = strrchr(path, '/');

	return strncmp(path, CALLS, len) == 0 && rest > path + len &&
	    strcmp(rest, "/hangup") == 0;
}

/* Any id of a call's form is one that runs. */
static struct reply *
hang_up(const struct options *o, const struct request *r, int64_t now)
{
	size_t key_len = 0;
	const char *key = request_key(r, &key_len);

	if (!options_key_is_good(o, key, key_len, now))
		return fail_key(key);
	if (strncmp(request_path(r) + strlen(CALLS), "rtc_", 4) != 0)
		return fail(404, "call_id_not_found", "No such call.");
	return reply_new(200, "text/plain", xstrdup(""), 0);
}

struct reply *
openai_api_answer(const struct options *o, struct script *script,
    const struct request *r, const void *body, size_t len, int64_t now)
{
	const char *path = request_path(r);
	bool models = strcmp(path, "/v1/models") == 0;
	bool secrets = strcmp(path, "/v1/realtime/client_secrets") == 0;
	bool calls = strcmp(path, "/v1/realtime/calls") == 0;
	bool hangup = is_hangup(path);
	struct reply *reply;
	json_t *entry;

	if (!models && !secrets && !calls && !hangup)
		return NULL;
	entry = script_take(script, VENDOR_OPENAI, path);
	reply = script_reply(entry, VENDOR_OPENAI);
	if (reply == NULL &&
	    strcmp(request_method(r), models ? "GET" : "POST") != 0)
		reply = fail(405, "method_not_supported",
		    "Not allowed with this method.");
	else if (reply == NULL && models)
		reply = get_models(o, r, now);
	else if (reply == NULL && hangup)
		reply = hang_up(o, r, now);
	else if (reply == NULL && secrets)
		reply = create_secret(o, r, body, len, now);
	else if (reply == NULL)
		reply = create_call(o, r, body, len, now);
	script_delay(entry, reply);
	json_decref(entry);
	return reply;
}
