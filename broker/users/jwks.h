/* SPDX-License-Identifier: MIT */
#ifndef BROKER_JWKS_H
#define BROKER_JWKS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/crypt.h"
#include "common/err.h"

/*
 * jwks: a set of JSON Web Keys (RFC 7517, 7518 6, 8037), pure.
 *
 * Keys that are of no use to us are passed over: another kty or curve, `use'
 * other than "sig", key_ops without "verify", RSA of less than 2048 bits, a
 * symmetric one (kty "oct": a set that is public cannot have it).  Private
 * members are not read.
 */
struct jwks;

#define JWKS_MAX_BYTES (256 * 1024)
#define JWKS_MAX_KEYS  64

/* ERR_PROTO, ERR_LIMIT; a set without a key of use to us is ERR_PROTO. */
enum err jwks_parse(const char *text, size_t len, struct jwks **ret,
    struct diag *diag) MUST_CHECK;
void jwks_free(struct jwks *jwks); /* NULL is allowed */

/*
 * The key for a token with this kid (NULL: it has none) and alg.  With a kid it
 * has to be that key, and fit; without one the only key that fits.
 * ERR_NOTFOUND where there is none: the set may be too old; ERR_UNAUTH where
 * the key must not be used with alg.  Borrowed.
 */
enum err jwks_find(const struct jwks *jwks, const char *kid, const char *alg,
    const struct crypt_key **ret, struct diag *diag) MUST_CHECK;

/* Whether there is a key that may be used with alg. */
bool jwks_allows(const struct jwks *jwks, const char *alg);

/* The kid of the i-th key, "" where it has none; NULL past the last. */
const char *jwks_kid(const struct jwks *jwks, size_t i);

#endif
