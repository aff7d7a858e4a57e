/* SPDX-License-Identifier: MIT */
#include "broker/socketio/eio_queue.h"

#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"

/* Past the first, each has the second, which is enough for who reads. */
#define SHARE_BYTES (64 * 1024)

struct eio_waiting {
	STAILQ_ENTRY(eio_waiting) entry;
	struct eio_packet packet;
	char data[];
};

static size_t all_bytes, all_max_bytes = 256 * 1024 * 1024;

void
eio_queue_set_all(size_t bytes)
{
	all_max_bytes = bytes;
}

void
eio_queue_count(size_t more, size_t less)
{
	all_bytes += more;
	all_bytes -= less;
}

size_t
eio_queue_share(size_t max)
{
	return all_bytes > all_max_bytes && max > SHARE_BYTES ? SHARE_BYTES : max;
}

void
eio_queue_init(struct eio_queue *queue)
{
	STAILQ_INIT(&queue->packets);
	queue->bytes = 0;
}

void
eio_queue_done(struct eio_queue *queue)
{
	while (!STAILQ_EMPTY(&queue->packets))
		eio_queue_drop_first(queue);
}

bool
eio_queue_add(struct eio_queue *queue, const struct eio_packet *packet,
    size_t max)
{
	size_t size = sizeof(struct eio_waiting) + packet->len;
	struct eio_waiting *item;

	max = eio_queue_share(max);
	if (packet->len > max || queue->bytes + size > max)
		return false;
	item = xcalloc(1, size);
	item->packet = *packet;
	item->packet.data = item->data;
	if (packet->len > 0)
		memcpy(item->data, packet->data, packet->len);
	STAILQ_INSERT_TAIL(&queue->packets, item, entry);
	queue->bytes += size;
	eio_queue_count(size, 0);
	return true;
}

const struct eio_packet *
eio_queue_first(const struct eio_queue *queue)
{
	const struct eio_waiting *item = STAILQ_FIRST(&queue->packets);

	return item == NULL ? NULL : &item->packet;
}

void
eio_queue_drop_first(struct eio_queue *queue)
{
	struct eio_waiting *item = STAILQ_FIRST(&queue->packets);
	size_t size = sizeof(*item) + item->packet.len;

	STAILQ_REMOVE_HEAD(&queue->packets, entry);
	queue->bytes -= size;
	eio_queue_count(0, size);
	explicit_bzero(item->data, item->packet.len);
	free(item);
}

char *
eio_queue_take_payload(struct eio_queue *queue, size_t max, size_t *ret_len)
{
	const struct eio_packet *packet;
	char *text = xcalloc(1, 2);
	size_t len = 0;

	while ((packet = eio_queue_first(queue)) != NULL &&
	    (len == 0 || len + 1 + eio_packet_size(packet) <= max)) {
		size_t size = eio_packet_size(packet);

		text = xreallocarray(text, len + size + 3, 1);
		if (len > 0)
			text[len++] = EIO_SEPARATOR;
		eio_packet_put(packet, text + len);
		len += size;
		eio_queue_drop_first(queue);
	}
	*ret_len = len;
	return text;
}
