/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/chat/sse_text.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

/*
 * Last-Event-ID, as a browser or anybody sends it: what is an id is letters and
 * digits and a number from 1 on, and is read the same when it is written again.
 */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789";
	static const size_t sizes[] = { 2, 8, 64 };
	char stream[64], again[64], text[96];
	char *id = xstrndup((const char *)data, size);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int64_t n = sse_id_parse(id, stream, sizes[i]);

		require(n >= 0);
		if (n == 0)
			continue;
		require(stream[0] != '\0' && strlen(stream) < sizes[i]);
		require(strspn(stream, allowed) == strlen(stream));
		(void)snprintf(text, sizeof(text), "%s.%lld", stream,
		    (long long)n);
		require(sse_id_parse(text, again, sizes[i]) == n);
		require(strcmp(stream, again) == 0);
	}
	free(id);
	return 0;
}
