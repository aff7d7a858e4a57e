/* SPDX-License-Identifier: MIT */
#include "clock_double.h"

#include <stdint.h>
#include <time.h>

#include "common/clock.h"

atomic_llong clock_skipped_ms, clock_stopped_at;

static int64_t
now_ms(clockid_t id)
{
	struct timespec now;

	(void)clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t
clock_ms(void)
{
	return now_ms(CLOCK_MONOTONIC) + clock_skipped_ms;
}

int64_t
clock_unix_ms(void)
{
	return clock_stopped_at != 0 ? clock_stopped_at * 1000
				     : now_ms(CLOCK_REALTIME);
}

int64_t
clock_unix(void)
{
	return clock_unix_ms() / 1000;
}
