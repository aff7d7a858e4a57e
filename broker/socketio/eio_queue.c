/* SPDX-License-Identifier: MIT */
#include "broker/socketio/eio_queue.h"

#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"

struct eio_queued {
	STAILQ_ENTRY(eio_queued) entry;
	struct eio_packet packet;
	char data[];
};

void
eio_queue_init(struct eio_queue *queue)
{
	STAILQ_INIT(&queue->items);
	queue->bytes = 0;
}

void
eio_queue_done(struct eio_queue *queue)
{
	while (!STAILQ_EMPTY(&queue->items))
		eio_queue_drop(queue);
}

bool
eio_queue_add(struct eio_queue *queue, const struct eio_packet *packet,
    size_t max_bytes)
{
	struct eio_queued *item;

	if (packet->len > max_bytes ||
	    queue->bytes + sizeof(*item) + packet->len > max_bytes)
		return false;
	item = xcalloc(1, sizeof(*item) + packet->len);
	item->packet = *packet;
	item->packet.data = item->data;
	if (packet->len > 0)
		memcpy(item->data, packet->data, packet->len);
	STAILQ_INSERT_TAIL(&queue->items, item, entry);
	queue->bytes += sizeof(*item) + packet->len;
	return true;
}

const struct eio_packet *
eio_queue_peek(const struct eio_queue *queue)
{
	const struct eio_queued *item = STAILQ_FIRST(&queue->items);

	return item == NULL ? NULL : &item->packet;
}

void
eio_queue_drop(struct eio_queue *queue)
{
	struct eio_queued *item = STAILQ_FIRST(&queue->items);

	STAILQ_REMOVE_HEAD(&queue->items, entry);
	queue->bytes -= sizeof(*item) + item->packet.len;
	explicit_bzero(item->data, item->packet.len);
	free(item);
}

/* Bytes of the packets that go into one payload, with their separators. */
static size_t
size_of_payload(const struct eio_queue *queue, size_t max_bytes)
{
	const struct eio_queued *item;
	size_t len = 0;

	STAILQ_FOREACH(item, &queue->items, entry)
	{
		size_t more = eio_packet_size(&item->packet) + (len > 0);

		if (len > 0 && len + more > max_bytes)
			break;
		len += more;
	}
	return len;
}

char *
eio_queue_take(struct eio_queue *queue, size_t max_bytes, size_t *ret_len)
{
	size_t len = size_of_payload(queue, max_bytes), at = 0;
	char *text;

	if (len == 0)
		return NULL;
	text = xcalloc(1, len);
	while (at < len) {
		const struct eio_packet *packet = eio_queue_peek(queue);

		if (at > 0)
			text[at++] = EIO_SEPARATOR;
		eio_packet_put(packet, text + at);
		at += eio_packet_size(packet);
		eio_queue_drop(queue);
	}
	*ret_len = len;
	return text;
}
