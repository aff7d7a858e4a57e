/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TUNNEL_ROUTE_H
#define BROKER_TUNNEL_ROUTE_H

#include <stdbool.h>

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
 * knows, its subprotocols and who shows that he may count; of Anam's, the
 * session's id, whose engine the store knows.  No URL of a client is ever used.
 * A path of Engine.IO's is not dialled at all: the broker itself is the
 * upstream.
 *
 * Who decides must not wait, but the store and the keys of an issuer may have
 * to be waited for.  So a decision has four stages, one after the other: the
 * second and the last are made in a thread that may wait.
 */
struct tunnel_route_context {
	struct config *config;
	struct resolver *resolver;
	struct leases *leases;
	struct refusals *refusals; /* of Anam's sessions */
};

struct tunnel_route;

/* Takes the packet, a WIRE_OPEN; the configuration is counted. */
struct tunnel_route *
tunnel_route_new(const struct tunnel_route_context *context,
    struct wire_packet *open);

/* With it goes the lease that it has, if nobody took it; NULL is allowed. */
void tunnel_route_free(struct tunnel_route *route);

/*
 * Whether it may come in, and where it leads.  Here and below, what is not
 * ERR_OK is the refusal, and diag says why, for the log.
 */
enum err tunnel_route_prepare(struct tunnel_route *route,
    struct diag *diag) MUST_CHECK;

/*
 * Who it is, and what he would get: identity, session, rules, revocations.
 * Nothing is taken or spent.  Uses nothing that is not thread-safe.
 */
enum err tunnel_route_identify(struct tunnel_route *route,
    struct diag *diag) MUST_CHECK;

/*
 * The addresses of where it leads.  ERR_AGAIN: the name is being resolved; call
 * it again.
 */
enum err tunnel_route_resolve(struct tunnel_route *route,
    struct diag *diag) MUST_CHECK;

/*
 * Whether he may, now: requests a second, a lease, the budget of the day, and
 * last the ticket, which is spent: after it nothing can be in the way.  Uses
 * nothing that is not thread-safe.
 */
enum err tunnel_route_admit(struct tunnel_route *route,
    struct diag *diag) MUST_CHECK;

/* The request. */
const struct wire_open *tunnel_route_open(const struct tunnel_route *route);

/*
 * For the log, of one that is refused, too: what the route is called, and whom
 * a token or ticket of ours or the site's was made for.  NULL: not known.
 */
const char *tunnel_route_name(const struct tunnel_route *route);
const char *tunnel_route_user(const struct tunnel_route *route);

/* After tunnel_route_admit(): the grant, and its lease; the caller's. */
void tunnel_route_take(struct tunnel_route *route,
    struct wire_packet **ret_grant, struct lease **ret_lease);

/*
 * The socket that is passed with the grant of this request, where it says so:
 * the caller's.  Its other end has been given to Engine.IO.  -1 where there is
 * none to be had: the tunnel refuses such a grant.
 */
int tunnel_route_connect(const struct tunnel_route *route);

/* The packet that refuses, with what the stages found out. */
struct wire_packet *tunnel_route_refuse(struct tunnel_route *route,
    enum err err, const struct diag *diag);

/*
 * The packet that refuses with this code.  The client gets the reason in diag
 * where the fault is its own, and nothing of our insides otherwise.
 */
struct wire_packet *tunnel_route_deny(enum err err, const struct diag *diag);

#endif
