/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ACCESS_H
#define BROKER_ACCESS_H

#include <stdbool.h>

#include "broker/config/config.h"
#include "common/err.h"

/*
 * access: may this client use the service at all?  Pure.
 *
 * First the `clients' list, then the Origin list.  client_address is numeric
 * (an IPv4-mapped IPv6 address is the IPv4 one), NULL where it is not known:
 * nobody is admitted unknown, not even by "any".  origin is the header's
 * value, NULL where there is none, which `missing_origin' decides.
 *
 * An Origin is scheme://host[:port] (RFC 6454 6.2) and nothing more; it
 * matches an item that has the same scheme, host and port, without case and
 * with a scheme's default port as none.  The item "loopback" is http or https
 * on localhost, 127.0.0.1 or [::1], any port; "*" is any Origin of that form.
 * "null", which every sandboxed frame and every file has, is on no list.
 *
 * ERR_DENIED, and in diag the reason, in words that both the log and the
 * client may have.
 */
enum err access_check(const struct config *config, const char *client_address,
    const char *origin, struct diag *diag) MUST_CHECK;

/* Whether nobody but this machine's own clients is admitted. */
bool access_is_loopback_only(const struct config *config);

#endif
