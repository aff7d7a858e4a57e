/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TUNNEL_REQUEST_H
#define BROKER_TUNNEL_REQUEST_H

#include <netinet/in.h>

#include "broker/config/config.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * tunnel_request: what a request for a tunnel says of its client, and what it
 * asks to be spoken.  Pure.
 */

/*
 * The client's numeric address: the peer's, or over a Unix socket what the web
 * server put last into X-Forwarded-For.  ERR_DENIED where it is not known.
 */
enum err tunnel_request_client(const struct wire_open *open,
    char out[INET6_ADDRSTRLEN], struct diag *diag) MUST_CHECK;

/* Whether it may come in (broker/http/access.h), and its client. */
enum err tunnel_request_admit(const struct config *config,
    const struct wire_open *open, char client[INET6_ADDRSTRLEN],
    struct diag *diag) MUST_CHECK;

/*
 * Put into the grant what is to be offered upstream, or to be answered: see
 * struct config_relay.  Items that carry a credential are never among them.
 * ERR_PROTO where the relay has none of what is asked for.
 */
enum err tunnel_request_subprotocol(const struct config_relay *relay,
    const struct wire_headers *headers, struct wire_grant *grant,
    struct diag *diag) MUST_CHECK;

#endif
