/* SPDX-License-Identifier: MIT */
#ifndef BROKER_EIO_QUEUE_H
#define BROKER_EIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "broker/socketio/eio_packet.h"
#include "common/err.h"

/* eio_queue: packets of Engine.IO that wait for a poll.  Pure. */
struct eio_queued;

struct eio_queue {
	STAILQ_HEAD(, eio_queued) items;
	size_t bytes; /* of memory */
};

void eio_queue_init(struct eio_queue *queue);
void eio_queue_done(struct eio_queue *queue); /* clears what waits */

/* Add a copy; false where more than max_bytes would wait. */
bool eio_queue_add(struct eio_queue *queue, const struct eio_packet *packet,
    size_t max_bytes) MUST_CHECK;

/* The first one, borrowed; NULL where none waits.  Clear and drop it. */
const struct eio_packet *eio_queue_peek(const struct eio_queue *queue);
void eio_queue_drop(struct eio_queue *queue);

/*
 * Take as many as go into a payload of max_bytes, and the first one in any
 * case; NULL where none waits.  The caller clears and frees it.
 */
char *eio_queue_take(struct eio_queue *queue, size_t max_bytes,
    size_t *ret_len);

#endif
