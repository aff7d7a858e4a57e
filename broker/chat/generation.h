/* SPDX-License-Identifier: MIT */
#ifndef BROKER_GENERATION_H
#define BROKER_GENERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/chat/caller.h"
#include "broker/config/config.h"
#include "broker/http/parked.h"
#include "broker/store/store.h"
#include "common/err.h"

/*
 * generation: the making of one answer, in the hub's thread.
 *
 * The vendor's deltas become events in a log, which clients read at their own
 * pace and the scribe writes to the store by and by.  It goes on while nobody
 * reads, for `detach_ms'.  Its end is told when it has been written.
 */
struct generation_spec {       /* what it is given to keep */
	struct config *config; /* a reference */
	struct caller caller;
	char *id, *chat, *answer, *model;
	char *question; /* NULL: an answer is made anew ... */
	char *replaces; /* ... instead of this one */
	bool new_chat;
	int64_t version, created_ms; /* of the answer */
	char *body;		     /* for the vendor */
	size_t body_len;
	uint64_t input_bytes; /* of it, without what is around */
};
void generation_spec_done(struct generation_spec *spec);

struct generation;

/*
 * Begin; takes what is in spec.  over(arg) is called once, when its end has
 * been written, or was given up: the store knows more from here on.  It frees
 * itself then, as soon as its readers have all.
 */
struct generation *generation_start(const struct generation_spec *spec,
    void (*over)(void *arg), void *arg);

/* What it was given. */
const struct generation_spec *generation_spec(
    const struct generation *generation);

/*
 * Send to a client what comes after event number `after'.  ERR_UNAVAIL where
 * too many read already; parked is still the caller's then.
 */
enum err generation_attach(struct generation *generation, struct parked *parked,
    int64_t after) MUST_CHECK;

/*
 * End it now and keep what there is: STORE_STOPPED or STORE_INTERRUPTED.
 * Where it ends already, it stays so.
 */
void generation_stop(struct generation *generation, enum store_state state);

/*
 * Answer {"stopped","message_id"} when the end has been written: stopped is
 * whether it was, and did not come to its end.
 */
void generation_reply_stopped(struct generation *generation,
    struct parked *parked);

#endif
