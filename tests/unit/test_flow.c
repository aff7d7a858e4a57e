/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tunnel/flow.h"

#define B(s) (const uint8_t *)s, sizeof(s) - 1

/* Everything a flow hands on, in order. */
struct record {
	uint8_t bytes[4096];
	size_t len;
	size_t passes, controls, headers, lasts;
	enum ws_opcode opcode;
	uint8_t payload[WS_CONTROL_MAX_BYTES];
	size_t payload_len;
};

static void
record_pass(void *arg, const uint8_t *data, size_t len)
{
	struct record *rec = arg;

	assert_true(len > 0);
	memcpy(rec->bytes + rec->len, data, len);
	rec->len += len;
	rec->passes++;
}

static void
record_control(void *arg, enum ws_opcode opcode, const uint8_t *raw,
    size_t raw_len, const uint8_t *payload, size_t payload_len)
{
	struct record *rec = arg;

	memcpy(rec->bytes + rec->len, raw, raw_len);
	rec->len += raw_len;
	rec->controls++;
	rec->opcode = opcode;
	memcpy(rec->payload, payload, payload_len);
	rec->payload_len = payload_len;
}

static struct flow_sink
sink_of(struct record *rec)
{
	memset(rec, 0, sizeof(*rec));
	return (struct flow_sink){ .pass = record_pass,
		.control = record_control,
		.arg = rec };
}

/* A fragmented text message with a ping inside it, a binary one, a close. */
static const char stream[] = "\x01\x83\1\2\3\4"
			     "abc"
			     "\x89\x82\1\2\3\4"
			     "\x01\x02"
			     "\x80\x80\1\2\3\4"
			     "\x82\xfe\x00\x7e\1\2\3\4"
			     "0123456789012345678901234567890123456789"
			     "0123456789012345678901234567890123456789"
			     "0123456789012345678901234567890123456789"
			     "012345"
			     "\x88\x82\1\2\3\4\x02\xea";

static void
passes_the_same_bytes_however_they_are_cut(void **state)
{
	const size_t len = sizeof(stream) - 1;

	(void)state;
	for (size_t step = 1; step <= len; step++) {
		struct record rec;
		struct flow_sink sink = sink_of(&rec);
		struct flow flow;

		flow_init(&flow, WS_FROM_CLIENT, 0);
		for (size_t i = 0; i < len; i += step) {
			size_t n = i + step > len ? len - i : step;

			assert_int_equal(flow_feed(&flow,
					     (const uint8_t *)stream + i, n, 0,
					     &sink),
			    ERR_OK);
		}
		assert_int_equal(rec.len, len);
		assert_memory_equal(rec.bytes, stream, len);
		assert_int_equal(rec.controls, 2);
		assert_int_equal(rec.opcode, WS_CLOSE);
		assert_memory_equal(rec.payload, "\x03\xe8", 2);
		assert_true(flow.closed);
		assert_int_equal(flow.totals.messages, 2);
		assert_int_equal(flow.totals.bytes, 3 + 126);
	}
}

static void
whole_frames_pass_in_one_piece(void **state)
{
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	flow_init(&flow, WS_FROM_SERVER, 0);
	assert_int_equal(flow_feed(&flow, B("\x81\x01x\x81\x01y\x01\x01z"), 0,
			     &sink),
	    ERR_OK);
	assert_int_equal(rec.passes, 1);
	assert_int_equal(rec.len, 9);
}

/* A sink that reads: data frames as a log of what came. */
static void
record_header(void *arg, const struct ws_header *header, const uint8_t *raw)
{
	struct record *rec = arg;

	memcpy(rec->bytes + rec->len, raw, header->header_len);
	rec->len += header->header_len;
	rec->headers++;
}

static const char *
record_payload(void *arg, const uint8_t *data, size_t len, bool last)
{
	struct record *rec = arg;

	memcpy(rec->bytes + rec->len, data, len);
	rec->len += len;
	rec->lasts += last ? 1 : 0;
	if (memchr(data, '!', len) != NULL)
		return "no shouting";
	return NULL;
}

static void
a_sink_that_reads_gets_headers_and_payload_apart(void **state)
{
	const size_t len = sizeof(stream) - 1;

	(void)state;
	for (size_t step = 1; step <= len; step++) {
		struct record rec;
		struct flow_sink sink = sink_of(&rec);
		struct flow flow;

		sink.header = record_header;
		sink.payload = record_payload;
		flow_init(&flow, WS_FROM_CLIENT, 0);
		for (size_t i = 0; i < len; i += step) {
			size_t n = i + step > len ? len - i : step;

			assert_int_equal(flow_feed(&flow,
					     (const uint8_t *)stream + i, n, 0,
					     &sink),
			    ERR_OK);
		}
		assert_int_equal(rec.passes, 0);
		assert_int_equal(rec.len, len);
		assert_memory_equal(rec.bytes, stream, len);
		assert_int_equal(rec.headers, 3);
		assert_int_equal(rec.lasts, 2);
		assert_int_equal(flow.totals.bytes, 3 + 126);
	}
}

static void
what_a_sink_refuses_is_a_violation(void **state)
{
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	sink.header = record_header;
	sink.payload = record_payload;
	flow_init(&flow, WS_FROM_SERVER, 0);
	assert_int_equal(flow_feed(&flow, B("\x81\x01x\x81\x01!\x81\x01z"), 0,
			     &sink),
	    ERR_PROTO);
	assert_int_equal(flow.violation, WS_CODE_POLICY);
	assert_string_equal(flow.why, "no shouting");
	assert_int_equal(rec.headers, 2);
}

static void
what_follows_a_close_is_dropped(void **state)
{
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	flow_init(&flow, WS_FROM_SERVER, 0);
	assert_int_equal(flow_feed(&flow, B("\x88\x00\x81\x01x\xff"), 0, &sink),
	    ERR_OK);
	assert_int_equal(flow_feed(&flow, B("\x81\x01x\xff"), 0, &sink),
	    ERR_OK);
	assert_int_equal(rec.len, 2);
	assert_int_equal(rec.payload_len, 0);
}

static void
knows_the_boundary_between_frames(void **state)
{
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	flow_init(&flow, WS_FROM_SERVER, 0);
	assert_true(flow_at_boundary(&flow));
	/* a cut header is held back, so nothing of it has passed */
	assert_int_equal(flow_feed(&flow, B("\x81"), 0, &sink), ERR_OK);
	assert_true(flow_at_boundary(&flow));
	assert_int_equal(rec.len, 0);
	assert_int_equal(flow_feed(&flow, B("\x02x"), 0, &sink), ERR_OK);
	assert_false(flow_at_boundary(&flow));
	assert_int_equal(flow_feed(&flow, B("y"), 0, &sink), ERR_OK);
	assert_true(flow_at_boundary(&flow));
}

struct violation {
	const char *bytes;
	size_t len;
	size_t passed; /* bytes before the offence */
	int code;
};

#undef B
#define B(s) s, sizeof(s) - 1

static const struct violation violations[] = {
	{ B("\x81\x81\1\2\3\4x"), 0, 1002 },
	{ B("\x81\x01x\xc1\x01x"), 3, 1002 },
	{ B("\x81\x01x\x83"), 3, 1002 },
	{ B("\x80\x01x"), 0, 1002 },
	{ B("\x00\x01x"), 0, 1002 },
	{ B("\x01\x01x\x81\x01y"), 3, 1002 },
	{ B("\x01\x01x\x02\x01y"), 3, 1002 },
	{ B("\x89\x7e\x00\x7e"), 0, 1002 },
	{ B("\x09\x01x"), 0, 1002 },
	{ B("\x88\x01x"), 0, 1002 },
	{ B("\x88\x02\x03\xed"), 0, 1002 },
	{ B("\x88\x02\x03\xee"), 0, 1002 },
	{ B("\x88\x02\x03\xf7"), 0, 1002 },
	{ B("\x88\x03\x03\xe8\xff"), 0, 1007 },
	/* the limit is 300: as soon as the header says so */
	{ B("\x82\x7e\x01\x2d"), 0, 1009 },
	{ B("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), 0, 1009 },
	/* the sum of fragments */
	{ B("\x02\x01x\x00\x7e\x01\x2c"), 3, 1009 },
};

static void
ends_on_a_violation_after_passing_what_came_before(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(violations) / sizeof(violations[0]);
	     i++) {
		const struct violation *v = &violations[i];

		/* in one piece, and byte by byte */
		for (size_t step = 1; step <= v->len; step += v->len - 1) {
			struct record rec;
			struct flow_sink sink = sink_of(&rec);
			struct flow flow;
			enum err err = ERR_OK;

			print_message("# violation %zu step %zu\n", i, step);
			flow_init(&flow, WS_FROM_SERVER, 300);
			for (size_t at = 0; at < v->len && err == ERR_OK;
			     at += step)
				err = flow_feed(&flow,
				    (const uint8_t *)v->bytes + at,
				    step == 1 ? 1 : v->len, 0, &sink);
			assert_int_equal(err, ERR_PROTO);
			assert_int_equal(flow.violation, v->code);
			assert_non_null(flow.why);
			assert_int_equal(rec.len, v->passed);
			assert_true(flow_at_boundary(&flow));
			if (v->len == 1)
				break;
		}
	}
}

static void
a_message_of_exactly_the_maximum_passes(void **state)
{
	uint8_t frame[4 + 300] = "\x82\x7e\x01\x2c";
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	flow_init(&flow, WS_FROM_SERVER, 300);
	for (int i = 0; i < 3; i++)
		assert_int_equal(flow_feed(&flow, frame, sizeof(frame), 0,
				     &sink),
		    ERR_OK);
	assert_int_equal(flow.totals.messages, 3);
}

#undef B
#define B(s) (const uint8_t *)s, sizeof(s) - 1

static void
messages_over_the_rate_are_a_violation(void **state)
{
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	flow_init(&flow, WS_FROM_SERVER, 0);
	flow_set_rates(&flow, 2, 0, 1000);
	assert_int_equal(flow_feed(&flow, B("\x81\x00\x89\x00"), 1000, &sink),
	    ERR_OK);
	/* half a second later there is room for one */
	assert_int_equal(flow_feed(&flow, B("\x81\x00"), 1500, &sink), ERR_OK);
	assert_int_equal(flow_feed(&flow, B("\x89\x00"), 1500, &sink),
	    ERR_PROTO);
	assert_int_equal(flow.violation, 1008);
	/* a long silence saves up one second's worth, no more */
	flow_init(&flow, WS_FROM_SERVER, 0);
	flow_set_rates(&flow, 2, 0, 0);
	assert_int_equal(flow_feed(&flow, B("\x81\x00\x81\x00\x81\x00"),
			     INT64_MAX / 2, &sink),
	    ERR_PROTO);
}

static void
bytes_over_the_rate_make_the_reader_wait(void **state)
{
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	flow_init(&flow, WS_FROM_SERVER, 0);
	assert_int_equal(flow_wait_ms(&flow, 5), 0);
	flow_set_rates(&flow, 0, 10, 0);
	assert_int_equal(flow_feed(&flow,
			     B("\x81\x08"
			       "12345678"),
			     0, &sink),
	    ERR_OK);
	assert_int_equal(flow_wait_ms(&flow, 0), 0);
	assert_int_equal(flow_feed(&flow,
			     B("\x81\x08"
			       "12345678"),
			     0, &sink),
	    ERR_OK);
	assert_int_equal(flow_wait_ms(&flow, 0), 1000);
	assert_int_equal(flow_wait_ms(&flow, 400), 600);
	assert_int_equal(flow_wait_ms(&flow, 2000), 0);
	assert_int_equal(flow_feed(&flow, B("\x81\x00"), 1000, &sink), ERR_OK);
	assert_int_equal(flow_wait_ms(&flow, 1000), 200);
}

static void
maximum_may_shrink_within_a_message(void **state)
{
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	flow_init(&flow, WS_FROM_SERVER, 100);
	assert_int_equal(flow_feed(&flow, B("\x01\x05hello"), 0, &sink),
	    ERR_OK);
	flow_set_message_max(&flow, 4);
	assert_int_equal(flow_feed(&flow, B("\x80\x01!"), 0, &sink), ERR_PROTO);
	assert_int_equal(flow.violation, WS_CODE_TOO_BIG);
}

static void
tells_what_is_left_of_a_frame(void **state)
{
	struct record rec;
	struct flow_sink sink = sink_of(&rec);
	struct flow flow;

	(void)state;
	flow_init(&flow, WS_FROM_SERVER, 0);
	assert_int_equal(flow_frame_left(&flow), 0);
	assert_int_equal(flow_feed(&flow, B("\x82\x05he"), 0, &sink), ERR_OK);
	assert_int_equal(flow_frame_left(&flow), 3);
	assert_int_equal(flow_feed(&flow, B("llo\x82"), 0, &sink), ERR_OK);
	assert_int_equal(flow_frame_left(&flow), 0);
}

/*
 * The rest of a message and control frames pass, a new message does not,
 * however it is cut; what is left, fed again, makes all of it.
 */
static void
on_hold_no_new_message_passes(void **state)
{
	static const char text[] = "\x81\x81\0\0\0\0b"
				   "\x89\x80\0\0\0\0"
				   "\x81\x80\0\0\0\0"
				   "\x82\xfe\0\x7e\0\0\0\0";
	static const uint8_t payload[126] = { 'x' };
	uint8_t all[sizeof(text) - 1 + sizeof(payload)];
	const size_t before = 7 + 6; /* up to the new message */

	(void)state;
	memcpy(all, text, sizeof(text) - 1);
	memcpy(all + sizeof(text) - 1, payload, sizeof(payload));
	for (size_t cut = 1; cut < sizeof(all); cut++) {
		struct record rec;
		struct flow_sink sink = sink_of(&rec);
		struct flow flow;
		size_t left;

		flow_init(&flow, WS_FROM_CLIENT, 0);
		flow_set_rates(&flow, 0, 1000, 0);
		/* the first message is under way */
		assert_int_equal(flow_feed(&flow,
				     B("\x01\x81\0\0\0\0a\x80\x80\0\0\0"), 0,
				     &sink),
		    ERR_OK);
		flow_hold(&flow, true);
		assert_int_equal(flow_feed(&flow, B("\0\x89\x80\0\0\0\0"), 0,
				     &sink),
		    ERR_OK);
		assert_int_equal(flow.left, 0);
		assert_int_equal(flow.totals.messages, 1);
		assert_int_equal(rec.len, 7 + 6 + 6);
		flow_hold(&flow, false);
		assert_int_equal(flow_feed(&flow, all, 7, 0, &sink), ERR_OK);
		flow_hold(&flow, true);
		assert_int_equal(flow_feed(&flow, all + 7, 6, 0, &sink),
		    ERR_OK);
		assert_int_equal(flow.totals.messages, 2);
		if (cut <= before)
			continue;
		assert_int_equal(flow_feed(&flow, all + before, cut - before, 0,
				     &sink),
		    ERR_OK);
		left = flow.left;
		assert_int_equal(flow.totals.messages, 2);
		assert_int_equal(rec.len, 19 + before);
		assert_true(left <= cut - before);
		/* still on hold: nothing is taken but what is held */
		assert_int_equal(flow_feed(&flow, all + cut - left, left, 0,
				     &sink),
		    ERR_OK);
		assert_int_equal(rec.len, 19 + before);
		left = flow.left;
		flow_hold(&flow, false);
		assert_int_equal(flow_feed(&flow, all + cut - left,
				     sizeof(all) - cut + left, 0, &sink),
		    ERR_OK);
		assert_int_equal(flow.left, 0);
		assert_int_equal(rec.len, 19 + sizeof(all));
		assert_memory_equal(rec.bytes + 19, all, sizeof(all));
		assert_int_equal(flow.totals.messages, 4);
		/* each byte has been paid for once */
		assert_int_equal(flow.byte_credit,
		    (1000 - 19 - (int64_t)sizeof(all)) * 1000);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passes_the_same_bytes_however_they_are_cut),
		cmocka_unit_test(whole_frames_pass_in_one_piece),
		cmocka_unit_test(
		    a_sink_that_reads_gets_headers_and_payload_apart),
		cmocka_unit_test(what_a_sink_refuses_is_a_violation),
		cmocka_unit_test(what_follows_a_close_is_dropped),
		cmocka_unit_test(knows_the_boundary_between_frames),
		cmocka_unit_test(
		    ends_on_a_violation_after_passing_what_came_before),
		cmocka_unit_test(a_message_of_exactly_the_maximum_passes),
		cmocka_unit_test(messages_over_the_rate_are_a_violation),
		cmocka_unit_test(bytes_over_the_rate_make_the_reader_wait),
		cmocka_unit_test(maximum_may_shrink_within_a_message),
		cmocka_unit_test(tells_what_is_left_of_a_frame),
		cmocka_unit_test(on_hold_no_new_message_passes),
	};

	return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
