/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite_account.h"

#include <stdlib.h>
#include <string.h>

#include "broker/store/store_sqlite_base.h"

enum {
	TOP_UP,
	CHARGE
}; /* kinds of entries */

/* ---- accounts ---------------------------------------------------------- */

/* A user who has none yet has an empty one. */
static enum err
read_account(struct database *db, const char *user, struct store_account *ret,
    struct diag *diag)
{
	struct store_account account = { .balance = 0 };
	enum err err = database_find(db, GET_ACCOUNT, PARAMS(TEXT(user)), diag);

	if (err == ERR_OK) {
		account.balance = database_number(db, 0);
		account.reserved = database_number(db, 1);
		database_release(db);
	} else if (err != ERR_NOTFOUND) {
		return err;
	}
	*ret = account;
	return ERR_OK;
}

/* Whether it is booked already: ERR_NOTFOUND where it is not. */
static enum err
find_top_up(struct database *db, const struct store_top_up *in,
    struct diag *diag)
{
	enum err err = database_find(db, GET_ENTRY,
	    PARAMS(NUMBER(TOP_UP), TEXT(in->id)), diag);
	char *user;

	if (err != ERR_OK)
		return err;
	user = database_text(db, 0);
	if (strcmp(user, in->user) != 0 ||
	    database_number(db, 1) != in->amount) {
		diag_set(diag, "this id was used for another top-up");
		err = ERR_MISMATCH;
	}
	free(user);
	database_release(db);
	return err;
}

static enum err
add_entry(struct database *db, int kind, const struct store_top_up *entry,
    struct diag *diag)
{
	return database_run(db, ADD_ENTRY,
	    PARAMS(NUMBER(kind), TEXT(entry->id), TEXT(entry->user),
		NUMBER(entry->amount), NUMBER(entry->at)),
	    diag);
}

static enum err
book_top_up(struct database *db, const struct store_top_up *in,
    struct diag *diag)
{
	struct store_account account;
	enum err err = read_account(db, in->user, &account, diag);

	if (err != ERR_OK)
		return err;
	/* both numbers are bounded: neither sum overflows */
	if (in->amount > STORE_BALANCE_MAX - account.balance) {
		diag_set(diag, "an account holds no more than %lld",
		    STORE_BALANCE_MAX / 1000000LL);
		return ERR_LIMIT;
	}
	if (in->amount < account.reserved - account.balance) {
		diag_set(diag, "less than that is there to be taken back");
		return ERR_PAYMENT;
	}
	return add_entry(db, TOP_UP, in, diag);
}

enum err
store_sqlite_top_up(struct store *store, const struct store_top_up *in,
    struct store_account *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	struct store_account account;
	enum err err;

	if (in->amount > STORE_BALANCE_MAX || in->amount < -STORE_BALANCE_MAX) {
		diag_set(diag, "no account holds as much");
		return ERR_LIMIT;
	}
	err = database_begin(db, diag);
	if (err != ERR_OK)
		return err;
	err = find_top_up(db, in, diag);
	if (err == ERR_NOTFOUND)
		err = book_top_up(db, in, diag);
	if (err == ERR_OK)
		err = read_account(db, in->user, &account, diag);
	err = database_end(db, err, diag);
	if (err == ERR_OK)
		*ret = account;
	return err;
}

enum err
store_sqlite_get_account(struct store *store, const char *user,
    struct store_account *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->chats;
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err = read_account(db, user, ret, diag);
	database_leave(db);
	return err;
}

enum err
store_sqlite_reserve(struct database *db, const char *user, int64_t amount,
    struct diag *diag)
{
	enum err err;

	if (amount <= 0) /* there may be no account */
		return ERR_OK;
	err =
	    database_run(db, RESERVE, PARAMS(TEXT(user), NUMBER(amount)), diag);
	if (err == ERR_OK && database_changed(db) == 0) {
		diag_set(diag, "the balance is too low");
		err = ERR_PAYMENT;
	}
	return err;
}

enum err
store_sqlite_get_charge(struct database *db, const char *generation,
    const char *user, struct store_finished *ret, struct diag *diag)
{
	enum err err;

	ret->charged = 0;
	ret->account = (struct store_account){ .balance = 0 };
	if (user == NULL)
		return ERR_OK;
	err = database_find(db, GET_ENTRY,
	    PARAMS(NUMBER(CHARGE), TEXT(generation)), diag);
	if (err == ERR_OK) {
		ret->charged = -database_number(db, 1);
		database_release(db);
	} else if (err != ERR_NOTFOUND) {
		return err;
	}
	return read_account(db, user, &ret->account, diag);
}

enum err
store_sqlite_settle(struct database *db, const char *generation,
    const char *user, int64_t reserved, int64_t charge, int64_t at,
    struct diag *diag)
{
	struct store_account account;
	struct store_top_up entry = { .id = generation,
		.user = user,
		.at = at };
	enum err err = database_run(db, UNRESERVE,
	    PARAMS(TEXT(user), NUMBER(reserved)), diag);

	if (err == ERR_OK)
		err = read_account(db, user, &account, diag);
	if (err != ERR_OK)
		return err;
	/* what is reserved is others' now */
	if (charge > account.balance - account.reserved)
		charge = account.balance - account.reserved;
	entry.amount = -charge;
	return charge > 0 ? add_entry(db, CHARGE, &entry, diag) : ERR_OK;
}

/* ---- allowances -------------------------------------------------------- */

/* Of both counters that of which more is used, or that lasts longer. */
static enum err
read_allowance(struct database *db, const struct store_allowance *in,
    int64_t now, struct store_allowance_state *ret, struct diag *diag)
{
	const char *const names[] = { in->id, in->address };
	struct store_allowance_state most = { .used = 0 };

	for (int i = 0; i < 2; i++) {
		struct store_allowance_state state;
		enum err err = database_find(db, GET_ALLOWANCE,
		    PARAMS(TEXT(names[i]), NUMBER(now)), diag);

		if (err == ERR_NOTFOUND)
			continue;
		if (err != ERR_OK)
			return err;
		state.used = database_number(db, 0);
		state.resets = database_number(db, 1);
		database_release(db);
		if (state.used > most.used ||
		    (state.used == most.used && state.resets > most.resets))
			most = state;
	}
	*ret = most;
	return ERR_OK;
}

enum err
store_sqlite_get_allowance(struct store *store,
    const struct store_allowance *in, int64_t now,
    struct store_allowance_state *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->chats;
	enum err err = database_begin_reading(db, diag);

	if (err != ERR_OK)
		return err;
	err = read_allowance(db, in, now, ret, diag);
	return database_end(db, err, diag);
}

enum err
store_sqlite_use_allowance(struct database *db,
    const struct store_allowance *in, int64_t now,
    struct store_allowance_state *ret, struct diag *diag)
{
	const char *const names[] = { in->id, in->address };
	enum err err = read_allowance(db, in, now, ret, diag);

	if (err != ERR_OK)
		return err;
	if (ret->used >= in->max) {
		diag_set(diag, "a visitor may send no more for now");
		return ERR_RATE;
	}
	for (int i = 0; err == ERR_OK && i < 2; i++)
		err = database_run(db, USE_ALLOWANCE,
		    PARAMS(TEXT(names[i]), NUMBER(now),
			NUMBER(now + in->window_s)),
		    diag);
	if (err != ERR_OK)
		return err;
	return read_allowance(db, in, now, ret, diag);
}
