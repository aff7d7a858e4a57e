/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CALLER_H
#define BROKER_CALLER_H

#include <jansson.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "broker/http/request.h"
#include "broker/limits/subjects.h"
#include "broker/store/store.h"
#include "common/err.h"

/*
 * caller: who asks for the chat: a user whom the site has signed in, with a
 * JWT of the site's (RFC 7519), or an anonymous visitor with an id.
 *
 * An id that a client makes up is as good as a password to what is kept under
 * it: 8 to 64 of A-Z a-z 0-9 . _ ~ -.  Who gives none gets one.  A token that
 * is not good is ERR_UNAUTH, and never makes its sender an anonymous one.
 */
struct caller {
	bool is_user;
	bool is_new;	 /* the anonymous id was made here, just now */
	char *id;	 /* the token's `sub', or the anonymous id */
	char *owner;	 /* in the store: "u:..." or "a:..." */
	char *plan;	 /* that the user's token names; NULL: none */
	int64_t expires; /* is good until then, seconds since 1970; 0: ever */
	int64_t issued;	 /* of what shows who it is; 0: not said */
	char address[INET6_ADDRSTRLEN];
	/* for the store, where it is anonymous: what is counted */
	char *allowance_id, *allowance_address; /* an IPv6 address by its /64 */
};
void caller_done(struct caller *caller);

/*
 * Of a request: `Authorization: Bearer', else `x-anon-id', else, where
 * `may_attach', `?token=', `?anon_id=', and the cookie of caller_set_cookie(),
 * which an EventSource has to do with, since it cannot send headers.
 * ERR_UNAUTH, also where there is neither token nor are there anonymous
 * visitors; ERR_PROTO for an id that will not do.  The request must be of a
 * route of the chat.
 */
enum err caller_of_request(struct request *req, bool may_attach,
    struct caller *ret, struct diag *diag) MUST_CHECK;

/* Headers of the handshake of a socket; NULL: absent. */
struct caller_headers {
	const char *address; /* numeric */
	const char *authorization, *cookie, *anon_id;
	const char *origin, *host, *fetch_site;
};

/*
 * Of Socket.IO's `auth': {"token"?, "anon_id"?}; null, "" and NULL are none.
 * The token may be a ticket for "socket.io".
 */
enum err caller_of_auth(const struct config *config, const json_t *auth,
    const char *address, struct caller *ret, struct diag *diag) MUST_CHECK;

/*
 * Of what came with its handshake: Bearer, or the cookie of `users', from a
 * page that may use it (ERR_DENIED), or `x-anon-id'.
 */
enum err caller_of_headers(const struct config *config,
    const struct caller_headers *headers, struct caller *ret,
    struct diag *diag) MUST_CHECK;

/*
 * Have the browser show the same caller by a cookie, to the reading requests
 * of /api/v1/messages alone: HttpOnly, SameSite=Lax, signed by us, and good as
 * long as there may be something to come back to.  A visitor's new id is told
 * by the header X-Anon-Id, too.
 */
void caller_set_cookie(struct request *req, const struct caller *caller);

/* Whether it is a user who has been revoked since it was asked. */
bool caller_is_revoked(const struct caller *caller);

/* Whom what it does is counted for, under the limits of plans. */
void caller_subjects(const struct caller *caller, const struct config *config,
    struct subjects *ret);

/* What the store counts for an anonymous caller; borrows of both. */
struct store_allowance caller_allowance(const struct caller *caller,
    const struct config_chat *chat);

#endif
