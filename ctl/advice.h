/* SPDX-License-Identifier: MIT */
#ifndef CTL_ADVICE_H
#define CTL_ADVICE_H

#include <jansson.h>

/* advice: what to set in which web server.  Pure. */

/*
 * For a check of `doctor' that has failed, {"lighttpd":"...", ...}; NULL where
 * there is nothing to say.  The caller decrefs it.
 */
json_t *advice_of(const char *check);

#endif
