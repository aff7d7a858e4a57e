/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/chat/chat_json.h"
#include "common/clock.h"
#include "common/json.h"
#include "config_text.h"
#include "ticket_store.h"

static struct config *paying, *free_of_charge;

/* Whether it is exactly this JSON, in this order. */
static void
assert_json(json_t *value, const char *text)
{
	size_t len;
	char *is = json_text(value, &len);

	assert_string_equal(is, text);
	free(is);
	json_decref(value);
}

static void
shows_a_chat(void **state)
{
	char id[] = "c1", title[] = "Caf\xc3\xa9";
	const struct store_chat chat = { .id = id,
		.title = title,
		.created_ms = 1769860800000,
		.updated_ms = 1769860801007,
		.messages = 4 };

	(void)state;
	assert_json(chat_json_chat(&chat),
	    "{\"id\":\"c1\",\"title\":\"Caf\xc3\xa9\","
	    "\"created_at\":\"2026-01-31T12:00:00.000Z\","
	    "\"updated_at\":\"2026-01-31T12:00:01.007Z\","
	    "\"message_count\":4}");
}

static void
shows_a_question_and_an_answer(void **state)
{
	char id[] = "m1", content[] = "line\nline", model[] = "gpt";
	struct store_message message = { .id = id,
		.turn = 1,
		.version = 1,
		.versions = 1,
		.state = STORE_COMPLETE,
		.content = content,
		.created_ms = 1769860800999 };

	(void)state;
	assert_json(chat_json_message("c1", &message),
	    "{\"id\":\"m1\",\"chat_id\":\"c1\",\"role\":\"user\","
	    "\"content\":\"line\\nline\",\"model\":null,"
	    "\"status\":\"complete\",\"version\":1,\"versions\":1,"
	    "\"created_at\":\"2026-01-31T12:00:00.999Z\",\"usage\":null}");
	message.is_assistant = true;
	message.state = STORE_INTERRUPTED;
	message.model = model;
	message.version = 2;
	message.versions = 3;
	message.input_tokens = 10;
	message.output_tokens = 5;
	assert_json(chat_json_message("c1", &message),
	    "{\"id\":\"m1\",\"chat_id\":\"c1\",\"role\":\"assistant\","
	    "\"content\":\"line\\nline\",\"model\":\"gpt\","
	    "\"status\":\"interrupted\",\"version\":2,\"versions\":3,"
	    "\"created_at\":\"2026-01-31T12:00:00.999Z\",\"usage\":"
	    "{\"prompt_tokens\":10,\"completion_tokens\":5,"
	    "\"total_tokens\":15}}");
}

static void
shows_a_user_what_is_on_the_account(void **state)
{
	char id[] = "alice", owner[] = "u:alice";
	const struct caller alice = { .is_user = true,
		.id = id,
		.owner = owner };
	const struct store_top_up top_up = { .id = "t1",
		.user = "alice",
		.amount = 4000001,
		.at = clock_unix() };
	struct store *store = store_current();
	struct store_account account;
	struct diag diag = { "" };
	json_t *usage;

	(void)state;
	assert_int_equal(chat_json_usage(paying, &alice, &usage, &diag),
	    ERR_OK);
	assert_json(usage,
	    "{\"kind\":\"user\",\"user\":\"alice\",\"balance\":\"0.000000\","
	    "\"balance_micro\":0,\"reserved_micro\":0,\"currency\":\"EUR\"}");
	assert_int_equal(store->ops->top_up(store, &top_up, &account, &diag),
	    ERR_OK);
	assert_int_equal(chat_json_usage(paying, &alice, &usage, &diag),
	    ERR_OK);
	assert_json(usage,
	    "{\"kind\":\"user\",\"user\":\"alice\",\"balance\":\"4.000001\","
	    "\"balance_micro\":4000001,\"reserved_micro\":0,"
	    "\"currency\":\"EUR\"}");
	assert_int_equal(chat_json_usage(free_of_charge, &alice, &usage, &diag),
	    ERR_OK);
	assert_json(usage, "{\"kind\":\"user\",\"user\":\"alice\"}");
}

static void
shows_a_visitor_what_is_left(void **state)
{
	struct store *store = store_current();
	struct caller visitor;
	struct diag diag = { "" };
	struct store_allowance allowance;
	struct store_begun begun;
	struct store_begin begin = { .new_chat = "c1",
		.title = "t",
		.new_question = "q1",
		.new_answer = "a1",
		.generation = "g1",
		.content = "Hi",
		.model = "m",
		.now_ms = 1769860800000,
		.max_chats = 9,
		.max_turns = 9,
		.history_messages = 9,
		.history_bytes = 99,
		.allowance = &allowance };
	json_t *usage;
	const char *resets;

	(void)state;
	assert_int_equal(caller_of_headers(paying,
			     &(struct caller_headers){ .authorization = NULL,
				 .anon_id = "anonymous-id",
				 .address = "192.0.2.1" },
			     &visitor, &diag),
	    ERR_OK);
	assert_int_equal(chat_json_usage(paying, &visitor, &usage, &diag),
	    ERR_OK);
	assert_json(usage,
	    "{\"kind\":\"anonymous\",\"anon_id\":\"anonymous-id\",\"used\":0,"
	    "\"limit\":2,\"remaining\":2,\"window_s\":60,"
	    "\"resets_at\":null}");
	begin.owner = visitor.owner;
	begin.now_ms = clock_unix_ms();
	allowance = caller_allowance(&visitor, paying->chat);
	assert_int_equal(store->ops->begin(store, &begin, &begun, &diag),
	    ERR_OK);
	store_begun_done(&begun);
	assert_int_equal(chat_json_usage(paying, &visitor, &usage, &diag),
	    ERR_OK);
	assert_int_equal(json_integer_value(json_object_get(usage, "used")), 1);
	assert_int_equal(json_integer_value(
			     json_object_get(usage, "remaining")),
	    1);
	resets = json_string_value(json_object_get(usage, "resets_at"));
	assert_non_null(resets);
	assert_int_equal(strlen(resets), strlen("2026-01-31T12:00:00.000Z"));
	json_decref(usage);
	caller_done(&visitor);
}

static void
names_what_a_page_has_to_tell_apart(void **state)
{
	const struct caller visitor = { .is_user = false };
	const struct caller user = { .is_user = true };
	static const struct {
		enum err err;
		int who; /* 0: a visitor, 1: a user, 2: not known */
		const char *code;
	} rows[] = {
		{ ERR_RATE, 0, "ANON_LIMIT_REACHED" },
		{ ERR_RATE, 1, "too_many_requests" },
		{ ERR_RATE, 2, "too_many_requests" },
		{ ERR_PAYMENT, 1, "INSUFFICIENT_BALANCE" },
		{ ERR_PAYMENT, 2, "INSUFFICIENT_BALANCE" },
		{ ERR_UNAVAIL, 0, "unavailable" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(chat_json_code(rows[i].err,
					rows[i].who == 0       ? &visitor
					    : rows[i].who == 1 ? &user
							       : NULL),
		    rows[i].code);
	assert_json(chat_json_error(ERR_RATE, &visitor, "wait"),
	    "{\"code\":\"ANON_LIMIT_REACHED\",\"error\":\"wait\"}");
	/* a message that was cut, or that there is not */
	assert_json(chat_json_error(ERR_PAYMENT, &user, "\xc3"),
	    "{\"code\":\"INSUFFICIENT_BALANCE\","
	    "\"error\":\"the balance is too low\"}");
	assert_json(chat_json_error(ERR_UNAVAIL, NULL, NULL),
	    "{\"code\":\"unavailable\","
	    "\"error\":\"the service is not available now\"}");
}

static int
init(void **state)
{
	(void)state;
	(void)setenv("T_SECRET", "0123456789 the secret of the users", 1);
	paying = config_text("store { path = \"/x/y.db\" }\n"
			     "prices m { currency = EUR input_text = \"1\"\n"
			     "output_text = \"2\" }\n"
			     "chat { url = \"http://localhost\" models = {m}\n"
			     "anonymous { messages = 2 window = 60 } }\n"
			     "users { secret = \"env:T_SECRET\" }\n");
	free_of_charge =
	    config_text("store { path = \"/x/y.db\" }\n"
			"chat { url = \"http://localhost\" models = {m}\n"
			"balance = false }\n"
			"users { secret = \"env:T_SECRET\" }");
	return ticket_store_open();
}

static int
done(void **state)
{
	(void)state;
	config_unref(paying);
	config_unref(free_of_charge);
	return ticket_store_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_a_chat),
		cmocka_unit_test(shows_a_question_and_an_answer),
		cmocka_unit_test(shows_a_user_what_is_on_the_account),
		cmocka_unit_test(shows_a_visitor_what_is_left),
		cmocka_unit_test(names_what_a_page_has_to_tell_apart),
	};

	return cmocka_run_group_tests(tests, init, done);
}
