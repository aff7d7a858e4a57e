/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_H
#define BROKER_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * store: what has to outlive a request, a process, a restart.
 *
 * Domain verbs over a backend; no SQL outside it.  Thread-safe, and safe
 * between processes (plain CGI).  Strings in what is written are copied, those
 * in what is read belong to the result.  Times are seconds since 1970.
 *
 * ERR_UNAVAIL where the backend cannot be used now (busy, full, away), with
 * the reason for the log; it may be tried again.  ERR_NOTFOUND where there is
 * nothing, or it has expired.
 */
struct store;

/* ---- Anam sessions: keyed by the vendor's session id ---- */

struct store_anam {
	char *id;	 /* the vendor's sessionId: a secret */
	char *user;	 /* who it was made for; NULL: not known */
	char *persona;	 /* for the log */
	char *token_id;	 /* jti of the client token that it was made with,
			    unique;  NULL: made without one */
	json_t *session; /* the vendor's answer, as it was */
	int64_t created, expires;
};
void store_anam_done(struct store_anam *session);

/* ---- tickets: what a short-lived key (ek_...) stands for ---- */

struct store_ticket {
	char *id;	 /* jti, unique */
	char *route;	 /* name of the relay that it opens */
	char *user;	 /* NULL: not known */
	char *model;	 /* NULL: the client's choice */
	json_t *session; /* members of a session.update; NULL: none */
	int64_t created, expires;
};
void store_ticket_done(struct store_ticket *ticket);

/* Most tickets that there may be at once: they are what clients ask for. */
#define STORE_TICKETS_MAX 20000

/* ---- the usage ledger: rows are added, never changed ---- */

enum store_tokens {
	STORE_INPUT_TEXT, /* without the cached ones */
	STORE_INPUT_AUDIO,
	STORE_INPUT_IMAGE,
	STORE_CACHED_TEXT,
	STORE_CACHED_AUDIO,
	STORE_CACHED_IMAGE,
	STORE_OUTPUT_TEXT,
	STORE_OUTPUT_AUDIO,
	STORE_TOKENS_COUNT,
};

/* Most tokens, and seconds, that a row may have, so that no sum overflows. */
#define STORE_TOKENS_MAX 1000000000

struct store_usage {
	char *lease; /* with n the idempotency key */
	int64_t n;   /* number of the event within its tunnel, from 1 */
	char *session, *route;
	char *user, *model; /* NULL: not known */
	char *event;	    /* the vendor's type, "response.done" */
	char *vendor_id;    /* the response's or item's; may be NULL */
	char *status;	    /* "completed", "cancelled", ...; may be NULL */
	int64_t at;
	uint64_t tokens[STORE_TOKENS_COUNT];
	uint64_t total_tokens; /* as the vendor says */
	double seconds;	       /* of transcription that is charged by time */
	char *raw;	       /* the vendor's usage object, as it came */
};
void store_usage_done(struct store_usage *usage);

/* Rows of one day, route, user and model, added up. */
struct store_sum {
	char *day;		    /* "2026-01-31", UTC */
	char *route, *user, *model; /* user, model: "" where not known */
	uint64_t events;
	uint64_t tokens[STORE_TOKENS_COUNT];
	uint64_t total_tokens;
	double seconds;
};

/* Most rows of one answer; past it a shorter time has to be asked for. */
#define STORE_SUMS_MAX 50000

struct store_sums {
	struct store_sum *items;
	size_t count;
};
void store_sums_done(struct store_sums *sums);

/* ---- the backend ---- */

struct store_ops {
	const char *name;
	void (*close)(struct store *store);

	/* ERR_DENIED where one that has not expired at in->created has the
	   id or the token_id. */
	enum err (*put_anam)(struct store *store, const struct store_anam *in,
	    struct diag *diag);
	enum err (*get_anam)(struct store *store, const char *id, int64_t now,
	    struct store_anam *ret, struct diag *diag);
	enum err (*get_anam_by_token)(struct store *store, const char *token_id,
	    int64_t now, struct store_anam *ret, struct diag *diag);

	/* ERR_DENIED where one that has not expired at in->created has it,
	   ERR_UNAVAIL where there are STORE_TICKETS_MAX. */
	enum err (*put_ticket)(struct store *store,
	    const struct store_ticket *in, struct diag *diag);
	enum err (*get_ticket)(struct store *store, const char *id, int64_t now,
	    struct store_ticket *ret, struct diag *diag);

	/*
	 * Book rows in one transaction: all, or none.  A row whose lease and n
	 * are there already is not booked again, and is no error.  ERR_LIMIT
	 * for a row with more than STORE_TOKENS_MAX.
	 */
	enum err (*add_usage)(struct store *store,
	    const struct store_usage *rows, size_t count, struct diag *diag);
	/*
	 * Rows with from <= at < to, by day, route, user, model, in order.
	 * ERR_LIMIT past STORE_SUMS_MAX.  It may take long, and holds up
	 * nobody else.
	 */
	enum err (*sum_usage)(struct store *store, int64_t from, int64_t to,
	    struct store_sums *ret, struct diag *diag);

	/* Forget sessions and tickets that have expired. */
	enum err (*expire)(struct store *store, int64_t now, struct diag *diag);
};

/* A backend's store begins with this. */
struct store {
	const struct store_ops *ops;
};

/*
 * The store that broker/main.c opened, or NULL where the configuration names
 * none.  It lives as long as the process.
 */
struct store *store_current(void);
void store_set_current(struct store *store);

#endif
