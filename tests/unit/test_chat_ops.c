/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/chat/chat_ops.h"
#include "broker/chat/notify.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/xalloc.h"
#include "config_text.h"
#include "ticket_store.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct config *config;
static char ann_id[] = "ann", ann_owner[] = "u:ann";
static char bob_id[] = "bob", bob_owner[] = "u:bob";
static const struct caller ann = { .is_user = true,
	.id = ann_id,
	.owner = ann_owner };
static const struct caller bob = { .is_user = true,
	.id = bob_id,
	.owner = bob_owner };

/* ---- what the sockets are told ---- */

static char told[1024]; /* "OWNER EVENT JSON\n" */

static void
take_event(const char *owner, const char *event, json_t *data)
{
	size_t len = strlen(told), n;
	char *text = json_text(data, &n);

	(void)snprintf(told + len, sizeof(told) - len, "%s %s %s\n", owner,
	    event, text);
	free(text);
	json_decref(data);
}

static const struct notify_sink sink = { .event = take_event };

/* ---- asking ---- */

static enum err
ask(const struct caller *caller, const char *name, const char *args,
    json_t **ret, struct diag *diag)
{
	const struct chat_op *op = chat_ops_find(name);
	json_t *value = NULL;
	enum err err;

	assert_non_null(op);
	if (args != NULL)
		assert_int_equal(json_parse(args, strlen(args), &value, diag),
		    ERR_OK);
	err = chat_ops_run(op, config, caller, value, ret, diag);
	json_decref(value);
	return err;
}

/* It has to be done; the answer, which the caller decrefs. */
static json_t *
get(const struct caller *caller, const char *name, const char *args)
{
	struct diag diag = { "" };
	json_t *answer = NULL;

	if (ask(caller, name, args, &answer, &diag) != ERR_OK)
		fail_msg("%s %s: %s", name, args, diag.text);
	return answer;
}

/* A new chat's id, which the caller frees. */
static char *
create(const struct caller *caller, const char *title)
{
	char *args = xasprintf("{\"title\":\"%s\"}", title), *id;
	json_t *answer = get(caller, "create_chat", args);

	id = xstrdup(json_string_value(
	    json_object_get(json_object_get(answer, "chat"), "id")));
	json_decref(answer);
	free(args);
	return id;
}

static json_int_t
number(const json_t *answer, const char *name)
{
	return json_integer_value(json_object_get(answer, name));
}

/* ---- tests ---- */

static void
has_the_events_of_the_seed_and_no_others(void **state)
{
	static const char *const rows[][2] = {
		{ "list_chats", "chats_list" },
		{ "list_messages", "messages_list" },
		{ "create_chat", "chat_created" },
		{ "rename_chat", "chat_updated" },
		{ "delete_chat", "chat_deleted" },
		{ "usage_info", "usage_info" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_string_equal(chat_ops_find(rows[i][0])->answer,
		    rows[i][1]);
	assert_null(chat_ops_find("chats_list"));
	assert_null(chat_ops_find(""));
}

static void
makes_renames_and_deletes_a_chat_and_tells_its_owner(void **state)
{
	char *id, *args, *line;
	json_t *answer, *chat;

	(void)state;
	told[0] = '\0';
	answer = get(&ann, "create_chat", NULL);
	chat = json_object_get(answer, "chat");
	assert_string_equal(json_string_value(json_object_get(chat, "title")),
	    "New chat");
	id = xstrdup(json_string_value(json_object_get(chat, "id")));
	assert_int_equal(strlen(id), 32);
	assert_ptr_equal(strstr(told, "u:ann chat_created {\"chat\":{"), told);
	json_decref(answer);

	told[0] = '\0';
	args = xasprintf("{\"chat_id\":\"%s\",\"title\":\"Caf\xc3\xa9\"}", id);
	answer = get(&ann, "rename_chat", args);
	chat = json_object_get(answer, "chat");
	assert_string_equal(json_string_value(json_object_get(chat, "title")),
	    "Caf\xc3\xa9");
	assert_ptr_equal(strstr(told, "u:ann chat_updated {\"chat\":{"), told);
	json_decref(answer);
	free(args);

	told[0] = '\0';
	args = xasprintf("{\"chat_id\":\"%s\"}", id);
	answer = get(&ann, "delete_chat", args);
	assert_string_equal(json_string_value(
				json_object_get(answer, "chat_id")),
	    id);
	line = xasprintf("u:ann chat_deleted {\"chat_id\":\"%s\"}\n", id);
	assert_string_equal(told, line);
	json_decref(answer);
	free(line);
	free(args);
	free(id);
}

static void
lists_chats_page_by_page(void **state)
{
	char *ids[3];
	json_t *answer;

	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++)
		ids[i] = create(&bob, "a chat of Bob's");
	answer = get(&bob, "list_chats", NULL);
	assert_int_equal(number(answer, "page"), 0);
	assert_int_equal(number(answer, "limit"), 20);
	assert_int_equal(number(answer, "total"), 3);
	assert_int_equal(json_array_size(json_object_get(answer, "chats")), 3);
	json_decref(answer);
	answer = get(&bob, "list_chats", "{\"page\":1,\"limit\":2}");
	assert_int_equal(json_array_size(json_object_get(answer, "chats")), 1);
	json_decref(answer);
	answer = get(&bob, "list_chats", "{\"page\":1000000}");
	assert_int_equal(json_array_size(json_object_get(answer, "chats")), 0);
	json_decref(answer);
	for (size_t i = 0; i < COUNT(ids); i++)
		free(ids[i]);
}

static void
begin_answer(const struct caller *caller, const char *chat)
{
	struct store *store = store_current();
	const struct store_begin begin = { .owner = caller->owner,
		.chat = chat,
		.new_question = "q1",
		.new_answer = "a1",
		.generation = "g1",
		.content = "Hi",
		.model = "m",
		.now_ms = clock_unix_ms(),
		.max_chats = 9,
		.max_turns = 9,
		.history_messages = 9,
		.history_bytes = 99 };
	struct store_begun begun;
	struct diag diag = { "" };

	if (store->ops->begin(store, &begin, &begun, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	store_begun_done(&begun);
}

static void
lists_messages_and_leaves_a_chat_that_is_being_answered(void **state)
{
	char *id = create(&ann, "with messages"), *args, *all;
	json_t *answer, *list;
	struct diag diag = { "" };

	(void)state;
	begin_answer(&ann, id);
	args = xasprintf("{\"chat_id\":\"%s\"}", id);
	all = xasprintf("{\"chat_id\":\"%s\",\"all_versions\":true,"
			"\"limit\":1}",
	    id);
	answer = get(&ann, "list_messages", args);
	list = json_object_get(answer, "messages");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(
				json_object_get(json_array_get(list, 0),
				    "content")),
	    "Hi");
	assert_string_equal(json_string_value(
				json_object_get(json_array_get(list, 1),
				    "status")),
	    "streaming");
	assert_int_equal(number(answer, "limit"), 50);
	assert_int_equal(number(answer, "total"), 2);
	json_decref(answer);
	answer = get(&ann, "list_messages", all);
	assert_int_equal(json_array_size(json_object_get(answer, "messages")),
	    1);
	json_decref(answer);
	assert_int_equal(ask(&ann, "delete_chat", args, &answer, &diag),
	    ERR_CONFLICT);
	free(all);
	free(args);
	free(id);
}

static void
finds_nothing_of_anothers(void **state)
{
	static const char *const names[] = { "list_messages", "delete_chat" };
	char *id = create(&ann, "private");
	char *args = xasprintf("{\"chat_id\":\"%s\"}", id);
	char *rename = xasprintf("{\"chat_id\":\"%s\",\"title\":\"x\"}", id);
	struct diag diag = { "" };
	json_t *answer;

	(void)state;
	told[0] = '\0';
	for (size_t i = 0; i < COUNT(names); i++)
		assert_int_equal(ask(&bob, names[i], args, &answer, &diag),
		    ERR_NOTFOUND);
	assert_int_equal(ask(&bob, "rename_chat", rename, &answer, &diag),
	    ERR_NOTFOUND);
	assert_string_equal(told, "");
	json_decref(get(&ann, "delete_chat", args));
	free(rename);
	free(args);
	free(id);
}

static void
says_what_arguments_will_not_do(void **state)
{
	static const struct {
		const char *name, *args, *says;
		enum err err;
	} rows[] = {
		{ "list_chats", "[]", "object", ERR_PROTO },
		{ "list_chats", "\"x\"", "object", ERR_PROTO },
		{ "list_chats", "{\"pages\":1}", "page, limit", ERR_PROTO },
		{ "usage_info", "{\"a\":1}", "an empty object", ERR_PROTO },
		{ "list_chats", "{\"page\":-1}", "0 to 1000000", ERR_PROTO },
		{ "list_chats", "{\"page\":\"0\"}", "whole", ERR_PROTO },
		{ "list_chats", "{\"page\":0.5}", "whole", ERR_PROTO },
		{ "list_chats", "{\"limit\":0}", "1 to 100", ERR_PROTO },
		{ "list_chats", "{\"limit\":101}", "1 to 100", ERR_PROTO },
		{ "list_messages", NULL, "chat_id", ERR_PROTO },
		{ "list_messages", "{\"chat_id\":7}", "chat_id", ERR_PROTO },
		{ "list_messages", "{\"chat_id\":\"\"}", "chat_id", ERR_PROTO },
		{ "list_messages", "{\"chat_id\":\"x\"}", "", ERR_NOTFOUND },
		{ "list_messages",
		    "{\"chat_id\":\"123456789012345678901234567890123\"}",
		    "no such", ERR_NOTFOUND },
		{ "list_messages",
		    "{\"chat_id\":\"x\",\"all_versions\":\"yes\"}",
		    "true or false", ERR_PROTO },
		{ "create_chat", "{\"title\":\"\"}", "title", ERR_PROTO },
		{ "create_chat", "{\"title\":\"a\\nb\"}", "control",
		    ERR_PROTO },
		{ "create_chat", "{\"title\":{}}", "title", ERR_PROTO },
		{ "rename_chat", "{\"chat_id\":\"x\"}", "title", ERR_PROTO },
		{ "rename_chat", "{\"chat_id\":\"x\",\"title\":\"y\"}", "",
		    ERR_NOTFOUND },
		{ "delete_chat", "{}", "chat_id", ERR_PROTO },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct diag diag = { "" };
		json_t *answer;

		if (ask(&ann, rows[i].name, rows[i].args, &answer, &diag) !=
			rows[i].err ||
		    strstr(diag.text, rows[i].says) == NULL)
			fail_msg("%s %s: %s", rows[i].name, rows[i].args,
			    diag.text);
	}
}

static void
keeps_titles_and_chats_within_their_limits(void **state)
{
	char title[STORE_TITLE_MAX + 2], *args;
	struct diag diag = { "" };
	json_t *answer;

	(void)state;
	memset(title, 'x', sizeof(title) - 1);
	title[sizeof(title) - 1] = '\0';
	args = xasprintf("{\"title\":\"%s\"}", title);
	assert_int_equal(ask(&bob, "create_chat", args, &answer, &diag),
	    ERR_PROTO);
	free(args);
	/* the fourth and the fifth, of five */
	free(create(&bob, title + 1));
	free(create(&bob, "x"));
	assert_int_equal(ask(&bob, "create_chat", NULL, &answer, &diag),
	    ERR_LIMIT);
}

static void
gives_a_visitor_no_more_chats_for_a_new_id(void **state)
{
	static const char *const ids[] = { "visitor-1", "visitor-2",
		"visitor-3" };

	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++) {
		struct caller visitor;
		struct diag diag = { "" };
		json_t *answer = NULL;

		assert_int_equal(caller_of_headers(config,
				     &(struct caller_headers){ .authorization =
								   NULL,
					 .anon_id = ids[i],
					 .address = "2001:db8::1" },
				     &visitor, &diag),
		    ERR_OK);
		assert_int_equal(ask(&visitor, "create_chat", NULL, &answer,
				     &diag),
		    i < 2 ? ERR_OK : ERR_RATE);
		json_decref(answer);
		/* they are no messages */
		answer = get(&visitor, "usage_info", NULL);
		assert_int_equal(number(answer, "used"), 0);
		json_decref(answer);
		caller_done(&visitor);
	}
}

static void
tells_what_is_left(void **state)
{
	json_t *answer = get(&ann, "usage_info", "{}");

	(void)state;
	assert_string_equal(json_string_value(json_object_get(answer, "kind")),
	    "user");
	json_decref(answer);
}

static int
init(void **state)
{
	static const char text[] =
	    "store { path = \"/x/y.db\" }\n"
	    "chat { url = \"http://localhost\" models = {m} max_chats = 5\n"
	    "anonymous { messages = 2 } }\n";

	(void)state;
	notify_set_sink(&sink);
	config = config_text(text);
	return ticket_store_open();
}

static int
done(void **state)
{
	(void)state;
	notify_set_sink(NULL);
	config_unref(config);
	return ticket_store_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_the_events_of_the_seed_and_no_others),
		cmocka_unit_test(
		    makes_renames_and_deletes_a_chat_and_tells_its_owner),
		cmocka_unit_test(lists_chats_page_by_page),
		cmocka_unit_test(
		    lists_messages_and_leaves_a_chat_that_is_being_answered),
		cmocka_unit_test(finds_nothing_of_anothers),
		cmocka_unit_test(says_what_arguments_will_not_do),
		cmocka_unit_test(keeps_titles_and_chats_within_their_limits),
		cmocka_unit_test(gives_a_visitor_no_more_chats_for_a_new_id),
		cmocka_unit_test(tells_what_is_left),
	};

	return cmocka_run_group_tests(tests, init, done);
}
