/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_HTTP_HEAD_H
#define TUNNEL_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/*
 * http_head: strict parsing of an HTTP/1.1 message head (RFC 9112).
 *
 * Pure: no I/O.  Used for the client's request and for the vendor's answer.
 * Lines end in CRLF, there is no line folding, no blank before a colon, no
 * control character in a value; whatever two readers could understand
 * differently is refused.
 */
#define HTTP_HEAD_MAX_BYTES   (16 * 1024)
#define HTTP_HEAD_MAX_HEADERS 100

/* A part of the caller's buffer; valid as long as that is. */
struct http_span {
	const char *data;
	size_t len;
};

struct http_header {
	struct http_span name;
	struct http_span value; /* blanks around it removed */
};

struct http_head {
	/* request */
	struct http_span method;
	struct http_span target;
	/* response */
	int status;
	struct http_span reason;
	/* both */
	int minor; /* HTTP/1.minor: 0 or 1 */
	struct http_header headers[HTTP_HEAD_MAX_HEADERS];
	size_t header_count;
	size_t head_len; /* bytes of the head, the empty line included */
};

/*
 * Parse the head at the start of data.  ERR_AGAIN while it is incomplete and
 * could still become one (then read more); ERR_PROTO; ERR_HEAD where it is
 * longer than HTTP_HEAD_MAX_BYTES or has too many headers.
 */
enum err http_head_parse_request(const char *data, size_t len,
    struct http_head *ret, struct diag *diag) MUST_CHECK;
enum err http_head_parse_response(const char *data, size_t len,
    struct http_head *ret, struct diag *diag) MUST_CHECK;

/*
 * The one header of this name (without case).  ERR_NOTFOUND; ERR_PROTO where
 * it occurs more than once.
 */
enum err http_head_get(const struct http_head *head, const char *name,
    struct http_span *ret) MUST_CHECK;

/* Whether a comma-separated header, over all its lines, has this word. */
bool http_head_has(const struct http_head *head, const char *name,
    const char *word);

/*
 * Check that a request is a WebSocket handshake (RFC 6455 4.2.1): GET,
 * HTTP/1.1, one Host, origin-form target, Upgrade, Connection, a key of 16
 * bytes, version 13, no body.  ERR_METHOD, ERR_UPGRADE (not an upgrade, or
 * another version: answer with Sec-WebSocket-Version: 13), ERR_PROTO.
 */
enum err http_head_check_upgrade(const struct http_head *head,
    struct diag *diag) MUST_CHECK;

/*
 * Check the vendor's 101 against the key that was sent (RFC 6455 4.1): status,
 * Upgrade, Connection, accept value, no extension, and a subprotocol only of
 * those offered.  *ret_subprotocol is empty where none was selected.
 * ERR_UPSTREAM with the reason.
 */
enum err http_head_check_accept(const struct http_head *head,
    const char *accept, char *const *offered, size_t offered_count,
    struct http_span *ret_subprotocol, struct diag *diag) MUST_CHECK;

#endif
