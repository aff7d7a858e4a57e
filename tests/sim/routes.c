/* SPDX-License-Identifier: MIT */
#include "routes.h"

#include <string.h>

#include "chat_api.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/jwt.h"
#include "openai_api.h"

/* ---- LiveKit ---- */

static enum err
check_token(const struct options *o, const char *token, json_t **ret,
    struct diag *diag)
{
	struct jwt_policy policy = { .alg = "HS256", .leeway_s = 10 };
	struct crypt_key *key = NULL;
	enum err err;

	if (token == NULL || o->livekit_secret == NULL) {
		diag_set(diag, "no token, or no SIM_LIVEKIT_SECRET");
		return ERR_UNAUTH;
	}
	policy.issuer = o->livekit_key;
	policy.now = clock_unix();
	err = crypt_key_from_short_secret(o->livekit_secret, 1, &key, diag);
	if (err == ERR_OK)
		err = jwt_verify(token, strlen(token), key, &policy, ret, diag);
	crypt_key_free(key);
	return err;
}

static struct reply *
get_validate(const struct options *o, const struct request *r)
{
	struct diag diag = { "" };
	json_t *claims = NULL;
	bool join = false;
	size_t len = 0;
	const char *token = request_query(r, "access_token");

	if (token == NULL)
		token = request_key(r, &len);
	if (check_token(o, token, &claims, &diag) != ERR_OK)
		return reply_text(401, "text/plain", diag.text);
	join = json_is_true(
	    json_object_get(json_object_get(claims, "video"), "roomJoin"));
	json_decref(claims);
	return join ? reply_text(200, "text/plain", "success")
		    : reply_text(401, "text/plain", "permissions denied");
}

/* ---- the tests' own ---- */

static struct reply *
add_entry(const struct routes *routes, enum vendor vendor, const void *body,
    size_t len)
{
	struct diag diag = { "" };
	json_t *entry = NULL;
	enum err err = json_parse(body, len, &entry, &diag);

	if (err == ERR_OK)
		err = script_add(routes->script, vendor, entry, &diag);
	json_decref(entry);
	if (err != ERR_OK)
		return reply_error(VENDOR_ANAM, 400, err_code(err), diag.text);
	return reply_json(200, json_object());
}

static struct reply *
answer_test(const struct routes *routes, const struct request *r,
    const void *body, size_t len)
{
	const char *path = request_path(r);
	bool post = strcmp(request_method(r), "POST") == 0;

	if (strcmp(path, "/sim/journal") == 0 && !post)
		return reply_json(200, journal_json(routes->journal));
	if (strcmp(path, "/sim/chat") == 0 && !post)
		return reply_json(200, journal_chat_json(routes->journal));
	if (strcmp(path, "/sim/reset") == 0 && post) {
		journal_reset(routes->journal);
		script_reset(routes->script);
		return reply_json(200, json_object());
	}
	if (strcmp(path, "/sim/script") == 0 && !post)
		return reply_json(200, script_json(routes->script));
	if (strcmp(path, "/sim/anam") == 0 && post)
		return add_entry(routes, VENDOR_ANAM, body, len);
	if (strcmp(path, "/sim/openai") == 0 && post)
		return add_entry(routes, VENDOR_OPENAI, body, len);
	if (strcmp(path, "/sim/anam/sessions") == 0 && !post)
		return reply_json(200, anam_api_json(routes->anam));
	return NULL;
}

struct reply *
routes_answer(const struct routes *routes, const struct request *r,
    const void *body, size_t len, bool tls)
{
	const struct options *o = routes->options;
	const char *path = request_path(r);
	int64_t now = clock_unix();
	struct reply *reply = NULL;

	if (strcmp(request_method(r), "OPTIONS") == 0)
		return reply_text(204, "text/plain", "");
	if (strncmp(path, "/sim/", 5) == 0)
		reply = answer_test(routes, r, body, len);
	else if (strcmp(path, "/rtc/validate") == 0)
		reply = get_validate(o, r);
	if (reply == NULL)
		reply = openai_api_answer(o, routes->script, r, body, len, now);
	if (reply == NULL)
		reply = chat_api_answer(o, routes->script, r, body, len, now);
	if (reply == NULL)
		reply = anam_api_answer(routes->anam, r, body, len, tls, now);
	if (reply == NULL)
		reply = reply_error(VENDOR_OPENAI, 404, "unknown_url",
		    "There is no such URL in the simulator.");
	return reply;
}
