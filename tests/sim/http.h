/* SPDX-License-Identifier: MIT */
#ifndef SIM_HTTP_H
#define SIM_HTTP_H

#include "journal.h"
#include "options.h"

/* http: the vendors' HTTP interfaces, and the tests' one, on libmicrohttpd. */
struct http;

enum err http_new(const struct options *options, struct journal *journal,
    struct http **ret, struct diag *diag) MUST_CHECK;
void http_free(struct http *http);

/* Serve a connection; the socket becomes libmicrohttpd's. */
void http_adopt(struct http *http, int fd);

#endif
