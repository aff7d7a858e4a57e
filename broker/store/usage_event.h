/* SPDX-License-Identifier: MIT */
#ifndef BROKER_USAGE_EVENT_H
#define BROKER_USAGE_EVENT_H

#include <jansson.h>
#include <stdbool.h>

#include "broker/store/store.h"
#include "common/err.h"

/*
 * usage_event: what a vendor's usage object says, as a row of the ledger.
 *
 * Pure.  Knows OpenAI's shapes: that of response.done, and those of a
 * transcription, by tokens and by duration.  Cached tokens are apart: the
 * others are without them.  What a count leaves unexplained is text.
 */

/* The model of a transcription's rows, as the vendor does not name it. */
#define USAGE_EVENT_TRANSCRIPTION "transcription"

/*
 * Fill n, event, vendor_id, status, tokens, total_tokens, seconds and raw from
 * an element of wire_usage.events.  ERR_PROTO, and nothing in *ret, where it
 * is none.  A number that cannot be right counts as 0 and sets *ret_odd: the
 * row is booked all the same, with the vendor's object in raw.  The caller
 * frees it with store_usage_done().
 */
enum err usage_event_parse(const json_t *event, struct store_usage *ret,
    bool *ret_odd, struct diag *diag) MUST_CHECK;

#endif
