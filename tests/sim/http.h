/* SPDX-License-Identifier: MIT */
#ifndef SIM_HTTP_H
#define SIM_HTTP_H

#include "routes.h"

/*
 * http: the HTTP server, on libmicrohttpd: it reads requests, has routes
 * answer them, and sends what they said, when they said.
 */
struct http;

/* A body that is longer is answered 413. */
#define HTTP_BODY_MAX (4 * 1024 * 1024)

/* The routes, and what they name, are borrowed. */
enum err http_new(const struct routes *routes, struct http **ret,
    struct diag *diag) MUST_CHECK;
void http_free(struct http *http);

/*
 * Serve a connection, whose TLS, if any, ended before; the socket becomes
 * libmicrohttpd's.
 */
void http_adopt(struct http *http, int fd, bool tls);

#endif
