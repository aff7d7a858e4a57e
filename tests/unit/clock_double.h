/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_CLOCK_DOUBLE_H
#define TESTS_UNIT_CLOCK_DOUBLE_H

#include <stdatomic.h>

/*
 * clock_double: in place of common/clock.c, whose header it implements: a test
 * lets time pass without waiting, and says what time of day it is.
 */

/* What clock_ms() is ahead of the monotonic clock. */
extern atomic_llong clock_skipped_ms;

/* The second at which the time of day stands still; 0: it does not. */
extern atomic_llong clock_stopped_at;

#endif
