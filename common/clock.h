/* SPDX-License-Identifier: MIT */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

/* Milliseconds of the monotonic clock: for intervals and timeouts. */
int64_t clock_ms(void);

/* Seconds since 1970 UTC: for what leaves the process (JWT, logs). */
int64_t clock_unix(void);

/* The same in milliseconds: for what people see in an order. */
int64_t clock_unix_ms(void);

#endif
