/* SPDX-License-Identifier: MIT */
#include "tunnel/held.h"

#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "common/ws_frame.h"

bool
held_exceeds(const struct held *held, size_t len, size_t max)
{
	return held->len > max || len > max - held->len;
}

void
held_add(struct held *held, const void *data, size_t len, size_t max)
{
	size_t need = held->len + len;

	if (len == 0)
		return;
	if (need > held->size) {
		/* twice as much as before, so that small pieces cost little */
		held->size = 2 * held->size < max ? 2 * held->size : max;
		if (held->size < need)
			held->size = need;
		held->memory = xreallocarray(held->memory,
		    WS_HEADER_MAX_BYTES + held->size, 1);
	}
	memcpy(held->memory + WS_HEADER_MAX_BYTES + held->len, data, len);
	held->len = need;
}

struct piece
held_peek(const struct held *held)
{
	if (held->len == 0)
		return (struct piece){ NULL, 0, false };
	return (struct piece){ held->memory + WS_HEADER_MAX_BYTES, held->len,
		false };
}

struct piece
held_complete(struct held *held, const struct piece *piece, size_t max)
{
	struct piece all;

	if (held->len == 0)
		return *piece;
	held_add(held, piece->data, piece->len, max);
	all = held_peek(held);
	all.last = true;
	return all;
}

void
held_drop(struct held *held)
{
	if (held->memory != NULL)
		explicit_bzero(held->memory, WS_HEADER_MAX_BYTES + held->size);
	free(held->memory);
	*held = (struct held){ NULL, 0, 0 };
}
