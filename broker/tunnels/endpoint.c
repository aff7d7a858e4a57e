/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/endpoint.h"

#include <string.h>

#include "broker/limits/admission.h"
#include "broker/users/identity.h"

static const struct config_relay *
relay_of(const struct request *req)
{
	return config_find_relay(request_config(req), request_path(req));
}

bool
endpoint_takes(const struct request *req)
{
	return strcmp(request_method(req), "GET") == 0 && relay_of(req) != NULL;
}

/* The ways of tunnels; what the route passes on to the vendor is not for us. */
static unsigned
ways_of(const struct config_relay *relay)
{
	unsigned ways = IDENTITY_BEARER | IDENTITY_COOKIE | IDENTITY_QUERY |
	    IDENTITY_SUBPROTOCOL | IDENTITY_VENDOR_KEYS;

	for (size_t i = 0; i < relay->query_count; i++)
		if (strcmp(relay->queries[i].name, "token") == 0 ||
		    strcmp(relay->queries[i].name, "ticket") == 0)
			ways &= ~(unsigned)IDENTITY_QUERY;
	return ways;
}

static enum err
check(const struct config_relay *relay, const struct identity *identity,
    struct diag *diag)
{
	if (relay->require_ticket && identity->ticket.id == NULL) {
		diag_set(diag,
		    "a ticket is needed here: POST /api/tickets makes one");
		return ERR_UNAUTH;
	}
	return identity_check_required(identity, relay->require_user, diag);
}

/*
 * No Upgrade header (RFC 9110 15.5.22): web servers pass it on in HTTP/2, where
 * it makes the answer malformed.
 */
void
endpoint_handle(struct request *req)
{
	const struct config_relay *relay = relay_of(req);
	struct identity identity;
	struct diag diag = { "" };
	enum err err = identity_of_request(req, ways_of(relay), relay->name,
	    &identity, &diag);

	if (err != ERR_OK) {
		request_reply_error(req, err, diag.text);
		return;
	}
	err = check(relay, &identity, &diag);
	if (err != ERR_OK) {
		request_reply_error(req, err, diag.text);
	} else {
		const struct subjects_request who = {
			.user = identity.user,
			.plan = identity.plan,
			.route = relay->name,
			.route_plan = relay->plan,
		};

		if (admission_admits(req, &who))
			request_reply_error(req, ERR_UPGRADE,
			    "this is a WebSocket endpoint, and what is shown "
			    "is good for it: connect with a WebSocket");
	}
	identity_done(&identity);
}
