/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TICKET_H
#define BROKER_TICKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/store/store.h"
#include "common/err.h"

/*
 * ticket: our own short-lived keys.
 *
 * A ticket is "ek_" and a JWT (signing_key) that says for which route, for
 * whom, until when, and which row of the store holds the rest: so it is short
 * enough for a header.  A route is a relay by its name, or "chat",
 * "socket.io", "anam", "livekit".  It can be used until it expires, or once.
 * It is a secret: what may be logged is its id.
 */
#define TICKET_ID_BYTES	 32 /* of the id, as text */
#define TICKET_USER_MAX	 128
#define TICKET_MAX_BYTES 2048

/* Whether this store and this key are there. */
bool ticket_is_possible(void);

/*
 * Make a ticket; the id of `in' is not read, it is made here.  What is revoked
 * of whoever asks, revokes it, too: `issued' is of what he has shown, and now
 * for nobody; where that is so already, as of a route, it is ERR_UNAUTH.  The
 * caller clears and frees the text.  ERR_UNAVAIL, ERR_LIMIT for a user's name
 * that will not do.
 */
enum err ticket_make(const struct store_ticket *in,
    char ret_id[TICKET_ID_BYTES + 1], char **ret_text,
    struct diag *diag) MUST_CHECK;

/*
 * Whether a client's credential has the form of a ticket.  What has not is a
 * key of somebody else's, and no business of ours.
 */
bool ticket_has_form(const char *text, size_t len);

/* Where, and by whom, it is used. */
struct ticket_use {
	const char *route;
	const char *address; /* numeric; NULL: not known */
	const char *origin;  /* the request's Origin; NULL: it has none */
	/*
	 * Host, where there is no Origin since the browser says that the page
	 * is of this site (Sec-Fetch-Site: same-origin); else NULL.
	 */
	const char *own_host;
	int64_t now;
};

/*
 * What a ticket stands for.  ERR_UNAUTH where it is not good (any more, or
 * here): expired, for another route, address (all of it, of IPv6, too) or
 * Origin, used, revoked.  ERR_UNAVAIL where that cannot be known now.  diag is
 * for the log and for the client.  Free *ret with store_ticket_done().
 */
enum err ticket_check(const char *text, size_t len,
    const struct ticket_use *use, struct store_ticket *ret,
    struct diag *diag) MUST_CHECK;

/*
 * Use it up where it is good once: after everything else has been checked,
 * since there is no way back.  Of all that race, in whatever process, one has
 * ERR_OK; the others ERR_UNAUTH.  ERR_UNAVAIL.  What has no id, and what is
 * good until it expires, is ERR_OK.
 */
enum err ticket_spend(const struct store_ticket *ticket, int64_t now,
    struct diag *diag) MUST_CHECK;

#endif
