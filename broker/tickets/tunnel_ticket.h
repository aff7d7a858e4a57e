/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TUNNEL_TICKET_H
#define BROKER_TUNNEL_TICKET_H

#include "broker/config/config.h"
#include "broker/store/store.h"
#include "broker/tunnels/target.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * tunnel_ticket: the ticket (broker/tickets/ticket.h) of a request for a
 * tunnel.
 *
 * It is in `Authorization: Bearer', in the subprotocol
 * "openai-insecure-api-key.TICKET", or in the query's `ticket'.  Whatever has
 * not the form of one is somebody else's key, and ignored.
 */

/*
 * Check it, and have the target say its model and kind of session.  *ret is
 * empty where there is none and none is needed; free it with
 * store_ticket_done().  ERR_UNAUTH, ERR_UNAVAIL, ERR_PROTO where there are two.
 */
enum err tunnel_ticket_take(const struct config_relay *relay,
    const struct wire_headers *headers, struct target *target,
    struct store_ticket *ret, struct diag *diag) MUST_CHECK;

#endif
