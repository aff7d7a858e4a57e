/* SPDX-License-Identifier: MIT */
#ifndef BROKER_IDENTITY_H
#define BROKER_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "broker/http/access.h"
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
#define IDENTITY_USER_MAX 128 /* bytes of a user's name */
#define IDENTITY_PLAN_MAX 64

struct identity {
	char *user;	 /* NULL: nobody that is known */
	char *plan;	 /* as the token says; NULL: it does not */
	char *token_id;	 /* jti; NULL: there is none */
	char *anon_id;	 /* of who is no user; NULL: none */
	int64_t issued;	 /* seconds since 1970; 0: not said */
	int64_t expires; /* it is good until then, leeway and all; 0: ever */
	struct store_ticket ticket; /* id is NULL where it was none */
	bool shown;		    /* something was, good or not */
};
void identity_done(struct identity *identity);

/*
 * The value of WWW-Authenticate for what was shown and is not good (RFC 6750
 * 3.1); who has shown nothing is told "Bearer" alone.  Returns out.
 */
#define IDENTITY_CHALLENGE_SIZE 320
char *identity_challenge(const struct diag *diag,
    char out[IDENTITY_CHALLENGE_SIZE]);

/* Where the credential may be. */
enum identity_ways {
	IDENTITY_BEARER = 1, /* Authorization: Bearer */
	IDENTITY_COOKIE = 2, /* the one of `users' */
	IDENTITY_QUERY = 4,  /* ?token= and ?ticket= */
	IDENTITY_SUBPROTOCOL = 8,
	/*
	 * Clients show a vendor's key, or something in its place, as Bearer:
	 * what has the form of neither JWT nor ticket is ignored.
	 */
	IDENTITY_VENDOR_KEYS = 16,
	/*
	 * x-anon-id, and ?anon_id= where the query counts, where there is
	 * neither user nor ticket; a ticket has that of who asked for it.
	 */
	IDENTITY_ANON_ID = 32,
};

/*
 * Of a request over HTTP.  route is the name that a ticket has to be for; what
 * a relay of that name passes on of the query is the vendor's.
 *
 * A browser sends a cookie by itself, so that counts only where nothing else is
 * shown, and not for a request that does more than read and comes from a page
 * of another site (ERR_DENIED); so does REMOTE_USER, where `remote_user' is set
 * and there is no cookie either.  Without `users', whatever is no ticket is for
 * somebody else, and ignored.
 *
 * ERR_UNAUTH, and the answer has its WWW-Authenticate; ERR_UNAVAIL where the
 * keys, or the store, cannot be had now; ERR_PROTO where two different ones are
 * shown, and for an anonymous id that will not do.  May wait some seconds for
 * the keys of the issuer.
 */
enum err identity_of_request(struct request *req, unsigned ways,
    const char *route, struct identity *ret, struct diag *diag) MUST_CHECK;

/*
 * Whether they will do where `require_user' says so: ERR_UNAUTH for who has
 * shown neither that he is a user nor a ticket, which others do not get.
 */
enum err identity_check_required(const struct identity *identity, bool required,
    struct diag *diag) MUST_CHECK;

/*
 * Of a request for a tunnel, in all ways: a JWT in Sec-WebSocket-Protocol is
 * the item "base64url.bearer.authorization.TOKEN" (the token as it is) or
 * "openai-insecure-api-key.TOKEN".  An anonymous id is x-anon-id, or `anon_id'
 * in the query.  A `token', `ticket' or `anon_id' in the query that the route
 * passes on is the vendor's.  In a thread that may wait.  With an error *ret
 * has what is known, `shown' and maybe `user', for the log and the answer; the
 * caller frees it.
 */
enum err identity_of_tunnel(const struct config *config,
    const struct wire_headers *headers, const struct target *target,
    const char *address, const char *route, struct identity *ret,
    struct diag *diag) MUST_CHECK;

/*
 * Of the handshake of a socket, whose own route it is: Bearer, or, where that
 * is not shown, the cookie, for which the rule is that of a WebSocket, whatever
 * the handshake was.  NULL: absent.
 */
enum err identity_of_handshake(const struct config *config,
    const struct access_request *access, const char *authorization,
    const char *cookie, const char *route, struct identity *ret,
    struct diag *diag) MUST_CHECK;

/*
 * Of a Cookie header (NULL: absent) what is looked at: the cookies of `users',
 * as a header, for who keeps it.  The caller clears and frees it; NULL: none.
 */
char *identity_keep_cookies(const struct config *config, const char *header);

/* What a visitor calls himself: 8 to 64 of A-Z a-z 0-9 . _ ~ -.  ERR_PROTO. */
enum err identity_check_anon_id(const char *text, struct diag *diag) MUST_CHECK;

/* Of a JWT of the site's alone: Socket.IO's `auth', and tests. */
enum err identity_of_token(const struct config *config, const char *token,
    size_t len, struct identity *ret, struct diag *diag) MUST_CHECK;

#endif
