/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tunnel/held.h"
#include "common/ws_frame.h"

static void
holds_what_comes_in_pieces_with_room_in_front(void **state)
{
	struct held held = { NULL, 0, 0 };
	uint8_t bytes[300];
	struct piece all;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)i;
		assert_false(held_exceeds(&held, 1, sizeof(bytes)));
		held_add(&held, bytes + i, 1, sizeof(bytes));
	}
	assert_true(held_exceeds(&held, 1, sizeof(bytes)));
	assert_false(held_exceeds(&held, 0, sizeof(bytes)));
	all = held_peek(&held);
	assert_int_equal(all.len, sizeof(bytes));
	assert_false(all.last);
	assert_memory_equal(all.data, bytes, sizeof(bytes));
	memset(all.data - WS_HEADER_MAX_BYTES, 0xff, WS_HEADER_MAX_BYTES);
	held_drop(&held);
	assert_int_equal(held_peek(&held).len, 0);
	held_drop(&held);
}

static void
a_message_that_comes_whole_is_not_copied(void **state)
{
	struct held held = { NULL, 0, 0 };
	uint8_t bytes[] = "abc";
	struct piece last = { bytes, 3, true }, all;

	(void)state;
	all = held_complete(&held, &last, 10);
	assert_ptr_equal(all.data, bytes);
	held_add(&held, "12", 2, 10);
	all = held_complete(&held, &last, 10);
	assert_true(all.last);
	assert_int_equal(all.len, 5);
	assert_memory_equal(all.data, "12abc", 5);
	held_drop(&held);
}

static void
what_cannot_be_is_over_the_maximum(void **state)
{
	struct held held = { NULL, 0, 0 };

	(void)state;
	assert_true(held_exceeds(&held, SIZE_MAX, 10));
	held_add(&held, "12345678", 8, 10);
	assert_true(held_exceeds(&held, SIZE_MAX, 10));
	assert_false(held_exceeds(&held, 2, 10));
	assert_true(held_exceeds(&held, 0, 7)); /* a maximum may shrink */
	held_drop(&held);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_what_comes_in_pieces_with_room_in_front),
		cmocka_unit_test(a_message_that_comes_whole_is_not_copied),
		cmocka_unit_test(what_cannot_be_is_over_the_maximum),
	};

	return cmocka_run_group_tests_name("held", tests, NULL, NULL);
}
