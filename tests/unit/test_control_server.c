/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/store/ledger.h"
#include "common/log.h"
#include "common/xalloc.h"
#include "control_peers.h"

/* ---- a lease, from its beginning to its end -------------------------------
 */

static void
grants_leases_and_lists_them(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	json_int_t bytes;
	int one;

	start(world);
	one = peer(world);
	say(one, OPEN("/echo"));
	packet = receive(one, WIRE_GRANT);
	assert_string_equal(packet->grant.upstream.addresses[0], "127.0.0.1");
	assert_string_equal(packet->grant.upstream.target, "/echo");
	say(one, USAGE);

	do {
		json_t *list = list_leases(world);
		const json_t *lease =
		    json_array_get(json_object_get(list, "leases"), 0);

		assert_string_equal(json_string_value(
					json_object_get(lease, "id")),
		    packet->grant.lease);
		bytes = json_integer_value(
		    json_object_get(json_object_get(lease, "from_upstream"),
			"bytes"));
		json_decref(list);
	} while (bytes != 4);
	wire_packet_free(packet);
	(void)close(one);
}

static void
passes_one_end_of_a_socket_whose_other_is_engine_ios(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	int one, two, passed, opened;
	char text[8];

	start(world);
	one = peer(world);
	say(one, OPEN("/socket.io/?EIO=4"));
	passed = hear_passed(one);
	opened = take_opened();
	assert_int_not_equal(opened, -1);
	assert_true((fcntl(opened, F_GETFL) & O_NONBLOCK) != 0);
	assert_int_equal(send(opened, "hi", 2, 0), 2);
	assert_int_equal(recv(passed, text, sizeof(text), 0), 2);
	assert_int_equal(count_leases(world), 1);
	say(one, USAGE);
	/* as many as there may be sessions */
	two = peer(world);
	say(two, OPEN("/socket.io/?EIO=4"));
	hear_deny(two, 429);
	(void)close(two);
	/* nobody else has the passed end */
	(void)close(passed);
	assert_int_equal(recv(opened, text, sizeof(text), 0), 0);
	(void)close(opened);
	say(one, END);
	hear_taken(one);

	one = peer(world);
	say(one, OPEN("/socket.io/?EIO=4&sid=x"));
	packet = receive(one, WIRE_DENY);
	assert_int_equal(packet->deny.status, 400);
	assert_int_equal(json_integer_value(
			     json_object_get(packet->deny.body, "code")),
	    1);
	wire_packet_free(packet);
	(void)close(one);
	assert_int_equal(take_opened(), -1);
	assert_int_equal(count_leases(world), 0);
}

static void
answers_a_report_with_limits_that_have_changed(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	int fd;

	start(world);
	fd = peer(world);
	say(fd, OPEN("/echo"));
	hear_grant(fd);
	say(fd, USAGE);
	reload("max_connections = 1", "lifetime = 7");
	say(fd, USAGE);
	say(fd, USAGE);
	packet = receive(fd, WIRE_LIMITS);
	assert_int_equal(packet->limits.lifetime_ms, 7000);
	wire_packet_free(packet);
	/* once, and none where the relay is there no more */
	reload("relay \"/echo\"", "relay \"/other\"");
	say(fd, USAGE);
	say(fd, END);
	hear_taken(fd);
	reload("", "");
}

/* What the ledger has once it has been stopped. */
static void
assert_usage(struct store *store, uint64_t events, uint64_t tokens)
{
	struct store_sums sums;
	struct diag diag;

	assert_int_equal(store->ops->sum_usage(store, 0, INT64_MAX, &sums,
			     &diag),
	    ERR_OK);
	assert_int_equal(sums.count, 1);
	assert_string_equal(sums.items[0].route, "/echo");
	assert_int_equal(sums.items[0].events, events);
	assert_int_equal(sums.items[0].total_tokens, tokens);
	store_sums_done(&sums);
}

static void
keeps_what_a_tunnel_reported_before_it_died(void **state)
{
	struct world *world = *state;
	struct store *store = open_store(world);
	struct diag diag;
	int fd;

	assert_int_equal(ledger_start(store, &ledger_defaults, &diag), ERR_OK);
	start(world);
	fd = peer(world);
	say(fd, OPEN("/echo"));
	hear_grant(fd);
	say(fd, USAGE_OF(EVENT(1, 10)));
	say(fd, USAGE);
	/* one that comes again is not booked twice, whatever it says now */
	say(fd, USAGE_OF(EVENT(1, 99) "," EVENT(2, 20)));
	say(fd, USAGE_OF("{\"n\":\"none\"}"));
	(void)close(fd);
	wait_for_no_lease(world);
	fd = peer(world);
	say(fd, OPEN("/echo"));
	hear_grant(fd);
	say(fd, USAGE_OF(EVENT(1, 300)));
	say(fd, END_OF(EVENT(1, 300) "," EVENT(2, 4000)));
	hear_acks(fd, 2);
	control_server_stop();
	ledger_stop();
	assert_usage(store, 4, 4330);
	close_store(world, store);
}

/* Nobody else can have what it holds, for ever. */
static void
drops_a_tunnel_of_which_nothing_can_be_booked(void **state)
{
	struct world *world = *state;
	struct store *store = open_store(world);
	struct diag diag;
	int fd;

	assert_int_equal(ledger_start(store, &ledger_defaults, &diag), ERR_OK);
	start_with(world,
	    (struct control_server_options){ .closing_ms = 100,
		.ended_ms = 100 });
	fd = peer(world);
	say(fd, OPEN("/echo"));
	hear_grant(fd);
	say(fd,
	    END_OF("{\"n\":7,\"type\":\"response.done\",\"id\":\"r\","
		   "\"usage\":7}"));
	hear_end(fd);
	control_server_stop();
	ledger_stop();
	close_store(world, store);
}

static void
hears_nothing_of_a_tunnel_that_has_ended(void **state)
{
	static const char *const cases[] = { USAGE, END,
		"{\"v\":1,\"type\":\"ask\",\"n\":1}" };
	struct world *world = *state;

	start(world);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = peer(world);

		say(fd, OPEN("/echo"));
		hear_grant(fd);
		say(fd, END);
		(void)send(fd, cases[i], strlen(cases[i]), MSG_NOSIGNAL);
		for (struct wire_packet *packet; (packet = hear(fd)) != NULL;)
			wire_packet_free(packet);
		(void)close(fd);
	}
}

static void
frees_the_lease_when_the_tunnel_says_so(void **state)
{
	struct world *world = *state;
	int one, two;

	start(world);
	one = peer(world);
	say(one, OPEN("/echo"));
	hear_grant(one);
	two = peer(world);
	say(two, OPEN("/echo"));
	hear_deny(two, 429);
	(void)close(two);
	say(one, END);
	hear_taken(one);
	two = peer(world);
	say(two, OPEN("/echo"));
	hear_grant(two);
	(void)close(two);
}

static void
frees_the_lease_of_a_tunnel_that_vanishes(void **state)
{
	struct world *world = *state;
	int one, two;

	start(world);
	one = peer(world);
	say(one, OPEN("/echo"));
	hear_grant(one);
	assert_int_equal(count_leases(world), 1);
	(void)close(one);
	wait_for_no_lease(world);
	two = peer(world);
	say(two, OPEN("/echo"));
	hear_grant(two);
	(void)close(two);
}

static void
answers_every_refusal_and_serves_no_second_request(void **state)
{
	struct world *world = *state;
	int fd;

	start(world);
	fd = peer(world);
	say(fd, OPEN("/unknown"));
	hear_deny(fd, 404);
	say(fd, OPEN("/free"));
	hear_end(fd);
	fd = peer(world);
	say(fd, OPEN("/..//"));
	hear_deny(fd, 400);
	(void)close(fd);
}

static void
waits_for_a_name_without_keeping_others_waiting(void **state)
{
	struct world *world = *state;
	int hanging, gone, numeric, named;

	close_gate();
	start_with(world, (struct control_server_options){ .lookup_ms = 1000 });
	hanging = peer(world);
	say(hanging, OPEN("/hang"));
	gone = peer(world);
	say(gone, OPEN("/hang"));
	(void)close(gone);
	numeric = peer(world);
	say(numeric, OPEN("/free"));
	hear_grant(numeric);
	named = peer(world);
	say(named, OPEN("/named"));
	hear_grant(named);
	hear_deny(hanging, 504);
	open_gate();
	assert_int_equal(count_leases(world), 2);
	(void)close(hanging);
	(void)close(numeric);
	(void)close(named);
}

static void
lets_everybody_go_when_it_stops(void **state)
{
	struct world *world = *state;
	int leased, waiting;

	start(world);
	leased = peer(world);
	say(leased, OPEN("/echo"));
	hear_grant(leased);
	waiting = peer(world);
	assert_int_equal(count_leases(world), 1);
	control_server_stop();
	control_server_stop();
	hear_end(leased);
	hear_end(waiting);
	start(world);
	assert_int_equal(count_leases(world), 0);
}

/* ---- what peers may say ---------------------------------------------------
 */

static void
drops_a_peer_that_sends_rubbish(void **state)
{
	static const char *const cases[] = {
		"x",
		"{}",
		"[]",
		"{\"v\":2,\"type\":\"list\"}",
		"{\"v\":1,\"type\":\"open\"}",
		USAGE,
		END,
		"{\"v\":1,\"type\":\"close\",\"code\":1000,\"reason\":\"\"}",
		"{\"v\":1,\"type\":\"reply\",\"value\":1}",
	};
	struct world *world = *state;
	char *large = xcalloc(1, WIRE_MAX_BYTES + 1);
	int fd;

	start(world);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fd = peer(world);
		say(fd, cases[i]);
		hear_end(fd);
	}
	fd = peer(world);
	assert_int_equal(send(fd, "", 0, MSG_NOSIGNAL), 0);
	hear_end(fd);

	memset(large, ' ', WIRE_MAX_BYTES + 1);
	memcpy(large, LIST, sizeof(LIST) - 1);
	fd = peer(world);
	assert_int_equal(send(fd, large, WIRE_MAX_BYTES, MSG_NOSIGNAL),
	    WIRE_MAX_BYTES);
	wire_packet_free(hear(fd));
	assert_int_equal(send(fd, large, WIRE_MAX_BYTES + 1, MSG_NOSIGNAL),
	    WIRE_MAX_BYTES + 1);
	hear_end(fd);
	free(large);
}

/* Whether a line says that others were left out. */
static bool
says_omitted(const char *text)
{
	while ((text = strstr(text, "omitted=")) != NULL) {
		text += strlen("omitted=");
		if (*text > '0' && *text <= '9')
			return true;
	}
	return false;
}

static void
fills_no_log_with_who_sends_rubbish(void **state)
{
	struct world *world = *state;
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), log[2];
	static char text[65536];
	int lines = 0, sent = 0;
	size_t len = 0;
	ssize_t n;

	assert_int_equal(pipe2(log, O_CLOEXEC | O_NONBLOCK), 0);
	log_init("test_control", LOG_LEVEL_WARNING);
	assert_int_not_equal(dup2(log[1], STDERR_FILENO), -1);
	start(world);
	while (sent < 300 || (!says_omitted(text) && sent < 20000)) {
		int fd = peer(world);

		say(fd, "x");
		hear_end(fd);
		sent++;
		n = read(log[0], text + len, sizeof(text) - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	control_server_stop();
	(void)dup2(saved, STDERR_FILENO);
	log_init("test_control", LOG_LEVEL_ERROR);
	for (char *at = text; (at = strstr(at, "control.dropped")) != NULL;
	     at++)
		lines++;
	assert_in_range(lines, 1, sent / 2);
	(void)close(saved);
	(void)close(log[0]);
	(void)close(log[1]);
}

static void
drops_a_tunnel_that_says_what_it_may_not(void **state)
{
	static const char *const cases[] = { OPEN("/free"), LIST, REPORT, "x" };
	struct world *world = *state;

	start(world);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = peer(world);

		say(fd, OPEN("/free"));
		hear_grant(fd);
		say(fd, cases[i]);
		hear_end(fd);
	}
	assert_int_equal(count_leases(world), 0);
}

static void
drops_a_peer_that_floods(void **state)
{
	struct world *world = *state;
	int sent = 0, fd;

	start(world);
	fd = peer(world);
	say(fd, OPEN("/free"));
	hear_grant(fd);
	while (
	    sent < 10000 && send(fd, USAGE, strlen(USAGE), MSG_NOSIGNAL) != -1)
		sent++;
	assert_true(sent < 10000);
	hear_end(fd);
	assert_int_equal(count_leases(world), 0);
}

/* Each report is within bounds, and there are not too many of them. */
static void
drops_a_tunnel_that_reports_more_than_a_vendor_makes(void **state)
{
	struct world *world = *state;
	char *events = xstrdup(EVENT(1, 1)), *text;
	int fd, sent = 0;

	for (int i = 1; i < WIRE_EVENTS_MAX; i++) {
		text = xasprintf("%s,%s", events, EVENT(1, 1));
		free(events);
		events = text;
	}
	text = xasprintf(USAGE_OF("%s"), events);
	start(world);
	fd = peer(world);
	say(fd, OPEN("/free"));
	hear_grant(fd);
	/* of each second what is no flood of packets */
	while (sent < 80 && send(fd, text, strlen(text), MSG_NOSIGNAL) != -1)
		if (++sent == 40)
			(void)poll(NULL, 0, 1010);
	for (struct wire_packet *packet; (packet = hear(fd)) != NULL;)
		wire_packet_free(packet);
	(void)close(fd);
	assert_in_range(sent, 64, 80);
	free(events);
	free(text);
}

static void
drops_a_peer_that_says_nothing(void **state)
{
	struct world *world = *state;
	int silent, denied, leased;
	struct pollfd pfd;

	start_with(world, (struct control_server_options){ .silence_ms = 500 });
	leased = peer(world);
	say(leased, OPEN("/free"));
	hear_grant(leased);
	denied = peer(world);
	say(denied, OPEN("/unknown"));
	hear_deny(denied, 404);
	silent = peer(world);
	hear_end(silent);
	hear_end(denied);
	/* a tunnel may be quiet as long as it likes */
	pfd = (struct pollfd){ .fd = leased, .events = POLLIN };
	assert_int_equal(poll(&pfd, 1, 100), 0);
	say(leased, END);
	hear_taken(leased);
}

static void
drops_a_peer_that_talks_while_it_waits(void **state)
{
	struct world *world = *state;
	int fd;

	close_gate();
	start(world);
	fd = peer(world);
	say(fd, OPEN("/hang"));
	say(fd, OPEN("/free"));
	hear_end(fd);
	open_gate();
}

/* ---- who is let in --------------------------------------------------------
 */

static int64_t
cpu_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
pauses_without_spinning_when_descriptors_run_out(void **state)
{
	struct world *world = *state;
	struct rlimit old, few;
	struct pollfd pfd;
	int held[64], count = 0;
	int64_t before_ms;

	start(world);
	pfd = (struct pollfd){ .fd = new_peer(), .events = POLLIN };
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = (rlim_t)pfd.fd + 32;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (count < 64 && (held[count] = dup(world->listen_fd)) != -1)
		count++;
	assert_true(count < 64);

	assert_int_equal(connect_peer(world, pfd.fd), 0);
	say(pfd.fd, OPEN("/free"));
	before_ms = cpu_ms();
	assert_int_equal(poll(&pfd, 1, 300), 0);
	assert_true(cpu_ms() - before_ms < 100);

	while (count > 0)
		(void)close(held[--count]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	hear_grant(pfd.fd);
	(void)close(pfd.fd);
}

static void
serves_more_at_once_than_it_lets_wait(void **state)
{
	struct world *world = *state;
	struct pollfd pfd;
	int64_t before_ms;
	int peers[300];

	start(world);
	for (int i = 0; i < 300; i++)
		peers[i] = peer(world);
	/* the last ones are not accepted yet */
	say(peers[299], OPEN("/free"));
	pfd = (struct pollfd){ .fd = peers[299], .events = POLLIN };
	before_ms = cpu_ms();
	assert_int_equal(poll(&pfd, 1, 200), 0);
	assert_true(cpu_ms() - before_ms < 100);
	for (int i = 0; i < 299; i++)
		say(peers[i], OPEN("/free"));
	for (int i = 0; i < 300; i++) {
		hear_grant(peers[i]);
		(void)close(peers[i]);
	}
}

/* Connections of a tunnel's user, as many as that; each says `text'. */
static void
crowd(const struct world *world, int *fds, int count, const char *text)
{
	/* of this thread alone: seteuid() would be the server's, too */
	assert_int_equal(syscall(SYS_setresuid, -1, NOBODY, -1), 0);
	for (int i = 0; i < count; i++) {
		fds[i] = peer(world);
		if (text != NULL)
			say(fds[i], text);
	}
	assert_int_equal(syscall(SYS_setresuid, -1, 0, -1), 0);
}

static void
lets_in_who_asks_while_others_say_nothing(void **state)
{
	struct world *world = *state;
	int silent[600], tunnel;

	if (geteuid() != 0)
		return;
	start_with(world,
	    (struct control_server_options){
		.silence_ms = (int64_t)10 * PATIENCE_MS });
	crowd(world, silent, 600, NULL);
	assert_int_equal(count_leases(world), 0);
	crowd(world, &tunnel, 1, OPEN("/free"));
	hear_grant(tunnel);
	assert_int_equal(count_leases(world), 1);
	say(tunnel, END);
	hear_taken(tunnel);
	/* the oldest had to go, and the youngest are there */
	hear_end(silent[0]);
	say(silent[599], OPEN("/free"));
	hear_grant(silent[599]);
	for (int i = 1; i < 600; i++)
		(void)close(silent[i]);
}

static void
lets_in_operators_while_hundreds_are_decided_on(void **state)
{
	struct world *world = *state;
	int asking[256], tunnel;

	if (geteuid() != 0)
		return;
	close_gate();
	start_with(world,
	    (struct control_server_options){ .lookup_ms =
						 (int64_t)10 * PATIENCE_MS,
		.silence_ms = (int64_t)10 * PATIENCE_MS });
	crowd(world, asking, 256, OPEN("/hang"));
	crowd(world, &tunnel, 1, OPEN("/free"));
	assert_int_equal(count_leases(world), 0);
	hear_end(tunnel);
	open_gate();
	for (int i = 0; i < 256; i++) {
		hear_grant(asking[i]);
		(void)close(asking[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(pauses_without_spinning_when_descriptors_run_out),
		SERVER_TEST(grants_leases_and_lists_them),
		SERVER_TEST(
		    passes_one_end_of_a_socket_whose_other_is_engine_ios),
		SERVER_TEST(answers_a_report_with_limits_that_have_changed),
		SERVER_TEST(keeps_what_a_tunnel_reported_before_it_died),
		SERVER_TEST(drops_a_tunnel_of_which_nothing_can_be_booked),
		SERVER_TEST(hears_nothing_of_a_tunnel_that_has_ended),
		SERVER_TEST(frees_the_lease_when_the_tunnel_says_so),
		SERVER_TEST(frees_the_lease_of_a_tunnel_that_vanishes),
		SERVER_TEST(answers_every_refusal_and_serves_no_second_request),
		SERVER_TEST(waits_for_a_name_without_keeping_others_waiting),
		SERVER_TEST(lets_everybody_go_when_it_stops),
		SERVER_TEST(drops_a_peer_that_sends_rubbish),
		SERVER_TEST(fills_no_log_with_who_sends_rubbish),
		SERVER_TEST(drops_a_tunnel_that_says_what_it_may_not),
		SERVER_TEST(drops_a_peer_that_floods),
		SERVER_TEST(
		    drops_a_tunnel_that_reports_more_than_a_vendor_makes),
		SERVER_TEST(drops_a_peer_that_says_nothing),
		SERVER_TEST(drops_a_peer_that_talks_while_it_waits),
		SERVER_TEST(serves_more_at_once_than_it_lets_wait),
		SERVER_TEST(lets_in_who_asks_while_others_say_nothing),
		SERVER_TEST(lets_in_operators_while_hundreds_are_decided_on),
	};

	return cmocka_run_group_tests_name("control_server", tests, make_world,
	    end_world);
}
