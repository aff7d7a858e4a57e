/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

/* What parses must format, and what was formatted parses to the same again. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_packet *packet, *again;
	char *text, *text_again;
	size_t len, len_again;
	enum err err;

	if (wire_parse(data, size, &packet, NULL) != ERR_OK)
		return 0;
	err = wire_format(packet, &text, &len);
	/* escapes may be longer than what they stand for */
	require(err == ERR_OK || err == ERR_LIMIT);
	wire_packet_free(packet);
	if (err != ERR_OK)
		return 0;
	require(wire_parse(text, len, &again, NULL) == ERR_OK);
	require(wire_format(again, &text_again, &len_again) == ERR_OK);
	require(len == len_again && memcmp(text, text_again, len) == 0);
	wire_packet_free(again);
	wire_text_free(text, len);
	wire_text_free(text_again, len_again);
	return 0;
}
