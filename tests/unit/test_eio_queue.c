/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/socketio/eio_queue.h"

#define MAX	 (1024 * 1024)
#define ENOUGH	 (64 * 1024)
#define TOO_MUCH ((size_t)257 * MAX)
#define BELOW	 (TOO_MUCH - 2 * MAX + MAX / 4)

/* A packet of as many bytes, of which one is as another. */
static struct eio_packet
packet_of(size_t len)
{
	static char data[MAX];

	return (struct eio_packet){ .type = EIO_MESSAGE,
		.data = memset(data, 'x', sizeof(data)),
		.len = len };
}

static void
assert_payload(struct eio_queue *queue, size_t max, const char *expected)
{
	size_t len;
	char *text = eio_queue_take_payload(queue, max, &len);

	assert_int_equal(len, strlen(expected));
	assert_memory_equal(text, expected, len);
	free(text);
}

static void
makes_payloads_of_what_has_room(void **state)
{
	const struct eio_packet two = packet_of(2), five = packet_of(5);
	struct eio_queue queue;

	(void)state;
	eio_queue_init(&queue);
	assert_true(eio_queue_add(&queue, &two, MAX));
	assert_true(eio_queue_add(&queue, &two, MAX));
	assert_true(eio_queue_add(&queue, &five, MAX));
	assert_true(eio_queue_add(&queue, &two, MAX));
	assert_payload(&queue, 8,
	    "4xx\x1e"
	    "4xx");
	assert_payload(&queue, 2, "4xxxxx"); /* one at least */
	assert_int_equal(eio_queue_first(&queue)->len, 2);
	assert_payload(&queue, 8, "4xx");
	assert_payload(&queue, 8, "");
	assert_null(eio_queue_first(&queue));
	assert_int_equal(queue.bytes, 0);
}

static void
takes_no_more_than_may_wait(void **state)
{
	const struct eio_packet packet = packet_of(1000), huge = packet_of(MAX);
	struct eio_queue queue;

	(void)state;
	eio_queue_init(&queue);
	assert_false(eio_queue_add(&queue, &huge, MAX));
	assert_true(eio_queue_add(&queue, &packet, 2000));
	assert_false(eio_queue_add(&queue, &packet, 2000));
	eio_queue_drop_first(&queue);
	assert_true(eio_queue_add(&queue, &packet, 2000));
	eio_queue_done(&queue);
}

static void
gives_little_to_each_while_there_is_too_much_in_all(void **state)
{
	const struct eio_packet half = packet_of(MAX / 2),
				small = packet_of(ENOUGH / 2);
	struct eio_queue full, empty;

	(void)state;
	eio_queue_init(&full);
	eio_queue_init(&empty);
	assert_true(eio_queue_add(&full, &half, MAX));
	eio_queue_count(TOO_MUCH, 0);
	assert_int_equal(eio_queue_share(MAX), ENOUGH);
	assert_int_equal(eio_queue_share(100), 100);
	assert_false(eio_queue_add(&full, &small, MAX));
	assert_true(eio_queue_add(&empty, &small, MAX));
	assert_false(eio_queue_add(&empty, &small, MAX));
	eio_queue_count(0, TOO_MUCH);
	assert_true(eio_queue_add(&full, &small, MAX));
	/* what waits in queues counts itself */
	eio_queue_count(BELOW, 0);
	assert_int_equal(eio_queue_share(MAX), MAX);
	eio_queue_count(MAX / 2, 0);
	assert_int_equal(eio_queue_share(MAX), ENOUGH);
	eio_queue_done(&full);
	assert_int_equal(eio_queue_share(MAX), MAX);
	eio_queue_done(&empty);
	eio_queue_count(0, BELOW + MAX / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_payloads_of_what_has_room),
		cmocka_unit_test(takes_no_more_than_may_wait),
		cmocka_unit_test(
		    gives_little_to_each_while_there_is_too_much_in_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
