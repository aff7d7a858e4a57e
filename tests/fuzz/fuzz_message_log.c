/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "tunnel/message_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* No vendor's key, at the beginning of a word. */
static void
require_masked(const char *record)
{
	for (const char *p = record; (p = strstr(p, "sk-")) != NULL; p++) {
		size_t len = 3;

		while (isalnum((unsigned char)p[len]))
			len++;
		require(len < 3 + 8 ||
		    (p > record && isalnum((unsigned char)p[-1])));
	}
}

/* Whatever was sent, the record is bounded, and the broker can read it. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct message_log_entry entry = { .bytes = size };
	json_t *record = message_log_record(&entry, data, size);
	json_t *again = NULL;
	size_t len;
	char *text = json_text(record, &len);

	require(len < MESSAGE_LOG_MAX_BYTES + 512);
	require(json_parse(text, len, &again, NULL) == ERR_OK);
	require(json_equal(again, record));
	require_masked(text);
	json_decref(again);
	json_decref(record);
	free(text);
	return 0;
}
