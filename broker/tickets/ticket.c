/* SPDX-License-Identifier: MIT */
#include "broker/tickets/ticket.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/http/address.h"
#include "broker/limits/revocations.h"
#include "broker/signing_key.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/str.h"
#include "common/xalloc.h"

#define PREFIX	 "ek_"
#define TYPE	 "ticket+jwt"
#define ISSUER	 "culvert"
#define AUDIENCE "route:" /* and its name */

bool
ticket_is_possible(void)
{
	return store_current() != NULL && signing_key_is_there();
}

static enum err
unavailable(struct diag *diag)
{
	diag_set(diag, "there is no store, which tickets need");
	return ERR_UNAVAIL;
}

/* ---- making ---- */

static enum err
sign(const struct store_ticket *ticket, char **ret, struct diag *diag)
{
	json_t *claims = json_made(
	    json_pack("{s:s, s:s+, s:I, s:I, s:s}", "iss", ISSUER, "aud",
		AUDIENCE, ticket->route, "iat", (json_int_t)ticket->issued,
		"exp", (json_int_t)ticket->expires, "jti", ticket->id));
	enum err err;
	char *token;

	if (ticket->user != NULL)
		(void)json_object_set_new(claims, "sub",
		    json_made(json_string(ticket->user)));
	else if (ticket->anon_id != NULL)
		(void)json_object_set_new(claims, "anon",
		    json_made(json_string(ticket->anon_id)));
	err = signing_key_sign(claims, TYPE, &token, diag);
	json_decref(claims);
	if (err != ERR_OK)
		return err;
	*ret = xasprintf(PREFIX "%s", token);
	explicit_bzero(token, strlen(token));
	free(token);
	return ERR_OK;
}

enum err
ticket_make(const struct store_ticket *in, char ret_id[TICKET_ID_BYTES + 1],
    char **ret_text, struct diag *diag)
{
	struct store *store = store_current();
	struct store_ticket ticket = *in; /* borrows */
	const struct revocations_subject subject = {
		.user = in->user,
		.route = in->route,
		.issued = in->issued,
	};
	enum err err;

	if (!ticket_is_possible())
		return unavailable(diag);
	/* it would be good for nothing */
	if (revocations_have(&subject)) {
		diag_set(diag, "what is shown has been revoked: sign in again");
		return ERR_UNAUTH;
	}
	if (in->user != NULL &&
	    (strlen(in->user) > TICKET_USER_MAX ||
		!str_is_utf8(in->user, strlen(in->user)))) {
		diag_set(diag,
		    "the user's name is no UTF-8 of at most %d bytes",
		    TICKET_USER_MAX);
		return ERR_LIMIT;
	}
	crypt_random_hex(ret_id, TICKET_ID_BYTES / 2);
	ticket.id = ret_id;
	err = store->ops->put_ticket(store, &ticket, diag);
	if (err == ERR_OK)
		err = sign(&ticket, ret_text, diag);
	return err;
}

/* ---- checking ---- */

bool
ticket_has_form(const char *text, size_t len)
{
	size_t skip = strlen(PREFIX);

	return len > skip && memcmp(text, PREFIX, skip) == 0 &&
	    jwt_has_form(text + skip, len - skip);
}

static enum err
refuse(struct diag *diag, const char *reason)
{
	diag_set(diag, "the ticket is not good: %s", reason);
	return ERR_UNAUTH;
}

static enum err
verify(const char *text, size_t len, const struct ticket_use *use, json_t **ret,
    struct diag *diag)
{
	char *audience = xasprintf(AUDIENCE "%s", use->route);
	const struct jwt_policy policy = {
		.typ = TYPE,
		.issuer = ISSUER,
		.audience = audience,
		.now = use->now,
	};
	struct diag why = { "it is none of ours" };
	size_t skip = strlen(PREFIX);
	enum err err = ERR_UNAUTH;

	if (ticket_has_form(text, len) && len <= TICKET_MAX_BYTES)
		err = signing_key_verify(text + skip, len - skip, &policy, ret,
		    &why);
	free(audience);
	return err == ERR_OK ? ERR_OK : refuse(diag, why.text);
}

/* An address may be written in more than one way. */
static bool
is_same_address(const char *a, const char *b)
{
	char one[INET6_ADDRSTRLEN], other[INET6_ADDRSTRLEN];

	return address_normalize(a, one) == ERR_OK &&
	    address_normalize(b, other) == ERR_OK && strcmp(one, other) == 0;
}

/* A browser writes its Origin in one way. */
static bool
is_same_origin(const char *wanted, const struct ticket_use *use)
{
	const char *host = strstr(wanted, "://");

	if (use->origin != NULL)
		return strcmp(wanted, use->origin) == 0;
	return use->own_host != NULL && host != NULL &&
	    strcasecmp(host + strlen("://"), use->own_host) == 0;
}

/* What the row says, which the claims do not. */
static enum err
check_row(const struct store_ticket *ticket, const struct ticket_use *use,
    struct diag *diag)
{
	const struct revocations_subject subject = {
		.user = ticket->user,
		.ticket = ticket->id,
		.route = ticket->route,
		.issued = ticket->issued,
	};

	if (strcmp(ticket->route, use->route) != 0)
		return refuse(diag, "it is for another route");
	if (revocations_have(&subject))
		return refuse(diag, "it has been revoked");
	if (ticket->spent)
		return refuse(diag, "it was used already");
	if (ticket->address != NULL &&
	    !is_same_address(ticket->address, use->address))
		return refuse(diag, "it is for another address");
	if (ticket->origin != NULL && !is_same_origin(ticket->origin, use))
		return refuse(diag, "it is for another Origin");
	return ERR_OK;
}

enum err
ticket_check(const char *text, size_t len, const struct ticket_use *use,
    struct store_ticket *ret, struct diag *diag)
{
	struct store *store = store_current();
	struct store_ticket ticket;
	const char *id, *anon_id;
	json_t *claims;
	enum err err;

	if (!ticket_is_possible())
		return unavailable(diag);
	err = verify(text, len, use, &claims, diag);
	if (err != ERR_OK)
		return err;
	id = json_string_value(json_object_get(claims, "jti"));
	err = store->ops->get_ticket(store, id == NULL ? "" : id, use->now,
	    &ticket, diag);
	if (err == ERR_OK) {
		anon_id = json_string_value(json_object_get(claims, "anon"));
		ticket.anon_id = anon_id == NULL ? NULL : xstrdup(anon_id);
		ticket.issued =
		    json_integer_value(json_object_get(claims, "iat"));
	}
	json_decref(claims);
	if (err == ERR_UNAVAIL)
		return err;
	if (err != ERR_OK)
		return refuse(diag, "it is not known any more");
	err = check_row(&ticket, use, diag);
	if (err == ERR_OK)
		*ret = ticket;
	else
		store_ticket_done(&ticket);
	return err;
}

/* ---- spending ---- */

enum err
ticket_spend(const struct store_ticket *ticket, int64_t now, struct diag *diag)
{
	struct store *store = store_current();
	enum err err;

	if (ticket->id == NULL || !ticket->once)
		return ERR_OK;
	if (store == NULL)
		return unavailable(diag);
	err = store->ops->spend_ticket(store, ticket->id, now, diag);
	if (err == ERR_DENIED)
		return refuse(diag, "it was used already");
	if (err == ERR_NOTFOUND)
		return refuse(diag, "it is not known any more");
	return err;
}
