/* SPDX-License-Identifier: MIT */
#ifndef COMMON_SECRET_H
#define COMMON_SECRET_H

#include <stddef.h>

#include "common/err.h"

/*
 * secret: bytes that must not be seen.
 *
 * A key lives in one of these from the moment it is read until it is
 * cleared.  It cannot be printed: secret_describe() tells where it came from
 * and how long it is.
 */
struct secret;

/*
 * Read a secret from where the specification says:
 *   env:NAME         the environment variable
 *   file:/PATH       the file, without its last line ending
 *   credential:NAME  systemd's $CREDENTIALS_DIRECTORY/NAME
 * At most 64 KiB.  ERR_PROTO for another form, ERR_NOTFOUND where there is
 * nothing or it is empty, ERR_LIMIT, ERR_SYS; diag says which.  The caller
 * frees it.
 */
enum err secret_load(const char *spec, struct secret **ret,
    struct diag *diag) MUST_CHECK;

/* A copy of len bytes, with a description of where they came from. */
struct secret *secret_new(const void *data, size_t len, const char *source);

/* Clear and free; NULL is allowed. */
void secret_free(struct secret *secret);

/* The bytes, followed by a NUL; borrowed. */
const char *secret_peek(const struct secret *secret, size_t *ret_len);

/* Where it came from, as "env:NAME"; borrowed. */
const char *secret_source(const struct secret *secret);

/* "(51 bytes from env:NAME)"; borrowed, never the secret itself. */
const char *secret_describe(const struct secret *secret);

#endif
