/* SPDX-License-Identifier: MIT */
#include "broker/chat/caller.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/http/address.h"
#include "broker/signing_key.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"

#define LEEWAY_S       60
#define USER_MAX_BYTES 128
#define ID_MIN	       8
#define ID_MAX	       64
#define ID_BYTES       16 /* of one that is made here */

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
	free(caller->allowance_id);
	free(caller->allowance_address);
	*caller = (struct caller){ .id = NULL };
}

/* ---- addresses ---- */

/* An IPv4 address as it is, an IPv6 one by its network: it is one visitor's. */
static char *
network_of(const char *address)
{
	struct in6_addr v6;
	char text[INET6_ADDRSTRLEN];

	if (inet_pton(AF_INET6, address, &v6) != 1)
		return xasprintf("n:%s", address);
	memset(v6.s6_addr + 8, 0, 8);
	return xasprintf("n:%s/64",
	    inet_ntop(AF_INET6, &v6, text, sizeof(text)));
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

static bool
is_user_name(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	return len > 0 && len <= USER_MAX_BYTES;
}

static void
take_user(struct caller *caller, const char *user, int64_t expires)
{
	caller->is_user = true;
	caller->id = xstrdup(user);
	caller->owner = xasprintf("u:%s", user);
	caller->expires = expires;
}

static enum err
take_token(const struct config *config, const char *token,
    struct caller *caller, struct diag *diag)
{
	const struct config_chat *chat = config->chat;
	const struct jwt_policy policy = {
		.issuer = chat->issuer,
		.audience = chat->audience,
		.leeway_s = LEEWAY_S,
		.now = clock_unix(),
	};
	const json_t *sub;
	json_t *claims;

	if (chat->user_key == NULL) {
		diag_set(diag, "nobody can sign in here");
		return ERR_UNAUTH;
	}
	if (jwt_verify(token, strlen(token), chat->user_key, &policy, &claims,
		diag) != ERR_OK)
		return ERR_UNAUTH;
	sub = json_object_get(claims, "sub");
	if (!json_is_string(sub) ||
	    !is_user_name(json_string_value(sub), json_string_length(sub))) {
		diag_set(diag, "the token's sub is not a user's name");
		json_decref(claims);
		return ERR_UNAUTH;
	}
	take_user(caller, json_string_value(sub),
	    (int64_t)json_number_value(json_object_get(claims, "exp")) +
		LEEWAY_S);
	json_decref(claims);
	return ERR_OK;
}

/*
 * The token of `Authorization: Bearer'; NULL where there is none.  Another
 * scheme is for the web server, which may want a password of everybody.
 */
static const char *
bearer_of(const char *authorization)
{
	static const char scheme[] = "Bearer";
	size_t len = sizeof(scheme) - 1;

	if (authorization == NULL ||
	    strncasecmp(authorization, scheme, len) != 0 ||
	    (authorization[len] != ' ' && authorization[len] != '\0'))
		return NULL;
	return authorization + len + strspn(authorization + len, " ");
}

/* ---- anonymous visitors ---- */

static bool
is_anon_id(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz"
				      "0123456789._~-";
	size_t len = strlen(text);

	return len >= ID_MIN && len <= ID_MAX && strspn(text, allowed) == len;
}

/* id NULL: one is made. */
static enum err
take_anonymous(const struct config *config, const char *id,
    struct caller *caller, struct diag *diag)
{
	char made[2 * ID_BYTES + 1];

	if (!config->chat->anonymous.allowed) {
		diag_set(diag, "this is for users who have signed in");
		return ERR_UNAUTH;
	}
	if (id != NULL && !is_anon_id(id)) {
		diag_set(diag,
		    "an anonymous id has %d to %d of A-Z a-z 0-9 . _ ~ -",
		    ID_MIN, ID_MAX);
		return ERR_PROTO;
	}
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

/* The value of our cookie (RFC 6265 4.2) in memory of ours, or NULL. */
static char *
find_cookie(const char *header)
{
	static const char name[] = COOKIE_NAME "=";

	while (header != NULL && *header != '\0') {
		size_t len;

		header += strspn(header, "; \t");
		len = strcspn(header, ";");
		if (strncmp(header, name, sizeof(name) - 1) == 0) {
			header += sizeof(name) - 1;
			return xstrndup(header, strcspn(header, "; \t"));
		}
		header += len;
	}
	return NULL;
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
		take_user(caller, owner + 2,
		    json_integer_value(json_object_get(claims, "exp")));
		err = ERR_OK;
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
	claims = json_made(json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss",
	    COOKIE_ISSUER, "aud", COOKIE_AUDIENCE, "sub", caller->owner, "iat",
	    (json_int_t)now, "exp", (json_int_t)(now + life_s)));
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

/* What an EventSource can say. */
static enum err
take_attached(struct request *req, struct caller *caller, struct diag *diag)
{
	const struct config *config = request_config(req);
	const char *token = NULL, *anon_id = NULL;
	enum err err = request_query(req, "token", &token, diag);
	char *cookie;

	if (err == ERR_OK)
		err = request_query(req, "anon_id", &anon_id, diag);
	if (err != ERR_OK)
		return err;
	if (token != NULL)
		return take_token(config, token, caller, diag);
	if (anon_id != NULL)
		return take_anonymous(config, anon_id, caller, diag);
	cookie = find_cookie(request_header(req, "cookie"));
	if (cookie == NULL)
		return take_anonymous(config, NULL, caller, diag);
	err = take_cookie(config, cookie, caller, diag);
	explicit_bzero(cookie, strlen(cookie));
	free(cookie);
	return err;
}

static enum err
take_headers(const struct config *config, const char *authorization,
    const char *anon_id, struct caller *caller, struct diag *diag)
{
	const char *token = bearer_of(authorization);

	if (token != NULL)
		return take_token(config, token, caller, diag);
	return take_anonymous(config,
	    anon_id != NULL && *anon_id != '\0' ? anon_id : NULL, caller, diag);
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

enum err
caller_of_headers(const struct config *config, const char *authorization,
    const char *anon_id, const char *address, struct caller *ret,
    struct diag *diag)
{
	struct caller caller = { .id = NULL };
	enum err err = take_address(address, &caller, diag);

	if (err == ERR_OK)
		err =
		    take_headers(config, authorization, anon_id, &caller, diag);
	return finish(err, &caller, ret);
}

enum err
caller_of_request(struct request *req, bool may_attach, struct caller *ret,
    struct diag *diag)
{
	const char *authorization = request_header(req, "authorization");
	const char *anon_id = request_header(req, "x-anon-id");
	bool has_headers = bearer_of(authorization) != NULL ||
	    (anon_id != NULL && *anon_id != '\0');
	struct caller caller = { .id = NULL };
	enum err err = take_address(request_client(req), &caller, diag);

	if (err == ERR_OK && may_attach && !has_headers)
		err = take_attached(req, &caller, diag);
	else if (err == ERR_OK)
		err = take_headers(request_config(req), authorization, anon_id,
		    &caller, diag);
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
	if (err == ERR_OK)
		err = token != NULL
		    ? take_token(config, token, &caller, diag)
		    : take_anonymous(config, anon_id, &caller, diag);
	return finish(err, &caller, ret);
}
