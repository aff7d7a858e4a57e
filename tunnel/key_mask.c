/* SPDX-License-Identifier: MIT */
#include "tunnel/key_mask.h"

#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"

#define MASKED	   "<masked>"
#define WORD_ENDS  " \t\r\n\"'<>"
#define MASKED_LEN (sizeof(MASKED) - 1)

_Static_assert(MASKED_LEN <= KEY_MASK_MIN_BYTES,
    "what is masked must not become longer");

struct key_mask {
	size_t count;
	char begins[][KEY_MASK_BYTES + 1];
};

/* Behind the scheme, where there is one. */
static const char *
key_of(const char *value)
{
	const char *space = strrchr(value, ' ');

	return space == NULL ? value : space + 1;
}

/* How much of a key is enough to know it by. */
static size_t
begin_bytes(size_t key_bytes)
{
	size_t half = key_bytes / 2;

	if (half < KEY_MASK_MIN_BYTES)
		return key_bytes;
	return half < KEY_MASK_BYTES ? half : KEY_MASK_BYTES;
}

struct key_mask *
key_mask_new(const struct wire_headers *headers)
{
	struct key_mask *mask;

	mask = xcalloc(1,
	    sizeof(*mask) + headers->count * sizeof(mask->begins[0]));
	for (size_t i = 0; i < headers->count; i++) {
		const char *key = key_of(headers->items[i].value);
		size_t len = strlen(key);

		if (headers->items[i].secret && len >= KEY_MASK_MIN_BYTES)
			memcpy(mask->begins[mask->count++], key,
			    begin_bytes(len));
	}
	if (mask->count > 0)
		return mask;
	free(mask);
	return NULL;
}

/* Where in the text a key begins first; NULL: it has none. */
static char *
find_key(const struct key_mask *mask, char *text)
{
	char *first = NULL;

	for (size_t i = 0; i < mask->count; i++) {
		char *at = strstr(text, mask->begins[i]);

		if (at != NULL && (first == NULL || at < first))
			first = at;
	}
	return first;
}

bool
key_mask_apply(const struct key_mask *mask, char *text)
{
	bool masked = false;
	char *at = text;

	while (mask != NULL && (at = find_key(mask, at)) != NULL) {
		size_t word_len = strcspn(at, WORD_ENDS);
		char *rest = at + word_len;

		memcpy(at, MASKED, MASKED_LEN);
		at += MASKED_LEN;
		memmove(at, rest, strlen(rest) + 1);
		masked = true;
	}
	return masked;
}

void
key_mask_free(struct key_mask *mask)
{
	if (mask != NULL)
		explicit_bzero(mask->begins,
		    mask->count * sizeof(mask->begins[0]));
	free(mask);
}
