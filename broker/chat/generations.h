/* SPDX-License-Identifier: MIT */
#ifndef BROKER_GENERATIONS_H
#define BROKER_GENERATIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/chat/generation.h"
#include "broker/config/config.h"
#include "broker/http/parked.h"
#include "broker/limits/subjects.h"
#include "common/err.h"

/*
 * generations: the answers that are being made, and how many there may be.
 *
 * A slot is taken before the store is touched, and is free when the answer's
 * end has been written: so what waits for the store is bounded, too.
 */
struct generation_slot;

/*
 * Any thread.  ERR_UNAVAIL past `max_streams', and when the service ends;
 * ERR_RATE past `max_streams_per_owner', and past the streams of a subject.  id
 * is the generation's to be.  Who repeats a request, as its key tells (NULL:
 * none), is not counted: it will read what is being made.
 */
enum err generations_reserve(const struct config_chat *chat, const char *owner,
    const char *id, const char *key, const struct subjects *subjects,
    struct generation_slot **ret, struct diag *diag) MUST_CHECK;

/* ---- in the hub's thread ------------------------------------------------ */

/* Nothing becomes of it.  NULL is allowed. */
void generations_release(struct generation_slot *slot);

/* Begin the answer of a slot; takes both. */
void generations_begin(struct generation_slot *slot,
    const struct generation_spec *spec);

/*
 * Send to a client an answer of this owner, after this number of event; where
 * it has not quite begun, as soon as it has.  ERR_NOTFOUND where it is not
 * being made (any more), ERR_UNAVAIL; parked is still the caller's then.
 */
enum err generations_attach(const char *owner, const char *id,
    struct parked *parked, int64_t after) MUST_CHECK;

/*
 * What began last of this owner's, in this chat, of this message; NULL: in
 * any.  NULL: nothing runs.
 */
struct generation *generations_find(const char *owner, const char *chat,
    const char *message);

/* Stop those of this owner. */
void generations_stop_owner(const char *owner);

/* Stop all, as the service ends, and begin none any more. */
void generations_stop_all(void);

#endif
