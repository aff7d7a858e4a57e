/* SPDX-License-Identifier: MIT */
#ifndef BROKER_LEDGER_H
#define BROKER_LEDGER_H

#include <jansson.h>
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
 * that the configuration in force keeps no longer.
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

/*
 * Book wire_usage.events of a tunnel; NULL is none.  Does nothing where no
 * ledger was started.
 */
void ledger_add(const struct lease_info *lease, const json_t *events);

#endif
