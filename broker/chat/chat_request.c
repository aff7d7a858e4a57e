/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_request.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/xalloc.h"

#define MODEL_MAX     256
#define STOPS_MAX     4
#define STOP_BYTES    64
#define TITLE_CHARS   60
#define MESSAGE_BYTES 16 /* that a message takes beside its content */

/* ---- the vendor's parameters that a client may set ---------------------- */

struct number {
	const char *name;
	double min, max;
	bool is_whole;
};

static const struct number numbers[] = {
	{ "temperature", 0, 2, false },
	{ "top_p", 0, 1, false },
	{ "presence_penalty", -2, 2, false },
	{ "frequency_penalty", -2, 2, false },
	{ "seed", -9007199254740992.0, 9007199254740992.0, true },
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static enum err
check_number(const struct number *number, const json_t *value,
    struct diag *diag)
{
	bool fits =
	    number->is_whole ? json_is_integer(value) : json_is_number(value);

	if (fits && json_number_value(value) >= number->min &&
	    json_number_value(value) <= number->max)
		return ERR_OK;
	diag_set(diag, "\"%s\" has to be a%s number from %g to %g",
	    number->name, number->is_whole ? " whole" : "", number->min,
	    number->max);
	return ERR_PROTO;
}

static bool
is_stop_text(const json_t *value)
{
	size_t len = json_string_length(value);

	return json_is_string(value) && len > 0 && len <= STOP_BYTES;
}

static enum err
check_stop(const json_t *value, struct diag *diag)
{
	bool fits = is_stop_text(value);
	size_t i;
	json_t *item;

	if (json_is_array(value)) {
		fits = json_array_size(value) > 0 &&
		    json_array_size(value) <= STOPS_MAX;
		json_array_foreach(value, i, item) fits =
		    fits && is_stop_text(item);
	}
	if (fits)
		return ERR_OK;
	diag_set(diag,
	    "\"stop\" has to be a text of at most %d bytes, or an array of at "
	    "most %d such",
	    STOP_BYTES, STOPS_MAX);
	return ERR_PROTO;
}

static enum err
check_max_tokens(const json_t *value, struct chat_request *request,
    struct diag *diag)
{
	uint64_t max = request->output_tokens;

	if (json_is_integer(value) && json_integer_value(value) >= 1) {
		/* more than the site gives is no mistake of the client's */
		if ((uint64_t)json_integer_value(value) < max)
			request->output_tokens =
			    (uint64_t)json_integer_value(value);
		return ERR_OK;
	}
	diag_set(diag, "\"max_tokens\" has to be a whole number from 1 on");
	return ERR_PROTO;
}

/* ERR_NOTFOUND: it is no parameter. */
static enum err
take_parameter(const char *name, json_t *value, struct chat_request *request,
    struct diag *diag)
{
	enum err err = ERR_NOTFOUND;

	if (strcmp(name, "max_tokens") == 0)
		return check_max_tokens(value, request, diag);
	if (strcmp(name, "stop") == 0)
		err = check_stop(value, diag);
	for (size_t i = 0; i < NUMBERS; i++)
		if (strcmp(name, numbers[i].name) == 0)
			err = check_number(&numbers[i], value, diag);
	if (err == ERR_OK)
		(void)json_object_set(request->parameters, name, value);
	return err;
}

/* ---- the client's request ----------------------------------------------- */

static bool
is_id(const char *text)
{
	size_t len = strspn(text,
	    "0123456789abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-");

	return text[len] == '\0' && len > 0 && len <= STORE_ID_MAX;
}

static enum err
take_id(const char *name, const json_t *value, const char **ret,
    struct diag *diag)
{
	if (!json_is_string(value)) {
		diag_set(diag, "\"%s\" has to be a text", name);
		return ERR_PROTO;
	}
	if (!is_id(json_string_value(value))) {
		diag_set(diag, "there is no such \"%s\"", name);
		return ERR_NOTFOUND;
	}
	*ret = json_string_value(value);
	return ERR_OK;
}

static enum err
take_content(const struct config_chat *chat, const json_t *value,
    struct chat_request *request, struct diag *diag)
{
	const char *text = json_string_value(value);

	if (text == NULL || text[strspn(text, " \t\r\n")] == '\0') {
		diag_set(diag,
		    "\"content\" has to be a text that is not empty");
		return ERR_PROTO;
	}
	if (json_string_length(value) > chat->content_bytes) {
		diag_set(diag, "\"content\" has more than %llu bytes",
		    (unsigned long long)chat->content_bytes);
		return ERR_LIMIT;
	}
	request->content = text;
	return ERR_OK;
}

static enum err
take_model(const struct config_chat *chat, const json_t *value,
    struct chat_request *request, struct diag *diag)
{
	const char *name = json_string_value(value);

	if (name == NULL || json_string_length(value) > MODEL_MAX) {
		diag_set(diag, "\"model\" has to be a model's name");
		return ERR_PROTO;
	}
	for (size_t i = 0; i < chat->models.count; i++)
		if (strcmp(chat->models.items[i], name) == 0) {
			request->model = chat->models.items[i];
			return ERR_OK;
		}
	diag_set(diag, "this model is not offered");
	return ERR_DENIED;
}

static enum err
take_member(const struct config_chat *chat, enum chat_request_kind kind,
    const char *name, json_t *value, struct chat_request *request,
    struct diag *diag)
{
	enum err err = ERR_NOTFOUND;

	/* "": a page that has no chat yet */
	if (json_is_null(value) ||
	    (kind == CHAT_SEND && strcmp(name, "chat_id") == 0 &&
		json_is_string(value) && json_string_length(value) == 0))
		return ERR_OK;
	if (strcmp(name, "chat_id") == 0)
		return take_id(name, value, &request->chat_id, diag);
	if (strcmp(name, "message_id") == 0 && kind != CHAT_SEND)
		return take_id(name, value, &request->message_id, diag);
	if (strcmp(name, "content") == 0 && kind == CHAT_SEND)
		return take_content(chat, value, request, diag);
	if (strcmp(name, "model") == 0 && kind != CHAT_STOP)
		return take_model(chat, value, request, diag);
	if (kind != CHAT_STOP)
		err = take_parameter(name, value, request, diag);
	if (err != ERR_NOTFOUND)
		return err;
	diag_set(diag, "the body has a member that is not known: %s may be set",
	    kind == CHAT_STOP ? "chat_id and message_id"
		: kind == CHAT_SEND
		? "content, chat_id, model and the model's parameters"
		: "chat_id, message_id, model and the model's parameters");
	return ERR_PROTO;
}

enum err
chat_request_parse(const struct config_chat *chat, enum chat_request_kind kind,
    const json_t *body, struct chat_request *ret, struct diag *diag)
{
	struct chat_request request = {
		.model = chat->models.items[0],
		.parameters = json_made(json_object()),
		.output_tokens = chat->max_output_tokens,
	};
	enum err err = ERR_OK;
	const char *name;
	json_t *value;

	/* jansson has no const iterator */
	json_object_foreach((json_t *)(uintptr_t)body, name, value)
	{
		err = take_member(chat, kind, name, value, &request, diag);
		if (err != ERR_OK)
			break;
	}
	if (err == ERR_OK && kind == CHAT_SEND && request.content == NULL) {
		diag_set(diag, "\"content\" is missing");
		err = ERR_PROTO;
	} else if (err == ERR_OK && kind == CHAT_REGENERATE &&
	    request.chat_id == NULL) {
		diag_set(diag, "\"chat_id\" is missing");
		err = ERR_PROTO;
	}
	if (err == ERR_OK)
		*ret = request;
	else
		chat_request_done(&request);
	return err;
}

void
chat_request_done(struct chat_request *request)
{
	json_decref(request->parameters);
	request->parameters = NULL;
}

/* ---- the vendor's request ----------------------------------------------- */

uint64_t
chat_request_bytes(const struct config_chat *chat,
    const struct store_messages *history)
{
	uint64_t bytes = MESSAGE_BYTES;

	if (chat->system != NULL)
		bytes += strlen(chat->system);
	for (size_t i = 0; i < history->count; i++)
		bytes += strlen(history->items[i].content) + MESSAGE_BYTES;
	return bytes;
}

static void
add_message(json_t *messages, const char *role, const char *content)
{
	json_array_append_new(messages,
	    json_made(
		json_pack("{s:s, s:s}", "role", role, "content", content)));
}

static json_t *
make_messages(const struct config_chat *chat,
    const struct store_messages *history)
{
	json_t *messages = json_made(json_array());

	if (chat->system != NULL)
		add_message(messages, "system", chat->system);
	for (size_t i = 0; i < history->count; i++) {
		const struct store_message *message = &history->items[i];

		/* an answer that failed before its first word */
		if (*message->content != '\0')
			add_message(messages,
			    message->is_assistant ? "assistant" : "user",
			    message->content);
	}
	return messages;
}

/*
 * OpenAI's newer models take max_completion_tokens alone; those who say they
 * are compatible know max_tokens, and not all of them the other.
 */
static const char *
name_of_max_tokens(const char *url)
{
	static const char openai[] = "https://api.openai.com/";

	return strncmp(url, openai, sizeof(openai) - 1) == 0
	    ? "max_completion_tokens"
	    : "max_tokens";
}

char *
chat_request_body(const struct config_chat *chat,
    const struct chat_request *request, const struct store_messages *history,
    size_t *ret_len)
{
	json_t *body = json_made(json_pack("{s:s, s:o, s:b, s:{s:b}, s:I}",
	    "model", request->model, "messages", make_messages(chat, history),
	    "stream", 1, "stream_options", "include_usage", 1,
	    name_of_max_tokens(chat->url), (json_int_t)request->output_tokens));
	char *text;

	(void)json_object_update_missing(body, request->parameters);
	text = json_text(body, ret_len);
	json_decref(body);
	return text;
}

/* ---- the title ---------------------------------------------------------- */

static bool
is_blank(char c)
{
	return (unsigned char)c <= ' ' || c == 0x7f;
}

/* Where a character follows: not a byte that continues one (RFC 3629). */
static bool
begins_character(char c)
{
	return ((unsigned char)c & 0xc0) != 0x80;
}

char *
chat_request_title(const char *content)
{
	char title[STORE_TITLE_MAX + 1];
	size_t len = 0, chars = 0, word = 0;

	for (; *content != '\0'; content++) {
		bool blank = is_blank(*content);

		if (blank && (len == 0 || title[len - 1] == ' '))
			continue;
		if (begins_character(*content) && chars++ == TITLE_CHARS)
			break;
		if (blank)
			word = len;
		title[len++] = blank ? ' ' : *content;
	}
	/* whole words, unless the only one is longer */
	if (*content != '\0' && !is_blank(*content) && word > 0)
		len = word;
	while (len > 0 && title[len - 1] == ' ')
		len--;
	return xstrndup(title, len);
}
