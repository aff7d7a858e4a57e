/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_ASKS_H
#define TUNNEL_ASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/wire.h"
#include "tunnel/vendor_event.h"

/*
 * asks: the responses that the broker has been asked for, from the question
 * to their end (OpenAI Realtime).  Pure.
 *
 * A response.create is asked for before it goes out, and the response that
 * the vendor begins then is its: the vendor takes them in their order.  One
 * that begins with no create out is the vendor's own (its turn detection).
 * Where that guess is wrong, a response is asked for once too often, never
 * too seldom.
 */
struct asks;

struct asks *asks_new(void);
void asks_free(struct asks *asks); /* NULL is allowed */

/*
 * A response.create wants to go out; event_id is its own, or "".  The number
 * of its ask, or 0 where WIRE_ASKS_MAX are open: it has to wait.
 */
int64_t asks_create(struct asks *asks, const char *event_id);

/*
 * The vendor says response.created, of this id.  0 where it was asked for; the
 * number of its ask where it was not; -1 where there is no room for one.
 */
int64_t asks_created(struct asks *asks, const char *response_id);

/* It says response.done: the number of its ask, which is over; or 0. */
int64_t asks_done(struct asks *asks, const char *response_id);

/*
 * It says error, about this event, or "".  True where it says that a create
 * comes to nothing, whose ask is over then.
 */
bool asks_error(struct asks *asks, const char *event_id);

enum asks_kind {
	ASKS_NONE,   /* not known, or over */
	ASKS_CREATE, /* a create: it goes out now, or never */
	ASKS_BEGUN,  /* a response that the vendor makes */
	ASKS_ENDED,  /* one that it has made already */
};

/*
 * The broker's answer to this ask: what it is for.  One that is refused is
 * over.  Of a response that the vendor makes, response_id is its name.
 */
enum asks_kind asks_answer(struct asks *asks, int64_t n, bool allowed,
    char response_id[VENDOR_EVENT_ID_BYTES]);

/* What has not gone out never will: these asks are over. */
void asks_end(struct asks *asks);

/* asked, open and open_count of a report. */
void asks_get(const struct asks *asks, struct wire_usage *usage);

#endif
