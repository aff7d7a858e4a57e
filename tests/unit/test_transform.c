/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/xalloc.h"
#include "tunnel/client_side.h"
#include "tunnel/flow.h"
#include "tunnel/transform.h"

#define B(s)	s, sizeof(s) - 1
#define INSPECT (96 * 1024)
#define APPEND	"{\"type\":\"input_audio_buffer.append\",\"audio\":\""
#define PIN                                                        \
	"{\"session\":{\"instructions\":\"Be kind.\"},\"allow\":[" \
	"\"output_modalities\"]}"
#define UPDATE(x) "{\"type\":\"session.update\",\"session\":{" x "}}"

/* What one peer has got: whole messages and the one under way. */
struct peer {
	char *messages[64];
	size_t lens[64];
	enum ws_opcode opcodes[64];
	size_t count, read;
	char *text;
	size_t len;
	bool open;
	size_t frames;
};

struct fixture {
	struct wire_messages messages;
	struct transform *transform;
	struct peer client, upstream;
	json_t *usage; /* an array */
	size_t logged;
	struct message_log_entry entry; /* the last one */
	char type[64], text[512];
	int64_t asks[64]; /* in their order; 0: one is over */
	size_t ask_count, ask_read;
};

static void
on_frame(void *arg, enum cause_side to, enum ws_opcode opcode, bool fin,
    uint8_t *data, size_t len)
{
	struct fixture *fix = arg;
	struct peer *peer = to == SIDE_CLIENT ? &fix->client : &fix->upstream;

	assert_true(peer->count < 64);
	assert_int_equal(opcode == WS_CONTINUATION, peer->open);
	if (!peer->open)
		peer->opcodes[peer->count] = opcode;
	peer->text = xreallocarray(peer->text, peer->len + len + 1, 1);
	if (len > 0)
		memcpy(peer->text + peer->len, data, len);
	peer->len += len;
	peer->text[peer->len] = '\0';
	peer->open = !fin;
	peer->frames++;
	if (fin) {
		peer->messages[peer->count] = peer->text;
		peer->lens[peer->count++] = peer->len;
		peer->text = NULL;
		peer->len = 0;
	}
	if (len > 0) /* all of it is the callee's to write to */
		memset(data - WS_HEADER_MAX_BYTES, '#',
		    WS_HEADER_MAX_BYTES + len);
}

static void
on_usage(void *arg, json_t *event)
{
	struct fixture *fix = arg;

	json_array_append_new(fix->usage, event);
}

static void
on_message(void *arg, struct message_log_entry *entry, const void *text,
    size_t len)
{
	struct fixture *fix = arg;

	fix->logged++;
	fix->entry = *entry;
	(void)snprintf(fix->type, sizeof(fix->type), "%s",
	    entry->type != NULL ? entry->type : "-");
	(void)snprintf(fix->text, sizeof(fix->text), "%.*s",
	    text != NULL ? (int)len : 1,
	    text != NULL ? (const char *)text : "-");
}

static void
on_ask(void *arg, int64_t n, bool begun)
{
	struct fixture *fix = arg;

	assert_true(fix->ask_count < 64);
	fix->asks[fix->ask_count++] = begun ? -n : n;
}

static int
set_up(void **state)
{
	struct fixture *fix = calloc(1, sizeof(*fix));

	assert_non_null(fix);
	fix->usage = json_array();
	fix->messages.inspect_bytes = INSPECT;
	*state = fix;
	return 0;
}

static void
drop_peer(struct peer *peer)
{
	for (size_t i = 0; i < peer->count; i++)
		free(peer->messages[i]);
	free(peer->text);
	memset(peer, 0, sizeof(*peer));
}

static void
drop(struct fixture *fix)
{
	transform_free(fix->transform);
	fix->transform = NULL;
	drop_peer(&fix->client);
	drop_peer(&fix->upstream);
	json_decref(fix->messages.pin);
	json_decref(fix->messages.session);
	fix->messages.pin = fix->messages.session = NULL;
}

static int
tear_down(void **state)
{
	struct fixture *fix = *state;

	drop(fix);
	json_decref(fix->usage);
	free(fix);
	return 0;
}

static struct sink
sink_of(struct fixture *fix)
{
	return (struct sink){ .frame = on_frame,
		.usage = on_usage,
		.message = on_message,
		.ask = on_ask,
		.arg = fix };
}

static void
start(struct fixture *fix, const char *form, const char *pin,
    const char *session)
{
	struct sink sink = sink_of(fix);
	struct diag diag;

	drop(fix);
	fix->messages.form = (char *)(uintptr_t)form;
	if (pin != NULL)
		fix->messages.pin = json_loads(pin, 0, NULL);
	if (session != NULL)
		fix->messages.session = json_loads(session, 0, NULL);
	assert_int_equal(transform_new(&fix->messages, 0, &fix->transform,
			     &diag),
	    ERR_OK);
	assert_non_null(fix->transform);
	transform_start(fix->transform, &sink);
}

static const char *
piece(struct fixture *fix, enum cause_side from, const char *data, size_t len,
    bool last)
{
	struct sink sink = sink_of(fix);
	uint8_t *copy = malloc(WS_HEADER_MAX_BYTES + len + 1);
	const char *why;

	assert_non_null(copy);
	if (len > 0)
		memcpy(copy + WS_HEADER_MAX_BYTES, data, len);
	why = transform_feed(fix->transform, from,
	    len > 0 ? copy + WS_HEADER_MAX_BYTES : NULL, len, last, &sink);
	free(copy);
	return why;
}

/* A text message, in pieces of step bytes, an empty one at the end. */
static const char *
say_cut(struct fixture *fix, enum cause_side from, const char *text,
    size_t step)
{
	size_t len = strlen(text);
	const char *why = NULL;

	transform_begin(fix->transform, from, WS_TEXT);
	for (size_t i = 0; i < len && why == NULL; i += step)
		why = piece(fix, from, text + i,
		    len - i < step ? len - i : step, false);
	return why == NULL ? piece(fix, from, NULL, 0, true) : why;
}

static void
say(struct fixture *fix, enum cause_side from, const char *text)
{
	transform_begin(fix->transform, from, WS_TEXT);
	assert_null(piece(fix, from, text, strlen(text), true));
}

static const char *
next(struct peer *peer)
{
	assert_true(peer->read < peer->count);
	return peer->messages[peer->read++];
}

static void
expect_json(struct peer *peer, const char *expected)
{
	json_t *got = json_loads(next(peer), 0, NULL);
	json_t *want = json_loads(expected, 0, NULL);

	assert_non_null(got);
	assert_non_null(want);
	assert_true(json_equal(got, want));
	json_decref(got);
	json_decref(want);
}

static void
expect_nothing(struct peer *peer)
{
	assert_int_equal(peer->read, peer->count);
	assert_false(peer->open);
}

/* An answer in OpenAI's shape, with this code and about this event. */
static void
expect_refusal(struct fixture *fix, const char *code, const char *about)
{
	json_t *event = json_loads(next(&fix->client), 0, NULL), *error, *id;

	assert_non_null(event);
	assert_string_equal(json_string_value(json_object_get(event, "type")),
	    "error");
	id = json_object_get(event, "event_id");
	assert_memory_equal(json_string_value(id), "event_", 6);
	error = json_object_get(event, "error");
	assert_string_equal(json_string_value(json_object_get(error, "type")),
	    "invalid_request_error");
	assert_string_equal(json_string_value(json_object_get(error, "code")),
	    code);
	assert_true(json_is_string(json_object_get(error, "message")));
	id = json_object_get(error, "event_id");
	if (about == NULL)
		assert_true(json_is_null(id));
	else
		assert_string_equal(json_string_value(id), about);
	json_decref(event);
	expect_nothing(&fix->client);
}

/* ---- what is looked at -------------------------------------------------- */

static void
a_route_with_nothing_to_read_has_no_transform(void **state)
{
	struct fixture *fix = *state;
	struct diag diag;

	assert_int_equal(transform_new(&fix->messages, 0, &fix->transform,
			     &diag),
	    ERR_OK);
	assert_null(fix->transform);
	assert_int_equal(transform_mode(NULL, SIDE_CLIENT), TRANSFORM_PASS);
	assert_int_equal(transform_mode(NULL, SIDE_UPSTREAM), TRANSFORM_PASS);
	assert_int_equal(transform_state(NULL), TRANSFORM_OPEN);
	assert_int_equal(transform_extra_bytes(NULL, SIDE_CLIENT), 0);
}

static void
only_what_has_to_be_replaced_is(void **state)
{
	struct fixture *fix = *state;

	fix->messages.usage = true;
	start(fix, NULL, NULL, NULL);
	assert_int_equal(transform_mode(fix->transform, SIDE_CLIENT),
	    TRANSFORM_PASS);
	assert_int_equal(transform_mode(fix->transform, SIDE_UPSTREAM),
	    TRANSFORM_READ);
	start(fix, NULL, PIN, NULL);
	assert_int_equal(transform_mode(fix->transform, SIDE_CLIENT),
	    TRANSFORM_REPLACE);
	assert_int_equal(transform_mode(fix->transform, SIDE_UPSTREAM),
	    TRANSFORM_READ);
	start(fix, "text", NULL, NULL);
	assert_int_equal(transform_mode(fix->transform, SIDE_CLIENT),
	    TRANSFORM_REPLACE);
	start(fix, "beta", NULL, NULL);
	assert_int_equal(transform_mode(fix->transform, SIDE_UPSTREAM),
	    TRANSFORM_REPLACE);
}

static void
rules_that_are_none_are_refused(void **state)
{
	struct fixture *fix = *state;
	struct diag diag;

	fix->messages.pin = json_pack("{s:i}", "allow", 7);
	assert_int_equal(transform_new(&fix->messages, 0, &fix->transform,
			     &diag),
	    ERR_PROTO);
}

/* ---- the pin ------------------------------------------------------------ */

static void
what_is_allowed_passes_and_the_rest_is_answered(void **state)
{
	static const char allowed[] =
	    UPDATE("\"output_modalities\":[\"text\"],\"type\":\"realtime\"");
	struct fixture *fix = *state;

	start(fix, NULL, PIN, NULL);
	say(fix, SIDE_CLIENT, allowed);
	expect_json(&fix->upstream, allowed);
	expect_nothing(&fix->client);
	say(fix, SIDE_CLIENT,
	    "{\"event_id\":\"mine\",\"type\":\"session.update\","
	    "\"session\":{\"instructions\":\"Be rude.\"}}");
	expect_refusal(fix, "pinned", "mine");
	expect_nothing(&fix->upstream);
	say(fix, SIDE_CLIENT, APPEND "AAAA\"}");
	assert_string_equal(next(&fix->upstream), APPEND "AAAA\"}");
	expect_nothing(&fix->upstream);
}

static void
a_forbidden_update_is_seen_through_however_it_is_written(void **state)
{
	static const char *const events[] = {
		UPDATE("\"instructions\":\"Be rude.\""),
		"{\"\\u0074ype\":\"session.update\",\"session\":{"
		"\"instructions\":\"Be rude.\"}}",
		"{\"type\":\"sessi\\u006fn.update\",\"session\":{"
		"\"\\u0069nstructions\":\"Be rude.\"}}",
		"{\"session\":{\"instructions\":\"Be rude.\"},"
		"\"type\":\"session.update\"}",
		"{\"type\":\"input_audio_buffer.clear\",\"type\":"
		"\"session.update\",\"session\":{\"instructions\":\"x\"}}",
		"{\"type\":\"session.update\",\"session\":{},\"session\":{"
		"\"instructions\":\"Be rude.\"}}",
		"[" UPDATE("\"instructions\":\"Be rude.\"") "]",
		UPDATE("") UPDATE("\"instructions\":\"Be rude.\""),
		" \xef\xbb\xbf" UPDATE("\"instructions\":\"Be rude.\""),
		"{\"type\":\"session.updat\",\"session\":{}}",
		"{\"type\":[\"session.update\"]}",
		"{\"Type\":\"session.update\"}",
		"{}",
		"",
		"rubbish",
	};
	struct fixture *fix = *state;

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		for (size_t step = 1; step < 80; step = 2 * step + 1) {
			start(fix, NULL, PIN, NULL);
			assert_null(say_cut(fix, SIDE_CLIENT, events[i], step));
			expect_nothing(&fix->upstream);
			assert_int_equal(fix->client.count, 1);
			/* the session is as open as before */
			say(fix, SIDE_CLIENT, APPEND "\"}");
			assert_string_equal(next(&fix->upstream), APPEND "\"}");
		}
}

static void
nothing_passes_before_its_type_is_known(void **state)
{
	struct fixture *fix = *state;
	static char large[INSPECT];

	start(fix, NULL, PIN, NULL);
	memset(large, ' ', sizeof(large));
	large[0] = '{';
	transform_begin(fix->transform, SIDE_CLIENT, WS_TEXT);
	assert_null(piece(fix, SIDE_CLIENT, large, sizeof(large), false));
	assert_int_equal(fix->upstream.frames, 0);
	assert_null(piece(fix, SIDE_CLIENT, " ", 1, false));
	assert_null(piece(fix, SIDE_CLIENT, "\"type\":", 7, false));
	assert_null(
	    piece(fix, SIDE_CLIENT, B("\"input_audio_buffer.append\"}"), true));
	assert_int_equal(fix->upstream.frames, 0);
	expect_refusal(fix, "message_too_large", NULL);
}

static void
binary_messages_do_not_pass_a_pin(void **state)
{
	struct fixture *fix = *state;

	start(fix, NULL, PIN, NULL);
	transform_begin(fix->transform, SIDE_CLIENT, WS_BINARY);
	assert_null(
	    piece(fix, SIDE_CLIENT, APPEND "\"}", strlen(APPEND "\"}"), true));
	expect_nothing(&fix->upstream);
	expect_refusal(fix, "invalid_event", NULL);
}

static void
what_is_too_large_to_be_checked_is_refused_and_dropped(void **state)
{
	struct fixture *fix = *state;
	static char x[INSPECT];

	start(fix, NULL, PIN, NULL);
	memset(x, 'x', sizeof(x));
	transform_begin(fix->transform, SIDE_CLIENT, WS_TEXT);
	assert_null(piece(fix, SIDE_CLIENT,
	    B("{\"type\":\"session.update\",\""), false));
	for (int i = 0; i < 100; i++)
		assert_null(piece(fix, SIDE_CLIENT, x, sizeof(x), false));
	expect_nothing(&fix->client);
	assert_null(
	    piece(fix, SIDE_CLIENT, B("\":1,\"event_id\":\"e\"}"), true));
	expect_refusal(fix, "message_too_large", "e");
	expect_nothing(&fix->upstream);
}

/* Begin an append that is long enough to stream. */
static size_t
begin_append(struct fixture *fix, char **ret_sent)
{
	size_t len = strlen(APPEND), size = 3 * CLIENT_SIDE_HOLD_BYTES;
	char *sent = calloc(1, size + 64);
	const size_t step = 16 * 1024;

	assert_non_null(sent);
	memcpy(sent, APPEND, len);
	memset(sent + len, 'A', size - len);
	transform_begin(fix->transform, SIDE_CLIENT, WS_TEXT);
	for (size_t i = 0; i < size; i += step) {
		assert_null(piece(fix, SIDE_CLIENT, sent + i, step, false));
		/* held up to a limit, then passed on as it comes */
		assert_true((fix->upstream.len == 0) ==
		    (i + step <= CLIENT_SIDE_HOLD_BYTES));
	}
	*ret_sent = sent;
	return size;
}

static void
a_long_append_streams_unchanged(void **state)
{
	struct fixture *fix = *state;
	size_t len;
	char *sent;

	start(fix, NULL, PIN, NULL);
	len = begin_append(fix, &sent);
	assert_int_equal(fix->upstream.len, len);
	assert_null(piece(fix, SIDE_CLIENT, "\"}", 2, true));
	strcpy(sent + len, "\"}");
	assert_string_equal(next(&fix->upstream), sent);
	expect_nothing(&fix->upstream);
	expect_nothing(&fix->client);
	free(sent);
}

static void
a_late_fault_of_an_append_ends_it_before_its_last_frame(void **state)
{
	static const char *const ends[] = {
		"\",\"type\":\"session.update\"}",
		"\",\"\\u0074ype\":\"session.update\"}",
		"\"}{\"type\":\"session.update\"}",
		"\"",
		"\"}]",
		"\",}",
		"\nA\"}",
	};
	struct fixture *fix = *state;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		char *sent;
		size_t len;

		start(fix, NULL, PIN, NULL);
		len = begin_append(fix, &sent);
		assert_non_null(
		    piece(fix, SIDE_CLIENT, ends[i], strlen(ends[i]), true));
		assert_int_equal(fix->upstream.count, 0);
		assert_int_equal(fix->upstream.len, len);
		free(sent);
	}
}

/* ---- a session of the site's -------------------------------------------- */

#define SESSION "{\"type\":\"realtime\",\"instructions\":\"Be kind.\"}"

static void
the_session_goes_first_and_is_waited_for(void **state)
{
	struct fixture *fix = *state;

	start(fix, NULL, PIN, SESSION);
	expect_json(&fix->upstream,
	    "{\"type\":\"session.update\",\"event_id\":\"culvert_session\","
	    "\"session\":" SESSION "}");
	assert_int_equal(transform_state(fix->transform), TRANSFORM_WAITING);
	say(fix, SIDE_UPSTREAM, "{\"type\":\"session.created\"}");
	say(fix, SIDE_UPSTREAM,
	    "{\"type\":\"error\",\"error\":{\"event_id\":\"other\"}}");
	say(fix, SIDE_UPSTREAM, "{\"type\":\"error\",\"error\":{}}");
	assert_int_equal(transform_state(fix->transform), TRANSFORM_WAITING);
	say(fix, SIDE_UPSTREAM, "{\"type\":\"session.updated\"}");
	assert_int_equal(transform_state(fix->transform), TRANSFORM_OPEN);
	say(fix, SIDE_UPSTREAM,
	    "{\"type\":\"error\",\"error\":{\"event_id\":\"culvert_session\"}"
	    "}");
	assert_int_equal(transform_state(fix->transform), TRANSFORM_OPEN);
	expect_nothing(&fix->client); /* it has got the frames themselves */
}

static void
a_vendor_that_refuses_the_session_is_heard(void **state)
{
	struct fixture *fix = *state;

	start(fix, NULL, NULL, SESSION);
	say(fix, SIDE_UPSTREAM,
	    "{\"type\":\"error\",\"error\":{\"param\":\"session.tools\","
	    "\"event_id\":\"culvert_session\"}}");
	assert_int_equal(transform_state(fix->transform), TRANSFORM_REFUSED);
	assert_string_equal(transform_refused_param(fix->transform),
	    "session.tools");
}

/* ---- usage -------------------------------------------------------------- */

static void
usage_is_numbered(void **state)
{
	struct fixture *fix = *state;

	fix->messages.usage = true;
	start(fix, NULL, NULL, NULL);
	for (int i = 1; i <= 2; i++) {
		json_t *event;

		say(fix, SIDE_UPSTREAM, "{\"type\":\"response.created\"}");
		assert_null(say_cut(fix, SIDE_UPSTREAM,
		    "{\"type\":\"response.done\",\"response\":{\"id\":\"r\","
		    "\"usage\":{\"total_tokens\":7}}}",
		    9));
		assert_int_equal(json_array_size(fix->usage), i);
		event = json_array_get(fix->usage, (size_t)i - 1);
		assert_int_equal(json_integer_value(
				     json_object_get(event, "n")),
		    i);
	}
	expect_nothing(&fix->client);
}

/* ---- text --------------------------------------------------------------- */

static void
plain_text_becomes_turns(void **state)
{
	struct fixture *fix = *state;

	start(fix, "text", NULL, SESSION);
	(void)next(&fix->upstream);
	say(fix, SIDE_UPSTREAM, "{\"type\":\"session.updated\"}");
	assert_null(
	    say_cut(fix, SIDE_CLIENT, "{\"type\":\"session.update\"}", 3));
	say(fix, SIDE_CLIENT, "two");
	expect_json(&fix->upstream,
	    "{\"type\":\"conversation.item.create\",\"event_id\":"
	    "\"culvert_item_1\",\"item\":{\"type\":\"message\",\"role\":"
	    "\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
	    "\"{\\\"type\\\":\\\"session.update\\\"}\"}]}}");
	expect_json(&fix->upstream,
	    "{\"type\":\"response.create\",\"event_id\":"
	    "\"culvert_response_1\"}");
	expect_nothing(&fix->upstream);
	say(fix, SIDE_UPSTREAM, "{\"type\":\"response.done\"}");
	assert_int_equal(fix->upstream.count, fix->upstream.read + 2);
}

static void
what_is_no_text_is_answered(void **state)
{
	struct fixture *fix = *state;
	static char large[INSPECT + 1];

	start(fix, "text", NULL, NULL);
	transform_begin(fix->transform, SIDE_CLIENT, WS_BINARY);
	assert_ptr_equal(piece(fix, SIDE_CLIENT, "hello", 5, true),
	    FLOW_NO_TEXT);
	transform_begin(fix->transform, SIDE_CLIENT, WS_TEXT);
	assert_ptr_equal(piece(fix, SIDE_CLIENT, "\xff\xfe", 2, true),
	    FLOW_NO_UTF8);
	transform_begin(fix->transform, SIDE_CLIENT, WS_TEXT);
	assert_null(piece(fix, SIDE_CLIENT, NULL, 0, true));
	expect_refusal(fix, "empty_message", NULL);
	transform_begin(fix->transform, SIDE_CLIENT, WS_TEXT);
	memset(large, 'x', sizeof(large));
	assert_null(piece(fix, SIDE_CLIENT, large, sizeof(large), true));
	expect_refusal(fix, "message_too_large", NULL);
	expect_nothing(&fix->upstream);
	for (int i = 0; i < 17; i++)
		say(fix, SIDE_CLIENT, "x");
	expect_nothing(&fix->client);
	say(fix, SIDE_CLIENT, "x");
	expect_refusal(fix, "queue_full", NULL);
}

/* ---- the beta's dialect ------------------------------------------------- */

static void
a_beta_client_is_translated_both_ways(void **state)
{
	struct fixture *fix = *state;
	json_t *event;

	start(fix, "beta", NULL, NULL);
	say(fix, SIDE_CLIENT, UPDATE("\"modalities\":[\"text\"]"));
	event = json_loads(next(&fix->upstream), 0, NULL);
	assert_non_null(json_object_get(json_object_get(event, "session"),
	    "output_modalities"));
	json_decref(event);
	assert_null(say_cut(fix, SIDE_UPSTREAM,
	    "{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}", 5));
	expect_json(&fix->client,
	    "{\"type\":\"response.text.delta\",\"delta\":\"x\"}");
	say(fix, SIDE_CLIENT, APPEND "AAAA\"}");
	assert_string_equal(next(&fix->upstream), APPEND "AAAA\"}");
	expect_nothing(&fix->client);
}

static void
what_is_no_event_passes_untranslated(void **state)
{
	struct fixture *fix = *state;

	start(fix, "beta", NULL, NULL);
	say(fix, SIDE_CLIENT, "rubbish");
	assert_string_equal(next(&fix->upstream), "rubbish");
	say(fix, SIDE_UPSTREAM, "[1]");
	assert_string_equal(next(&fix->client), "[1]");
	transform_begin(fix->transform, SIDE_UPSTREAM, WS_BINARY);
	assert_null(piece(fix, SIDE_UPSTREAM, "{}", 2, true));
	assert_string_equal(next(&fix->client), "{}");
	assert_int_equal(fix->client.opcodes[1], WS_BINARY);
	transform_begin(fix->transform, SIDE_CLIENT, WS_TEXT);
	assert_null(piece(fix, SIDE_CLIENT, NULL, 0, true));
	assert_string_equal(next(&fix->upstream), "");
}

static void
a_beta_client_is_pinned_after_translation(void **state)
{
	struct fixture *fix = *state;

	start(fix, "beta", PIN, NULL);
	say(fix, SIDE_CLIENT, UPDATE("\"modalities\":[\"text\"]"));
	(void)next(&fix->upstream);
	say(fix, SIDE_CLIENT, UPDATE("\"instructions\":\"Be rude.\""));
	expect_refusal(fix, "pinned", NULL);
	expect_nothing(&fix->upstream);
}

/* A pin of the voice alone has no need to look at items. */
static void
a_pinned_beta_client_has_its_items_translated(void **state)
{
	static const char pin[] = "{\"session\":{\"audio\":{\"output\":"
				  "{\"voice\":\"marin\"}}},\"allow\":[]}";
	struct fixture *fix = *state;

	start(fix, "beta", pin, NULL);
	say(fix, SIDE_CLIENT,
	    "{\"type\":\"conversation.item.create\",\"item\":{\"role\":"
	    "\"assistant\",\"content\":[{\"type\":\"text\"}]}}");
	assert_non_null(
	    strstr(next(&fix->upstream), "[{\"type\":\"output_text\"}]"));
	expect_nothing(&fix->client);
}

/* ---- the message log ---------------------------------------------------- */

static void
expect_logged(struct fixture *fix, bool from_client, const char *type,
    const char *text, uint64_t bytes)
{
	assert_int_equal(fix->logged, 1);
	fix->logged = 0;
	assert_int_equal(fix->entry.from_client, from_client);
	assert_int_equal(fix->entry.bytes, bytes);
	assert_string_equal(fix->type, type);
	assert_string_equal(fix->text, text);
}

static void
a_log_tells_of_each_message_as_it_came(void **state)
{
	static const char update[] = UPDATE("\"instructions\":\"x\"");
	static const char delta[] =
	    "{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}";
	static char metadata[] = "metadata", full[] = "full";
	struct fixture *fix = *state;

	fix->messages.log = metadata;
	start(fix, NULL, NULL, NULL);
	assert_int_equal(transform_mode(fix->transform, SIDE_CLIENT),
	    TRANSFORM_READ);
	assert_null(say_cut(fix, SIDE_CLIENT, update, 9));
	expect_logged(fix, true, "session.update", "-", strlen(update));
	expect_nothing(&fix->upstream); /* what is read passes by itself */
	say(fix, SIDE_CLIENT, "");
	expect_logged(fix, true, "-", "-", 0);
	fix->messages.log = full;
	start(fix, "beta", PIN, NULL);
	say(fix, SIDE_CLIENT, update);
	expect_logged(fix, true, "session.update", update, strlen(update));
	assert_null(say_cut(fix, SIDE_UPSTREAM, delta, 7));
	expect_logged(fix, false, "response.output_text.delta", delta,
	    strlen(delta));
	start(fix, "text", NULL, NULL);
	say(fix, SIDE_CLIENT, "hello");
	expect_logged(fix, true, "-", "hello", 5);
}

/* ---- budgets ------------------------------------------------------------ */

#define CREATE_ "{\"type\":\"response.create\",\"event_id\":\"mine\"}"
#define PLAIN	"{\"type\":\"response.create\"}"
#define CREATED(id) \
	"{\"type\":\"response.created\",\"response\":{\"id\":\"" id "\"}}"
#define DONE(id)                                                       \
	"{\"type\":\"response.done\",\"response\":{\"id\":\"" id "\"," \
	"\"status\":\"completed\",\"usage\":{\"total_tokens\":5}}}"

static void
start_budget(struct fixture *fix, const char *budget, const char *form,
    const char *pin)
{
	fix->messages.budget = (char *)(uintptr_t)budget;
	fix->messages.usage = true;
	fix->ask_count = fix->ask_read = 0;
	json_array_clear(fix->usage);
	start(fix, form, pin, NULL);
}

static struct gate *
gate_of(struct fixture *fix)
{
	return transform_gate(fix->transform);
}

/* The next question is this one, or 0: one was over; below 0: of one that has
   begun. */
static void
expect_ask(struct fixture *fix, int64_t n)
{
	assert_true(fix->ask_read < fix->ask_count);
	assert_int_equal(fix->asks[fix->ask_read++], n);
}

static void
expect_no_ask(const struct fixture *fix)
{
	assert_int_equal(fix->ask_read, fix->ask_count);
}

/* code NULL: it is allowed.  Whether the tunnel has to end. */
static bool
answer(struct fixture *fix, int64_t n, const char *code)
{
	struct sink sink = sink_of(fix);
	struct wire_answer answered = { .n = n, .allowed = code == NULL };

	answered.code = (char *)(uintptr_t)code;
	answered.message = code == NULL ? NULL : (char[]){ "No more." };
	return gate_answer(gate_of(fix), &answered, &sink);
}

static void
expect_error(struct fixture *fix, const char *type, const char *code,
    const char *about)
{
	json_t *event = json_loads(next(&fix->client), 0, NULL), *error, *id;

	error = json_object_get(event, "error");
	assert_string_equal(json_string_value(json_object_get(error, "type")),
	    type);
	assert_string_equal(json_string_value(json_object_get(error, "code")),
	    code);
	assert_string_equal(json_string_value(
				json_object_get(error, "message")),
	    "No more.");
	id = json_object_get(error, "event_id");
	assert_true(about == NULL ? json_is_null(id)
				  : strcmp(json_string_value(id), about) == 0);
	json_decref(event);
	expect_nothing(&fix->client);
}

/* The last usage event settles this question; 0: none. */
static void
expect_settled(const struct fixture *fix, size_t count, int64_t n)
{
	const json_t *event;

	assert_int_equal(json_array_size(fix->usage), count);
	event = json_array_get(fix->usage, count - 1);
	assert_int_equal(json_integer_value(json_object_get(event, "ask")), n);
	assert_int_equal(json_object_get(event, "ask") != NULL, n > 0);
}

static void
a_response_waits_for_its_answer_and_passes_as_it_came(void **state)
{
	/* spaces and order would not survive being written anew */
	static const char create[] = "{ \"response\" : {\"b\":1,\"a\":2.50},"
				     "\t\"type\":\"response\\u002ecreate\"}";
	static const char item[] =
	    "{ \"type\" : \"conversation.item.create\" }";
	static const size_t steps[] = { 1, 7, 1000 };
	struct fixture *fix = *state;

	for (size_t i = 0; i < 3; i++) {
		start_budget(fix, "error", NULL, NULL);
		assert_int_equal(transform_mode(fix->transform, SIDE_CLIENT),
		    TRANSFORM_REPLACE);
		assert_null(say_cut(fix, SIDE_CLIENT, item, steps[i]));
		assert_string_equal(next(&fix->upstream), item);
		assert_null(say_cut(fix, SIDE_CLIENT, create, steps[i]));
		expect_nothing(&fix->upstream);
		expect_ask(fix, 1);
		assert_true(gate_is_closed(gate_of(fix)));
		assert_false(answer(fix, 1, NULL));
		assert_false(gate_is_closed(gate_of(fix)));
		assert_string_equal(next(&fix->upstream), create);
		expect_nothing(&fix->upstream);
		say(fix, SIDE_UPSTREAM, CREATED("resp_1"));
		say(fix, SIDE_UPSTREAM, DONE("resp_1"));
		expect_settled(fix, 1, 1);
		expect_no_ask(fix);
		expect_nothing(&fix->client);
	}
}

static void
a_response_that_is_refused_is_answered(void **state)
{
	struct fixture *fix = *state;

	start_budget(fix, "error", NULL, NULL);
	say(fix, SIDE_CLIENT, CREATE_);
	expect_ask(fix, 1);
	assert_false(answer(fix, 1, "budget_spent"));
	expect_error(fix, "insufficient_quota", "budget_spent", "mine");
	assert_false(answer(fix, 1, NULL));
	expect_nothing(&fix->upstream);
	say(fix, SIDE_CLIENT, PLAIN);
	expect_ask(fix, 2);
	assert_false(answer(fix, 2, "unavailable"));
	expect_error(fix, "rate_limit_error", "unavailable", NULL);
	expect_nothing(&fix->upstream);
}

/* Only a budget that is spent ends a tunnel. */
static void
a_spent_budget_ends_a_tunnel_where_it_shall(void **state)
{
	struct fixture *fix = *state;

	start_budget(fix, "close", NULL, NULL);
	say(fix, SIDE_CLIENT, CREATE_);
	assert_false(answer(fix, 1, "unavailable"));
	expect_error(fix, "rate_limit_error", "unavailable", "mine");
	say(fix, SIDE_CLIENT, CREATE_);
	assert_true(answer(fix, 2, "budget_spent"));
	gate_end(gate_of(fix));
	assert_false(gate_is_closed(gate_of(fix)));
	say(fix, SIDE_CLIENT, CREATE_);
	assert_false(gate_is_closed(gate_of(fix)));
	expect_nothing(&fix->upstream);
	expect_nothing(&fix->client);
}

/* Nothing that another reader could take for a response.create. */
static void
no_response_slips_through(void **state)
{
	static const struct {
		const char *text, *code;
	} cases[] = {
		{ "{\"type\":\"session.update\",\"type\":\"response.create\"}",
		    "invalid_event" },
		{ "{\"type\":\"response.create\",\"type\":\"session.update\"}",
		    "invalid_event" },
		{ PLAIN PLAIN, "invalid_event" },
		{ "{\"type\":\"session.update\"}" PLAIN, "invalid_event" },
		{ "[" PLAIN "]", "invalid_event" },
		{ "\xef\xbb\xbf" PLAIN, "invalid_event" },
		{ "{\"type\":[\"response.create\"]}", "invalid_event" },
		{ "{}", "invalid_event" },
		{ "", "invalid_event" },
	};
	static const char *const forms[] = { NULL, "beta" };

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *fix = *state;

		start_budget(fix, "error", forms[i % 2], NULL);
		assert_null(say_cut(fix, SIDE_CLIENT, cases[i / 2].text, 11));
		expect_refusal(fix, cases[i / 2].code, NULL);
		expect_nothing(&fix->upstream);
		expect_no_ask(fix);
	}
}

/* What json_peek takes and json_parse() does not. */
static void
no_response_slips_through_the_translation(void **state)
{
	static const char deep[] =
	    "{\"type\":\"response.create\",\"a\":[[[[[[[[[[[[[[[[[[[["
	    "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}";
	static const char twice[] =
	    "{\"type\":\"response.create\",\"a\":1,\"a\":2}";
	struct fixture *fix = *state;

	start_budget(fix, "error", "beta", NULL);
	say(fix, SIDE_CLIENT, deep);
	expect_refusal(fix, "invalid_event", NULL);
	say(fix, SIDE_CLIENT, twice);
	expect_refusal(fix, "invalid_event", NULL);
	expect_nothing(&fix->upstream);
	expect_no_ask(fix);
}

static void
binary_messages_do_not_pass_a_budget(void **state)
{
	struct fixture *fix = *state;

	start_budget(fix, "error", NULL, NULL);
	transform_begin(fix->transform, SIDE_CLIENT, WS_BINARY);
	assert_null(piece(fix, SIDE_CLIENT, B(CREATE_), true));
	expect_refusal(fix, "invalid_event", NULL);
	expect_nothing(&fix->upstream);
}

static void
what_the_vendor_begins_by_itself_is_cancelled(void **state)
{
	struct fixture *fix = *state;
	json_t *event;

	start_budget(fix, "error", NULL, NULL);
	say(fix, SIDE_UPSTREAM, CREATED("resp_v"));
	expect_ask(fix, -1);
	/* nobody waits for it */
	assert_false(gate_is_closed(gate_of(fix)));
	assert_false(answer(fix, 1, NULL));
	expect_nothing(&fix->upstream);
	say(fix, SIDE_UPSTREAM, DONE("resp_v"));
	expect_settled(fix, 1, 1);
	say(fix, SIDE_UPSTREAM, CREATED("resp_w"));
	expect_ask(fix, -2);
	assert_false(answer(fix, 2, "budget_spent"));
	event = json_loads(next(&fix->upstream), 0, NULL);
	assert_string_equal(json_string_value(json_object_get(event, "type")),
	    "response.cancel");
	assert_string_equal(json_string_value(
				json_object_get(event, "response_id")),
	    "resp_w");
	json_decref(event);
	expect_error(fix, "insufficient_quota", "budget_spent", NULL);
	/* one that is over when it is refused is not spoken of any more */
	say(fix, SIDE_UPSTREAM, CREATED("resp_x"));
	expect_ask(fix, -3);
	say(fix, SIDE_UPSTREAM, DONE("resp_x"));
	expect_settled(fix, 2, 3);
	assert_false(answer(fix, 3, "unavailable"));
	expect_nothing(&fix->client);
	expect_nothing(&fix->upstream);
	/* what it cost is told all the same */
	say(fix, SIDE_UPSTREAM, DONE("resp_w"));
	expect_settled(fix, 3, 0);
}

static void
a_create_that_the_vendor_refuses_is_over(void **state)
{
	struct fixture *fix = *state;

	start_budget(fix, "error", NULL, NULL);
	say(fix, SIDE_CLIENT, CREATE_);
	expect_ask(fix, 1);
	assert_false(answer(fix, 1, NULL));
	say(fix, SIDE_UPSTREAM,
	    "{\"type\":\"error\",\"error\":{\"event_id\":\"other\"}}");
	expect_no_ask(fix);
	say(fix, SIDE_UPSTREAM,
	    "{\"type\":\"error\",\"error\":{\"event_id\":\"mine\"}}");
	expect_ask(fix, 0);
	expect_no_ask(fix);
}

static void
a_response_without_usage_is_over(void **state)
{
	struct fixture *fix = *state;

	start_budget(fix, "error", NULL, NULL);
	say(fix, SIDE_CLIENT, CREATE_);
	assert_false(answer(fix, 1, NULL));
	say(fix, SIDE_UPSTREAM, CREATED("resp_1"));
	expect_ask(fix, 1);
	expect_no_ask(fix);
	say(fix, SIDE_UPSTREAM,
	    "{\"type\":\"response.done\",\"response\":{\"id\":\"resp_1\","
	    "\"usage\":null}}");
	expect_ask(fix, 0);
	assert_int_equal(json_array_size(fix->usage), 0);
}

/* As many as there may be, and the next one when there is room. */
static void
a_question_waits_for_room(void **state)
{
	struct fixture *fix = *state;

	start_budget(fix, "error", NULL, NULL);
	for (int64_t n = 1; n <= WIRE_ASKS_MAX; n++) {
		say(fix, SIDE_CLIENT, PLAIN);
		expect_ask(fix, n);
		assert_false(answer(fix, n, NULL));
		(void)next(&fix->upstream);
	}
	say(fix, SIDE_CLIENT, CREATE_);
	expect_no_ask(fix);
	assert_true(gate_is_closed(gate_of(fix)));
	say(fix, SIDE_UPSTREAM, CREATED("resp_1"));
	expect_no_ask(fix);
	say(fix, SIDE_UPSTREAM, DONE("resp_1"));
	expect_settled(fix, 1, 1);
	expect_ask(fix, WIRE_ASKS_MAX + 1);
	assert_false(answer(fix, WIRE_ASKS_MAX + 1, NULL));
	assert_string_equal(next(&fix->upstream), CREATE_);
	assert_false(gate_is_closed(gate_of(fix)));
}

static void
a_turn_of_plain_text_is_asked_for(void **state)
{
	struct fixture *fix = *state;

	start_budget(fix, "error", "text", NULL);
	say(fix, SIDE_CLIENT, "one");
	say(fix, SIDE_CLIENT, "two");
	say(fix, SIDE_CLIENT, "three");
	expect_ask(fix, 1);
	expect_no_ask(fix);
	expect_nothing(&fix->upstream);
	assert_false(answer(fix, 1, NULL));
	assert_non_null(strstr(next(&fix->upstream), "\"one\""));
	assert_non_null(strstr(next(&fix->upstream), "response.create"));
	expect_nothing(&fix->upstream);
	say(fix, SIDE_UPSTREAM, CREATED("resp_1"));
	say(fix, SIDE_UPSTREAM, DONE("resp_1"));
	expect_settled(fix, 1, 1);
	expect_ask(fix, 2);
	/* it comes to nothing, and the next one has its turn */
	assert_false(answer(fix, 2, "budget_spent"));
	expect_error(fix, "insufficient_quota", "budget_spent", NULL);
	expect_ask(fix, 3);
	assert_false(answer(fix, 3, NULL));
	assert_non_null(strstr(next(&fix->upstream), "\"three\""));
	(void)next(&fix->upstream);
	say(fix, SIDE_UPSTREAM, "{\"type\":\"error\",\"error\":{}}");
	expect_ask(fix, 0);
	expect_no_ask(fix);
}

static void
what_a_pin_or_a_dialect_makes_of_a_response_is_asked_for(void **state)
{
	static const char create[] =
	    "{\"type\":\"response.create\",\"response\":{\"modalities\":"
	    "[\"text\"]}}";
	static const char made[] = "{\"type\":\"response.create\",\"response\":"
				   "{\"output_modalities\":[\"text\"]}}";
	struct fixture *fix = *state;

	for (int pinned = 0; pinned < 2; pinned++) {
		start_budget(fix, "error", "beta", pinned ? PIN : NULL);
		say(fix, SIDE_CLIENT, create);
		expect_ask(fix, 1);
		expect_nothing(&fix->upstream);
		assert_false(answer(fix, 1, NULL));
		expect_json(&fix->upstream, made);
	}
	start_budget(fix, "error", NULL, PIN);
	say(fix, SIDE_CLIENT,
	    "{\"type\":\"response.create\",\"response\":"
	    "{\"instructions\":\"x\"}}");
	expect_refusal(fix, "pinned", NULL);
	expect_no_ask(fix);
}

static void
those_who_speak_in_events_can_be_warned(void **state)
{
	static char metadata[] = "metadata";
	struct fixture *fix = *state;

	assert_false(transform_speaks_events(NULL));
	fix->messages.log = metadata;
	start(fix, NULL, NULL, NULL);
	assert_false(transform_speaks_events(fix->transform));
	fix->messages.usage = true;
	start(fix, NULL, NULL, NULL);
	assert_true(transform_speaks_events(fix->transform));
	start(fix, "text", NULL, NULL);
	assert_false(transform_speaks_events(fix->transform));
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(a_route_with_nothing_to_read_has_no_transform),
		T(only_what_has_to_be_replaced_is),
		T(rules_that_are_none_are_refused),
		T(what_is_allowed_passes_and_the_rest_is_answered),
		T(a_forbidden_update_is_seen_through_however_it_is_written),
		T(nothing_passes_before_its_type_is_known),
		T(binary_messages_do_not_pass_a_pin),
		T(what_is_too_large_to_be_checked_is_refused_and_dropped),
		T(a_long_append_streams_unchanged),
		T(a_late_fault_of_an_append_ends_it_before_its_last_frame),
		T(the_session_goes_first_and_is_waited_for),
		T(a_vendor_that_refuses_the_session_is_heard),
		T(usage_is_numbered),
		T(a_log_tells_of_each_message_as_it_came),
		T(plain_text_becomes_turns),
		T(what_is_no_text_is_answered),
		T(a_beta_client_is_translated_both_ways),
		T(what_is_no_event_passes_untranslated),
		T(a_beta_client_is_pinned_after_translation),
		T(a_pinned_beta_client_has_its_items_translated),
		T(a_response_waits_for_its_answer_and_passes_as_it_came),
		T(a_response_that_is_refused_is_answered),
		T(a_spent_budget_ends_a_tunnel_where_it_shall),
		T(no_response_slips_through),
		T(no_response_slips_through_the_translation),
		T(binary_messages_do_not_pass_a_budget),
		T(what_the_vendor_begins_by_itself_is_cancelled),
		T(a_create_that_the_vendor_refuses_is_over),
		T(a_response_without_usage_is_over),
		T(a_question_waits_for_room),
		T(a_turn_of_plain_text_is_asked_for),
		T(what_a_pin_or_a_dialect_makes_of_a_response_is_asked_for),
		T(those_who_speak_in_events_can_be_warned),
	};

	return cmocka_run_group_tests_name("transform", tests, NULL, NULL);
}
