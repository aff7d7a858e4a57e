/* SPDX-License-Identifier: MIT */
#ifndef BROKER_LEDGER_H
#define BROKER_LEDGER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/store/store.h"
#include "broker/tunnels/leases.h"
#include "common/err.h"

/*
 * ledger: brings the usage that tunnels report into the store.
 *
 * A thread of its own writes: whoever reports never waits.  While the store
 * is away, reports wait in a queue and the thread tries again, less and less
 * often; what the queue has no room for is lost, counted and logged.  The
 * thread also has the store forget what has expired, once a minute, and chats
 * that the configuration in force keeps no longer.  After what it has booked it
 * looks at the budgets of those that it was booked for.
 *
 * There is one in a process.  Thread-safe.
 */
struct ledger_options {
	size_t max_rows;		/* that wait */
	size_t max_bytes;		/* of the vendor's objects in them */
	int64_t retry_ms, max_retry_ms; /* to the next attempt: doubles */
	int64_t flush_ms;		/* of attempts at the end */
};

/* What the broker uses. */
extern const struct ledger_options ledger_defaults;

/* The store stays the caller's, and there until ledger_stop().  ERR_SYS. */
enum err ledger_start(struct store *store, const struct ledger_options *options,
    struct diag *diag) MUST_CHECK;

/* Write what waits and end the thread.  Harmless where none was started. */
void ledger_stop(void);

/* The largest of some rows; 0: none has any. */
struct ledger_largest {
	int64_t tokens, money; /* money in micro-units */
	bool unasked;	       /* one of them was of no ask */
};

/*
 * Book wire_usage.events of a tunnel; NULL is none.  They are counted in the
 * lease's budgets; one with "ask" ends that ask's reservation.  *ret is raised
 * to the largest of them; NULL is allowed.  Where no ledger was started nothing
 * is kept, and they count as booked at once.
 */
void ledger_add(const struct lease_info *lease, const json_t *events,
    struct ledger_largest *ret);

/*
 * Book a response that was begun and of which nothing more will be heard, as
 * what was reserved for it: a row of status "lost", whose n is -ask.  Where its
 * event comes after all, that is "late", and counts as far as it is more.
 * Whether it will be told as booked: false where there is no ledger, or it has
 * no room.
 */
bool ledger_add_lost(const struct lease_info *lease, int64_t ask,
    int64_t tokens, int64_t money);

/*
 * Book how long a tunnel has lasted by now, and look at its budgets; unasked:
 * it has cost something without an ask.  One that finds no room is passed over:
 * the next one of the lease makes up for it.
 */
void ledger_add_seconds(const struct lease_info *lease, bool unasked);

/*
 * Who is told what has become of it, in the ledger's thread, or in the caller's
 * of ledger_add(): neither may wait.  booked: rows of this lease up to number n
 * are in the store; n below 0: the one that is "lost", of ask -n.  spent: one
 * of the lease's budgets is used up; again with each report.  Of a route that
 * answers with errors only its seconds count, unless it costs something that no
 * ask could have refused.
 */
struct ledger_listener {
	void (*booked)(void *arg, const char *lease, int64_t n);
	void (*spent)(void *arg, const char *lease,
	    const struct store_budget_state *state);
	void *arg;
};

/* One at a time; NULL: nobody, and none is called any more. */
void ledger_listen(const struct ledger_listener *listener);

/* The id of the reservation of a tunnel's ask. */
#define LEDGER_RESERVATION_BYTES 64
void ledger_reservation(const char *lease, int64_t ask,
    char out[LEDGER_RESERVATION_BYTES]);

#endif
