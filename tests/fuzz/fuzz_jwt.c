/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/jwt.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW 1700000000

static void
require(int condition)
{
	if (!condition)
		abort();
}

static struct crypt_key *
the_key(void)
{
	static struct crypt_key *key;
	struct secret *secret;

	if (key != NULL)
		return key;
	secret = secret_new("a shared secret of the tests: 32+", 33, "fuzz");
	require(crypt_key_from_secret(secret, &key, NULL) == ERR_OK);
	secret_free(secret);
	return key;
}

/*
 * A changed token never gets past its signature.  An input of two lines is a
 * header and claims, to be signed here.
 */
static char *
forge(const uint8_t *data, size_t size, const uint8_t *newline)
{
	size_t head_len = (size_t)(newline - data), sig_len;
	char *head = crypt_base64url(data, head_len);
	char *body = crypt_base64url(newline + 1, size - head_len - 1);
	char *input = xasprintf("%s.%s", head, body), *sig_text, *token;
	uint8_t *sig;

	require(crypt_sign(the_key(), "HS256", input, strlen(input), &sig,
		    &sig_len) == ERR_OK);
	sig_text = crypt_base64url(sig, sig_len);
	token = xasprintf("%s.%s", input, sig_text);
	free(sig);
	free(sig_text);
	free(input);
	free(body);
	free(head);
	return token;
}

/* Claims that were accepted are what was asked for. */
static void
check(const char *token, size_t len, const struct jwt_policy *policy)
{
	json_t *claims = NULL;
	enum err err;

	err = jwt_verify(token, len, the_key(), policy, &claims, NULL);
	if (err != ERR_OK) {
		require(err == ERR_UNAUTH || err == ERR_LIMIT);
		require(claims == NULL);
		return;
	}
	require(json_number_value(json_object_get(claims, "exp")) >
	    (double)(NOW - policy->leeway_s));
	if (policy->issuer != NULL)
		require(
		    strcmp(json_string_value(json_object_get(claims, "iss")),
			policy->issuer) == 0);
	json_decref(claims);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct jwt_policy open = { .leeway_s = 60, .now = NOW };
	static const struct jwt_policy closed = { .alg = "HS256",
		.typ = "JWT",
		.issuer = "a",
		.audience = "b",
		.now = NOW };
	const uint8_t *newline = memchr(data, '\n', size);
	const char *token = (const char *)data;
	char *forged = NULL;

	if (newline != NULL) {
		token = forged = forge(data, size, newline);
		size = strlen(forged);
	}
	check(token, size, &open);
	check(token, size, &closed);
	free(forged);
	return 0;
}
