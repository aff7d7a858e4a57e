/* SPDX-License-Identifier: MIT */
#include "multipart.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"

#define BOUNDARY_MAX 70 /* RFC 2046 5.1.1 */

/* "\r\n--" and the boundary, which the caller frees, or NULL. */
static char *
delimiter_of(const char *type)
{
	const char *p = strcasestr(type, "boundary=");
	size_t len;

	if (p == NULL)
		return NULL;
	p += strlen("boundary=");
	if (*p == '"') {
		p++;
		len = strcspn(p, "\"");
	} else {
		len = strcspn(p, "; \t");
	}
	if (len == 0 || len > BOUNDARY_MAX)
		return NULL;
	return xasprintf("\r\n--%.*s", (int)len, p);
}

/* Does the head of a part give it this name? */
static bool
is_named(const char *head, size_t len, const char *name)
{
	char *text = xstrndup(head, len);
	char *wanted = xasprintf("; name=\"%s\"", name);
	bool found = strcasestr(text, "Content-Disposition: form-data") &&
	    strstr(text, wanted) != NULL;

	free(wanted);
	free(text);
	return found;
}

const char *
multipart_find(const char *type, const char *data, size_t len, const char *name,
    size_t *ret_len)
{
	char *delimiter = delimiter_of(type);
	size_t size = delimiter == NULL ? 0 : strlen(delimiter);
	const char *end = data + len, *p = NULL, *ret = NULL;

	/* The first stands at the beginning, without a line before it. */
	if (size > 0 && len > size - 2 &&
	    memcmp(data, delimiter + 2, size - 2) == 0)
		p = data + size - 2;
	while (p != NULL && ret == NULL) {
		const char *next =
		    memmem(p, (size_t)(end - p), delimiter, size);
		const char *body = next == NULL
		    ? NULL
		    : memmem(p, (size_t)(next - p), "\r\n\r\n", 4);

		if (body != NULL && is_named(p, (size_t)(body - p), name)) {
			ret = body + 4;
			*ret_len = (size_t)(next - ret);
		}
		p = next == NULL ? NULL : next + size;
	}
	free(delimiter);
	return ret;
}
