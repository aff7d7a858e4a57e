/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/socketio/eio_packet.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool it_holds)
{
	if (!it_holds)
		abort();
}

/* What was taken, put again, is taken as the same. */
static void
check(const struct eio_packet *packet)
{
	size_t used, size = eio_packet_size(packet);
	char *out = xcalloc(1, size);
	struct eio_packet again;

	must(!packet->binary || packet->type == EIO_MESSAGE);
	eio_packet_put(packet, out);
	if (!packet->binary) {
		must(eio_packet_of_text(out, size, &again) == ERR_OK);
		must(again.type == packet->type && again.len == packet->len);
	}
	must(eio_packet_take(out, size, &again, &used) == ERR_OK);
	must(used == size && again.type == packet->type &&
	    again.binary == packet->binary && again.len == packet->len);
	must(packet->len == 0 ||
	    memcmp(again.data, packet->data, packet->len) == 0);
	free(out);
}

/* A payload of polling. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *payload = xcalloc(1, size > 0 ? size : 1);
	struct eio_packet packet;
	size_t at = 0, used;

	if (size > 0)
		memcpy(payload, data, size);
	if (eio_packet_of_text(payload, size, &packet) == ERR_OK)
		must(!packet.binary && packet.len == size - 1);
	while (at < size &&
	    eio_packet_take(payload + at, size - at, &packet, &used) ==
		ERR_OK) {
		must(used > 0 && used <= size - at && packet.len < used);
		must((const char *)packet.data > payload + at &&
		    (const char *)packet.data + packet.len <=
			payload + at + used);
		check(&packet);
		at += used;
	}
	free(payload);
	return 0;
}
