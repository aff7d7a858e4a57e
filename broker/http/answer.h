/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANSWER_H
#define BROKER_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * answer: what all answers to a web server have in common: their head, in the
 * form of RFC 3875 6.3, and their line in the log.
 */

/*
 * Add "name: value" to *headers, which is NULL at first and which the caller
 * frees.  A name that is no token, and a value with CR, LF or NUL, is dropped.
 */
void answer_add_header(char **headers, const char *name, const char *value);

/*
 * The head; the caller frees it.  content_type is NULL for an answer without a
 * body; length is negative where it is not known, since the body comes in
 * pieces.  The standard ones are there where headers, which may be NULL, have
 * not got them: of every answer, WWW-Authenticate of a 401, Retry-After of a
 * 503.
 */
char *answer_head(int status, const char *content_type, int64_t length,
    const char *headers, size_t *ret_len);

/*
 * The words of a request for answer_log(): the caller frees them.  Whatever is
 * not known is NULL.
 */
char *answer_words(const char *method, const char *path, const char *client);

enum answer_end {
	ANSWER_TAKEN,
	ANSWER_NOT_TAKEN, /* by a web server that left, or reads nothing */
	ANSWER_LEFT,	  /* either side left before the answer was complete */
};

/* Log the end of a request; status 0: no answer had begun. */
void answer_log(const char *words, int status, int64_t started_ms,
    enum answer_end end);

#endif
