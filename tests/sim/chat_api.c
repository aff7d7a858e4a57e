/* SPDX-License-Identifier: MIT */
#include "chat_api.h"

#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "common/json.h"
#include "common/xalloc.h"

#define ECHO_MAX 4000 /* bytes of the last message that are said again */

static const char mark[] = "/sim ";

static struct reply *
fail(int status, const char *code, const char *message)
{
	return reply_error(VENDOR_OPENAI, status, code, message);
}

/* ---- what was asked ------------------------------------------------------ */

static bool
is_known(const char *name)
{
	static const char *const names[] = { "frequency_penalty", "logit_bias",
		"logprobs", "max_completion_tokens", "max_tokens", "messages",
		"metadata", "modalities", "model", "n", "parallel_tool_calls",
		"presence_penalty", "prompt_cache_key", "reasoning_effort",
		"response_format", "safety_identifier", "seed", "service_tier",
		"stop", "store", "stream", "stream_options", "temperature",
		"tool_choice", "tools", "top_logprobs", "top_p", "user",
		"verbosity" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static bool
is_between(const json_t *value, double min, double max)
{
	double number = json_number_value(value);

	return value == NULL || json_is_null(value) ||
	    (json_is_number(value) && number >= min && number <= max);
}

static bool
is_count(const json_t *value)
{
	return value == NULL || json_is_null(value) ||
	    (json_is_integer(value) && json_integer_value(value) > 0);
}

static bool
is_bool(const json_t *value)
{
	return value == NULL || json_is_null(value) || json_is_boolean(value);
}

/* The text of a message: a string, or the texts of its parts: new. */
static char *
text_of(const json_t *message)
{
	const json_t *content = json_object_get(message, "content"), *part;
	char *text = xstrdup("");
	size_t i;

	if (json_is_string(content)) {
		free(text);
		return xstrdup(json_string_value(content));
	}
	json_array_foreach(content, i, part)
	{
		const char *more =
		    json_string_value(json_object_get(part, "text"));
		char *longer =
		    xasprintf("%s%s", text, more == NULL ? "" : more);

		free(text);
		text = longer;
	}
	return text;
}

static bool
is_message(const json_t *message)
{
	static const char *const roles[] = { "assistant", "developer", "system",
		"tool", "user" };
	const char *role = json_string_value(json_object_get(message, "role"));
	const json_t *content = json_object_get(message, "content");

	for (size_t i = 0; role != NULL && i < sizeof(roles) / sizeof(*roles);
	     i++)
		if (strcmp(role, roles[i]) == 0)
			return json_is_string(content) ||
			    json_array_size(content) > 0;
	return false;
}

static struct reply *
check_messages(const json_t *messages)
{
	const json_t *message;
	size_t i;

	if (json_array_size(messages) == 0)
		return fail(400, "empty_array",
		    "Invalid 'messages': expected an array with at least one "
		    "element.");
	json_array_foreach(messages, i, message)
	{
		if (!is_message(message))
			return fail(400, "invalid_value",
			    "Invalid 'messages': a role or content is none.");
	}
	return NULL;
}

/* NULL for good. */
static struct reply *
check_body(const struct options *o, json_t *body)
{
	const json_t *options = json_object_get(body, "stream_options");
	const char *model = json_string_value(json_object_get(body, "model"));
	const char *name;
	json_t *value;

	if (!json_is_object(body))
		return fail(400, "invalid_json",
		    "We could not parse the JSON body of your request.");
	json_object_foreach(body, name, value)
	{
		if (!is_known(name))
			return fail(400, "unknown_parameter",
			    "Unrecognized request argument supplied.");
	}
	if (model == NULL)
		return fail(400, "missing_required_parameter",
		    "You must provide a model parameter.");
	if (!options_has_chat_model(o, model))
		return fail(404, "model_not_found",
		    "The model does not exist or you do not have access to "
		    "it.");
	if (!is_between(json_object_get(body, "temperature"), 0, 2) ||
	    !is_between(json_object_get(body, "top_p"), 0, 1) ||
	    !is_between(json_object_get(body, "n"), 1, 1) ||
	    !is_count(json_object_get(body, "max_tokens")) ||
	    !is_count(json_object_get(body, "max_completion_tokens")) ||
	    !is_bool(json_object_get(body, "stream")) ||
	    (options != NULL && !json_is_null(options) &&
		(!json_is_object(options) ||
		    !json_is_true(json_object_get(body, "stream")))))
		return fail(400, "invalid_value",
		    "A parameter has an invalid type or value.");
	return check_messages(json_object_get(body, "messages"));
}

/* ---- what it is answered with -------------------------------------------- */

/* Of a vendor's real count, a simple one: README.md has it. */
static uint64_t
count_prompt(const json_t *messages)
{
	const json_t *message;
	uint64_t tokens = 3;
	size_t i;

	json_array_foreach(messages, i, message)
	{
		char *text = text_of(message);

		tokens += 3 + (strlen(text) + 3) / 4;
		free(text);
	}
	return tokens;
}

static unsigned
count_role(const json_t *messages, const char *role)
{
	const json_t *message;
	unsigned n = 0;
	size_t i;

	json_array_foreach(messages, i, message)
	{
		n += strcmp(json_string_value(json_object_get(message, "role")),
			 role) == 0;
	}
	return n;
}

/* Cut it to a length, between two characters. */
static void
cut_text(char *text, size_t max)
{
	size_t n = strlen(text);

	if (n <= max)
		return;
	for (n = max; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80; n--)
		continue;
	text[n] = '\0';
}

/* Its first line may have knobs, which are not said again. */
static char *
answer_text(const json_t *messages, struct chat_knobs *knobs, bool *ret_ok)
{
	json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	char *text = text_of(last), *said = text, *answer;

	*ret_ok = true;
	if (strncmp(text, mark, strlen(mark)) == 0) {
		size_t len = strcspn(text, "\n");

		*ret_ok = chat_knobs_read(knobs, text + strlen(mark),
		    len - strlen(mark));
		said = text + len + (text[len] == '\n');
	}
	cut_text(said, ECHO_MAX);
	answer = xasprintf("I was sent %zu messages (%u system, %u user, "
			   "%u assistant). You said: %s",
	    json_array_size(messages), count_role(messages, "system"),
	    count_role(messages, "user"), count_role(messages, "assistant"),
	    said);
	free(text);
	return answer;
}

static struct reply *
reply_as_named(const struct chat_knobs *knobs)
{
	json_t *entry = json_pack("{s:s}", "mode", knobs->mode);
	struct reply *reply;

	if (knobs->ms > 0)
		json_object_set_new(entry, "ms",
		    json_integer((json_int_t)knobs->ms));
	reply = script_reply(entry, VENDOR_OPENAI);
	script_delay(entry, reply);
	json_decref(entry);
	return reply;
}

static struct reply *
reply_chat(const json_t *body, const struct chat_order *order)
{
	struct reply *reply;
	struct chat *chat = chat_new(order);

	if (json_is_true(json_object_get(body, "stream"))) {
		reply = reply_text(200, "text/event-stream; charset=utf-8", "");
		reply->chat = chat;
		if (*order->knobs.type != '\0')
			reply->type = chat_peek_knobs(chat)->type;
	} else {
		reply = reply_json(200, chat_whole(chat));
		chat_free(chat);
	}
	if (order->knobs.delay)
		reply->delay_ms =
		    order->knobs.ms > 0 ? (int)order->knobs.ms : 1000;
	return reply;
}

static struct reply *
answer(const struct options *o, const json_t *entry, json_t *body, int64_t now)
{
	const json_t *messages = json_object_get(body, "messages");
	const char *query = json_string_value(json_object_get(entry, "query"));
	const json_t *max = json_object_get(body, "max_completion_tokens");
	struct chat_order order = { .now_s = now };
	struct reply *reply = check_body(o, body);
	bool ok;

	if (reply != NULL)
		return reply;
	if (!json_is_integer(max))
		max = json_object_get(body, "max_tokens");
	order.knobs.per_s = o->pace_ms == 0 ? 0 : 1000 / (uint64_t)o->pace_ms;
	order.model = json_string_value(json_object_get(body, "model"));
	order.max_tokens = (uint64_t)json_integer_value(max);
	order.prompt_tokens = count_prompt(messages);
	order.include_usage = json_is_true(
	    json_object_get(json_object_get(body, "stream_options"),
		"include_usage"));
	order.text = answer_text(messages, &order.knobs, &ok);
	if (!ok ||
	    (query != NULL &&
		!chat_knobs_read(&order.knobs, query, strlen(query)))) {
		free(order.text);
		return fail(400, "invalid_value", "SIM-MARKER no such knob");
	}
	reply = *order.knobs.mode != '\0' ? reply_as_named(&order.knobs) : NULL;
	if (reply == NULL)
		reply = reply_chat(body, &order);
	else
		free(order.text);
	if (*order.knobs.retry_after != '\0')
		reply->retry_after = xstrdup(order.knobs.retry_after);
	return reply;
}

struct reply *
chat_api_answer(const struct options *o, struct script *script,
    const struct request *r, const void *data, size_t len, int64_t now)
{
	struct reply *reply;
	json_t *entry, *body = NULL;
	size_t key_len = 0;
	const char *key = request_key(r, &key_len);

	if (strcmp(request_path(r), CHAT_PATH) != 0)
		return NULL;
	entry = script_take(script, VENDOR_OPENAI, CHAT_PATH);
	reply = script_reply(entry, VENDOR_OPENAI);
	if (reply == NULL && strcmp(request_method(r), "POST") != 0)
		reply = fail(405, "method_not_supported",
		    "Not allowed with this method.");
	else if (reply == NULL && !options_is_main_key(o, key, key_len))
		reply = fail(401, key == NULL ? NULL : "invalid_api_key",
		    "Incorrect API key provided.");
	if (reply == NULL && json_parse(data, len, &body, NULL) != ERR_OK)
		reply = fail(400, "invalid_json",
		    "We could not parse the JSON body of your request.");
	if (reply == NULL)
		reply = answer(o, entry, body, now);
	script_delay(entry, reply);
	json_decref(body);
	json_decref(entry);
	return reply;
}
