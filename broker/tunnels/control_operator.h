/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_OPERATOR_H
#define BROKER_CONTROL_OPERATOR_H

#include <stdbool.h>

#include "broker/tunnels/control_connection.h"

/* control_operator: what culvertctl(8) may ask, and its answers. */

/* Whether this is an operator's. */
bool control_operator_is_order(const struct wire_packet *packet);

/*
 * Do it, for a connection in CONTROL_STATE_IDLE, or drop it, where it is no
 * operator's.  Takes the packet.
 */
void control_operator_obey(struct control_server *srv,
    struct control_connection *conn, struct wire_packet *packet);

/* Hand out the answers of the store that are there. */
void control_operator_answer(struct control_server *srv);

#endif
