/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "common/xalloc.h"
#include "openai_int.h"

#define ITEMS_MAX   1000
#define ANSWER_MAX  4000 /* bytes of a text that an answer repeats */
#define TYPES	    "message,function_call,function_call_output"
#define MCP_TYPES   "mcp_approval_response,mcp_list_tools,mcp_call"
#define USER_PARTS  "input_text,input_audio,input_image"
#define MODEL_PARTS "output_text,output_audio"

json_t *
openai_item_find(const struct openai *o, const char *id, size_t *ret_index)
{
	size_t i;
	json_t *item;

	json_array_foreach(o->items, i, item)
	{
		const char *its = openai_string(item, "id");

		if (id != NULL && its != NULL && strcmp(its, id) == 0) {
			if (ret_index != NULL)
				*ret_index = i;
			return item;
		}
	}
	return NULL;
}

/* The item in the events: the vendor leaves the sound out of it. */
static json_t *
shown(const json_t *item)
{
	json_t *copy = json_deep_copy(item), *part;
	size_t i;

	json_array_foreach(json_object_get(copy, "content"), i, part)
	    json_object_del(part, "audio");
	return copy;
}

static void
insert(struct openai *o, size_t at, json_t *item)
{
	const json_t *before =
	    at == 0 ? NULL : json_array_get(o->items, at - 1);
	const char *previous = openai_string(before, "id");
	const char *status = openai_string(item, "status");

	openai_emit(o, "conversation.item.added",
	    json_pack("{s:s?, s:o}", "previous_item_id", previous, "item",
		shown(item)));
	if (status == NULL || strcmp(status, "in_progress") != 0)
		openai_emit(o, "conversation.item.done",
		    json_pack("{s:s?, s:o}", "previous_item_id", previous,
			"item", shown(item)));
	json_array_insert_new(o->items, at, item);
	if (json_array_size(o->items) > ITEMS_MAX)
		json_array_remove(o->items, 0);
}

void
openai_item_append(struct openai *o, json_t *item)
{
	insert(o, json_array_size(o->items), item);
}

static bool
one_of(struct openai *o, const char *text, const char *param,
    const char *values)
{
	if (text == NULL) {
		openai_fail(o, "missing_required_parameter", param,
		    "Missing required parameter: '%s'.", param);
		return false;
	}
	if (!str_list_has(values, strlen(values), text)) {
		openai_fail(o, "invalid_value", param,
		    "Invalid value: '%.100s'. Supported values are: %s.", text,
		    values);
		return false;
	}
	return true;
}

static bool
check_message(struct openai *o, const json_t *item)
{
	const char *role = openai_string(item, "role");
	const json_t *content = json_object_get(item, "content");
	const char *parts;
	json_t *part;
	size_t i;

	if (!one_of(o, role, "item.role", "user,assistant,system"))
		return false;
	if (!json_is_array(content)) {
		openai_fail(o, "missing_required_parameter", "item.content",
		    "Missing required parameter: 'item.content'.");
		return false;
	}
	parts = strcmp(role, "assistant") == 0 ? MODEL_PARTS
	    : strcmp(role, "system") == 0      ? "input_text"
					       : USER_PARTS;
	json_array_foreach(content, i, part)
	{
		char param[64];
		const char *type = openai_string(part, "type");

		snprintf(param, sizeof(param), "item.content[%zu].type", i);
		if (!one_of(o, type, param, parts))
			return false;
		snprintf(param, sizeof(param), "item.content[%zu].text", i);
		if (strstr(type, "_text") != NULL &&
		    openai_string(part, "text") == NULL) {
			openai_fail(o, "missing_required_parameter", param,
			    "Missing required parameter: '%s'.", param);
			return false;
		}
	}
	return true;
}

static bool
check_item(struct openai *o, const json_t *item)
{
	const char *type = openai_string(item, "type");

	if (!json_is_object(item)) {
		openai_fail(o, "missing_required_parameter", "item",
		    "Missing required parameter: 'item'.");
		return false;
	}
	if (!one_of(o, type, "item.type", TYPES "," MCP_TYPES))
		return false;
	if (openai_item_find(o, openai_string(item, "id"), NULL) != NULL) {
		openai_fail(o, "item_create_duplicate_item_id", "item.id",
		    "An item with this id is in the conversation already.");
		return false;
	}
	if (strcmp(type, "message") == 0)
		return check_message(o, item);
	if (strncmp(type, "function_call", 13) == 0 &&
	    openai_string(item, "call_id") == NULL) {
		openai_fail(o, "missing_required_parameter", "item.call_id",
		    "Missing required parameter: 'item.call_id'.");
		return false;
	}
	return true;
}

void
openai_item_create(struct openai *o, const json_t *event)
{
	const json_t *given = json_object_get(event, "item");
	const char *after = openai_string(event, "previous_item_id");
	size_t at = json_array_size(o->items);
	char *id;
	json_t *item;

	if (!check_item(o, given))
		return;
	if (after != NULL && strcmp(after, "root") == 0) {
		at = 0;
	} else if (after != NULL) {
		if (openai_item_find(o, after, &at) == NULL) {
			openai_fail(o, "item_create_invalid_previous_item_id",
			    "previous_item_id", "There is no item '%.100s'.",
			    after);
			return;
		}
		at++;
	}
	id = openai_id("item");
	item = json_pack("{s:s, s:s, s:s, s:s}", "id", id, "object",
	    "realtime.item", "type", openai_string(given, "type"), "status",
	    "completed");
	json_object_update(item, (json_t *)(uintptr_t)given);
	free(id);
	insert(o, at, item);
}

/* The item that an event names; NULL after an error. */
static json_t *
named_item(struct openai *o, const json_t *event, const char *code,
    size_t *ret_index)
{
	const char *id = openai_string(event, "item_id");
	json_t *item = openai_item_find(o, id, ret_index);

	if (id == NULL)
		openai_fail(o, "missing_required_parameter", "item_id",
		    "Missing required parameter: 'item_id'.");
	else if (item == NULL)
		openai_fail(o, code, "item_id",
		    "Error: the item with id '%.100s' does not exist.", id);
	return item;
}

void
openai_item_retrieve(struct openai *o, const json_t *event)
{
	json_t *item =
	    named_item(o, event, "item_retrieve_invalid_item_id", NULL);

	if (item != NULL)
		openai_emit(o, "conversation.item.retrieved",
		    json_pack("{s:o}", "item", json_deep_copy(item)));
}

void
openai_item_delete(struct openai *o, const json_t *event)
{
	size_t at = 0;
	json_t *item = named_item(o, event, "item_delete_invalid_item_id", &at);

	if (item == NULL)
		return;
	openai_emit(o, "conversation.item.deleted",
	    json_pack("{s:O}", "item_id", json_object_get(item, "id")));
	json_array_remove(o->items, at);
}

void
openai_item_truncate(struct openai *o, const json_t *event)
{
	json_t *item =
	    named_item(o, event, "item_truncate_invalid_item_id", NULL);
	const char *role = openai_string(item, "role");

	if (item == NULL)
		return;
	if (role == NULL || strcmp(role, "assistant") != 0) {
		openai_fail(o, "invalid_value", "item_id",
		    "Only model output audio messages can be truncated.");
		return;
	}
	openai_emit(o, "conversation.item.truncated",
	    json_pack("{s:O, s:I, s:I}", "item_id", json_object_get(item, "id"),
		"content_index",
		json_integer_value(json_object_get(event, "content_index")),
		"audio_end_ms",
		json_integer_value(json_object_get(event, "audio_end_ms"))));
}

/* ---- what is in them ---- */

/* At most ANSWER_MAX bytes, not cut inside of a character. */
static char *
quote(const char *prefix, const char *text)
{
	size_t len = strlen(text);

	if (len > ANSWER_MAX) {
		len = ANSWER_MAX;
		while (len > 0 && (text[len] & 0xc0) == 0x80)
			len--;
	}
	return xasprintf("%s%.*s", prefix, (int)len, text);
}

static char *
answer_to(const json_t *item)
{
	const json_t *content = json_object_get(item, "content");
	const char *output = openai_string(item, "output");
	size_t i;

	if (output != NULL)
		return quote("The tool answered: ", output);
	for (i = json_array_size(content); i-- > 0;) {
		const json_t *part = json_array_get(content, i);
		const char *text = openai_string(part, "text");

		if (text == NULL)
			text = openai_string(part, "transcript");
		if (text != NULL)
			return quote("You said: ", text);
		if (json_object_get(part, "audio") != NULL)
			return xstrdup("I heard you.");
		if (json_object_get(part, "image_url") != NULL)
			return xstrdup("I see a picture.");
	}
	return xstrdup("I heard you.");
}

char *
openai_items_answer(const json_t *items)
{
	for (size_t i = json_array_size(items); i-- > 0;) {
		const json_t *item = json_array_get(items, i);
		const char *type = openai_string(item, "type");
		const char *role = openai_string(item, "role");

		if (type != NULL && strcmp(type, "function_call_output") == 0)
			return answer_to(item);
		if (role != NULL && strcmp(role, "user") == 0)
			return answer_to(item);
	}
	return xstrdup("Hello! How can I help you today?");
}

void
openai_items_tokens(const json_t *items, json_int_t *text, json_int_t *audio)
{
	json_t *item, *part;
	size_t i, k;

	json_array_foreach(items, i, item)
	{
		*text += 3; /* whose turn it is */
		json_array_foreach(json_object_get(item, "content"), k, part)
		{
			const char *s = openai_string(part, "text");
			const char *a = openai_string(part, "audio");

			if (s != NULL)
				*text += (json_int_t)(strlen(s) + 3) / 4;
			/* Ten a second, as the vendor counts input. */
			if (a != NULL)
				*audio += (json_int_t)strlen(a) / 6400 + 1;
			else if (strcmp(openai_string(part, "type") == NULL
					 ? ""
					 : openai_string(part, "type"),
				     "input_audio") == 0)
				*audio += 10;
		}
	}
}
