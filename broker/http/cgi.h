/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CGI_H
#define BROKER_CGI_H

#include <stdbool.h>

#include "broker/http/request.h"
#include "common/err.h"

/* cgi: the one request of a CGI program (RFC 3875). */

/* Whether this process was started as one. */
bool cgi_is_asked(void);

/* Serve the request of the environment and standard input. */
enum err cgi_serve(request_handler *handler, struct diag *diag) MUST_CHECK;

#endif
