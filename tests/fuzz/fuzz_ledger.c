/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "broker/store/usage_event.h"
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

/* Whatever a tunnel reports, the store takes what becomes of it. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_usage row;
	json_t *event;
	bool odd;

	if (json_parse(data, size, &event, NULL) != ERR_OK)
		return 0;
	if (usage_event_parse(event, &row, &odd, NULL) == ERR_OK) {
		require(row.n > 0 && row.event != NULL && row.raw != NULL);
		for (int i = 0; i < STORE_TOKENS_COUNT; i++)
			require(row.tokens[i] <= STORE_TOKENS_MAX);
		require(row.total_tokens <= STORE_TOKENS_MAX);
		require(isfinite(row.seconds) && row.seconds >= 0 &&
		    row.seconds <= STORE_TOKENS_MAX);
		store_usage_done(&row);
	}
	json_decref(event);
	return 0;
}
