/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tunnel/vendor_event.h"

static int
set_up(void **state)
{
	*state = vendor_event_new();
	return 0;
}

static int
tear_down(void **state)
{
	vendor_event_free(*state);
	return 0;
}

static void
read_cut(struct vendor_event *event, const char *text, size_t step)
{
	size_t len = strlen(text);

	vendor_event_begin(event);
	for (size_t i = 0; i < len; i += step)
		vendor_event_feed(event, text + i,
		    len - i < step ? len - i : step);
}

static void
read_all(struct vendor_event *event, const char *text)
{
	read_cut(event, text, strlen(text));
}

#define DONE                                                               \
	"{\"type\":\"response.done\",\"event_id\":\"e1\",\"response\":{"   \
	"\"object\":\"realtime.response\",\"output\":[{\"usage\":1}],"     \
	"\"status\":\"completed\",\"usage\":{\"total_tokens\":12,"         \
	"\"input_token_details\":{\"cached_tokens\":3}},\"id\":\"resp_1\"" \
	"}}"

static void
assert_usage(const struct vendor_event *event, const char *expected)
{
	json_t *got = vendor_event_usage(event);
	json_t *want = json_loads(expected, 0, NULL);

	assert_non_null(got);
	assert_non_null(want);
	assert_true(json_equal(got, want));
	json_decref(got);
	json_decref(want);
}

static void
the_usage_of_a_response_is_read_however_it_is_cut(void **state)
{
	for (size_t step = 1; step <= strlen(DONE); step++) {
		read_cut(*state, DONE, step);
		assert_string_equal(vendor_event_type(*state), "response.done");
		assert_usage(*state,
		    "{\"type\":\"response.done\",\"id\":\"resp_1\","
		    "\"status\":\"completed\",\"usage\":{\"total_tokens\":12,"
		    "\"input_token_details\":{\"cached_tokens\":3}}}");
	}
}

static void
the_usage_of_a_transcription_is_read(void **state)
{
	read_all(*state,
	    "{\"usage\":{\"type\":\"duration\",\"seconds\":3},"
	    "\"type\":\"conversation.item.input_audio_transcription.completed"
	    "\",\"item_id\":\"item_7\",\"transcript\":\"hello\"}");
	assert_usage(*state,
	    "{\"type\":\"conversation.item.input_audio_transcription.completed"
	    "\",\"id\":\"item_7\",\"usage\":{\"type\":\"duration\","
	    "\"seconds\":3}}");
}

static void
other_events_are_not_read_beyond_their_type(void **state)
{
	read_all(*state, "{\"type\":\"response.output_audio.delta\",");
	assert_string_equal(vendor_event_type(*state),
	    "response.output_audio.delta");
	assert_false(vendor_event_wants_more(*state));
	vendor_event_feed(*state, "rubbish", 7);
	assert_null(vendor_event_usage(*state));
}

static void
the_end_of_a_session_is_read_however_it_is_cut(void **state)
{
	static const char text[] =
	    "{\"type\":\"session.updated\",\"session\":{\"instructions\":"
	    "\"{\\\"expires_at\\\":1}\",\"audio\":{\"expires_at\":2},"
	    "\"expires_at\":1790000000},\"expires_at\":3}";

	for (size_t step = 1; step < sizeof(text); step++) {
		read_cut(*state, text, step);
		assert_int_equal(vendor_event_expires_at(*state), 1790000000);
	}
	read_all(*state,
	    "{\"session\":{\"expires_at\":999999999999999},"
	    "\"type\":\"session.created\"}");
	assert_int_equal(vendor_event_expires_at(*state), 999999999999999);
}

static void
there_is_no_end_of_a_session_where_there_is_none(void **state)
{
#define CREATED "{\"type\":\"session.created\",\"session\":"
	static const char *const events[] = {
		CREATED "{}}",
		CREATED "{\"expires_at\":null}}",
		CREATED "{\"expires_at\":\"1790000000\"}}",
		CREATED "{\"expires_at\":1790000000.5}}",
		CREATED "{\"expires_at\":1.79e9}}",
		CREATED "{\"expires_at\":-1790000000}}",
		CREATED "{\"expires_at\":[1790000000]}}",
		CREATED "{\"expires_at\":1000000000000000}}",
		CREATED "{\"expires_at\":1790000000,\"expires_at\":1}}",
		CREATED "{\"expires_at\":1790000000},\"session\":{}}",
		CREATED "{\"expires_at\":1790000000}",
		CREATED "{\"expires_at\":1790000000}}}",
		"{\"type\":\"session.created\",\"expires_at\":1790000000}",
		"{\"type\":\"error\",\"session\":{\"expires_at\":1790000000}}",
		("{\"type\":\"session.expired\","
		 "\"session\":{\"expires_at\":1790000000}}"),
		"{\"session\":{\"expires_at\":1790000000}}",
		"[]",
		"",
	};

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		read_all(*state, events[i]);
		assert_int_equal(vendor_event_expires_at(*state), 0);
	}
}

static void
there_is_no_usage_where_there_is_none(void **state)
{
	static const char *const events[] = {
		"{\"type\":\"response.done\",\"response\":{\"usage\":null}}",
		"{\"type\":\"response.done\",\"response\":{\"usage\":7}}",
		"{\"type\":\"response.done\",\"response\":{}}",
		"{\"type\":\"response.done\",\"usage\":{\"a\":1}}",
		"{\"type\":\"response.created\",\"response\":{\"usage\":{}}}",
		("{\"type\":\"response.done\",\"response\":{\"usage\":{},"
		 "\"usage\":{}}}"),
		"{\"type\":\"error\",\"usage\":{}}",
		"{\"response\":{\"usage\":{}}}",
		"[\"response.done\"]",
		"",
		"rubbish",
	};

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		read_all(*state, DONE);
		read_cut(*state, events[i], 1);
		assert_null(vendor_event_usage(*state));
	}
}

static void
an_error_says_what_it_is_about(void **state)
{
	char id[VENDOR_EVENT_ID_BYTES], param[VENDOR_EVENT_ID_BYTES];

	read_all(*state,
	    "{\"type\":\"error\",\"event_id\":\"x\",\"error\":{\"event_id\":"
	    "\"mine\\u0021\",\"param\":\"session.voice\"}}");
	vendor_event_error(*state, id, param);
	assert_string_equal(id, "mine!");
	assert_string_equal(param, "session.voice");
	read_all(*state,
	    "{\"type\":\"error\",\"error\":{\"event_id\":null,\"param\":7}}");
	vendor_event_error(*state, id, param);
	assert_string_equal(id, "");
	assert_string_equal(param, "");
}

static void
a_response_has_a_name_from_its_beginning(void **state)
{
	char id[VENDOR_EVENT_ID_BYTES];
	json_t *usage;

	for (size_t step = 1; step < 30; step += 7) {
		read_cut(*state,
		    "{\"response\":{\"usage\":null,\"id\":\"resp_1\"},"
		    "\"type\":\"response.created\"}",
		    step);
		vendor_event_response_id(*state, id);
		assert_string_equal(id, "resp_1");
		usage = vendor_event_usage(*state);
		assert_null(usage);
	}
	read_all(*state, DONE);
	vendor_event_response_id(*state, id);
	assert_string_equal(id, "resp_1");
	read_all(*state, "{\"type\":\"response.created\",\"response\":{}}");
	vendor_event_response_id(*state, id);
	assert_string_equal(id, "");
}

static void
a_type_that_is_none_is_empty(void **state)
{
	char text[2 * VENDOR_EVENT_TYPE_BYTES];

	read_all(*state, "{\"type\":7,\"error\":{}}");
	assert_string_equal(vendor_event_type(*state), "");
	memset(text, 'x', sizeof(text));
	memcpy(text, "{\"type\":\"", 9);
	strcpy(text + sizeof(text) - 3, "\"}");
	read_all(*state, text);
	assert_string_equal(vendor_event_type(*state), "");
}

static void
a_usage_that_is_too_large_is_not_kept(void **state)
{
	char text[8192], *p = text;

	p += sprintf(p,
	    "{\"type\":\"response.done\",\"response\":{\"id\":\"r\","
	    "\"usage\":{\"a\":\"");
	memset(p, 'x', 5000);
	strcpy(p + 5000, "\"}}}");
	read_all(*state, text);
	assert_null(vendor_event_usage(*state));
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(the_usage_of_a_response_is_read_however_it_is_cut),
		T(the_usage_of_a_transcription_is_read),
		T(other_events_are_not_read_beyond_their_type),
		T(the_end_of_a_session_is_read_however_it_is_cut),
		T(there_is_no_end_of_a_session_where_there_is_none),
		T(there_is_no_usage_where_there_is_none),
		T(an_error_says_what_it_is_about),
		T(a_response_has_a_name_from_its_beginning),
		T(a_type_that_is_none_is_empty),
		T(a_usage_that_is_too_large_is_not_kept),
	};

	return cmocka_run_group_tests_name("vendor_event", tests, NULL, NULL);
}
