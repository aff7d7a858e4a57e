/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_CHAT_H
#define BROKER_STORE_SQLITE_CHAT_H

#include "broker/store/database.h"
#include "broker/store/store.h"

/* store_sqlite_chat: the chats' verbs of store.h. */
enum err store_sqlite_add_chat(struct store *store, const char *owner,
    const char *id, const char *title, int64_t now_ms, int64_t max_chats,
    const struct store_allowance *allowance, struct diag *diag) MUST_CHECK;
enum err store_sqlite_rename_chat(struct store *store, const char *owner,
    const char *id, const char *title, int64_t now_ms,
    struct diag *diag) MUST_CHECK;
enum err store_sqlite_delete_chat(struct store *store, const char *owner,
    const char *id, struct diag *diag) MUST_CHECK;
enum err store_sqlite_get_chat(struct store *store, const char *owner,
    const char *id, struct store_chat *ret, struct diag *diag) MUST_CHECK;
enum err store_sqlite_list_chats(struct store *store, const char *owner,
    int64_t page, int64_t limit, struct store_chats *ret,
    struct diag *diag) MUST_CHECK;
enum err store_sqlite_list_messages(struct store *store,
    const struct store_message_query *query, struct store_messages *ret,
    struct diag *diag) MUST_CHECK;

/*
 * Some of the chats of owners of this kind, "u:" or "a:", that have not changed
 * after this time, in one transaction; *ret_more becomes true where there were
 * any.
 */
enum err store_sqlite_expire_chats(struct database *db, const char *kind,
    int64_t time, bool *ret_more, struct diag *diag) MUST_CHECK;

/* ---- within a transaction ---- */

/* What the tables know a chat by, and its last turn. */
struct store_sqlite_chat {
	int64_t number, turns;
};
enum err store_sqlite_find_chat(struct database *db, const char *owner,
    const char *id, struct store_sqlite_chat *ret,
    struct diag *diag) MUST_CHECK;

/* ERR_LIMIT where the owner has max_chats. */
enum err store_sqlite_insert_chat(struct database *db, const char *owner,
    const char *id, const char *title, int64_t now_ms, int64_t max_chats,
    struct diag *diag) MUST_CHECK;

/* ERR_CONFLICT while an answer runs. */
enum err store_sqlite_check_idle(struct database *db, int64_t chat,
    struct diag *diag) MUST_CHECK;

/* The messages before this turn, as store_begun says; the caller frees them. */
enum err store_sqlite_read_history(struct database *db, int64_t chat,
    int64_t turn, size_t messages_max, size_t bytes_max,
    struct store_messages *ret, struct diag *diag) MUST_CHECK;

#endif
