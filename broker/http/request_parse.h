/* SPDX-License-Identifier: MIT */
#ifndef BROKER_REQUEST_PARSE_H
#define BROKER_REQUEST_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * request_parse: what a web server says in the parameters of a request
 * (RFC 3875 4.1), read strictly.  Pure.  envp is a list of "NAME=value" that
 * ends with NULL, as in environ(7).
 */

#define REQUEST_PARAMS_MAX	 256
#define REQUEST_PARAMS_MAX_BYTES (64 * 1024)
#define REQUEST_URI_MAX_BYTES	 8192
#define REQUEST_METHOD_MAX_BYTES 32

/*
 * The value of a parameter, borrowed, or NULL.  HTTP_PROXY is never there:
 * a client sets it with a header, and libraries take it for their proxy.
 */
const char *request_parse_param(char *const envp[], const char *name);

/* The same for a request header by its HTTP name, without case. */
const char *request_parse_header(char *const envp[], const char *name);

/*
 * Check what every request must keep to: the number and size of parameters
 * (ERR_HEAD), no control character in what comes from the client, a method
 * that is a token, one Origin at most, a CONTENT_LENGTH that is a number where
 * there is one (ERR_PROTO).
 */
enum err request_parse_check(char *const envp[], struct diag *diag) MUST_CHECK;

/*
 * CONTENT_LENGTH: digits alone, at most INT64_MAX, else ERR_PROTO.  NULL and
 * the empty string, which some servers send for "no body", are ERR_PROTO too.
 */
enum err request_parse_length(const char *text, uint64_t *ret) MUST_CHECK;

/*
 * The path of the request: of REQUEST_URI without the query, else SCRIPT_NAME
 * and PATH_INFO.  It begins with "/" and has no control or other character
 * that may not stand in a path, no escape, no "//" and no dot segment: two
 * readers of it cannot differ.  Anything else is ERR_PROTO, over the maximum
 * ERR_HEAD.  Then base_path is taken off; ERR_NOTFOUND where it is not there.
 * The caller frees it.
 */
enum err request_parse_path(char *const envp[], const char *base_path,
    char **ret) MUST_CHECK;

/* What follows the first "?", of REQUEST_URI or else in QUERY_STRING. */
const char *request_parse_query(char *const envp[]);

/* "https" where HTTPS is on or REQUEST_SCHEME says so, else "http". */
const char *request_parse_scheme(char *const envp[]);

/*
 * The value of a cookie in a Cookie header (RFC 6265 4.2), borrowed; NULL where
 * the header is, or has no such cookie.  Of two the first.
 */
const char *request_parse_cookie(const char *header, const char *name,
    size_t *ret_len);

/*
 * What an Authorization header of the scheme Bearer shows (RFC 6750 2.1),
 * borrowed, "" where that is nothing; NULL where there is no header, or where
 * it is of another scheme, which is for the web server: it may want a password
 * of everybody.
 */
const char *request_parse_bearer(const char *authorization);

/* Whether a Content-Type is of this media type, whatever its parameters. */
bool request_parse_is_type(const char *content_type, const char *type);

#endif
