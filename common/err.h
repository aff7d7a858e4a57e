/* SPDX-License-Identifier: MIT */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

/*
 * err: the error codes every fallible function returns.
 *
 * Zero is success.  The list, with each code's HTTP status, its name on the
 * wire and its text, is common/err.def and nowhere else.
 */
enum err {
#define ERR(name, http, code, text) ERR_##name,
#include "common/err.def"
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/*
 * Why something failed, for the person who has to mend it.  A function that
 * takes one fills it whenever it fails; NULL is allowed and drops the text.
 * It never holds a secret or a peer's content.
 */
struct diag {
	char text[256];
};

/* Set the text, cut to its size; a NULL diag is allowed. */
void diag_set(struct diag *diag, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Text for logs and for the operator; never NULL. */
const char *err_text(enum err code);

/* Name for the error body's "code" member; never NULL. */
const char *err_code(enum err code);

/* HTTP status that this code is answered with. */
int err_http_status(enum err code);

#endif
