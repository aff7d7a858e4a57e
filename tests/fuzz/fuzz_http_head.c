/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>

#include "tunnel/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Any bytes as a request and as an answer.  What parses lies inside the
 * input, and a shorter input never says more than "incomplete".
 */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_head head;
	const char *text = (const char *)data;
	struct http_span subprotocol;
	char realtime[] = "realtime", *const offered[] = { realtime };

	if (http_head_parse_request(text, size, &head, NULL) == ERR_OK) {
		if (head.head_len > size ||
		    head.header_count > HTTP_HEAD_MAX_HEADERS)
			abort();
		(void)!http_head_check_upgrade(&head, NULL);
		if (http_head_parse_request(text, head.head_len - 1, &head,
			NULL) != ERR_AGAIN)
			abort();
	}
	if (http_head_parse_response(text, size, &head, NULL) == ERR_OK &&
	    http_head_check_accept(&head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
		offered, 1, &subprotocol, NULL) == ERR_OK &&
	    subprotocol.len != 0 && subprotocol.len != 8)
		abort();
	return 0;
}
