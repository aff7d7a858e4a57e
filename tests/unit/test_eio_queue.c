/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "broker/socketio/eio_queue.h"

#define PLENTY 4096

static struct eio_queue queue;

static int
setup(void **state)
{
	(void)state;
	eio_queue_init(&queue);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	eio_queue_done(&queue);
	return 0;
}

static bool
add(enum eio_type type, bool binary, const char *text, size_t max_bytes)
{
	const struct eio_packet packet = {
		.type = type,
		.binary = binary,
		.data = text,
		.len = strlen(text),
	};

	return eio_queue_add(&queue, &packet, max_bytes);
}

static void
assert_takes(size_t max_bytes, const char *expected)
{
	size_t len;
	char *text = eio_queue_take(&queue, max_bytes, &len);

	assert_non_null(text);
	assert_int_equal(len, strlen(expected));
	assert_memory_equal(text, expected, len);
	free(text);
}

static void
makes_one_payload_of_what_waits(void **state)
{
	size_t len;

	(void)state;
	assert_null(eio_queue_peek(&queue));
	assert_null(eio_queue_take(&queue, PLENTY, &len));
	assert_true(add(EIO_MESSAGE, false, "one", PLENTY));
	assert_true(add(EIO_MESSAGE, true, "two", PLENTY));
	assert_true(add(EIO_PING, false, "", PLENTY));
	assert_takes(PLENTY,
	    "4one\x1e"
	    "bdHdv\x1e"
	    "2");
	assert_null(eio_queue_peek(&queue));
	assert_int_equal(queue.bytes, 0);
}

static void
leaves_for_the_next_poll_what_does_not_fit(void **state)
{
	(void)state;
	assert_true(add(EIO_MESSAGE, false, "abc", PLENTY));
	assert_true(add(EIO_MESSAGE, false, "def", PLENTY));
	assert_true(add(EIO_MESSAGE, false, "larger than that", PLENTY));
	assert_takes(9,
	    "4abc\x1e"
	    "4def");
	assert_takes(9, "4larger than that");
}

static void
leaves_what_lacks_room_for_its_separator(void **state)
{
	(void)state;
	assert_true(add(EIO_MESSAGE, false, "abc", PLENTY));
	assert_true(add(EIO_MESSAGE, false, "def", PLENTY));
	assert_takes(8, "4abc");
	assert_takes(8, "4def");
}

static void
refuses_more_than_its_maximum(void **state)
{
	size_t count = 0;

	(void)state;
	assert_false(add(EIO_MESSAGE, false, "abc", 2));
	while (add(EIO_MESSAGE, false, "abc", 1000))
		assert_true(++count < 1000);
	assert_true(count > 0);
	assert_in_range(queue.bytes, 1, 1000);
	eio_queue_drop(&queue);
	assert_true(add(EIO_MESSAGE, false, "abc", 1000));
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(makes_one_payload_of_what_waits),
		TEST(leaves_for_the_next_poll_what_does_not_fit),
		TEST(leaves_what_lacks_room_for_its_separator),
		TEST(refuses_more_than_its_maximum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
