/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/users/jwks.h"
#include "common/xalloc.h"
#include "test_keys.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The public keys of RFC 7515 A.3 and RFC 8037 A.2. */
#define EC                                                       \
	"\"kty\":\"EC\",\"crv\":\"P-256\","                      \
	"\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"," \
	"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\""
#define ED                                     \
	"\"kty\":\"OKP\",\"crv\":\"Ed25519\"," \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\""
#define SET(keys) "{\"keys\":[" keys "]}"

static enum err
parse(const char *text, struct jwks **ret)
{
	struct diag diag = { "" };
	enum err err = jwks_parse(text, strlen(text), ret, &diag);

	assert_int_equal(err == ERR_OK, diag.text[0] == '\0');
	return err;
}

static struct jwks *
must_parse(const char *text)
{
	struct jwks *jwks;

	if (parse(text, &jwks) != ERR_OK)
		fail_msg("%s", text);
	return jwks;
}

/* Whether a signature in base64url over the text is the key's. */
static bool
verifies(const struct crypt_key *key, const char *alg, const char *text,
    const char *signature)
{
	uint8_t raw[1024];
	size_t len;

	assert_int_equal(crypt_unbase64url(signature, strlen(signature), raw,
			     sizeof(raw), &len),
	    ERR_OK);
	return crypt_verify(key, alg, text, strlen(text), raw, len) == ERR_OK;
}

static void
reads_the_keys_of_the_rfcs(void **state)
{
	static const char text[] =
	    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsD"
	    "QogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
	struct jwks *jwks =
	    must_parse(SET("{" EC ",\"kid\":\"a\",\"use\":\"sig\"},{" ED
			   ",\"key_ops\":[\"verify\"]}"));
	const struct crypt_key *key;

	(void)state;
	assert_int_equal(jwks_find(jwks, "a", "ES256", &key, NULL), ERR_OK);
	assert_true(verifies(key, "ES256", text,
	    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApm"
	    "WQxfKTUJqPP3-Kg6NU1Q"));
	assert_int_equal(jwks_find(jwks, NULL, "EdDSA", &key, NULL), ERR_OK);
	assert_true(verifies(key, "EdDSA",
	    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
	    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhV"
	    "sPt9g7sVvpAr_MuM0KAg"));
	jwks_free(jwks);
}

/* An RSA key's members. */
static char *
rsa_members(size_t bits, EVP_PKEY **ret)
{
	EVP_PKEY *pkey = test_key("RSA", NULL, bits);
	BIGNUM *n = NULL, *e = NULL;
	uint8_t raw[1024], small[8];
	char *n_text, *e_text, *text;
	int n_len, e_len;

	(void)EVP_PKEY_get_bn_param(pkey, "n", &n);
	(void)EVP_PKEY_get_bn_param(pkey, "e", &e);
	n_len = BN_bn2bin(n, raw);
	e_len = BN_bn2bin(e, small);
	n_text = crypt_base64url(raw, (size_t)n_len);
	e_text = crypt_base64url(small, (size_t)e_len);
	text = xasprintf("\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"", n_text,
	    e_text);
	BN_free(n);
	BN_free(e);
	free(n_text);
	free(e_text);
	if (ret != NULL)
		*ret = pkey;
	else
		EVP_PKEY_free(pkey);
	return text;
}

static void
reads_rsa_of_2048_bits_and_more(void **state)
{
	EVP_PKEY *pkey;
	char *members = rsa_members(2048, &pkey);
	char *set = xasprintf(SET("{%s}"), members);
	char *pem = test_pem(pkey, true, NULL), *signature;
	struct jwks *jwks = must_parse(set);
	const struct crypt_key *key;
	struct crypt_key *private;
	uint8_t *raw;
	size_t len;

	(void)state;
	assert_int_equal(crypt_key_from_pem(pem, strlen(pem), &private, NULL),
	    ERR_OK);
	for (size_t i = 0; i < 6; i++) {
		static const char *const algs[] = { "RS256", "RS384", "RS512",
			"PS256", "PS384", "PS512" };

		assert_int_equal(crypt_sign(private, algs[i], "text", 4, &raw,
				     &len),
		    ERR_OK);
		signature = crypt_base64url(raw, len);
		assert_int_equal(jwks_find(jwks, NULL, algs[i], &key, NULL),
		    ERR_OK);
		assert_true(verifies(key, algs[i], "text", signature));
		assert_false(verifies(key, algs[i], "Text", signature));
		free(signature);
		free(raw);
	}
	crypt_key_free(private);
	jwks_free(jwks);
	free(pem);
	free(set);
	free(members);
	EVP_PKEY_free(pkey);

	members = rsa_members(1024, NULL);
	set = xasprintf(SET("{%s}"), members);
	assert_int_equal(parse(set, &jwks), ERR_PROTO);
	free(set);
	free(members);
}

/* Beside a good key, which is all that is left of the set. */
static void
passes_over_what_is_of_no_use(void **state)
{
	static const char *const others[] = {
		"1",
		"null",
		"{}",
		"{\"kty\":\"oct\",\"kid\":\"b\",\"k\":"
		"\"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE\"}",
		"{" EC ",\"kid\":\"b\",\"use\":\"enc\"}",
		"{" EC ",\"kid\":\"b\",\"use\":1}",
		"{" EC ",\"kid\":\"b\",\"key_ops\":[\"sign\"]}",
		"{" EC ",\"kid\":\"b\",\"key_ops\":\"verify\"}",
		"{" EC ",\"kid\":1}",
		"{" EC ",\"kid\":\"b\",\"alg\":\"RS256\"}",
		"{" EC ",\"kid\":\"b\",\"alg\":\"none\"}",
		/* another curve's name, a coordinate that is short or off */
		"{\"kty\":\"EC\",\"crv\":\"P-384\",\"kid\":\"b\","
		"\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
		"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
		"{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"kid\":\"b\","
		"\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
		"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
		"{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"b\",\"x\":\"AA\","
		"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
		"{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"b\","
		"\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
		"\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}",
		"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"kid\":\"b\","
		"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
		"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"b\","
		"\"x\":\"11qYAYKxCrfVS\"}",
		"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"b\","
		"\"x\":\"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
		"{\"kty\":\"RSA\",\"kid\":\"b\",\"n\":\"AQAB\",\"e\":\"AQAB\"}",
		"{\"kty\":\"RSA\",\"kid\":\"b\",\"n\":1,\"e\":\"AQAB\"}",
		"{\"kty\":\"AKP\",\"kid\":\"b\",\"alg\":\"ML-DSA-44\","
		"\"pub\":\"AA\"}",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(others); i++) {
		char *set =
		    xasprintf(SET("%s,{" ED ",\"kid\":\"a\"}"), others[i]);
		char *alone = xasprintf(SET("%s"), others[i]);
		struct jwks *jwks = must_parse(set), *none;
		const struct crypt_key *key;

		assert_int_equal(jwks_find(jwks, "a", "EdDSA", &key, NULL),
		    ERR_OK);
		if (jwks_find(jwks, "b", "ES256", &key, NULL) != ERR_NOTFOUND ||
		    jwks_find(jwks, NULL, "ES256", &key, NULL) !=
			ERR_NOTFOUND ||
		    parse(alone, &none) != ERR_PROTO)
			fail_msg("%s", others[i]);
		jwks_free(jwks);
		free(alone);
		free(set);
	}
}

static void
finds_the_key_that_the_token_names_and_no_other(void **state)
{
	static const struct {
		const char *set, *kid, *alg;
		enum err err;
	} cases[] = {
		{ SET("{" EC ",\"kid\":\"a\"}"), "a", "ES256", ERR_OK },
		{ SET("{" EC ",\"kid\":\"a\"}"), NULL, "ES256", ERR_OK },
		{ SET("{" EC "}"), NULL, "ES256", ERR_OK },
		/* unknown ones may be new */
		{ SET("{" EC ",\"kid\":\"a\"}"), "b", "ES256", ERR_NOTFOUND },
		{ SET("{" EC "}"), "a", "ES256", ERR_NOTFOUND },
		{ SET("{" EC "}"), "", "ES256", ERR_NOTFOUND },
		{ SET("{" EC "}"), NULL, "EdDSA", ERR_NOTFOUND },
		/* of another type, or for another algorithm */
		{ SET("{" EC ",\"kid\":\"a\"}"), "a", "RS256", ERR_UNAUTH },
		{ SET("{" EC ",\"kid\":\"a\"}"), "a", "HS256", ERR_UNAUTH },
		{ SET("{" EC ",\"kid\":\"a\"}"), "a", "ES384", ERR_UNAUTH },
		{ SET("{" EC ",\"kid\":\"a\"}"), "a", "none", ERR_UNAUTH },
		{ SET("{" EC ",\"kid\":\"a\"},{" ED ",\"kid\":\"b\"}"), "b",
		    "ES256", ERR_UNAUTH },
		/* two of one name are told apart by type, or not at all */
		{ SET("{" EC ",\"kid\":\"a\"},{" ED ",\"kid\":\"a\"}"), "a",
		    "EdDSA", ERR_OK },
		{ SET("{" EC ",\"kid\":\"a\"},{" EC ",\"kid\":\"a\"}"), "a",
		    "ES256", ERR_UNAUTH },
		{ SET("{" EC "},{" EC "}"), NULL, "ES256", ERR_UNAUTH },
		{ SET("{" EC ",\"kid\":\"a\"},{" EC ",\"kid\":\"b\"}"), NULL,
		    "ES256", ERR_UNAUTH },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct jwks *jwks = must_parse(cases[i].set);
		const struct crypt_key *key = NULL;
		struct diag diag = { "" };
		enum err err =
		    jwks_find(jwks, cases[i].kid, cases[i].alg, &key, &diag);

		if (err != cases[i].err || (err == ERR_OK) != (key != NULL) ||
		    (err == ERR_OK) != (diag.text[0] == '\0'))
			fail_msg("%zu: %d %s", i, err, diag.text);
		jwks_free(jwks);
	}
}

static void
refuses_what_is_no_set(void **state)
{
	static const char *const texts[] = { "", "[]", "{}", "{\"keys\":{}}",
		"{\"keys\":null}", SET(""), "<html>", SET("{" EC "}") "x",
		"{" EC "}" };
	struct jwks *jwks;
	char *text, *end;

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++)
		assert_int_equal(parse(texts[i], &jwks), ERR_PROTO);
	text = xcalloc(1, JWKS_MAX_BYTES + 2);
	memset(text, ' ', JWKS_MAX_BYTES + 1);
	assert_int_equal(parse(text, &jwks), ERR_LIMIT);
	end = stpcpy(text, "{\"keys\":[");
	for (size_t i = 0; i <= JWKS_MAX_KEYS; i++)
		end = stpcpy(end, i == 0 ? "1" : ",1");
	(void)stpcpy(end, "]}");
	assert_int_equal(parse(text, &jwks), ERR_LIMIT);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_keys_of_the_rfcs),
		cmocka_unit_test(reads_rsa_of_2048_bits_and_more),
		cmocka_unit_test(passes_over_what_is_of_no_use),
		cmocka_unit_test(
		    finds_the_key_that_the_token_names_and_no_other),
		cmocka_unit_test(refuses_what_is_no_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
