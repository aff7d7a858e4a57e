/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_session.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/config/url.h"
#include "broker/tunnels/target.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define ID_MIN	 8
#define ID_MAX	 128
#define TEXT_MAX 1024

/* Our member of a record. */
#define TOLD "culvert"

/* ---- ids --------------------------------------------------------------- */

bool
anam_session_is_id(const char *id)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz"
				      "0123456789-_";
	size_t len = strlen(id);

	return len >= ID_MIN && len <= ID_MAX && strspn(id, allowed) == len;
}

void
anam_session_hash(const char *id, char out[ANAM_HASH_BYTES])
{
	uint8_t digest[20];

	crypt_sha1(id, strlen(id), digest);
	for (size_t i = 0; i < (ANAM_HASH_BYTES - 1) / 2; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* ---- the engine -------------------------------------------------------- */

/* A member's text, or "" where there is none. */
static const char *
text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text == NULL || strlen(text) > TEXT_MAX ? "" : text;
}

static bool
is_allowed_host(const struct config_anam *anam, const char *host)
{
	char lower[256];
	size_t len = strlen(host);

	if (len >= sizeof(lower))
		return false;
	for (size_t i = 0; i <= len; i++)
		lower[i] = (char)tolower((unsigned char)host[i]);
	for (size_t i = 0; i < anam->hosts.count; i++)
		if (str_match(anam->hosts.items[i], lower))
			return true;
	return false;
}

/* ERR_UPSTREAM where the vendor's protocol is not one that may be used. */
static enum err
check_protocol(const struct config_anam *anam, const json_t *record,
    bool *ret_tls, struct diag *diag)
{
	const char *protocol = text_of(record, "engineProtocol");

	*ret_tls = strcmp(protocol, "https") == 0;
	if (*ret_tls || (strcmp(protocol, "http") == 0 && anam->allow_http))
		return ERR_OK;
	diag_set(diag, "the engine's protocol is %s",
	    strcmp(protocol, "http") == 0 ? "http, and allow_http is not set"
					  : "neither https nor http");
	return ERR_UPSTREAM;
}

/* From the vendor's texts to the engine's two addresses. */
static enum err
build_engine(const struct config_anam *anam, const json_t *record,
    struct anam_engine *engine, struct diag *diag)
{
	const char *host = text_of(record, "engineHost");
	const char *endpoint = text_of(record, "signallingEndpoint");
	size_t authority = strcspn(host, "/"), len = strlen(host);
	char escaped[128];
	bool tls = false;
	char *url;
	enum err err = check_protocol(anam, record, &tls, diag);

	if (err != ERR_OK)
		return err;
	if (str_path_fault(endpoint, strlen(endpoint)) != NULL ||
	    (authority < len &&
		str_path_fault(host + authority, len - authority) != NULL)) {
		diag_set(diag, "the engine's path is not acceptable");
		return ERR_UPSTREAM;
	}
	url = xasprintf("%s://%.*s%s", tls ? "wss" : "ws", (int)authority, host,
	    endpoint);
	err = url_parse(url, &engine->signalling, NULL);
	free(url);
	if (err != ERR_OK || engine->signalling.query != NULL) {
		diag_set(diag, "the engine's host is not acceptable");
		return ERR_UPSTREAM;
	}
	if (!is_allowed_host(anam, engine->signalling.host)) {
		diag_set(diag,
		    "the engine's host %s is none of `hosts' of the section "
		    "anam",
		    str_escape(escaped, sizeof(escaped),
			engine->signalling.host,
			strlen(engine->signalling.host)));
		return ERR_UPSTREAM;
	}
	while (len > authority && host[len - 1] == '/')
		len--;
	engine->talk = xasprintf("%s://%s%.*s/talk", tls ? "https" : "http",
	    engine->signalling.authority, (int)(len - authority),
	    host + authority);
	return ERR_OK;
}

enum err
anam_session_check(const struct config_anam *anam, const json_t *record,
    struct anam_engine *ret, struct diag *diag)
{
	struct anam_engine engine = { .talk = NULL };
	enum err err;

	if (!json_is_object(record) ||
	    !anam_session_is_id(text_of(record, "sessionId"))) {
		diag_set(diag, "the vendor's answer has no usable sessionId");
		return ERR_UPSTREAM;
	}
	if (!json_is_object(json_object_get(record, "clientConfig"))) {
		diag_set(diag, "the vendor's answer has no clientConfig");
		return ERR_UPSTREAM;
	}
	err = build_engine(anam, record, &engine, diag);
	if (err == ERR_OK)
		*ret = engine;
	else
		anam_engine_done(&engine);
	return err;
}

void
anam_engine_done(struct anam_engine *engine)
{
	config_url_done(&engine->signalling);
	free(engine->talk);
	*engine = (struct anam_engine){ .talk = NULL };
}

/* ---- what the vendor is asked for -------------------------------------- */

json_t *
anam_session_request(const json_t *body)
{
	static const char *const names[] = { "client", "version" };
	const json_t *metadata = json_object_get(body, "clientMetadata");
	const json_t *sensitivity =
	    json_object_get(json_object_get(json_object_get(body,
						"sessionOptions"),
				"voiceDetection"),
		"endOfSpeechSensitivity");
	json_t *request = json_object();
	double value = json_number_value(sensitivity);
	const char *text;

	for (size_t i = 0; i < 2; i++)
		if (json_is_object(metadata) &&
		    json_get_string(metadata, names[i], 64, &text) == ERR_OK)
			(void)json_object_set_new(json_make_object(request,
						      "clientMetadata"),
			    names[i], json_string(text));
	if (json_is_number(sensitivity) && value >= 0 && value <= 1)
		(void)json_object_set_new(request, "sessionOptions",
		    json_pack("{s:{s:f}}", "voiceDetection",
			"endOfSpeechSensitivity", value));
	return request;
}

/* ---- what the client is told ------------------------------------------- */

json_t *
anam_session_record(const json_t *answer, const struct anam_front *front)
{
	const char *id = text_of(answer, "sessionId");
	json_t *record = json_deep_copy(answer);
	char *host, *endpoint;

	if (front->gateway) {
		host = xstrdup(ANAM_GATEWAY_HOST);
		endpoint = xstrdup("/ws");
	} else {
		host =
		    xasprintf("%s%s/b/%s", front->host, front->base_path, id);
		endpoint = xasprintf("%s/b/%s/ws", front->base_path, id);
	}
	(void)json_object_set_new(record, TOLD,
	    json_pack("{s:s, s:s, s:s}", "engineHost", host, "engineProtocol",
		front->protocol, "signallingEndpoint", endpoint));
	free(host);
	free(endpoint);
	return record;
}

json_t *
anam_session_answer(const json_t *record, const char *token)
{
	json_t *answer = json_deep_copy(record);

	(void)json_object_update(answer, json_object_get(answer, TOLD));
	(void)json_object_del(answer, TOLD);
	(void)json_object_del(answer, "sessionToken");
	if (token != NULL)
		(void)json_object_set_new(answer, "sessionToken",
		    json_string(token));
	return answer;
}

/* ---- which session a client means -------------------------------------- */

char *
anam_session_id_in_path(const char *path, const char *rest)
{
	size_t len;

	if (strncmp(path, "/b/", 3) != 0)
		return NULL;
	len = strcspn(path + 3, "/");
	return strcmp(path + 3 + len, rest) == 0 ? xstrndup(path + 3, len)
						 : NULL;
}

/* ---- what it sends back ------------------------------------------------ */

/* Both of a record's addresses: the vendor's, and what the client was told. */
static const json_t *
address(const json_t *record, size_t i)
{
	return i == 0 ? record : json_object_get(record, TOLD);
}

bool
anam_session_has_host(const json_t *record, const char *engine_host)
{
	for (size_t i = 0; i < 2; i++)
		if (*engine_host != '\0' &&
		    strcasecmp(engine_host,
			text_of(address(record, i), "engineHost")) == 0)
			return true;
	return false;
}

bool
anam_session_has_endpoint(const json_t *record, const char *endpoint)
{
	for (size_t i = 0; i < 2; i++)
		if (*endpoint != '\0' &&
		    strcmp(endpoint,
			text_of(address(record, i), "signallingEndpoint")) == 0)
			return true;
	return false;
}

/* What follows "scheme://", or NULL where that is none of ours. */
static const char *
after_scheme(const char *url)
{
	static const char *const schemes[] = { "wss://", "ws://", "https://",
		"http://" };

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
			return url + strlen(schemes[i]);
	return NULL;
}

/* The query's session_id, where the query has nothing else. */
static char *
id_in_query(const char *query)
{
	char *text = xasprintf("/%s", query), *id = NULL;
	struct target *target;
	const char *value;

	if (target_parse(text, &target, NULL) == ERR_OK) {
		value = target_find(target, "session_id");
		if (target->count == 1 && value != NULL &&
		    anam_session_is_id(value))
			id = xstrdup(value);
		target_free(target);
	}
	free(text);
	return id;
}

char *
anam_session_id_in(const char *url)
{
	const char *rest = after_scheme(url);

	return rest == NULL ? NULL : id_in_query(rest + strcspn(rest, "?"));
}

/* Whether a host and path, without a query, are of this address. */
static bool
is_at(const json_t *address, const char *place)
{
	const char *host = text_of(address, "engineHost");
	const char *endpoint = text_of(address, "signallingEndpoint");
	char *signalling, *talk;
	bool is;

	if (*host == '\0' || *endpoint == '\0')
		return false;
	signalling =
	    xasprintf("%.*s%s", (int)strcspn(host, "/"), host, endpoint);
	talk = xasprintf("%s/talk", host);
	is = strcasecmp(place, signalling) == 0 || strcasecmp(place, talk) == 0;
	free(signalling);
	free(talk);
	return is;
}

bool
anam_session_has_url(const json_t *record, const char *url)
{
	const char *rest = after_scheme(url);
	char *place, *id;
	bool has = false;

	if (rest == NULL)
		return false;
	place = xstrndup(rest, strcspn(rest, "?"));
	id = id_in_query(rest + strlen(place));
	if (id != NULL && strcmp(id, text_of(record, "sessionId")) == 0)
		has = is_at(address(record, 0), place) ||
		    is_at(address(record, 1), place);
	free(place);
	free(id);
	return has;
}
