/* SPDX-License-Identifier: MIT */
#ifndef COMMON_HTTP_H
#define COMMON_HTTP_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* http: what the answers of both programs have in common.  Pure. */

/* The reason phrase of a status (RFC 9110 15); never NULL. */
const char *http_phrase(int status);

/*
 * The seconds of a Retry-After (RFC 9110 10.2.3) of somebody else's; 0 where it
 * is NULL, no number (nobody sends a date), or more than a day.
 */
int64_t http_retry_after_s(const char *text, size_t len);

/*
 * The body of every refusal, {"error":{"code":...,"message":...}}.  code is one
 * of ours; a message that is no UTF-8 is replaced by it.  The caller decrefs.
 */
json_t *http_error(const char *code, const char *message);

#endif
