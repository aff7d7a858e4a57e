/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SCRIBE_H
#define BROKER_SCRIBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "broker/store/store.h"
#include "common/err.h"

/*
 * scribe: writes to the store what answers become, in a thread of its own, so
 * that who makes them never waits.
 *
 * Everything is written in the order in which it came: pieces after a little
 * while, so that more come to be written with them, and ends at once.  While
 * the store is away it waits, and is tried again, less and less often.  There
 * is one in a process.  Thread-safe.
 */
struct scribe_options {
	size_t max_bytes;		/* of pieces that wait */
	int64_t gather_ms;		/* from a piece to its writing */
	int64_t retry_ms, max_retry_ms; /* to the next attempt: doubles */
	int64_t flush_ms;		/* of attempts at the end */
};
extern const struct scribe_options scribe_defaults;

/* The store stays the caller's, and there until scribe_stop().  ERR_SYS. */
enum err scribe_start(struct store *store, const struct scribe_options *options,
    struct diag *diag) MUST_CHECK;

/*
 * Write what waits, and end the thread; whatever could not be written is given
 * back.  Harmless where none was started.
 */
void scribe_stop(void);

/*
 * Write a piece of a generation, its events from first to last; takes both
 * texts.  False where too much waits already: it may come again later, and
 * longer.
 */
bool scribe_add(const char *generation, int64_t first, int64_t last,
    char *events, char *content) MUST_CHECK;

/*
 * Write an end, which stays the caller's and as it is until written() has
 * been called, once, in the scribe's thread; finished is NULL where it could
 * not be written, now or ever.
 */
struct scribe_end {
	struct store_finish finish;
	void (*written)(struct scribe_end *end,
	    const struct store_finished *finished);
	STAILQ_ENTRY(scribe_end) next; /* the scribe's */
};
void scribe_end(struct scribe_end *end);

#endif
