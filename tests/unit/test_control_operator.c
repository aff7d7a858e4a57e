/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/chat/notify.h"
#include "broker/tunnels/control_questions.h"
#include "common/xalloc.h"
#include "control_peers.h"

/* ---- reports --------------------------------------------------------------
 */

/* A store that answers when the test opens the gate. */
static enum err
sum_slowly(struct store *store, int64_t from, int64_t to,
    struct store_sums *ret, struct diag *diag)
{
	(void)store;
	(void)diag;
	assert_int_equal(from, 0);
	assert_int_equal(to, 32503680000); /* 3000-01-01 */
	pass_gate();
	*ret = (struct store_sums){ .items = xcalloc(1, sizeof(ret->items[0])),
		.count = 1 };
	*ret->items = (struct store_sum){ .day = xstrdup("2026-01-01"),
		.route = xstrdup("openai"),
		.user = xstrdup(""),
		.model = xstrdup(""),
		.events = 7 };
	return ERR_OK;
}

static const struct store_ops slow_ops = { .sum_usage = sum_slowly,
	NOTHING_OVER };
static struct store slow_store = { .ops = &slow_ops };

static void
assert_reported(json_t *value)
{
	const json_t *row = json_array_get(json_object_get(value, "rows"), 0);

	assert_string_equal(json_string_value(json_object_get(row, "route")),
	    "openai");
	assert_int_equal(json_integer_value(json_object_get(row, "events")), 7);
	json_decref(value);
}

static void
assert_refused(json_t *value, const char *reason)
{
	const char *text = json_string_value(
	    json_object_get(json_object_get(value, "error"), "message"));

	assert_non_null(text);
	assert_non_null(strstr(text, reason));
	json_decref(value);
}

static void
answers_nothing_without_a_store(void **state)
{
	struct world *world = *state;
	int one;

	start(world);
	one = peer(world);
	say(one, REPORT);
	assert_refused(hear_reply(one), "there is no `store'");
	say(one, TOP_UP("-0.5"));
	assert_refused(hear_reply(one), "there is no `store'");
	(void)close(one);
}

static void
reports_without_keeping_others_waiting(void **state)
{
	struct world *world = *state;
	int one, two, left, tunnel;

	/* a report may take longer than a peer may be silent */
	store_set_current(&slow_store);
	start_with(world,
	    (struct control_server_options){ .silence_ms = 1000 });
	close_gate();
	one = peer(world);
	say(one, REPORT);
	two = peer(world);
	say(two, REPORT);
	assert_refused(hear_reply(two), "another report");
	tunnel = peer(world);
	say(tunnel, OPEN("/free"));
	hear_grant(tunnel);
	hear_end(two); /* silent for too long: the first one was not */
	open_gate();
	assert_reported(hear_reply(one));
	say(one, REPORT);
	assert_reported(hear_reply(one));
	/* who does not wait for the answer leaves the next one free */
	close_gate();
	say(one, REPORT);
	left = peer(world);
	say(left, REPORT);
	assert_refused(hear_reply(left), "another report");
	(void)close(left);
	(void)close(one);
	(void)count_leases(world); /* it has seen that it left */
	open_gate();
	do {
		json_t *value;

		one = peer(world);
		say(one, REPORT);
		value = hear_reply(one);
		if (json_object_get(value, "error") == NULL) {
			assert_reported(value);
			break;
		}
		json_decref(value);
		(void)close(one);
	} while (true);
	(void)close(one);
	(void)close(tunnel);
}

static void
outlives_who_leaves_as_its_report_comes(void **state)
{
	struct world *world = *state;

	store_set_current(&slow_store);
	start(world);
	for (int i = 0; i < 2000; i++) {
		int fd = peer(world);

		say(fd, REPORT);
		/* so that it leaves before, at, and after that moment */
		for (int k = i % 6; k > 0; k--)
			(void)close(peer(world));
		(void)close(fd);
	}
	assert_int_equal(count_leases(world), 0);
}

/* ---- accounts -------------------------------------------------------------
 */

/* A store that knows one account, and is as slow. */
static enum err
get_account_slowly(struct store *store, const char *user,
    struct store_account *ret, struct diag *diag)
{
	(void)store;
	(void)diag;
	assert_string_equal(user, "ann");
	pass_gate();
	*ret = (struct store_account){ .balance = 4500000, .reserved = 1 };
	return ERR_OK;
}

static enum err
top_up_once(struct store *store, const struct store_top_up *in,
    struct store_account *ret, struct diag *diag)
{
	(void)store;
	assert_string_equal(in->user, "ann");
	assert_string_equal(in->id, "one");
	if (in->amount != -500000) {
		diag_set(diag, "this id was used for another top-up");
		return ERR_MISMATCH;
	}
	*ret = (struct store_account){ .balance = 4500000 };
	return ERR_OK;
}

static const struct store_ops account_ops = {
	.sum_usage = sum_slowly,
	NOTHING_OVER,
	.get_account = get_account_slowly,
	.top_up = top_up_once,
};
static struct store account_store = { .ops = &account_ops };

static _Atomic unsigned told;

static void
tell_usage(const char *owner)
{
	assert_string_equal(owner, "u:ann");
	told++;
}

static const struct notify_sink sink = { .usage = tell_usage };

static void
assert_account(json_t *value, const char *balance, const char *id)
{
	const char *text = json_string_value(json_object_get(value, "balance"));

	assert_non_null(text);
	assert_string_equal(text, balance);
	text = json_string_value(json_object_get(value, "id"));
	if (id == NULL)
		assert_null(text);
	else
		assert_string_equal(text, id);
	assert_int_equal(json_integer_value(
			     json_object_get(value, "balance_micro")),
	    4500000);
	json_decref(value);
}

static void
tops_up_and_tells_who_listens(void **state)
{
	struct world *world = *state;
	int one;

	store_set_current(&account_store);
	notify_set_sink(&sink);
	start(world);
	one = peer(world);
	say(one, TOP_UP("-0.5"));
	assert_account(hear_reply(one), "4.500000", "one");
	assert_int_equal(told, 1);
	say(one, TOP_UP("0.5"));
	assert_refused(hear_reply(one), "another top-up");
	say(one, TOP_UP("1000000.1"));
	assert_refused(hear_reply(one), "at most a million");
	say(one, TOP_UP("-9999999"));
	assert_refused(hear_reply(one), "at most a million");
	assert_int_equal(told, 1);
	say(one, BALANCE);
	assert_account(hear_reply(one), "4.500000", NULL);
	(void)close(one);
}

static void
answers_about_accounts_while_others_are_asked(void **state)
{
	struct world *world = *state;
	int askers[CONTROL_QUESTIONS_MAX], one, tunnel;

	store_set_current(&account_store);
	start(world);
	close_gate();
	for (int i = 0; i < CONTROL_QUESTIONS_MAX - 1; i++) {
		askers[i] = peer(world);
		say(askers[i], i == 0 ? REPORT : BALANCE);
	}
	one = peer(world);
	say(one, TOP_UP("-0.5")); /* which does not wait for them */
	assert_account(hear_reply(one), "4.500000", "one");
	say(one, BALANCE);
	tunnel = peer(world);
	say(tunnel, OPEN("/free"));
	hear_grant(tunnel);
	askers[CONTROL_QUESTIONS_MAX - 1] = peer(world);
	say(askers[CONTROL_QUESTIONS_MAX - 1], TOP_UP("-0.5"));
	assert_refused(hear_reply(askers[CONTROL_QUESTIONS_MAX - 1]),
	    "too much is asked");
	(void)close(askers[1]); /* and does not wait for its answer */
	open_gate();
	assert_account(hear_reply(one), "4.500000", NULL);
	assert_reported(hear_reply(askers[0]));
	for (int i = 2; i < CONTROL_QUESTIONS_MAX - 1; i++)
		assert_account(hear_reply(askers[i]), "4.500000", NULL);
	for (int i = 0; i < CONTROL_QUESTIONS_MAX; i++)
		if (i != 1)
			(void)close(askers[i]);
	(void)close(one);
	(void)close(tunnel);
}

/* ---- orders to tunnels ----------------------------------------------------
 */

static void
tells_a_tunnel_that_the_operator_ends_it(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	json_t *reply;
	int one, admin;
	char *order;

	start(world);
	one = peer(world);
	say(one, OPEN("/echo"));
	packet = receive(one, WIRE_GRANT);
	order = xasprintf("{\"v\":1,\"type\":\"close\",\"code\":4001,"
			  "\"reason\":\"go\",\"lease\":\"%s\"}",
	    packet->grant.lease);
	wire_packet_free(packet);
	admin = peer(world);
	say(admin, order);
	free(order);
	reply = hear_reply(admin);
	assert_true(json_is_true(json_object_get(reply, "closed")));
	json_decref(reply);
	hear_close(one, "go");
	say(one, END);
	hear_taken(one);
	say(admin,
	    "{\"v\":1,\"type\":\"close\",\"code\":4001,"
	    "\"reason\":\"\",\"lease\":\"gone\"}");
	reply = hear_reply(admin);
	assert_true(json_is_false(json_object_get(reply, "closed")));
	json_decref(reply);
	/* which one? */
	say(admin,
	    "{\"v\":1,\"type\":\"close\",\"code\":4001,"
	    "\"reason\":\"\"}");
	hear_end(admin);
}

static void
hear_closed(int fd, json_int_t count)
{
	json_t *reply = hear_reply(fd);

	assert_int_equal(json_integer_value(json_object_get(reply, "closed")),
	    count);
	json_decref(reply);
}

static void
closes_what_was_let_in_by_what_is_revoked(void **state)
{
	struct world *world = *state;
	int tunnel, other, operator_fd;

	start(world);
	tunnel = peer(world);
	say(tunnel, OPEN("/echo"));
	hear_grant(tunnel);
	other = peer(world);
	say(other, OPEN("/free"));
	hear_grant(other);
	operator_fd = peer(world);
	say(operator_fd, REVOKE("route", "/nowhere"));
	hear_closed(operator_fd, 0);
	say(operator_fd, REVOKE("route", "/echo"));
	hear_closed(operator_fd, 1);
	hear_close(tunnel, "revoked");
	/* it is told once */
	say(operator_fd, REVOKE("route", "/echo"));
	hear_closed(operator_fd, 0);
	(void)close(operator_fd);
	(void)close(tunnel);
	say(other, END);
	hear_taken(other);
}

/* ---- who is one -----------------------------------------------------------
 */

static void
drops_an_operator_that_does_not_read(void **state)
{
	struct world *world = *state;
	int sent = 0, fd;

	start(world);
	fd = peer(world);
	while (sent < 10000 && send(fd, LIST, strlen(LIST), MSG_NOSIGNAL) != -1)
		sent++;
	assert_true(sent < 10000);
	(void)close(fd);
}

/* As another user: exits 0 where what it says is answered, 1 where not. */
static int
answered_as(const struct world *world, uid_t uid, const char *text)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		char data[8];
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		if (setuid(uid) == -1 || connect_peer(world, fd) == -1)
			_exit(2);
		(void)send(fd, text, strlen(text), MSG_NOSIGNAL);
		_exit(recv(fd, data, sizeof(data), 0) > 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
serves_the_users_of_the_configuration_alone(void **state)
{
	struct world *world = *state;

	if (geteuid() != 0)
		return; /* only root can be others; skip() counts as failed */
	start(world);
	assert_int_equal(answered_as(world, NOBODY, OPEN("/free")), 0);
	assert_int_equal(answered_as(world, NOBODY, LIST), 1);
	assert_int_equal(answered_as(world, NOBODY, REPORT), 1);
	assert_int_equal(answered_as(world, NOBODY, TOP_UP("5")), 1);
	assert_int_equal(answered_as(world, NOBODY, BALANCE), 1);
	assert_int_equal(answered_as(world, 0, TOP_UP("5")), 0);
	assert_int_equal(answered_as(world, NOBODY - 1, OPEN("/free")), 1);
	assert_int_equal(answered_as(world, 0, LIST), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(answers_nothing_without_a_store),
		SERVER_TEST(reports_without_keeping_others_waiting),
		SERVER_TEST(outlives_who_leaves_as_its_report_comes),
		SERVER_TEST(tops_up_and_tells_who_listens),
		SERVER_TEST(answers_about_accounts_while_others_are_asked),
		SERVER_TEST(tells_a_tunnel_that_the_operator_ends_it),
		SERVER_TEST(closes_what_was_let_in_by_what_is_revoked),
		SERVER_TEST(drops_an_operator_that_does_not_read),
		SERVER_TEST(serves_the_users_of_the_configuration_alone),
	};

	return cmocka_run_group_tests_name("control_operator", tests,
	    make_world, end_world);
}
