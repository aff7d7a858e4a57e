/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SIO_PACKET_H
#define BROKER_SIO_PACKET_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * sio_packet: packets of Socket.IO, protocol 5.  Pure.
 * https://socket.io/docs/v4/socket-io-protocol/
 *
 * Binary data is not JSON: it stands in `data' as {"_placeholder":true,
 * "num":n}, and is attachment n.
 */
enum sio_type {
	SIO_CONNECT,
	SIO_DISCONNECT,
	SIO_EVENT,
	SIO_ACK,
	SIO_CONNECT_ERROR,
	SIO_BINARY_EVENT,
	SIO_BINARY_ACK,
};

#define SIO_ATTACHMENTS_MAX 10
#define SIO_NAMESPACE_MAX   64
#define SIO_NO_ID	    (-1)
#define SIO_ID_MAX	    INT32_MAX

struct sio_attachment {
	void *data;
	size_t len;
};

struct sio_packet {
	enum sio_type type;
	char namespace[SIO_NAMESPACE_MAX + 1]; /* "/" where none is said */
	int64_t id;			       /* of an ack; SIO_NO_ID */
	json_t *data;			       /* NULL: none */
	struct sio_attachment attachments[SIO_ATTACHMENTS_MAX];
	size_t attachment_count;    /* that are there */
	size_t attachment_expected; /* that are said to come */
};

/*
 * Parse the text of a packet strictly: a payload that fits the type (an event
 * is an array that begins with a name, which is not a reserved one; an ack is
 * an array), ids and counts in their range, placeholders that name each
 * attachment.  ERR_PROTO, ERR_LIMIT.  Free with sio_packet_done().
 *
 * Half of a surrogate pair, which JavaScript's strings may have, is U+FFFD.
 */
enum err sio_packet_parse(const char *text, size_t len, struct sio_packet *ret,
    struct diag *diag) MUST_CHECK;

/*
 * The same without the payload, which begins at *ret_at: before it is parsed,
 * which takes time.  There is nothing to free.
 */
enum err sio_packet_peek(const char *text, size_t len, struct sio_packet *ret,
    size_t *ret_at, struct diag *diag) MUST_CHECK;

/* Add a copy of the next attachment.  ERR_PROTO where none is expected. */
enum err sio_packet_attach(struct sio_packet *packet, const void *data,
    size_t len) MUST_CHECK;

/* The text of a packet, type and count as its attachments want it; freed by
   the caller. */
char *sio_packet_text(const struct sio_packet *packet, size_t *ret_len);

void sio_packet_done(struct sio_packet *packet);

#endif
