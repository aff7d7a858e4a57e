/* SPDX-License-Identifier: MIT */
#ifndef BROKER_USER_KEYS_H
#define BROKER_USER_KEYS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "common/err.h"

/*
 * user_keys: the keys that the site's own tokens are checked with, and the
 * check.
 *
 * A set behind a URL is kept: fetched at the start or when it is first needed,
 * anew every `jwks_refresh', and when a token names a key that is not in it,
 * but no more often than every 30 s, whatever tokens come: one that says that
 * it was issued since the last fetch, and names another key, is ERR_UNAVAIL
 * until then. A token that names none and is not good has it fetched, too.  A
 * set that was had is used for as long as the issuer is away.  A file is read
 * anew when it has changed. One fetch at a time; four who need it wait for it,
 * at most 5 s, the others do not: ERR_UNAVAIL.
 */

/*
 * Check a JWT as `users' says: the algorithm bound to the key (`none' is not
 * one), signature, exp, nbf, iss, aud.  *ret are its claims, the caller's.
 * ERR_UNAUTH with the reason; ERR_UNAVAIL where no key can be had now.
 * Thread-safe.
 */
enum err user_keys_verify(const struct config_users *users, const char *token,
    size_t len, int64_t now, json_t **ret, struct diag *diag) MUST_CHECK;

/*
 * At the start: fetch the set of a URL, so that those who come first do not all
 * wait for it, and wait for that, 1 s at most.  NULL is allowed.
 */
void user_keys_prepare(const struct config_users *users);

/* Forget all sets, at the end. */
void user_keys_done(void);

#endif
