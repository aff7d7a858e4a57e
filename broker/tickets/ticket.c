/* SPDX-License-Identifier: MIT */
#include "broker/tickets/ticket.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/signing_key.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/str.h"
#include "common/xalloc.h"

#define PREFIX	 "ek_"
#define TYPE	 "ticket+jwt"
#define ISSUER	 "culvert"
#define AUDIENCE "realtime:" /* and the relay's name */

bool
ticket_is_possible(void)
{
	return store_current() != NULL && signing_key_current() != NULL;
}

static enum err
unavailable(struct diag *diag)
{
	diag_set(diag, "there is no store, which short-lived keys need");
	return ERR_UNAVAIL;
}

/* ---- making ---- */

static enum err
sign(const struct store_ticket *ticket, char **ret)
{
	json_t *claims = json_made(
	    json_pack("{s:s, s:s+, s:I, s:I, s:s}", "iss", ISSUER, "aud",
		AUDIENCE, ticket->route, "iat", (json_int_t)ticket->created,
		"exp", (json_int_t)ticket->expires, "jti", ticket->id));
	enum err err;
	char *token;

	if (ticket->user != NULL)
		(void)json_object_set_new(claims, "sub",
		    json_made(json_string(ticket->user)));
	err = jwt_sign(claims, signing_key_current(), "HS256", TYPE, NULL,
	    &token);
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
	enum err err;

	if (!ticket_is_possible())
		return unavailable(diag);
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
		err = sign(&ticket, ret_text);
	return err;
}

/* ---- checking ---- */

bool
ticket_has_form(const char *text, size_t len)
{
	size_t skip = strlen(PREFIX), dots = 0;

	if (len <= skip || memcmp(text, PREFIX, skip) != 0)
		return false;
	for (size_t i = skip; i < len; i++) {
		char c = text[i];

		if (c == '.')
			dots++;
		else if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= '0' && c <= '9') && c != '-' && c != '_')
			return false;
	}
	return dots == 2;
}

const char *
ticket_of_bearer(const char *authorization)
{
	static const char scheme[] = "Bearer ";

	if (authorization == NULL ||
	    strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
		return NULL;
	authorization += sizeof(scheme) - 1;
	return authorization + strspn(authorization, " ");
}

static enum err
verify(const char *text, size_t len, const char *route, int64_t now,
    json_t **ret, struct diag *diag)
{
	char *audience = xasprintf(AUDIENCE "%s", route);
	const struct jwt_policy policy = {
		.alg = "HS256",
		.typ = TYPE,
		.issuer = ISSUER,
		.audience = audience,
		.now = now,
	};
	struct diag why = { "" };
	size_t skip = strlen(PREFIX);
	enum err err = ERR_UNAUTH;

	if (!ticket_has_form(text, len) || len > TICKET_MAX_BYTES)
		diag_set(&why, "it is none of ours");
	else
		err = jwt_verify(text + skip, len - skip, signing_key_current(),
		    &policy, ret, &why);
	free(audience);
	if (err == ERR_OK)
		return ERR_OK;
	diag_set(diag, "the short-lived key is not good: %s", why.text);
	return ERR_UNAUTH;
}

enum err
ticket_check(const char *text, size_t len, const char *route, int64_t now,
    struct store_ticket *ret, struct diag *diag)
{
	struct store *store = store_current();
	struct store_ticket ticket;
	const char *id;
	json_t *claims;
	enum err err;

	if (!ticket_is_possible())
		return unavailable(diag);
	err = verify(text, len, route, now, &claims, diag);
	if (err != ERR_OK)
		return err;
	id = json_string_value(json_object_get(claims, "jti"));
	err = store->ops->get_ticket(store, id == NULL ? "" : id, now, &ticket,
	    diag);
	json_decref(claims);
	if (err == ERR_UNAVAIL)
		return err;
	if (err != ERR_OK) {
		diag_set(diag,
		    "the short-lived key is not good: it is not "
		    "known any more");
		return ERR_UNAUTH;
	}
	if (strcmp(ticket.route, route) != 0) {
		store_ticket_done(&ticket);
		diag_set(diag, "the short-lived key is for another route");
		return ERR_UNAUTH;
	}
	*ret = ticket;
	return ERR_OK;
}
