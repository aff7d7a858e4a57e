/* SPDX-License-Identifier: MIT */
#ifndef BROKER_URL_H
#define BROKER_URL_H

#include "broker/config/config.h"
#include "common/err.h"

/* url: addresses that the operator wrote, read with libcurl's URL parser. */

/* Longest text that is taken. */
#define URL_MAX_BYTES 2048

/*
 * ws:// or wss://, host, port, path and query: no user, no fragment, no zone,
 * port 1 to 65535, an IPv6 address in brackets.  ERR_PROTO, and in diag what
 * is wrong; config_url_done() frees what it filled.
 */
enum err url_parse(const char *text, struct config_url *ret,
    struct diag *diag) MUST_CHECK;

/* The same of http:// or https://. */
enum err url_parse_http(const char *text, struct config_url *ret,
    struct diag *diag) MUST_CHECK;

/* Whether a host, without brackets, is this machine by its very name. */
bool url_host_is_local(const char *host);

/*
 * Whether this is an origin as browsers write it (RFC 6454 6.2): scheme, host
 * and, where it is not the scheme's default, port; lower case.  ERR_PROTO.
 */
enum err url_check_origin(const char *text, struct diag *diag) MUST_CHECK;

#endif
