/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SIGNING_KEY_H
#define BROKER_SIGNING_KEY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/jwt.h"
#include "common/secret.h"

/*
 * signing_key: the keys that our own tokens are signed with, HS256.
 *
 * Either there is one, the operator's secret; or they are in a file of ours,
 * for the owner alone, with random bytes: a line for each, oldest first,
 *
 *   ID CREATED KEY
 *
 * The newest one signs, and its id is the token's `kid'.  When it is old
 * enough, whoever signs next adds another; one that was replaced still
 * verifies for SIGNING_KEY_TOKEN_MAX_S, by when all that it signed has
 * expired, and is then taken out.  The file is changed as a whole, by one
 * process at a time, and read anew when another one has changed it: so
 * processes that start or rotate at the same time have the same keys.  A start
 * waits for who makes the file; who rotates waits for nobody.  Thread-safe.
 */

/* The longest that a token of ours may be good. */
#define SIGNING_KEY_TOKEN_MAX_S ((int64_t)30 * 86400)

/* Rotating more often would leave more keys than there may be. */
#define SIGNING_KEY_ROTATE_MIN_S ((int64_t)86400 / 2)
#define SIGNING_KEYS_MAX	 64

/*
 * Take the key from secret, or, where that is NULL, the keys from the file at
 * path, which is made where there is none.  A key of it is replaced after
 * rotate_s; 0: never.  ERR_LIMIT for a secret of less than 32 bytes, ERR_DENIED
 * for a file that others can read, ERR_SYS for one that is damaged or cannot be
 * made.  Before threads start.
 */
enum err signing_key_init(const struct secret *secret, const char *path,
    int64_t rotate_s, struct diag *diag) MUST_CHECK;

/* Whether there is one to sign with: signing_key_init() was called. */
bool signing_key_is_there(void);

/*
 * Sign claims with the newest key; the caller clears and frees the text.
 * ERR_LIMIT where they have no `exp' in the time that a key is kept, or are too
 * large; ERR_UNAVAIL where there is no key.
 */
enum err signing_key_sign(const json_t *claims, const char *typ, char **ret,
    struct diag *diag) MUST_CHECK;

/*
 * Check a token with the key that it names, as jwt_verify() does; the policy's
 * alg is ours.  ERR_UNAVAIL where there is no key at all.
 */
enum err signing_key_verify(const char *token, size_t len,
    const struct jwt_policy *policy, json_t **ret,
    struct diag *diag) MUST_CHECK;

/* Clear them; harmless where there are none. */
void signing_key_done(void);

#endif
