/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/chat/chat_json.h"
#include "broker/chat/notify.h"
#include "broker/store/store.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define PAGE_MAX       1000000
#define LIMIT_MAX      100
#define LIMIT_CHATS    20
#define LIMIT_MESSAGES 50
#define ARGS_MAX       4
#define ID_BYTES       16
#define TITLE_OF_NEW   "New chat"

/* What an operation works with. */
struct call {
	const struct config *config;
	const struct caller *caller;
	struct store *store;
	const json_t *args; /* an object; NULL: as if empty */
};

typedef enum err run_op(const struct call *call, json_t **ret,
    struct diag *diag);

struct op {
	struct chat_op public;	    /* first: a pointer to it is one to this */
	const char *args[ARGS_MAX]; /* that it takes */
	run_op *run;
};

/* ---- arguments ---- */

/* Who misspells one is told, rather than given something else. */
static enum err
check_names(const struct op *op, const json_t *args, struct diag *diag)
{
	char names[64] = "";
	size_t known = 0;

	if (args != NULL && !json_is_object(args)) {
		diag_set(diag, "%s takes an object", op->public.name);
		return ERR_PROTO;
	}
	for (size_t i = 0; i < ARGS_MAX && op->args[i] != NULL; i++) {
		size_t len = strlen(names);

		(void)snprintf(names + len, sizeof(names) - len, "%s%s",
		    len == 0 ? "" : ", ", op->args[i]);
		if (json_object_get(args, op->args[i]) != NULL)
			known++;
	}
	if (json_object_size(args) == known)
		return ERR_OK;
	diag_set(diag, "%s takes %s, and nothing else", op->public.name,
	    names[0] == '\0' ? "an empty object" : names);
	return ERR_PROTO;
}

static enum err
get_int(const struct call *call, const char *name, int64_t min, int64_t max,
    int64_t fallback, int64_t *ret, struct diag *diag)
{
	enum err err = json_get_int(call->args, name, min, max, ret);

	if (err == ERR_NOTFOUND)
		*ret = fallback;
	else if (err != ERR_OK)
		diag_set(diag, "%s has to be a whole number from %lld to %lld",
		    name, (long long)min, (long long)max);
	return err == ERR_OK || err == ERR_NOTFOUND ? ERR_OK : ERR_PROTO;
}

static enum err
get_page(const struct call *call, int64_t fallback, int64_t *ret_page,
    int64_t *ret_limit, struct diag *diag)
{
	enum err err = get_int(call, "page", 0, PAGE_MAX, 0, ret_page, diag);

	if (err == ERR_OK)
		err = get_int(call, "limit", 1, LIMIT_MAX, fallback, ret_limit,
		    diag);
	return err;
}

static enum err
get_chat_id(const struct call *call, const char **ret, struct diag *diag)
{
	enum err err =
	    json_get_string(call->args, "chat_id", STORE_ID_MAX, ret);

	if (err == ERR_OK && **ret != '\0')
		return ERR_OK;
	if (err == ERR_LIMIT) {
		diag_set(diag, "there is no such chat");
		return ERR_NOTFOUND;
	}
	diag_set(diag, "chat_id has to be the id of a chat");
	return ERR_PROTO;
}

/* One line of text; *ret is not touched where it is absent. */
static enum err
get_title(const struct call *call, const char **ret, struct diag *diag)
{
	const char *text = NULL;
	enum err err =
	    json_get_string(call->args, "title", STORE_TITLE_MAX, &text);

	if (err == ERR_NOTFOUND)
		return ERR_OK;
	if (err != ERR_OK || *text == '\0' ||
	    !str_is_field_value(text, strlen(text))) {
		diag_set(diag,
		    "title has to be a text of 1 to %d bytes without control "
		    "characters",
		    STORE_TITLE_MAX);
		return ERR_PROTO;
	}
	*ret = text;
	return ERR_OK;
}

/* ---- operations ---- */

static enum err
list_chats(const struct call *call, json_t **ret, struct diag *diag)
{
	struct store_chats chats = { .items = NULL };
	int64_t page, limit;
	json_t *list;
	enum err err = get_page(call, LIMIT_CHATS, &page, &limit, diag);

	if (err == ERR_OK)
		err = call->store->ops->list_chats(call->store,
		    call->caller->owner, page, limit, &chats, diag);
	if (err != ERR_OK)
		return err;
	list = json_made(json_array());
	for (size_t i = 0; i < chats.count; i++)
		(void)json_array_append_new(list,
		    chat_json_chat(&chats.items[i]));
	*ret = json_made(json_pack("{s:o, s:I, s:I, s:I}", "chats", list,
	    "page", (json_int_t)page, "limit", (json_int_t)limit, "total",
	    (json_int_t)chats.total));
	store_chats_done(&chats);
	return ERR_OK;
}

static enum err
get_query(const struct call *call, struct store_message_query *ret,
    struct diag *diag)
{
	const json_t *all = json_object_get(call->args, "all_versions");
	enum err err = get_chat_id(call, &ret->chat, diag);

	if (err == ERR_OK)
		err = get_page(call, LIMIT_MESSAGES, &ret->page, &ret->limit,
		    diag);
	if (err == ERR_OK && all != NULL && !json_is_boolean(all)) {
		diag_set(diag, "all_versions has to be true or false");
		err = ERR_PROTO;
	}
	ret->owner = call->caller->owner;
	ret->all_versions = json_is_true(all);
	return err;
}

static enum err
list_messages(const struct call *call, json_t **ret, struct diag *diag)
{
	struct store_messages messages = { .items = NULL };
	struct store_message_query query = { .chat = NULL };
	json_t *list;
	enum err err = get_query(call, &query, diag);

	if (err == ERR_OK)
		err = call->store->ops->list_messages(call->store, &query,
		    &messages, diag);
	if (err != ERR_OK)
		return err;
	list = json_made(json_array());
	for (size_t i = 0; i < messages.count; i++)
		(void)json_array_append_new(list,
		    chat_json_message(query.chat, &messages.items[i]));
	*ret = json_made(
	    json_pack("{s:s, s:o, s:I, s:I, s:I}", "chat_id", query.chat,
		"messages", list, "page", (json_int_t)query.page, "limit",
		(json_int_t)query.limit, "total", (json_int_t)messages.total));
	store_messages_done(&messages);
	return ERR_OK;
}

/* {"chat"} as it is now, which all of the owner's sockets are told. */
static enum err
tell_chat(const struct call *call, const char *event, const char *id,
    json_t **ret, struct diag *diag)
{
	struct store_chat chat = { .id = NULL };
	enum err err = call->store->ops->get_chat(call->store,
	    call->caller->owner, id, &chat, diag);

	if (err != ERR_OK)
		return err;
	*ret = json_made(json_pack("{s:o}", "chat", chat_json_chat(&chat)));
	store_chat_done(&chat);
	notify_event(call->caller->owner, event, json_deep_copy(*ret));
	return ERR_OK;
}

/*
 * A visitor makes no more chats than it may send messages: max_chats is no
 * limit for who takes a new id each time.
 */
static enum err
add_chat(const struct call *call, const char *id, const char *title,
    struct diag *diag)
{
	const struct config_chat *chat = call->config->chat;
	const struct caller *caller = call->caller;
	struct store_allowance allowance = caller_allowance(caller, chat);
	char *who, *from;
	enum err err;

	if (caller->is_user)
		return call->store->ops->add_chat(call->store, caller->owner,
		    id, title, clock_unix_ms(), (int64_t)chat->max_chats, NULL,
		    diag);
	who = xasprintf("c%s", allowance.id);
	from = xasprintf("c%s", allowance.address);
	allowance.id = who;
	allowance.address = from;
	err = call->store->ops->add_chat(call->store, caller->owner, id, title,
	    clock_unix_ms(), (int64_t)chat->max_chats, &allowance, diag);
	free(who);
	free(from);
	return err;
}

static enum err
create_chat(const struct call *call, json_t **ret, struct diag *diag)
{
	const char *title = TITLE_OF_NEW;
	char id[2 * ID_BYTES + 1];
	enum err err = get_title(call, &title, diag);

	if (err != ERR_OK)
		return err;
	crypt_random_hex(id, ID_BYTES);
	err = add_chat(call, id, title, diag);
	return err != ERR_OK ? err
			     : tell_chat(call, "chat_created", id, ret, diag);
}

static enum err
rename_chat(const struct call *call, json_t **ret, struct diag *diag)
{
	const char *id, *title = NULL;
	enum err err = get_chat_id(call, &id, diag);

	if (err == ERR_OK)
		err = get_title(call, &title, diag);
	if (err == ERR_OK && title == NULL) {
		diag_set(diag, "title is missing");
		err = ERR_PROTO;
	}
	if (err == ERR_OK)
		err = call->store->ops->rename_chat(call->store,
		    call->caller->owner, id, title, clock_unix_ms(), diag);
	return err != ERR_OK ? err
			     : tell_chat(call, "chat_updated", id, ret, diag);
}

static enum err
delete_chat(const struct call *call, json_t **ret, struct diag *diag)
{
	const char *id;
	enum err err = get_chat_id(call, &id, diag);

	if (err == ERR_OK)
		err = call->store->ops->delete_chat(call->store,
		    call->caller->owner, id, diag);
	if (err != ERR_OK)
		return err;
	*ret = json_made(json_pack("{s:s}", "chat_id", id));
	notify_event(call->caller->owner, "chat_deleted", json_deep_copy(*ret));
	return ERR_OK;
}

static enum err
usage_info(const struct call *call, json_t **ret, struct diag *diag)
{
	return chat_json_usage(call->config, call->caller, ret, diag);
}

static const struct op ops[] = {
	{ { "list_chats", "chats_list", .tells = false }, { "page", "limit" },
	    list_chats },
	{ { "list_messages", "messages_list", .tells = false },
	    { "chat_id", "page", "limit", "all_versions" }, list_messages },
	{ { "create_chat", "chat_created", .tells = true }, { "title" },
	    create_chat },
	{ { "rename_chat", "chat_updated", .tells = true },
	    { "chat_id", "title" }, rename_chat },
	{ { "delete_chat", "chat_deleted", .tells = true }, { "chat_id" },
	    delete_chat },
	{ { "usage_info", "usage_info", .tells = false }, { NULL },
	    usage_info },
};

const struct chat_op *
chat_ops_find(const char *name)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(ops[i].public.name, name) == 0)
			return &ops[i].public;
	return NULL;
}

enum err
chat_ops_run(const struct chat_op *op, const struct config *config,
    const struct caller *caller, const json_t *args, json_t **ret,
    struct diag *diag)
{
	const struct op *known = (const struct op *)op;
	const struct call call = {
		.config = config,
		.caller = caller,
		.store = store_current(),
		.args = args,
	};
	enum err err = check_names(known, args, diag);

	if (err != ERR_OK)
		return err;
	if (call.store == NULL) {
		diag_set(diag, "there is no store");
		return ERR_UNAVAIL;
	}
	return known->run(&call, ret, diag);
}
