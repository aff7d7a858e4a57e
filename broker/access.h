/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ACCESS_H
#define BROKER_ACCESS_H

#include "broker/config.h"
#include "common/err.h"

/*
 * access: may this client use the service at all?  Pure.
 *
 * First the `clients' list, then the Origin list (RFC 6454; "null" is on no
 * list).  client_address is numeric, NULL where it is not known; origin is the
 * header's value, NULL where there is none.  ERR_DENIED, and in diag the
 * reason, in words that both the log and the client may have.
 */
enum err access_check(const struct config *config, const char *client_address,
    const char *origin, struct diag *diag) MUST_CHECK;

#endif
