/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/socketio/echo.h"
#include "engineio_double.h"

#define HOLE(n) "{\"_placeholder\":true,\"num\":" #n "}"

static const struct config_socketio config = {
	.path = (char[]){ "/socket.io/" },
	.engine_path = (char[]){ "/engine.io/" },
	.ping_interval_ms = 300,
	.ping_timeout_ms = 200,
	.connect_timeout_ms = 1000,
	.max_payload = 1000,
	.max_sessions = 10,
	.max_sessions_per_address = 10,
};

static int
set_up(void **state)
{
	static const struct sio_app *const apps[] = { &echo_main,
		&echo_custom };

	(void)state;
	double_init();
	return socketio_start(&config, apps, 2, NULL) == ERR_OK ? 0 : -1;
}

static int
tear_down(void **state)
{
	(void)state;
	socketio_stop();
	double_done();
	return 0;
}

static int
set_up_engine(void **state)
{
	(void)state;
	double_init();
	return echo_start(&config, NULL) == ERR_OK ? 0 : -1;
}

static int
tear_down_engine(void **state)
{
	(void)state;
	echo_stop();
	echo_stop();
	double_done();
	return 0;
}

static void
greets_with_the_handshakes_auth(void **state)
{
	struct eio *eio = open_client(0);

	(void)state;
	say(eio, "0");
	assert_memory_equal(next(eio), "0{\"sid\":\"", 9);
	assert_null(next(eio));
	await(eio);
	expect(eio, "2[\"auth\",{}]");
	say(eio, "0/custom,{\"token\":\"123\"}");
	assert_memory_equal(next(eio), "0/custom,{\"sid\":\"", 17);
	await(eio);
	expect(eio, "2/custom,[\"auth\",{\"token\":\"123\"}]");
	say(eio, "0/random,");
	expect(eio, "4/random,{\"message\":\"Invalid namespace\"}");
	assert_null(next(eio));
}

static void
answers_with_the_same_arguments(void **state)
{
	struct eio *eio = open_client(0);

	(void)state;
	say(eio, "0");
	await(eio);
	say(eio, "0/custom");
	await(eio);
	while (next(eio) != NULL)
		;
	say(eio, "2[\"message\",1,\"2\",{\"3\":[false,null]}]");
	expect(eio, "2[\"message-back\",1,\"2\",{\"3\":[false,null]}]");
	say(eio, "2456[\"message-with-ack\",1,\"2\",{\"3\":[false]}]");
	expect(eio, "3456[1,\"2\",{\"3\":[false]}]");
	say(eio, "2[\"message-with-ack\",1]"); /* none is wanted */
	say(eio, "2[\"something\",1]");
	say(eio, "2/custom,1[\"message\",1]");
	assert_null(next(eio));
	say(eio, "52-[\"message\"," HOLE(0) "," HOLE(1) "]");
	say_binary(eio, "one");
	say_binary(eio, "two");
	expect(eio, "52-[\"message-back\"," HOLE(0) "," HOLE(1) "]");
	expect(eio, "bone");
	expect(eio, "btwo");
	say(eio, "51-789[\"message-with-ack\"," HOLE(0) "]");
	say_binary(eio, "one");
	expect(eio, "61-789[" HOLE(0) "]");
	expect(eio, "bone");
	assert_null(next(eio));
	assert_null(eio_closing(eio));
}

static void
sends_bare_messages_back(void **state)
{
	struct eio *eio = open_client(0);

	(void)state;
	say(eio, "hello");
	say_binary(eio, "\x01\x02");
	say(eio, "");
	expect(eio, "hello");
	expect(eio, "b\x01\x02");
	expect(eio, "");
	assert_null(next(eio));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(greets_with_the_handshakes_auth,
		    set_up, tear_down),
		cmocka_unit_test_setup_teardown(answers_with_the_same_arguments,
		    set_up, tear_down),
		cmocka_unit_test_setup_teardown(sends_bare_messages_back,
		    set_up_engine, tear_down_engine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
