/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite_lease.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/store/store_sqlite_base.h"
#include "common/xalloc.h"

enum err
store_sqlite_end_leases(struct store *store, const struct store_lease_end *rows,
    size_t count, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	for (size_t i = 0; err == ERR_OK && i < count; i++)
		err = database_run(db, END_LEASE,
		    PARAMS(TEXT(rows[i].lease), NUMBER(rows[i].expires)), diag);
	return database_end(db, err, diag);
}

static enum err
read_all(struct database *db, int64_t now, struct store_lease_ends *ret,
    struct diag *diag)
{
	enum err err = database_ask(db, LIST_LEASE_ENDS,
	    PARAMS(NUMBER(now), NUMBER(STORE_LEASE_ENDS_MAX)), diag);
	size_t size = 0;

	if (err != ERR_OK)
		return err;
	while ((err = database_step(db, diag)) == ERR_OK) {
		struct store_lease_end *end;
		char *lease = database_text(db, 0);

		if (ret->count == size) {
			size = size == 0 ? 64 : size * 2;
			ret->items = xreallocarray(ret->items, size,
			    sizeof(*ret->items));
		}
		end = &ret->items[ret->count++];
		(void)snprintf(end->lease, sizeof(end->lease), "%s", lease);
		end->expires = database_number(db, 1);
		free(lease);
	}
	database_release(db);
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
store_sqlite_list_lease_ends(struct store *store, int64_t now,
    struct store_lease_ends *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->reads;
	struct store_lease_ends all = { .items = NULL };
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err = read_all(db, now, &all, diag);
	database_leave(db);
	if (err == ERR_OK)
		*ret = all;
	else
		free(all.items);
	return err;
}
