/* SPDX-License-Identifier: MIT */
#include "ephemeral.h"

#include <stdlib.h>
#include <string.h>

#include "common/crypt.h"
#include "common/jwt.h"
#include "common/secret.h"
#include "common/xalloc.h"

#define PREFIX "ek_"

struct ephemeral {
	struct crypt_key *key;
};

struct ephemeral *
ephemeral_new(void)
{
	struct ephemeral *e = xcalloc(1, sizeof(*e));
	char random[65];
	struct secret *secret;

	crypt_random_hex(random, 32);
	secret = secret_new(random, 64, "random");
	if (crypt_key_from_secret(secret, &e->key, NULL) != ERR_OK)
		abort(); /* it is long enough */
	secret_free(secret);
	return e;
}

void
ephemeral_free(struct ephemeral *e)
{
	if (e == NULL)
		return;
	crypt_key_free(e->key);
	free(e);
}

char *
ephemeral_issue(const struct ephemeral *e, int64_t expires)
{
	char id[17], *token = NULL, *key;
	json_t *claims;

	crypt_random_hex(id, 8);
	claims = json_pack("{s:s, s:I}", "jti", id, "exp", (json_int_t)expires);
	if (jwt_sign(claims, e->key, "HS256", NULL, NULL, &token) != ERR_OK)
		abort();
	json_decref(claims);
	key = xasprintf(PREFIX "%s", token);
	free(token);
	return key;
}

bool
ephemeral_is_good(const struct ephemeral *e, const char *key, size_t len,
    int64_t now)
{
	const size_t prefix = strlen(PREFIX);
	struct jwt_policy policy = { .alg = "HS256", .now = now };
	json_t *claims = NULL;

	if (len <= prefix || memcmp(key, PREFIX, prefix) != 0 ||
	    jwt_verify(key + prefix, len - prefix, e->key, &policy, &claims,
		NULL) != ERR_OK)
		return false;
	json_decref(claims);
	return true;
}
