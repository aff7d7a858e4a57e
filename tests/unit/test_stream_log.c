/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/chat/stream_log.h"

static void
numbers_its_events_from_1(void **state)
{
	struct stream_log *log = stream_log_new("g", "m", 1000);
	static const char text[] =
	    "id: g.1\nevent: a\ndata: {}\n\n"
	    "id: g.2\nevent: assistant_delta\n"
	    "data: {\"delta\":\"x\",\"message_id\":\"m\"}\n\n";

	(void)state;
	assert_int_equal(stream_log_last(log), 0);
	assert_int_equal(stream_log_size(log), 0);
	stream_log_add(log, "a", json_object());
	assert_int_equal(stream_log_add_delta(log, "x", 1), ERR_OK);
	assert_int_equal(stream_log_last(log), 2);
	assert_int_equal(stream_log_size(log), sizeof(text) - 1);
	assert_memory_equal(stream_log_peek(log, 0), text, sizeof(text) - 1);
	stream_log_free(log);
}

static void
finds_where_an_event_begins(void **state)
{
	struct stream_log *log = stream_log_new("g", "m", 1000000);
	char id[32];

	(void)state;
	assert_int_equal(stream_log_offset(log, 0), 0);
	assert_int_equal(stream_log_offset(log, 5), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(stream_log_add_delta(log, "x", 1), ERR_OK);
	for (int after = 0; after < 1000; after++) {
		(void)snprintf(id, sizeof(id), "id: g.%d\n", after + 1);
		assert_memory_equal(stream_log_peek(log,
					stream_log_offset(log, after)),
		    id, strlen(id));
	}
	assert_int_equal(stream_log_offset(log, -1), 0);
	assert_int_equal(stream_log_offset(log, 1000), stream_log_size(log));
	assert_int_equal(stream_log_offset(log, INT64_MAX),
	    stream_log_size(log));
	stream_log_free(log);
}

static void
refuses_deltas_past_its_maximum_and_still_ends(void **state)
{
	struct stream_log *log = stream_log_new("g", "m", 500);
	int64_t last;
	size_t size;

	(void)state;
	while (stream_log_add_delta(log, "x", 1) == ERR_OK)
		assert_true(stream_log_last(log) < 20);
	last = stream_log_last(log);
	size = stream_log_size(log);
	assert_int_equal(stream_log_add_delta(log, "x", 1), ERR_LIMIT);
	assert_int_equal(stream_log_last(log), last);
	assert_int_equal(stream_log_size(log), size);
	stream_log_add(log, "assistant_error", json_object());
	assert_int_equal(stream_log_last(log), last + 1);
	stream_log_free(log);
	stream_log_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_its_events_from_1),
		cmocka_unit_test(finds_where_an_event_begins),
		cmocka_unit_test(
		    refuses_deltas_past_its_maximum_and_still_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
