/* SPDX-License-Identifier: MIT */
#ifndef BROKER_EIO_QUEUE_H
#define BROKER_EIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "broker/socketio/eio_packet.h"

/*
 * eio_queue: packets that wait for a poll, and how much may wait for all
 * clients together, whatever their transport.  One thread.
 */
struct eio_waiting;

struct eio_queue { /* embedded in its owner */
	STAILQ_HEAD(, eio_waiting) packets;
	size_t bytes; /* of memory */
};

void eio_queue_init(struct eio_queue *queue);
void eio_queue_done(struct eio_queue *queue);

/* Add a copy; false where more than max bytes would wait. */
bool eio_queue_add(struct eio_queue *queue, const struct eio_packet *packet,
    size_t max) MUST_CHECK;

/* The first, borrowed until it is dropped; NULL: none waits. */
const struct eio_packet *eio_queue_first(const struct eio_queue *queue);
void eio_queue_drop_first(struct eio_queue *queue);

/*
 * Take as many as a payload of max bytes has room for, and one at least:
 * *ret_len bytes, with room for two more behind them.  The caller clears and
 * frees it.
 */
char *eio_queue_take_payload(struct eio_queue *queue, size_t max,
    size_t *ret_len);

/* ---- of all clients -------------------------------------------------------
 */

/* That is too much in all: 256 MiB, unless this is called at the start. */
void eio_queue_set_all(size_t bytes);

/* What more waits, or does not wait any more, in a WebSocket. */
void eio_queue_count(size_t more, size_t less);

/*
 * How much may wait for one client that may have max bytes: much less while
 * there is too much in all, so that many who read nothing do not take all
 * memory.
 */
size_t eio_queue_share(size_t max);

#endif
