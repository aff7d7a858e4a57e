/* SPDX-License-Identifier: MIT */
#include "common/ws_frame.h"

#include <assert.h>
#include <string.h>

#include "common/str.h"
#include "common/wire.h"

static bool
opcode_is_control(uint8_t opcode)
{
	return (opcode & 0x8) != 0;
}

/* What the first byte alone shows to be wrong, or NULL. */
static const char *
check_first_byte(uint8_t byte)
{
	uint8_t opcode = byte & 0xf;

	if ((byte & 0x70) != 0)
		return "reserved bits are set";
	if (opcode > WS_PONG || (opcode > WS_BINARY && opcode < WS_CLOSE))
		return "reserved opcode";
	if (opcode_is_control(opcode) && (byte & 0x80) == 0)
		return "fragmented control frame";
	return NULL;
}

/* The same for the second byte. */
static const char *
check_second_byte(uint8_t byte, uint8_t opcode, enum ws_sender sender)
{
	bool masked = (byte & 0x80) != 0;

	if (sender == WS_FROM_CLIENT && !masked)
		return "unmasked frame from the client";
	if (sender == WS_FROM_SERVER && masked)
		return "masked frame from the server";
	if (opcode_is_control(opcode) && (byte & 0x7f) > WS_CONTROL_MAX_BYTES)
		return "control frame over 125 bytes";
	return NULL;
}

static uint64_t
get_be(const uint8_t *p, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++)
		value = value << 8 | p[i];
	return value;
}

enum err
ws_header_parse(const uint8_t *data, size_t len, enum ws_sender sender,
    struct ws_header *ret, const char **ret_why)
{
	struct ws_header header = { .header_len = 2 };
	size_t extended;
	const char *why;

	if (len < 1)
		return ERR_AGAIN;
	header.fin = (data[0] & 0x80) != 0;
	header.opcode = data[0] & 0xf;
	why = check_first_byte(data[0]);
	if (why == NULL && len >= 2)
		why = check_second_byte(data[1], header.opcode, sender);
	if (why != NULL)
		goto fail;
	if (len < 2)
		return ERR_AGAIN;
	header.masked = (data[1] & 0x80) != 0;
	header.payload_len = data[1] & 0x7f;
	extended = header.payload_len == 126 ? 2
	    : header.payload_len == 127	     ? 8
					     : 0;
	if (len < 2 + extended)
		return ERR_AGAIN;
	if (extended > 0) {
		header.payload_len = get_be(data + 2, extended);
		why = "length is not in its shortest form";
		if (header.payload_len <= (extended == 2 ? 125 : 0xffff))
			goto fail;
		why = "length over 2^63-1";
		if (header.payload_len > INT64_MAX)
			goto fail;
	}
	header.header_len += extended;
	if (header.masked) {
		if (len < header.header_len + 4)
			return ERR_AGAIN;
		memcpy(header.mask, data + header.header_len, 4);
		header.header_len += 4;
	}
	*ret = header;
	return ERR_OK;
fail:
	*ret_why = why;
	return ERR_PROTO;
}

/* Sixteen bytes, which the compiler makes one instruction of. */
typedef uint8_t block __attribute__((vector_size(16)));

void
ws_mask(uint8_t *data, size_t len, const uint8_t mask[4], uint64_t offset)
{
	uint8_t turned[sizeof(block)];
	block mask_block, some;
	size_t i;

	for (i = 0; i < sizeof(turned); i++)
		turned[i] = mask[(offset + i) & 3];
	memcpy(&mask_block, turned, sizeof(mask_block));
	/* whole messages go through here: many bytes at a time */
	for (i = 0; len - i >= sizeof(some); i += sizeof(some)) {
		memcpy(&some, data + i, sizeof(some));
		some ^= mask_block;
		memcpy(data + i, &some, sizeof(some));
	}
	for (; i < len; i++)
		data[i] ^= turned[i % sizeof(turned)];
}

size_t
ws_header_put(uint8_t out[WS_HEADER_MAX_BYTES], enum ws_opcode opcode, bool fin,
    const uint8_t *mask, uint64_t payload_len)
{
	size_t extended = payload_len < 126 ? 0 : payload_len <= 0xffff ? 2 : 8;
	size_t n = 2;

	out[0] = (uint8_t)((fin ? 0x80 : 0) | opcode);
	out[1] = extended == 0 ? (uint8_t)payload_len
	    : extended == 2    ? 126
			       : 127;
	for (; n < 2 + extended; n++)
		out[n] = (uint8_t)(payload_len >> 8 * (extended + 1 - n));
	if (mask == NULL)
		return n;
	out[1] |= 0x80;
	memcpy(out + n, mask, 4);
	return n + 4;
}

size_t
ws_control_put(uint8_t out[WS_CONTROL_FRAME_MAX], enum ws_opcode opcode,
    const uint8_t *mask, const void *payload, size_t payload_len)
{
	size_t n = ws_header_put(out, opcode, true, mask, payload_len);

	assert(payload_len <= WS_CONTROL_MAX_BYTES);
	if (payload_len > 0)
		memcpy(out + n, payload, payload_len);
	if (mask != NULL)
		ws_mask(out + n, payload_len, mask, 0);
	return n + payload_len;
}

size_t
ws_close_put(uint8_t out[WS_CONTROL_FRAME_MAX], const uint8_t *mask, int code,
    const char *reason)
{
	uint8_t payload[WS_CONTROL_MAX_BYTES];
	size_t len = 0;

	if (code != 0) {
		payload[0] = (uint8_t)(code >> 8);
		payload[1] = (uint8_t)code;
		len = strnlen(reason, WS_REASON_MAX_BYTES);
		/* a cut must not leave half a character behind */
		while (len > 0 && !str_is_utf8(reason, len))
			len--;
		memcpy(payload + 2, reason, len);
		len += 2;
	}
	return ws_control_put(out, WS_CLOSE, mask, payload, len);
}

enum err
ws_close_parse(const uint8_t *payload, size_t len, int *ret_code,
    const char **ret_reason, size_t *ret_reason_len)
{
	int code = 0;

	if (len == 1)
		return ERR_PROTO;
	if (len >= 2) {
		code = payload[0] << 8 | payload[1];
		if (!wire_is_close_code(code))
			return ERR_PROTO;
		if (!str_is_utf8(payload + 2, len - 2))
			return ERR_TYPE;
	}
	*ret_code = code;
	*ret_reason = len > 2 ? (const char *)payload + 2 : "";
	*ret_reason_len = len > 2 ? len - 2 : 0;
	return ERR_OK;
}
