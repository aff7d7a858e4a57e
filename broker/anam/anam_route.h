/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_ROUTE_H
#define BROKER_ANAM_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/anam/anam_session.h"
#include "broker/config/config.h"
#include "broker/store/store.h"
#include "broker/tunnels/target.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * anam_route: the signalling of Anam's sessions, within a tunnel's decision.
 *
 *   /ws/proxy?session_id=ID&engineHost=..&signallingEndpoint=..   (Flutter)
 *   /b/ID/ws?session_id=ID                                        (JS)
 *   /ws?target_url=URL                                (JS, "API gateway")
 *
 * The session's id alone says where it goes: to the engine that the vendor
 * named when the session was made, as the store has it.  Whatever else of a
 * request names a place has to be that one, or the one that the client was
 * told, and is never used.
 */

/* Sockets of one session at once: a new one overlaps the one it replaces. */
#define ANAM_SOCKETS_MAX 2

/* The name that its tunnels have in logs. */
#define ANAM_ROUTE "anam"

/* Whether Anam is configured, and this is one of its paths. */
bool anam_route_takes(const struct config *config, const struct target *target);

struct anam_route {
	struct anam_engine engine;
	char *target;		       /* upstream's path and query */
	char session[ANAM_HASH_BYTES]; /* for the log */
	int64_t left_s;		       /* until the session is over */
	char *user;		       /* whose it is; NULL: nobody's */
	int64_t created;	       /* seconds since 1970 */
};

/* ERR_UNAUTH where whose session it is, or what it was made with, has been
 * revoked. */
enum err anam_route_check_revoked(const struct store_anam *session,
    struct diag *diag) MUST_CHECK;

/*
 * Find the session's engine; now: seconds since 1970.  ERR_NOTFOUND: there is
 * no such session; ERR_UNAUTH: it is over; ERR_DENIED: the request names
 * another place; ERR_PROTO; ERR_UNAVAIL.  anam_route_done() frees what it
 * filled.
 */
enum err anam_route_find(const struct config *config, struct store *store,
    const struct target *target, const struct wire_headers *headers,
    int64_t now, struct anam_route *ret, struct diag *diag) MUST_CHECK;

/* Clear and free. */
void anam_route_done(struct anam_route *route);

#endif
