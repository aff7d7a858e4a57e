/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/multipart.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first line is a Content-Type, the rest a body. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *line = memchr(data, '\n', size);
	size_t type_len = line == NULL ? size : (size_t)(line - data);
	size_t len = line == NULL ? 0 : size - type_len - 1;
	char *type = xstrndup((const char *)data, type_len);
	char *body = xcalloc(1, len + 1); /* a heap object of its own */
	struct multipart form;

	if (len > 0)
		memcpy(body, line + 1, len);
	if (multipart_parse(type, body, len, &form, NULL) == ERR_OK)
		for (size_t i = 0; i < form.count; i++) {
			const struct multipart_part *part = &form.parts[i];

			if (part->data < body || part->len > len ||
			    part->data + part->len > body + len ||
			    multipart_find(&form, part->name) != part)
				abort();
		}
	free(body);
	free(type);
	return 0;
}
