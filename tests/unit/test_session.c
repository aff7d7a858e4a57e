/* SPDX-License-Identifier: MIT */
/* What the broker is told and asked; the way there: test_session_open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock_double.h"
#include "common/log.h"
#include "common/ws_frame.h"
#include "session_peers.h"

/* ---- what the broker is told of messages --------------------------------- */

#define DONE(id)                                                         \
	"\x81\x3f{\"type\":\"response.done\",\"response\":{\"id\":\"" id \
	"\",\"usage\":{\"a\":1}}}"

/* A relay whose messages are read so. */
static void
reach_reading(struct fixture *fix, const char *messages)
{
	char key[25];

	fix->messages = messages;
	reach_dial(fix, key);
	accept_upgrade(fix, key);
	read_answer(fix);
}

static void
expect_event(const struct wire_packet *packet, size_t at, int n, const char *id)
{
	json_t *event = json_array_get(packet->usage.events, at);

	assert_int_equal(json_integer_value(json_object_get(event, "n")), n);
	assert_string_equal(json_string_value(json_object_get(event, "id")),
	    id);
}

static void
usage_is_told_soon_gathered_and_once(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;

	reach_reading(fix,
	    ",\"messages\":{\"usage\":true,\"inspect_bytes\":0}");
	say(fix->vendor, DONE("r1") DONE("r2"));
	packet = receive(fix, WIRE_USAGE);
	assert_int_equal(json_array_size(packet->usage.events), 2);
	expect_event(packet, 0, 1, "r1");
	expect_event(packet, 1, 2, "r2");
	assert_int_equal(packet->usage.upstream.messages, 2);
	wire_packet_free(packet);
	say(fix->vendor, DONE("r3") "\x88\x02\x03\xe8");
	assert_int_equal(send(fix->client, "\x88\x82\0\0\0\0\x03\xe8", 8,
			     MSG_NOSIGNAL),
	    8);
	wait_for(fix, fix->vendor);
	(void)shutdown(fix->vendor, SHUT_WR);
	packet = receive(fix, WIRE_END);
	assert_int_equal(json_array_size(packet->usage.events), 1);
	expect_event(packet, 0, 3, "r3");
	wire_packet_free(packet);
}

static void
many_events_become_as_many_packets_as_they_need(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;
	int n = 0;

	reach_reading(fix,
	    ",\"messages\":{\"usage\":true,\"inspect_bytes\":0}");
	for (int i = 0; i < WIRE_EVENTS_MAX + 1; i++)
		say(fix->vendor, DONE("r1"));
	while (n < WIRE_EVENTS_MAX + 1) {
		packet = receive(fix, WIRE_USAGE);
		for (size_t i = 0; i < json_array_size(packet->usage.events);
		     i++)
			expect_event(packet, i, ++n, "r1");
		wire_packet_free(packet);
	}
}

static void
messages_are_told_of_for_a_log(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;
	json_t *record;

	reach_reading(fix,
	    ",\"messages\":{\"usage\":false,\"log\":\"full\",\"inspect_bytes\":"
	    "0}");
	say(fix->vendor, "\x81\x0c{\"type\":\"a\"}\x01\x01x\x80\x01y");
	packet = receive(fix, WIRE_LOG);
	assert_int_equal(json_array_size(packet->log.records), 2);
	assert_int_equal(packet->log.dropped, 0);
	record = json_array_get(packet->log.records, 0);
	assert_string_equal(json_string_value(json_object_get(record, "type")),
	    "a");
	assert_string_equal(json_string_value(json_object_get(record, "from")),
	    "upstream");
	assert_true(
	    json_integer_value(json_object_get(record, "at")) > 1000000000000);
	record = json_array_get(packet->log.records, 1);
	assert_string_equal(json_string_value(json_object_get(record, "text")),
	    "xy");
	wire_packet_free(packet);
}

/* ---- a broker that comes back -------------------------------------------- */

#define RESUME	",\"resume\":\"text\""
#define COUNTED ",\"messages\":{\"usage\":true,\"inspect_bytes\":0}" RESUME
#define BUDGET                                                \
	",\"messages\":{\"usage\":true,\"budget\":\"error\"," \
	"\"inspect_bytes\":4096}" RESUME
#define RESUMED                                                    \
	"{\"v\":1,\"type\":\"resumed\",\"limits\":{"               \
	"\"client_message_bytes\":0,\"upstream_message_bytes\":0," \
	"\"client_messages_per_s\":0,\"client_bytes_per_s\":0,"    \
	"\"connect_ms\":60000,\"idle_ms\":0,\"lifetime_ms\":0,"    \
	"\"ping_ms\":0,\"pong_ms\":60000,\"stall_ms\":0,\"usage_ms\":0}}"
#define ACK(n)	  "{\"v\":1,\"type\":\"ack\",\"n\":" #n "}"
#define TAKEN(n)  "{\"v\":1,\"type\":\"ack\",\"n\":" #n ",\"ended\":true}"
#define MINUTE_MS (60 * 1000)

/* Another broker is asked for the lease. */
static void
take_resume(struct fixture *fix)
{
	struct wire_packet *packet;

	wait_for(fix, fix->broker_listener);
	fix->broker = accept(fix->broker_listener, NULL, NULL);
	assert_int_not_equal(fix->broker, -1);
	packet = receive(fix, WIRE_RESUME);
	assert_string_equal(packet->resume.resume, "text");
	wire_packet_free(packet);
}

static void
come_back(struct fixture *fix)
{
	hang_up(&fix->broker);
	take_resume(fix);
	say(fix->broker, RESUMED);
}

/* There is no broker for a while. */
static void
go_away(struct fixture *fix)
{
	hang_up(&fix->broker);
	hang_up(&fix->broker_listener);
	(void)unlink(fix->addr.sun_path);
	settle(fix);
}

static void
listen_again(struct fixture *fix)
{
	fix->broker_listener =
	    listen_at(&fix->addr, sizeof(fix->addr), AF_UNIX, SOCK_SEQPACKET);
}

/* Both peers close, and both connections end. */
static void
end_conversation(struct fixture *fix)
{
	char got[64];

	assert_int_equal(send(fix->client, "\x88\x82\0\0\0\0\x03\xe8", 8,
			     MSG_NOSIGNAL),
	    8);
	wait_for(fix, fix->vendor);
	assert_true(recv(fix->vendor, got, sizeof(got), 0) > 0);
	say(fix->vendor, "\x88\x02\x03\xe8");
	hang_up(&fix->vendor);
	while (recv(fix->client, got, sizeof(got), 0) != 0)
		settle(fix);
	hang_up(&fix->client);
	settle(fix);
}

/* A report of so many events, from this number on. */
static void
expect_usage(struct fixture *fix, enum wire_type type, size_t count, int n)
{
	struct wire_packet *packet = receive(fix, type);

	assert_int_equal(json_array_size(packet->usage.events), count);
	if (count > 0)
		expect_event(packet, 0, n, "r1");
	wire_packet_free(packet);
}

static void
usage_is_told_again_until_it_is_in_the_ledger(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	say(fix->vendor, DONE("r1"));
	expect_usage(fix, WIRE_USAGE, 1, 1);
	come_back(fix);
	expect_usage(fix, WIRE_USAGE, 1, 1);
	say(fix->vendor, DONE("r1"));
	expect_usage(fix, WIRE_USAGE, 1, 2);
	say(fix->broker, ACK(1));
	settle(fix);
	come_back(fix);
	expect_usage(fix, WIRE_USAGE, 1, 2);
	say(fix->broker, ACK(2));
	settle(fix);
	go_away(fix);
	say(fix->vendor, DONE("r1"));
	settle(fix);
	listen_again(fix);
	come_back(fix);
	expect_usage(fix, WIRE_USAGE, 1, 3);
	/* nobody at either end has noticed */
	say(fix->vendor, "\x81\x02hi");
	wait_for(fix, fix->client);
	assert_int_equal(fix->done, 0);
}

/* One that is not confirmed any more is no reason to forget the others. */
static void
only_what_was_sent_can_be_confirmed(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	say(fix->vendor, DONE("r1"));
	settle(fix);
	say(fix->broker, ACK(99));
	settle(fix);
	expect_usage(fix, WIRE_USAGE, 1, 1);
	say(fix->broker, ACK(1));
	settle(fix);
	come_back(fix);
	expect_usage(fix, WIRE_USAGE, 0, 0);
}

static void
an_end_is_delivered_when_there_is_a_broker(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	go_away(fix);
	say(fix->vendor, DONE("r1"));
	settle(fix);
	end_conversation(fix);
	assert_int_equal(fix->done, 0);
	listen_again(fix);
	come_back(fix);
	expect_usage(fix, WIRE_END, 1, 1);
	/* it has been told, and nobody knows whether it was kept */
	settle(fix);
	assert_int_equal(fix->done, 0);
	come_back(fix);
	expect_usage(fix, WIRE_END, 1, 1);
	say(fix->broker, ACK(1));
	settle(fix);
	assert_int_equal(fix->done, 0);
	say(fix->broker, TAKEN(1));
	expect_end(fix, fix->broker);
	expect_done(fix);
}

/* A broker that is killed may not have read what it was sent. */
static void
an_end_without_usage_is_kept_until_it_is_taken(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	say(fix->broker, TAKEN(0)); /* of what was not told yet */
	settle(fix);
	end_conversation(fix);
	assert_int_equal(fix->done, 0);
	come_back(fix);
	expect_usage(fix, WIRE_END, 0, 0);
	assert_int_equal(fix->done, 0);
	say(fix->broker, TAKEN(0));
	expect_end(fix, fix->broker);
	expect_done(fix);
}

static void
an_end_is_given_up_in_the_end(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	go_away(fix);
	end_conversation(fix);
	clock_skipped_ms += 9 * MINUTE_MS;
	settle(fix);
	assert_int_equal(fix->done, 0);
	clock_skipped_ms += MINUTE_MS;
	expect_done(fix);
	/* who has to stop does not wait for that */
	fix = again(state);
	reach_reading(fix, COUNTED);
	go_away(fix);
	end_conversation(fix);
	session_stop(fix->session);
	settle(fix);
	assert_int_equal(fix->done, 0);
	clock_skipped_ms += 3000;
	expect_done(fix);
}

static void
a_refusal_is_delivered_late_as_well(void **state)
{
	struct fixture *fix = *state;
	char key[25], got[16];

	fix->messages = COUNTED;
	reach_dial(fix, key);
	go_away(fix);
	say(fix->vendor, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
	read_answer(fix);
	while (recv(fix->client, got, sizeof(got), 0) != 0)
		settle(fix);
	hang_up(&fix->client);
	settle(fix);
	assert_int_equal(fix->done, 0);
	listen_again(fix);
	come_back(fix);
	expect_usage(fix, WIRE_END, 0, 0);
	say(fix->broker, TAKEN(0));
	expect_done(fix);
}

static void
expect_close(struct fixture *fix, int code)
{
	uint8_t got[64];

	wait_for(fix, fix->client);
	assert_true(recv(fix->client, got, sizeof(got), 0) > 4);
	assert_int_equal(got[0], 0x88);
	assert_int_equal(got[2] << 8 | got[3], code);
}

static void
a_lease_that_nobody_takes_up_ends(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	hang_up(&fix->broker);
	take_resume(fix);
	say(fix->broker,
	    DENY_("\"status\":403,\"code\":\"x\",\"message\":\"no\","
		  "\"headers\":[]"));
	expect_close(fix, 1012);
	end_conversation(fix);
	expect_done(fix);
}

static void
a_lease_that_was_revoked_meanwhile_ends(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	say(fix->vendor, DONE("r1"));
	expect_usage(fix, WIRE_USAGE, 1, 1);
	hang_up(&fix->broker);
	take_resume(fix);
	say(fix->broker, CLOSE);
	wait_for(fix, fix->client);
	(void)recv(fix->client, fix->answer, 65, 0);
	end_conversation(fix);
	expect_usage(fix, WIRE_END, 1, 1);
	say(fix->broker, TAKEN(1));
	expect_done(fix);
}

/* ---- responses that wait ------------------------------------------------- */

#define CREATE "{\"type\":\"response.create\"}"

static void
say_create(struct fixture *fix)
{
	assert_int_equal(send(fix->client, "\x81\x9a\0\0\0\0" CREATE, 6 + 26,
			     MSG_NOSIGNAL),
	    6 + 26);
}

static void
expect_question(struct fixture *fix, int64_t n)
{
	struct wire_packet *packet = receive(fix, WIRE_ASK);

	assert_int_equal(packet->ask.n, n);
	wire_packet_free(packet);
}

static void
expect_passed(struct fixture *fix)
{
	uint8_t got[64];

	wait_for(fix, fix->vendor);
	assert_int_equal(recv(fix->vendor, got, sizeof(got), 0), 6 + 26);
	ws_mask(got + 6, 26, got + 2, 0);
	assert_memory_equal(got + 6, CREATE, 26);
}

static void
expect_error(struct fixture *fix, const char *code)
{
	read_answer(fix);
	/* behind the header of its frame */
	assert_non_null(strstr(fix->answer + 4, code));
}

static void
a_response_waits_for_the_brokers_answer(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;

	reach_reading(fix, BUDGET);
	say_create(fix);
	expect_question(fix, 1);
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":1,\"allowed\":true}");
	expect_passed(fix);
	say(fix->vendor, DONE("r1"));
	packet = receive(fix, WIRE_USAGE);
	expect_event(packet, 0, 1, "r1");
	assert_int_equal(json_integer_value(json_object_get(
			     json_array_get(packet->usage.events, 0), "ask")),
	    1);
	assert_int_equal(packet->usage.asked, 1);
	assert_int_equal(packet->usage.open_count, 0);
	wire_packet_free(packet);
	(void)recv(fix->client, fix->answer, sizeof(fix->answer), 0);
	say_create(fix);
	expect_question(fix, 2);
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":2,\"allowed\":false,"
	    "\"code\":\"budget_spent\",\"message\":\"Nothing left.\"}");
	expect_error(fix, "\"budget_spent\"");
}

static void
a_response_waits_for_a_broker(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;

	reach_reading(fix, BUDGET);
	say_create(fix);
	expect_question(fix, 1);
	come_back(fix);
	packet = receive(fix, WIRE_USAGE);
	assert_int_equal(packet->usage.asked, 1);
	assert_int_equal(packet->usage.open_count, 1);
	wire_packet_free(packet);
	expect_question(fix, 1);
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":1,\"allowed\":true}");
	expect_passed(fix);
}

/* Too late is refused, and the session goes on. */
static void
a_response_does_not_wait_for_ever(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;

	reach_reading(fix, BUDGET);
	say_create(fix);
	expect_question(fix, 1);
	clock_skipped_ms += 14000;
	settle(fix);
	clock_skipped_ms += 1000;
	expect_error(fix, "\"unavailable\"");
	packet = receive(fix, WIRE_USAGE);
	assert_int_equal(packet->usage.asked, 1);
	assert_int_equal(packet->usage.open_count, 0);
	wire_packet_free(packet);
	/* an answer that comes now is nobody's */
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":1,\"allowed\":true}");
	settle(fix);
	go_away(fix);
	say_create(fix);
	settle(fix);
	clock_skipped_ms += 10000;
	expect_error(fix, "\"unavailable\"");
	say_create(fix);
	settle(fix);
	listen_again(fix);
	come_back(fix);
	packet = receive(fix, WIRE_USAGE);
	assert_int_equal(packet->usage.asked, 3);
	wire_packet_free(packet);
	expect_question(fix, 3);
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":3,\"allowed\":true}");
	expect_passed(fix);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(usage_is_told_soon_gathered_and_once),
		TEST(many_events_become_as_many_packets_as_they_need),
		TEST(messages_are_told_of_for_a_log),
		TEST(usage_is_told_again_until_it_is_in_the_ledger),
		TEST(only_what_was_sent_can_be_confirmed),
		TEST(an_end_is_delivered_when_there_is_a_broker),
		TEST(an_end_without_usage_is_kept_until_it_is_taken),
		TEST(an_end_is_given_up_in_the_end),
		TEST(a_refusal_is_delivered_late_as_well),
		TEST(a_lease_that_nobody_takes_up_ends),
		TEST(a_lease_that_was_revoked_meanwhile_ends),
		TEST(a_response_waits_for_the_brokers_answer),
		TEST(a_response_waits_for_a_broker),
		TEST(a_response_does_not_wait_for_ever),
	};

	log_init("test_session", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
