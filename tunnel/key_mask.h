/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_KEY_MASK_H
#define TUNNEL_KEY_MASK_H

#include <stdbool.h>

#include "common/wire_headers.h"

/*
 * key_mask: what a vendor says of our keys outside of messages, as why it
 * closes, is masked before a client gets it.
 *
 * A mask outlives the keys, and so it is made of their beginnings alone: of at
 * most KEY_MASK_BYTES, and at most half of a key, unless that were less than
 * KEY_MASK_MIN_BYTES.  Shorter keys are not looked for.  Pure.
 */
#define KEY_MASK_BYTES	   16
#define KEY_MASK_MIN_BYTES 8

struct key_mask;

/* Of the secret headers; NULL where there is none. */
struct key_mask *key_mask_new(const struct wire_headers *headers);

/*
 * Put "<masked>" in place of each word, to its end, that a key stands in, from
 * where it begins; whether there was one.  The text, which becomes no longer
 * and stays UTF-8, is as it was where there is none.  mask may be NULL.
 */
bool key_mask_apply(const struct key_mask *mask, char *text);

/* NULL is allowed. */
void key_mask_free(struct key_mask *mask);

#endif
