/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ENDPOINT_H
#define BROKER_ENDPOINT_H

#include "broker/http/request.h"

/*
 * endpoint: what a GET of a relay's path is answered that is no WebSocket.
 *
 * A browser tells a page nothing of a WebSocket that was refused.  So the same
 * URL, fetched with the same credentials, says it: what is wrong with these, or
 * that a limit is reached; and 426 where they would do.  No ticket is spent,
 * and nothing is dialled.
 */

/* Whether the configuration has a relay there. */
bool endpoint_takes(const struct request *req);

/* Answer it; may wait for the store, and for the keys of an issuer. */
request_handler endpoint_handle;

#endif
