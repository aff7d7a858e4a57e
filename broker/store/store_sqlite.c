/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "broker/store/store_sqlite_account.h"
#include "broker/store/store_sqlite_base.h"
#include "broker/store/store_sqlite_chat.h"
#include "broker/store/store_sqlite_generation.h"
#include "broker/store/store_sqlite_usage.h"
#include "common/json.h"
#include "common/xalloc.h"

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
};

/* ---- sessions and tickets ---------------------------------------------- */

/* Both have the same kinds of columns, and the first text is the key. */
struct row {
	char *texts[4];
	json_t *session; /* may be NULL */
	int64_t created, expires;
};

/* Forget one that has expired and has the key, or the last text. */
static enum err
forget(struct database *db, enum statement id, const struct row *row,
    struct diag *diag)
{
	enum err err = database_use(db, id, diag);

	if (err != ERR_OK)
		return err;
	database_bind_text(db, 1, row->texts[0]);
	database_bind_text(db, 2, row->texts[3]);
	database_bind_number(db, 3, row->created);
	return database_finish(db, diag);
}

static enum err
insert(struct database *db, enum statement id, const struct row *row,
    struct diag *diag)
{
	char *session = NULL;
	size_t len = 0;
	enum err err = database_use(db, id, diag);

	if (err != ERR_OK)
		return err;
	if (row->session != NULL)
		session = json_text(row->session, &len);
	for (int i = 0; i < 4; i++)
		database_bind_text(db, 1 + i, row->texts[i]);
	database_bind_text(db, 5, session);
	database_bind_number(db, 6, row->created);
	database_bind_number(db, 7, row->expires);
	err = database_finish(db, diag);
	if (session != NULL)
		explicit_bzero(session, len);
	free(session);
	return err;
}

/* Whoever may ask for tickets must not be able to fill the disk with them. */
static enum err
check_room(struct database *db, struct diag *diag)
{
	enum err err = database_use(db, COUNT_TICKETS, diag);

	if (err != ERR_OK)
		return err;
	err = database_step(db, diag);
	if (err == ERR_OK && database_number(db, 0) >= STORE_TICKETS_MAX) {
		diag_set(diag, "%d short-lived keys are there already",
		    STORE_TICKETS_MAX);
		err = ERR_UNAVAIL;
	}
	database_release(db);
	return err;
}

static enum err
put_row(struct store *store, enum statement forget_id, enum statement put_id,
    const struct row *row, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = forget(db, forget_id, row, diag);
	if (err == ERR_OK && put_id == PUT_TICKET)
		err = check_room(db, diag);
	if (err == ERR_OK)
		err = insert(db, put_id, row, diag);
	return database_end(db, err, diag);
}

/* A value that we did not write is a damaged file. */
static enum err
read_row(struct database *db, struct row *ret, struct diag *diag)
{
	char *session = database_text(db, 4);
	size_t len = session == NULL ? 0 : strlen(session);
	struct row row = {
		.created = database_number(db, 5),
		.expires = database_number(db, 6),
	};
	enum err err = ERR_OK;

	if (session != NULL)
		err = json_parse(session, len, &row.session, NULL);
	if (session != NULL)
		explicit_bzero(session, len);
	free(session);
	if (err != ERR_OK) {
		diag_set(diag, "the store: a row is damaged");
		return ERR_UNAVAIL;
	}
	for (int i = 0; i < 4; i++)
		row.texts[i] = database_text(db, i);
	*ret = row;
	return ERR_OK;
}

/* The one row of this key that has not expired. */
static enum err
get_row(struct store *store, enum statement id, const char *key, int64_t now,
    struct row *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->reads;
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_use(db, id, diag);
	if (err == ERR_OK) {
		database_bind_text(db, 1, key);
		database_bind_number(db, 2, now);
		err = database_step(db, diag);
		if (err == ERR_OK)
			err = read_row(db, ret, diag);
		database_release(db);
	}
	database_leave(db);
	return err;
}

static enum err
put_anam(struct store *store, const struct store_anam *in, struct diag *diag)
{
	const struct row row = {
		.texts = { in->id, in->user, in->persona, in->token_id },
		.session = in->session,
		.created = in->created,
		.expires = in->expires,
	};

	return put_row(store, FORGET_ANAM, PUT_ANAM, &row, diag);
}

static enum err
get_anam_row(struct store *store, enum statement id, const char *key,
    int64_t now, struct store_anam *ret, struct diag *diag)
{
	struct row row;
	enum err err = get_row(store, id, key, now, &row, diag);

	if (err == ERR_OK)
		*ret = (struct store_anam){
			.id = row.texts[0],
			.user = row.texts[1],
			.persona = row.texts[2],
			.token_id = row.texts[3],
			.session = row.session,
			.created = row.created,
			.expires = row.expires,
		};
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

static enum err
put_ticket(struct store *store, const struct store_ticket *in,
    struct diag *diag)
{
	const struct row row = {
		.texts = { in->id, in->route, in->user, in->model },
		.session = in->session,
		.created = in->created,
		.expires = in->expires,
	};

	return put_row(store, FORGET_TICKET, PUT_TICKET, &row, diag);
}

static enum err
get_ticket(struct store *store, const char *id, int64_t now,
    struct store_ticket *ret, struct diag *diag)
{
	struct row row;
	enum err err = get_row(store, GET_TICKET, id, now, &row, diag);

	if (err == ERR_OK)
		*ret = (struct store_ticket){
			.id = row.texts[0],
			.route = row.texts[1],
			.user = row.texts[2],
			.model = row.texts[3],
			.session = row.session,
			.created = row.created,
			.expires = row.expires,
		};
	return err;
}

/* ---- the store --------------------------------------------------------- */

static enum err
expire_rows(struct database *db, int64_t now, struct diag *diag)
{
	static const enum statement ids[] = { EXPIRE_ANAM, EXPIRE_TICKETS,
		EXPIRE_ALLOWANCES, EXPIRE_KEYS };
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
	.put_ticket = put_ticket,
	.get_ticket = get_ticket,
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
