/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite_chat.h"

#include <string.h>

#include "broker/store/store_sqlite_account.h"
#include "broker/store/store_sqlite_base.h"
#include "common/xalloc.h"

/* The first row of a page; a page that nothing is on begins past the end. */
static int64_t
offset_of(int64_t page, int64_t limit)
{
	int64_t offset;

	if (page < 0 || limit < 0 ||
	    __builtin_mul_overflow(page, limit, &offset))
		return INT64_MAX;
	return offset;
}

/* ---- chats ------------------------------------------------------------- */

static void
read_chat(struct database *db, struct store_chat *chat)
{
	*chat = (struct store_chat){
		.id = database_text(db, 1),
		.title = database_text(db, 2),
		.created_ms = database_number(db, 3),
		.updated_ms = database_number(db, 4),
		.messages = database_number(db, 5),
	};
}

static enum err
get_number(struct database *db, int64_t *ret)
{
	*ret = database_number(db, 0);
	database_release(db);
	return ERR_OK;
}

static enum err
no_chat(enum err err, struct diag *diag)
{
	if (err == ERR_NOTFOUND)
		diag_set(diag, "there is no such chat");
	return err;
}

enum err
store_sqlite_find_chat(struct database *db, const char *owner, const char *id,
    struct store_sqlite_chat *ret, struct diag *diag)
{
	enum err err =
	    database_find(db, GET_CHAT, PARAMS(TEXT(owner), TEXT(id)), diag);

	if (err != ERR_OK)
		return no_chat(err, diag);
	ret->number = database_number(db, 0);
	ret->turns = database_number(db, 5);
	database_release(db);
	return ERR_OK;
}

enum err
store_sqlite_insert_chat(struct database *db, const char *owner, const char *id,
    const char *title, int64_t now_ms, int64_t max_chats, struct diag *diag)
{
	enum err err =
	    database_find(db, COUNT_CHATS, PARAMS(TEXT(owner)), diag);
	int64_t count;

	if (err == ERR_OK)
		err = get_number(db, &count);
	if (err != ERR_OK)
		return err;
	if (count >= max_chats) {
		diag_set(diag, "there are %lld chats already",
		    (long long)count);
		return ERR_LIMIT;
	}
	return database_run(db, ADD_CHAT,
	    PARAMS(TEXT(id), TEXT(owner), TEXT(title), NUMBER(now_ms)), diag);
}

enum err
store_sqlite_add_chat(struct store *store, const char *owner, const char *id,
    const char *title, int64_t now_ms, int64_t max_chats,
    const struct store_allowance *allowance, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	struct store_allowance_state state;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	if (allowance != NULL)
		err = store_sqlite_use_allowance(db, allowance, now_ms / 1000,
		    &state, diag);
	if (err == ERR_OK)
		err = store_sqlite_insert_chat(db, owner, id, title, now_ms,
		    max_chats, diag);
	return database_end(db, err, diag);
}

enum err
store_sqlite_rename_chat(struct store *store, const char *owner, const char *id,
    const char *title, int64_t now_ms, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_run(db, RENAME_CHAT,
	    PARAMS(TEXT(owner), TEXT(id), TEXT(title), NUMBER(now_ms)), diag);
	if (err == ERR_OK && database_changed(db) == 0)
		err = no_chat(ERR_NOTFOUND, diag);
	return database_end(db, err, diag);
}

enum err
store_sqlite_check_idle(struct database *db, int64_t chat, struct diag *diag)
{
	enum err err =
	    database_find(db, IS_RUNNING, PARAMS(NUMBER(chat)), diag);

	if (err == ERR_NOTFOUND)
		return ERR_OK;
	if (err != ERR_OK)
		return err;
	database_release(db);
	diag_set(diag, "an answer of this chat is being made");
	return ERR_CONFLICT;
}

enum err
store_sqlite_delete_chat(struct store *store, const char *owner, const char *id,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	struct store_sqlite_chat chat;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = store_sqlite_find_chat(db, owner, id, &chat, diag);
	if (err == ERR_OK)
		err = store_sqlite_check_idle(db, chat.number, diag);
	if (err == ERR_OK)
		err = database_run(db, DELETE_CHAT, PARAMS(NUMBER(chat.number)),
		    diag);
	return database_end(db, err, diag);
}

enum err
store_sqlite_expire_chats(struct database *db, const char *kind, int64_t time,
    bool *ret_more, struct diag *diag)
{
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_run(db, EXPIRE_CHATS,
	    PARAMS(TEXT(kind), NUMBER(time * 1000)), diag);
	*ret_more |= err == ERR_OK && database_changed(db) > 0;
	return database_end(db, err, diag);
}

enum err
store_sqlite_get_chat(struct store *store, const char *owner, const char *id,
    struct store_chat *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->chats;
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_find(db, GET_CHAT, PARAMS(TEXT(owner), TEXT(id)), diag);
	if (err == ERR_OK) {
		read_chat(db, ret);
		database_release(db);
	}
	database_leave(db);
	return no_chat(err, diag);
}

static enum err
read_chats(struct database *db, const char *owner, int64_t page, int64_t limit,
    struct store_chats *chats, struct diag *diag)
{
	size_t size = 0;
	enum err err =
	    database_find(db, COUNT_CHATS, PARAMS(TEXT(owner)), diag);

	if (err == ERR_OK)
		err = get_number(db, &chats->total);
	if (err == ERR_OK)
		err = database_ask(db, LIST_CHATS,
		    PARAMS(TEXT(owner), NUMBER(limit < 0 ? 0 : limit),
			NUMBER(offset_of(page, limit))),
		    diag);
	if (err != ERR_OK)
		return err;
	while ((err = database_step(db, diag)) == ERR_OK) {
		if (chats->count == size) {
			size = size == 0 ? 16 : size * 2;
			chats->items = xreallocarray(chats->items, size,
			    sizeof(chats->items[0]));
		}
		read_chat(db, &chats->items[chats->count++]);
	}
	database_release(db);
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
store_sqlite_list_chats(struct store *store, const char *owner, int64_t page,
    int64_t limit, struct store_chats *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->chats;
	struct store_chats chats = { .count = 0 };
	enum err err = database_begin_reading(db, diag);

	if (err != ERR_OK)
		return err;
	err = read_chats(db, owner, page, limit, &chats, diag);
	err = database_end(db, err, diag);
	if (err == ERR_OK)
		*ret = chats;
	else
		store_chats_done(&chats);
	return err;
}

/* ---- messages ---------------------------------------------------------- */

static void
read_message(struct database *db, struct store_message *message)
{
	bool is_assistant = database_number(db, 4) != 0;

	*message = (struct store_message){
		.id = database_text(db, 0),
		.turn = database_number(db, 1),
		.version = database_number(db, 2),
		.versions = database_number(db, 3),
		.is_assistant = is_assistant,
		.state = is_assistant ? (enum store_state)database_number(db, 5)
				      : STORE_COMPLETE,
		.content = database_text(db, 6),
		.model = database_text(db, 7),
		.generation = database_text(db, 8),
		.created_ms = database_number(db, 9),
		.input_tokens = (uint64_t)database_number(db, 10),
		.output_tokens = (uint64_t)database_number(db, 11),
	};
}

/* The newest came first. */
static void
reverse(struct store_messages *messages)
{
	for (size_t i = 0, j = messages->count; i + 1 < j; i++) {
		struct store_message message = messages->items[i];

		messages->items[i] = messages->items[--j];
		messages->items[j] = message;
	}
}

/* Read as many of a statement's messages as are wanted, in order. */
static enum err
read_messages(struct database *db, bool is_history, size_t messages_max,
    size_t bytes_max, struct store_messages *messages, struct diag *diag)
{
	size_t size = 0, bytes = 0;
	enum err err = ERR_OK;

	while (messages->count < messages_max &&
	    (err = database_step(db, diag)) == ERR_OK) {
		struct store_message *message;

		if (messages->count == size) {
			size = size == 0 ? 16 : size * 2;
			messages->items = xreallocarray(messages->items, size,
			    sizeof(messages->items[0]));
		}
		message = &messages->items[messages->count++];
		read_message(db, message);
		if (!is_history)
			continue;
		bytes += strlen(message->content);
		if (bytes > bytes_max && messages->count > 1) {
			store_message_done(&messages->items[--messages->count]);
			break;
		}
		/* an answer that failed before its first word */
		if (message->is_assistant && message->content[0] == '\0')
			store_message_done(&messages->items[--messages->count]);
	}
	database_release(db);
	reverse(messages);
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
store_sqlite_read_history(struct database *db, int64_t chat, int64_t turn,
    size_t messages_max, size_t bytes_max, struct store_messages *ret,
    struct diag *diag)
{
	enum err err = database_ask(db, LIST_MESSAGES,
	    PARAMS(NUMBER(chat), NUMBER(turn), NUMBER(0), NUMBER(-1),
		NUMBER(0)),
	    diag);

	if (err != ERR_OK)
		return err;
	err = read_messages(db, true, messages_max == 0 ? 1 : messages_max,
	    bytes_max, ret, diag);
	ret->total = (int64_t)ret->count;
	return err;
}

static enum err
read_page(struct database *db, const struct store_message_query *query,
    struct store_messages *messages, struct diag *diag)
{
	struct store_sqlite_chat chat;
	enum err err =
	    store_sqlite_find_chat(db, query->owner, query->chat, &chat, diag);

	if (err != ERR_OK)
		return err;
	messages->total = chat.turns;
	if (query->all_versions) {
		err = database_find(db, COUNT_MESSAGES,
		    PARAMS(NUMBER(chat.number)), diag);
		if (err == ERR_OK)
			err = get_number(db, &messages->total);
		if (err != ERR_OK)
			return err;
	}
	err = database_ask(db, LIST_MESSAGES,
	    PARAMS(NUMBER(chat.number), NUMBER(INT64_MAX),
		NUMBER(query->all_versions),
		NUMBER(query->limit < 0 ? 0 : query->limit),
		NUMBER(offset_of(query->page, query->limit))),
	    diag);
	if (err != ERR_OK)
		return err;
	return read_messages(db, false, SIZE_MAX, 0, messages, diag);
}

enum err
store_sqlite_list_messages(struct store *store,
    const struct store_message_query *query, struct store_messages *ret,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->chats;
	struct store_messages messages = { .count = 0 };
	enum err err = database_begin_reading(db, diag);

	if (err != ERR_OK)
		return err;
	err = read_page(db, query, &messages, diag);
	err = database_end(db, err, diag);
	if (err == ERR_OK)
		*ret = messages;
	else
		store_messages_done(&messages);
	return err;
}
