/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TUNNEL_ROUTE_H
#define BROKER_TUNNEL_ROUTE_H

#include "broker/config/config.h"
#include "broker/tunnels/leases.h"
#include "broker/tunnels/refusals.h"
#include "broker/tunnels/resolver.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * tunnel_route: the decision about one request for a tunnel.
 *
 * What is dialled comes from the configuration; of the request only its path
 * (to find the relay), the values of the query parameters that the relay
 * knows, its subprotocols and a ticket count; of Anam's, the session's id,
 * whose engine the store knows.  No URL of a client is ever used.  A path of
 * Engine.IO's is not dialled at all: the broker itself is the upstream.
 */
struct tunnel_route_context {
	const struct config *config;
	struct resolver *resolver;
	struct leases *leases;
	struct refusals *refusals; /* of Anam's sessions */
};

/*
 * Decide.  ERR_OK: *ret_grant is a packet, *ret_lease the lease it names, and
 * both are the caller's.  ERR_AGAIN: the upstream's name is being resolved; ask
 * again with the same request.  Anything else is the refusal, and diag says
 * why, for the log: see tunnel_route_deny().  *ret_body is then what its body
 * is in place of ours, and the caller's, or NULL.
 */
enum err tunnel_route_decide(const struct tunnel_route_context *context,
    const struct wire_open *open, struct wire_packet **ret_grant,
    struct lease **ret_lease, json_t **ret_body,
    struct diag *diag) MUST_CHECK;

/*
 * The socket that is passed with the grant of this request, where it says so:
 * the caller's.  Its other end has been given to Engine.IO.  -1 where there is
 * none to be had: the tunnel refuses such a grant.
 */
int tunnel_route_connect(const struct wire_open *open);

/*
 * The packet that refuses with this code.  The client gets the reason in diag
 * where the fault is its own, and nothing of our insides otherwise.
 */
struct wire_packet *tunnel_route_deny(enum err err, const struct diag *diag);

/*
 * The client's numeric address: the peer's, or over a Unix socket what the web
 * server put last into X-Forwarded-For.  ERR_DENIED where it is not known.
 */
enum err tunnel_route_client(const struct wire_open *open,
    char out[INET6_ADDRSTRLEN], struct diag *diag) MUST_CHECK;

#endif
