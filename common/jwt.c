/* SPDX-License-Identifier: MIT */
#include "common/jwt.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "common/xalloc.h"

/* Times beyond this are not exact in other people's JSON, nor sane. */
#define TIME_MAX ((int64_t)1 << 53)

/* ---- signing ---- */

static char *
encode_json(const json_t *value)
{
	size_t len;
	char *json = json_text(value, &len);
	char *text = crypt_base64url(json, len);

	free(json);
	return text;
}

/* header "." claims, what is signed. */
static char *
signing_input(const json_t *claims, const char *alg, const char *typ,
    const char *kid)
{
	json_t *header =
	    json_pack("{s:s, s:s*, s:s*}", "alg", alg, "typ", typ, "kid", kid);
	char *head, *body, *input;

	if (header == NULL)
		abort(); /* an algorithm, typ or kid that is not UTF-8 */
	head = encode_json(header);
	body = encode_json(claims);
	input = xasprintf("%s.%s", head, body);
	json_decref(header);
	free(head);
	free(body);
	return input;
}

enum err
jwt_sign(const json_t *claims, const struct crypt_key *key, const char *alg,
    const char *typ, const char *kid, char **ret)
{
	char *input, *signature, *token;
	uint8_t *raw;
	size_t raw_len;
	enum err err;

	if (!crypt_key_allows(key, alg))
		return ERR_DENIED;
	input = signing_input(claims, alg, typ, kid);
	err = crypt_sign(key, alg, input, strlen(input), &raw, &raw_len);
	if (err != ERR_OK) {
		free(input);
		return err;
	}
	signature = crypt_base64url(raw, raw_len);
	token = xasprintf("%s.%s", input, signature);
	free(raw);
	free(signature);
	free(input);
	if (strlen(token) > JWT_MAX_BYTES) {
		explicit_bzero(token, strlen(token));
		free(token);
		return ERR_LIMIT;
	}
	*ret = token;
	return ERR_OK;
}

/* ---- verifying ---- */

/* The three parts of a token, still encoded. */
struct parts {
	const char *header, *claims, *signature;
	size_t header_len, claims_len, signature_len;
};

static enum err
refuse(struct diag *diag, const char *reason)
{
	diag_set(diag, "%s", reason);
	return ERR_UNAUTH;
}

bool
jwt_has_form(const char *text, size_t len)
{
	size_t dots = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c == '.')
			dots++;
		else if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= '0' && c <= '9') && c != '-' && c != '_')
			return false;
	}
	return dots == 2;
}

static bool
split(const char *token, size_t len, struct parts *ret)
{
	const char *end = token + len, *first, *second;

	first = memchr(token, '.', len);
	if (first == NULL)
		return false;
	second = memchr(first + 1, '.', (size_t)(end - first - 1));
	if (second == NULL)
		return false;
	ret->header = token;
	ret->header_len = (size_t)(first - token);
	ret->claims = first + 1;
	ret->claims_len = (size_t)(second - first - 1);
	ret->signature = second + 1;
	ret->signature_len = (size_t)(end - second - 1);
	/* a third dot is no base64url digit: decoding refuses it */
	return ret->header_len > 0 && ret->claims_len > 0 &&
	    ret->signature_len > 0;
}

/* Decode a part that has to be a JSON object. */
static enum err
decode_object(const char *text, size_t len, json_t **ret)
{
	uint8_t *data = xcalloc(1, len);
	json_t *value = NULL;
	size_t data_len;
	enum err err;

	err = crypt_unbase64url(text, len, data, len, &data_len);
	if (err == ERR_OK)
		err = json_parse(data, data_len, &value, NULL);
	free(data);
	if (err == ERR_OK && !json_is_object(value)) {
		json_decref(value);
		err = ERR_PROTO;
	}
	if (err == ERR_OK)
		*ret = value;
	return err;
}

static enum err
check_header(const json_t *header, const struct crypt_key *key,
    const struct jwt_policy *policy, struct diag *diag)
{
	const char *alg = json_string_value(json_object_get(header, "alg"));
	const char *typ = json_string_value(json_object_get(header, "typ"));

	if (alg == NULL || !crypt_key_allows(key, alg) ||
	    (policy->alg != NULL && strcmp(alg, policy->alg) != 0))
		return refuse(diag, "the token's algorithm is not accepted");
	/*
	 * We understand no extension, so none can be critical (RFC 7515
	 * 4.1.11), nor claims that are not encoded (RFC 7797).
	 */
	if (json_object_get(header, "crit") != NULL ||
	    json_object_get(header, "b64") != NULL)
		return refuse(diag, "the token has a critical extension");
	if (policy->typ != NULL &&
	    (typ == NULL || strcasecmp(typ, policy->typ) != 0))
		return refuse(diag, "the token is not of the right type");
	return ERR_OK;
}

static enum err
check_signature(const char *token, const struct parts *parts,
    const struct crypt_key *key, const json_t *header, struct diag *diag)
{
	const char *alg = json_string_value(json_object_get(header, "alg"));
	uint8_t *raw = xcalloc(1, parts->signature_len);
	size_t raw_len;
	enum err err;

	err = crypt_unbase64url(parts->signature, parts->signature_len, raw,
	    parts->signature_len, &raw_len);
	if (err == ERR_OK)
		err = crypt_verify(key, alg, token,
		    parts->header_len + 1 + parts->claims_len, raw, raw_len);
	free(raw);
	if (err != ERR_OK)
		return refuse(diag, "the token's signature is not valid");
	return ERR_OK;
}

/*
 * A NumericDate (RFC 7519 2), which may have a fraction.  ERR_NOTFOUND where
 * it is absent; null is not absent: whoever wrote it meant something.
 */
static enum err
get_time(const json_t *claims, const char *name, int64_t *ret)
{
	const json_t *value = json_object_get(claims, name);
	double seconds;

	if (value == NULL)
		return ERR_NOTFOUND;
	if (!json_is_number(value))
		return ERR_PROTO;
	seconds = json_number_value(value);
	if (!(seconds >= 0 && seconds < (double)TIME_MAX))
		return ERR_PROTO;
	*ret = (int64_t)seconds;
	return ERR_OK;
}

static enum err
check_times(const json_t *claims, const struct jwt_policy *policy,
    struct diag *diag)
{
	int64_t at;
	enum err err;

	err = get_time(claims, "exp", &at);
	if (err == ERR_NOTFOUND)
		return refuse(diag, "the token has no exp");
	if (err != ERR_OK)
		return refuse(diag, "the token's exp is not a time");
	if (policy->now - policy->leeway_s >= at)
		return refuse(diag, "the token has expired");
	err = get_time(claims, "nbf", &at);
	if (err != ERR_OK && err != ERR_NOTFOUND)
		return refuse(diag, "the token's nbf is not a time");
	if (err == ERR_OK && policy->now + policy->leeway_s < at)
		return refuse(diag, "the token is not valid yet");
	err = get_time(claims, "iat", &at);
	if (err != ERR_OK && err != ERR_NOTFOUND)
		return refuse(diag, "the token's iat is not a time");
	return ERR_OK;
}

static bool
is_text(const json_t *value, const char *text)
{
	return json_is_string(value) &&
	    strcmp(json_string_value(value), text) == 0;
}

/* aud is one string or an array of strings (RFC 7519 4.1.3). */
static bool
has_audience(const json_t *aud, const char *audience)
{
	bool found = false;
	const json_t *item;
	size_t i;

	if (!json_is_array(aud))
		return is_text(aud, audience);
	json_array_foreach(aud, i, item)
	{
		if (!json_is_string(item))
			return false;
		found = found || is_text(item, audience);
	}
	return found;
}

static enum err
check_claims(const json_t *claims, const struct jwt_policy *policy,
    struct diag *diag)
{
	enum err err = check_times(claims, policy, diag);

	if (err != ERR_OK)
		return err;
	if (policy->issuer != NULL &&
	    !is_text(json_object_get(claims, "iss"), policy->issuer))
		return refuse(diag, "the token is of another issuer");
	if (policy->audience != NULL &&
	    !has_audience(json_object_get(claims, "aud"), policy->audience))
		return refuse(diag, "the token is for another audience");
	return ERR_OK;
}

static enum err
take_apart(const char *token, size_t len, struct parts *parts, json_t **ret,
    struct diag *diag)
{
	if (len > JWT_MAX_BYTES) {
		diag_set(diag, "a token has at most %d bytes", JWT_MAX_BYTES);
		return ERR_LIMIT;
	}
	if (!split(token, len, parts) ||
	    decode_object(parts->header, parts->header_len, ret) != ERR_OK)
		return refuse(diag, "this is not a JSON Web Token");
	return ERR_OK;
}

enum err
jwt_peek_header(const char *token, size_t len, json_t **ret, struct diag *diag)
{
	struct parts parts;

	return take_apart(token, len, &parts, ret, diag);
}

int64_t
jwt_peek_issued(const char *token, size_t len)
{
	json_t *header, *claims = NULL;
	struct parts parts;
	int64_t issued = 0;

	if (take_apart(token, len, &parts, &header, NULL) != ERR_OK)
		return 0;
	json_decref(header);
	if (decode_object(parts.claims, parts.claims_len, &claims) == ERR_OK)
		(void)!json_get_int(claims, "iat", 0, INT64_MAX, &issued);
	json_decref(claims);
	return issued;
}

enum err
jwt_verify(const char *token, size_t len, const struct crypt_key *key,
    const struct jwt_policy *policy, json_t **ret, struct diag *diag)
{
	json_t *header = NULL, *claims = NULL;
	struct parts parts;
	enum err err = take_apart(token, len, &parts, &header, diag);

	if (err != ERR_OK)
		return err;
	err = check_header(header, key, policy, diag);
	if (err == ERR_OK)
		err = check_signature(token, &parts, key, header, diag);
	json_decref(header);
	if (err != ERR_OK)
		return err;
	/* only now is the rest worth reading */
	if (decode_object(parts.claims, parts.claims_len, &claims) != ERR_OK)
		return refuse(diag, "the token's claims are not a JSON object");
	err = check_claims(claims, policy, diag);
	if (err == ERR_OK)
		*ret = claims;
	else
		json_decref(claims);
	return err;
}
