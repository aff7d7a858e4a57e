/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite_ticket.h"

#include <stdlib.h>
#include <string.h>

#include "broker/store/store_sqlite_base.h"
#include "common/json.h"

enum err
store_sqlite_json(struct database *db, int column, json_t **ret,
    struct diag *diag)
{
	char *text = database_text(db, column);
	size_t len;
	enum err err;

	*ret = NULL;
	if (text == NULL)
		return ERR_OK;
	len = strlen(text);
	err = json_parse(text, len, ret, NULL);
	explicit_bzero(text, len);
	free(text);
	if (err == ERR_OK)
		return ERR_OK;
	/* a value that we did not write is a damaged file */
	diag_set(diag, "the store: a row is damaged");
	return ERR_UNAVAIL;
}

/* ---- writing ---- */

/*
 * Nobody may take the room of all: a user has a quarter at most, and those who
 * are nobody, of whom each can be as many as he likes, half of it together.
 */
static enum err
check_share(struct database *db, const char *user, struct diag *diag)
{
	int64_t max = STORE_TICKETS_MAX / (user == NULL ? 2 : 4), count;
	enum err err =
	    database_find(db, COUNT_TICKETS_OF, PARAMS(TEXT(user)), diag);

	if (err != ERR_OK)
		return err;
	count = database_number(db, 0);
	database_release(db);
	if (count < max)
		return ERR_OK;
	diag_set(diag, "%lld tickets of %s are there already", (long long)count,
	    user == NULL ? "visitors" : "yours");
	return user == NULL ? ERR_UNAVAIL : ERR_RATE;
}

/* Whoever may ask for tickets must not be able to fill the disk with them. */
static enum err
check_room(struct database *db, const char *user, struct diag *diag)
{
	enum err err = database_find(db, COUNT_TICKETS, NULL, 0, diag);
	int64_t count;

	if (err != ERR_OK)
		return err;
	count = database_number(db, 0);
	database_release(db);
	if (count >= STORE_TICKETS_MAX) {
		diag_set(diag, "%d tickets are there already",
		    STORE_TICKETS_MAX);
		return ERR_UNAVAIL;
	}
	return count < STORE_TICKETS_MAX / 4 ? ERR_OK
					     : check_share(db, user, diag);
}

static enum err
insert(struct database *db, const struct store_ticket *in, struct diag *diag)
{
	char *session = NULL;
	size_t len = 0;
	enum err err;

	if (in->session != NULL)
		session = json_text(in->session, &len);
	err = database_run(db, PUT_TICKET,
	    PARAMS(TEXT(in->id), TEXT(in->route), TEXT(in->user),
		TEXT(in->plan), TEXT(in->model), TEXT(in->address),
		TEXT(in->origin), TEXT(session), NUMBER(in->once),
		NUMBER(in->created), NUMBER(in->expires)),
	    diag);
	if (session != NULL)
		explicit_bzero(session, len);
	free(session);
	return err;
}

enum err
store_sqlite_put_ticket(struct store *store, const struct store_ticket *in,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_run(db, FORGET_TICKET,
	    PARAMS(TEXT(in->id), NUMBER(in->created)), diag);
	if (err == ERR_OK)
		err = check_room(db, in->user, diag);
	if (err == ERR_OK)
		err = insert(db, in, diag);
	return database_end(db, err, diag);
}

/* ---- reading ---- */

static enum err
read_ticket(struct database *db, struct store_ticket *ret, struct diag *diag)
{
	json_t *session;
	enum err err = store_sqlite_json(db, 7, &session, diag);

	if (err == ERR_OK)
		*ret = (struct store_ticket){
			.id = database_text(db, 0),
			.route = database_text(db, 1),
			.user = database_text(db, 2),
			.plan = database_text(db, 3),
			.model = database_text(db, 4),
			.address = database_text(db, 5),
			.origin = database_text(db, 6),
			.session = session,
			.once = database_number(db, 8) != 0,
			.created = database_number(db, 9),
			.expires = database_number(db, 10),
			.spent = database_number(db, 11) != 0,
		};
	return err;
}

enum err
store_sqlite_get_ticket(struct store *store, const char *id, int64_t now,
    struct store_ticket *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->reads;
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err =
	    database_find(db, GET_TICKET, PARAMS(TEXT(id), NUMBER(now)), diag);
	if (err == ERR_OK) {
		err = read_ticket(db, ret, diag);
		database_release(db);
	}
	database_leave(db);
	return err;
}

/* ---- spending ---- */

/*
 * One statement, so that of all that race one alone finds the row unspent: the
 * others wait for its lock of the file, and find it spent.
 */
static enum err
spend(struct database *db, const char *id, int64_t now, struct diag *diag)
{
	enum err err =
	    database_run(db, SPEND_TICKET, PARAMS(TEXT(id), NUMBER(now)), diag);

	if (err != ERR_OK || database_changed(db) > 0)
		return err;
	err =
	    database_find(db, GET_TICKET, PARAMS(TEXT(id), NUMBER(now)), diag);
	if (err != ERR_OK)
		return err;
	database_release(db);
	diag_set(diag, "the ticket was used already");
	return ERR_DENIED;
}

enum err
store_sqlite_spend_ticket(struct store *store, const char *id, int64_t now,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	return database_end(db, spend(db, id, now, diag), diag);
}
