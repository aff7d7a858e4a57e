/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"
#include "test_keys.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define NOW   1700000000
#define HS256 "{\"alg\":\"HS256\"}"
#define GOOD  "{\"exp\":1700000600}"

static const struct jwt_policy open_policy = { .leeway_s = 60, .now = NOW };

static struct crypt_key *
secret_key(const char *text)
{
	struct secret *secret = secret_new(text, strlen(text), "test");
	struct crypt_key *key = NULL;

	assert_int_equal(crypt_key_from_secret(secret, &key, NULL), ERR_OK);
	secret_free(secret);
	return key;
}

static int
setup(void **state)
{
	*state = secret_key("a shared secret of the tests: 32+");
	return 0;
}

static int
teardown(void **state)
{
	crypt_key_free(*state);
	return 0;
}

/* A token with exactly this header and these claims, properly signed. */
static char *
forge(const struct crypt_key *key, const char *alg, const char *header,
    const char *claims)
{
	char *head = crypt_base64url(header, strlen(header));
	char *body = crypt_base64url(claims, strlen(claims));
	char *input = xasprintf("%s.%s", head, body), *sig_text, *token;
	uint8_t *sig;
	size_t len;

	assert_int_equal(crypt_sign(key, alg, input, strlen(input), &sig, &len),
	    ERR_OK);
	sig_text = crypt_base64url(sig, len);
	token = xasprintf("%s.%s", input, sig_text);
	free(sig_text);
	free(sig);
	free(input);
	free(body);
	free(head);
	return token;
}

/* Verify; on failure the result is untouched and the reason is told. */
static enum err
check(const struct crypt_key *key, const char *token, size_t len,
    const struct jwt_policy *policy)
{
	json_t *claims = NULL;
	struct diag diag = { "" };
	enum err err = jwt_verify(token, len, key, policy, &claims, &diag);

	if (err == ERR_OK) {
		assert_true(json_is_object(claims));
	} else {
		assert_null(claims);
		assert_true(diag.text[0] != '\0');
	}
	json_decref(claims);
	return err;
}

static void
check_forged(const struct crypt_key *key, const char *header,
    const char *claims, const struct jwt_policy *policy, enum err expected)
{
	char *token = forge(key, "HS256", header, claims);
	enum err err = check(key, token, strlen(token), policy);

	if (err != expected)
		fail_msg("%s.%s: %d", header, claims, (int)err);
	free(token);
}

/* ---- form ---- */

static void
refuses_headers_that_are_not_strictly_ours(void **state)
{
	static const struct {
		const char *header;
		enum err err;
	} rows[] = {
		{ HS256, ERR_OK },
		{ " {\"alg\" : \"HS256\"}\r\n", ERR_OK },
		{ "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"x\"}", ERR_OK },
		{ "{\"alg\":\"HS256\",\"other\":{\"a\":[1]}}", ERR_OK },
		{ "{\"alg\":\"none\"}", ERR_UNAUTH },
		{ "{\"alg\":\"None\"}", ERR_UNAUTH },
		{ "{\"alg\":\"nOnE\"}", ERR_UNAUTH },
		{ "{\"alg\":\"\"}", ERR_UNAUTH },
		{ "{\"alg\":\"hs256\"}", ERR_UNAUTH },
		{ "{\"alg\":\"HS256 \"}", ERR_UNAUTH },
		{ "{\"alg\":\"HS512\"}", ERR_UNAUTH }, /* signed otherwise */
		{ "{\"alg\":\"RS256\"}", ERR_UNAUTH },
		{ "{\"alg\":\"ES256\"}", ERR_UNAUTH },
		{ "{\"alg\":null}", ERR_UNAUTH },
		{ "{\"alg\":256}", ERR_UNAUTH },
		{ "{\"alg\":[\"HS256\"]}", ERR_UNAUTH },
		{ "{\"Alg\":\"HS256\"}", ERR_UNAUTH },
		{ "{\"typ\":\"JWT\"}", ERR_UNAUTH },
		{ "{}", ERR_UNAUTH },
		{ "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", ERR_UNAUTH },
		{ "{\"alg\":\"none\",\"alg\":\"HS256\"}", ERR_UNAUTH },
		{ "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", ERR_UNAUTH },
		{ "{\"alg\":\"HS256\",\"crit\":[]}", ERR_UNAUTH },
		{ "{\"alg\":\"HS256\",\"crit\":null}", ERR_UNAUTH },
		{ "{\"alg\":\"HS256\",\"b64\":false,\"crit\":[\"b64\"]}",
		    ERR_UNAUTH },
		{ "[\"HS256\"]", ERR_UNAUTH },
		{ "\"HS256\"", ERR_UNAUTH },
		{ "null", ERR_UNAUTH },
		{ HS256 "x", ERR_UNAUTH },
		{ HS256 HS256, ERR_UNAUTH },
		{ "\xef\xbb\xbf" HS256, ERR_UNAUTH },
		{ "{\"alg\":\"HS256\\u0000\"}", ERR_UNAUTH },
		{ "{\"alg\":\"HS256\",\"kid\":\"\xff\"}", ERR_UNAUTH },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		check_forged(*state, rows[i].header, GOOD, &open_policy,
		    rows[i].err);
}

static void
refuses_claims_that_are_not_one_object(void **state)
{
	static const char *const rows[] = { "null", "[1]", "\"exp\"",
		"1700000600", "[{\"exp\":1700000600}]", GOOD "x", GOOD GOOD,
		"{\"exp\":1700000600,\"exp\":1900000000}",
		"{\"exp\":1700000600,\"sub\":\"a\",\"sub\":\"b\"}",
		"{\"exp\":1700000600,\"x\":{\"a\":1,\"a\":2}}",
		"{\"exp\":1700000600,\"sub\":\"\xff\"}",
		"{\"exp\":1700000600,\"sub\":\"a\\u0000b\"}",
		"{\"exp\":1700000600" };

	for (size_t i = 0; i < COUNT(rows); i++)
		check_forged(*state, HS256, rows[i], &open_policy, ERR_UNAUTH);
}

static void
refuses_a_token_of_another_shape(void **state)
{
	static const char *const rows[] = { "%s.", ".%s", "%s.x",
		"%s=", "%s==", " %s", "%s ", "%s\n", "\t%s", "%s\r\n", "%sA",
		"Bearer %s", "%s%%", "\"%s\"" };
	char *good = forge(*state, "HS256", HS256, GOOD), *token;
	size_t len = strlen(good);

	assert_int_equal(check(*state, good, len, &open_policy), ERR_OK);
	for (size_t i = 0; i < COUNT(rows); i++) {
		const char *at = strstr(rows[i], "%s");

		token = xasprintf("%.*s%s%s", (int)(at - rows[i]), rows[i],
		    good, at + 2);
		if (check(*state, token, strlen(token), &open_policy) !=
		    ERR_UNAUTH)
			fail_msg("%s", rows[i]);
		free(token);
	}
	/* the NUL after it is not part of it */
	assert_int_equal(check(*state, good, len + 1, &open_policy),
	    ERR_UNAUTH);
	free(good);
}

static void
refuses_what_is_cut_short(void **state)
{
	char *good = forge(*state, "HS256", HS256, GOOD);

	for (size_t i = 0; i < strlen(good); i++)
		assert_int_equal(check(*state, good, i, &open_policy),
		    ERR_UNAUTH);
	assert_int_equal(check(*state, "..", 2, &open_policy), ERR_UNAUTH);
	assert_int_equal(check(*state, "a.b.", 4, &open_policy), ERR_UNAUTH);
	free(good);
}

static void
refuses_a_token_in_which_any_character_is_another(void **state)
{
	char *good = forge(*state, "HS256", HS256, GOOD), saved;

	for (size_t i = 0; i < strlen(good); i++) {
		saved = good[i];
		good[i] = saved == 'A' ? 'B' : 'A';
		if (check(*state, good, strlen(good), &open_policy) == ERR_OK)
			fail_msg("character %zu", i);
		good[i] = saved;
	}
	free(good);
}

static void
refuses_padding_inside_the_parts(void **state)
{
	/* {"alg":"HS256"} and the signature end where padding would stand */
	char *good = forge(*state, "HS256", "{\"alg\":\"HS256\" }", GOOD);
	char *dot = strchr(good, '.'), *token;

	token = xasprintf("%.*s==%s", (int)(dot - good), good, dot);
	assert_int_equal(check(*state, token, strlen(token), &open_policy),
	    ERR_UNAUTH);
	free(token);
	free(good);
}

static void
refuses_what_is_too_large(void **state)
{
	char *text = xcalloc(1, JWT_MAX_BYTES + 2), *token = NULL;
	json_t *claims;

	memset(text, 'A', JWT_MAX_BYTES + 1);
	assert_int_equal(check(*state, text, JWT_MAX_BYTES + 1, &open_policy),
	    ERR_LIMIT);
	assert_int_equal(check(*state, text, JWT_MAX_BYTES, &open_policy),
	    ERR_UNAUTH);
	claims = json_pack("{s:s}", "sub", text);
	assert_int_equal(jwt_sign(claims, *state, "HS256", NULL, NULL, &token),
	    ERR_LIMIT);
	assert_null(token);
	json_decref(claims);
	free(text);
}

/* ---- keys ---- */

static void
refuses_the_signature_of_another_secret(void **state)
{
	struct crypt_key *other =
	    secret_key("another secret of the tests: 32+.");
	char *token = forge(other, "HS256", HS256, GOOD);

	assert_int_equal(check(*state, token, strlen(token), &open_policy),
	    ERR_UNAUTH);
	assert_int_equal(check(other, token, strlen(token), &open_policy),
	    ERR_OK);
	free(token);
	crypt_key_free(other);
}

/*
 * The public key's text used as a shared secret: made here with libcrypto
 * alone, for crypt refuses to take part.
 */
static void
a_public_key_is_never_taken_for_a_shared_secret(void **state)
{
	static const char input[] =
	    "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3MDAwMDA2MDB9";
	EVP_PKEY *pkey = test_key("RSA", NULL, 2048);
	char *pem = test_pem(pkey, false, NULL), *sig_text, *token;
	struct crypt_key *key = NULL;
	uint8_t sig[64];
	size_t len;

	(void)state;
	assert_int_equal(crypt_key_from_pem(pem, strlen(pem), &key, NULL),
	    ERR_OK);
	assert_non_null(
	    EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, pem, strlen(pem),
		(const uint8_t *)input, strlen(input), sig, sizeof(sig), &len));
	sig_text = crypt_base64url(sig, len);
	token = xasprintf("%s.%s", input, sig_text);
	assert_int_equal(check(key, token, strlen(token), &open_policy),
	    ERR_UNAUTH);
	free(token);
	free(sig_text);
	free(pem);
	crypt_key_free(key);
	EVP_PKEY_free(pkey);
}

static void
signs_and_verifies_with_every_kind_of_key(void **state)
{
	static const struct {
		const char *type, *curve, *alg;
	} rows[] = {
		{ "RSA", NULL, "RS256" },
		{ "RSA", NULL, "PS512" },
		{ "EC", "P-384", "ES384" },
		{ "ED25519", NULL, "EdDSA" },
	};
	json_t *claims = json_pack("{s:i}", "exp", NOW + 1);
	struct jwt_policy policy = { .now = NOW };
	struct crypt_key *key;
	EVP_PKEY *pkey;
	char *pem, *token;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		pkey = test_key(rows[i].type, rows[i].curve, 2048);
		pem = test_pem(pkey, true, NULL);
		assert_int_equal(crypt_key_from_pem(pem, strlen(pem), &key,
				     NULL),
		    ERR_OK);
		assert_int_equal(jwt_sign(claims, key, rows[i].alg, "JWT", "k1",
				     &token),
		    ERR_OK);
		policy.alg = NULL;
		assert_int_equal(check(key, token, strlen(token), &policy),
		    ERR_OK);
		policy.alg = rows[i].alg;
		assert_int_equal(check(key, token, strlen(token), &policy),
		    ERR_OK);
		policy.alg = "RS512";
		assert_int_equal(check(key, token, strlen(token), &policy),
		    ERR_UNAUTH);
		assert_int_equal(jwt_sign(claims, key, "HS256", NULL, NULL,
				     &pem),
		    ERR_DENIED);
		free(token);
		free(pem);
		crypt_key_free(key);
		EVP_PKEY_free(pkey);
	}
	json_decref(claims);
}

static void
writes_typ_and_kid_where_they_are_given(void **state)
{
	json_t *claims = json_pack("{s:i}", "exp", NOW);
	char *token;

	assert_int_equal(jwt_sign(claims, *state, "HS256", NULL, NULL, &token),
	    ERR_OK);
	/* {"alg":"HS256"} */
	assert_memory_equal(token, "eyJhbGciOiJIUzI1NiJ9.", 21);
	free(token);
	assert_int_equal(jwt_sign(claims, *state, "HS256", "JWT", NULL, &token),
	    ERR_OK);
	/* {"alg":"HS256","typ":"JWT"} */
	assert_memory_equal(token, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.", 37);
	free(token);
	json_decref(claims);
}

/* ---- times ---- */

static void
needs_an_exp_that_is_a_time(void **state)
{
	static const struct {
		const char *claims;
		enum err err;
	} rows[] = {
		{ "{}", ERR_UNAUTH },
		{ "{\"exp\":null}", ERR_UNAUTH },
		{ "{\"exp\":true}", ERR_UNAUTH },
		{ "{\"exp\":\"1700000600\"}", ERR_UNAUTH },
		{ "{\"exp\":[1700000600]}", ERR_UNAUTH },
		{ "{\"exp\":{}}", ERR_UNAUTH },
		{ "{\"EXP\":1700000600}", ERR_UNAUTH },
		{ "{\"exp\":0}", ERR_UNAUTH },
		{ "{\"exp\":-1}", ERR_UNAUTH },
		{ "{\"exp\":-9223372036854775808}", ERR_UNAUTH },
		{ "{\"exp\":9007199254740991}", ERR_OK },
		{ "{\"exp\":9007199254740992}", ERR_UNAUTH },
		{ "{\"exp\":9007199254740993}", ERR_UNAUTH },
		{ "{\"exp\":9223372036854775807}", ERR_UNAUTH },
		{ "{\"exp\":9223372036854775808}", ERR_UNAUTH },
		{ "{\"exp\":18446744073709551617}", ERR_UNAUTH },
		{ "{\"exp\":1e300}", ERR_UNAUTH },
		{ "{\"exp\":1e400}", ERR_UNAUTH },
		{ "{\"exp\":-1e300}", ERR_UNAUTH },
		{ "{\"exp\":1700000600.5}", ERR_OK },
		{ "{\"exp\":1.7000006e9}", ERR_OK },
		{ "{\"exp\":1700000600,\"nbf\":\"0\"}", ERR_UNAUTH },
		{ "{\"exp\":1700000600,\"nbf\":null}", ERR_UNAUTH },
		{ "{\"exp\":1700000600,\"nbf\":-1}", ERR_UNAUTH },
		{ "{\"exp\":1700000600,\"nbf\":0}", ERR_OK },
		{ "{\"exp\":1700000600,\"nbf\":1e99}", ERR_UNAUTH },
		{ "{\"exp\":1700000600,\"iat\":\"now\"}", ERR_UNAUTH },
		{ "{\"exp\":1700000600,\"iat\":1700000000}", ERR_OK },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		check_forged(*state, HS256, rows[i].claims, &open_policy,
		    rows[i].err);
}

static void
leeway_is_exact_to_the_second(void **state)
{
	static const struct {
		const char *claims;
		int64_t leeway;
		enum err err;
	} rows[] = {
		{ "{\"exp\":1700000001}", 0, ERR_OK },
		{ "{\"exp\":1700000000}", 0, ERR_UNAUTH },
		{ "{\"exp\":1699999941}", 60, ERR_OK },
		{ "{\"exp\":1699999940}", 60, ERR_UNAUTH },
		{ "{\"exp\":1700000600,\"nbf\":1700000000}", 0, ERR_OK },
		{ "{\"exp\":1700000600,\"nbf\":1700000001}", 0, ERR_UNAUTH },
		{ "{\"exp\":1700000600,\"nbf\":1700000060}", 60, ERR_OK },
		{ "{\"exp\":1700000600,\"nbf\":1700000061}", 60, ERR_UNAUTH },
	};
	struct jwt_policy policy = { .now = NOW };

	for (size_t i = 0; i < COUNT(rows); i++) {
		policy.leeway_s = rows[i].leeway;
		check_forged(*state, HS256, rows[i].claims, &policy,
		    rows[i].err);
	}
}

/* ---- policy ---- */

static void
asks_for_the_issuer_the_audience_and_the_type(void **state)
{
#define TYP(t)	  "{\"alg\":\"HS256\",\"typ\":" t "}"
#define CLAIMS(c) "{\"exp\":1700000600," c "}"
	static const struct {
		const char *header, *claims, *typ, *iss, *aud;
		enum err err;
	} rows[] = {
		{ TYP("\"JWT\""), GOOD, "JWT", NULL, NULL, ERR_OK },
		{ TYP("\"jwt\""), GOOD, "JWT", NULL, NULL, ERR_OK },
		{ TYP("\"ticket\""), GOOD, "session", NULL, NULL, ERR_UNAUTH },
		{ TYP("1"), GOOD, "JWT", NULL, NULL, ERR_UNAUTH },
		{ HS256, GOOD, "JWT", NULL, NULL, ERR_UNAUTH },
		{ HS256, CLAIMS("\"iss\":\"a\""), NULL, "a", NULL, ERR_OK },
		{ HS256, CLAIMS("\"iss\":\"A\""), NULL, "a", NULL, ERR_UNAUTH },
		{ HS256, CLAIMS("\"iss\":\"ab\""), NULL, "a", NULL,
		    ERR_UNAUTH },
		{ HS256, CLAIMS("\"iss\":[\"a\"]"), NULL, "a", NULL,
		    ERR_UNAUTH },
		{ HS256, GOOD, NULL, "a", NULL, ERR_UNAUTH },
		{ HS256, CLAIMS("\"aud\":\"x\""), NULL, NULL, "x", ERR_OK },
		{ HS256, CLAIMS("\"aud\":[\"y\",\"x\"]"), NULL, NULL, "x",
		    ERR_OK },
		{ HS256, CLAIMS("\"aud\":[\"y\",\"z\"]"), NULL, NULL, "x",
		    ERR_UNAUTH },
		{ HS256, CLAIMS("\"aud\":[]"), NULL, NULL, "x", ERR_UNAUTH },
		{ HS256, CLAIMS("\"aud\":[\"x\",1]"), NULL, NULL, "x",
		    ERR_UNAUTH },
		{ HS256, CLAIMS("\"aud\":[[\"x\"]]"), NULL, NULL, "x",
		    ERR_UNAUTH },
		{ HS256, CLAIMS("\"aud\":{\"x\":1}"), NULL, NULL, "x",
		    ERR_UNAUTH },
		{ HS256, CLAIMS("\"aud\":\"x y\""), NULL, NULL, "x",
		    ERR_UNAUTH },
		{ HS256, CLAIMS("\"aud\":null"), NULL, NULL, "x", ERR_UNAUTH },
		{ HS256, GOOD, NULL, NULL, "x", ERR_UNAUTH },
	};
	struct jwt_policy policy = { .now = NOW };

	for (size_t i = 0; i < COUNT(rows); i++) {
		policy.typ = rows[i].typ;
		policy.issuer = rows[i].iss;
		policy.audience = rows[i].aud;
		check_forged(*state, rows[i].header, rows[i].claims, &policy,
		    rows[i].err);
	}
}

static void
reads_the_example_of_rfc_7515(void **state)
{
	static const char secret_text[] =
	    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0i"
	    "PS4hcgUuTwjAzZr1Z9CAow";
	static const char token[] =
	    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJl"
	    "eHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
	    "cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
	struct jwt_policy policy = { .alg = "HS256",
		.typ = "JWT",
		.issuer = "joe",
		.now = 1300819379 };
	uint8_t data[64];
	struct secret *secret;
	struct crypt_key *key;
	json_t *claims;
	size_t len;

	(void)state;
	assert_int_equal(crypt_unbase64url(secret_text, strlen(secret_text),
			     data, sizeof(data), &len),
	    ERR_OK);
	secret = secret_new(data, len, "test");
	assert_int_equal(crypt_key_from_secret(secret, &key, NULL), ERR_OK);
	assert_int_equal(jwt_verify(token, strlen(token), key, &policy, &claims,
			     NULL),
	    ERR_OK);
	assert_true(json_is_true(
	    json_object_get(claims, "http://example.com/is_root")));
	json_decref(claims);
	policy.now = 1300819380;
	assert_int_equal(check(key, token, strlen(token), &policy), ERR_UNAUTH);
	crypt_key_free(key);
	secret_free(secret);
}

static void
knows_a_token_by_its_form(void **state)
{
	static const struct {
		const char *text;
		bool has;
	} cases[] = {
		{ "eyJh.eyJz.sig-_9", true },
		{ "..", true },
		{ "a.b", false },
		{ "a.b.c.d", false },
		{ "a.b.c=", false },
		{ "a.b.c ", false },
		{ "sk-proj-1", false },
		{ "", false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (jwt_has_form(cases[i].text, strlen(cases[i].text)) !=
		    cases[i].has)
			fail_msg("%s", cases[i].text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(knows_a_token_by_its_form),
		TEST(refuses_headers_that_are_not_strictly_ours),
		TEST(refuses_claims_that_are_not_one_object),
		TEST(refuses_a_token_of_another_shape),
		TEST(refuses_what_is_cut_short),
		TEST(refuses_a_token_in_which_any_character_is_another),
		TEST(refuses_padding_inside_the_parts),
		TEST(refuses_what_is_too_large),
		TEST(refuses_the_signature_of_another_secret),
		TEST(a_public_key_is_never_taken_for_a_shared_secret),
		TEST(signs_and_verifies_with_every_kind_of_key),
		TEST(writes_typ_and_kid_where_they_are_given),
		TEST(needs_an_exp_that_is_a_time),
		TEST(leeway_is_exact_to_the_second),
		TEST(asks_for_the_issuer_the_audience_and_the_type),
		TEST(reads_the_example_of_rfc_7515),
	};

	return cmocka_run_group_tests_name("jwt", tests, NULL, NULL);
}
