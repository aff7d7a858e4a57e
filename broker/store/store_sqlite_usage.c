/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite_usage.h"

#include <math.h>

#include "broker/store/store_sqlite_base.h"
#include "broker/store/store_sqlite_budget.h"
#include "common/xalloc.h"

static char late[] = "late";

enum err
store_sqlite_check_usage(const struct store_usage *row, struct diag *diag)
{
	uint64_t most = row->total_tokens;

	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		if (row->tokens[i] > most)
			most = row->tokens[i];
	if (row->money < 0 || row->money > STORE_BALANCE_MAX) {
		diag_set(diag, "a row costs more than can be booked");
		return ERR_LIMIT;
	}
	if (most <= STORE_TOKENS_MAX && isfinite(row->seconds) &&
	    row->seconds >= 0 && row->seconds <= STORE_TOKENS_MAX)
		return ERR_OK;
	diag_set(diag, "a row has more than %d tokens", STORE_TOKENS_MAX);
	return ERR_LIMIT;
}

static enum err
insert(struct database *db, const struct store_usage *row, struct diag *diag)
{
	enum err err = database_use(db, ADD_USAGE, diag);

	if (err != ERR_OK)
		return err;
	database_bind_text(db, 1, row->lease);
	database_bind_number(db, 2, row->n);
	database_bind_text(db, 3, row->session);
	database_bind_text(db, 4, row->route);
	database_bind_text(db, 5, row->user);
	database_bind_text(db, 6, row->model);
	database_bind_text(db, 7, row->event);
	database_bind_text(db, 8, row->vendor_id);
	database_bind_text(db, 9, row->status);
	database_bind_number(db, 10, row->at);
	database_bind_number(db, 11, (int64_t)row->total_tokens);
	database_bind_real(db, 12, row->seconds);
	database_bind_text(db, 13, row->raw);
	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		database_bind_number(db, 14 + i, (int64_t)row->tokens[i]);
	err = database_finish(db, diag);
	/* one that was there already was counted then */
	if (err == ERR_OK && database_changed(db) > 0)
		err = store_sqlite_settle_budgets(db, row, diag);
	return err;
}

/* What is left of it when a row "lost" has booked some for it before. */
static enum err
take_from_lost(struct database *db, struct store_usage *row, struct diag *diag)
{
	enum err err = database_find(db, GET_LOST,
	    PARAMS(TEXT(row->lease), NUMBER(row->lost_n)), diag);
	uint64_t tokens;
	int64_t money;

	if (err != ERR_OK)
		return err == ERR_NOTFOUND ? ERR_OK : err;
	tokens = (uint64_t)database_number(db, 0);
	money = database_number(db, 1);
	database_release(db);
	row->status = late;
	row->total_tokens -=
	    row->total_tokens < tokens ? row->total_tokens : tokens;
	row->money -= row->money < money ? row->money : money;
	return ERR_OK;
}

enum err
store_sqlite_insert_usage(struct database *db, const struct store_usage *row,
    struct diag *diag)
{
	struct store_usage rest = *row; /* borrows */
	enum err err = ERR_OK;

	if (row->lost_n != 0)
		err = take_from_lost(db, &rest, diag);
	return err == ERR_OK ? insert(db, &rest, diag) : err;
}

enum err
store_sqlite_add_usage(struct store *store, const struct store_usage *rows,
    size_t count, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < count; i++)
		err = store_sqlite_check_usage(&rows[i], diag);
	if (err == ERR_OK)
		err = database_begin(db, diag);
	if (err != ERR_OK)
		return err;
	for (size_t i = 0; err == ERR_OK && i < count; i++)
		err = store_sqlite_insert_usage(db, &rows[i], diag);
	return database_end(db, err, diag);
}

static void
read_sum(struct database *db, struct store_sum *sum)
{
	*sum = (struct store_sum){
		.day = database_text(db, 0),
		.route = database_text(db, 1),
		.user = database_text(db, 2),
		.model = database_text(db, 3),
		.events = (uint64_t)database_number(db, 4),
		.total_tokens = (uint64_t)database_number(db, 5),
		.seconds = database_real(db, 6),
	};
	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		sum->tokens[i] = (uint64_t)database_number(db, 7 + i);
}

static enum err
read_sums(struct database *db, struct store_sums *sums, struct diag *diag)
{
	size_t size = 0;
	enum err err;

	while ((err = database_step(db, diag)) == ERR_OK) {
		if (sums->count == STORE_SUMS_MAX) {
			diag_set(diag, "more than %d rows", STORE_SUMS_MAX);
			return ERR_LIMIT;
		}
		if (sums->count == size) {
			size = size == 0 ? 64 : size * 2;
			sums->items = xreallocarray(sums->items, size,
			    sizeof(sums->items[0]));
		}
		read_sum(db, &sums->items[sums->count++]);
	}
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
store_sqlite_sum_usage(struct store *store, int64_t from, int64_t to,
    struct store_sums *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->reports;
	struct store_sums sums = { .count = 0 };
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_use(db, SUM_USAGE, diag);
	if (err == ERR_OK) {
		database_bind_number(db, 1, from);
		database_bind_number(db, 2, to);
		err = read_sums(db, &sums, diag);
		database_release(db);
	}
	database_leave(db);
	if (err == ERR_OK)
		*ret = sums;
	else
		store_sums_done(&sums);
	return err;
}
