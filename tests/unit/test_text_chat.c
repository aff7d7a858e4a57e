/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tunnel/text_chat.h"

#define MAX_BYTES 100

static int
set_up(void **state)
{
	*state = text_chat_new(MAX_BYTES);
	return 0;
}

static int
tear_down(void **state)
{
	text_chat_free(*state);
	return 0;
}

static void
say(struct text_chat *chat, const char *text)
{
	assert_int_equal(text_chat_say(chat, text, strlen(text)), ERR_OK);
}

/* The next event; decref it. */
static json_t *
next(struct text_chat *chat)
{
	size_t len;
	char *text = text_chat_next(chat, &len);
	json_t *event;

	assert_non_null(text);
	assert_int_equal(strlen(text), len);
	event = json_loads(text, 0, NULL);
	assert_non_null(event);
	free(text);
	return event;
}

static const char *
type_of(const json_t *event)
{
	return json_string_value(json_object_get(event, "type"));
}

static void
expect_nothing(struct text_chat *chat)
{
	size_t len;

	assert_null(text_chat_next(chat, &len));
}

/* A whole turn: the item with this text, then response.create. */
static void
expect_turn(struct text_chat *chat, const char *text)
{
	json_t *event = next(chat), *expected, *item;

	assert_string_equal(type_of(event), "conversation.item.create");
	item = json_object_get(event, "item");
	expected = json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "type", "message",
	    "role", "user", "content", "type", "input_text", "text", text);
	assert_true(json_equal(item, expected));
	json_decref(expected);
	json_decref(event);
	event = next(chat);
	assert_string_equal(type_of(event), "response.create");
	json_decref(event);
	expect_nothing(chat);
}

/* The id of the response.create that comes next. */
static void
name_of_turn(struct text_chat *chat, char *out, size_t size)
{
	json_t *event;

	json_decref(next(chat));
	event = next(chat);
	(void)snprintf(out, size, "%s",
	    json_string_value(json_object_get(event, "event_id")));
	json_decref(event);
}

static void
text_becomes_an_item_and_a_wish_for_a_response(void **state)
{
	say(*state, "Hello, \"you\"\n\xe2\x82\xac");
	expect_turn(*state, "Hello, \"you\"\n\xe2\x82\xac");
}

static void
one_response_at_a_time_in_the_order_of_the_messages(void **state)
{
	say(*state, "one");
	say(*state, "two");
	say(*state, "three");
	expect_turn(*state, "one");
	text_chat_hear(*state, "conversation.item.added", "");
	text_chat_hear(*state, "response.created", "");
	text_chat_hear(*state, "response.output_text.delta", "");
	expect_nothing(*state);
	text_chat_hear(*state, "response.done", "");
	expect_turn(*state, "two");
	say(*state, "four");
	expect_nothing(*state);
	text_chat_hear(*state, "response.created", "");
	text_chat_hear(*state, "response.cancelled", "");
	expect_turn(*state, "three");
	text_chat_hear(*state, "response.done", "");
	expect_turn(*state, "four");
	text_chat_hear(*state, "response.done", "");
	expect_nothing(*state);
}

static void
an_error_about_our_wish_ends_the_turn(void **state)
{
	char name[64];

	say(*state, "one");
	say(*state, "two");
	name_of_turn(*state, name, sizeof(name));
	text_chat_hear(*state, "error", "somebody_else");
	expect_nothing(*state);
	text_chat_hear(*state, "error", name);
	expect_turn(*state, "two");
	/* the id of an earlier turn is nobody's now */
	text_chat_hear(*state, "error", name);
	say(*state, "three");
	expect_nothing(*state);
}

static void
an_error_that_names_nothing_does_not_hold_the_queue_up(void **state)
{
	say(*state, "one");
	say(*state, "two");
	expect_turn(*state, "one");
	text_chat_hear(*state, "error", "");
	expect_turn(*state, "two");
	/* once the answer has begun, its end will be told */
	text_chat_hear(*state, "response.created", "");
	text_chat_hear(*state, "error", "");
	say(*state, "three");
	expect_nothing(*state);
	text_chat_hear(*state, "response.done", "");
	expect_turn(*state, "three");
}

static void
an_end_that_nobody_waits_for_changes_nothing(void **state)
{
	text_chat_hear(*state, "response.done", "");
	text_chat_hear(*state, "error", "");
	expect_nothing(*state);
	say(*state, "one");
	expect_turn(*state, "one");
}

static void
refuses_more_than_its_maximum(void **state)
{
	char large[MAX_BYTES + 1];

	memset(large, 'x', sizeof(large));
	assert_int_equal(text_chat_say(*state, large, sizeof(large)),
	    ERR_LIMIT);
	assert_int_equal(text_chat_say(*state, large, MAX_BYTES), ERR_OK);
	assert_int_equal(text_chat_say(*state, "x", 1), ERR_LIMIT);
	json_decref(next(*state)); /* it has gone: there is room again */
	for (int i = 0; i < TEXT_CHAT_WAITING_MAX; i++)
		say(*state, "x");
	assert_int_equal(text_chat_say(*state, "x", 1), ERR_LIMIT);
	json_decref(next(*state));
	expect_nothing(*state);
	text_chat_hear(*state, "response.done", "");
	expect_turn(*state, "x");
	say(*state, "x");
}

static void
refuses_what_is_no_text(void **state)
{
	static const char *const bad[] = { "\xff", "\xc0\x80", "a\xed\xa0\x80",
		"\xf4\x90\x80\x80", "\xe2\x82" };

	assert_int_equal(text_chat_say(*state, "", 0), ERR_NOTFOUND);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(text_chat_say(*state, bad[i], strlen(bad[i])),
		    ERR_TYPE);
	expect_nothing(*state);
}

static void
a_nul_in_a_text_is_a_character(void **state)
{
	json_t *event, *content;
	size_t len;
	char *text;

	assert_int_equal(text_chat_say(*state, "a\0b", 3), ERR_OK);
	text = text_chat_next(*state, &len);
	assert_non_null(text);
	event = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
	assert_non_null(event);
	content = json_array_get(json_object_get(json_object_get(event, "item"),
				     "content"),
	    0);
	assert_int_equal(json_string_length(json_object_get(content, "text")),
	    3);
	json_decref(event);
	free(text);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(text_becomes_an_item_and_a_wish_for_a_response),
		T(one_response_at_a_time_in_the_order_of_the_messages),
		T(an_error_about_our_wish_ends_the_turn),
		T(an_error_that_names_nothing_does_not_hold_the_queue_up),
		T(an_end_that_nobody_waits_for_changes_nothing),
		T(refuses_more_than_its_maximum),
		T(refuses_what_is_no_text),
		T(a_nul_in_a_text_is_a_character),
	};

	return cmocka_run_group_tests_name("text_chat", tests, NULL, NULL);
}
