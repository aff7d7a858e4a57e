/* SPDX-License-Identifier: MIT */
#ifndef COMMON_JWT_H
#define COMMON_JWT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/crypt.h"
#include "common/err.h"

/* jwt: JSON Web Tokens in compact form (RFC 7515, 7519), on crypt. */

#define JWT_MAX_BYTES (16 * 1024)

/*
 * Whether it looks like one: three parts in the letters of base64url.  Nothing
 * else is known of it then.
 */
bool jwt_has_form(const char *text, size_t len);

/*
 * Sign claims with an algorithm that fits the key.  Header: alg, typ, and kid
 * where it is not NULL.  The caller frees the text.  ERR_DENIED, ERR_LIMIT.
 */
enum err jwt_sign(const json_t *claims, const struct crypt_key *key,
    const char *alg, const char *typ, const char *kid, char **ret) MUST_CHECK;

/*
 * The header of a token of which nothing has been checked: to find the key that
 * it may be checked with, by alg, kid and typ.  ERR_UNAUTH, ERR_LIMIT.  The
 * caller decrefs it.
 */
enum err jwt_peek_header(const char *token, size_t len, json_t **ret,
    struct diag *diag) MUST_CHECK;

/*
 * Its iat, of which nothing has been checked either: for what does not matter
 * much.  0 where there is none.
 */
int64_t jwt_peek_issued(const char *token, size_t len);

/* What a token must be; NULL members are not asked for. */
struct jwt_policy {
	const char *alg;      /* the only algorithm accepted; NULL: the key's */
	const char *typ;      /* header typ, without case */
	const char *issuer;   /* iss equals */
	const char *audience; /* aud equals, or has */
	int64_t leeway_s;     /* clock skew allowed on exp and nbf */
	int64_t now;	      /* seconds since 1970 */
};

/*
 * Check a token: form, algorithm bound to the key (none is never possible),
 * crit absent, signature, exp (required) and nbf, then the policy.  *ret are
 * its claims; the caller decrefs them.  ERR_UNAUTH with the reason, ERR_LIMIT.
 */
enum err jwt_verify(const char *token, size_t len, const struct crypt_key *key,
    const struct jwt_policy *policy, json_t **ret,
    struct diag *diag) MUST_CHECK;

#endif
