/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_ASKS_H
#define BROKER_CONTROL_ASKS_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/tunnels/ask_queue.h"
#include "broker/tunnels/leases.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * control_asks: the budgets of the tunnels that are open: whether a response
 * may be begun (WIRE_ASK), what was used (usage packets), and who has used up
 * what there is.
 *
 * A thread of its own waits for the store.  An ask for which there is not
 * enough left waits, too, while others have reserved the rest: until one of
 * them has settled, at most some seconds; but never for a response that has
 * begun, which costs more as it goes on.  Those that wait for the same budget
 * get it in the order in which they came.
 *
 * One thread, the control server's, makes all calls; what is to be sent comes
 * back to it.  `owner' is its own: the connection of the lease.
 */
struct control_asks;

/* What the broker uses. */
extern const struct control_asks_options control_asks_defaults;

/* ERR_SYS.  It listens to the ledger (ledger_listen), whether or not one was
   started.  The caller frees it. */
enum err control_asks_new(const struct control_asks_options *options,
    struct control_asks **ret, struct diag *diag) MUST_CHECK;

/* Waits for what the thread does now; NULL is allowed. */
void control_asks_free(struct control_asks *asks);

/* Readable when there is something to take. */
int control_asks_fd(const struct control_asks *asks);

/* A lease begins, or was taken up again; before the calls below. */
void control_asks_join(struct control_asks *asks,
    const struct lease_info *lease, void *owner);

/* A reload gave the lease other plans (lease_replan). */
void control_asks_replan(struct control_asks *asks,
    const struct lease_info *lease);

/*
 * WIRE_ASK.  ERR_PROTO where this one is being asked already, ERR_LIMIT where
 * WIRE_ASKS_MAX are open, or far too many of all tunnels wait to be looked at:
 * the peer is to be dropped.
 */
enum err control_asks_ask(struct control_asks *asks,
    const struct lease_info *lease, const struct wire_ask *ask,
    struct diag *diag) MUST_CHECK;

/*
 * WIRE_USAGE, or WIRE_END before control_asks_leave(): books its events and
 * how long the lease has lasted, and releases what was reserved for asks that
 * are over.  It calls ledger_add(): the caller does not.
 */
void control_asks_report(struct control_asks *asks,
    const struct lease_info *lease, const struct wire_usage *usage);

/*
 * WIRE_END, after its control_asks_report(): asks that were allowed and not
 * settled may have cost something, and each becomes a row of the ledger,
 * "lost", with what was reserved.  Once these rows are there, and the others
 * released, a WIRE_ACK with `ended' is to be taken, whose n says nothing.
 */
void control_asks_end(struct control_asks *asks,
    const struct lease_info *lease);

/* How a lease's connection has ended. */
enum control_asks_end {
	CONTROL_ASKS_ENDED,   /* by WIRE_END: nothing more will be heard */
	CONTROL_ASKS_LOST,    /* without: the tunnel may come back */
	CONTROL_ASKS_STOPPED, /* the broker stops: it goes on with the next */
};

/*
 * It has.  Where it was lost, its asks end as those of control_asks_end(),
 * after lost_ms.  Harmless for a lease that has not joined.
 */
void control_asks_leave(struct control_asks *asks,
    const struct lease_info *lease, enum control_asks_end end);

/*
 * Take what is to be sent to a lease's tunnel: WIRE_ANSWER; WIRE_ACK;
 * WIRE_CLOSE with 4003, when a budget is used up.  False where there is nothing
 * (any more).  Never for one that has left.  The caller frees the packet.
 */
bool control_asks_take(struct control_asks *asks, void **ret_owner,
    struct wire_packet **ret);

#endif
