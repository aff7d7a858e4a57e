/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/endpoint.h"

#include <string.h>

#include "broker/limits/admission.h"
#include "broker/limits/revocations.h"
#include "broker/users/identity.h"
#include "common/clock.h"

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

/* Those of tunnels. */
#define WAYS                                                  \
	(IDENTITY_BEARER | IDENTITY_COOKIE | IDENTITY_QUERY | \
	    IDENTITY_SUBPROTOCOL | IDENTITY_VENDOR_KEYS | IDENTITY_ANON_ID)

static enum err
check(const struct config_relay *relay, const struct identity *identity,
    struct diag *diag)
{
	/* who shows nothing was let in by nothing but us, now */
	bool is_nobody = identity->user == NULL && identity->token_id == NULL;
	const struct revocations_subject subject = {
		.user = identity->user,
		.ticket = identity->token_id,
		.route = relay->name,
		.issued = is_nobody ? clock_unix() : identity->issued,
	};
	enum err err;

	if (relay->require_ticket && identity->ticket.id == NULL) {
		diag_set(diag,
		    "a ticket is needed here: POST /api/tickets makes one");
		return ERR_UNAUTH;
	}
	err = identity_check_required(identity, relay->require_user, diag);
	if (err != ERR_OK || !revocations_have(&subject))
		return err;
	diag_set(diag, "what is shown has been revoked: sign in again");
	return ERR_UNAUTH;
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
	enum err err =
	    identity_of_request(req, WAYS, relay->name, &identity, &diag);

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
			.anon_id = identity.anon_id,
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
