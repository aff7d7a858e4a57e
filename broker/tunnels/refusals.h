/* SPDX-License-Identifier: MIT */
#ifndef BROKER_REFUSALS_H
#define BROKER_REFUSALS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * refusals: how often addresses were refused of late.
 *
 * Some clients try again every two seconds for ever.  Whoever was refused
 * REFUSALS_MAX times within REFUSALS_WINDOW_MS is to be told so without asking
 * anything else.  Of bounded size: the table forgets the address that it has
 * not seen for longest.  IPv6 addresses count by their /64.  One thread.
 */
#define REFUSALS_MAX	   30
#define REFUSALS_WINDOW_MS 30000

struct refusals;

struct refusals *refusals_new(void);
void refusals_free(struct refusals *refusals); /* NULL is allowed */

/* Whether a numeric address has reached the maximum; now is clock_ms(). */
bool refusals_reached(const struct refusals *refusals, const char *address,
    int64_t now_ms);

/* Note one more. */
void refusals_add(struct refusals *refusals, const char *address,
    int64_t now_ms);

#endif
