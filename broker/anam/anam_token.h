/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_TOKEN_H
#define BROKER_ANAM_TOKEN_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * anam_token: what a client holds in place of the vendor's session token.
 *
 * A JWT of ours (signing_key), in the form that Anam's SDKs look into: a type
 * that is not "legacy", an accountId.  It stands for one session of one
 * persona.
 */
struct anam_token {
	char *id;      /* jti */
	char *persona; /* what the client asked for, allowed at that time */
	char *user;    /* NULL: not known */
	int64_t issued, expires;
};

void anam_token_done(struct anam_token *token);

/*
 * Make one of a persona for a user (NULL: not known), with a random id.  The
 * caller clears and frees the text.  ERR_DENIED for a user's name of more than
 * 256 bytes, ERR_SYS.
 */
enum err anam_token_make(const char *persona, const char *user, int64_t now,
    int64_t ttl_s, struct anam_token *ret, char **ret_text,
    struct diag *diag) MUST_CHECK;

/* ERR_UNAUTH with the reason. */
enum err anam_token_verify(const char *text, size_t len, int64_t now,
    struct anam_token *ret, struct diag *diag) MUST_CHECK;

#endif
