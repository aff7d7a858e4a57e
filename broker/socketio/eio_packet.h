/* SPDX-License-Identifier: MIT */
#ifndef BROKER_EIO_PACKET_H
#define BROKER_EIO_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * eio_packet: packets and payloads of Engine.IO, protocol 4.  Pure.
 * https://socket.io/docs/v4/engine-io-protocol/
 */
enum eio_type {
	EIO_OPEN = '0',
	EIO_CLOSE = '1',
	EIO_PING = '2',
	EIO_PONG = '3',
	EIO_MESSAGE = '4',
	EIO_UPGRADE = '5',
	EIO_NOOP = '6',
};

/* Between the packets of a payload. */
#define EIO_SEPARATOR '\x1e'

struct eio_packet {
	enum eio_type type;
	bool binary;	  /* EIO_MESSAGE alone */
	const void *data; /* borrowed; a text is UTF-8 */
	size_t len;
};

/*
 * Take the first packet from a payload of polling, which ends at 0x1e or at
 * its end: *ret_used bytes, the separator included.  A binary one ("b" and
 * base64) is decoded where it lies.  ERR_PROTO.
 */
enum err eio_packet_take(char *payload, size_t len, struct eio_packet *ret,
    size_t *ret_used) MUST_CHECK;

/* The packet that is a text frame of a WebSocket.  ERR_PROTO. */
enum err eio_packet_of_text(const char *text, size_t len,
    struct eio_packet *ret) MUST_CHECK;

/* Bytes that a packet takes in a payload, without a separator. */
size_t eio_packet_size(const struct eio_packet *packet);

/* Write it there as it stands in a payload; eio_packet_size() bytes. */
void eio_packet_put(const struct eio_packet *packet, char *out);

#endif
