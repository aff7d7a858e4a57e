/* SPDX-License-Identifier: MIT */
#include "common/wire_field.h"

#include <string.h>

#include "common/wire_headers.h"
#include "common/xalloc.h"

/* ---- rules for both directions ----------------------------------------- */

static enum err
check_text(const struct wire_field *field, const char *s)
{
	size_t len = strlen(s);

	if (len > field->max_bytes)
		return ERR_LIMIT;
	return field->check(s, len) ? ERR_OK : ERR_PROTO;
}

static enum err
check_range(const struct wire_field *field, int64_t value)
{
	return value < field->min || value > field->max ? ERR_LIMIT : ERR_OK;
}

/* ---- parsing ----------------------------------------------------------- */

static enum err
parse_text(const struct wire_field *field, const char *s, char **ret)
{
	enum err err = check_text(field, s);

	if (err == ERR_OK)
		*ret = xstrdup(s);
	return err;
}

static enum err
parse_texts(const struct wire_field *field, const json_t *value, void *base)
{
	char **items = (char **)((char *)base + field->offset);
	size_t *count = (size_t *)((char *)base + field->count_offset);
	enum err err;

	if (!json_is_array(value))
		return ERR_PROTO;
	err = check_range(field, (int64_t)json_array_size(value));
	for (size_t i = 0; err == ERR_OK && i < json_array_size(value); i++) {
		const char *s = json_string_value(json_array_get(value, i));

		err = s == NULL ? ERR_PROTO : parse_text(field, s, &items[i]);
		if (err == ERR_OK)
			(*count)++;
	}
	return err;
}

static enum err
parse_headers(const json_t *value, struct wire_headers *headers)
{
	enum err err = ERR_OK;

	if (!json_is_array(value))
		return ERR_PROTO;
	for (size_t i = 0; err == ERR_OK && i < json_array_size(value); i++) {
		const json_t *pair = json_array_get(value, i);
		const char *name = json_string_value(json_array_get(pair, 0));
		const char *text = json_string_value(json_array_get(pair, 1));
		bool secret = json_is_true(json_array_get(pair, 2));

		if (json_array_size(pair) != (secret ? 3 : 2) || name == NULL ||
		    text == NULL)
			return ERR_PROTO;
		err = wire_headers_add(headers, name, text);
		if (err == ERR_OK)
			headers->items[headers->count - 1].secret = secret;
	}
	return err;
}

static enum err
parse_number(const struct wire_field *field, const json_t *value, void *to)
{
	int64_t number = json_integer_value(value);
	enum err err = check_range(field, number);

	if (!json_is_integer(value))
		return ERR_PROTO;
	if (err != ERR_OK)
		return err;
	switch (field->size) {
	case sizeof(uint16_t):
		*(uint16_t *)to = (uint16_t)number;
		break;
	case sizeof(int):
		*(int *)to = (int)number;
		break;
	default:
		*(int64_t *)to = number;
		break;
	}
	return ERR_OK;
}

static enum err
parse_numbers(const struct wire_field *field, const json_t *value, void *base)
{
	int64_t *items = (int64_t *)((char *)base + field->offset);
	size_t *count = (size_t *)((char *)base + field->count_offset);
	size_t size = field->size / sizeof(*items);

	if (!json_is_array(value))
		return ERR_PROTO;
	if (json_array_size(value) > size)
		return ERR_LIMIT;
	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *item = json_array_get(value, i);

		if (!json_is_integer(item))
			return ERR_PROTO;
		items[i] = json_integer_value(item);
		if (check_range(field, items[i]) != ERR_OK)
			return ERR_LIMIT;
		(*count)++;
	}
	return ERR_OK;
}

static enum err
parse_field(const struct wire_field *field, json_t *value, void *base,
    struct diag *diag)
{
	void *to = (char *)base + field->offset;

	switch (field->kind) {
	case WIRE_KIND_TEXT:
		return json_is_string(value)
		    ? parse_text(field, json_string_value(value), to)
		    : ERR_PROTO;
	case WIRE_KIND_TEXTS:
		return parse_texts(field, value, base);
	case WIRE_KIND_NUMBER:
		return parse_number(field, value, to);
	case WIRE_KIND_NUMBERS:
		return parse_numbers(field, value, base);
	case WIRE_KIND_FLAG:
		*(bool *)to = json_is_true(value);
		return json_is_boolean(value) ? ERR_OK : ERR_PROTO;
	case WIRE_KIND_HEADERS:
		return parse_headers(value, to);
	case WIRE_KIND_VALUE:
		*(json_t **)to = json_incref(value);
		return ERR_OK;
	case WIRE_KIND_OBJECT:
		return json_is_object(value)
		    ? wire_table_parse(field->table, value, to, diag)
		    : ERR_PROTO;
	}
	return ERR_PROTO;
}

enum err
wire_table_parse(const struct wire_table *table, const json_t *object,
    void *base, struct diag *diag)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct wire_field *field = &table->fields[i];
		json_t *value = json_object_get(object, field->name);
		enum err err = ERR_OK;

		if (value != NULL && !json_is_null(value))
			err = parse_field(field, value, base, diag);
		else if (!field->optional)
			err = ERR_PROTO;
		if (err != ERR_OK) {
			if (field->kind != WIRE_KIND_OBJECT ||
			    !json_is_object(value))
				diag_set(diag, "%s: bad or missing \"%s\"",
				    table->name, field->name);
			return err;
		}
	}
	return ERR_OK;
}

/* ---- formatting -------------------------------------------------------- */

/* Set a member; a value that could not be made was not UTF-8. */
static enum err
put(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) == 0 ? ERR_OK
							     : ERR_PROTO;
}

static enum err
format_texts(const struct wire_field *field, const void *base, json_t *object)
{
	char *const *items =
	    (char *const *)((const char *)base + field->offset);
	size_t count =
	    *(const size_t *)((const char *)base + field->count_offset);
	json_t *array = json_array();
	enum err err = check_range(field, (int64_t)count);

	for (size_t i = 0; err == ERR_OK && i < count; i++) {
		err = check_text(field, items[i]);
		if (err == ERR_OK)
			(void)json_array_append_new(array,
			    json_string(items[i]));
	}
	if (err != ERR_OK) {
		json_decref(array);
		return err;
	}
	return put(object, field->name, array);
}

static enum err
format_headers(const struct wire_field *field,
    const struct wire_headers *headers, json_t *object)
{
	json_t *array = json_array();

	/* wire_headers_add() let only text in that JSON can carry */
	for (size_t i = 0; i < headers->count; i++) {
		const struct wire_header *header = &headers->items[i];
		json_t *item = json_pack("[ss]", header->name, header->value);

		if (header->secret)
			(void)json_array_append_new(item, json_true());
		(void)json_array_append_new(array, item);
	}
	return put(object, field->name, array);
}

static enum err
format_number(const struct wire_field *field, const void *from, json_t *object)
{
	int64_t number;
	enum err err;

	switch (field->size) {
	case sizeof(uint16_t):
		number = *(const uint16_t *)from;
		break;
	case sizeof(int):
		number = *(const int *)from;
		break;
	default:
		number = *(const int64_t *)from;
		break;
	}
	err = check_range(field, number);
	if (number == 0 && field->optional)
		return ERR_OK;
	return err == ERR_OK ? put(object, field->name, json_integer(number))
			     : err;
}

static enum err
format_numbers(const struct wire_field *field, const void *base, json_t *object)
{
	const int64_t *items =
	    (const int64_t *)((const char *)base + field->offset);
	size_t count =
	    *(const size_t *)((const char *)base + field->count_offset);
	json_t *array;

	if (count > field->size / sizeof(*items))
		return ERR_LIMIT;
	for (size_t i = 0; i < count; i++)
		if (check_range(field, items[i]) != ERR_OK)
			return ERR_LIMIT;
	if (count == 0 && field->optional)
		return ERR_OK;
	array = json_array();
	for (size_t i = 0; i < count; i++)
		(void)json_array_append_new(array, json_integer(items[i]));
	return put(object, field->name, array);
}

static enum err
format_text(const struct wire_field *field, const char *s, json_t *object)
{
	enum err err;

	if (s == NULL)
		return field->optional ? ERR_OK : ERR_PROTO;
	err = check_text(field, s);
	return err == ERR_OK ? put(object, field->name, json_string(s)) : err;
}

static enum err
format_object(const struct wire_field *field, const void *from, json_t *object)
{
	json_t *members = json_object();
	enum err err = wire_table_format(field->table, from, members);

	if (err != ERR_OK) {
		json_decref(members);
		return err;
	}
	return put(object, field->name, members);
}

enum err
wire_table_format(const struct wire_table *table, const void *base,
    json_t *object)
{
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < table->count; i++) {
		const struct wire_field *field = &table->fields[i];
		const void *from = (const char *)base + field->offset;

		switch (field->kind) {
		case WIRE_KIND_TEXT:
			err = format_text(field, *(char *const *)from, object);
			break;
		case WIRE_KIND_TEXTS:
			err = format_texts(field, base, object);
			break;
		case WIRE_KIND_NUMBER:
			err = format_number(field, from, object);
			break;
		case WIRE_KIND_NUMBERS:
			err = format_numbers(field, base, object);
			break;
		case WIRE_KIND_FLAG:
			if (*(const bool *)from || !field->optional)
				err = put(object, field->name,
				    json_boolean(*(const bool *)from));
			break;
		case WIRE_KIND_HEADERS:
			err = format_headers(field, from, object);
			break;
		case WIRE_KIND_VALUE:
			if (*(json_t *const *)from != NULL)
				err = put(object, field->name,
				    json_incref(*(json_t *const *)from));
			else if (!field->optional)
				err = ERR_PROTO;
			break;
		case WIRE_KIND_OBJECT:
			err = format_object(field, from, object);
			break;
		}
	}
	return err;
}

/* ---- freeing ------------------------------------------------------------ */

void
wire_table_done(const struct wire_table *table, void *base)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct wire_field *field = &table->fields[i];
		void *at = (char *)base + field->offset;

		switch (field->kind) {
		case WIRE_KIND_TEXT:
			wire_text_clear(*(char **)at);
			break;
		case WIRE_KIND_TEXTS:
			for (int64_t j = 0; j < field->max; j++)
				wire_text_clear(((char **)at)[j]);
			break;
		case WIRE_KIND_HEADERS:
			wire_headers_done(at);
			break;
		case WIRE_KIND_VALUE:
			json_decref(*(json_t **)at);
			break;
		case WIRE_KIND_OBJECT:
			wire_table_done(field->table, at);
			break;
		case WIRE_KIND_NUMBER:
		case WIRE_KIND_NUMBERS:
		case WIRE_KIND_FLAG:
			break;
		}
	}
}
