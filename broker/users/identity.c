/* SPDX-License-Identifier: MIT */
#include "broker/users/identity.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/http/request_parse.h"
#include "broker/limits/revocations.h"
#include "broker/tickets/ticket.h"
#include "broker/users/user_keys.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/str.h"
#include "common/xalloc.h"

#define BEARER_ITEM "base64url.bearer.authorization."
#define KEY_ITEM    "openai-insecure-api-key."

#define ANON_ID_MIN 8
#define ANON_ID_MAX 64

void
identity_done(struct identity *identity)
{
	free(identity->user);
	free(identity->plan);
	free(identity->token_id);
	free(identity->anon_id);
	store_ticket_done(&identity->ticket);
	*identity = (struct identity){ .user = NULL };
}

/* A quoted string of RFC 6750 3: neither quote nor backslash. */
char *
identity_challenge(const struct diag *diag, char out[IDENTITY_CHALLENGE_SIZE])
{
	int len = snprintf(out, IDENTITY_CHALLENGE_SIZE,
	    "Bearer error=\"invalid_token\", error_description=\"");

	for (const char *c = diag->text; *c != '\0'; c++)
		out[len++] = *c < 0x20 || *c > 0x7e || *c == '"' || *c == '\\'
		    ? '?'
		    : *c;
	(void)strcpy(out + len, "\"");
	return out;
}

/* ---- a token of the site's ---- */

/* "a.b" is the member of that name, or else the member b of the member a. */
static const json_t *
find_claim(const json_t *claims, const char *path)
{
	const json_t *value = json_object_get(claims, path);
	const char *dot;
	char *name;

	/* names such as https://site/plan have dots of their own */
	for (dot = strchr(path, '.'); value == NULL && dot != NULL;
	     dot = strchr(dot + 1, '.')) {
		name = xstrndup(path, (size_t)(dot - path));
		value = json_object_get(claims, name);
		free(name);
		if (json_is_object(value))
			return find_claim(value, dot + 1);
		value = NULL;
	}
	return value;
}

/* Control characters are those of ASCII, and U+0080 to U+009F, in UTF-8. */
static bool
is_name(const char *text, size_t max)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (p[i] < 0x20 || p[i] == 0x7f ||
		    (p[i] == 0xc2 && p[i + 1] < 0xa0))
			return false;
	return len > 0 && len <= max;
}

/* A user's name; sites have numbers, too.  NULL where it is none. */
static char *
take_user(const json_t *value)
{
	char *user;

	if (json_is_integer(value))
		return xasprintf("%lld", (long long)json_integer_value(value));
	if (!json_is_string(value) ||
	    !is_name(json_string_value(value), IDENTITY_USER_MAX))
		return NULL;
	user = xstrdup(json_string_value(value));
	return user;
}

static char *
copy_name(const json_t *value, size_t max)
{
	const char *text = json_string_value(value);

	return text != NULL && is_name(text, max) ? xstrdup(text) : NULL;
}

static enum err
refuse_revoked(struct diag *diag)
{
	diag_set(diag, "what is shown has been revoked: sign in again");
	return ERR_UNAUTH;
}

static enum err
take_claims(const struct config_users *users, const json_t *claims,
    struct identity *ret, struct diag *diag)
{
	struct revocations_subject subject = { .user = NULL };

	ret->user = take_user(find_claim(claims, users->user_claim));
	if (ret->user == NULL) {
		diag_set(diag, "the token's %.40s is not a user's name",
		    users->user_claim);
		return ERR_UNAUTH;
	}
	if (users->plan_claim != NULL)
		ret->plan = copy_name(find_claim(claims, users->plan_claim),
		    IDENTITY_PLAN_MAX);
	ret->token_id =
	    copy_name(json_object_get(claims, "jti"), IDENTITY_USER_MAX);
	/* both have been checked to be numbers */
	ret->issued =
	    (int64_t)json_number_value(json_object_get(claims, "iat"));
	ret->expires =
	    (int64_t)json_number_value(json_object_get(claims, "exp")) +
	    users->leeway_s;
	subject.user = ret->user;
	subject.ticket = ret->token_id;
	subject.issued = ret->issued;
	return revocations_have(&subject) ? refuse_revoked(diag) : ERR_OK;
}

/* *ret, which is empty, gets what is known of it with an error, too. */
static enum err
of_token(const struct config *config, const char *token, size_t len,
    struct identity *ret, struct diag *diag)
{
	json_t *claims;
	enum err err = user_keys_verify(config->users, token, len, clock_unix(),
	    &claims, diag);

	if (err != ERR_OK)
		return err;
	err = take_claims(config->users, claims, ret, diag);
	json_decref(claims);
	return err;
}

/* Hand it over, or free what there is of it. */
static enum err
finish(enum err err, struct identity *identity, struct identity *ret)
{
	if (err == ERR_OK)
		*ret = *identity;
	else
		identity_done(identity);
	return err;
}

enum err
identity_of_token(const struct config *config, const char *token, size_t len,
    struct identity *ret, struct diag *diag)
{
	struct identity identity = { .shown = true };
	enum err err = of_token(config, token, len, &identity, diag);

	return finish(err, &identity, ret);
}

/* ---- a ticket of ours ---- */

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

static enum err
of_ticket(const char *text, size_t len, const struct access_request *access,
    const char *route, struct identity *ret, struct diag *diag)
{
	bool is_own = access->origin == NULL && access->fetch_site != NULL &&
	    strcmp(access->fetch_site, "same-origin") == 0;
	const struct ticket_use use = {
		.route = route,
		.address = access->client,
		.origin = access->origin,
		.own_host = is_own ? access->host : NULL,
		.now = clock_unix(),
	};
	struct store_ticket *ticket = &ret->ticket;
	enum err err = ticket_check(text, len, &use, ticket, diag);

	if (err != ERR_OK)
		return err;
	ret->user = copy(ticket->user);
	ret->plan = copy(ticket->plan);
	ret->token_id = copy(ticket->id);
	ret->anon_id = copy(ticket->anon_id);
	ret->issued = ticket->issued;
	ret->expires = ticket->expires;
	return ERR_OK;
}

/* ---- an anonymous id ---- */

enum err
identity_check_anon_id(const char *text, struct diag *diag)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz"
				      "0123456789._~-";
	size_t len = strlen(text);

	if (len >= ANON_ID_MIN && len <= ANON_ID_MAX &&
	    strspn(text, allowed) == len)
		return ERR_OK;
	diag_set(diag, "an anonymous id has %d to %d of A-Z a-z 0-9 . _ ~ -",
	    ANON_ID_MIN, ANON_ID_MAX);
	return ERR_PROTO;
}

/* Of who is nobody else; "" is what a client sends that has none. */
static enum err
take_anon_id(const char *text, struct identity *identity, struct diag *diag)
{
	enum err err;

	if (identity->user != NULL || identity->ticket.id != NULL ||
	    text == NULL || *text == '\0')
		return ERR_OK;
	err = identity_check_anon_id(text, diag);
	if (err == ERR_OK)
		identity->anon_id = xstrdup(text);
	return err;
}

/* ---- what is shown ---- */

struct shown {
	const char *text; /* NULL: nothing yet; borrowed */
	size_t len;
	bool is_ticket;
};

static bool
has_keys(const struct config *config)
{
	const struct config_users *users = config->users;

	return users != NULL &&
	    (users->key != NULL || users->jwks_file != NULL ||
		users->jwks_url != NULL);
}

/* Where none are made, what looks like one is somebody else's. */
static bool
has_tickets(const struct config *config)
{
	bool wanted = config->store.path != NULL || ticket_is_possible();

	/* without a store there are none now, which is not the client's fault
	 */
	for (size_t i = 0; !wanted && i < config->relay_count; i++)
		wanted = config->relays[i].client_secrets;
	return wanted;
}

/*
 * Take what is shown into account; `for_us': whatever it is, it was meant for
 * us.  The same may be shown in two ways, two different ones may not.
 */
static enum err
consider(const struct config *config, struct shown *shown, const char *text,
    size_t len, bool for_us, struct diag *diag)
{
	bool is_ticket = ticket_has_form(text, len) && has_tickets(config);

	if (!is_ticket &&
	    (!has_keys(config) || !(for_us || jwt_has_form(text, len))))
		return ERR_OK;
	if (shown->text != NULL &&
	    (shown->len != len || memcmp(shown->text, text, len) != 0)) {
		diag_set(diag, "the request shows two different tokens");
		return ERR_PROTO;
	}
	*shown = (struct shown){ text, len, is_ticket };
	return ERR_OK;
}

static enum err
consider_bearer(const struct config *config, struct shown *shown,
    const char *authorization, bool for_us, struct diag *diag)
{
	const char *text = request_parse_bearer(authorization);

	return text == NULL
	    ? ERR_OK
	    : consider(config, shown, text, strlen(text), for_us, diag);
}

/* The items of Sec-WebSocket-Protocol that carry something. */
static enum err
consider_list(const struct config *config, struct shown *shown,
    const char *list, struct diag *diag)
{
	static const size_t bearer = sizeof(BEARER_ITEM) - 1;
	static const size_t key = sizeof(KEY_ITEM) - 1;
	enum err err = ERR_OK;

	while (err == ERR_OK && *list != '\0') {
		size_t len = strcspn(list, ", \t");

		if (len >= bearer && strncmp(list, BEARER_ITEM, bearer) == 0)
			err = consider(config, shown, list + bearer,
			    len - bearer, true, diag);
		else if (len >= key && strncmp(list, KEY_ITEM, key) == 0)
			err = consider(config, shown, list + key, len - key,
			    false, diag);
		list += len;
		list += strspn(list, ", \t");
	}
	return err;
}

/* *ret has what is known with an error, too. */
static enum err
identify(const struct config *config, const struct shown *shown,
    const struct access_request *access, const char *route,
    struct identity *ret, struct diag *diag)
{
	*ret = (struct identity){ .shown = shown->text != NULL };
	if (shown->text == NULL)
		return ERR_OK;
	if (shown->is_ticket)
		return of_ticket(shown->text, shown->len, access, route, ret,
		    diag);
	return of_token(config, shown->text, shown->len, ret, diag);
}

/* The cookie, where there is one that says something. */
static enum err
consider_cookie(const struct config *config,
    const struct access_request *access, const char *header,
    struct shown *shown, struct diag *diag)
{
	const char *text = header;
	size_t len = 0;
	enum err err = ERR_OK;

	if (!has_keys(config) || config->users->cookie == NULL)
		return ERR_OK;
	/* a host beside this one can set another of the same name */
	while (err == ERR_OK &&
	    (text = request_parse_cookie(text, config->users->cookie, &len)) !=
		NULL) {
		if (len > 0)
			err = access_check_cookie(config, access, diag);
		if (err == ERR_OK && len > 0)
			err = consider(config, shown, text, len, true, diag);
		text += len;
	}
	return err;
}

/* Whether the vendor has a parameter of this name, by the route's rules. */
static bool
is_passed_on(const struct config *config, const char *route, const char *name)
{
	const struct config_relay *relay =
	    config_find_relay_by_name(config, route);

	for (size_t i = 0; relay != NULL && i < relay->query_count; i++)
		if (strcmp(relay->queries[i].name, name) == 0)
			return true;
	return false;
}

/* ---- of a request ---- */

/* NULL where it is not given, or the vendor's. */
static enum err
find_query(struct request *req, const char *route, const char *name,
    const char **ret, struct diag *diag)
{
	*ret = NULL;
	return is_passed_on(request_config(req), route, name)
	    ? ERR_OK
	    : request_query(req, name, ret, diag);
}

static enum err
consider_query(struct request *req, const char *route, struct shown *shown,
    struct diag *diag)
{
	static const char *const names[] = { "token", "ticket" };
	const char *text;
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < 2; i++) {
		err = find_query(req, route, names[i], &text, diag);
		if (err == ERR_OK && text != NULL)
			err = consider(request_config(req), shown, text,
			    strlen(text), true, diag);
	}
	return err;
}

/* As who asks says it: in the header, or in the query where that counts. */
static enum err
consider_anon_id(struct request *req, unsigned ways, const char *route,
    struct identity *identity, struct diag *diag)
{
	const char *text = request_header(req, "x-anon-id");
	enum err err = ERR_OK;

	if (text == NULL && (ways & IDENTITY_QUERY))
		err = find_query(req, route, "anon_id", &text, diag);
	return err == ERR_OK ? take_anon_id(text, identity, diag) : err;
}

/* Whom the web server has signed in, with what a browser sends by itself. */
static enum err
take_remote_user(struct request *req, const struct access_request *access,
    struct identity *ret, struct diag *diag)
{
	const struct config *config = request_config(req);
	const char *user = request_remote_user(req);
	struct revocations_subject subject = { .user = user };
	enum err err;

	*ret = (struct identity){ .user = NULL };
	if (config->users == NULL || !config->users->remote_user ||
	    user == NULL)
		return ERR_OK;
	err = access_check_cookie(config, access, diag);
	if (err != ERR_OK)
		return err;
	if (!is_name(user, IDENTITY_USER_MAX) ||
	    !str_is_utf8(user, strlen(user))) {
		diag_set(diag, "REMOTE_USER is not a user's name");
		return ERR_UNAUTH;
	}
	subject.issued = clock_unix(); /* the web server says so now */
	if (revocations_have(&subject))
		return refuse_revoked(diag);
	ret->user = xstrdup(user);
	ret->issued = subject.issued;
	return ERR_OK;
}

enum err
identity_of_request(struct request *req, unsigned ways, const char *route,
    struct identity *ret, struct diag *diag)
{
	const struct config *config = request_config(req);
	const struct access_request access = {
		.client = request_client(req),
		.method = request_method(req),
		.origin = request_header(req, "origin"),
		.host = request_header(req, "host"),
		.fetch_site = request_header(req, "sec-fetch-site"),
	};
	char challenge[IDENTITY_CHALLENGE_SIZE];
	struct shown shown = { .text = NULL };
	struct identity identity;
	enum err err = ERR_OK;

	if (ways & IDENTITY_BEARER)
		err = consider_bearer(config, &shown,
		    request_header(req, "authorization"),
		    (ways & IDENTITY_VENDOR_KEYS) == 0, diag);
	if (err == ERR_OK && (ways & IDENTITY_QUERY))
		err = consider_query(req, route, &shown, diag);
	if (err == ERR_OK && (ways & IDENTITY_SUBPROTOCOL) &&
	    request_header(req, "sec-websocket-protocol") != NULL)
		err = consider_list(config, &shown,
		    request_header(req, "sec-websocket-protocol"), diag);
	if (err == ERR_OK && shown.text == NULL && (ways & IDENTITY_COOKIE))
		err = consider_cookie(config, &access,
		    request_header(req, "cookie"), &shown, diag);
	if (err != ERR_OK)
		return err;
	err = shown.text == NULL
	    ? take_remote_user(req, &access, &identity, diag)
	    : identify(config, &shown, &access, route, &identity, diag);
	if (err == ERR_UNAUTH && shown.text != NULL)
		request_add_header(req, "WWW-Authenticate",
		    identity_challenge(diag, challenge));
	if (err == ERR_OK && (ways & IDENTITY_ANON_ID))
		err = consider_anon_id(req, ways, route, &identity, diag);
	return finish(err, &identity, ret);
}

enum err
identity_check_required(const struct identity *identity, bool required,
    struct diag *diag)
{
	if (!required || identity->user != NULL || identity->ticket.id != NULL)
		return ERR_OK;
	diag_set(diag,
	    "this is for users who have signed in: send the site's token as "
	    "Authorization: Bearer");
	return ERR_UNAUTH;
}

/* ---- of a tunnel ---- */

static enum err
consider_target(const struct config *config, const struct target *target,
    const char *route, struct shown *shown, struct diag *diag)
{
	static const char *const names[] = { "token", "ticket" };
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < 2; i++) {
		const char *text = target_find(target, names[i]);

		if (text != NULL && !is_passed_on(config, route, names[i]))
			err = consider(config, shown, text, strlen(text), true,
			    diag);
	}
	return err;
}

static const char *
find_anon_id(const struct config *config, const struct wire_headers *headers,
    const struct target *target, const char *route)
{
	const char *text = wire_headers_find(headers, "x-anon-id");

	if (text != NULL || is_passed_on(config, route, "anon_id"))
		return text;
	return target_find(target, "anon_id");
}

enum err
identity_of_tunnel(const struct config *config,
    const struct wire_headers *headers, const struct target *target,
    const char *address, const char *route, struct identity *ret,
    struct diag *diag)
{
	const struct access_request access = {
		.client = address,
		.upgrade = true,
		.origin = wire_headers_find(headers, "origin"),
		.host = wire_headers_find(headers, "host"),
		.fetch_site = wire_headers_find(headers, "sec-fetch-site"),
	};
	struct shown shown = { .text = NULL };
	enum err err = consider_target(config, target, route, &shown, diag);
	bool by_cookie;

	for (size_t i = 0; err == ERR_OK && i < headers->count; i++) {
		const struct wire_header *header = &headers->items[i];

		if (strcasecmp(header->name, "sec-websocket-protocol") == 0)
			err =
			    consider_list(config, &shown, header->value, diag);
		else if (strcasecmp(header->name, "authorization") == 0)
			err = consider_bearer(config, &shown, header->value,
			    false, diag);
	}
	by_cookie = shown.text == NULL;
	for (size_t i = 0; err == ERR_OK && by_cookie && i < headers->count;
	     i++)
		if (strcasecmp(headers->items[i].name, "cookie") == 0)
			err = consider_cookie(config, &access,
			    headers->items[i].value, &shown, diag);
	if (err == ERR_OK)
		err = identify(config, &shown, &access, route, ret, diag);
	return err != ERR_OK
	    ? err
	    : take_anon_id(find_anon_id(config, headers, target, route), ret,
		  diag);
}

/* ---- of a socket ---- */

enum err
identity_of_handshake(const struct config *config,
    const struct access_request *access, const char *authorization,
    const char *cookie, const char *route, struct identity *ret,
    struct diag *diag)
{
	struct access_request socket = *access;
	struct shown shown = { .text = NULL };
	struct identity identity;
	enum err err =
	    consider_bearer(config, &shown, authorization, true, diag);

	/* more than the handshake, which is a GET, will come of it */
	socket.upgrade = true;
	if (err == ERR_OK && shown.text == NULL)
		err = consider_cookie(config, &socket, cookie, &shown, diag);
	if (err != ERR_OK)
		return err;
	err = identify(config, &shown, &socket, route, &identity, diag);
	return finish(err, &identity, ret);
}

char *
identity_keep_cookies(const struct config *config, const char *header)
{
	char *kept = NULL, *longer;
	const char *text = header;
	size_t len = 0;

	if (!has_keys(config) || config->users->cookie == NULL)
		return NULL;
	while ((text = request_parse_cookie(text, config->users->cookie,
		    &len)) != NULL) {
		longer = xasprintf("%s%s%s=%.*s", kept == NULL ? "" : kept,
		    kept == NULL ? "" : "; ", config->users->cookie, (int)len,
		    text);
		if (kept != NULL)
			explicit_bzero(kept, strlen(kept));
		free(kept);
		kept = longer;
		text += len;
	}
	return kept;
}
