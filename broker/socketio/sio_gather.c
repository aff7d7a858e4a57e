/* SPDX-License-Identifier: MIT */
#include "broker/socketio/sio_gather.h"

void
sio_gather_init(struct sio_gather *gather)
{
	*gather = (struct sio_gather){ .packet.id = SIO_NO_ID };
}

void
sio_gather_done(struct sio_gather *gather)
{
	sio_packet_done(&gather->packet);
}

/* The packet is the caller's, or has attachments to come. */
static enum err
give(struct sio_gather *gather, struct sio_packet *ret)
{
	gather->incomplete = gather->packet.attachment_count <
	    gather->packet.attachment_expected;
	if (gather->incomplete)
		return ERR_AGAIN;
	*ret = gather->packet;
	sio_gather_init(gather);
	return ERR_OK;
}

enum err
sio_gather_text(struct sio_gather *gather, const char *text, size_t len,
    sio_gather_max *max, struct sio_packet *ret)
{
	struct sio_packet head;
	size_t at = 0;
	enum err err;

	if (gather->incomplete)
		return ERR_PROTO; /* an attachment is to come */
	err = sio_packet_peek(text, len, &head, &at, NULL);
	if (err == ERR_OK && len - at > max(head.namespace))
		err = ERR_LIMIT;
	if (err == ERR_OK)
		err = sio_packet_parse(text, len, &gather->packet, NULL);
	if (err != ERR_OK)
		return err;
	gather->bytes = len;
	return give(gather, ret);
}

enum err
sio_gather_attachment(struct sio_gather *gather, const void *data, size_t len,
    size_t max_bytes, struct sio_packet *ret)
{
	enum err err;

	if (!gather->incomplete)
		return ERR_PROTO;
	if (len > max_bytes || gather->bytes > max_bytes - len)
		return ERR_LIMIT;
	err = sio_packet_attach(&gather->packet, data, len);
	if (err != ERR_OK)
		return err;
	gather->bytes += len;
	return give(gather, ret);
}
