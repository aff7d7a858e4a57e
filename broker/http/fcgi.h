/* SPDX-License-Identifier: MIT */
#ifndef BROKER_FCGI_H
#define BROKER_FCGI_H

#include "broker/http/request.h"
#include "common/err.h"

/* fcgi: requests over FastCGI 1.0.  The only user of libfcgi. */

/*
 * Serve on a listening descriptor with `threads' threads until fcgi_stop()
 * (safe in a signal handler), then let running requests finish for `stop_ms';
 * ERR_TIMEOUT where some did not, see accept_pool_run().  A request that has
 * left its thread does not run any more.  Every request goes to handler.
 */
enum err fcgi_serve(int listen_fd, request_handler *handler,
    struct diag *diag) MUST_CHECK;
void fcgi_stop(void);

#endif
