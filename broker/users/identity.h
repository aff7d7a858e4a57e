/* SPDX-License-Identifier: MIT */
#ifndef BROKER_IDENTITY_H
#define BROKER_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "broker/http/request.h"
#include "broker/store/store.h"
#include "broker/tunnels/target.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * identity: who asks, on every route: a user of the site's, by a JWT of the
 * site's own login or by a ticket of ours that was made for one; or nobody
 * that is known.
 *
 * What is shown and is not good is ERR_UNAUTH, and never makes its sender
 * nobody.  Revoked ones (broker/limits/revocations.h) are ERR_UNAUTH, too.
 */
struct identity {
	char *user;		    /* NULL: nobody that is known */
	char *plan;		    /* as the token says; NULL: it does not */
	char *token_id;		    /* jti; NULL: there is none */
	int64_t issued, expires;    /* seconds since 1970; 0: not said */
	struct store_ticket ticket; /* id is NULL where it was none */
};
void identity_done(struct identity *identity);

/* Where the credential may be. */
enum identity_ways {
	IDENTITY_BEARER = 1, /* Authorization: Bearer */
	IDENTITY_COOKIE = 2, /* the one of `users' */
	IDENTITY_QUERY = 4,  /* ?token= and ?ticket= */
	IDENTITY_SUBPROTOCOL = 8,
};

/*
 * Of a request over HTTP.  route is the name that a ticket has to be for.
 * ERR_UNAUTH; ERR_UNAVAIL where the keys, or the store, cannot be had now;
 * ERR_PROTO where two different ones are shown.  May wait some seconds for the
 * keys of the issuer.  Not here: REMOTE_USER counts where `remote_user' is set.
 */
enum err identity_of_request(struct request *req, unsigned ways,
    const char *route, struct identity *ret, struct diag *diag) MUST_CHECK;

/*
 * Of a request for a tunnel, in all ways: a JWT in Sec-WebSocket-Protocol is
 * the item "base64url.bearer.authorization.TOKEN" (the token as it is) or
 * "openai-insecure-api-key.TOKEN".  In a thread that may wait.
 */
enum err identity_of_tunnel(const struct config *config,
    const struct wire_headers *headers, const struct target *target,
    const char *address, const char *route, struct identity *ret,
    struct diag *diag) MUST_CHECK;

/* Of a JWT of the site's alone: Socket.IO's `auth', and tests. */
enum err identity_of_token(const struct config *config, const char *token,
    size_t len, struct identity *ret, struct diag *diag) MUST_CHECK;

#endif
