/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_QUESTION_H
#define TUNNEL_QUESTION_H

#include "common/err.h"
#include "common/wire.h"
#include "tunnel/http_head.h"

/*
 * question: a client's request, as the broker is asked about it.
 *
 * A WIRE_OPEN of the request's head and of the peer of this socket; the
 * caller's.  ERR_LIMIT, or ERR_PROTO where a header cannot be put into JSON.
 */
enum err question_make(const struct http_head *head, int fd,
    struct wire_packet **ret) MUST_CHECK;

#endif
