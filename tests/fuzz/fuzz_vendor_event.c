/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "tunnel/vendor_event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * The first byte says how the rest, an event of the vendor's, is cut.  Cut or
 * not, the same is read of it, where it is JSON.
 */
static void
require(int condition)
{
	if (!condition)
		abort();
}

static struct vendor_event *
fed(const uint8_t *data, size_t size, size_t piece)
{
	struct vendor_event *event = vendor_event_new();

	vendor_event_begin(event);
	for (size_t at = 0; at < size; at += piece)
		vendor_event_feed(event, data + at,
		    size - at < piece ? size - at : piece);
	return event;
}

static void
compare(const struct vendor_event *whole, const struct vendor_event *cut)
{
	char ids[2][VENDOR_EVENT_ID_BYTES], params[2][VENDOR_EVENT_ID_BYTES];
	json_t *usage[2] = { vendor_event_usage(whole),
		vendor_event_usage(cut) };

	require(strcmp(vendor_event_type(whole), vendor_event_type(cut)) == 0);
	require(usage[0] == usage[1] || json_equal(usage[0], usage[1]));
	json_decref(usage[0]);
	json_decref(usage[1]);
	if (strcmp(vendor_event_type(whole), "error") != 0)
		return;
	vendor_event_error(whole, ids[0], params[0]);
	vendor_event_error(cut, ids[1], params[1]);
	require(strcmp(ids[0], ids[1]) == 0);
	require(strcmp(params[0], params[1]) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vendor_event *whole, *cut;
	json_t *json = NULL;

	if (size < 2)
		return 0;
	whole = fed(data + 1, size - 1, size);
	cut = fed(data + 1, size - 1, 1 + data[0] % 64);
	/* of what is no JSON, less may be read in one piece */
	if (json_parse(data + 1, size - 1, &json, NULL) == ERR_OK)
		compare(whole, cut);
	else
		json_decref(vendor_event_usage(cut));
	json_decref(json);
	vendor_event_free(whole);
	vendor_event_free(cut);
	return 0;
}
