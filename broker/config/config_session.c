/* SPDX-License-Identifier: MIT */
#include "broker/config/config_session.h"

#include <stdlib.h>
#include <string.h>

#include "broker/config/config_value.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define FUNCTION	   "function:"
#define OUTPUT_TOKENS_MAX  65536
#define CLIENT_MAY_DEFAULT COUNT(client_may_default)
#define COUNT(a)	   (sizeof(a) / sizeof((a)[0]))

/*
 * What a page has to say of itself, and what costs the site nothing: how its
 * sound comes and goes, and what goes with one response.
 */
static const char *const client_may_default[] = { "audio.input.format",
	"audio.input.turn_detection", "audio.input.noise_reduction",
	"audio.output.format", "audio.output.speed", "output_modalities",
	"conversation", "input", "metadata" };

/* ---- checks ---- */

static const char *
check_tool_choice(const char *text)
{
	size_t skip = strlen(FUNCTION);

	if (strcmp(text, "auto") == 0 || strcmp(text, "none") == 0 ||
	    strcmp(text, "required") == 0)
		return NULL;
	if (strncmp(text, FUNCTION, skip) == 0)
		return value_check_token(text + skip);
	return "write auto, none, required or \"function:NAME\"";
}

static const char *
check_modality(const char *text)
{
	return strcmp(text, "text") == 0 || strcmp(text, "audio") == 0
	    ? NULL
	    : "write text or audio";
}

/* "audio.input.format": names with dots between them. */
static const char *
check_member(const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_.";
	size_t len = strlen(text);

	if (len == 0 || len > 127 || text[strspn(text, letters)] != '\0' ||
	    text[0] == '.' || text[len - 1] == '.' ||
	    strstr(text, "..") != NULL)
		return "write members as \"audio.input.format\"";
	return NULL;
}

static const char *
check_model(const char *text)
{
	if (strchr(text, '*') != NULL)
		return "this is one model's name: write it without *";
	return value_check_word(text);
}

/* ---- members ---- */

static void
set_new(json_t *object, const char *name, json_t *value)
{
	if (value == NULL || json_object_set_new(object, name, value) != 0)
		abort(); /* out of memory, or no UTF-8, which the file is */
}

static enum err
build_instructions(struct conf_section *section,
    struct config_messages *messages, struct diag *diag)
{
	char *text = NULL;
	enum err err;

	if (conf_given(section, "instructions") &&
	    conf_given(section, "instructions_file"))
		return conf_fail(section, "instructions", diag,
		    "goes without instructions_file: leave out one of them");
	err = value_get_optional(section, "instructions", NULL, &text, diag);
	if (err == ERR_OK && text == NULL)
		err = value_get_text_file(section, "instructions_file",
		    CONFIG_SESSION_MAX_BYTES, &messages->instructions_file,
		    &text, diag);
	if (err == ERR_OK && text != NULL)
		set_new(messages->session, "instructions", json_string(text));
	free(text);
	return err;
}

static enum err
build_tools(struct conf_section *section, struct config_messages *messages,
    struct diag *diag)
{
	char *text = NULL;
	json_t *tools = NULL;
	struct diag why = { "is no array" };
	enum err err = value_get_text_file(section, "tools_file",
	    CONFIG_SESSION_MAX_BYTES, &messages->tools_file, &text, diag);

	if (err != ERR_OK || text == NULL)
		return err;
	err = json_parse(text, strlen(text), &tools, &why);
	free(text);
	if (err == ERR_OK && json_is_array(tools)) {
		set_new(messages->session, "tools", tools);
		return ERR_OK;
	}
	json_decref(tools);
	return conf_fail(section, "tools_file", diag,
	    "%.60s holds no JSON array: %.80s", messages->tools_file, why.text);
}

static enum err
build_tool_choice(struct conf_section *section, json_t *session,
    struct diag *diag)
{
	size_t skip = strlen(FUNCTION);
	char *text;
	enum err err = value_get_optional(section, "tool_choice",
	    check_tool_choice, &text, diag);

	if (err != ERR_OK || text == NULL)
		return err;
	if (strncmp(text, FUNCTION, skip) == 0)
		set_new(session, "tool_choice",
		    json_pack("{s:s, s:s}", "type", "function", "name",
			text + skip));
	else
		set_new(session, "tool_choice", json_string(text));
	free(text);
	return ERR_OK;
}

static enum err
build_output(struct conf_section *section, json_t *session, struct diag *diag)
{
	struct config_strings modalities = { NULL, 0 };
	json_t *array = json_array();
	char *voice = NULL;
	enum err err = value_get_optional(section, "voice", value_check_word,
	    &voice, diag);

	if (voice != NULL)
		set_new(session, "audio",
		    json_pack("{s:{s:s}}", "output", "voice", voice));
	free(voice);
	if (err == ERR_OK)
		err = value_get_list(section, "output_modalities",
		    check_modality, NULL, &modalities, diag);
	for (size_t i = 0; i < modalities.count; i++) {
		(void)json_array_append_new(array,
		    json_string(modalities.items[i]));
		free(modalities.items[i]);
	}
	free(modalities.items);
	if (json_array_size(array) > 0)
		set_new(session, "output_modalities", json_incref(array));
	json_decref(array);
	return err;
}

static enum err
build_tokens(struct conf_section *section, json_t *session, struct diag *diag)
{
	const char *text = conf_string(section, "max_output_tokens", 0);
	uint64_t number;

	if (text == NULL)
		return ERR_OK;
	if (strcmp(text, "inf") == 0) {
		set_new(session, "max_output_tokens", json_string(text));
		return ERR_OK;
	}
	if (str_to_u64(text, strlen(text), OUTPUT_TOKENS_MAX, &number) !=
		ERR_OK ||
	    number == 0)
		return conf_fail(section, "max_output_tokens", diag,
		    "%.40s: write a number from 1 to %d, or inf", text,
		    OUTPUT_TOKENS_MAX);
	set_new(session, "max_output_tokens", json_integer((json_int_t)number));
	return ERR_OK;
}

/* ---- what the client may ---- */

/* Whether a path is fixed, or something below or above it is. */
static bool
is_fixed(const json_t *session, const char *path)
{
	while (*path != '\0' && json_is_object(session)) {
		size_t len = strcspn(path, ".");

		session = json_object_getn(session, path, len);
		path += len;
		path += *path == '.';
	}
	return session != NULL;
}

static enum err
build_client_may(struct conf_section *section, struct config_messages *messages,
    struct diag *diag)
{
	const char *may[CLIENT_MAY_DEFAULT + 1] = { NULL };
	struct config_strings *list = &messages->client_may;
	size_t n = 0;

	/* who sends text has no way to ask for anything */
	for (size_t i = 0; !messages->text && i < CLIENT_MAY_DEFAULT; i++)
		if (!is_fixed(messages->session, client_may_default[i]))
			may[n++] = client_may_default[i];
	if (value_get_list(section, "client_may", check_member, may, list,
		diag) != ERR_OK)
		return ERR_PROTO;
	for (size_t i = 0; i < list->count; i++)
		if (is_fixed(messages->session, list->items[i]) ||
		    (strcmp(list->items[i], "model") == 0 &&
			messages->model != NULL))
			return conf_fail(section, "client_may", diag,
			    "%.60s, or something in it, is fixed here",
			    list->items[i]);
	return ERR_OK;
}

static enum err
check_size(struct conf_section *section, const json_t *session,
    struct diag *diag)
{
	size_t len;
	char *text = json_text(session, &len);

	free(text);
	if (len > CONFIG_SESSION_MAX_BYTES)
		return conf_fail(section, NULL, diag,
		    "instructions and tools are %zu bytes together, as JSON: "
		    "at most %d fit",
		    len, CONFIG_SESSION_MAX_BYTES);
	return ERR_OK;
}

void
config_session_answer_text(struct config_messages *messages)
{
	if (json_object_get(messages->session, "output_modalities") == NULL)
		set_new(messages->session, "output_modalities",
		    json_pack("[s]", "text"));
}

enum err
config_session_build(struct conf_section *section,
    struct config_messages *messages, struct diag *diag)
{
	json_t *session = json_made(json_pack("{s:s}", "type", "realtime"));
	enum err err;

	messages->session = session;
	err = value_get_optional(section, "model", check_model,
	    &messages->model, diag);
	if (err == ERR_OK)
		err = build_instructions(section, messages, diag);
	if (err == ERR_OK)
		err = build_tools(section, messages, diag);
	if (err == ERR_OK)
		err = build_tool_choice(section, session, diag);
	if (err == ERR_OK)
		err = build_output(section, session, diag);
	if (err == ERR_OK)
		err = build_tokens(section, session, diag);
	if (err == ERR_OK && messages->text)
		config_session_answer_text(messages);
	if (err == ERR_OK)
		err = check_size(section, session, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "pinned", true, &messages->pinned,
		    diag);
	if (err == ERR_OK)
		err = build_client_may(section, messages, diag);
	return err;
}

/* ---- the way back ---- */

static void
dump_tool_choice(const json_t *choice, FILE *out)
{
	const char *name = json_string_value(json_object_get(choice, "name"));
	char *text;

	if (name == NULL) {
		value_put_text(out, 2, "tool_choice",
		    json_string_value(choice));
		return;
	}
	text = xasprintf(FUNCTION "%s", name);
	value_put_text(out, 2, "tool_choice", text);
	free(text);
}

static void
dump_tokens(const json_t *tokens, FILE *out)
{
	if (json_is_integer(tokens))
		value_put_number(out, 2, "max_output_tokens",
		    (uint64_t)json_integer_value(tokens));
	else
		value_put_text(out, 2, "max_output_tokens",
		    json_string_value(tokens));
}

static void
dump_modalities(const json_t *modalities, FILE *out)
{
	(void)fputs("\t\toutput_modalities = {", out);
	for (size_t i = 0; i < json_array_size(modalities); i++) {
		(void)fputs(i == 0 ? "" : ", ", out);
		value_put_quoted(out,
		    json_string_value(json_array_get(modalities, i)));
	}
	(void)fputs("}\n", out);
}

void
config_session_dump(const struct config_messages *messages, FILE *out)
{
	const json_t *session = messages->session;
	const json_t *text = json_object_get(session, "instructions");
	const json_t *choice = json_object_get(session, "tool_choice");
	const json_t *tokens = json_object_get(session, "max_output_tokens");
	const json_t *audio = json_object_get(session, "audio");
	const json_t *voice =
	    json_object_get(json_object_get(audio, "output"), "voice");

	(void)fputs("\tsession {\n", out);
	value_put_text(out, 2, "model", messages->model);
	if (messages->instructions_file != NULL || text == NULL)
		value_put_text(out, 2, "instructions_file",
		    messages->instructions_file);
	else
		(void)fprintf(out, "\t\t# instructions: %zu bytes\n",
		    json_string_length(text));
	value_put_text(out, 2, "tools_file", messages->tools_file);
	if (choice != NULL)
		dump_tool_choice(choice, out);
	value_put_text(out, 2, "voice", json_string_value(voice));
	if (tokens != NULL)
		dump_tokens(tokens, out);
	dump_modalities(json_object_get(session, "output_modalities"), out);
	value_put_bool(out, 2, "pinned", messages->pinned);
	value_put_list(out, 2, "client_may", &messages->client_may);
	(void)fputs("\t}\n", out);
}
