/* SPDX-License-Identifier: MIT */
#ifndef COMMON_CRYPT_H
#define COMMON_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/secret.h"

/* crypt: the only user of libcrypto: random bytes, digests, base64, keys. */

/* Fill with random bytes; aborts where the system has none. */
void crypt_random(void *out, size_t len);

/* A number of them, both among them, for what must not come all at once. */
unsigned crypt_random_between(uint8_t low, uint8_t high);

/* len random bytes as 2*len lower-case hexadecimal digits and a NUL. */
void crypt_random_hex(char *out, size_t len);

/* Compare in constant time. */
bool crypt_equal(const void *a, const void *b, size_t len);

void crypt_sha1(const void *data, size_t len, uint8_t out[20]);

/*
 * Base64 with padding (RFC 4648 4), and base64url without (5).  Encoding
 * makes a NUL-terminated string; the caller frees it.  Decoding is strict:
 * no blanks, right padding, no stray bits; ERR_PROTO, and ERR_LIMIT where more
 * than size bytes would come out.  out may be text itself.
 */
char *crypt_base64(const void *data, size_t len);
char *crypt_base64url(const void *data, size_t len);
enum err crypt_unbase64(const char *text, size_t len, void *out, size_t size,
    size_t *ret_len) MUST_CHECK;
enum err crypt_unbase64url(const char *text, size_t len, void *out,
    size_t size, size_t *ret_len) MUST_CHECK;

/*
 * Sec-WebSocket-Accept for a key (RFC 6455 4.2.2): 28 characters and a NUL.
 */
void crypt_ws_accept(const char *key, size_t key_len, char out[29]);

/*
 * A signing or verifying key and the algorithms of RFC 7518 it may be used
 * with; the key's type decides which: a shared secret is HS256, HS384, HS512
 * only; RSA is RS and PS; P-256, P-384, P-521 are ES256, ES384, ES512;
 * Ed25519 is EdDSA.
 */
struct crypt_key;

/* A shared secret of at least 32 bytes, else ERR_LIMIT.  The key copies it. */
enum err crypt_key_from_secret(const struct secret *secret,
    struct crypt_key **ret, struct diag *diag) MUST_CHECK;

/* As above for a vendor's secret that may be shorter (LiveKit): min bytes. */
enum err crypt_key_from_short_secret(const struct secret *secret, size_t min,
    struct crypt_key **ret, struct diag *diag) MUST_CHECK;

/* A PEM public key (or private key, to sign); RSA of at least 2048 bits. */
enum err crypt_key_from_pem(const void *pem, size_t len,
    struct crypt_key **ret, struct diag *diag) MUST_CHECK;

/*
 * Public keys of their numbers, big-endian, as a JSON Web Key has them
 * (RFC 7518 6, RFC 8037 2): an RSA modulus and exponent, the point of a curve
 * ("P-256", "P-384", "P-521"), an Ed25519 key.  ERR_PROTO for what is no such
 * key, ERR_LIMIT for RSA of less than 2048 bits or more than 16384.
 */
enum err crypt_key_from_rsa(const void *n, size_t n_len, const void *e,
    size_t e_len, struct crypt_key **ret, struct diag *diag) MUST_CHECK;
enum err crypt_key_from_point(const char *curve, const void *x, size_t x_len,
    const void *y, size_t y_len, struct crypt_key **ret,
    struct diag *diag) MUST_CHECK;
enum err crypt_key_from_ed25519(const void *x, size_t len,
    struct crypt_key **ret, struct diag *diag) MUST_CHECK;

void crypt_key_free(struct crypt_key *key);

/* Whether this algorithm ("HS256", ...) may be used with this key. */
bool crypt_key_allows(const struct crypt_key *key, const char *alg);

/* The i-th of all algorithms; NULL past the last. */
const char *crypt_algorithm(size_t i);

/*
 * Sign data (RFC 7518 3); *ret_signature is freed by the caller.  ERR_DENIED
 * where the algorithm does not fit the key.
 */
enum err crypt_sign(const struct crypt_key *key, const char *alg,
    const void *data, size_t len, uint8_t **ret_signature,
    size_t *ret_len) MUST_CHECK;

/* ERR_UNAUTH where it does not verify; ERR_DENIED as above. */
enum err crypt_verify(const struct crypt_key *key, const char *alg,
    const void *data, size_t len, const uint8_t *signature,
    size_t signature_len) MUST_CHECK;

#endif
