/* SPDX-License-Identifier: MIT */
#include "broker/chat/caller.h"

#include <stdlib.h>
#include <string.h>

#include "broker/http/address.h"
#include "broker/http/request_parse.h"
#include "broker/limits/revocations.h"
#include "broker/signing_key.h"
#include "broker/tickets/ticket.h"
#include "broker/users/identity.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"

#define ROUTE	 "chat"	     /* what a ticket has to be for ... */
#define SOCKETS	 "socket.io" /* ... and that of a socket */
#define ID_BYTES 16	     /* of one that is made here */

#define COOKIE_NAME	"culvert_chat"
#define COOKIE_PATH	"/api/v1/messages"
#define COOKIE_TYPE	"culvert-chat+jwt"
#define COOKIE_ISSUER	"culvert"
#define COOKIE_AUDIENCE "culvert:chat"
/* on top of what there is to come back to */
#define COOKIE_MORE_S 60

void
caller_done(struct caller *caller)
{
	free(caller->id);
	free(caller->owner);
	free(caller->plan);
	free(caller->allowance_id);
	free(caller->allowance_address);
	*caller = (struct caller){ .id = NULL };
}

bool
caller_is_revoked(const struct caller *caller)
{
	const struct revocations_subject subject = {
		.user = caller->id,
		.issued = caller->issued,
	};

	return caller->is_user && revocations_have(&subject);
}

/* ---- addresses ---- */

static char *
network_of(const char *address)
{
	char visitor[ADDRESS_VISITOR_SIZE];

	address_visitor(address, visitor);
	return xasprintf("n:%s", visitor);
}

static enum err
take_address(const char *address, struct caller *caller, struct diag *diag)
{
	enum err err = address_normalize(address, caller->address);

	if (err != ERR_OK)
		diag_set(diag, "the client's address is not known");
	return err;
}

/* ---- users ---- */

static void
take_user(struct caller *caller, const char *user, int64_t issued,
    int64_t expires)
{
	caller->is_user = true;
	caller->id = xstrdup(user);
	caller->owner = xasprintf("u:%s", user);
	caller->issued = issued;
	caller->expires = expires;
}

/* Whether it is a user; what it has is taken over. */
static bool
take_identity(struct caller *caller, struct identity *identity)
{
	bool is_user = identity->user != NULL;

	if (is_user) {
		take_user(caller, identity->user, identity->issued,
		    identity->expires);
		caller->plan = identity->plan;
		identity->plan = NULL;
	}
	identity_done(identity);
	return is_user;
}

static enum err
take_token(const struct config *config, const char *token,
    struct caller *caller, struct diag *diag)
{
	struct identity identity;
	enum err err =
	    identity_of_token(config, token, strlen(token), &identity, diag);

	if (err == ERR_OK)
		(void)take_identity(caller, &identity);
	return err;
}

/* Of a socket, which outlives it as a tunnel does. */
static enum err
take_ticket(const char *text, struct caller *caller, struct diag *diag)
{
	const struct ticket_use use = {
		.route = SOCKETS,
		.address = caller->address,
		.now = clock_unix(),
	};
	struct store_ticket ticket;
	enum err err = ticket_check(text, strlen(text), &use, &ticket, diag);

	if (err != ERR_OK)
		return err;
	if (ticket.user != NULL) {
		take_user(caller, ticket.user, ticket.issued, 0);
		caller->plan =
		    ticket.plan == NULL ? NULL : xstrdup(ticket.plan);
	} else {
		diag_set(diag, "the ticket is nobody's");
		err = ERR_UNAUTH;
	}
	store_ticket_done(&ticket);
	return err;
}

/* ---- anonymous visitors ---- */

/* id NULL: one is made. */
static enum err
take_anonymous(const struct config *config, const char *id,
    struct caller *caller, struct diag *diag)
{
	char made[2 * ID_BYTES + 1];

	if (!config->chat->anonymous.allowed || config->chat->require_user) {
		diag_set(diag,
		    "this is for users who have signed in: send the site's "
		    "token as Authorization: Bearer, or where a client cannot "
		    "as ?token=");
		return ERR_UNAUTH;
	}
	if (id != NULL && identity_check_anon_id(id, diag) != ERR_OK)
		return ERR_PROTO;
	if (id == NULL) {
		crypt_random_hex(made, ID_BYTES);
		caller->is_new = true;
		id = made;
	}
	caller->id = xstrdup(id);
	caller->owner = xasprintf("a:%s", id);
	caller->allowance_id = xasprintf("i:%s", id);
	caller->allowance_address = network_of(caller->address);
	return ERR_OK;
}

void
caller_subjects(const struct caller *caller, const struct config *config,
    struct subjects *ret)
{
	const struct subjects_request request = {
		.user = caller->is_user ? caller->id : NULL,
		.plan = caller->plan,
		/* whoever shows none has a new one each time */
		.anon_id =
		    caller->is_user || caller->is_new ? NULL : caller->id,
		.address = caller->address,
		.route = "chat",
		.route_plan = config->chat == NULL ? NULL : config->chat->plan,
	};

	subjects_fill(config, &request, ret);
}

struct store_allowance
caller_allowance(const struct caller *caller, const struct config_chat *chat)
{
	return (struct store_allowance){
		.id = caller->allowance_id,
		.address = caller->allowance_address,
		.max = chat->anonymous.messages,
		.window_s = chat->anonymous.window_s,
	};
}

/* ---- the cookie ---- */

static enum err
take_cookie_user(const char *user, const json_t *claims, struct caller *caller,
    struct diag *diag)
{
	const char *plan = json_string_value(json_object_get(claims, "plan"));

	take_user(caller, user,
	    json_integer_value(json_object_get(claims, "iat")),
	    json_integer_value(json_object_get(claims, "exp")));
	caller->plan = plan == NULL ? NULL : xstrdup(plan);
	if (!caller_is_revoked(caller))
		return ERR_OK;
	diag_set(diag, "what is shown has been revoked");
	return ERR_UNAUTH;
}

/* What it says is an owner that we have seen good credentials of. */
static enum err
take_cookie(const struct config *config, const char *text,
    struct caller *caller, struct diag *diag)
{
	const struct jwt_policy policy = {
		.typ = COOKIE_TYPE,
		.issuer = COOKIE_ISSUER,
		.audience = COOKIE_AUDIENCE,
		.now = clock_unix(),
	};
	const char *owner;
	json_t *claims;
	enum err err = ERR_UNAUTH;

	if (signing_key_verify(text, strlen(text), &policy, &claims, diag) !=
	    ERR_OK) {
		diag_set(diag, "the cookie is not good any more");
		return ERR_UNAUTH;
	}
	owner = json_string_value(json_object_get(claims, "sub"));
	if (owner != NULL && strncmp(owner, "u:", 2) == 0) {
		err = take_cookie_user(owner + 2, claims, caller, diag);
	} else if (owner != NULL && strncmp(owner, "a:", 2) == 0) {
		err = take_anonymous(config, owner + 2, caller, diag);
	}
	json_decref(claims);
	return err;
}

static int64_t
cookie_seconds(const struct config_chat *chat, const struct caller *caller,
    int64_t now)
{
	int64_t life_s = chat->total_ms / 1000 + chat->replay_s + COOKIE_MORE_S;

	if (caller->expires != 0 && caller->expires < now + life_s)
		return caller->expires - now;
	return life_s;
}

void
caller_set_cookie(struct request *req, const struct caller *caller)
{
	const struct config *config = request_config(req);
	int64_t now = clock_unix(),
		life_s = cookie_seconds(config->chat, caller, now);
	char *text, *cookie;
	json_t *claims;
	enum err err;

	if (caller->is_new)
		request_add_header(req, "X-Anon-Id", caller->id);
	if (!signing_key_is_there() || life_s <= 0)
		return;
	claims = json_made(json_pack("{s:s, s:s, s:s, s:s*, s:I, s:I}", "iss",
	    COOKIE_ISSUER, "aud", COOKIE_AUDIENCE, "sub", caller->owner, "plan",
	    caller->plan, "iat",
	    (json_int_t)(caller->is_user ? caller->issued : now), "exp",
	    (json_int_t)(now + life_s)));
	err = signing_key_sign(claims, COOKIE_TYPE, &text, NULL);
	json_decref(claims);
	if (err != ERR_OK)
		return;
	cookie = xasprintf(COOKIE_NAME "=%s; Path=%s" COOKIE_PATH
				       "; Max-Age=%lld; HttpOnly; "
				       "SameSite=Lax%s",
	    text, config->requests.base_path, (long long)life_s,
	    strcmp(request_scheme(req), "https") == 0 ? "; Secure" : "");
	request_add_header(req, "Set-Cookie", cookie);
	explicit_bzero(text, strlen(text));
	explicit_bzero(cookie, strlen(cookie));
	free(text);
	free(cookie);
}

/* ---- who it is ---- */

/* The visitor that an EventSource speaks of. */
static enum err
take_attached(struct request *req, struct caller *caller, struct diag *diag)
{
	const struct config *config = request_config(req);
	const char *anon_id = NULL, *text;
	enum err err = request_query(req, "anon_id", &anon_id, diag);
	char *cookie;
	size_t len;

	if (err != ERR_OK)
		return err;
	text = request_parse_cookie(request_header(req, "cookie"), COOKIE_NAME,
	    &len);
	if (anon_id != NULL || text == NULL)
		return take_anonymous(config, anon_id, caller, diag);
	cookie = xstrndup(text, len);
	err = take_cookie(config, cookie, caller, diag);
	explicit_bzero(cookie, strlen(cookie));
	free(cookie);
	return err;
}

/* "" is what a client sends that has none. */
static const char *
or_none(const char *anon_id)
{
	return anon_id == NULL || *anon_id == '\0' ? NULL : anon_id;
}

/* Hand it over, or free what there is of it. */
static enum err
finish(enum err err, struct caller *caller, struct caller *ret)
{
	if (err == ERR_OK)
		*ret = *caller;
	else
		caller_done(caller);
	return err;
}

/*
 * Whether the request shows something that only a user has.  Here that is never
 * somebody else's: who tried to sign in is told that he has not.
 */
static enum err
check_nobody(const char *authorization, const char *token, struct diag *diag)
{
	if (token == NULL && request_parse_bearer(authorization) == NULL)
		return ERR_OK;
	diag_set(diag, "nobody can sign in here");
	return ERR_UNAUTH;
}

static enum err
take_request(struct request *req, bool may_attach, struct caller *caller,
    struct diag *diag)
{
	unsigned ways = IDENTITY_BEARER | IDENTITY_COOKIE |
	    (may_attach ? IDENTITY_QUERY : 0);
	const struct config *config = request_config(req);
	const char *anon_id = or_none(request_header(req, "x-anon-id"));
	struct identity identity;
	enum err err = identity_of_request(req, ways, ROUTE, &identity, diag);
	const char *token = NULL;
	bool is_ticket;

	if (err != ERR_OK)
		return err;
	is_ticket = identity.ticket.id != NULL;
	if (take_identity(caller, &identity))
		return ERR_OK;
	if (may_attach)
		err = request_query(req, "token", &token, diag);
	if (err == ERR_OK && !is_ticket)
		err = check_nobody(request_header(req, "authorization"), token,
		    diag);
	if (err != ERR_OK)
		return err;
	if (anon_id != NULL)
		return take_anonymous(config, anon_id, caller, diag);
	return may_attach ? take_attached(req, caller, diag)
			  : take_anonymous(config, NULL, caller, diag);
}

enum err
caller_of_request(struct request *req, bool may_attach, struct caller *ret,
    struct diag *diag)
{
	struct caller caller = { .id = NULL };
	enum err err = take_address(request_client(req), &caller, diag);

	if (err == ERR_OK)
		err = take_request(req, may_attach, &caller, diag);
	return finish(err, &caller, ret);
}

/* A member's text; NULL where it is absent, null or "". */
static enum err
get_text(const json_t *auth, const char *name, const char **ret,
    struct diag *diag)
{
	const json_t *value = json_object_get(auth, name);

	*ret = NULL;
	if (value == NULL || json_is_null(value))
		return ERR_OK;
	if (!json_is_string(value)) {
		diag_set(diag, "%s in auth is not a text", name);
		return ERR_PROTO;
	}
	if (json_string_length(value) > 0)
		*ret = json_string_value(value);
	return ERR_OK;
}

enum err
caller_of_auth(const struct config *config, const json_t *auth,
    const char *address, struct caller *ret, struct diag *diag)
{
	struct caller caller = { .id = NULL };
	const char *token = NULL, *anon_id = NULL;
	enum err err = take_address(address, &caller, diag);

	if (err == ERR_OK)
		err = get_text(auth, "token", &token, diag);
	if (err == ERR_OK)
		err = get_text(auth, "anon_id", &anon_id, diag);
	if (err != ERR_OK)
		return finish(err, &caller, ret);
	if (token != NULL && ticket_has_form(token, strlen(token)))
		err = take_ticket(token, &caller, diag);
	else if (token != NULL)
		err = take_token(config, token, &caller, diag);
	else
		err = take_anonymous(config, anon_id, &caller, diag);
	return finish(err, &caller, ret);
}

static enum err
take_handshake(const struct config *config,
    const struct caller_headers *headers, struct caller *caller,
    struct diag *diag)
{
	const struct access_request access = {
		.client = caller->address,
		.origin = headers->origin,
		.host = headers->host,
		.fetch_site = headers->fetch_site,
	};
	struct identity identity;
	enum err err = identity_of_handshake(config, &access,
	    headers->authorization, headers->cookie, SOCKETS, &identity, diag);

	if (err != ERR_OK || take_identity(caller, &identity))
		return err;
	err = check_nobody(headers->authorization, NULL, diag);
	return err != ERR_OK
	    ? err
	    : take_anonymous(config, or_none(headers->anon_id), caller, diag);
}

enum err
caller_of_headers(const struct config *config,
    const struct caller_headers *headers, struct caller *ret, struct diag *diag)
{
	struct caller caller = { .id = NULL };
	enum err err = take_address(headers->address, &caller, diag);

	if (err == ERR_OK)
		err = take_handshake(config, headers, &caller, diag);
	return finish(err, &caller, ret);
}
