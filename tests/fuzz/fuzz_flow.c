/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * The first byte chooses the sender, limits and how the rest is cut; a flow
 * that gets it whole and one that gets it cut must hand on the same bytes,
 * count the same and end alike, and never hand on a byte they did not get.
 */
struct output {
	uint8_t *bytes;
	size_t len, size;
	size_t controls;
};

static void
put(struct output *out, const uint8_t *data, size_t len)
{
	if (len == 0 || out->len + len > out->size)
		abort();
	memcpy(out->bytes + out->len, data, len);
	out->len += len;
}

static void
on_pass(void *arg, const uint8_t *data, size_t len)
{
	put(arg, data, len);
}

static void
on_control(void *arg, enum ws_opcode opcode, const uint8_t *raw, size_t raw_len,
    const uint8_t *payload, size_t payload_len)
{
	struct output *out = arg;

	(void)payload;
	if (opcode < WS_CLOSE || payload_len > WS_CONTROL_MAX_BYTES)
		abort();
	put(out, raw, raw_len);
	out->controls++;
}

static void
run(uint8_t choice, const uint8_t *data, size_t size, size_t step,
    struct flow *flow, struct output *out)
{
	struct flow_sink sink = { .pass = on_pass,
		.control = on_control,
		.arg = out };

	*out = (struct output){ .bytes = malloc(size + 1), .size = size };
	flow_init(flow, (choice & 1) != 0 ? WS_FROM_CLIENT : WS_FROM_SERVER,
	    (choice & 2) != 0 ? 200 : 0);
	flow_set_rates(flow, (choice & 4) != 0 ? 3 : 0, 0, 0);
	for (size_t i = 0; i < size; i += step)
		if (flow_feed(flow, data + i, size - i < step ? size - i : step,
			0, &sink) != ERR_OK)
			break;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flow whole, cut;
	struct output a, b;

	if (size < 2)
		return 0;
	run(data[0], data + 1, size - 1, size, &whole, &a);
	run(data[0], data + 1, size - 1, 1 + (data[0] >> 3), &cut, &b);
	if (a.len != b.len || memcmp(a.bytes, b.bytes, a.len) != 0 ||
	    memcmp(a.bytes, data + 1, a.len) != 0 || a.controls != b.controls ||
	    whole.violation != cut.violation || whole.closed != cut.closed ||
	    whole.totals.messages != cut.totals.messages ||
	    whole.totals.bytes != cut.totals.bytes)
		abort();
	free(a.bytes);
	free(b.bytes);
	return 0;
}
