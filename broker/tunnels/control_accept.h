/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_ACCEPT_H
#define BROKER_CONTROL_ACCEPT_H

#include <stdint.h>

#include "broker/tunnels/control_connection.h"

/*
 * control_accept: who is let in on the control socket, and when.
 *
 * So many connections may be without a lease that nobody can fill our memory,
 * and the next ones wait in the socket's queue, as after a restart, when all
 * tunnels come back at once.  Some of them are for operators alone.  Tunnels
 * ask as soon as they are connected: where there is no room for another one,
 * the oldest that has not asked, or has its refusal, for CONTROL_IDLE_MS has to
 * leave.  Where there is none of these for CONTROL_FULL_MS, since so many are
 * being decided on, new tunnels are sent away, so that the socket's queue does
 * not keep out operators.
 */
#define CONTROL_TUNNELS_MAX 256 /* without a lease */
#define CONTROL_WAITING_MAX 272 /* operators, too */
#define CONTROL_IDLE_MS	    250
#define CONTROL_FULL_MS	    1000

/* Begin to accept. */
void control_accept_begin(struct control_server *srv);

/* Take in who waits; it may drop others, so no event of theirs may follow. */
void control_accept_all(struct control_server *srv);

/* What time brings; and when that is next, INT64_MAX for never. */
void control_accept_tick(struct control_server *srv, int64_t now_ms);
int64_t control_accept_next_ms(const struct control_server *srv);

#endif
