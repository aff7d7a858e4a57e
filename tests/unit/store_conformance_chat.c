/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/xalloc.h"
#include "store_conformance.h"

#define NOW_MS	 (NOW * (int64_t)1000)
#define THREADS	 8
#define REPLAY_S 60
#define HOSTILE \
	"\xc3\xa4 \"'; DROP TABLE chat; -- %s \\ \n\n\x7f \xf0\x9f\xa6\x86"

/* ---- tools ------------------------------------------------------------- */

void
beginning_init(struct beginning *beginning, const char *chat, int n)
{
	*beginning = (struct beginning){
		.in = {
			.owner = "u:ann",
			.chat = chat,
			.title = "A chat",
			.content = "Hello",
			.model = "gpt-test",
			.now_ms = NOW_MS + n,
			.key_s = 60,
			.max_chats = 100,
			.max_turns = 1000,
			.history_messages = 100,
			.history_bytes = 100000,
		},
	};
	(void)snprintf(beginning->chat, sizeof(beginning->chat), "c%d", n);
	(void)snprintf(beginning->question, sizeof(beginning->question), "q%d",
	    n);
	(void)snprintf(beginning->answer, sizeof(beginning->answer), "a%d", n);
	(void)snprintf(beginning->generation, sizeof(beginning->generation),
	    "g%d", n);
	beginning->in.new_chat = beginning->chat;
	beginning->in.new_question = beginning->question;
	beginning->in.new_answer = beginning->answer;
	beginning->in.generation = beginning->generation;
}

enum err
try_begin(struct store *store, const struct store_begin *in)
{
	struct store_begun begun;
	struct diag diag = { "" };
	enum err err = OPS(store, begin, in, &begun, &diag);

	store_begun_done(&begun);
	return err;
}

static struct store_begun
begin(struct store *store, const struct store_begin *in)
{
	struct store_begun begun;
	struct diag diag = { "" };

	assert_ok(OPS(store, begin, in, &begun, &diag), &diag);
	return begun;
}

struct store_finish
ending(const char *generation, const char *content)
{
	return (struct store_finish){
		.generation = generation,
		.state = STORE_COMPLETE,
		.content = content,
		.now_ms = NOW_MS + 1000,
		.replay_s = REPLAY_S,
	};
}

struct store_finished
end(struct store *store, const struct store_finish *in)
{
	struct store_finished finished;
	struct diag diag = { "" };

	assert_ok(OPS(store, finish, in, &finished, &diag), &diag);
	return finished;
}

void
say(struct store *store, const char *chat, int n, const char *question,
    const char *answer)
{
	struct beginning one;
	struct store_finish in;

	beginning_init(&one, chat, n);
	one.in.content = question;
	assert_int_equal(try_begin(store, &one.in), ERR_OK);
	in = ending(one.generation, answer);
	in.now_ms = one.in.now_ms;
	assert_true(end(store, &in).was_running);
}

/* Make the chat's last answer anew. */
static void
say_anew(struct store *store, const char *chat, const char *old, int n,
    const char *answer)
{
	struct beginning one;
	struct store_finish in;

	beginning_init(&one, chat, n);
	one.in.content = NULL;
	one.in.regenerate = old;
	assert_int_equal(try_begin(store, &one.in), ERR_OK);
	in = ending(one.generation, answer);
	in.now_ms = one.in.now_ms;
	assert_true(end(store, &in).was_running);
}

static void
add_chat(struct store *store, const char *owner, const char *id, int64_t now_ms)
{
	struct diag diag = { "" };

	assert_ok(OPS(store, add_chat, owner, id, id, now_ms, 100, NULL, &diag),
	    &diag);
}

static struct store_chats
list_chats(struct store *store, const char *owner, int64_t page, int64_t limit)
{
	struct store_chats chats;
	struct diag diag = { "" };

	assert_ok(OPS(store, list_chats, owner, page, limit, &chats, &diag),
	    &diag);
	return chats;
}

static int64_t
count_chats(struct store *store, const char *owner)
{
	struct store_chats chats = list_chats(store, owner, 0, 0);
	int64_t total = chats.total;

	store_chats_done(&chats);
	return total;
}

static struct store_messages
list_messages(struct store *store, const char *chat, int64_t page,
    int64_t limit, bool all_versions)
{
	const struct store_message_query query = {
		.owner = "u:ann",
		.chat = chat,
		.page = page,
		.limit = limit,
		.all_versions = all_versions,
	};
	struct store_messages messages;
	struct diag diag = { "" };

	assert_ok(OPS(store, list_messages, &query, &messages, &diag), &diag);
	return messages;
}

/* Their ids, with spaces between. */
static const char *
ids_of(const struct store_messages *messages)
{
	static char ids[256];

	ids[0] = '\0';
	for (size_t i = 0; i < messages->count; i++) {
		(void)strcat(ids, i == 0 ? "" : " ");
		(void)strcat(ids, messages->items[i].id);
	}
	return ids;
}

static void
assert_page(struct store *store, int64_t page, int64_t limit, bool all_versions,
    const char *ids, int64_t total)
{
	struct store_messages messages =
	    list_messages(store, "c1", page, limit, all_versions);

	assert_string_equal(ids_of(&messages), ids);
	assert_int_equal(messages.total, total);
	store_messages_done(&messages);
}

static struct store_generation
get_generation(struct store *store, const char *id)
{
	struct store_generation generation;
	struct diag diag = { "" };

	assert_ok(OPS(store, get_generation, "u:ann", id, &generation, &diag),
	    &diag);
	return generation;
}

static void
add_pieces(struct store *store, const struct store_piece *pieces, size_t count)
{
	struct diag diag = { "" };

	assert_ok(OPS(store, add_pieces, pieces, count, &diag), &diag);
}

static void
assert_events(struct store *store, int64_t after, const char *expected)
{
	struct diag diag = { "" };
	char *events;

	assert_ok(OPS(store, get_events, "g1", after, &events, &diag), &diag);
	assert_string_equal(events, expected);
	free(events);
}

static void
assert_no_events(struct store *store, const char *generation)
{
	char *events;

	assert_int_equal(OPS(store, get_events, generation, 0, &events, NULL),
	    ERR_NOTFOUND);
}

static int64_t
count_running(struct store *store)
{
	struct store_generations list;
	struct diag diag = { "" };
	int64_t count;

	assert_ok(OPS(store, list_running, &list, &diag), &diag);
	count = (int64_t)list.count;
	store_generations_done(&list);
	return count;
}

/* ---- chats ------------------------------------------------------------- */

void
lists_chats_with_the_last_changed_first(void **state)
{
	struct store_pair *pair = *state;
	struct store_chats chats;
	struct store_chat chat;
	struct diag diag = { "" };

	add_chat(pair->one, "u:ann", "one", NOW_MS);
	add_chat(pair->one, "u:ann", "two", NOW_MS);
	add_chat(pair->one, "u:ann", "three", NOW_MS - 5);
	add_chat(pair->one, "a:ann", "four", NOW_MS);
	assert_ok(OPS(pair->one, rename_chat, "u:ann", "one", "new title",
		      NOW_MS + 1, &diag),
	    &diag);
	chats = list_chats(pair->other, "u:ann", 0, 10);
	assert_int_equal(chats.count, 3);
	assert_int_equal(chats.total, 3);
	assert_string_equal(chats.items[0].id, "one");
	assert_string_equal(chats.items[0].title, "new title");
	assert_int_equal(chats.items[0].created_ms, NOW_MS);
	assert_int_equal(chats.items[0].updated_ms, NOW_MS + 1);
	assert_string_equal(chats.items[1].id, "two");
	assert_string_equal(chats.items[2].id, "three");
	store_chats_done(&chats);
	/* the end of an answer is a change, and a clock that goes back none */
	say(pair->one, "three", 7, "Hello", "Hi");
	assert_ok(OPS(pair->one, rename_chat, "u:ann", "three", "t", 0, &diag),
	    &diag);
	assert_ok(OPS(pair->other, get_chat, "u:ann", "three", &chat, &diag),
	    &diag);
	assert_string_equal(chat.title, "t");
	assert_int_equal(chat.updated_ms, NOW_MS + 7);
	assert_int_equal(chat.messages, 2);
	store_chat_done(&chat);
	chats = list_chats(pair->other, "u:ann", 0, 1);
	assert_string_equal(chats.items[0].id, "three");
	store_chats_done(&chats);
}

void
gives_pages_of_chats_whatever_is_asked_for(void **state)
{
	static const struct {
		int64_t page, limit;
		size_t count;
	} cases[] = {
		{ 0, 2, 2 },
		{ 1, 2, 2 },
		{ 2, 2, 1 },
		{ 3, 2, 0 },
		{ 0, 0, 0 },
		{ -1, 2, 0 },
		{ 0, -1, 0 },
		{ INT64_MAX, 2, 0 },
		{ INT64_MAX, INT64_MAX, 0 },
		{ INT64_MIN, INT64_MIN, 0 },
		{ 0, INT64_MAX, 5 },
		{ 1, INT64_MAX, 0 },
	};
	struct store_pair *pair = *state;

	for (int i = 0; i < 5; i++) {
		char id[8];

		(void)snprintf(id, sizeof(id), "%d", i);
		add_chat(pair->one, "u:ann", id, NOW_MS);
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct store_chats chats = list_chats(pair->other, "u:ann",
		    cases[i].page, cases[i].limit);

		assert_int_equal(chats.count, cases[i].count);
		assert_int_equal(chats.total, 5);
		store_chats_done(&chats);
	}
}

static enum err
add_counted_chat(struct store *store, const char *owner, const char *id,
    int64_t max_chats)
{
	struct diag diag;
	const struct store_allowance allowance = { .id = owner,
		.address = "cn:1",
		.max = 1,
		.window_s = 10 };

	return OPS(store, add_chat, owner, id, "", NOW_MS, max_chats,
	    &allowance, &diag);
}

void
keeps_no_more_chats_than_allowed(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one;
	struct diag diag;

	add_chat(pair->one, "u:ann", "one", NOW_MS);
	assert_int_equal(OPS(pair->one, add_chat, "u:ann", "two", "", NOW_MS, 1,
			     NULL, &diag),
	    ERR_LIMIT);
	/* what is not made is not counted; then, a new owner is no new one */
	assert_int_equal(add_counted_chat(pair->one, "u:ann", "two", 1),
	    ERR_LIMIT);
	assert_int_equal(add_counted_chat(pair->one, "a:1", "a1", 9), ERR_OK);
	assert_int_equal(add_counted_chat(pair->one, "a:2", "a2", 9), ERR_RATE);
	beginning_init(&one, NULL, 1);
	one.in.max_chats = 1;
	assert_int_equal(try_begin(pair->other, &one.in), ERR_LIMIT);
	one.in.chat = "one";
	assert_int_equal(try_begin(pair->other, &one.in), ERR_OK);
	beginning_init(&one, NULL, 2);
	one.in.max_chats = 1;
	one.in.owner = "u:bob";
	assert_int_equal(try_begin(pair->other, &one.in), ERR_OK);
	assert_int_equal(count_chats(pair->one, "u:ann"), 1);
}

void
hides_a_chat_from_everybody_else(void **state)
{
	static const char *const others[] = { "u:bob", "a:ann", "u:Ann", "",
		"u:ann ", "u:%", "%" };
	struct store_pair *pair = *state;

	say(pair->one, NULL, 1, "Hello", "Hi");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		const struct store_message_query query = {
			.owner = others[i],
			.chat = "c1",
			.limit = 10,
		};
		struct store_messages messages;
		struct store_generation generation;
		struct store_chat chat;
		struct beginning one;

		assert_int_equal(OPS(pair->one, get_chat, others[i], "c1",
				     &chat, NULL),
		    ERR_NOTFOUND);
		assert_int_equal(OPS(pair->one, rename_chat, others[i], "c1",
				     "mine", NOW_MS, NULL),
		    ERR_NOTFOUND);
		assert_int_equal(OPS(pair->one, delete_chat, others[i], "c1",
				     NULL),
		    ERR_NOTFOUND);
		assert_int_equal(OPS(pair->one, list_messages, &query,
				     &messages, NULL),
		    ERR_NOTFOUND);
		assert_int_equal(OPS(pair->one, get_generation, others[i], "g1",
				     &generation, NULL),
		    ERR_NOTFOUND);
		assert_int_equal(count_chats(pair->one, others[i]), 0);
		beginning_init(&one, "c1", 2);
		one.in.owner = others[i];
		assert_int_equal(try_begin(pair->one, &one.in), ERR_NOTFOUND);
		one.in.content = NULL;
		one.in.regenerate = "a1";
		assert_int_equal(try_begin(pair->one, &one.in), ERR_NOTFOUND);
	}
	assert_page(pair->one, 0, 10, false, "q1 a1", 2);
}

void
keeps_texts_as_they_are(void **state)
{
	struct store_pair *pair = *state;
	char *large = xcalloc(1, (1 << 20) + 1);
	struct beginning one;
	struct store_finish in;
	struct store_begun begun;
	struct store_messages messages;
	struct store_chat chat;
	struct diag diag = { "" };

	(void)memset(large, '\'', 1 << 20);
	beginning_init(&one, NULL, 1);
	one.in.owner = "a:" HOSTILE;
	one.in.title = HOSTILE;
	one.in.content = large;
	one.in.model = HOSTILE;
	one.in.key = HOSTILE;
	one.in.digest = HOSTILE;
	one.in.history_bytes = 1;
	begun = begin(pair->one, &one.in);
	assert_int_equal(begun.history.count, 1);
	assert_string_equal(begun.history.items[0].content, large);
	store_begun_done(&begun);
	in = ending("g1", HOSTILE);
	(void)end(pair->one, &in);
	assert_ok(OPS(pair->other, get_chat, one.in.owner, "c1", &chat, &diag),
	    &diag);
	assert_string_equal(chat.title, HOSTILE);
	store_chat_done(&chat);
	assert_ok(OPS(pair->other, list_messages,
		      (&(const struct store_message_query){
			  .owner = one.in.owner,
			  .chat = "c1",
			  .limit = 2,
		      }),
		      &messages, &diag),
	    &diag);
	assert_string_equal(messages.items[0].content, large);
	assert_string_equal(messages.items[1].content, HOSTILE);
	assert_string_equal(messages.items[1].model, HOSTILE);
	store_messages_done(&messages);
	begun = begin(pair->other, &one.in);
	assert_true(begun.repeated);
	store_begun_done(&begun);
	free(large);
}

void
deletes_a_chat_with_all_that_is_in_it(void **state)
{
	struct store_pair *pair = *state;
	struct store_chat chat;
	struct beginning one;
	struct store_finish in;
	struct diag diag = { "" };

	say(pair->one, NULL, 1, "Hello", "Hi");
	beginning_init(&one, "c1", 2);
	one.in.key = "key";
	one.in.digest = "digest";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
	assert_int_equal(OPS(pair->other, delete_chat, "u:ann", "c1", &diag),
	    ERR_CONFLICT);
	in = ending("g2", "Bye");
	(void)end(pair->one, &in);
	assert_ok(OPS(pair->other, delete_chat, "u:ann", "c1", &diag), &diag);
	assert_int_equal(OPS(pair->one, get_chat, "u:ann", "c1", &chat, NULL),
	    ERR_NOTFOUND);
	assert_int_equal(OPS(pair->one, delete_chat, "u:ann", "c1", NULL),
	    ERR_NOTFOUND);
	assert_no_events(pair->one, "g2");
	/* a retry must not begin it a second time */
	assert_int_equal(try_begin(pair->one, &one.in), ERR_NOTFOUND);
	/* and of the ids nothing is left */
	say(pair->one, NULL, 1, "Hello", "Hi");
	assert_page(pair->other, 0, 10, true, "q1 a1", 2);
}

/* ---- beginning --------------------------------------------------------- */

void
begins_a_new_chat_with_a_question(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one;
	struct store_begun begun;
	struct store_messages messages;

	beginning_init(&one, NULL, 1);
	begun = begin(pair->one, &one.in);
	assert_false(begun.repeated);
	assert_true(begun.new_chat);
	assert_string_equal(begun.chat, "c1");
	assert_string_equal(begun.question, "q1");
	assert_string_equal(begun.answer, "a1");
	assert_string_equal(begun.generation, "g1");
	assert_null(begun.replaces);
	assert_int_equal(begun.state, STORE_RUNNING);
	assert_int_equal(begun.reserved, 0);
	assert_int_equal(begun.history.count, 1);
	assert_string_equal(begun.history.items[0].content, "Hello");
	assert_false(begun.history.items[0].is_assistant);
	store_begun_done(&begun);
	messages = list_messages(pair->other, "c1", 0, 10, false);
	assert_string_equal(ids_of(&messages), "q1 a1");
	assert_int_equal(messages.items[0].turn, 1);
	assert_false(messages.items[0].is_assistant);
	assert_int_equal(messages.items[0].state, STORE_COMPLETE);
	assert_string_equal(messages.items[0].content, "Hello");
	assert_null(messages.items[0].model);
	assert_null(messages.items[0].generation);
	assert_int_equal(messages.items[0].created_ms, NOW_MS + 1);
	assert_int_equal(messages.items[1].turn, 2);
	assert_true(messages.items[1].is_assistant);
	assert_int_equal(messages.items[1].version, 1);
	assert_int_equal(messages.items[1].versions, 1);
	assert_int_equal(messages.items[1].state, STORE_RUNNING);
	assert_string_equal(messages.items[1].content, "");
	assert_string_equal(messages.items[1].model, "gpt-test");
	assert_string_equal(messages.items[1].generation, "g1");
	store_messages_done(&messages);
}

void
goes_on_in_a_chat_that_is_there(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one;
	struct store_begun begun;

	add_chat(pair->one, "u:ann", "c1", NOW_MS);
	say(pair->one, "c1", 1, "one", "two");
	/* an answer that failed before its first word says nothing */
	say(pair->one, "c1", 2, "three", "");
	beginning_init(&one, "c1", 3);
	one.in.content = "four";
	begun = begin(pair->other, &one.in);
	assert_false(begun.new_chat);
	assert_string_equal(begun.chat, "c1");
	assert_string_equal(ids_of(&begun.history), "q1 a1 q2 q3");
	assert_true(begun.history.items[1].is_assistant);
	assert_string_equal(begun.history.items[1].content, "two");
	assert_string_equal(begun.history.items[3].content, "four");
	store_begun_done(&begun);
	beginning_init(&one, "c0", 4);
	assert_int_equal(try_begin(pair->one, &one.in), ERR_NOTFOUND);
}

void
gives_pages_of_messages_from_the_newest_on(void **state)
{
	struct store_pair *pair = *state;

	say(pair->one, NULL, 1, "one", "two");
	say(pair->one, "c1", 2, "three", "four");
	say_anew(pair->one, "c1", "a1", 3, "TWO");
	say(pair->one, "c1", 4, "five", "six");
	assert_page(pair->other, 0, 4, false, "q2 a2 q4 a4", 6);
	assert_page(pair->other, 1, 4, false, "q1 a3", 6);
	assert_page(pair->other, 2, 4, false, "", 6);
	assert_page(pair->other, 0, 100, true, "q1 a1 a3 q2 a2 q4 a4", 7);
	assert_page(pair->other, 1, 4, true, "q1 a1 a3", 7);
	assert_page(pair->other, -1, 4, true, "", 7);
	assert_page(pair->other, INT64_MAX, INT64_MAX, true, "", 7);
	assert_page(pair->other, 0, -1, false, "", 6);
}

void
bounds_the_history_and_keeps_the_question(void **state)
{
	static const struct {
		size_t messages, bytes;
		const char *ids;
	} cases[] = {
		{ 100, 1000, "q1 a1 q2 a2 q9" },
		{ 3, 1000, "q2 a2 q9" },
		{ 1, 1000, "q9" },
		{ 0, 1000, "q9" },
		{ 100, 11, "q2 a2 q9" },
		{ 100, 10, "a2 q9" },
		{ 100, 1, "q9" },
		{ 100, 0, "q9" },
	};
	struct store_pair *pair = *state;

	say(pair->one, NULL, 1, "aaa", "bbbb");
	say(pair->one, "c1", 2, "ccccc", "dddd");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct beginning one;
		struct store_begun begun;
		struct diag diag = { "" };

		beginning_init(&one, NULL, 9);
		one.in.chat = "c1";
		one.in.content = "ee";
		one.in.history_messages = cases[i].messages;
		one.in.history_bytes = cases[i].bytes;
		begun = begin(pair->one, &one.in);
		assert_string_equal(ids_of(&begun.history), cases[i].ids);
		store_begun_done(&begun);
		(void)end(pair->one,
		    &(const struct store_finish){
			.generation = "g9",
			.state = STORE_FAILED,
			.content = "",
		    });
		/* for the next case to find the chat as this one did */
		assert_ok(OPS(pair->one, delete_chat, "u:ann", "c1", &diag),
		    &diag);
		say(pair->one, NULL, 1, "aaa", "bbbb");
		say(pair->one, "c1", 2, "ccccc", "dddd");
	}
}

void
makes_an_answer_anew_and_keeps_the_older_ones(void **state)
{
	struct store_pair *pair = *state;
	struct store_messages messages;
	struct store_begun begun;
	struct beginning one;
	struct store_finish in;

	say(pair->one, NULL, 1, "one", "two");
	say(pair->one, "c1", 2, "three", "four");
	/* which is not said: the last one */
	beginning_init(&one, "c1", 3);
	one.in.content = NULL;
	begun = begin(pair->one, &one.in);
	assert_null(begun.question);
	assert_string_equal(begun.replaces, "a2");
	assert_string_equal(begun.answer, "a3");
	assert_false(begun.new_chat);
	assert_string_equal(ids_of(&begun.history), "q1 a1 q2");
	store_begun_done(&begun);
	in = ending("g3", "FOUR");
	(void)end(pair->one, &in);
	/* an older one of its versions stands for all of them */
	say_anew(pair->one, "c1", "a2", 4, "Four");
	/* one in the middle is made of what was before it */
	beginning_init(&one, "c1", 5);
	one.in.content = NULL;
	one.in.regenerate = "a1";
	begun = begin(pair->one, &one.in);
	assert_string_equal(begun.replaces, "a1");
	assert_string_equal(ids_of(&begun.history), "q1");
	store_begun_done(&begun);
	in = ending("g5", "TWO");
	(void)end(pair->one, &in);
	messages = list_messages(pair->other, "c1", 0, 10, true);
	assert_string_equal(ids_of(&messages), "q1 a1 a5 q2 a2 a3 a4");
	assert_string_equal(messages.items[1].content, "two");
	assert_int_equal(messages.items[1].versions, 2);
	assert_int_equal(messages.items[5].version, 2);
	assert_int_equal(messages.items[5].versions, 3);
	store_messages_done(&messages);
	assert_page(pair->other, 0, 10, false, "q1 a5 q2 a4", 4);
	/* and what comes after is told the last versions */
	beginning_init(&one, "c1", 6);
	begun = begin(pair->other, &one.in);
	assert_string_equal(ids_of(&begun.history), "q1 a5 q2 a4 q6");
	store_begun_done(&begun);
}

void
makes_only_answers_anew(void **state)
{
	static const struct {
		const char *chat, *message;
	} cases[] = {
		{ "c1", "q1" }, /* a question */
		{ "c1", "a2" }, /* another chat's */
		{ "c1", "a9" },
		{ "c1", "" },
		{ "c3", NULL }, /* empty */
		{ NULL, "a1" },
		{ NULL, NULL },
	};
	struct store_pair *pair = *state;

	say(pair->one, NULL, 1, "one", "two");
	say(pair->one, NULL, 2, "one", "two");
	add_chat(pair->one, "u:ann", "c3", NOW_MS);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct beginning one;

		beginning_init(&one, cases[i].chat, 4);
		one.in.content = NULL;
		one.in.regenerate = cases[i].message;
		assert_int_equal(try_begin(pair->one, &one.in), ERR_NOTFOUND);
	}
	assert_int_equal(count_chats(pair->one, "u:ann"), 3);
	assert_int_equal(count_running(pair->one), 0);
}

void
bounds_turns_and_versions(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one;

	say(pair->one, NULL, 1, "one", "two");
	say(pair->one, "c1", 2, "three", "four");
	beginning_init(&one, "c1", 3);
	one.in.max_turns = 5;
	assert_int_equal(try_begin(pair->one, &one.in), ERR_LIMIT);
	/* which needs no new turn */
	for (int i = 0; i < STORE_VERSIONS_MAX - 1; i++)
		say_anew(pair->one, "c1", NULL, 10 + i, "x");
	beginning_init(&one, "c1", 3);
	one.in.content = NULL;
	assert_int_equal(try_begin(pair->one, &one.in), ERR_LIMIT);
	assert_page(pair->one, 0, 1, false, "a108", 4);
}

void
makes_one_answer_at_a_time_in_a_chat(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one;
	struct store_finish in;

	beginning_init(&one, NULL, 1);
	assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
	beginning_init(&one, "c1", 2);
	assert_int_equal(try_begin(pair->other, &one.in), ERR_CONFLICT);
	one.in.content = NULL;
	assert_int_equal(try_begin(pair->other, &one.in), ERR_CONFLICT);
	one.in.regenerate = "a1";
	assert_int_equal(try_begin(pair->other, &one.in), ERR_CONFLICT);
	beginning_init(&one, NULL, 3); /* another chat */
	assert_int_equal(try_begin(pair->other, &one.in), ERR_OK);
	in = ending("g1", "Hi");
	in.state = STORE_STOPPED;
	(void)end(pair->one, &in);
	beginning_init(&one, "c1", 2);
	assert_int_equal(try_begin(pair->other, &one.in), ERR_OK);
	assert_page(pair->one, 0, 10, false, "q1 a1 q2 a2", 4);
}

/* ---- keys -------------------------------------------------------------- */

static void
assert_repeats(struct store *store, const struct store_begin *in,
    enum store_state state, const char *ids)
{
	struct store_begun begun = begin(store, in);
	char text[128];

	(void)snprintf(text, sizeof(text), "%s %s %s %s %s%s", begun.chat,
	    begun.question == NULL ? "-" : begun.question, begun.answer,
	    begun.generation, begun.replaces == NULL ? "-" : begun.replaces,
	    begun.new_chat ? " new" : "");
	assert_true(begun.repeated);
	assert_string_equal(text, ids);
	assert_int_equal(begun.state, state);
	assert_int_equal(begun.history.count, 0);
	store_begun_done(&begun);
}

void
repeats_what_a_key_began(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one, again;
	struct store_finish in;

	beginning_init(&one, NULL, 1);
	one.in.key = "key";
	one.in.digest = "digest";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
	beginning_init(&again, NULL, 2);
	again.in.key = "key";
	again.in.digest = "digest";
	assert_repeats(pair->other, &again.in, STORE_RUNNING,
	    "c1 q1 a1 g1 - new");
	in = ending("g1", "Hi");
	(void)end(pair->one, &in);
	assert_repeats(pair->other, &again.in, STORE_COMPLETE,
	    "c1 q1 a1 g1 - new");
	again.in.digest = "Digest";
	assert_int_equal(try_begin(pair->other, &again.in), ERR_MISMATCH);
	/* one that makes an answer anew */
	beginning_init(&one, "c1", 3);
	one.in.content = NULL;
	one.in.key = "another";
	one.in.digest = "digest";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
	one.in.new_answer = "a4";
	one.in.generation = "g4";
	assert_repeats(pair->other, &one.in, STORE_RUNNING, "c1 - a3 g3 a1");
	/* another owner's key has nothing to do with it */
	beginning_init(&again, NULL, 5);
	again.in.owner = "u:bob";
	again.in.key = "key";
	again.in.digest = "digest";
	assert_int_equal(try_begin(pair->one, &again.in), ERR_OK);
	assert_repeats(pair->other, &again.in, STORE_RUNNING,
	    "c5 q5 a5 g5 - new");
	assert_int_equal(count_chats(pair->one, "u:ann"), 1);
	assert_page(pair->one, 0, 10, true, "q1 a1 a3", 3);
}

void
keeps_a_key_for_its_time_and_while_it_runs(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one, again;
	struct store_finish in;
	struct diag diag = { "" };

	beginning_init(&one, NULL, 1);
	one.in.key = "key";
	one.in.digest = "digest";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
	beginning_init(&again, NULL, 2);
	again.in.key = "key";
	again.in.digest = "digest";
	again.in.now_ms = NOW_MS + 3600000;
	assert_ok(OPS(pair->one, expire, NOW + 3600, &diag), &diag);
	assert_repeats(pair->one, &again.in, STORE_RUNNING,
	    "c1 q1 a1 g1 - new");
	in = ending("g1", "Hi");
	(void)end(pair->one, &in);
	again.in.now_ms = NOW_MS + 59999;
	assert_repeats(pair->one, &again.in, STORE_COMPLETE,
	    "c1 q1 a1 g1 - new");
	again.in.now_ms = NOW_MS + 60000;
	again.in.digest = "something else";
	assert_int_equal(try_begin(pair->one, &again.in), ERR_OK);
	assert_repeats(pair->other, &again.in, STORE_RUNNING,
	    "c2 q2 a2 g2 - new");
}

void
leaves_nothing_of_what_did_not_begin(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one;
	struct store_begun begun;

	say(pair->one, NULL, 1, "one", "two");
	beginning_init(&one, NULL, 2);
	one.in.key = "key";
	one.in.digest = "digest";
	one.in.generation = "g1"; /* which there is */
	assert_int_equal(OPS(pair->one, begin, &one.in, &begun, NULL),
	    ERR_DENIED);
	assert_null(begun.chat);
	assert_null(begun.generation);
	assert_int_equal(begun.history.count, 0);
	one.in.generation = "g2";
	one.in.new_answer = "a1";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_DENIED);
	one.in.new_answer = "a2";
	one.in.new_question = "q1";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_DENIED);
	one.in.new_question = "q2";
	one.in.new_chat = "c1";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_DENIED);
	one.in.new_chat = "c2";
	assert_int_equal(count_chats(pair->other, "u:ann"), 1);
	assert_int_equal(count_running(pair->other), 0);
	one.in.digest = "not used yet, so it may be another";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
}

/* ---- pieces, and the end ----------------------------------------------- */

static const struct store_piece pieces[] = {
	{ "g1", 1, 2, "id: 1\n\nid: 2\n\n", "Hel" },
	{ "g1", 3, 3, "id: 3\n\n", "lo" },
	{ "g1", 4, 6, "id: 4\n\nid: 5\n\nid: 6\n\n", " you" },
};

static void
start(struct store *store)
{
	struct beginning one;

	beginning_init(&one, NULL, 1);
	assert_int_equal(try_begin(store, &one.in), ERR_OK);
}

void
replays_events_from_any_one_on(void **state)
{
	struct store_pair *pair = *state;
	struct store_finish in = ending("g1", "Hello you");

	start(pair->one);
	assert_events(pair->other, 0, "");
	add_pieces(pair->one, pieces, 3);
	in.last = (struct store_piece){ "g1", 7, 7, "id: 7\n\n", "" };
	for (int ended = 0; ended < 2; ended++) {
		const char *tail = ended ? "id: 7\n\n" : "";
		char expected[64] = "";

		for (int64_t after = 8; after-- > 0;) {
			char more[64];

			(void)snprintf(more, sizeof(more), "id: %d\n\n%s",
			    (int)after + 1, expected);
			if (after < (ended ? 7 : 6))
				(void)strcpy(expected, more);
			assert_events(pair->other, after, expected);
		}
		assert_events(pair->other, 5,
		    ended ? "id: 6\n\nid: 7\n\n" : "id: 6\n\n");
		assert_events(pair->other, 6, tail);
		assert_events(pair->other, INT64_MAX, "");
		assert_events(pair->other, -1, expected);
		assert_events(pair->other, INT64_MIN, expected);
		if (!ended)
			(void)end(pair->one, &in);
	}
	assert_no_events(pair->one, "g2");
}

void
passes_over_pieces_that_come_twice_or_too_late(void **state)
{
	static const struct store_piece odd[] = {
		{ "g1", 2, 1, "id: 0\n\n", "?" }, /* no piece at all */
		{ "g1", 0, 2, "id: 0\n\n", "?" },
		{ "g1", -5, -1, "id: 0\n\n", "?" },
		{ "g9", 1, 1, "id: 0\n\n", "?" },
	};
	struct store_pair *pair = *state;
	struct store_finish in = ending("g1", "Hello");
	struct store_generation generation;

	start(pair->one);
	add_pieces(pair->one, odd, sizeof(odd) / sizeof(odd[0]));
	add_pieces(pair->one, pieces, 1);
	add_pieces(pair->one, pieces, 2);
	add_pieces(pair->other, pieces, 2);
	add_pieces(pair->other, NULL, 0);
	generation = get_generation(pair->other, "g1");
	assert_string_equal(generation.content, "Hello");
	assert_int_equal(generation.last, 3);
	assert_true(generation.has_events);
	store_generation_done(&generation);
	(void)end(pair->one, &in);
	add_pieces(pair->one, pieces, 3);
	assert_events(pair->one, 0, "id: 1\n\nid: 2\n\nid: 3\n\n");
}

void
replays_nothing_after_a_gap(void **state)
{
	struct store_pair *pair = *state;
	struct store_generation generation;

	start(pair->one);
	add_pieces(pair->one, &pieces[0], 1);
	add_pieces(pair->one, &pieces[2], 1);
	generation = get_generation(pair->other, "g1");
	assert_false(generation.has_events);
	assert_string_equal(generation.content, "Hel you");
	store_generation_done(&generation);
	assert_no_events(pair->one, "g1");
}

void
tells_what_runs_and_how_far_it_came(void **state)
{
	struct store_pair *pair = *state;
	struct store_generations list;
	struct beginning one;
	struct store_finish in = ending("g1", "Hello");
	struct diag diag = { "" };

	start(pair->one);
	say(pair->one, NULL, 2, "one", "two");
	beginning_init(&one, "c2", 3);
	one.in.content = NULL;
	assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
	add_pieces(pair->one, pieces, 2);
	assert_ok(OPS(pair->other, list_running, &list, &diag), &diag);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[0].id, "g1");
	assert_string_equal(list.items[0].owner, "u:ann");
	assert_null(list.items[0].user);
	assert_string_equal(list.items[0].chat, "c1");
	assert_string_equal(list.items[0].question, "q1");
	assert_string_equal(list.items[0].answer, "a1");
	assert_string_equal(list.items[0].model, "gpt-test");
	assert_int_equal(list.items[0].state, STORE_RUNNING);
	assert_int_equal(list.items[0].begun_ms, NOW_MS + 1);
	assert_int_equal(list.items[0].last, 3);
	assert_string_equal(list.items[0].content, "Hello");
	assert_true(list.items[0].has_events);
	assert_int_equal(list.items[0].events_until, 0);
	assert_string_equal(list.items[1].id, "g3");
	assert_null(list.items[1].question);
	assert_string_equal(list.items[1].content, "");
	store_generations_done(&list);
	(void)end(pair->one, &in);
	assert_int_equal(count_running(pair->other), 1);
}

void
ends_an_answer_once(void **state)
{
	struct store_pair *pair = *state;
	struct store_finish in = ending("g1", "Hello");
	struct store_generation generation;
	struct store_messages messages;
	struct store_finished finished;

	start(pair->one);
	in.state = STORE_STOPPED;
	in.input_tokens = 10;
	in.output_tokens = 20;
	assert_true(end(pair->one, &in).was_running);
	in.state = STORE_INTERRUPTED;
	in.content = "something else";
	in.input_tokens = 1000;
	in.now_ms += 1000;
	assert_false(end(pair->other, &in).was_running);
	messages = list_messages(pair->other, "c1", 0, 1, false);
	assert_string_equal(messages.items[0].content, "Hello");
	assert_int_equal(messages.items[0].state, STORE_STOPPED);
	assert_int_equal(messages.items[0].input_tokens, 10);
	assert_int_equal(messages.items[0].output_tokens, 20);
	store_messages_done(&messages);
	generation = get_generation(pair->other, "g1");
	assert_string_equal(generation.content, "Hello");
	assert_int_equal(generation.state, STORE_STOPPED);
	assert_int_equal(generation.events_until, NOW + 1 + REPLAY_S);
	assert_int_equal(generation.version, 1);
	assert_int_equal(generation.versions, 1);
	assert_int_equal(generation.input_tokens, 10);
	assert_int_equal(generation.output_tokens, 20);
	store_generation_done(&generation);
	in.generation = "g9";
	assert_int_equal(OPS(pair->one, finish, &in, &finished, NULL),
	    ERR_NOTFOUND);
}

void
forgets_events_and_keys_but_nothing_that_runs(void **state)
{
	enum {
		COUNT = 70
	}; /* more than are forgotten at a time */
	struct store_pair *pair = *state;
	struct store_generation generation;
	struct diag diag = { "" };

	for (int i = 2; i < 2 + COUNT; i++) {
		struct beginning one;
		struct store_piece piece = pieces[0];
		struct store_finish in;

		beginning_init(&one, NULL, i);
		one.in.max_chats = COUNT + 1;
		assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
		piece.generation = one.generation;
		add_pieces(pair->one, &piece, 1);
		in = ending(one.generation, "Hello");
		in.replay_s += i == 2; /* one that is kept longer */
		(void)end(pair->one, &in);
	}
	start(pair->one);
	add_pieces(pair->one, pieces, 1);
	assert_ok(OPS(pair->one, expire, NOW + REPLAY_S, &diag), &diag);
	generation = get_generation(pair->one, "g50");
	assert_true(generation.has_events);
	store_generation_done(&generation);
	assert_ok(OPS(pair->one, expire, NOW + 1 + REPLAY_S, &diag), &diag);
	for (int i = 3; i < 2 + COUNT; i++) {
		char id[16];

		(void)snprintf(id, sizeof(id), "g%d", i);
		assert_no_events(pair->other, id);
		generation = get_generation(pair->other, id);
		assert_false(generation.has_events);
		assert_string_equal(generation.content, "Hello");
		store_generation_done(&generation);
	}
	generation = get_generation(pair->other, "g2");
	assert_true(generation.has_events);
	store_generation_done(&generation);
	assert_events(pair->other, 0, pieces[0].events);
}

/* ---- threads ----------------------------------------------------------- */

/* Busy is no answer to a race: whoever is told so asks again. */
static enum err
begin_patiently(struct store *store, const struct store_begin *in)
{
	enum err err;

	do
		err = try_begin(store, in);
	while (err == ERR_UNAVAIL);
	return err;
}

static void *
begin_in_one_chat(void *arg)
{
	struct racer *racer = arg;
	struct beginning one;

	beginning_init(&one, "c1", 10 + racer->number);
	racer->err = begin_patiently(racer->store, &one.in);
	return NULL;
}

void
lets_one_of_many_threads_begin_in_a_chat(void **state)
{
	struct store_pair *pair = *state;
	struct racer racers[THREADS];
	int winners = 0;

	say(pair->one, NULL, 1, "one", "two");
	race(pair, racers, THREADS, begin_in_one_chat);
	for (int i = 0; i < THREADS; i++) {
		winners += racers[i].err == ERR_OK;
		assert_true(
		    racers[i].err == ERR_OK || racers[i].err == ERR_CONFLICT);
	}
	assert_int_equal(winners, 1);
	assert_int_equal(count_running(pair->one), 1);
}

static void *
begin_with_one_key(void *arg)
{
	struct racer *racer = arg;
	struct beginning one;

	beginning_init(&one, NULL, 10 + racer->number);
	one.in.key = "key";
	one.in.digest = "digest";
	racer->err = begin_patiently(racer->store, &one.in);
	return NULL;
}

void
begins_once_for_many_threads_with_one_key(void **state)
{
	struct store_pair *pair = *state;
	struct racer racers[THREADS];

	race(pair, racers, THREADS, begin_with_one_key);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(racers[i].err, ERR_OK);
	assert_int_equal(count_chats(pair->one, "u:ann"), 1);
	assert_int_equal(count_running(pair->one), 1);
}
