/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite_budget.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/store/store_sqlite_base.h"
#include "common/json.h"
#include "common/xalloc.h"

#define DAY_S 86400

/* How long a connection that reports no more may still come back. */
#define METER_S ((int64_t)2 * DAY_S)

static int64_t
day_of(int64_t time)
{
	return time / DAY_S;
}

/* ---- how budgets stand ------------------------------------------------- */

/* What others have reserved, beside what was booked today. */
struct standing {
	struct store_budget_state state;
	int64_t reservations;
};

static enum err
read_standing(struct database *db, const char *subject, int64_t now,
    struct standing *ret, struct diag *diag)
{
	struct standing standing = {
		.state.resets = (day_of(now) + 1) * DAY_S,
	};
	struct store_budget_state *state = &standing.state;
	enum err err;

	(void)snprintf(state->subject, sizeof(state->subject), "%s", subject);
	err = database_find(db, GET_COUNTER,
	    PARAMS(TEXT(subject), NUMBER(day_of(now))), diag);
	if (err == ERR_OK) {
		state->tokens = database_number(db, 0);
		state->money = database_number(db, 1);
		state->seconds = database_number(db, 2);
		database_release(db);
	} else if (err != ERR_NOTFOUND) {
		return err;
	}
	err = database_find(db, SUM_RESERVED,
	    PARAMS(TEXT(subject), NUMBER(now)), diag);
	if (err != ERR_OK)
		return err;
	standing.reservations = database_number(db, 0);
	state->reserved_tokens = database_number(db, 1);
	state->reserved_money = database_number(db, 2);
	database_release(db);
	*ret = standing;
	return ERR_OK;
}

/* The part of it that is left; below 0 where more was used. */
static double
share(int64_t max, int64_t used)
{
	return max == 0 ? 1 : (double)(max - used) / (double)max;
}

/* Of a budget the limit of which least is left. */
static double
least_share(const struct store_budget *budget,
    const struct store_budget_state *state)
{
	const double shares[] = {
		share(budget->max_tokens,
		    state->tokens + state->reserved_tokens),
		share(budget->max_money, state->money + state->reserved_money),
		share(budget->max_seconds, state->seconds),
	};
	double least = shares[0];

	for (int i = 1; i < 3; i++)
		least = shares[i] < least ? shares[i] : least;
	return least;
}

static bool
has_limit(const struct store_budget *budget)
{
	return budget->max_tokens > 0 || budget->max_money > 0 ||
	    budget->max_seconds > 0;
}

static bool
is_spent(int64_t max, int64_t used)
{
	return max > 0 && used >= max;
}

static enum err
check(struct database *db, const struct store_budgets *budgets, int64_t now,
    struct store_budget_state *ret, struct diag *diag)
{
	double least = 2;

	for (size_t i = 0; i < budgets->count; i++) {
		const struct store_budget *budget = &budgets->items[i];
		struct standing standing;
		const struct store_budget_state *state = &standing.state;
		enum err err;

		if (!has_limit(budget))
			continue;
		err = read_standing(db, budget->subject, now, &standing, diag);
		if (err != ERR_OK)
			return err;
		if (least_share(budget, state) < least) {
			least = least_share(budget, state);
			*ret = *state;
		}
		if (is_spent(budget->max_tokens, state->tokens) ||
		    is_spent(budget->max_money, state->money) ||
		    is_spent(budget->max_seconds, state->seconds)) {
			*ret = *state;
			diag_set(diag, "%s", err_text(ERR_BUDGET));
			return ERR_BUDGET;
		}
	}
	return ERR_OK;
}

enum err
store_sqlite_check_budgets(struct store *store,
    const struct store_budgets *budgets, int64_t now,
    struct store_budget_state *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->reads;
	struct store_budget_state state = { .subject = "" };
	enum err err = database_begin_reading(db, diag);

	if (err != ERR_OK)
		return err;
	err = check(db, budgets, now, &state, diag);
	err = database_end(db, err, diag);
	if (err == ERR_OK || err == ERR_BUDGET)
		*ret = state;
	return err;
}

static enum err
list(struct database *db, const char *subject, int64_t now,
    struct store_budget_list *ret, struct diag *diag)
{
	enum err err = database_ask(db, LIST_BUDGETS,
	    PARAMS(TEXT(subject), NUMBER(now), NUMBER(STORE_BUDGET_LIST_MAX)),
	    diag);

	if (err != ERR_OK)
		return err;
	while ((err = database_step(db, diag)) == ERR_OK) {
		struct store_budget_state *state;
		char *name = database_text(db, 0);

		ret->items = xreallocarray(ret->items, ret->count + 1,
		    sizeof(*ret->items));
		state = &ret->items[ret->count++];
		*state = (struct store_budget_state){
			.tokens = database_number(db, 1),
			.money = database_number(db, 2),
			.seconds = database_number(db, 3),
			.reserved_tokens = database_number(db, 4),
			.reserved_money = database_number(db, 5),
			.resets = (day_of(now) + 1) * DAY_S,
		};
		(void)snprintf(state->subject, sizeof(state->subject), "%s",
		    name);
		free(name);
		ret->total = database_number(db, 6);
	}
	database_release(db);
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
store_sqlite_list_budgets(struct store *store, const char *subject, int64_t now,
    struct store_budget_list *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->reads;
	struct store_budget_list all = { .items = NULL };
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err = list(db, subject, now, &all, diag);
	database_leave(db);
	if (err == ERR_OK)
		*ret = all;
	else
		free(all.items);
	return err;
}

/* ---- reserving --------------------------------------------------------- */

/* What of an amount is to be reserved under one limit. */
static enum err
fit(int64_t max, int64_t used, int64_t reserved, bool alone, int64_t *amount)
{
	if (max == 0) {
		*amount = 0; /* nobody asks how much */
		return ERR_OK;
	}
	if (used >= max)
		return ERR_BUDGET;
	if (*amount > max - used - reserved) {
		if (!alone)
			return ERR_AGAIN;
		*amount = max - used;
	}
	return ERR_OK;
}

/* *ret: what is to be reserved of this one, and how it stands. */
static enum err
fit_budget(struct database *db, const struct store_reserve *in,
    const struct store_budget *budget, struct standing *ret,
    int64_t *ret_tokens, int64_t *ret_money, struct diag *diag)
{
	const struct store_budget_state *state = &ret->state;
	int64_t tokens = in->tokens, money = in->money;
	enum err by_tokens, by_money;
	bool alone;
	enum err err = read_standing(db, budget->subject, in->now, ret, diag);

	if (err != ERR_OK)
		return err;
	alone = ret->reservations == 0;
	by_tokens = fit(budget->max_tokens, state->tokens,
	    state->reserved_tokens, alone, &tokens);
	by_money = fit(budget->max_money, state->money, state->reserved_money,
	    alone, &money);
	if (by_tokens == ERR_BUDGET || by_money == ERR_BUDGET) {
		diag_set(diag, "%s", err_text(ERR_BUDGET));
		return ERR_BUDGET;
	}
	if (by_tokens == ERR_AGAIN || by_money == ERR_AGAIN) {
		diag_set(diag,
		    "what is left of the budget of this day is in use: try "
		    "again");
		return ERR_AGAIN;
	}
	*ret_tokens = tokens;
	*ret_money = money;
	return ERR_OK;
}

/* What is booked where nobody settles it; NULL: nothing. */
static char *
format_lost(const struct store_reserve *in)
{
	const struct store_lost *lost = in->lost;
	json_t *object;
	char *text;
	size_t len;

	if (lost == NULL)
		return NULL;
	object = json_pack("{ss ss ss ss* ss* sI sI sI}", "lease", lost->lease,
	    "session", lost->session, "route", lost->route, "user", lost->user,
	    "model", lost->model, "ask", (json_int_t)lost->ask,
	    "reserved_tokens", (json_int_t)in->tokens, "reserved_money",
	    (json_int_t)in->money);
	if (object == NULL)
		return NULL;
	text = json_text(object, &len);
	json_decref(object);
	return text;
}

static enum err
put(struct database *db, const struct store_reserve *in, const int64_t *tokens,
    const int64_t *money, struct diag *diag)
{
	char *lost = format_lost(in);
	enum err err = ERR_OK;

	for (size_t i = 0; i < in->budgets.count && err == ERR_OK; i++)
		if (has_limit(&in->budgets.items[i]))
			err = database_run(db, PUT_RESERVATION,
			    PARAMS(TEXT(in->id),
				TEXT(in->budgets.items[i].subject),
				NUMBER(tokens[i]), NUMBER(money[i]),
				NUMBER(in->expires), TEXT(lost)),
			    diag);
	free(lost);
	return err;
}

/*
 * All of them are looked at before any is written, and one that is used up
 * counts more than one to wait for.
 */
static enum err
reserve(struct database *db, const struct store_reserve *in,
    struct store_budget_state *ret, struct diag *diag)
{
	int64_t tokens[STORE_SUBJECTS_MAX], money[STORE_SUBJECTS_MAX];
	enum err result = ERR_OK, err = ERR_OK;
	double least = 2;

	for (size_t i = 0; i < in->budgets.count && err != ERR_BUDGET; i++) {
		const struct store_budget *budget = &in->budgets.items[i];
		struct standing standing;
		double left;

		if (!has_limit(budget))
			continue;
		err = fit_budget(db, in, budget, &standing, &tokens[i],
		    &money[i], diag);
		if (err != ERR_OK && err != ERR_AGAIN && err != ERR_BUDGET)
			return err;
		left = least_share(budget, &standing.state);
		if (err == ERR_BUDGET ||
		    (err == ERR_AGAIN && result == ERR_OK) ||
		    (err == result && left < least)) {
			least = left;
			*ret = standing.state;
		}
		if (err != ERR_OK)
			result = err;
	}
	return result == ERR_OK ? put(db, in, tokens, money, diag) : result;
}

enum err
store_sqlite_reserve_within(struct database *db, const struct store_reserve *in,
    struct store_budget_state *ret, struct diag *diag)
{
	enum err err;

	if (in->tokens < 0 || in->tokens > STORE_TOKENS_MAX || in->money < 0 ||
	    in->money > STORE_BALANCE_MAX) {
		diag_set(diag, "more than can be reserved");
		return ERR_LIMIT;
	}
	err = database_find(db, IS_RESERVED,
	    PARAMS(TEXT(in->id), NUMBER(in->now)), diag);
	if (err == ERR_OK)
		database_release(db);
	else if (err == ERR_NOTFOUND)
		err = reserve(db, in, ret, diag);
	return err;
}

enum err
store_sqlite_reserve_budgets(struct store *store,
    const struct store_reserve *in, struct store_budget_state *ret,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	struct store_budget_state state = { .subject = "" };
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = store_sqlite_reserve_within(db, in, &state, diag);
	err = database_end(db, err, diag);
	if (err == ERR_OK || err == ERR_AGAIN || err == ERR_BUDGET)
		*ret = state;
	return err;
}

enum err
store_sqlite_release_budgets(struct store *store, const char *id,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_run(db, END_RESERVATION, PARAMS(TEXT(id)), diag);
	return database_end(db, err, diag);
}

/* ---- booking ----------------------------------------------------------- */

enum err
store_sqlite_settle_budgets(struct database *db, const struct store_usage *row,
    struct diag *diag)
{
	int64_t day = day_of(row->at), tokens = (int64_t)row->total_tokens;
	enum err err = ERR_OK;

	for (int i = 0; err == ERR_OK && i < STORE_SUBJECTS_MAX &&
	     row->subjects[i] != NULL;
	     i++)
		err = database_run(db, ADD_COUNTER,
		    PARAMS(TEXT(row->subjects[i]), NUMBER(day), NUMBER(tokens),
			NUMBER(row->money), NUMBER(0)),
		    diag);
	if (err != ERR_OK || row->reservation == NULL)
		return err;
	if (row->subjects[0] == NULL)
		err = database_run(db, ADD_TO_RESERVED,
		    PARAMS(TEXT(row->reservation), NUMBER(day), NUMBER(tokens),
			NUMBER(row->money)),
		    diag);
	if (err == ERR_OK)
		err = database_run(db, END_RESERVATION,
		    PARAMS(TEXT(row->reservation)), diag);
	return err;
}

static enum err
add_seconds(struct database *db, const struct store_seconds *row,
    struct diag *diag)
{
	int64_t total =
	    row->total < STORE_TOKENS_MAX ? row->total : STORE_TOKENS_MAX;
	int64_t before = 0;
	enum err err =
	    database_find(db, GET_METER, PARAMS(TEXT(row->lease)), diag);

	if (err == ERR_OK) {
		before = database_number(db, 0);
		database_release(db);
	} else if (err != ERR_NOTFOUND) {
		return err;
	}
	if (total <= before)
		return ERR_OK;
	err = database_run(db, SET_METER,
	    PARAMS(TEXT(row->lease), NUMBER(total), NUMBER(row->now + METER_S)),
	    diag);
	for (int i = 0; err == ERR_OK && i < STORE_SUBJECTS_MAX &&
	     row->subjects[i] != NULL;
	     i++)
		err = database_run(db, ADD_COUNTER,
		    PARAMS(TEXT(row->subjects[i]), NUMBER(day_of(row->now)),
			NUMBER(0), NUMBER(0), NUMBER(total - before)),
		    diag);
	return err;
}

enum err
store_sqlite_add_seconds(struct store *store, const struct store_seconds *rows,
    size_t count, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < count; i++) {
		err = database_begin(db, diag);
		if (err == ERR_OK)
			err = database_end(db, add_seconds(db, &rows[i], diag),
			    diag);
	}
	return err;
}
