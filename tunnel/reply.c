/* SPDX-License-Identifier: MIT */
#include "tunnel/reply.h"

#include <stdlib.h>
#include <string.h>

#include "common/http.h"
#include "common/json.h"
#include "common/xalloc.h"

static char *
error_body(const char *code, const char *message, size_t *ret_len)
{
	json_t *body = http_error(code, message);
	char *text = json_text(body, ret_len);

	json_decref(body);
	return text;
}

static const char *
headers_of_status(int status)
{
	if (status == 426)
		return "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
	return status == 405 ? "Allow: GET\r\n" : "";
}

/* All headers as lines, in new memory. */
static char *
header_lines(const struct wire_headers *headers)
{
	char *lines = xstrdup("");

	for (size_t i = 0; headers != NULL && i < headers->count; i++) {
		char *longer = xasprintf("%s%s: %s\r\n", lines,
		    headers->items[i].name, headers->items[i].value);

		free(lines);
		lines = longer;
	}
	return lines;
}

char *
reply_refusal(int status, const char *code, const char *message,
    const json_t *own, const struct wire_headers *headers, size_t *ret_len)
{
	char *lines = header_lines(headers), *body, *text;
	size_t body_len;

	body = own != NULL ? json_text(own, &body_len)
			   : error_body(code, message, &body_len);
	text = xasprintf("HTTP/1.1 %d %s\r\n"
			 "Content-Type: application/json\r\n"
			 "Content-Length: %zu\r\n"
			 "Cache-Control: no-store\r\n"
			 "Connection: close\r\n"
			 "%s%s\r\n%s",
	    status, http_phrase(status), body_len, headers_of_status(status),
	    lines, body);
	free(lines);
	free(body);
	*ret_len = strlen(text);
	return text;
}

char *
reply_accept(const char *accept, const char *subprotocol, size_t *ret_len)
{
	char *text = xasprintf("HTTP/1.1 101 Switching Protocols\r\n"
			       "Upgrade: websocket\r\n"
			       "Connection: Upgrade\r\n"
			       "Sec-WebSocket-Accept: %s\r\n"
			       "%s%s%s\r\n",
	    accept, subprotocol != NULL ? "Sec-WebSocket-Protocol: " : "",
	    subprotocol != NULL ? subprotocol : "",
	    subprotocol != NULL ? "\r\n" : "");

	*ret_len = strlen(text);
	return text;
}
