/* SPDX-License-Identifier: MIT */
#include "broker/users/jwks.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/xalloc.h"

#define TEXT_MAX   256	/* of kid, alg, use */
#define NUMBER_MAX 4096 /* of a member in base64url: RSA's longest */

struct item {
	char *kid, *alg; /* NULL: not said */
	struct crypt_key *key;
};

struct jwks {
	struct item items[JWKS_MAX_KEYS];
	size_t count;
};

/* ---- one key ---- */

/* A member's bytes; ERR_PROTO where it is absent or no base64url. */
static enum err
get_bytes(const json_t *jwk, const char *name, uint8_t out[NUMBER_MAX],
    size_t *ret_len)
{
	const char *text;

	if (json_get_string(jwk, name, NUMBER_MAX, &text) != ERR_OK ||
	    crypt_unbase64url(text, strlen(text), out, NUMBER_MAX, ret_len) !=
		ERR_OK)
		return ERR_PROTO;
	return ERR_OK;
}

static enum err
read_rsa(const json_t *jwk, struct crypt_key **ret)
{
	uint8_t n[NUMBER_MAX], e[NUMBER_MAX];
	size_t n_len, e_len;
	enum err err = get_bytes(jwk, "n", n, &n_len);

	if (err == ERR_OK)
		err = get_bytes(jwk, "e", e, &e_len);
	if (err == ERR_OK)
		err = crypt_key_from_rsa(n, n_len, e, e_len, ret, NULL);
	return err;
}

static enum err
read_point(const json_t *jwk, struct crypt_key **ret)
{
	uint8_t x[NUMBER_MAX], y[NUMBER_MAX];
	size_t x_len, y_len;
	const char *curve;
	enum err err = json_get_string(jwk, "crv", TEXT_MAX, &curve);

	if (err == ERR_OK)
		err = get_bytes(jwk, "x", x, &x_len);
	if (err == ERR_OK)
		err = get_bytes(jwk, "y", y, &y_len);
	if (err == ERR_OK)
		err =
		    crypt_key_from_point(curve, x, x_len, y, y_len, ret, NULL);
	return err;
}

static enum err
read_octets(const json_t *jwk, struct crypt_key **ret)
{
	uint8_t x[NUMBER_MAX];
	size_t len;
	const char *curve;
	enum err err = json_get_string(jwk, "crv", TEXT_MAX, &curve);

	if (err == ERR_OK && strcmp(curve, "Ed25519") != 0)
		err = ERR_PROTO;
	if (err == ERR_OK)
		err = get_bytes(jwk, "x", x, &len);
	if (err == ERR_OK)
		err = crypt_key_from_ed25519(x, len, ret, NULL);
	return err;
}

static enum err
read_numbers(const json_t *jwk, struct crypt_key **ret)
{
	const char *kty;

	if (json_get_string(jwk, "kty", TEXT_MAX, &kty) != ERR_OK)
		return ERR_PROTO;
	if (strcmp(kty, "RSA") == 0)
		return read_rsa(jwk, ret);
	if (strcmp(kty, "EC") == 0)
		return read_point(jwk, ret);
	if (strcmp(kty, "OKP") == 0)
		return read_octets(jwk, ret);
	return ERR_NOTFOUND;
}

/* Whether it is for signatures, as far as it says (RFC 7517 4.2, 4.3). */
static bool
is_for_us(const json_t *jwk)
{
	const json_t *use = json_object_get(jwk, "use");
	const json_t *ops = json_object_get(jwk, "key_ops"), *op;
	size_t i;

	if (use != NULL &&
	    (!json_is_string(use) ||
		strcmp(json_string_value(use), "sig") != 0))
		return false;
	if (ops == NULL)
		return true;
	json_array_foreach(ops, i, op)
	{
		if (json_is_string(op) &&
		    strcmp(json_string_value(op), "verify") == 0)
			return true;
	}
	return false;
}

/* A member that may be absent; false where it is there and no short text. */
static bool
get_text(const json_t *jwk, const char *name, const char **ret)
{
	*ret = NULL;
	return json_object_get(jwk, name) == NULL ||
	    json_get_string(jwk, name, TEXT_MAX, ret) == ERR_OK;
}

static bool
read_item(const json_t *jwk, struct item *ret)
{
	const char *kid, *alg;
	struct crypt_key *key;

	if (!json_is_object(jwk) || !is_for_us(jwk) ||
	    !get_text(jwk, "kid", &kid) || !get_text(jwk, "alg", &alg) ||
	    read_numbers(jwk, &key) != ERR_OK)
		return false;
	if (alg != NULL && !crypt_key_allows(key, alg)) {
		crypt_key_free(key);
		return false;
	}
	ret->kid = kid == NULL ? NULL : xstrdup(kid);
	ret->alg = alg == NULL ? NULL : xstrdup(alg);
	ret->key = key;
	return true;
}

/* ---- the set ---- */

static enum err
read_set(const json_t *set, struct jwks **ret, struct diag *diag)
{
	const json_t *keys = json_object_get(set, "keys"), *jwk;
	struct jwks *jwks;
	size_t i;

	if (!json_is_array(keys)) {
		diag_set(diag, "it has no array of keys");
		return ERR_PROTO;
	}
	if (json_array_size(keys) > JWKS_MAX_KEYS) {
		diag_set(diag, "it has more than %d keys", JWKS_MAX_KEYS);
		return ERR_LIMIT;
	}
	jwks = xcalloc(1, sizeof(*jwks));
	json_array_foreach(keys, i, jwk)
	{
		if (read_item(jwk, &jwks->items[jwks->count]))
			jwks->count++;
	}
	if (jwks->count == 0) {
		jwks_free(jwks);
		diag_set(diag,
		    "it has no key that signatures can be checked "
		    "with");
		return ERR_PROTO;
	}
	*ret = jwks;
	return ERR_OK;
}

enum err
jwks_parse(const char *text, size_t len, struct jwks **ret, struct diag *diag)
{
	json_t *set;
	enum err err;

	if (len > JWKS_MAX_BYTES) {
		diag_set(diag, "it has more than %d bytes", JWKS_MAX_BYTES);
		return ERR_LIMIT;
	}
	err = json_parse(text, len, &set, diag);
	if (err != ERR_OK)
		return err;
	err = read_set(set, ret, diag);
	json_decref(set);
	return err;
}

void
jwks_free(struct jwks *jwks)
{
	if (jwks == NULL)
		return;
	for (size_t i = 0; i < jwks->count; i++) {
		free(jwks->items[i].kid);
		free(jwks->items[i].alg);
		crypt_key_free(jwks->items[i].key);
	}
	free(jwks);
}

/* ---- looking for one ---- */

static bool
is_named(const struct item *item, const char *kid)
{
	return kid == NULL ||
	    (item->kid != NULL && strcmp(item->kid, kid) == 0);
}

static bool
fits(const struct item *item, const char *alg)
{
	return crypt_key_allows(item->key, alg) &&
	    (item->alg == NULL || strcmp(item->alg, alg) == 0);
}

enum err
jwks_find(const struct jwks *jwks, const char *kid, const char *alg,
    const struct crypt_key **ret, struct diag *diag)
{
	const struct crypt_key *found = NULL;
	bool named = false;

	for (size_t i = 0; i < jwks->count; i++) {
		const struct item *item = &jwks->items[i];

		if (!is_named(item, kid))
			continue;
		named = true;
		if (!fits(item, alg))
			continue;
		/* trying all would take the site's word for none of them */
		if (found != NULL) {
			diag_set(diag,
			    "the token does not say which of the "
			    "issuer's keys it is signed with");
			return ERR_UNAUTH;
		}
		found = item->key;
	}
	if (found != NULL) {
		*ret = found;
		return ERR_OK;
	}
	if (kid != NULL && named) {
		diag_set(diag, "the token's algorithm is not its key's");
		return ERR_UNAUTH;
	}
	diag_set(diag, "the issuer has no such key");
	return ERR_NOTFOUND;
}

bool
jwks_allows(const struct jwks *jwks, const char *alg)
{
	for (size_t i = 0; i < jwks->count; i++)
		if (fits(&jwks->items[i], alg))
			return true;
	return false;
}

const char *
jwks_kid(const struct jwks *jwks, size_t i)
{
	if (i >= jwks->count)
		return NULL;
	return jwks->items[i].kid == NULL ? "" : jwks->items[i].kid;
}
