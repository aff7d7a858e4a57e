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
 * A ticket is "ek_" and a JWT (HS256, signing_key) that says for which relay,
 * for whom, until when, and which row of the store holds the rest: so it is
 * short enough for a header.  It can be used until it expires.  It is a
 * secret: what may be logged is its id.
 */
#define TICKET_ID_BYTES	 32 /* of the id, as text */
#define TICKET_USER_MAX	 128
#define TICKET_MAX_BYTES 2048

/* Whether this store and this key are there. */
bool ticket_is_possible(void);

/*
 * Make a ticket of route, user, model, session, created and expires; the id of
 * `in' is not read, it is made here.  The caller clears and frees the text.
 * ERR_UNAVAIL, ERR_LIMIT for a user's name that will not do.
 */
enum err ticket_make(const struct store_ticket *in,
    char ret_id[TICKET_ID_BYTES + 1], char **ret_text,
    struct diag *diag) MUST_CHECK;

/*
 * Whether a client's credential has the form of a ticket.  What has not is a
 * key of somebody else's, and no business of ours.
 */
bool ticket_has_form(const char *text, size_t len);

/* The credential of `Authorization: Bearer'; NULL where it is none. */
const char *ticket_of_bearer(const char *authorization);

/*
 * What the ticket stands for at this relay.  ERR_UNAUTH where it is not good
 * (any more, or here), ERR_UNAVAIL where that cannot be known now.  diag is for
 * the log and for the client.  Free *ret with store_ticket_done().
 */
enum err ticket_check(const char *text, size_t len, const char *route,
    int64_t now, struct store_ticket *ret, struct diag *diag) MUST_CHECK;

#endif
