/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/socketio/sio_packet.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool it_holds)
{
	if (!it_holds)
		abort();
}

static void
attach_all(struct sio_packet *packet)
{
	while (packet->attachment_count < packet->attachment_expected)
		must(sio_packet_attach(packet, "x",
			 packet->attachment_count % 2) == ERR_OK);
	must(sio_packet_attach(packet, "x", 1) == ERR_PROTO);
}

static void
check_same(const struct sio_packet *a, const struct sio_packet *b)
{
	must(a->type == b->type && a->id == b->id);
	must(strcmp(a->namespace, b->namespace) == 0);
	must((a->data == NULL) == (b->data == NULL));
	must(a->data == NULL || json_equal(a->data, b->data));
	must(a->attachment_expected == b->attachment_expected);
}

/* The text of a packet; what was parsed, written again, is the same. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xcalloc(1, size > 0 ? size : 1), *again;
	struct sio_packet packet, second;
	struct diag diag = { "" };
	size_t len;

	if (size > 0)
		memcpy(text, data, size);
	if (sio_packet_parse(text, size, &packet, &diag) == ERR_OK) {
		must(packet.id >= SIO_NO_ID && packet.id <= SIO_ID_MAX);
		must(packet.namespace[0] == '/');
		must(packet.attachment_expected <= SIO_ATTACHMENTS_MAX);
		attach_all(&packet);
		again = sio_packet_text(&packet, &len);
		must(sio_packet_parse(again, len, &second, NULL) == ERR_OK);
		check_same(&packet, &second);
		free(again);
		sio_packet_done(&second);
		sio_packet_done(&packet);
	} else {
		must(diag.text[0] != '\0');
	}
	free(text);
	return 0;
}
