/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ACCESS_H
#define BROKER_ACCESS_H

#include <stdbool.h>

#include "broker/config/config.h"
#include "common/err.h"

/* access: may this client use the service at all?  Pure. */

/* What is known of who asks; a header that is absent is NULL. */
struct access_request {
	const char *client; /* numeric address; NULL: not known */
	const char *method;
	const char *origin;	/* Origin */
	const char *host;	/* Host */
	const char *fetch_site; /* Sec-Fetch-Site */
	bool upgrade;		/* to a WebSocket, whatever the method */
};

/*
 * First the `clients' list, then the Origin list.  An IPv4-mapped IPv6 address
 * is the IPv4 one; nobody is admitted unknown, not even by "any".
 *
 * An Origin is scheme://host[:port] (RFC 6454 6.2) and nothing more; it
 * matches an item that has the same scheme, host and port, without case and
 * with a scheme's default port as none.  The item "loopback" is http or https
 * on localhost, 127.0.0.1 or [::1], any port; "*" is any Origin of that form.
 * "null", which every sandboxed frame and every file has, is on no list.
 *
 * Browsers send no Origin with a GET or HEAD of the page's own site, but
 * Sec-Fetch-Site "same-origin", which no page can set
 * (https://w3c.github.io/webappsec-fetch-metadata/): then the Origin is http
 * or https on Host, which has to be listed like any other.  Without either,
 * `missing_origin' decides.
 *
 * ERR_DENIED, and in diag the reason, in words that both the log and the
 * client may have.
 */
enum err access_check(const struct config *config,
    const struct access_request *request, struct diag *diag) MUST_CHECK;

/*
 * Whether this Origin, which has been admitted, was so by an item other than
 * "*": only to such may a browser show answers to a request with cookies.
 */
bool access_is_named(const struct config *config, const char *origin);

/*
 * Whether what a browser sends by itself (cookies, a password for the web
 * server) may count for a request that has been admitted.  It may for GET and
 * HEAD, which only read; for others, and for a WebSocket, the page has to be
 * listed by name, or be one of this Host: on "*" is every site that wants to
 * use its visitors' cookies.  Without an Origin Sec-Fetch-Site must not tell of
 * another site.  ERR_DENIED.
 */
enum err access_check_cookie(const struct config *config,
    const struct access_request *request, struct diag *diag) MUST_CHECK;

/* Whether nobody but this machine's own clients is admitted. */
bool access_is_loopback_only(const struct config *config);

#endif
