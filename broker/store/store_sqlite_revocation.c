/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite_revocation.h"

#include "broker/store/store_sqlite_base.h"
#include "common/xalloc.h"

/* Whether one more has room: it is there already, or there are not too many. */
static enum err
check_room(struct database *db, const struct store_revocation *in,
    struct diag *diag)
{
	int64_t others;
	enum err err = database_find(db, COUNT_REVOCATIONS,
	    PARAMS(TEXT(in->kind), TEXT(in->value)), diag);

	if (err != ERR_OK)
		return err;
	others = database_number(db, 0);
	database_release(db);
	if (others < STORE_REVOCATIONS_MAX)
		return ERR_OK;
	diag_set(diag, "%d revocations are there already",
	    STORE_REVOCATIONS_MAX);
	return ERR_LIMIT;
}

enum err
store_sqlite_revoke(struct store *store, const struct store_revocation *in,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = check_room(db, in, diag);
	if (err == ERR_OK)
		err = database_run(db, REVOKE,
		    PARAMS(TEXT(in->kind), TEXT(in->value), NUMBER(in->before),
			NUMBER(in->expires)),
		    diag);
	return database_end(db, err, diag);
}

static enum err
read_all(struct database *db, int64_t now, struct store_revocations *ret,
    struct diag *diag)
{
	size_t size = 0;
	enum err err =
	    database_ask(db, LIST_REVOCATIONS, PARAMS(NUMBER(now)), diag);

	if (err != ERR_OK)
		return err;
	while ((err = database_step(db, diag)) == ERR_OK) {
		if (ret->count == size) {
			size = size == 0 ? 16 : size * 2;
			ret->items = xreallocarray(ret->items, size,
			    sizeof(*ret->items));
		}
		ret->items[ret->count++] = (struct store_revocation){
			.kind = database_text(db, 0),
			.value = database_text(db, 1),
			.before = database_number(db, 2),
			.expires = database_number(db, 3),
		};
	}
	database_release(db);
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
store_sqlite_list_revocations(struct store *store, int64_t now,
    struct store_revocations *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->reads;
	struct store_revocations all = { .items = NULL };
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err = read_all(db, now, &all, diag);
	database_leave(db);
	if (err == ERR_OK)
		*ret = all;
	else
		store_revocations_done(&all);
	return err;
}
