/* SPDX-License-Identifier: MIT */
#ifndef COMMON_WS_FRAME_H
#define COMMON_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* ws_frame: frame headers and close codes of RFC 6455.  Pure. */

#define WS_HEADER_MAX_BYTES  14
#define WS_CONTROL_MAX_BYTES 125
#define WS_CONTROL_FRAME_MAX (WS_HEADER_MAX_BYTES + WS_CONTROL_MAX_BYTES)
#define WS_REASON_MAX_BYTES  123

enum ws_opcode {
	WS_CONTINUATION = 0x0,
	WS_TEXT = 0x1,
	WS_BINARY = 0x2,
	WS_CLOSE = 0x8,
	WS_PING = 0x9,
	WS_PONG = 0xa,
};

/* Who sent a frame: a client's frames are masked, a server's are not. */
enum ws_sender {
	WS_FROM_CLIENT, /* our downstream */
	WS_FROM_SERVER, /* the vendor, our upstream */
};

/* Close codes that this project sends itself (docs/architecture.md). */
enum ws_code {
	WS_CODE_NORMAL = 1000,
	WS_CODE_GOING_AWAY = 1001,
	WS_CODE_PROTOCOL = 1002,
	WS_CODE_UNSUPPORTED = 1003,
	WS_CODE_BAD_DATA = 1007,
	WS_CODE_POLICY = 1008,
	WS_CODE_TOO_BIG = 1009,
	WS_CODE_INTERNAL = 1011,
	WS_CODE_RESTART = 1012,
	WS_CODE_UPSTREAM_LOST = 1014,
	WS_CODE_OPERATOR = 4001, /* its client is to stay away */
	WS_CODE_BUDGET = 4003,
	WS_CODE_TOO_SLOW = 4101,
	WS_CODE_NO_PONG = 4102,
	WS_CODE_IDLE = 4103,
	WS_CODE_LIFETIME = 4200,
};

struct ws_header {
	bool fin;
	uint8_t opcode; /* enum ws_opcode */
	bool masked;
	uint8_t mask[4];
	uint64_t payload_len;
	size_t header_len; /* 2 to WS_HEADER_MAX_BYTES */
};

/*
 * Parse the header at the start of data (5.2).  ERR_AGAIN where it is
 * incomplete; ERR_PROTO for RSV bits, a reserved opcode, a length that is not
 * in its shortest form or over 2^63-1, a control frame that is fragmented or
 * over 125 bytes, a mask where the sender must not or no mask where it must.
 * What can be refused is refused with the first bytes that show it; *ret_why
 * is then a static text that fits a close reason.
 */
enum err ws_header_parse(const uint8_t *data, size_t len,
    enum ws_sender sender, struct ws_header *ret,
    const char **ret_why) MUST_CHECK;

/*
 * Write the header of a frame into out, in its shortest form; returns its
 * length.  A mask of four bytes for a frame to a server, NULL for one to a
 * client.
 */
size_t ws_header_put(uint8_t out[WS_HEADER_MAX_BYTES], enum ws_opcode opcode,
    bool fin, const uint8_t *mask, uint64_t payload_len);

/*
 * Write a whole unfragmented control frame into out; returns its length.  A
 * mask of four bytes for a frame to a server, NULL for one to a client.
 * payload_len is at most WS_CONTROL_MAX_BYTES.
 */
size_t ws_control_put(uint8_t out[WS_CONTROL_FRAME_MAX], enum ws_opcode opcode,
    const uint8_t *mask, const void *payload, size_t payload_len);

/* A close frame; code 0 makes an empty one; the reason is cut at 123 bytes. */
size_t ws_close_put(uint8_t out[WS_CONTROL_FRAME_MAX], const uint8_t *mask,
    int code, const char *reason);

/* XOR with the mask, in place; offset is the payload's position (5.3). */
void ws_mask(uint8_t *data, size_t len, const uint8_t mask[4], uint64_t offset);

/*
 * Read an unmasked close payload: *ret_code is 0 where it is empty; the
 * reason is not terminated.  ERR_PROTO for one byte or an illegal code,
 * ERR_TYPE for a reason that is not UTF-8 (answer 1007).
 */
enum err ws_close_parse(const uint8_t *payload, size_t len, int *ret_code,
    const char **ret_reason, size_t *ret_reason_len) MUST_CHECK;

#endif
