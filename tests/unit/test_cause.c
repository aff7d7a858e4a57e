/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/str.h"
#include "common/wire.h"
#include "common/xalloc.h"
#include "tunnel/cause.h"
#include "common/ws_frame.h"

static const enum cause all[] = {
#define CAUSE(name, word, code, text) CAUSE_##name,
#include "tunnel/cause.def"
};

#define COUNT (sizeof(all) / sizeof(all[0]))

static void
codes_are_those_that_clients_are_told_of(void **state)
{
	static const struct {
		enum cause cause;
		int code;
	} cases[] = {
		{ CAUSE_CLIENT_CLOSED, 0 },
		{ CAUSE_UPSTREAM_CLOSED, 0 },
		{ CAUSE_CLIENT_LOST, 1001 },
		{ CAUSE_UPSTREAM_LOST, 1014 },
		{ CAUSE_VIOLATION, 1002 },
		{ CAUSE_TOO_SLOW, 4101 },
		{ CAUSE_NO_PONG, 4102 },
		{ CAUSE_IDLE, 4103 },
		{ CAUSE_LIFETIME, 4200 },
		{ CAUSE_BUDGET, 4003 },
		{ CAUSE_RESTART, 1012 },
		{ CAUSE_SESSION_REFUSED, 1011 },
		{ CAUSE_BROKER_CLOSE, 1008 },
		{ CAUSE_CLIENT_GONE, 0 },
		{ CAUSE_REFUSED, 0 },
	};

	(void)state;
	assert_int_equal(sizeof(cases) / sizeof(cases[0]), COUNT);
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(cause_code(cases[i].cause), cases[i].code);
}

static void
words_are_tokens_and_tell_causes_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		const char *word = cause_word(all[i]);

		assert_true(str_is_token(word, strlen(word)));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(word, cause_word(all[j]));
	}
}

static void
what_is_sent_fits_a_close_frame(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		const char *text = cause_text(all[i]);

		assert_true(strlen(text) <= WS_REASON_MAX_BYTES);
		assert_true(cause_code(all[i]) == 0 ||
		    wire_is_close_code(cause_code(all[i])));
		/* there is no reason without a code */
		assert_true(cause_code(all[i]) != 0 || text[0] == '\0');
	}
}

static void
the_control_packets_take_every_cause_and_side(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		for (int side = SIDE_CLIENT; side <= SIDE_BROKER; side++) {
			struct wire_packet *packet = wire_packet_new(WIRE_END);
			char *text;
			size_t len;

			packet->usage.cause = xstrdup(cause_word(all[i]));
			packet->usage.side =
			    xstrdup(cause_side_word((enum cause_side)side));
			packet->usage.code = cause_code(all[i]);
			packet->usage.reason = xstrdup(cause_text(all[i]));
			assert_int_equal(wire_format(packet, &text, &len),
			    ERR_OK);
			wire_text_free(text, len);
			wire_packet_free(packet);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(codes_are_those_that_clients_are_told_of),
		cmocka_unit_test(words_are_tokens_and_tell_causes_apart),
		cmocka_unit_test(what_is_sent_fits_a_close_frame),
		cmocka_unit_test(the_control_packets_take_every_cause_and_side),
	};

	return cmocka_run_group_tests_name("cause", tests, NULL, NULL);
}
