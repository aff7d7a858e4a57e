/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_REPLY_H
#define TUNNEL_REPLY_H

#include <jansson.h>
#include <stddef.h>

#include "common/wire.h"

/* reply: what the client gets as an answer to its handshake.  Pure. */

/*
 * A refusal: status line, Connection: close, the headers (NULL: none), and
 * own, or, where it is NULL, {"error":{"code","message"}}.  A 426 says which
 * version is served, a 405 which method.  The caller frees it.
 */
char *reply_refusal(int status, const char *code, const char *message,
    const json_t *own, const struct wire_headers *headers, size_t *ret_len);

/* The 101; subprotocol may be NULL.  The caller frees it. */
char *reply_accept(const char *accept, const char *subprotocol,
    size_t *ret_len);

#endif
