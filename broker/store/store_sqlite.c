/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "broker/store/store_sqlite_account.h"
#include "broker/store/store_sqlite_base.h"
#include "broker/store/store_sqlite_budget.h"
#include "broker/store/store_sqlite_chat.h"
#include "broker/store/store_sqlite_generation.h"
#include "broker/store/store_sqlite_lease.h"
#include "broker/store/store_sqlite_revocation.h"
#include "broker/store/store_sqlite_ticket.h"
#include "broker/store/store_sqlite_usage.h"
#include "common/json.h"
#include "common/xalloc.h"

/* A checkpoint leaves 16 MiB of it: database.c. */
#define WAL_MAX_BYTES (256 * 1024 * 1024)
#define USE_MAX_MS    60000 /* a report of a large ledger; nothing else */

static const char *const migrations[] = {
#define MIGRATION(sql) sql,
#include "broker/store/store_sqlite_base.def"
};

static const char *const statements[] = {
#define STATEMENT(id, sql) [id] = (sql),
#include "broker/store/store_sqlite_base.def"
};

static const struct database_schema schema = {
	.application_id = 0x43554c56, /* "CULV" */
	.migrations = migrations,
	.migration_count = sizeof(migrations) / sizeof(migrations[0]),
	.statements = statements,
	.statement_count = sizeof(statements) / sizeof(statements[0]),
	.log_max_bytes = WAL_MAX_BYTES,
	.use_max_ms = USE_MAX_MS,
};

/* ---- Anam sessions ------------------------------------------------------ */

static enum err
insert_anam(struct database *db, const struct store_anam *in, struct diag *diag)
{
	size_t len;
	char *session = json_text(in->session, &len);
	enum err err = database_run(db, FORGET_ANAM,
	    PARAMS(TEXT(in->id), TEXT(in->token_id), NUMBER(in->created)),
	    diag);

	if (err == ERR_OK)
		err = database_run(db, PUT_ANAM,
		    PARAMS(TEXT(in->id), TEXT(in->user), TEXT(in->persona),
			TEXT(in->token_id), TEXT(session), NUMBER(in->created),
			NUMBER(in->expires)),
		    diag);
	explicit_bzero(session, len);
	free(session);
	return err;
}

static enum err
put_anam(struct store *store, const struct store_anam *in, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	return database_end(db, insert_anam(db, in, diag), diag);
}

static enum err
read_anam(struct database *db, struct store_anam *ret, struct diag *diag)
{
	json_t *session;
	enum err err = store_sqlite_json(db, 4, &session, diag);

	if (err == ERR_OK)
		*ret = (struct store_anam){
			.id = database_text(db, 0),
			.user = database_text(db, 1),
			.persona = database_text(db, 2),
			.token_id = database_text(db, 3),
			.session = session,
			.created = database_number(db, 5),
			.expires = database_number(db, 6),
		};
	return err;
}

/* The one row of this key that has not expired. */
static enum err
get_anam_row(struct store *store, enum statement id, const char *key,
    int64_t now, struct store_anam *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->reads;
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_find(db, id, PARAMS(TEXT(key), NUMBER(now)), diag);
	if (err == ERR_OK) {
		err = read_anam(db, ret, diag);
		database_release(db);
	}
	database_leave(db);
	return err;
}

static enum err
get_anam(struct store *store, const char *id, int64_t now,
    struct store_anam *ret, struct diag *diag)
{
	return get_anam_row(store, GET_ANAM, id, now, ret, diag);
}

static enum err
get_anam_by_token(struct store *store, const char *token_id, int64_t now,
    struct store_anam *ret, struct diag *diag)
{
	return get_anam_row(store, GET_ANAM_BY_TOKEN, token_id, now, ret, diag);
}

/* ---- the store --------------------------------------------------------- */

static enum err
expire_rows(struct database *db, int64_t now, struct diag *diag)
{
	static const enum statement ids[] = { EXPIRE_ANAM, EXPIRE_TICKETS,
		EXPIRE_ALLOWANCES, EXPIRE_KEYS, EXPIRE_COUNTERS, COUNT_LOST,
		BOOK_LOST, EXPIRE_RESERVATIONS, EXPIRE_METERS,
		EXPIRE_REVOCATIONS, EXPIRE_LEASE_ENDS };
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	for (size_t i = 0; err == ERR_OK && i < sizeof(ids) / sizeof(ids[0]);
	     i++)
		err = database_run(db, ids[i], PARAMS(NUMBER(now)), diag);
	return database_end(db, err, diag);
}

static enum err
expire_events(struct database *db, int64_t now, bool *ret_more,
    struct diag *diag)
{
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_run(db, EXPIRE_PIECES, PARAMS(NUMBER(now)), diag);
	if (err == ERR_OK)
		err =
		    database_run(db, EXPIRE_EVENTS, PARAMS(NUMBER(now)), diag);
	*ret_more |= err == ERR_OK && database_changed(db) > 0;
	return database_end(db, err, diag);
}

static enum err
expire(struct store *store, const struct store_expiry *in, bool *ret_more,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = expire_rows(db, in->now, diag);

	*ret_more = false;
	if (err == ERR_OK)
		err = expire_events(db, in->now, ret_more, diag);
	if (err == ERR_OK && in->user_keep_s > 0)
		err = store_sqlite_expire_chats(db,
		    "u:", in->now - in->user_keep_s, ret_more, diag);
	if (err == ERR_OK && in->anonymous_keep_s > 0)
		err = store_sqlite_expire_chats(db,
		    "a:", in->now - in->anonymous_keep_s, ret_more, diag);
	return err;
}

static enum err
probe(struct store *store, struct diag *diag)
{
	return database_probe(((struct store_sqlite *)store)->db, diag);
}

static void
close_store(struct store *store)
{
	struct store_sqlite *sqlite = (struct store_sqlite *)store;

	database_free(sqlite->chats);
	database_free(sqlite->reports);
	database_free(sqlite->reads);
	database_free(sqlite->db);
	free(sqlite);
}

static const struct store_ops ops = {
	.name = "sqlite",
	.close = close_store,
	.probe = probe,
	.put_anam = put_anam,
	.get_anam = get_anam,
	.get_anam_by_token = get_anam_by_token,
	.put_ticket = store_sqlite_put_ticket,
	.get_ticket = store_sqlite_get_ticket,
	.spend_ticket = store_sqlite_spend_ticket,
	.reserve = store_sqlite_reserve_budgets,
	.release = store_sqlite_release_budgets,
	.add_seconds = store_sqlite_add_seconds,
	.check_budgets = store_sqlite_check_budgets,
	.list_budgets = store_sqlite_list_budgets,
	.revoke = store_sqlite_revoke,
	.list_revocations = store_sqlite_list_revocations,
	.end_leases = store_sqlite_end_leases,
	.list_lease_ends = store_sqlite_list_lease_ends,
	.add_usage = store_sqlite_add_usage,
	.sum_usage = store_sqlite_sum_usage,
	.top_up = store_sqlite_top_up,
	.get_account = store_sqlite_get_account,
	.get_allowance = store_sqlite_get_allowance,
	.add_chat = store_sqlite_add_chat,
	.rename_chat = store_sqlite_rename_chat,
	.delete_chat = store_sqlite_delete_chat,
	.get_chat = store_sqlite_get_chat,
	.list_chats = store_sqlite_list_chats,
	.list_messages = store_sqlite_list_messages,
	.begin = store_sqlite_begin,
	.add_pieces = store_sqlite_add_pieces,
	.finish = store_sqlite_finish,
	.get_generation = store_sqlite_get_generation,
	.get_events = store_sqlite_get_events,
	.list_running = store_sqlite_list_running,
	.expire = expire,
};

enum err
store_sqlite_open(const char *path, struct store **ret, struct diag *diag)
{
	struct database *db;
	struct store_sqlite *sqlite;
	enum err err = database_open(path, &schema, &db, diag);

	if (err != ERR_OK)
		return err;
	sqlite = xcalloc(1, sizeof(*sqlite));
	sqlite->store.ops = &ops;
	sqlite->db = db;
	sqlite->reads = database_new(path, &schema);
	sqlite->reports = database_new(path, &schema);
	sqlite->chats = database_new(path, &schema);
	*ret = &sqlite->store;
	return ERR_OK;
}

enum err
store_sqlite_check(const char *path, struct diag *diag)
{
	return database_check(path, &schema, diag);
}
