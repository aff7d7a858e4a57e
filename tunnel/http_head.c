/* SPDX-License-Identifier: MIT */
#include "tunnel/http_head.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "common/crypt.h"
#include "common/str.h"

#define WS_KEY_BYTES 16

static bool
span_is(struct http_span span, const char *text)
{
	return span.len == strlen(text) &&
	    memcmp(span.data, text, span.len) == 0;
}

static bool
span_is_nocase(struct http_span span, const char *text)
{
	return span.len == strlen(text) &&
	    strncasecmp(span.data, text, span.len) == 0;
}

static struct http_span
trimmed(const char *from, const char *to)
{
	while (from < to && (*from == ' ' || *from == '\t'))
		from++;
	while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
		to--;
	return (struct http_span){ from, (size_t)(to - from) };
}

static bool
is_control(char c)
{
	return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

/*
 * Find the line that starts at data: it ends in CRLF.  A bare CR or LF, or
 * another control character, is refused here, at once: nobody behind us sees
 * other lines than we do, and whoever speaks TLS to us need not wait to hear
 * that it is not HTTP.
 */
static enum err
next_line(const char *data, size_t len, struct http_span *ret)
{
	for (size_t i = 0; i < len; i++) {
		if (!is_control(data[i]))
			continue;
		if (data[i] != '\r')
			return ERR_PROTO;
		if (i + 1 == len)
			break;
		if (data[i + 1] != '\n')
			return ERR_PROTO;
		*ret = (struct http_span){ data, i };
		return ERR_OK;
	}
	return ERR_AGAIN;
}

/* "HTTP/1.0" or "HTTP/1.1" (RFC 9112 2.3). */
static enum err
parse_version(const char *p, int *ret_minor, struct diag *diag)
{
	if (memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1')) {
		diag_set(diag, "not HTTP/1.0 or HTTP/1.1");
		return ERR_PROTO;
	}
	*ret_minor = p[7] - '0';
	return ERR_OK;
}

/* method SP target SP version, single blanks (RFC 9112 3). */
static enum err
parse_request_line(struct http_span line, struct http_head *head,
    struct diag *diag)
{
	const char *end = line.data + line.len;
	const char *sp1 = memchr(line.data, ' ', line.len), *sp2;

	if (sp1 == NULL ||
	    (sp2 = memchr(sp1 + 1, ' ', (size_t)(end - sp1 - 1))) == NULL ||
	    end - sp2 != 9) {
		diag_set(diag, "malformed request line");
		return ERR_PROTO;
	}
	head->method =
	    (struct http_span){ line.data, (size_t)(sp1 - line.data) };
	head->target = (struct http_span){ sp1 + 1, (size_t)(sp2 - sp1 - 1) };
	if (!str_is_token(head->method.data, head->method.len)) {
		diag_set(diag, "malformed method");
		return ERR_PROTO;
	}
	if (head->target.len == 0) {
		diag_set(diag, "the request target is empty");
		return ERR_PROTO;
	}
	for (const char *p = head->target.data; p < sp2; p++)
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f) {
			diag_set(diag, "the request target is not ASCII");
			return ERR_PROTO;
		}
	return parse_version(sp2 + 1, &head->minor, diag);
}

/* version SP 3DIGIT [SP reason] (RFC 9112 4). */
static enum err
parse_status_line(struct http_span line, struct http_head *head,
    struct diag *diag)
{
	uint64_t status;

	if (line.len < 12 || line.data[8] != ' ' ||
	    str_to_u64(line.data + 9, 3, 599, &status) != ERR_OK ||
	    status < 100 || (line.len > 12 && line.data[12] != ' ')) {
		diag_set(diag, "malformed status line");
		return ERR_PROTO;
	}
	head->status = (int)status;
	if (line.len > 13)
		head->reason =
		    (struct http_span){ line.data + 13, line.len - 13 };
	return parse_version(line.data, &head->minor, diag);
}

/* name ":" OWS value OWS (RFC 9112 5); no folding. */
static enum err
parse_header(struct http_span line, struct http_head *head, struct diag *diag)
{
	const char *colon = memchr(line.data, ':', line.len);
	struct http_header *header;

	if (head->header_count == HTTP_HEAD_MAX_HEADERS) {
		diag_set(diag, "more than %d headers", HTTP_HEAD_MAX_HEADERS);
		return ERR_HEAD;
	}
	if (colon == NULL ||
	    !str_is_token(line.data, (size_t)(colon - line.data))) {
		diag_set(diag, "malformed header name");
		return ERR_PROTO;
	}
	header = &head->headers[head->header_count++];
	header->name =
	    (struct http_span){ line.data, (size_t)(colon - line.data) };
	header->value = trimmed(colon + 1, line.data + line.len);
	return ERR_OK;
}

typedef enum err first_line_parser(struct http_span line,
    struct http_head *head, struct diag *diag);

static enum err
parse_head(const char *data, size_t len, first_line_parser *parse_first,
    struct http_head *head, struct diag *diag)
{
	size_t max = len < HTTP_HEAD_MAX_BYTES ? len : HTTP_HEAD_MAX_BYTES;
	struct http_span line;
	size_t at = 0;
	bool first = true;
	enum err err;

	memset(head, 0, offsetof(struct http_head, headers));
	head->header_count = 0;
	for (;;) {
		err = next_line(data + at, max - at, &line);
		if (err == ERR_AGAIN && len >= HTTP_HEAD_MAX_BYTES) {
			diag_set(diag, "head over %d bytes",
			    HTTP_HEAD_MAX_BYTES);
			return ERR_HEAD;
		}
		if (err == ERR_PROTO)
			diag_set(diag,
			    "a control character, or a line that "
			    "does not end in CRLF");
		if (err != ERR_OK)
			return err;
		at += line.len + 2;
		if (!first && line.len == 0)
			break;
		err = first ? parse_first(line, head, diag)
			    : parse_header(line, head, diag);
		if (err != ERR_OK)
			return err;
		first = false;
	}
	head->head_len = at;
	return ERR_OK;
}

enum err
http_head_parse_request(const char *data, size_t len, struct http_head *ret,
    struct diag *diag)
{
	return parse_head(data, len, parse_request_line, ret, diag);
}

enum err
http_head_parse_response(const char *data, size_t len, struct http_head *ret,
    struct diag *diag)
{
	return parse_head(data, len, parse_status_line, ret, diag);
}

enum err
http_head_get(const struct http_head *head, const char *name,
    struct http_span *ret)
{
	const struct http_header *found = NULL;

	for (size_t i = 0; i < head->header_count; i++) {
		if (!span_is_nocase(head->headers[i].name, name))
			continue;
		if (found != NULL)
			return ERR_PROTO;
		found = &head->headers[i];
	}
	if (found == NULL)
		return ERR_NOTFOUND;
	*ret = found->value;
	return ERR_OK;
}

bool
http_head_has(const struct http_head *head, const char *name, const char *word)
{
	for (size_t i = 0; i < head->header_count; i++)
		if (span_is_nocase(head->headers[i].name, name) &&
		    str_list_has(head->headers[i].value.data,
			head->headers[i].value.len, word))
			return true;
	return false;
}

/* A body would be read as frames by us, and as a request by others. */
static enum err
check_no_body(const struct http_head *head, struct diag *diag)
{
	struct http_span value;
	enum err err;

	if (http_head_get(head, "transfer-encoding", &value) != ERR_NOTFOUND) {
		diag_set(diag, "a handshake has no Transfer-Encoding");
		return ERR_PROTO;
	}
	err = http_head_get(head, "content-length", &value);
	if (err != ERR_NOTFOUND && (err != ERR_OK || !span_is(value, "0"))) {
		diag_set(diag, "a handshake has no body");
		return ERR_PROTO;
	}
	return ERR_OK;
}

static enum err
check_request_line(const struct http_head *head, struct diag *diag)
{
	struct http_span host;

	if (!span_is(head->method, "GET")) {
		diag_set(diag, "a WebSocket handshake is a GET");
		return ERR_METHOD;
	}
	if (head->minor != 1) {
		diag_set(diag, "a WebSocket handshake is HTTP/1.1");
		return ERR_PROTO;
	}
	if (head->target.data[0] != '/') {
		diag_set(diag, "the request target is not a path");
		return ERR_PROTO;
	}
	if (memchr(head->target.data, '#', head->target.len) != NULL) {
		diag_set(diag, "the request target has a fragment");
		return ERR_PROTO;
	}
	if (http_head_get(head, "host", &host) != ERR_OK || host.len == 0) {
		diag_set(diag, "there has to be one Host header");
		return ERR_PROTO;
	}
	return ERR_OK;
}

enum err
http_head_check_upgrade(const struct http_head *head, struct diag *diag)
{
	uint8_t key[WS_KEY_BYTES];
	struct http_span value;
	size_t key_len = 0;
	enum err err;

	err = check_request_line(head, diag);
	if (err == ERR_OK)
		err = check_no_body(head, diag);
	if (err != ERR_OK)
		return err;
	if (!http_head_has(head, "upgrade", "websocket") ||
	    !http_head_has(head, "connection", "upgrade")) {
		diag_set(diag,
		    "this is a WebSocket endpoint: "
		    "Upgrade: websocket is missing");
		return ERR_UPGRADE;
	}
	err = http_head_get(head, "sec-websocket-version", &value);
	if (err == ERR_PROTO) {
		diag_set(diag, "more than one Sec-WebSocket-Version");
		return ERR_PROTO;
	}
	if (err != ERR_OK || !span_is(value, "13")) {
		diag_set(diag, "WebSocket version 13 is the one spoken here");
		return ERR_UPGRADE;
	}
	if (http_head_get(head, "sec-websocket-key", &value) != ERR_OK ||
	    crypt_unbase64(value.data, value.len, key, sizeof(key), &key_len) !=
		ERR_OK ||
	    key_len != WS_KEY_BYTES) {
		diag_set(diag, "Sec-WebSocket-Key is not 16 bytes of base64");
		return ERR_PROTO;
	}
	return ERR_OK;
}

static enum err
refuse_accept(struct diag *diag, const char *why)
{
	diag_set(diag, "the upstream's handshake is not valid: %s", why);
	return ERR_UPSTREAM;
}

enum err
http_head_check_accept(const struct http_head *head, const char *accept,
    char *const *offered, size_t offered_count,
    struct http_span *ret_subprotocol, struct diag *diag)
{
	struct http_span value;
	enum err err;

	if (head->status != 101 || head->minor != 1)
		return refuse_accept(diag, "not HTTP/1.1 101");
	if (!http_head_has(head, "upgrade", "websocket") ||
	    !http_head_has(head, "connection", "upgrade"))
		return refuse_accept(diag, "no Upgrade: websocket");
	if (http_head_get(head, "sec-websocket-accept", &value) != ERR_OK ||
	    !span_is(value, accept))
		return refuse_accept(diag, "wrong Sec-WebSocket-Accept");
	err = http_head_get(head, "sec-websocket-extensions", &value);
	if (err == ERR_PROTO || (err == ERR_OK && value.len > 0))
		return refuse_accept(diag, "an extension nobody offered");
	err = http_head_get(head, "sec-websocket-protocol", &value);
	if (err == ERR_PROTO)
		return refuse_accept(diag, "more than one subprotocol");
	if (err == ERR_NOTFOUND || value.len == 0) {
		*ret_subprotocol = (struct http_span){ "", 0 };
		return ERR_OK;
	}
	for (size_t i = 0; i < offered_count; i++)
		if (span_is(value, offered[i])) {
			*ret_subprotocol = value;
			return ERR_OK;
		}
	return refuse_accept(diag, "a subprotocol nobody offered");
}
