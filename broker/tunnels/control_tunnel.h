/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_TUNNEL_H
#define BROKER_CONTROL_TUNNEL_H

#include <stdbool.h>

#include "broker/tunnels/control_connection.h"

/*
 * control_tunnel: what tunnels say on the control socket: they ask for one,
 * take up one of a broker before this, report and end.
 */

/* WIRE_OPEN of a connection in CONTROL_STATE_IDLE; takes the packet. */
void control_tunnel_open(struct control_server *srv,
    struct control_connection *conn, struct wire_packet *packet);

/* WIRE_RESUME of one in CONTROL_STATE_IDLE. */
void control_tunnel_resume(struct control_server *srv,
    struct control_connection *conn, const struct wire_resume *resume);

/* A packet of one in CONTROL_STATE_LEASED. */
void control_tunnel_take(struct control_server *srv,
    struct control_connection *conn, const struct wire_packet *packet);

/* Send what is to be sent of budgets and of what has been booked. */
void control_tunnel_answer(struct control_server *srv);

/*
 * End those that were told to close and have not, and those that are over and
 * of which something can never be booked: some of them at least.
 */
void control_tunnel_sweep(struct control_server *srv, int64_t now_ms);

/* Ask again for those whose upstream's name was not known yet. */
void control_tunnel_retry(struct control_server *srv);

#endif
