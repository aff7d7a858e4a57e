/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SIGNING_KEY_H
#define BROKER_SIGNING_KEY_H

#include "common/crypt.h"
#include "common/err.h"
#include "common/secret.h"

/*
 * signing_key: the key that our own tokens are signed with, HS256.
 *
 * There is one in a process.  It comes from the operator's secret, or else
 * from a file of ours, which is made once, for the owner alone, with random
 * bytes: processes that start at the same time end up with the same key.
 */

/*
 * Take the key from secret, or, where that is NULL, from the file at path.
 * ERR_LIMIT for a secret of less than 32 bytes, ERR_DENIED for a file that
 * others can read, ERR_SYS.  Before threads start.
 */
enum err signing_key_init(const struct secret *secret, const char *path,
    struct diag *diag) MUST_CHECK;

/* Borrowed; NULL where signing_key_init() was not called. */
const struct crypt_key *signing_key_current(void);

/* Clear it; harmless where there is none. */
void signing_key_done(void);

#endif
