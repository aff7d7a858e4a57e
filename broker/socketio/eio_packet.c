/* SPDX-License-Identifier: MIT */
#include "broker/socketio/eio_packet.h"

#include <stdlib.h>
#include <string.h>

#include "common/crypt.h"
#include "common/str.h"

#define BASE64 'b' /* in the place of the type: a binary message */

enum err
eio_packet_of_text(const char *text, size_t len, struct eio_packet *ret)
{
	if (len == 0 || text[0] < EIO_OPEN || text[0] > EIO_NOOP ||
	    !str_is_utf8(text + 1, len - 1))
		return ERR_PROTO;
	/* these say all by their type */
	if (len > 1 &&
	    (text[0] == EIO_CLOSE || text[0] == EIO_UPGRADE ||
		text[0] == EIO_NOOP))
		return ERR_PROTO;
	*ret = (struct eio_packet){ .type = (enum eio_type)text[0],
		.data = text + 1,
		.len = len - 1 };
	return ERR_OK;
}

static enum err
packet_of_base64(char *text, size_t len, struct eio_packet *ret)
{
	size_t n;

	if (crypt_unbase64(text, len, text, len, &n) != ERR_OK)
		return ERR_PROTO;
	*ret = (struct eio_packet){ .type = EIO_MESSAGE,
		.binary = true,
		.data = text,
		.len = n };
	return ERR_OK;
}

enum err
eio_packet_take(char *payload, size_t len, struct eio_packet *ret,
    size_t *ret_used)
{
	char *end = len == 0 ? NULL : memchr(payload, EIO_SEPARATOR, len);
	size_t n = end == NULL ? len : (size_t)(end - payload);
	enum err err;

	/* a separator has a packet on either side */
	if (n == 0 || (end != NULL && n + 1 == len))
		return ERR_PROTO;
	err = payload[0] == BASE64 ? packet_of_base64(payload + 1, n - 1, ret)
				   : eio_packet_of_text(payload, n, ret);
	if (err == ERR_OK)
		*ret_used = end == NULL ? n : n + 1;
	return err;
}

size_t
eio_packet_size(const struct eio_packet *packet)
{
	return 1 + (packet->binary ? (packet->len + 2) / 3 * 4 : packet->len);
}

void
eio_packet_put(const struct eio_packet *packet, char *out)
{
	if (packet->binary) {
		char *text = crypt_base64(packet->data, packet->len);

		*out = BASE64;
		memcpy(out + 1, text, strlen(text));
		free(text);
		return;
	}
	*out = (char)packet->type;
	if (packet->len > 0)
		memcpy(out + 1, packet->data, packet->len);
}
