/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/anam/anam_session.h"
#include "broker/anam/anam_vendor.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * The first line is what a client sends back, the rest the vendor's answer:
 * whatever they are, an engine that is found is on an allowed host, and what
 * the client is told does not name it.
 */
#define S(text) ((char[]){ text })

static char *hosts[] = { S("*.anam.ai") };
static const struct config_anam anam = { .hosts = { hosts, 1 } };
static const struct anam_front front = { .protocol = "https",
	.host = "chat.example",
	.base_path = "" };

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
check_engine(const json_t *answer)
{
	struct anam_engine engine;

	if (anam_session_check(&anam, answer, &engine, NULL) != ERR_OK)
		return;
	require(engine.signalling.tls && engine.signalling.query == NULL);
	require(strlen(engine.signalling.host) > strlen(".anam.ai"));
	require(strcasecmp(engine.signalling.host +
			strlen(engine.signalling.host) - strlen(".anam.ai"),
		    ".anam.ai") == 0);
	require(str_path_fault(engine.signalling.path,
		    strlen(engine.signalling.path)) == NULL);
	require(strncmp(engine.talk, "https://", 8) == 0);
	require(strncmp(engine.talk + 8, engine.signalling.authority,
		    strlen(engine.signalling.authority)) == 0);
	anam_engine_done(&engine);
}

static void
check_told(const json_t *answer, const char *sent)
{
	json_t *record = anam_session_record(answer, &front);
	json_t *told = anam_session_answer(record, NULL);
	const char *host =
	    json_string_value(json_object_get(told, "engineHost"));
	char *id = anam_session_id_in(sent);

	require(strncmp(host, "chat.example/b/", 15) == 0);
	require(json_object_get(told, "sessionToken") == NULL);
	require(json_object_get(told, "culvert") == NULL);
	if (anam_session_has_url(record, sent))
		require(id != NULL);
	if (id != NULL)
		require(anam_session_is_id(id));
	(void)anam_session_has_host(record, sent);
	(void)anam_session_has_endpoint(record, sent);
	free(id);
	json_decref(told);
	json_decref(record);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = memchr(data, '\n', size);
	size_t line = end == NULL ? size : (size_t)(end - data);
	const char *rest = (const char *)data + line + (end != NULL);
	size_t rest_len = size - line - (end != NULL);
	char *sent = xstrndup((const char *)data, line);
	struct anam_refusal refusal;
	json_t *answer;

	(void)!anam_refusal_read(429, rest, rest_len, sent, &refusal, NULL);
	require(refusal.status == 429);
	if (json_parse(rest, rest_len, &answer, NULL) == ERR_OK) {
		if (json_is_object(answer)) {
			check_engine(answer);
			check_told(answer, sent);
			json_decref(anam_session_request(answer));
		}
		json_decref(answer);
	}
	free(sent);
	return 0;
}
