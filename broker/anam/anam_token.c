/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_token.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "broker/signing_key.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define AUDIENCE "culvert:anam"
#define ID_BYTES 16
#define TEXT_MAX 256

void
anam_token_done(struct anam_token *token)
{
	free(token->id);
	free(token->persona);
	free(token->user);
	*token = (struct anam_token){ .id = NULL };
}

static json_t *
format_claims(const struct anam_token *token, int64_t now)
{
	json_t *claims = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I}",
	    "type", "ephemeral", "accountId", "culvert", "aud", AUDIENCE, "jti",
	    token->id, "persona", token->persona, "iat", (json_int_t)now, "exp",
	    (json_int_t)token->expires);

	if (claims != NULL && token->user != NULL)
		(void)json_object_set_new(claims, "sub",
		    json_string(token->user));
	return claims;
}

enum err
anam_token_make(const char *persona, const char *user, int64_t now,
    int64_t ttl_s, struct anam_token *ret, char **ret_text, struct diag *diag)
{
	struct diag why = { "out of memory" };
	struct anam_token token = {
		.persona = xstrdup(persona),
		.user = user == NULL ? NULL : xstrdup(user),
		.issued = now,
		.expires = now + ttl_s,
	};
	char id[2 * ID_BYTES + 1];
	json_t *claims;
	enum err err;

	/* what is not read back must not be written */
	if (user != NULL && strlen(user) > TEXT_MAX) {
		anam_token_done(&token);
		diag_set(diag, "the user's name is longer than %d bytes",
		    TEXT_MAX);
		return ERR_DENIED;
	}
	crypt_random_hex(id, ID_BYTES);
	token.id = xstrdup(id);
	claims = format_claims(&token, now);
	err = claims == NULL ? ERR_SYS
			     : signing_key_sign(claims, "JWT", ret_text, &why);
	json_decref(claims);
	if (err != ERR_OK) {
		anam_token_done(&token);
		diag_set(diag, "%s", why.text);
		return ERR_SYS;
	}
	*ret = token;
	return ERR_OK;
}

/* A claim's text in memory of ours; NULL where it is absent or not a text. */
static char *
copy(const json_t *claims, const char *name)
{
	const char *text;

	if (json_get_string(claims, name, TEXT_MAX, &text) != ERR_OK)
		return NULL;
	return xstrdup(text);
}

enum err
anam_token_verify(const char *text, size_t len, int64_t now,
    struct anam_token *ret, struct diag *diag)
{
	const struct jwt_policy policy = { .typ = "JWT",
		.audience = AUDIENCE,
		.now = now };
	struct anam_token token;
	json_t *claims;
	enum err err = signing_key_verify(text, len, &policy, &claims, diag);

	if (err != ERR_OK)
		return ERR_UNAUTH;
	token = (struct anam_token){
		.id = copy(claims, "jti"),
		.persona = copy(claims, "persona"),
		.user = copy(claims, "sub"),
		.issued = json_integer_value(json_object_get(claims, "iat")),
		.expires = json_integer_value(json_object_get(claims, "exp")),
	};
	json_decref(claims);
	if (token.id == NULL || token.persona == NULL) {
		anam_token_done(&token);
		diag_set(diag, "the token lacks a claim");
		return ERR_UNAUTH;
	}
	*ret = token;
	return ERR_OK;
}
