/* SPDX-License-Identifier: MIT */
#ifndef BROKER_LEASES_H
#define BROKER_LEASES_H

#include <jansson.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "broker/limits/subjects.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * leases: the tunnels that are open now, counted in total and per route.
 *
 * A lease has one owner, who releases it; the counts are those of the leases
 * that exist, so nothing can leak.  All of it is thread-safe; one lease is
 * used by one thread at a time.
 */
struct leases;
struct lease;

struct leases *leases_new(void);

/* Free the table; all leases must have been released.  NULL is allowed. */
void leases_free(struct leases *leases);

/* What a lease is taken for; the strings are copied. */
struct lease_request {
	const char *session;
	const char *route;
	const char *client;  /* numeric address */
	const char *user;    /* NULL: not known */
	const char *model;   /* that the vendor is asked for; NULL: none */
	const char *plan;    /* that the user's token names; NULL: none */
	const char *anon_id; /* NULL: none */
	const char *ticket;  /* id; NULL: came without one */
	int64_t issued;	     /* what it was let in by; 0: not known */
	/* For whom its slot and its budgets are counted; copied.  NULL: none.
	   Their plans are of `config', which is counted for the lease. */
	const struct subjects *subjects;
	struct config *config;
	const char *id;	    /* of a lease that is resumed; NULL: a new one */
	int64_t started;    /* of one that is; seconds since 1970 */
	uint64_t max_route; /* leases of this route at once; 0: no limit */
	uint64_t max_total; /* of all routes; 0: no limit */
	uint64_t *ret_full; /* with ERR_RATE: how many there may be; NULL */
};

/*
 * Take a lease with a random id.  ERR_UNAVAIL at max_total, ERR_RATE at
 * max_route, and where one of its subjects has all the tunnels that it may.
 * With an id it is one of a broker before this, which passes over all these;
 * ERR_CONFLICT where it is open.  The caller releases it.
 */
enum err leases_take(struct leases *leases, const struct lease_request *request,
    struct lease **ret, struct diag *diag) MUST_CHECK;

/*
 * Its conversation is over: it is counted no more.  What is known of it stays
 * until it is released.
 */
void lease_end(struct lease *lease);

/* End it and free it; NULL is allowed. */
void lease_release(struct lease *lease);

/* After a reload: the same subjects, and their plans of now. */
void lease_replan(struct lease *lease, const struct subjects *subjects,
    struct config *config);

/* Note the totals so far. */
void lease_update(struct lease *lease, const struct wire_usage *usage);

/* What is known of a lease; borrowed, valid until it is released. */
struct lease_info {
	char id[33];
	char *session, *route, *client;
	char *user, *model; /* may be NULL, as may these: */
	char *plan, *anon_id, *ticket;
	int64_t issued;
	struct subjects subjects; /* count 0: none */
	struct config *config;	  /* their plans'; NULL: none */
	int64_t started_ms;	  /* clock_ms() */
	int64_t started_unix;	  /* clock_unix() */
	struct wire_totals from_client, from_upstream;
};
const struct lease_info *lease_peek(const struct lease *lease);

/*
 * {"total":n,"routes":{name:n},"leases":[{...}],"omitted":n}, the oldest
 * first, of at most about max_bytes as text; "omitted" did not fit.  The
 * caller decrefs it.
 */
json_t *leases_list(struct leases *leases, size_t max_bytes);

#endif
