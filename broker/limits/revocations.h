/* SPDX-License-Identifier: MIT */
#ifndef BROKER_REVOCATIONS_H
#define BROKER_REVOCATIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/*
 * revocations: what was issued before a moment and is good no longer: of a
 * user, for a session, a ticket, a route.
 *
 * Kept in memory, so that asking never waits, and in the store, so that they
 * outlive the process; without a store they end with it.  Thread-safe.
 */

/* Read them from the store, where there is one; again twice a second or so by
 * whoever calls: other processes may have added some.  ERR_UNAVAIL: the ones
 * in memory stay. */
enum err revocations_load(int64_t now, struct diag *diag) MUST_CHECK;
void revocations_done(void);

/*
 * Who is told of each that is new here, or of a later moment than before, from
 * whatever process: in the thread of revocations_add() or revocations_load(),
 * and must not wait, nor call these.  NULL: nobody, and none is called any
 * more.
 */
typedef void revocations_listener(const char *kind, const char *value);
void revocations_listen(revocations_listener *listener);

/* Add one; waits for the store.  ERR_PROTO for another kind, ERR_LIMIT. */
enum err revocations_add(const char *kind, const char *value, int64_t before,
    int64_t expires, struct diag *diag) MUST_CHECK;

/* What something is known by; NULL: by nothing. */
struct revocations_subject {
	const char *user, *session, *ticket, *route;
	int64_t issued; /* seconds since 1970; 0, not known: before all */
};

/* Whether it is revoked: issued at or before the moment. */
bool revocations_have(const struct revocations_subject *subject);

/* [{"kind","value","before","expires"}], at most max_bytes; the caller's. */
json_t *revocations_list(size_t max_bytes);

#endif
