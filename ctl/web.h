/* SPDX-License-Identifier: MIT */
#ifndef CTL_WEB_H
#define CTL_WEB_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * web: one HTTP request to a site as a browser would send it, with libcurl; and
 * when its answer came.
 *
 * HTTP/1.1.  No redirect is followed, no proxy used, nothing of a .netrc sent.
 */
#define WEB_ANSWER_MAX_BYTES (64 * 1024)

struct web_site {
	const char *origin;  /* "https://example.org" */
	const char *connect; /* numeric address to dial; NULL: the name's */
	bool insecure;	     /* any certificate will do */
};

struct web_answer {
	int status;
	char *body; /* NUL-terminated */
	size_t len;
	int64_t first_ms, last_ms;	/* clock_ms() of the body's pieces */
	char address[INET6_ADDRSTRLEN]; /* our own, or "" */
};

/* Once, before the others. */
void web_init(void);

/*
 * GET a target with these header lines (a list that ends with NULL), within
 * timeout_ms.  A 101 is an answer like others, without a body.
 * ERR_UPSTREAM_TIMEOUT; ERR_LIMIT where the answer is too large; ERR_UPSTREAM:
 * diag says why.  Free what it filled with web_answer_done(), whatever it was.
 */
enum err web_get(const struct web_site *site, const char *target,
    const char *const headers[], int64_t timeout_ms, struct web_answer *ret,
    struct diag *diag) MUST_CHECK;

void web_answer_done(struct web_answer *answer);

#endif
