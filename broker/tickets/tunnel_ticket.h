/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TUNNEL_TICKET_H
#define BROKER_TUNNEL_TICKET_H

#include "broker/store/store.h"
#include "broker/tunnels/target.h"
#include "common/err.h"

/*
 * tunnel_ticket: what a ticket (broker/tickets/ticket.h) makes of a request for
 * a tunnel.
 */

/*
 * Have the target say the ticket's model and kind of session, whatever it said;
 * nothing changes without an id.  ERR_LIMIT.
 */
enum err tunnel_ticket_apply(const struct store_ticket *ticket,
    struct target *target, struct diag *diag) MUST_CHECK;

#endif
