/* SPDX-License-Identifier: MIT */
#include "script.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define STALL_MS   11000
#define MS_MAX	   60000
#define COUNT_MAX  1000
#define HUGE_BYTES (8 * 1024 * 1024)

struct script {
	pthread_mutex_t mutex;
	json_t *entries; /* each with a member "vendor" */
};

/* Errors, in the words of each vendor. */
struct mode {
	const char *name;
	int status;
	const char *error; /* Anam's literal */
	const char *code;  /* OpenAI's */
	const char *message;
};

static const struct mode errors[] = {
	{ "400", 400, "Bad Request", "invalid_value", "Invalid request." },
	{ "401", 401, "Unauthorized", "invalid_api_key",
	    "Incorrect API key provided." },
	{ "402", 402, "Payment Required", "billing_not_active",
	    "Please sign up for a plan to start a session." },
	{ "403", 403, "Forbidden", "permission_denied", "Not allowed." },
	{ "404", 404, "Not Found", "not_found", "No such thing." },
	{ "429-concurrent", 429, "Concurrent session limit reached",
	    "rate_limit_exceeded", "Too many sessions at a time." },
	{ "429-spend", 429, "Spend cap reached", "insufficient_quota",
	    "You exceeded your current quota." },
	{ "429-usage", 429, "Usage limit reached", "rate_limit_exceeded",
	    "Usage limit reached." },
	{ "500", 500, "Internal Server Error", "server_error",
	    "The server had an error." },
	{ "503", 503, "Service Unavailable", "server_overloaded",
	    "There are no available personas, please try again later." },
};

/* Bodies that no client of an API expects. */
struct body {
	const char *name;
	int status;
	const char *type, *text;
};

static const struct body bodies[] = {
	{ "html", 502, "text/html",
	    "<html><head><title>502 Bad Gateway</title></head>"
	    "<body>SIM-MARKER</body></html>" },
	{ "html-200", 200, "text/html", "<html>SIM-MARKER</html>" },
	{ "garbage", 200, "application/json", "{\"sessionId\":\"SIM-MARKER" },
	{ "empty", 200, "application/json", "" },
	{ "array", 200, "application/json", "[]" },
};

/* Answers that are the vendor's own but for this. */
struct change {
	const char *name, *engine_host;
	bool here; /* and then the simulator's own */
};

static const struct change changes[] = {
	{ "host-metadata", "169.254.169.254/latest/meta-data", false },
	{ "host-private", "10.0.0.1:8080/v1/webrtc/engines/anam-engine-x",
	    false },
	{ "host-other", "engine.example.org/v1/webrtc/engines/anam-engine-x",
	    false },
	{ "host-userinfo", "connect-eu.anam.ai@", true },
	{ "host-empty", "", false },
};

#define COUNT(list) (sizeof(list) / sizeof(*(list)))

static const struct mode *
find_error(const char *name)
{
	for (size_t i = 0; i < COUNT(errors); i++)
		if (strcmp(errors[i].name, name) == 0)
			return &errors[i];
	return NULL;
}

static const struct body *
find_body(const char *name)
{
	for (size_t i = 0; i < COUNT(bodies); i++)
		if (strcmp(bodies[i].name, name) == 0)
			return &bodies[i];
	return NULL;
}

static const struct change *
find_change(const char *name)
{
	for (size_t i = 0; i < COUNT(changes); i++)
		if (strcmp(changes[i].name, name) == 0)
			return &changes[i];
	return NULL;
}

bool
script_knows(const char *mode)
{
	static const char *const others[] = { "answer", "chat", "drop",
		"fields", "huge", "plain", "signalling", "stall" };

	for (size_t i = 0; i < COUNT(others); i++)
		if (strcmp(others[i], mode) == 0)
			return true;
	return find_error(mode) != NULL || find_body(mode) != NULL ||
	    find_change(mode) != NULL;
}

static const char *
mode_of(const json_t *entry)
{
	const char *mode = json_string_value(json_object_get(entry, "mode"));

	return mode == NULL ? "answer" : mode;
}

static bool
is_mode(const json_t *entry, const char *mode)
{
	return strcmp(mode_of(entry), mode) == 0;
}

/* ---- the list ---- */

struct script *
script_new(void)
{
	struct script *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->mutex, NULL);
	s->entries = json_array();
	return s;
}

void
script_free(struct script *s)
{
	if (s == NULL)
		return;
	json_decref(s->entries);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

/* A number may be absent; anything else out of its range is a mistake. */
static bool
is_number(const json_t *entry, const char *name, int64_t min, int64_t max)
{
	int64_t value;
	enum err err = json_get_int(entry, name, min, max, &value);

	return err == ERR_OK || err == ERR_NOTFOUND;
}

static bool
is_text(const json_t *entry, const char *name)
{
	const json_t *value = json_object_get(entry, name);

	return value == NULL || json_is_string(value);
}

enum err
script_add(struct script *s, enum vendor vendor, const json_t *entry,
    struct diag *diag)
{
	json_t *copy;
	enum err err = ERR_OK;

	if (!json_is_object(entry) || !is_text(entry, "mode") ||
	    !is_text(entry, "path") || !is_text(entry, "query") ||
	    !is_text(entry, "type") || !is_text(entry, "retry_after") ||
	    !is_number(entry, "count", 1, COUNT_MAX) ||
	    !is_number(entry, "ms", 0, MS_MAX) ||
	    !is_number(entry, "status", 200, 599)) {
		diag_set(diag, "not a script entry");
		return ERR_PROTO;
	}
	if (!script_knows(mode_of(entry))) {
		diag_set(diag, "no such mode");
		return ERR_PROTO;
	}
	copy = json_deep_copy(entry);
	json_object_set_new(copy, "vendor", json_integer(vendor));
	pthread_mutex_lock(&s->mutex);
	if (json_array_size(s->entries) < SCRIPT_MAX)
		json_array_append(s->entries, copy);
	else
		err = ERR_LIMIT;
	pthread_mutex_unlock(&s->mutex);
	json_decref(copy);
	return err;
}

/* With the mutex held. */
static json_t *
use(struct script *s, size_t index)
{
	json_t *entry = json_incref(json_array_get(s->entries, index));
	const json_t *count = json_object_get(entry, "count");
	json_int_t left = count == NULL ? 1 : json_integer_value(count);

	if (left <= 1)
		json_array_remove(s->entries, index);
	else
		json_object_set_new(entry, "count", json_integer(left - 1));
	return entry;
}

static json_t *
take(struct script *s, enum vendor vendor, const char *path, bool signalling)
{
	json_t *ret = NULL, *entry;
	size_t i;

	pthread_mutex_lock(&s->mutex);
	json_array_foreach(s->entries, i, entry)
	{
		const json_t *whose = json_object_get(entry, "vendor");
		const char *glob =
		    json_string_value(json_object_get(entry, "path"));

		if (json_integer_value(whose) == (json_int_t)vendor &&
		    is_mode(entry, "signalling") == signalling &&
		    (glob == NULL || str_match(glob, path))) {
			ret = use(s, i);
			break;
		}
	}
	pthread_mutex_unlock(&s->mutex);
	return ret;
}

json_t *
script_take(struct script *s, enum vendor vendor, const char *path)
{
	return take(s, vendor, path, false);
}

char *
script_take_query(struct script *s, const char *path)
{
	json_t *entry = take(s, VENDOR_ANAM, path, true);
	const char *query = json_string_value(json_object_get(entry, "query"));
	char *ret = query == NULL ? NULL : xstrdup(query);

	json_decref(entry);
	return ret;
}

json_t *
script_json(struct script *s)
{
	json_t *copy;

	pthread_mutex_lock(&s->mutex);
	copy = json_deep_copy(s->entries);
	pthread_mutex_unlock(&s->mutex);
	return copy;
}

void
script_reset(struct script *s)
{
	pthread_mutex_lock(&s->mutex);
	json_array_clear(s->entries);
	pthread_mutex_unlock(&s->mutex);
}

/* ---- what an entry asks for ---- */

static struct reply *
reply_as_told(const json_t *entry)
{
	const json_t *body = json_object_get(entry, "body");
	const json_t *status = json_object_get(entry, "status");
	int code = status == NULL ? 200 : (int)json_integer_value(status);
	const char *type = json_string_value(json_object_get(entry, "type"));

	if (body != NULL && !json_is_string(body))
		return reply_json(code, json_deep_copy(body));
	return reply_text(code,
	    type != NULL && strcmp(type, "text/html") == 0 ? "text/html"
							   : "application/json",
	    body == NULL ? "{}" : json_string_value(body));
}

static struct reply *
reply_huge(void)
{
	char *text = xcalloc(HUGE_BYTES, 1);

	memset(text, ' ', HUGE_BYTES);
	memcpy(text, "{}", 2);
	return reply_new(200, "application/json", text, HUGE_BYTES);
}

static struct reply *
make_reply(const json_t *entry, enum vendor vendor)
{
	const char *mode = mode_of(entry);
	const struct mode *error = find_error(mode);
	const struct body *body = find_body(mode);
	struct reply *reply;

	if (entry == NULL)
		return NULL;
	if (error != NULL)
		return reply_error(vendor, error->status,
		    vendor == VENDOR_ANAM ? error->error : error->code,
		    error->message);
	if (body != NULL)
		return reply_text(body->status, body->type, body->text);
	if (is_mode(entry, "huge"))
		return reply_huge();
	if (is_mode(entry, "answer"))
		return reply_as_told(entry);
	if (!is_mode(entry, "drop"))
		return NULL;
	reply = reply_text(500, "text/plain", "");
	reply->drop = true;
	return reply;
}

struct reply *
script_reply(const json_t *entry, enum vendor vendor)
{
	struct reply *reply = make_reply(entry, vendor);
	const char *after =
	    json_string_value(json_object_get(entry, "retry_after"));

	if (reply != NULL && after != NULL)
		reply->retry_after = xstrdup(after);
	return reply;
}

void
script_delay(const json_t *entry, struct reply *reply)
{
	const json_t *ms = json_object_get(entry, "ms");

	if (entry == NULL)
		return;
	if (ms != NULL)
		reply->delay_ms = (int)json_integer_value(ms);
	else if (is_mode(entry, "stall"))
		reply->delay_ms = STALL_MS;
}

void
script_change(const json_t *entry, const char *host, json_t *session)
{
	const struct change *change =
	    entry == NULL ? NULL : find_change(mode_of(entry));
	const char *name;
	json_t *value;

	if (change != NULL) {
		char *text = xasprintf("%s%s", change->engine_host,
		    change->here ? host : "");

		json_object_set_new(session, "engineHost", json_string(text));
		free(text);
	}
	json_object_foreach(json_object_get(entry, "fields"), name, value)
	{
		if (json_is_null(value))
			json_object_del(session, name);
		else
			json_object_set_new(session, name,
			    json_deep_copy(value));
	}
}
