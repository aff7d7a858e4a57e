/* SPDX-License-Identifier: MIT */
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/limits/revocations.h"
#include "broker/signing_key.h"
#include "common/clock.h"
#include "common/secret.h"
#include "common/xalloc.h"
#include "control_peers.h"

/* ---- deciding -------------------------------------------------------------
 */

static sem_t asked; /* posted as it is asked */

/* A store in which a budget is looked up until the test opens the gate. */
static enum err
check_slowly(struct store *store, const struct store_budgets *budgets,
    int64_t now, struct store_budget_state *ret, struct diag *diag)
{
	bool spent = budgets->items[0].max_tokens == 1;

	(void)store;
	(void)sem_post(&asked);
	pass_gate();
	*ret = (struct store_budget_state){ .resets = now + 60 };
	diag_set(diag, "the budget of this day is spent");
	return spent ? ERR_BUDGET : ERR_OK;
}

static const struct store_ops budget_ops = { .check_budgets = check_slowly,
	NOTHING_OVER };
static struct store budget_store = { .ops = &budget_ops };

/* A relay for all of which together there are so many tokens a day. */
static void
use_budget(unsigned tokens)
{
	char *text = xasprintf("plan day { day_tokens = %u }\n"
			       "store { path = \"/nowhere/x.db\" }\n"
			       "relay \"/budget\" {\n"
			       "	upstream = \"ws://127.0.0.1:9001/\"\n"
			       "	plan = day\n"
			       "	max_connections = 1\n"
			       "}\n",
	    tokens);

	reload_with(text);
	free(text);
	store_set_current(&budget_store);
	assert_int_equal(sem_init(&asked, 0, 0), 0);
}

static void
wait_until_asked(void)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PATIENCE_MS / 1000;
	assert_int_equal(sem_clockwait(&asked, CLOCK_MONOTONIC, &until), 0);
}

static void
decides_without_keeping_others_waiting(void **state)
{
	struct world *world = *state;
	int slow, other;

	use_budget(1000);
	start(world);
	close_gate();
	slow = peer(world);
	say(slow, OPEN("/budget"));
	wait_until_asked();
	other = peer(world);
	say(other, OPEN("/free"));
	hear_grant(other);
	open_gate();
	hear_grant(slow);
	(void)close(slow);
	(void)close(other);
	wait_for_no_lease(world);
}

static void
leaves_no_slot_to_who_leaves_while_it_is_decided(void **state)
{
	struct world *world = *state;
	int fd;

	use_budget(1000);
	start(world);
	close_gate();
	fd = peer(world);
	say(fd, OPEN("/budget"));
	wait_until_asked();
	assert_int_equal(count_leases(world), 1);
	(void)close(fd);
	open_gate();
	wait_for_no_lease(world);
	fd = peer(world); /* the only slot is free again */
	say(fd, OPEN("/budget"));
	hear_grant(fd);
	say(fd, END);
	hear_taken(fd);
}

static void
says_when_a_budget_begins_anew(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	int fd;

	use_budget(1);
	start(world);
	for (int i = 0; i < 2; i++) {
		const char *value;

		fd = peer(world);
		say(fd, OPEN("/budget"));
		packet = receive(fd, WIRE_DENY);
		assert_int_equal(packet->deny.status, 429);
		assert_string_equal(packet->deny.code, "budget_spent");
		value = wire_headers_find(&packet->deny.headers, "Retry-After");
		assert_non_null(value);
		assert_in_range(strtol(value, NULL, 10), 58, 60);
		assert_non_null(
		    wire_headers_find(&packet->deny.headers, "RateLimit"));
		wire_packet_free(packet);
		(void)close(fd);
	}
	assert_int_equal(count_leases(world), 0);
}

/* ---- leases of before -----------------------------------------------------
 */

/* Open a tunnel: what it shows to take its lease up again; the caller's. */
static char *
open_tunnel(int fd, const char *open, char lease[33])
{
	struct wire_packet *packet;
	char *resume;

	say(fd, open);
	packet = receive(fd, WIRE_GRANT);
	assert_non_null(packet->grant.resume);
	resume = xstrdup(packet->grant.resume);
	(void)snprintf(lease, 33, "%s", packet->grant.lease);
	wire_packet_free(packet);
	return resume;
}

static void
say_resume(int fd, const char *resume)
{
	char *text = xasprintf("{\"v\":1,\"type\":\"resume\",\"resume\":\"%s\","
			       "\"elapsed_ms\":1000}",
	    resume);

	say(fd, text);
	free(text);
}

static void
hear_resumed(int fd)
{
	struct wire_packet *packet = receive(fd, WIRE_RESUMED);

	assert_true(packet->limits.pong_ms > 0);
	wire_packet_free(packet);
}

static void
use_key(const char *key)
{
	struct secret *secret = secret_new(key, 32, "the test");

	assert_int_equal(signing_key_init(secret, NULL, 0, NULL), ERR_OK);
	secret_free(secret);
}

static void
takes_up_the_lease_of_a_broker_before(void **state)
{
	struct world *world = *state;
	char lease[33], *resume;
	int fd, other;

	use_key("0123456789abcdef0123456789abcdef");
	start(world);
	fd = peer(world);
	/* as many as there may be */
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	control_server_stop();
	hear_end(fd);

	start(world);
	fd = peer(world);
	say_resume(fd, resume);
	hear_resumed(fd);
	assert_int_equal(count_leases(world), 1);
	other = peer(world);
	say(other, OPEN("/echo"));
	hear_deny(other, 429);
	(void)close(other);
	say(fd, USAGE);
	say(fd, END);
	hear_taken(fd);
	assert_int_equal(count_leases(world), 0);
	free(resume);
}

static void
takes_up_no_lease_twice_unless_its_peer_is_gone(void **state)
{
	struct world *world = *state;
	char lease[33], *resume;
	int fd, other;

	use_key("0123456789abcdef0123456789abcdef");
	start(world);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	other = peer(world);
	say_resume(other, resume);
	hear_deny(other, 409);
	(void)close(other);
	for (int i = 0; i < 20; i++) {
		other = peer(world);
		(void)close(fd); /* and at once */
		say_resume(other, resume);
		hear_resumed(other);
		assert_int_equal(count_leases(world), 1);
		fd = other;
	}
	say(fd, END);
	hear_taken(fd);
	free(resume);
}

static void
takes_up_nothing_that_it_has_not_signed(void **state)
{
	static const char *const texts[] = { "x", "a.b.c",
		"eyJhbGciOiJub25lIn0.eyJsZWFzZSI6IjEifQ." };
	struct world *world = *state;
	char lease[33], *resume;
	int fd;

	use_key("0123456789abcdef0123456789abcdef");
	start(world);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/free"), lease);
	(void)close(fd);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		fd = peer(world);
		say_resume(fd, texts[i]);
		hear_deny(fd, 401);
		(void)close(fd);
	}
	control_server_stop();
	signing_key_done();
	use_key("another key, of another broker..");
	start(world);
	fd = peer(world);
	say_resume(fd, resume);
	hear_deny(fd, 401);
	(void)close(fd);
	free(resume);
}

/* It ends, and what it has kept takes up nothing any more. */
static void
end_and_come_back(const struct world *world, int fd, const char *resume)
{
	say(fd, END);
	hear_taken(fd);
	fd = peer(world);
	say_resume(fd, resume);
	hear_deny(fd, 403);
	(void)close(fd);
}

static void
takes_up_nothing_that_is_over(void **state)
{
	struct world *world = *state;
	struct store *store = open_store(world);
	char lease[33], *resume;
	int fd;

	use_key("0123456789abcdef0123456789abcdef");
	store_set_current(store);
	start(world);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	/* lost, and taken up: it may be */
	(void)close(fd);
	fd = peer(world);
	say_resume(fd, resume);
	hear_resumed(fd);
	end_and_come_back(world, fd, resume);
	assert_int_equal(count_leases(world), 0);

	control_server_stop(); /* the next one knows it, too */
	start(world);
	fd = peer(world);
	say_resume(fd, resume);
	hear_deny(fd, 403);
	(void)close(fd);
	free(resume);
	/* and so it is without a store, for as long as this one runs */
	control_server_stop();
	store_set_current(NULL);
	close_store(world, store);
	start(world);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	end_and_come_back(world, fd, resume);
	free(resume);
}

static void
drops_a_tunnel_that_outstays_its_time(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	char lease[33], *resume;
	int64_t start_ms;
	int tunnel;

	use_key("0123456789abcdef0123456789abcdef");
	reload("max_connections = 1",
	    "max_connections = 1\nlifetime = 1\nconnect_timeout = 1");
	start_with(world,
	    (struct control_server_options){ .overdue_ms = 100,
		.closing_ms = 100 });
	tunnel = peer(world);
	start_ms = clock_ms();
	resume = open_tunnel(tunnel, OPEN("/echo"), lease);
	packet = receive(tunnel, WIRE_CLOSE);
	assert_true(clock_ms() - start_ms >= 2100);
	assert_int_equal(packet->close.code, 4200);
	wire_packet_free(packet);
	hear_end(tunnel);
	wait_for_no_lease(world);
	tunnel = peer(world);
	say_resume(tunnel, resume);
	hear_deny(tunnel, 403);
	(void)close(tunnel);
	free(resume);
}

static void
drops_a_tunnel_that_is_told_to_end_and_does_not(void **state)
{
	struct world *world = *state;
	char lease[33], *resume;
	int tunnel, admin;

	use_key("0123456789abcdef0123456789abcdef");
	start_with(world,
	    (struct control_server_options){ .closing_ms = 100,
		.ended_ms = 100 });
	tunnel = peer(world);
	resume = open_tunnel(tunnel, OPEN("/echo"), lease);
	admin = peer(world);
	say(admin, REVOKE("route", "/echo"));
	json_decref(hear_reply(admin));
	(void)close(admin);
	hear_close(tunnel, "revoked");
	hear_end(tunnel);
	tunnel = peer(world);
	say_resume(tunnel, resume);
	hear_deny(tunnel, 403);
	(void)close(tunnel);
	free(resume);
}

/* They came while nobody accepted, as after a restart. */
static void
takes_up_hundreds_at_once(void **state)
{
	enum {
		MANY = 1000
	};
	struct world *world = *state;
	char lease[33], *resumes[MANY];
	int fds[MANY];

	use_key("0123456789abcdef0123456789abcdef");
	start(world);
	for (int i = 0; i < MANY; i++) {
		fds[i] = peer(world);
		resumes[i] = open_tunnel(fds[i], OPEN("/free"), lease);
	}
	control_server_stop();
	for (int i = 0; i < MANY; i++) {
		hear_end(fds[i]);
		fds[i] = peer(world);
		say_resume(fds[i], resumes[i]);
	}
	start(world);
	for (int i = 0; i < MANY; i++) {
		hear_resumed(fds[i]);
		free(resumes[i]);
	}
	assert_int_equal(count_leases(world), MANY);
	for (int i = 0; i < MANY; i++)
		(void)close(fds[i]);
	wait_for_no_lease(world);
}

/* Which is not read again while a test runs. */
static enum err
list_revocations_slowly(struct store *store, int64_t now,
    struct store_revocations *ret, struct diag *diag)
{
	pass_gate();
	return list_no_revocations(store, now, ret, diag);
}

static const struct store_ops unread_ops = {
	.list_revocations = list_revocations_slowly,
	.list_lease_ends = list_no_ends,
	.end_leases = end_no_leases,
};
static struct store unread_store = { .ops = &unread_ops };

static void
closes_at_once_what_was_revoked_while_it_was_away(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	char lease[33], *resume;
	int64_t now = time(NULL);
	int fd;

	use_key("0123456789abcdef0123456789abcdef");
	start(world);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	control_server_stop();
	hear_end(fd);

	assert_int_equal(revocations_add("route", "/echo", now, now + 60, NULL),
	    ERR_OK);
	close_gate();
	store_set_current(&unread_store);
	start(world);
	fd = peer(world);
	say_resume(fd, resume);
	hear_resumed(fd);
	packet = receive(fd, WIRE_CLOSE);
	assert_int_equal(packet->close.code, 4001);
	wire_packet_free(packet);
	/* and what it has to report is taken */
	say(fd, END);
	hear_taken(fd);
	open_gate();
	control_server_stop();
	store_set_current(NULL);
	free(resume);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(decides_without_keeping_others_waiting),
		SERVER_TEST(leaves_no_slot_to_who_leaves_while_it_is_decided),
		SERVER_TEST(says_when_a_budget_begins_anew),
		SERVER_TEST(takes_up_the_lease_of_a_broker_before),
		SERVER_TEST(takes_up_no_lease_twice_unless_its_peer_is_gone),
		SERVER_TEST(takes_up_nothing_that_it_has_not_signed),
		SERVER_TEST(takes_up_nothing_that_is_over),
		SERVER_TEST(drops_a_tunnel_that_outstays_its_time),
		SERVER_TEST(drops_a_tunnel_that_is_told_to_end_and_does_not),
		SERVER_TEST(takes_up_hundreds_at_once),
		SERVER_TEST(closes_at_once_what_was_revoked_while_it_was_away),
	};

	return cmocka_run_group_tests_name("control_tunnel", tests, make_world,
	    end_world);
}
