/* SPDX-License-Identifier: MIT */
#ifndef SIM_EPHEMERAL_H
#define SIM_EPHEMERAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * ephemeral: OpenAI's short-lived keys, "ek_...": good until they expire, any
 * number of times, at this process alone.  Pure, and nothing is kept.
 */
struct ephemeral;

struct ephemeral *ephemeral_new(void);
void ephemeral_free(struct ephemeral *ephemeral);

/* A key that expires then, in seconds since 1970; the caller frees it. */
char *ephemeral_issue(const struct ephemeral *ephemeral, int64_t expires);

/* Is it one of these, and still good? */
bool ephemeral_is_good(const struct ephemeral *ephemeral, const char *key,
    size_t len, int64_t now);

#endif
