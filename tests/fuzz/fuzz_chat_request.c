/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/chat/chat_request.h"
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * The body of a request to the chat.  Whatever it is, the vendor is asked for
 * a model that is offered, for a stream, for no more than is allowed, and with
 * no member that the site does not know.
 */
static const char *const known[] = { "model", "messages", "stream",
	"stream_options", "max_tokens", "max_completion_tokens", "temperature",
	"top_p", "presence_penalty", "frequency_penalty", "seed", "stop",
	"store", "n", "user", "safety_identifier" };

static struct config *config;

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
setup(void)
{
	static const char text[] =
	    "store { path = \"/x/y.db\" }\n"
	    "chat { url = \"http://localhost\" models = {m, n}\n"
	    "max_output_tokens = 100 content_bytes = 1000\n"
	    "anonymous { messages = 1 } }\n";

	require(config_parse("c", text, strlen(text), &config, NULL) == ERR_OK);
}

static void
check_body(const struct chat_request *request)
{
	struct store_message message = {
		.content = (char *)(uintptr_t)request->content,
	};
	struct store_messages history = { .items = &message, .count = 1 };
	const char *name;
	json_t *body, *value;
	size_t len, i;
	char *text;

	text = chat_request_body(config->chat, request, &history, &len);
	require(json_parse(text, len, &body, NULL) == ERR_OK);
	require(json_is_true(json_object_get(body, "stream")));
	name = json_string_value(json_object_get(body, "model"));
	require(name != NULL && strlen(name) == 1 &&
	    (*name == 'm' || *name == 'n'));
	json_object_foreach(body, name, value)
	{
		for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if (strcmp(name, known[i]) == 0)
				break;
		require(i < sizeof(known) / sizeof(known[0]));
	}
	json_decref(body);
	free(text);
	text = chat_request_title(request->content);
	require(strlen(text) <= strlen(request->content));
	require(strpbrk(text, "\r\n\t") == NULL);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum chat_request_kind kinds[] = { CHAT_SEND,
		CHAT_REGENERATE, CHAT_STOP };
	struct chat_request request;
	json_t *body;

	if (config == NULL)
		setup();
	if (json_parse(data, size, &body, NULL) != ERR_OK)
		return 0;
	for (size_t i = 0; i < 3; i++) {
		struct diag diag = { "" };

		if (chat_request_parse(config->chat, kinds[i], body, &request,
			&diag) != ERR_OK) {
			require(diag.text[0] != '\0');
			continue;
		}
		require(request.output_tokens <= 100);
		if (request.content != NULL) {
			require(strlen(request.content) <= 1000);
			check_body(&request);
		}
		chat_request_done(&request);
	}
	json_decref(body);
	return 0;
}
