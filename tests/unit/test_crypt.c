/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/crypt.h"
#include "common/xalloc.h"
#include "test_keys.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct secret *
some_secret(size_t len)
{
	char data[128];

	memset(data, 'k', sizeof(data));
	return secret_new(data, len, "test");
}

static struct crypt_key *
key_of(EVP_PKEY *pkey, bool private)
{
	char *pem = test_pem(pkey, private, NULL);
	struct crypt_key *key = NULL;

	assert_int_equal(crypt_key_from_pem(pem, strlen(pem), &key, NULL),
	    ERR_OK);
	free(pem);
	return key;
}

/* ---- base64, digests, random ---- */

static void
encodes_base64_as_rfc_4648_shows(void **state)
{
	static const char *const rows[][3] = {
		{ "", "", "" },
		{ "f", "Zg==", "Zg" },
		{ "fo", "Zm8=", "Zm8" },
		{ "foo", "Zm9v", "Zm9v" },
		{ "foob", "Zm9vYg==", "Zm9vYg" },
		{ "fooba", "Zm9vYmE=", "Zm9vYmE" },
		{ "foobar", "Zm9vYmFy", "Zm9vYmFy" },
		{ "\xfb\xff\xfe", "+//+", "-__-" },
	};
	char out[16], *text;
	size_t len;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		text = crypt_base64(rows[i][0], strlen(rows[i][0]));
		assert_string_equal(text, rows[i][1]);
		free(text);
		text = crypt_base64url(rows[i][0], strlen(rows[i][0]));
		assert_string_equal(text, rows[i][2]);
		free(text);
		assert_int_equal(crypt_unbase64(rows[i][1], strlen(rows[i][1]),
				     out, sizeof(out), &len),
		    ERR_OK);
		assert_int_equal(len, strlen(rows[i][0]));
		assert_memory_equal(out, rows[i][0], len);
		assert_int_equal(crypt_unbase64url(rows[i][2],
				     strlen(rows[i][2]), out, sizeof(out),
				     &len),
		    ERR_OK);
		assert_int_equal(len, strlen(rows[i][0]));
		assert_memory_equal(out, rows[i][0], len);
	}
}

static void
refuses_base64_that_has_two_spellings(void **state)
{
	static const char *const plain[] = { "Zg",
		"Zg=", "Zg===", "Z===", "====", "Zh==", "Zm9=", "Zg==\n",
		" Zg==", "Zm9v====", "Zg==Zg==", "Zm-_", "Zm9vY", "=", "A=AA" };
	static const char *const url[] = { "Zg==", "Z", "Zh", "Zm9", "Zm+/",
		"Zg\n", "Zm 9v", "Zm9vY", "Zm9v.", "Zm9v=" };
	char out[16];
	size_t len = 99;

	(void)state;
	for (size_t i = 0; i < COUNT(plain); i++)
		assert_int_equal(crypt_unbase64(plain[i], strlen(plain[i]), out,
				     sizeof(out), &len),
		    ERR_PROTO);
	for (size_t i = 0; i < COUNT(url); i++)
		assert_int_equal(crypt_unbase64url(url[i], strlen(url[i]), out,
				     sizeof(out), &len),
		    ERR_PROTO);
	assert_int_equal(crypt_unbase64("Zg\0=", 4, out, sizeof(out), &len),
	    ERR_PROTO);
	assert_int_equal(len, 99);
}

static void
decodes_base64_into_what_there_is_room_for(void **state)
{
	char out[4] = "xxx";
	size_t len;

	(void)state;
	assert_int_equal(crypt_unbase64("Zm8=", 4, out, 2, &len), ERR_OK);
	assert_int_equal(crypt_unbase64("Zm8=", 4, out, 1, &len), ERR_LIMIT);
	assert_int_equal(crypt_unbase64url("Zm9v", 4, out, 2, &len), ERR_LIMIT);
	assert_string_equal(out, "fox");
}

static void
draws_every_number_between_two(void **state)
{
	unsigned seen = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		unsigned number = crypt_random_between(2, 5);

		assert_in_range(number, 2, 5);
		seen |= 1U << number;
	}
	assert_int_equal(seen, 0x3c);
	assert_int_equal(crypt_random_between(7, 7), 7);
	assert_in_range(crypt_random_between(0, 255), 0, 255);
}

static void
digests_as_fips_180_shows(void **state)
{
	static const uint8_t sha1[20] = { 0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06,
		0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c,
		0x9c, 0xd0, 0xd8, 0x9d };
	uint8_t out[20];

	(void)state;
	crypt_sha1("abc", 3, out);
	assert_memory_equal(out, sha1, sizeof(sha1));
}

static void
answers_the_websocket_key_of_rfc_6455(void **state)
{
	char out[29];

	(void)state;
	crypt_ws_accept("dGhlIHNhbXBsZSBub25jZQ==", 24, out);
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void
random_bytes_differ_and_are_hexadecimal(void **state)
{
	char a[65], b[65];

	(void)state;
	memset(a, 'x', sizeof(a));
	crypt_random_hex(a, 32);
	crypt_random_hex(b, 32);
	assert_int_equal(strspn(a, "0123456789abcdef"), 64);
	assert_int_equal(a[64], '\0');
	assert_string_not_equal(a, b);
	assert_true(crypt_equal(a, a, 64));
	assert_false(crypt_equal(a, b, 64));
}

/* ---- keys ---- */

static void
a_secret_has_a_least_length(void **state)
{
	struct crypt_key *key = NULL;
	struct secret *secret;
	struct diag diag;

	(void)state;
	secret = some_secret(31);
	assert_int_equal(crypt_key_from_secret(secret, &key, &diag), ERR_LIMIT);
	assert_null(strstr(diag.text, "kkk"));
	assert_int_equal(crypt_key_from_short_secret(secret, 32, &key, NULL),
	    ERR_LIMIT);
	assert_null(key);
	assert_int_equal(crypt_key_from_short_secret(secret, 31, &key, NULL),
	    ERR_OK);
	crypt_key_free(key);
	secret_free(secret);

	secret = some_secret(0);
	assert_int_equal(crypt_key_from_short_secret(secret, 0, &key, NULL),
	    ERR_LIMIT);
	secret_free(secret);
	secret = some_secret(32);
	assert_int_equal(crypt_key_from_secret(secret, &key, NULL), ERR_OK);
	secret_free(secret);
	crypt_key_free(key);
}

static void
a_pem_file_is_not_a_shared_secret(void **state)
{
	EVP_PKEY *pkey = test_key("ED25519", NULL, 0);
	struct crypt_key *key = NULL;
	char *pem = test_pem(pkey, false, NULL);
	struct secret *secret = secret_new(pem, strlen(pem), "test");

	(void)state;
	assert_int_equal(crypt_key_from_secret(secret, &key, NULL), ERR_PROTO);
	assert_null(key);
	secret_free(secret);
	free(pem);
	EVP_PKEY_free(pkey);
}

static const char *const all_algs[] = { "HS256", "HS384", "HS512", "RS256",
	"RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
	"EdDSA", "none", "None", "nOnE", "", "hs256", "HS256 ", "RS1",
	"ES256K" };

/* Exactly the algorithms of the list, and they sign and verify. */
static void
check_algs(const struct crypt_key *key, const char *allowed)
{
	uint8_t *sig;
	size_t len;
	char word[16];
	bool may;

	for (size_t i = 0; i < COUNT(all_algs); i++) {
		(void)snprintf(word, sizeof(word), "%s,", all_algs[i]);
		may = strlen(word) > 1 && strstr(allowed, word) != NULL;
		assert_int_equal(crypt_key_allows(key, all_algs[i]), may);
		if (!may) {
			assert_int_equal(crypt_sign(key, all_algs[i], "data", 4,
					     &sig, &len),
			    ERR_DENIED);
			assert_int_equal(crypt_verify(key, all_algs[i], "data",
					     4, (const uint8_t *)"x", 1),
			    ERR_DENIED);
			continue;
		}
		assert_int_equal(crypt_sign(key, all_algs[i], "data", 4, &sig,
				     &len),
		    ERR_OK);
		assert_int_equal(crypt_verify(key, all_algs[i], "data", 4, sig,
				     len),
		    ERR_OK);
		assert_int_equal(crypt_verify(key, all_algs[i], "Data", 4, sig,
				     len),
		    ERR_UNAUTH);
		assert_int_equal(crypt_verify(key, all_algs[i], "data", 4, sig,
				     len - 1),
		    ERR_UNAUTH);
		assert_int_equal(crypt_verify(key, all_algs[i], "data", 4, sig,
				     0),
		    ERR_UNAUTH);
		sig[len / 2] ^= 1;
		assert_int_equal(crypt_verify(key, all_algs[i], "data", 4, sig,
				     len),
		    ERR_UNAUTH);
		memset(sig, 0, len);
		assert_int_equal(crypt_verify(key, all_algs[i], "data", 4, sig,
				     len),
		    ERR_UNAUTH);
		free(sig);
	}
	/* what failed must not be found by the next user of TLS */
	assert_int_equal(ERR_peek_error(), 0);
}

static void
the_type_of_a_key_decides_its_algorithms(void **state)
{
	static const struct {
		const char *type, *curve, *algs;
	} rows[] = {
		{ "RSA", NULL, "RS256,RS384,RS512,PS256,PS384,PS512," },
		{ "EC", "P-256", "ES256," },
		{ "EC", "P-384", "ES384," },
		{ "EC", "P-521", "ES512," },
		{ "ED25519", NULL, "EdDSA," },
	};
	struct crypt_key *key;
	struct secret *secret = some_secret(32);
	EVP_PKEY *pkey;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		pkey = test_key(rows[i].type, rows[i].curve, 2048);
		key = key_of(pkey, true);
		check_algs(key, rows[i].algs);
		crypt_key_free(key);
		EVP_PKEY_free(pkey);
	}
	assert_int_equal(crypt_key_from_secret(secret, &key, NULL), ERR_OK);
	check_algs(key, "HS256,HS384,HS512,");
	crypt_key_free(key);
	secret_free(secret);
}

static void
a_public_key_verifies_but_does_not_sign(void **state)
{
	EVP_PKEY *pkey = test_key("EC", "P-256", 0);
	struct crypt_key *pair = key_of(pkey, true);
	struct crypt_key *public = key_of(pkey, false);
	uint8_t *sig;
	size_t len;

	(void)state;
	assert_int_equal(crypt_sign(public, "ES256", "a", 1, &sig, &len),
	    ERR_DENIED);
	assert_int_equal(crypt_sign(pair, "ES256", "a", 1, &sig, &len), ERR_OK);
	assert_int_equal(len, 64);
	assert_int_equal(crypt_verify(public, "ES256", "a", 1, sig, len),
	    ERR_OK);
	free(sig);
	crypt_key_free(pair);
	crypt_key_free(public);
	EVP_PKEY_free(pkey);
}

static void
short_numbers_of_ecdsa_are_padded(void **state)
{
	EVP_PKEY *pkey = test_key("EC", "P-256", 0);
	struct crypt_key *key = key_of(pkey, true);
	uint8_t *sig;
	size_t len;

	(void)state;
	/* one r or s of 128 begins with a zero byte */
	for (unsigned i = 0; i < 600; i++) {
		assert_int_equal(crypt_sign(key, "ES256", &i, sizeof(i), &sig,
				     &len),
		    ERR_OK);
		assert_int_equal(len, 64);
		assert_int_equal(crypt_verify(key, "ES256", &i, sizeof(i), sig,
				     len),
		    ERR_OK);
		free(sig);
	}
	crypt_key_free(key);
	EVP_PKEY_free(pkey);
}

static void
a_pss_salt_is_as_long_as_the_digest(void **state)
{
	static const struct {
		int salt;
		enum err err;
	} rows[] = { { 32, ERR_OK }, { 20, ERR_UNAUTH }, { 0, ERR_UNAUTH },
		{ 33, ERR_UNAUTH } };
	EVP_PKEY *pkey = test_key("RSA", NULL, 2048);
	struct crypt_key *key = key_of(pkey, false);
	uint8_t sig[256];
	EVP_PKEY_CTX *ctx;
	EVP_MD_CTX *md;
	size_t len;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		len = sizeof(sig);
		md = EVP_MD_CTX_new();
		assert_int_equal(EVP_DigestSignInit_ex(md, &ctx, "SHA256", NULL,
				     NULL, pkey, NULL),
		    1);
		assert_true(EVP_PKEY_CTX_set_rsa_padding(ctx,
				RSA_PKCS1_PSS_PADDING) > 0);
		assert_true(
		    EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, rows[i].salt) > 0);
		assert_int_equal(EVP_DigestSign(md, sig, &len,
				     (const uint8_t *)"a", 1),
		    1);
		EVP_MD_CTX_free(md);
		assert_int_equal(crypt_verify(key, "PS256", "a", 1, sig, len),
		    rows[i].err);
	}
	crypt_key_free(key);
	EVP_PKEY_free(pkey);
}

/* A P-256 key whose curve is spelt out instead of named. */
static EVP_PKEY *
explicit_curve(void)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	EVP_PKEY *pkey = NULL;
	char group[] = "P-256", encoding[] = "explicit";
	OSSL_PARAM params[] = {
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group,
		    sizeof(group) - 1),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, encoding,
		    sizeof(encoding) - 1),
		OSSL_PARAM_END,
	};

	assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
	assert_int_equal(EVP_PKEY_CTX_set_params(ctx, params), 1);
	assert_int_equal(EVP_PKEY_generate(ctx, &pkey), 1);
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

static void
refuse_pem(EVP_PKEY *pkey, const char *password, enum err expected)
{
	char *pem = test_pem(pkey, password != NULL, password);
	struct crypt_key *key = NULL;
	struct diag diag = { "" };

	assert_int_equal(crypt_key_from_pem(pem, strlen(pem), &key, &diag),
	    expected);
	assert_null(key);
	assert_true(diag.text[0] != '\0');
	free(pem);
	EVP_PKEY_free(pkey);
}

static void
refuses_keys_that_are_weak_or_of_another_kind(void **state)
{
	(void)state;
	refuse_pem(test_key("RSA", NULL, 1024), NULL, ERR_LIMIT);
	refuse_pem(test_key("EC", "secp256k1", 0), NULL, ERR_PROTO);
	refuse_pem(test_key("EC", "P-224", 0), NULL, ERR_PROTO);
	refuse_pem(test_key("X25519", NULL, 0), NULL, ERR_PROTO);
	refuse_pem(test_key("ED448", NULL, 0), NULL, ERR_PROTO);
	refuse_pem(explicit_curve(), NULL, ERR_PROTO);
}

static void
does_not_ask_for_a_password(void **state)
{
	(void)state;
	refuse_pem(test_key("ED25519", NULL, 0), "opensesame", ERR_PROTO);
}

static void
refuses_what_is_not_pem(void **state)
{
	static const char *const rows[] = {
		"", "key", "-----BEGIN PUBLIC KEY",
		"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
		"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	};
	struct crypt_key *key = NULL;
	char *large = xcalloc(1, 65537);

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_int_equal(crypt_key_from_pem(rows[i], strlen(rows[i]),
				     &key, NULL),
		    ERR_PROTO);
	assert_int_equal(crypt_key_from_pem(large, 65537, &key, NULL),
	    ERR_LIMIT);
	assert_null(key);
	assert_int_equal(ERR_peek_error(), 0);
	free(large);
}

/* ---- the examples of the RFCs; their public keys as PEM ---- */

#define RFC7515_CLAIMS                                                     \
	"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt" \
	"cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

static const char rfc7515_rsa[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj\n"
    "NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz\n"
    "P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo\n"
    "9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB\n"
    "EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX\n"
    "FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp\n"
    "oQIDAQAB\n"
    "-----END PUBLIC KEY-----\n";
static const char rfc7515_p256[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n"
    "6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n"
    "-----END PUBLIC KEY-----\n";
static const char rfc7515_p521[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQB6SkFDxJPxrxVx9U5M2Xfne9KsMIs\n"
    "sleY+TTrBOPGuuNwGlenkQ6dgb82MVno68sVXWNJ9L22zPipTFxZx6rBAaQANKZE\n"
    "DjdnUNI3H9G9wsjztx0vTuXqNDLIFcyjFWD+XZOH7HdLVYOGMOXLv1qMvgqR3QBk\n"
    "xpmaH25uZ/rd7eTIyPY=\n"
    "-----END PUBLIC KEY-----\n";
static const char rfc8037_ed25519[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
    "-----END PUBLIC KEY-----\n";

static const struct {
	const char *alg, *pem, *input, *signature;
} rfc_rows[] = {
	{ "RS256", rfc7515_rsa, "eyJhbGciOiJSUzI1NiJ9." RFC7515_CLAIMS,
	    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7"
	    "AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4"
	    "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K"
	    "0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv"
	    "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB"
	    "p0igcN_IoypGlUPQGe77Rw" },
	{ "ES256", rfc7515_p256, "eyJhbGciOiJFUzI1NiJ9." RFC7515_CLAIMS,
	    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSA"
	    "pmWQxfKTUJqPP3-Kg6NU1Q" },
	{ "ES512", rfc7515_p521, "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA",
	    "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZq"
	    "wqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8Kp"
	    "EHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn" },
	{ "EdDSA", rfc8037_ed25519,
	    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
	    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5B"
	    "hVsPt9g7sVvpAr_MuM0KAg" },
};

static void
verifies_the_signatures_of_rfc_7515_and_rfc_8037(void **state)
{
	struct crypt_key *key;
	uint8_t sig[256];
	size_t len;

	(void)state;
	for (size_t i = 0; i < COUNT(rfc_rows); i++) {
		assert_int_equal(crypt_key_from_pem(rfc_rows[i].pem,
				     strlen(rfc_rows[i].pem), &key, NULL),
		    ERR_OK);
		assert_int_equal(crypt_unbase64url(rfc_rows[i].signature,
				     strlen(rfc_rows[i].signature), sig,
				     sizeof(sig), &len),
		    ERR_OK);
		assert_int_equal(crypt_verify(key, rfc_rows[i].alg,
				     rfc_rows[i].input,
				     strlen(rfc_rows[i].input), sig, len),
		    ERR_OK);
		crypt_key_free(key);
	}
}

static void
makes_the_hmac_of_rfc_7515(void **state)
{
	static const char secret_text[] =
	    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0i"
	    "PS4hcgUuTwjAzZr1Z9CAow";
	static const char input[] =
	    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." RFC7515_CLAIMS;
	uint8_t data[64], *sig;
	struct secret *secret;
	struct crypt_key *key;
	size_t len;
	char *text;

	(void)state;
	assert_int_equal(crypt_unbase64url(secret_text, strlen(secret_text),
			     data, sizeof(data), &len),
	    ERR_OK);
	secret = secret_new(data, len, "test");
	assert_int_equal(crypt_key_from_secret(secret, &key, NULL), ERR_OK);
	assert_int_equal(crypt_sign(key, "HS256", input, strlen(input), &sig,
			     &len),
	    ERR_OK);
	text = crypt_base64url(sig, len);
	assert_string_equal(text,
	    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
	free(text);
	free(sig);
	crypt_key_free(key);
	secret_free(secret);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes_base64_as_rfc_4648_shows),
		cmocka_unit_test(refuses_base64_that_has_two_spellings),
		cmocka_unit_test(decodes_base64_into_what_there_is_room_for),
		cmocka_unit_test(draws_every_number_between_two),
		cmocka_unit_test(digests_as_fips_180_shows),
		cmocka_unit_test(answers_the_websocket_key_of_rfc_6455),
		cmocka_unit_test(random_bytes_differ_and_are_hexadecimal),
		cmocka_unit_test(a_secret_has_a_least_length),
		cmocka_unit_test(a_pem_file_is_not_a_shared_secret),
		cmocka_unit_test(the_type_of_a_key_decides_its_algorithms),
		cmocka_unit_test(a_public_key_verifies_but_does_not_sign),
		cmocka_unit_test(short_numbers_of_ecdsa_are_padded),
		cmocka_unit_test(a_pss_salt_is_as_long_as_the_digest),
		cmocka_unit_test(refuses_keys_that_are_weak_or_of_another_kind),
		cmocka_unit_test(does_not_ask_for_a_password),
		cmocka_unit_test(refuses_what_is_not_pem),
		cmocka_unit_test(
		    verifies_the_signatures_of_rfc_7515_and_rfc_8037),
		cmocka_unit_test(makes_the_hmac_of_rfc_7515),
	};

	return cmocka_run_group_tests_name("crypt", tests, NULL, NULL);
}
