/* SPDX-License-Identifier: MIT */
#ifndef BROKER_LEASE_RESUME_H
#define BROKER_LEASE_RESUME_H

#include <stddef.h>
#include <stdint.h>

#include "broker/tunnels/leases.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * lease_resume: what a broker has to know of a lease of a broker before it, as
 * a JWT that only we could have signed (typ "lease+jwt").
 *
 * It is good for as long as the tunnel may last, and at most for a week: one
 * that runs longer ends when the broker is restarted after that.
 */
#define LEASE_RESUME_MAX_S ((int64_t)7 * 86400)

/* Until when that is, of a lease that was granted these limits. */
int64_t lease_resume_expires(const struct lease_info *info,
    const struct wire_limits *limits);

/* NULL where it would not be possible: no key, too long. */
char *lease_resume_make(const struct lease_info *info,
    const struct wire_limits *limits);

struct lease_resume {
	/* session, route, client, user, model, plan, anon_id, ticket, issued
	   and id; no subjects, no maximum */
	struct lease_request request;
	int64_t started, expires; /* seconds since 1970 */
	struct wire_limits limits;
	json_t *claims; /* has the texts */
};

/*
 * ERR_UNAUTH: it is none of ours, or too old; ERR_UNAVAIL: the keys cannot be
 * had now.  lease_resume_done() frees it.
 */
enum err lease_resume_read(const char *text, int64_t now,
    struct lease_resume *ret, struct diag *diag) MUST_CHECK;
void lease_resume_done(struct lease_resume *resume);

#endif
