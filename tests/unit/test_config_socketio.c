/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/config/config.h"
#include "broker/config/config_socketio.h"

/* It has to load. */
static struct config *
load(const char *text)
{
	struct config *config = NULL;
	struct diag diag = { "" };

	if (config_parse("t", text, strlen(text), &config, &diag) != ERR_OK ||
	    config == NULL) {
		fail_msg("%s", diag.text);
		abort();
	}
	return config;
}

static void
is_there_with_its_section_or_a_chat_alone(void **state)
{
	static const char chat[] =
	    "store { path = \"/x/y.db\" }\n"
	    "chat { url = \"http://localhost\" models = {m} }\n";
	struct config *config = load("");

	(void)state;
	assert_null(config->socketio);
	config_unref(config);
	config = load("socketio { }");
	assert_non_null(config->socketio);
	config_unref(config);
	config = load(chat);
	assert_string_equal(config->socketio->path, "/socket.io/");
	config_unref(config);
}

static void
has_the_times_of_npm_socket_io_and_no_echo(void **state)
{
	struct config *config = load("socketio { }");
	const struct config_socketio *socketio = config->socketio;

	(void)state;
	assert_string_equal(socketio->path, "/socket.io/");
	assert_string_equal(socketio->engine_path, "/engine.io/");
	assert_int_equal(socketio->ping_interval_ms, 25000);
	assert_int_equal(socketio->ping_timeout_ms, 20000);
	assert_int_equal(socketio->connect_timeout_ms, 45000);
	assert_int_equal(socketio->recovery_ms, 120000);
	assert_int_equal(socketio->max_payload, 1000000);
	assert_int_equal(socketio->max_sessions, 10000);
	assert_int_equal(socketio->max_sessions_per_address, 500);
	assert_int_equal(socketio->queue_bytes, 268435456);
	assert_int_equal(socketio->events_per_s, 20);
	assert_int_equal(socketio->event_burst, 100);
	assert_false(socketio->echo);
	config_unref(config);
}

static void
reads_what_is_written_and_writes_it_again(void **state)
{
	struct config *config =
	    load("socketio { path = \"/chat/io/\" engine_path = \"/e/\"\n"
		 "ping_interval_ms = 100 ping_timeout_ms = 101\n"
		 "connect_timeout_ms = 102 recovery_ms = 0\n"
		 "max_payload = 1000 max_sessions = 7\n"
		 "queue_bytes = 1048576 events_per_second = 3\n"
		 "event_burst = 4\n"
		 "max_sessions_per_address = 3 echo = true }");
	const struct config_socketio *socketio;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	config_dump(config, out);
	assert_int_equal(fclose(out), 0);
	config_unref(config);
	config = load(text);
	socketio = config->socketio;
	assert_string_equal(socketio->path, "/chat/io/");
	assert_string_equal(socketio->engine_path, "/e/");
	assert_int_equal(socketio->ping_interval_ms, 100);
	assert_int_equal(socketio->ping_timeout_ms, 101);
	assert_int_equal(socketio->connect_timeout_ms, 102);
	assert_int_equal(socketio->recovery_ms, 0);
	assert_int_equal(socketio->max_payload, 1000);
	assert_int_equal(socketio->max_sessions, 7);
	assert_int_equal(socketio->max_sessions_per_address, 3);
	assert_int_equal(socketio->queue_bytes, 1048576);
	assert_int_equal(socketio->events_per_s, 3);
	assert_int_equal(socketio->event_burst, 4);
	assert_true(socketio->echo);
	config_unref(config);
	free(text);
}

static void
tells_two_apart_by_any_key(void **state)
{
	static const char *const keys[] = { "path = \"/a/\"",
		"engine_path = \"/a/\"", "ping_interval_ms = 100",
		"ping_timeout_ms = 100", "connect_timeout_ms = 100",
		"recovery_ms = 1", "max_payload = 100", "max_sessions = 1",
		"max_sessions_per_address = 1", "queue_bytes = 1048576",
		"events_per_second = 1", "event_burst = 1", "echo = true" };
	struct config *base = load("socketio { }");
	struct config *same = load("socketio { path = \"/socket.io/\" }");

	(void)state;
	assert_true(config_socketio_equal(base->socketio, same->socketio));
	assert_false(config_socketio_equal(base->socketio, NULL));
	assert_true(config_socketio_equal(NULL, NULL));
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		char text[64];
		struct config *other;

		(void)snprintf(text, sizeof(text), "socketio { %s }", keys[i]);
		other = load(text);
		if (config_socketio_equal(base->socketio, other->socketio))
			fail_msg("%s", text);
		config_unref(other);
	}
	config_unref(base);
	config_unref(same);
}

static void
says_what_is_wrong(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "socketio { path = \"/socket.io\" }", "/ at either end" },
		{ "socketio { path = \"/\" }", "/ at either end" },
		{ "socketio { path = \"/a//b/\" }", "path" },
		{ "socketio { path = \"/%41/\" }", "path" },
		{ "socketio { engine_path = \"/socket.io/\" }", "engine_path" },
		{ "relay \"/x/\" { upstream = \"wss://v\" }\n"
		  "socketio { path = \"/x/\" }",
		    "relay" },
		{ "socketio { ping_interval_ms = 99 }", "100" },
		{ "socketio { ping_timeout_ms = 3600001 }", "3600000" },
		{ "socketio { connect_timeout_ms = -1 }",
		    "connect_timeout_ms" },
		{ "socketio { max_payload = 99 }", "max_payload" },
		{ "socketio { max_sessions = 0 }", "max_sessions" },
		{ "socketio { max_sessions = 7 max_sessions_per_address = 8 }",
		    "1 to 7" },
		{ "socketio { echo = maybe }", "true or false" },
		{ "socketio { ping_interval = 1 }", "ping_interval" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct diag diag = { "" };
		struct config *config;

		if (config_parse("t", cases[i].text, strlen(cases[i].text),
			&config, &diag) != ERR_PROTO ||
		    strncmp(diag.text, "t:", 2) != 0 ||
		    strstr(diag.text, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].text, diag.text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_there_with_its_section_or_a_chat_alone),
		cmocka_unit_test(has_the_times_of_npm_socket_io_and_no_echo),
		cmocka_unit_test(reads_what_is_written_and_writes_it_again),
		cmocka_unit_test(tells_two_apart_by_any_key),
		cmocka_unit_test(says_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
