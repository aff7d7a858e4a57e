/* SPDX-License-Identifier: MIT */
#include "common/crypt.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "common/xalloc.h"

#define SECRET_MIN_BYTES 32
#define PEM_MAX_BYTES	 (64 * 1024)
#define RSA_MIN_BITS	 2048
#define RSA_MAX_BYTES	 2048 /* of the modulus: 16384 bits */
#define RSA_MAX_EXPONENT 8    /* bytes: more is slow, and nobody has it */
#define EC_MAX_BYTES	 66   /* of r or s: P-521 */
#define SIG_MAX_BYTES	 2048 /* RSA of 16384 bits, libcrypto's largest */

enum key_type {
	KEY_SECRET,
	KEY_RSA,
	KEY_P256,
	KEY_P384,
	KEY_P521,
	KEY_ED25519,
};

struct crypt_key {
	enum key_type type;
	bool can_sign;
	struct secret *secret; /* KEY_SECRET */
	EVP_PKEY *pkey;	       /* all others */
};

struct alg {
	const char *name;
	enum key_type type;
	const char *digest; /* NULL: part of the algorithm */
	bool pss;
	size_t ec_bytes; /* of r and of s */
};

static const struct alg algs[] = {
	{ "HS256", KEY_SECRET, "SHA256", false, 0 },
	{ "HS384", KEY_SECRET, "SHA384", false, 0 },
	{ "HS512", KEY_SECRET, "SHA512", false, 0 },
	{ "RS256", KEY_RSA, "SHA256", false, 0 },
	{ "RS384", KEY_RSA, "SHA384", false, 0 },
	{ "RS512", KEY_RSA, "SHA512", false, 0 },
	{ "PS256", KEY_RSA, "SHA256", true, 0 },
	{ "PS384", KEY_RSA, "SHA384", true, 0 },
	{ "PS512", KEY_RSA, "SHA512", true, 0 },
	{ "ES256", KEY_P256, "SHA256", false, 32 },
	{ "ES384", KEY_P384, "SHA384", false, 48 },
	{ "ES512", KEY_P521, "SHA512", false, 66 },
	{ "EdDSA", KEY_ED25519, NULL, false, 0 },
};

/* ---- random bytes, digests ---- */

void
crypt_random(void *out, size_t len)
{
	uint8_t *p = out;
	ssize_t n;

	/*
	 * The kernel's generator, not libcrypto's, which keeps a state of
	 * tens of kilobytes in every thread and process.
	 */
	while (len > 0) {
		n = getrandom(p, len, 0);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}

unsigned
crypt_random_between(uint8_t low, uint8_t high)
{
	uint32_t random;

	crypt_random(&random, sizeof(random));
	return low + random % (high - low + 1U);
}

void
crypt_random_hex(char *out, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t byte;

	crypt_random(out, len);
	/* spread from the end, so that no byte is overwritten unread */
	for (size_t i = len; i-- > 0;) {
		byte = (uint8_t)out[i];
		out[2 * i] = digits[byte >> 4];
		out[2 * i + 1] = digits[byte & 15];
	}
	out[2 * len] = '\0';
}

bool
crypt_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}

/*
 * Looked up once: EVP_sha1() is looked up again by every digest, under locks,
 * which in a forked process are pages to be copied.
 */
static EVP_MD *md_sha1;
static pthread_once_t md_once = PTHREAD_ONCE_INIT;

static void
fetch_sha1(void)
{
	md_sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
	if (md_sha1 == NULL)
		abort();
}

void
crypt_sha1(const void *data, size_t len, uint8_t out[20])
{
	(void)pthread_once(&md_once, fetch_sha1);
	/* only memory or a broken libcrypto can make it fail */
	if (EVP_Digest(data, len, out, NULL, md_sha1, NULL) != 1)
		abort();
}

/* ---- base64 ---- */

static const char alphabet_plain[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char alphabet_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Encode into out, which has room for 4 * ceil(len / 3) and a NUL. */
static void
encode(const char *alphabet, bool pad, const uint8_t *in, size_t len, char *out)
{
	uint32_t bits;
	size_t n;

	for (size_t i = 0; i < len; i += 3) {
		n = len - i < 3 ? len - i : 3;
		bits = (uint32_t)in[i] << 16;
		if (n > 1)
			bits |= (uint32_t)in[i + 1] << 8;
		if (n > 2)
			bits |= in[i + 2];
		for (size_t k = 0; k <= n; k++)
			*out++ = alphabet[bits >> (18 - 6 * k) & 63];
		for (size_t k = n; pad && k < 3; k++)
			*out++ = '=';
	}
	*out = '\0';
}

char *
crypt_base64(const void *data, size_t len)
{
	char *out = xcalloc(len / 3 + 2, 4);

	encode(alphabet_plain, true, data, len, out);
	return out;
}

char *
crypt_base64url(const void *data, size_t len)
{
	char *out = xcalloc(len / 3 + 2, 4);

	encode(alphabet_url, false, data, len, out);
	return out;
}

/* The value of each digit; 64 is none. */
static uint8_t values_plain[256], values_url[256];

static void
fill_values(const char *alphabet, uint8_t values[256])
{
	memset(values, 64, 256);
	for (uint8_t i = 0; i < 64; i++)
		values[(unsigned char)alphabet[i]] = i;
}

/* Before main(), while there is one thread. */
__attribute__((constructor)) static void
crypt_set_up(void)
{
	fill_values(alphabet_plain, values_plain);
	fill_values(alphabet_url, values_url);
}

/* Decode digits without padding. */
static enum err
decode(const uint8_t values[256], const char *text, size_t len, uint8_t *out,
    size_t size, size_t *ret_len)
{
	size_t tail = len % 4, n = len / 4 * 3 + (tail > 0 ? tail - 1 : 0);
	uint32_t bits = 0, value;
	size_t done = 0;

	if (tail == 1)
		return ERR_PROTO;
	if (n > size)
		return ERR_LIMIT;
	for (size_t i = 0; i < len; i++) {
		value = values[(unsigned char)text[i]];
		if (value > 63)
			return ERR_PROTO;
		bits = bits << 6 | value;
		if (i % 4 > 0)
			out[done++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
	}
	/* two spellings of the same bytes would be two tokens for one */
	if ((tail == 2 && (bits & 15) != 0) || (tail == 3 && (bits & 3) != 0))
		return ERR_PROTO;
	*ret_len = done;
	return ERR_OK;
}

enum err
crypt_unbase64(const char *text, size_t len, void *out, size_t size,
    size_t *ret_len)
{
	if (len % 4 != 0)
		return ERR_PROTO;
	if (len > 0 && text[len - 1] == '=')
		len -= text[len - 2] == '=' ? 2 : 1;
	return decode(values_plain, text, len, out, size, ret_len);
}

enum err
crypt_unbase64url(const char *text, size_t len, void *out, size_t size,
    size_t *ret_len)
{
	return decode(values_url, text, len, out, size, ret_len);
}

void
crypt_ws_accept(const char *key, size_t key_len, char out[29])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char *text = xcalloc(1, key_len + sizeof(guid));
	uint8_t sha1[20];

	memcpy(text, key, key_len);
	memcpy(text + key_len, guid, sizeof(guid) - 1);
	crypt_sha1(text, key_len + sizeof(guid) - 1, sha1);
	free(text);
	encode(alphabet_plain, true, sha1, sizeof(sha1), out);
}

/* ---- keys ---- */

enum err
crypt_key_from_secret(const struct secret *secret, struct crypt_key **ret,
    struct diag *diag)
{
	return crypt_key_from_short_secret(secret, SECRET_MIN_BYTES, ret, diag);
}

enum err
crypt_key_from_short_secret(const struct secret *secret, size_t min,
    struct crypt_key **ret, struct diag *diag)
{
	struct crypt_key *key;
	const char *data;
	size_t len;

	data = secret_peek(secret, &len);
	if (len == 0 || len < min) {
		diag_set(diag, "a secret of at least %zu bytes is needed %s",
		    min, secret_describe(secret));
		return ERR_LIMIT;
	}
	/* a public key is no secret: whoever has it could sign */
	if (memmem(data, len, "-----BEGIN ", 11) != NULL) {
		diag_set(diag, "this is a PEM file, not a shared secret %s",
		    secret_describe(secret));
		return ERR_PROTO;
	}
	key = xcalloc(1, sizeof(*key));
	key->type = KEY_SECRET;
	key->can_sign = true;
	key->secret = secret_new(data, len, "a key");
	*ret = key;
	return ERR_OK;
}

/* An encrypted key: never ask the terminal. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static EVP_PKEY *
read_pem(const void *pem, size_t len, bool private)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)len);
	EVP_PKEY *pkey;

	if (bio == NULL)
		abort();
	if (private)
		pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
	else
		pkey = PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL);
	BIO_free(bio);
	/* what stays in the queue would look like a TLS error later */
	ERR_clear_error();
	return pkey;
}

/* Curves by name only: explicit parameters may be of a curve with a trap. */
static enum err
ec_type(const EVP_PKEY *pkey, enum key_type *ret, struct diag *diag)
{
	char group[32] = "";
	size_t len;
	int is_explicit = 0;

	(void)EVP_PKEY_get_int_param(pkey,
	    OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &is_explicit);
	(void)EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len);
	if (is_explicit == 0 && strcmp(group, SN_X9_62_prime256v1) == 0)
		*ret = KEY_P256;
	else if (is_explicit == 0 && strcmp(group, SN_secp384r1) == 0)
		*ret = KEY_P384;
	else if (is_explicit == 0 && strcmp(group, SN_secp521r1) == 0)
		*ret = KEY_P521;
	else {
		diag_set(diag, "an EC key has to be of P-256, P-384 or P-521");
		return ERR_PROTO;
	}
	return ERR_OK;
}

static enum err
pkey_type(const EVP_PKEY *pkey, enum key_type *ret, struct diag *diag)
{
	if (EVP_PKEY_is_a(pkey, "RSA") == 1) {
		if (EVP_PKEY_get_bits(pkey) < RSA_MIN_BITS) {
			diag_set(diag, "an RSA key needs at least %d bits",
			    RSA_MIN_BITS);
			return ERR_LIMIT;
		}
		*ret = KEY_RSA;
		return ERR_OK;
	}
	if (EVP_PKEY_is_a(pkey, "EC") == 1)
		return ec_type(pkey, ret, diag);
	if (EVP_PKEY_is_a(pkey, "ED25519") == 1) {
		*ret = KEY_ED25519;
		return ERR_OK;
	}
	diag_set(diag, "a key has to be RSA, EC or Ed25519");
	return ERR_PROTO;
}

/* Take a key that has been read; it is freed where it will not do. */
static enum err
take_pkey(EVP_PKEY *pkey, bool can_sign, struct crypt_key **ret,
    struct diag *diag)
{
	struct crypt_key *key;
	enum key_type type;
	enum err err = pkey_type(pkey, &type, diag);

	ERR_clear_error();
	if (err != ERR_OK) {
		EVP_PKEY_free(pkey);
		return err;
	}
	key = xcalloc(1, sizeof(*key));
	key->type = type;
	key->can_sign = can_sign;
	key->pkey = pkey;
	*ret = key;
	return ERR_OK;
}

enum err
crypt_key_from_pem(const void *pem, size_t len, struct crypt_key **ret,
    struct diag *diag)
{
	EVP_PKEY *pkey;
	bool private = true;

	if (len > PEM_MAX_BYTES) {
		diag_set(diag, "a PEM key has at most %d bytes", PEM_MAX_BYTES);
		return ERR_LIMIT;
	}
	pkey = read_pem(pem, len, true);
	if (pkey == NULL) {
		private = false;
		pkey = read_pem(pem, len, false);
	}
	if (pkey == NULL) {
		diag_set(diag, "no key in PEM form without a password");
		return ERR_PROTO;
	}
	return take_pkey(pkey, private, ret, diag);
}

/* ---- public keys of numbers ---- */

/* Of what was built, which is freed; NULL where it is no key. */
static EVP_PKEY *
build_pkey(const char *type, OSSL_PARAM_BLD *build)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;

	if (params == NULL || ctx == NULL ||
	    EVP_PKEY_fromdata_init(ctx) != 1)
		abort(); /* out of memory */
	if (EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	ERR_clear_error();
	return pkey;
}

static bool
is_sound(EVP_PKEY *pkey)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
	bool sound;

	if (ctx == NULL)
		abort();
	sound = EVP_PKEY_public_check(ctx) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return sound;
}

static enum err
take_public(EVP_PKEY *pkey, struct crypt_key **ret, struct diag *diag)
{
	if (pkey != NULL && is_sound(pkey))
		return take_pkey(pkey, false, ret, diag);
	EVP_PKEY_free(pkey);
	diag_set(diag, "the numbers are no key");
	return ERR_PROTO;
}

enum err
crypt_key_from_rsa(const void *n, size_t n_len, const void *e, size_t e_len,
    struct crypt_key **ret, struct diag *diag)
{
	OSSL_PARAM_BLD *build;
	BIGNUM *modulus, *exponent;
	EVP_PKEY *pkey;

	if (n_len < RSA_MIN_BITS / 8 || n_len > RSA_MAX_BYTES || e_len == 0 ||
	    e_len > RSA_MAX_EXPONENT) {
		diag_set(diag, "an RSA key has %d to %d bits, and an exponent "
			       "of at most %d",
		    RSA_MIN_BITS, RSA_MAX_BYTES * 8, RSA_MAX_EXPONENT * 8);
		return ERR_LIMIT;
	}
	build = OSSL_PARAM_BLD_new();
	modulus = BN_bin2bn(n, (int)n_len, NULL);
	exponent = BN_bin2bn(e, (int)e_len, NULL);
	if (build == NULL || modulus == NULL || exponent == NULL ||
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) !=
		1 ||
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) != 1)
		abort();
	pkey = build_pkey("RSA", build);
	BN_free(modulus);
	BN_free(exponent);
	/* checking its length first: a small one is told as such */
	if (pkey != NULL && EVP_PKEY_get_bits(pkey) < RSA_MIN_BITS)
		return take_pkey(pkey, false, ret, diag);
	return take_public(pkey, ret, diag);
}

enum err
crypt_key_from_point(const char *curve, const void *x, size_t x_len,
    const void *y, size_t y_len, struct crypt_key **ret, struct diag *diag)
{
	static const struct {
		const char *curve, *group;
		size_t len;
	} curves[] = {
		{ "P-256", SN_X9_62_prime256v1, 32 },
		{ "P-384", SN_secp384r1, 48 },
		{ "P-521", SN_secp521r1, 66 },
	};
	uint8_t point[1 + 2 * EC_MAX_BYTES] = { POINT_CONVERSION_UNCOMPRESSED };
	OSSL_PARAM_BLD *build;
	size_t i = 0;

	while (i < 3 && strcmp(curves[i].curve, curve) != 0)
		i++;
	/* RFC 7518 6.2.1.2: always of the full length */
	if (i == 3 || x_len != curves[i].len || y_len != curves[i].len) {
		diag_set(diag, "an EC key is a point of P-256, P-384 or P-521");
		return ERR_PROTO;
	}
	memcpy(point + 1, x, x_len);
	memcpy(point + 1 + x_len, y, y_len);
	build = OSSL_PARAM_BLD_new();
	if (build == NULL ||
	    OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME,
		curves[i].group, 0) != 1 ||
	    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY,
		point, 1 + x_len + y_len) != 1)
		abort();
	return take_public(build_pkey("EC", build), ret, diag);
}

enum err
crypt_key_from_ed25519(const void *x, size_t len, struct crypt_key **ret,
    struct diag *diag)
{
	EVP_PKEY *pkey =
	    EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, x, len);

	ERR_clear_error();
	if (pkey != NULL)
		return take_pkey(pkey, false, ret, diag);
	diag_set(diag, "an Ed25519 key has 32 bytes");
	return ERR_PROTO;
}

void
crypt_key_free(struct crypt_key *key)
{
	if (key == NULL)
		return;
	secret_free(key->secret);
	EVP_PKEY_free(key->pkey); /* NULL is allowed; clears what is private */
	free(key);
}

/* ---- signatures ---- */

/* The algorithm of this name, if it may be used with the key. */
static const struct alg *
find_alg(const struct crypt_key *key, const char *name)
{
	for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
		if (strcmp(algs[i].name, name) == 0 &&
		    algs[i].type == key->type)
			return &algs[i];
	}
	return NULL;
}

bool
crypt_key_allows(const struct crypt_key *key, const char *alg)
{
	return find_alg(key, alg) != NULL;
}

const char *
crypt_algorithm(size_t i)
{
	return i < sizeof(algs) / sizeof(algs[0]) ? algs[i].name : NULL;
}

static void
hmac(const struct crypt_key *key, const struct alg *alg, const void *data,
    size_t len, uint8_t out[EVP_MAX_MD_SIZE], size_t *ret_len)
{
	const char *secret;
	size_t secret_len;

	secret = secret_peek(key->secret, &secret_len);
	if (EVP_Q_mac(NULL, "HMAC", NULL, alg->digest, NULL, secret, secret_len,
		data, len, out, EVP_MAX_MD_SIZE, ret_len) == NULL)
		abort();
}

static bool
set_padding(EVP_PKEY_CTX *ctx, const struct alg *alg)
{
	if (alg->type != KEY_RSA)
		return true;
	if (!alg->pss)
		return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0;
	/* RFC 7518 3.5: the salt is as long as the digest, MGF1 uses it too */
	return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
	    EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) > 0;
}

/* DER of ECDSA to the fixed-length r || s of RFC 7518 3.4. */
static bool
ec_from_der(const struct alg *alg, const uint8_t *der, size_t len, uint8_t *out)
{
	int n = (int)alg->ec_bytes;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
	bool good;

	good = sig != NULL &&
	    BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, n) == n &&
	    BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + n, n) == n;
	ECDSA_SIG_free(sig);
	return good;
}

/* And back; out holds SIG_MAX_BYTES.  The length, 0 where it fails. */
static size_t
ec_to_der(const struct alg *alg, const uint8_t *raw, uint8_t *out)
{
	int n = (int)alg->ec_bytes, len;
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(raw, n, NULL);
	BIGNUM *s = BN_bin2bn(raw + n, n, NULL);

	if (sig == NULL || r == NULL || s == NULL ||
	    ECDSA_SIG_set0(sig, r, s) != 1)
		abort();
	len = i2d_ECDSA_SIG(sig, &out);
	ECDSA_SIG_free(sig);
	return len > 0 ? (size_t)len : 0;
}

/* Sign with a key pair into out of *len bytes. */
static bool
sign_pkey(const struct crypt_key *key, const struct alg *alg, const void *data,
    size_t data_len, uint8_t *out, size_t *len)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *ctx = NULL;
	bool good;

	if (md == NULL)
		abort();
	good = EVP_DigestSignInit_ex(md, &ctx, alg->digest, NULL, NULL,
		   key->pkey, NULL) == 1 &&
	    set_padding(ctx, alg) &&
	    EVP_DigestSign(md, out, len, data, data_len) == 1;
	EVP_MD_CTX_free(md);
	ERR_clear_error();
	return good;
}

static bool
verify_pkey(const struct crypt_key *key, const struct alg *alg,
    const void *data, size_t data_len, const uint8_t *sig, size_t len)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *ctx = NULL;
	bool good;

	if (md == NULL)
		abort();
	good = EVP_DigestVerifyInit_ex(md, &ctx, alg->digest, NULL, NULL,
		   key->pkey, NULL) == 1 &&
	    set_padding(ctx, alg) &&
	    EVP_DigestVerify(md, sig, len, data, data_len) == 1;
	EVP_MD_CTX_free(md);
	ERR_clear_error();
	return good;
}

enum err
crypt_sign(const struct crypt_key *key, const char *alg_name, const void *data,
    size_t len, uint8_t **ret_signature, size_t *ret_len)
{
	const struct alg *alg = find_alg(key, alg_name);
	uint8_t out[SIG_MAX_BYTES], raw[2 * EC_MAX_BYTES];
	size_t out_len = sizeof(out);
	const uint8_t *sig = out;

	if (alg == NULL || !key->can_sign)
		return ERR_DENIED;
	if (alg->type == KEY_SECRET)
		hmac(key, alg, data, len, out, &out_len);
	else if (!sign_pkey(key, alg, data, len, out, &out_len))
		return ERR_SYS;
	if (alg->ec_bytes > 0) {
		if (!ec_from_der(alg, out, out_len, raw))
			return ERR_SYS;
		sig = raw;
		out_len = 2 * alg->ec_bytes;
	}
	*ret_signature = xcalloc(1, out_len);
	memcpy(*ret_signature, sig, out_len);
	*ret_len = out_len;
	return ERR_OK;
}

enum err
crypt_verify(const struct crypt_key *key, const char *alg_name,
    const void *data, size_t len, const uint8_t *signature,
    size_t signature_len)
{
	const struct alg *alg = find_alg(key, alg_name);
	uint8_t buf[SIG_MAX_BYTES];
	size_t n;

	if (alg == NULL)
		return ERR_DENIED;
	if (alg->type == KEY_SECRET) {
		hmac(key, alg, data, len, buf, &n);
		return signature_len == n && crypt_equal(buf, signature, n)
		    ? ERR_OK
		    : ERR_UNAUTH;
	}
	if (alg->ec_bytes > 0) {
		if (signature_len != 2 * alg->ec_bytes)
			return ERR_UNAUTH;
		signature_len = ec_to_der(alg, signature, buf);
		signature = buf;
	}
	return verify_pkey(key, alg, data, len, signature, signature_len)
	    ? ERR_OK
	    : ERR_UNAUTH;
}
