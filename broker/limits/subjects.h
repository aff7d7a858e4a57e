/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SUBJECTS_H
#define BROKER_SUBJECTS_H

#include <stdbool.h>
#include <stddef.h>

#include "broker/config/config.h"
#include "broker/store/store.h"
#include "common/wire.h"

/*
 * subjects: for whom one request, tunnel or stream is counted, and under which
 * limits: the user or the anonymous id, the address, the route.  Pure.
 */
struct subject {
	char name[STORE_SUBJECT_MAX + 1]; /* "u:", "a:", "n:", "r:" and who */
	const struct config_plan *plan;	  /* NULL: no limits */
};

struct subjects {
	struct subject items[STORE_SUBJECTS_MAX];
	size_t count;
};

struct subjects_request {
	const char *user;	/* NULL: none */
	const char *plan;	/* that the user's token names; NULL: none */
	const char *anon_id;	/* NULL: none; not beside user */
	const char *address;	/* numeric */
	const char *route;	/* name; NULL: not known yet */
	const char *route_plan; /* its `plan'; NULL: none */
};

/*
 * All that it is counted for, with a plan or without one; names borrow
 * nothing, plans are of config.  Who shows neither token nor id is anonymous,
 * too: by the address, as "a:@192.0.2.1".
 */
void subjects_fill(const struct config *config,
    const struct subjects_request *request, struct subjects *ret);

/*
 * The name of one: kind is its first letter; text is numeric for an address,
 * and no address is "n:-".
 */
void subjects_write_name(char kind, const char *text,
    char out[STORE_SUBJECT_MAX + 1]);

/* The address alone, before anything else is known. */
void subjects_fill_address(const struct config *config, const char *address,
    struct subjects *ret);

/* Their limits of a day, for the store; borrows the names. */
void subjects_budgets(const struct subjects *subjects,
    struct store_budgets *ret);

/* Whether any of them has a budget of tokens or money. */
bool subjects_have_budget(const struct subjects *subjects);

/* Narrow a tunnel's limits by theirs: the smaller one counts. */
void subjects_limit_tunnel(const struct subjects *subjects,
    struct wire_limits *limits);

#endif
