/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SIO_GATHER_H
#define BROKER_SIO_GATHER_H

#include <stdbool.h>
#include <stddef.h>

#include "broker/socketio/sio_packet.h"

/*
 * sio_gather: the packets of one client, put together from the messages that
 * they come in: a text, and one message for each attachment.  Pure.
 */
struct sio_gather {
	struct sio_packet packet; /* private, and all that follows */
	bool incomplete;	  /* attachments of it are still to come */
	size_t bytes;
};

/* The longest payload that this namespace takes. */
typedef size_t sio_gather_max(const char *namespace);

void sio_gather_init(struct sio_gather *gather);
void sio_gather_done(struct sio_gather *gather);

/*
 * Take a message.  ERR_OK: *ret is a whole packet, and the caller's; ERR_AGAIN:
 * attachments are still to come.  ERR_PROTO; ERR_LIMIT for a payload that is
 * longer than max() says, which is not parsed then, or where text and
 * attachments have more than max_bytes together.  After an error there is no
 * more to be had of this client.
 */
enum err sio_gather_text(struct sio_gather *gather, const char *text,
    size_t len, sio_gather_max *max, struct sio_packet *ret) MUST_CHECK;
enum err sio_gather_attachment(struct sio_gather *gather, const void *data,
    size_t len, size_t max_bytes, struct sio_packet *ret) MUST_CHECK;

#endif
