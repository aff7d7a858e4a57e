/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_REVOCATIONS_H
#define BROKER_CONTROL_REVOCATIONS_H

#include <stddef.h>
#include <stdint.h>

#include "broker/tunnels/control_connection.h"

/*
 * control_revocations: closes the tunnels that were let in by what is revoked.
 * Other processes revoke, too: what the store has is read every second.
 *
 * Of a user, the answers that are being made and the sockets end as well; from
 * start on, until stop.
 */
void control_revocations_start(void);
void control_revocations_stop(void);

/* Close one, 4001, if it was let in by what is revoked: whether it is. */
bool control_revocations_close(struct control_connection *conn);

/* Close those that are open; the count of them. */
size_t control_revocations_sweep(struct control_server *srv);

/* Read them, when it is time to; the next time is srv's load_ms. */
void control_revocations_tick(struct control_server *srv, int64_t now_ms);

#endif
