/* SPDX-License-Identifier: MIT */
#include "common/wire_headers.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/str.h"
#include "common/wire_text.h"
#include "common/xalloc.h"

enum err
wire_headers_add(struct wire_headers *headers, const char *name,
    const char *value)
{
	size_t len;

	value += strspn(value, " \t");
	len = strlen(value);
	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	if (!str_is_token(name, strlen(name)) ||
	    !str_is_field_value(value, len) || !str_is_utf8(value, len))
		return ERR_PROTO;
	if (headers->count == WIRE_HEADERS_MAX)
		return ERR_LIMIT;
	headers->items = xreallocarray(headers->items, headers->count + 1,
	    sizeof(headers->items[0]));
	headers->items[headers->count++] = (struct wire_header){
		.name = xstrdup(name),
		.value = xstrndup(value, len),
	};
	return ERR_OK;
}

const char *
wire_headers_find(const struct wire_headers *headers, const char *name)
{
	for (size_t i = 0; i < headers->count; i++)
		if (strcasecmp(headers->items[i].name, name) == 0)
			return headers->items[i].value;
	return NULL;
}

void
wire_headers_done(struct wire_headers *headers)
{
	for (size_t i = 0; i < headers->count; i++) {
		wire_text_clear(headers->items[i].name);
		wire_text_clear(headers->items[i].value);
	}
	free(headers->items);
	*headers = (struct wire_headers){ .items = NULL };
}
