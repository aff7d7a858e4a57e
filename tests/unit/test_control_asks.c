/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <poll.h>
#include <sqlite3.h>
#include <unistd.h>

#include "broker/limits/budget.h"
#include "broker/store/ledger.h"
#include "broker/store/store_sqlite.h"
#include "broker/tunnels/control_asks.h"
#include "common/clock.h"
#include "common/log.h"
#include "config_text.h"

#define TOKENS	 1000 /* of a day */
#define RESPONSE 600  /* that is reserved for one */
#define SESSIONS 100

static const char text[] =
    "store { path = \"/nonexistent/culvert.db\" }\n"
    "prices \"*\" { input_text = \"1\" output_text = \"2\" }\n"
    "plan free { day_tokens = 1000 response_tokens = 600 }\n"
    "plan short { day_seconds = 60 }\n"
    "plan many { day_tokens = 50000 response_tokens = 900 }\n"
    "plan rich { day_money = \"0.05\" response_tokens = 900 }\n";

static char dir[64], path[96];
static struct store *store;
static struct control_asks *asks;
static struct config *config;

/* ---- tools ------------------------------------------------------------- */

static void
start(int64_t wait_ms, int64_t retry_ms, int64_t lost_ms)
{
	const struct control_asks_options options = { wait_ms, retry_ms,
		lost_ms, 10 };
	struct diag diag;

	assert_int_equal(control_asks_new(&options, &asks, &diag), ERR_OK);
}

/* What waits is tried again when something ends, and never by time. */
static void
start_patient(void)
{
	start(600000, 600000, 600000);
}

static int
set_up(void **state)
{
	struct diag diag = { "" };

	(void)state;
	log_init("test_control_asks", LOG_LEVEL_ERROR);
	(void)strcpy(dir, "/tmp/culvert-test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/db", dir);
	config = config_text(text);
	if (store_sqlite_open(path, &store, &diag) != ERR_OK ||
	    ledger_start(store, &ledger_defaults, &diag) != ERR_OK) {
		print_error("%s\n", diag.text);
		return -1;
	}
	store_set_current(store);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	control_asks_free(asks);
	asks = NULL;
	ledger_stop();
	store_set_current(NULL);
	store->ops->close(store);
	config_unref(config);
	(void)unlink(path);
	return rmdir(dir);
}

/* A lease of a user of this plan, which has joined; it is its own owner. */
struct tunnel {
	struct lease_info info;
	int64_t asked, reported;
};

static void
join(struct tunnel *tunnel, int number, const char *user, const char *plan)
{
	static char session[] = "session", route[] = "openai", ann[] = "ann",
		    client[] = "192.0.2.1", model[] = "gpt-realtime";
	struct lease_info *info = &tunnel->info;
	struct subject *subject = &info->subjects.items[0];

	*tunnel = (struct tunnel){ .asked = 0 };
	(void)snprintf(info->id, sizeof(info->id), "%032x", (unsigned)number);
	info->session = session;
	info->route = route;
	info->client = client;
	info->user = ann;
	info->model = model;
	info->config = config;
	info->started_unix = clock_unix();
	(void)snprintf(subject->name, sizeof(subject->name), "u:%s", user);
	subject->plan = config_find_plan(config, plan);
	assert_non_null(subject->plan);
	info->subjects.count = 1;
	control_asks_join(asks, info, tunnel);
}

static int64_t
ask(struct tunnel *tunnel)
{
	struct diag diag;

	assert_int_equal(control_asks_ask(asks, &tunnel->info,
			     &(struct wire_ask){ .n = ++tunnel->asked }, &diag),
	    ERR_OK);
	return tunnel->asked;
}

/* The next thing that is to be sent; the caller frees it. */
static struct wire_packet *
take(struct tunnel **ret)
{
	struct pollfd fd = { .fd = control_asks_fd(asks), .events = POLLIN };
	struct wire_packet *packet;
	void *owner;

	while (!control_asks_take(asks, &owner, &packet))
		if (poll(&fd, 1, 20000) != 1)
			fail_msg("nothing comes");
	assert_non_null(owner);
	*ret = owner;
	return packet;
}

/* The next answer; others than answers are passed over. */
static struct wire_answer
take_answer(struct tunnel **ret)
{
	static char code[64];
	struct wire_packet *packet;
	struct wire_answer answer;

	while ((packet = take(ret))->type != WIRE_ANSWER)
		wire_packet_free(packet);
	answer = packet->answer;
	if (answer.code != NULL) {
		assert_non_null(answer.message);
		(void)snprintf(code, sizeof(code), "%s", answer.code);
		answer.code = code;
	}
	wire_packet_free(packet);
	return answer;
}

static void
assert_allowed(struct tunnel *tunnel, int64_t n)
{
	struct tunnel *who;
	struct wire_answer answer = take_answer(&who);

	assert_ptr_equal(who, tunnel);
	assert_int_equal(answer.n, n);
	if (!answer.allowed)
		fail_msg("%s", answer.code);
}

static struct wire_answer
assert_refused(struct tunnel *tunnel, const char *code)
{
	struct tunnel *who;
	struct wire_answer answer = take_answer(&who);

	assert_ptr_equal(who, tunnel);
	assert_false(answer.allowed);
	assert_string_equal(answer.code, code);
	return answer;
}

/* A report: a response of so many tokens for this ask (0: none), and which
   ask is open (0: none). */
static void
report(struct tunnel *tunnel, int64_t n, int tokens, int64_t open)
{
	struct wire_usage usage = {
		.asked = tunnel->asked,
		.open = { open },
		.open_count = open > 0,
	};

	if (n > 0)
		usage.events = json_pack("[{sI ss s{si si} sI}]", "n",
		    (json_int_t)++tunnel->reported, "type", "response.done",
		    "usage", "output_tokens", tokens, "total_tokens", tokens,
		    "ask", (json_int_t)n);
	control_asks_report(asks, &tunnel->info, &usage);
	json_decref(usage.events);
}

static void
assert_acked(struct tunnel *tunnel, int64_t n)
{
	struct tunnel *who;
	struct wire_packet *packet = take(&who);

	assert_ptr_equal(who, tunnel);
	assert_int_equal(packet->type, WIRE_ACK);
	assert_int_equal(packet->ack.n, n);
	wire_packet_free(packet);
}

/* What was to be done at its end is. */
static void
assert_end_acked(struct tunnel *tunnel)
{
	struct tunnel *who;
	struct wire_packet *packet = take(&who);

	assert_ptr_equal(who, tunnel);
	assert_int_equal(packet->type, WIRE_ACK);
	assert_true(packet->ack.ended);
	wire_packet_free(packet);
}

static struct store_budget_state
standing(const char *subject)
{
	const struct store_budgets budgets = {
		.items = { { .subject = subject,
		    .max_tokens = INT64_MAX,
		    .max_money = INT64_MAX } },
		.count = 1,
	};
	struct store_budget_state state;
	struct diag diag;

	assert_int_equal(store->ops->check_budgets(store, &budgets,
			     clock_unix(), &state, &diag),
	    ERR_OK);
	return state;
}

/* Rows of the ledger with this status. */
static int64_t
count_rows(const char *status)
{
	sqlite3_stmt *stmt;
	sqlite3 *db;
	int64_t n;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db,
			     "SELECT count(*) FROM usage WHERE status = ?1", -1,
			     &stmt, NULL),
	    SQLITE_OK);
	(void)sqlite3_bind_text(stmt, 1, status, -1, SQLITE_STATIC);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	n = sqlite3_column_int64(stmt, 0);
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return n;
}

/* ---- tests ------------------------------------------------------------- */

static void
answers_and_settles(void **state)
{
	struct store_budget_state now;
	struct tunnel one;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	assert_allowed(&one, ask(&one));
	assert_int_equal(standing("u:ann").reserved_tokens, RESPONSE);
	report(&one, 1, 100, 0);
	assert_acked(&one, 1);
	now = standing("u:ann");
	assert_int_equal(now.tokens, 100);
	assert_int_equal(now.money, 200); /* micro-units: output at 2 */
	assert_int_equal(now.reserved_tokens, 0);
}

static void
lets_an_ask_wait_until_another_has_settled(void **state)
{
	struct tunnel one, two, other;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	join(&two, 2, "ann", "free");
	join(&other, 3, "bob", "free");
	assert_allowed(&one, ask(&one));
	(void)ask(&two);
	/* who asks later for another budget has the answer first */
	assert_allowed(&other, ask(&other));
	report(&one, 1, 100, 0);
	assert_allowed(&two, 1);
	assert_int_equal(standing("u:ann").tokens, 100);
}

static void
never_lets_one_wait_that_has_begun(void **state)
{
	struct tunnel one, two, three;
	struct diag diag;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	join(&two, 2, "ann", "free");
	join(&three, 3, "ann", "free");
	assert_allowed(&one, ask(&one));
	(void)ask(&two); /* waits */
	assert_int_equal(control_asks_ask(asks, &three.info,
			     &(struct wire_ask){ .n = 1, .begun = true },
			     &diag),
	    ERR_OK);
	(void)assert_refused(&three, "busy");
	report(&one, 1, 100, 0);
	assert_allowed(&two, 1);
	/* and nothing of it is left */
	report(&two, 1, 100, 0);
	assert_acked(&two, 1);
	assert_int_equal(standing("u:ann").reserved_tokens, 0);
}

static void
lets_an_ask_wait_until_another_comes_to_nothing(void **state)
{
	struct tunnel one, two;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	join(&two, 2, "ann", "free");
	assert_allowed(&one, ask(&one));
	(void)ask(&two);
	report(&one, 0, 0, 1); /* it is still open */
	report(&one, 0, 0, 0);
	assert_allowed(&two, 1);
	assert_int_equal(standing("u:ann").reserved_tokens, RESPONSE);
}

static void
gives_what_is_left_in_the_order_of_the_asks(void **state)
{
	struct tunnel tunnels[5];

	(void)state;
	start_patient();
	for (int i = 0; i < 5; i++)
		join(&tunnels[i], i, "ann", "free");
	for (int i = 0; i < 5; i++)
		(void)ask(&tunnels[i]);
	for (int i = 0; i < 5; i++) {
		assert_allowed(&tunnels[i], 1);
		report(&tunnels[i], 1, 50, 0);
	}
}

static void
refuses_what_is_used_up(void **state)
{
	struct wire_answer answer;
	struct tunnel one, two;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	join(&two, 2, "ann", "free");
	assert_allowed(&one, ask(&one));
	(void)ask(&two);
	report(&one, 1, TOKENS, 0);
	answer = assert_refused(&two, "budget_spent");
	assert_in_range(answer.retry_after_s, 1, 86400);
	(void)ask(&one);
	(void)assert_refused(&one, "budget_spent");
	assert_int_equal(standing("u:ann").reserved_tokens, 0);
}

static void
refuses_who_has_waited_too_long(void **state)
{
	struct tunnel one, two;

	(void)state;
	start(30, 10, 600000);
	join(&one, 1, "ann", "free");
	join(&two, 2, "ann", "free");
	assert_allowed(&one, ask(&one));
	(void)ask(&two);
	(void)assert_refused(&two, "busy");
	/* and what it asked for is not held against it */
	report(&one, 1, 100, 0);
	assert_allowed(&two, ask(&two));
}

static void
tries_again_by_itself(void **state)
{
	struct tunnel one, two;
	char id[LEDGER_RESERVATION_BYTES];
	struct diag diag;

	(void)state;
	start(600000, 10, 600000);
	join(&one, 1, "ann", "free");
	join(&two, 2, "ann", "free");
	assert_allowed(&one, ask(&one));
	(void)ask(&two);
	/* as another process would */
	ledger_reservation(one.info.id, 1, id);
	assert_int_equal(store->ops->release(store, id, &diag), ERR_OK);
	assert_allowed(&two, 1);
}

static void
refuses_while_the_store_is_away(void **state)
{
	struct tunnel one;

	(void)state;
	start(600000, 10, 600000);
	join(&one, 1, "ann", "free");
	store_set_current(NULL);
	(void)ask(&one);
	(void)assert_refused(&one, "unavailable");
	store_set_current(store);
	do
		(void)ask(&one);
	while (!take_answer(&(struct tunnel *){ NULL }).allowed);
}

static void
bounds_what_is_open(void **state)
{
	struct tunnel one;
	struct diag diag;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	assert_int_equal(control_asks_ask(asks, &one.info,
			     &(struct wire_ask){ .n = 1 }, &diag),
	    ERR_OK);
	for (int n = 2; n <= WIRE_ASKS_MAX; n++)
		assert_int_equal(control_asks_ask(asks, &one.info,
				     &(struct wire_ask){ .n = n }, &diag),
		    ERR_OK);
	assert_int_equal(control_asks_ask(asks, &one.info,
			     &(struct wire_ask){ .n = WIRE_ASKS_MAX }, &diag),
	    ERR_PROTO);
	assert_int_equal(control_asks_ask(asks, &one.info,
			     &(struct wire_ask){ .n = WIRE_ASKS_MAX + 1 },
			     &diag),
	    ERR_LIMIT);
}

static void
releases_what_nobody_heard_of(void **state)
{
	struct pollfd fd;
	struct tunnel one, two;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	join(&two, 2, "ann", "free");
	(void)ask(&one);
	fd = (struct pollfd){ control_asks_fd(asks), POLLIN, 0 };
	assert_int_equal(poll(&fd, 1, 20000), 1);
	(void)ask(&two);
	control_asks_leave(asks, &one.info, CONTROL_ASKS_LOST);
	assert_allowed(&two, 1);
	assert_int_equal(count_rows("lost"), 0);
}

static void
books_what_was_reserved_for_what_was_cut_off(void **state)
{
	struct store_budget_state now;
	struct tunnel one;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	assert_allowed(&one, ask(&one));
	report(&one, 0, 0, 1);
	control_asks_end(asks, &one.info);
	assert_end_acked(&one);
	/* and is then */
	assert_int_equal(count_rows("lost"), 1);
	now = standing("u:ann");
	assert_int_equal(now.tokens, RESPONSE);
	assert_int_equal(now.money, RESPONSE * 2);
	assert_int_equal(now.reserved_tokens, 0);
}

static void
takes_an_end_when_nothing_is_reserved_any_more(void **state)
{
	struct tunnel one, *who;
	struct wire_packet *packet;
	void *owner;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "many");
	for (int i = 0; i < 3; i++)
		assert_allowed(&one, ask(&one));
	/* the answer to the fourth is on its way, or not even that */
	(void)ask(&one);
	report(&one, 0, 0, 2);
	control_asks_end(asks, &one.info);
	while ((packet = take(&who))->type == WIRE_ANSWER)
		wire_packet_free(packet);
	assert_int_equal(packet->type, WIRE_ACK);
	assert_true(packet->ack.ended);
	wire_packet_free(packet);
	assert_int_equal(standing("u:ann").reserved_tokens, 0);
	assert_int_equal(count_rows("lost"), 1);
	/* a second one, of who has not heard it, books nothing again */
	control_asks_end(asks, &one.info);
	assert_end_acked(&one);
	assert_false(control_asks_take(asks, &owner, &packet));
	assert_int_equal(count_rows("lost"), 1);
	control_asks_leave(asks, &one.info, CONTROL_ASKS_ENDED);
}

static void
gives_a_lost_tunnel_up_after_a_time(void **state)
{
	struct tunnel one, two;

	(void)state;
	start(600000, 600000, 10);
	join(&one, 1, "ann", "free");
	join(&two, 2, "ann", "free");
	assert_allowed(&one, ask(&one));
	(void)ask(&two);
	control_asks_leave(asks, &one.info, CONTROL_ASKS_LOST);
	/* its row ends its reservation */
	for (;;) {
		struct store_budget_state now = standing("u:ann");

		if (now.tokens == RESPONSE)
			break;
	}
	assert_int_equal(count_rows("lost"), 1);
}

static void
counts_once_what_comes_after_it_was_given_up(void **state)
{
	struct tunnel one;

	(void)state;
	start(600000, 600000, 10);
	join(&one, 1, "ann", "free");
	assert_allowed(&one, ask(&one));
	control_asks_leave(asks, &one.info, CONTROL_ASKS_LOST);
	while (standing("u:ann").tokens != RESPONSE)
		;
	control_asks_join(asks, &one.info, &one);
	report(&one, 1, 70, 0);
	assert_acked(&one, 1);
	control_asks_end(asks, &one.info);
	ledger_stop();
	assert_int_equal(standing("u:ann").tokens, RESPONSE);
	assert_int_equal(count_rows("lost"), 1);
	assert_int_equal(count_rows("late"), 1);
}

/* Whoever asks, goes and comes again does not make us grow without end. */
static void
bounds_what_is_queued_of_all(void **state)
{
	struct tunnel one, other;
	enum err err = ERR_OK;
	struct diag diag;

	(void)state;
	start_patient();
	for (int i = 0; err == ERR_OK; i++) {
		assert_true(i < 100000);
		join(&one, 1, "ann", "many");
		for (int64_t n = 1; err == ERR_OK && n <= WIRE_ASKS_MAX; n++)
			err = control_asks_ask(asks, &one.info,
			    &(struct wire_ask){ .n = n }, &diag);
		control_asks_leave(asks, &one.info, CONTROL_ASKS_LOST);
	}
	assert_int_equal(err, ERR_LIMIT);
	/* and then it is the others' turn again */
	join(&other, 2, "bob", "many");
	do
		err = control_asks_ask(asks, &other.info,
		    &(struct wire_ask){ .n = 1 }, &diag);
	while (err == ERR_LIMIT && poll(NULL, 0, 10) == 0);
	assert_int_equal(err, ERR_OK);
	assert_allowed(&other, 1);
}

static void
takes_a_lost_tunnel_up_again(void **state)
{
	struct tunnel one;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	assert_allowed(&one, ask(&one));
	control_asks_leave(asks, &one.info, CONTROL_ASKS_LOST);
	control_asks_join(asks, &one.info, &one);
	report(&one, 1, 70, 0);
	assert_acked(&one, 1);
	control_asks_end(asks, &one.info);
	ledger_stop();
	assert_int_equal(standing("u:ann").tokens, 70);
	assert_int_equal(standing("u:ann").reserved_tokens, 0);
	assert_int_equal(count_rows("lost"), 0);
}

static void
goes_on_where_a_broker_before_stopped(void **state)
{
	struct tunnel one;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "many");
	for (int i = 0; i < 3; i++)
		assert_allowed(&one, ask(&one));
	control_asks_leave(asks, &one.info, CONTROL_ASKS_STOPPED);
	control_asks_free(asks);
	assert_int_equal(standing("u:ann").reserved_tokens, 3 * 900);
	start_patient();
	control_asks_join(asks, &one.info, &one);
	/* of the three, the second is still open, and the third is settled */
	report(&one, 3, 70, 2);
	assert_acked(&one, 1);
	assert_allowed(&one, ask(&one));
	assert_int_equal(standing("u:ann").reserved_tokens, 2 * 900);
	/* its answer was not heard */
	assert_int_equal(control_asks_ask(asks, &one.info,
			     &(struct wire_ask){ .n = 2 },
			     &(struct diag){ "" }),
	    ERR_OK);
	assert_allowed(&one, 2);
	assert_int_equal(standing("u:ann").reserved_tokens, 2 * 900);
}

static void
ask_after(struct tunnel *tunnel, uint64_t input_bytes)
{
	const struct wire_ask in = {
		.n = ++tunnel->asked,
		.input_bytes = input_bytes,
	};
	struct diag diag;

	assert_int_equal(control_asks_ask(asks, &tunnel->info, &in, &diag),
	    ERR_OK);
	assert_allowed(tunnel, in.n);
}

static void
reserves_for_what_no_response_has_taken_in(void **state)
{
	struct tunnel one;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "many");
	ask_after(&one, 1000);
	assert_int_equal(standing("u:ann").reserved_tokens, 900 + 500);
	/* a small response cannot have taken in all of it */
	report(&one, 1, 100, 0);
	assert_acked(&one, 1);
	ask_after(&one, 1000);
	assert_int_equal(standing("u:ann").reserved_tokens, 900 + 100);
	report(&one, 2, 300, 0);
	assert_acked(&one, 2);
	ask_after(&one, 1200);
	assert_int_equal(standing("u:ann").reserved_tokens, 900 + 100);
}

static void
takes_over_once_what_it_has_not_heard_of(void **state)
{
	struct wire_usage first = { .asked = 2,
		.open = { 2 },
		.open_count = 1 },
			  next = { .asked = 4, .open = { 4 }, .open_count = 1 };
	struct tunnel one;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "many");
	control_asks_report(asks, &one.info, &first);
	/* nobody has asked for these */
	control_asks_report(asks, &one.info, &next);
	control_asks_end(asks, &one.info);
	ledger_stop();
	assert_int_equal(count_rows("lost"), 0);
}

static void
reserves_more_after_a_large_response(void **state)
{
	struct tunnel one;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "many");
	assert_allowed(&one, ask(&one));
	report(&one, 1, 2000, 0);
	assert_acked(&one, 1);
	assert_allowed(&one, ask(&one));
	assert_int_equal(standing("u:ann").reserved_tokens, 3000);
}

static void
spend_seconds(bool reports)
{
	struct wire_packet *packet;
	struct tunnel one, *who;

	start_patient();
	join(&one, 1, "ann", "short");
	report(&one, 0, 0, 0);
	control_asks_leave(asks, &one.info, CONTROL_ASKS_ENDED);
	if (reports) {
		control_asks_join(asks, &one.info, &one);
		one.info.started_unix -= 60;
		report(&one, 0, 0, 0);
		report(&one, 0, 0, 0);
	} else {
		one.info.started_unix -= 60;
		control_asks_join(asks, &one.info, &one);
	}
	packet = take(&who);
	assert_ptr_equal(who, &one);
	assert_int_equal(packet->type, WIRE_CLOSE);
	assert_int_equal(packet->close.code, 4003);
	wire_packet_free(packet);
}

static void
closes_what_has_no_seconds_left(void **state)
{
	(void)state;
	spend_seconds(true);
}

static void
closes_what_never_reports_as_well(void **state)
{
	(void)state;
	spend_seconds(false);
}

static void
allows_all_to_whom_nothing_is_counted(void **state)
{
	struct tunnel one;

	(void)state;
	start_patient();
	join(&one, 1, "ann", "free");
	control_asks_leave(asks, &one.info, CONTROL_ASKS_ENDED);
	one.info.subjects.count = 0;
	one.info.config = NULL;
	control_asks_join(asks, &one.info, &one);
	store_set_current(NULL);
	assert_allowed(&one, ask(&one));
	report(&one, 1, 70, 0);
	assert_acked(&one, 1);
}

static void
acknowledges_where_nothing_is_kept(void **state)
{
	struct tunnel one;

	(void)state;
	ledger_stop();
	start_patient();
	join(&one, 1, "ann", "free");
	report(&one, 1, 70, 0);
	assert_acked(&one, 1);
}

/* Every session responds as often as it may; *ret_largest of all. */
static void
respond_until_spent(const char *plan, int *ret_largest)
{
	static struct tunnel tunnels[SESSIONS];
	struct tunnel *who;
	unsigned seed = 1;
	int spent = 0;

	*ret_largest = 0;
	for (int i = 0; i < SESSIONS; i++)
		join(&tunnels[i], i, "ann", plan);
	for (int i = 0; i < SESSIONS; i++)
		(void)ask(&tunnels[i]);
	while (spent < SESSIONS) {
		struct wire_answer answer = take_answer(&who);
		int tokens =
		    1 + (int)((seed = seed * 1103515245 + 12345) >> 16) % 900;

		if (!answer.allowed) {
			assert_string_equal(answer.code, "budget_spent");
			spent++;
			continue;
		}
		if (tokens > *ret_largest)
			*ret_largest = tokens;
		report(who, answer.n, tokens, 0);
		(void)ask(who);
	}
}

static void
overshoots_by_one_response_of_many_sessions(void **state)
{
	struct store_budget_state now;
	int largest;

	(void)state;
	start_patient();
	respond_until_spent("many", &largest);
	now = standing("u:ann");
	assert_in_range(now.tokens, 50000, 50000 + largest - 1);
	assert_int_equal(now.reserved_tokens, 0);
}

static void
overshoots_money_by_one_response_of_many_sessions(void **state)
{
	struct store_budget_state now;
	int largest;

	(void)state;
	start_patient();
	respond_until_spent("rich", &largest);
	now = standing("u:ann");
	assert_in_range(now.money, 50000, 50000 + 2 * largest - 1);
	assert_int_equal(now.reserved_money, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_and_settles),
		TEST(lets_an_ask_wait_until_another_has_settled),
		TEST(never_lets_one_wait_that_has_begun),
		TEST(lets_an_ask_wait_until_another_comes_to_nothing),
		TEST(gives_what_is_left_in_the_order_of_the_asks),
		TEST(refuses_what_is_used_up),
		TEST(refuses_who_has_waited_too_long),
		TEST(tries_again_by_itself),
		TEST(refuses_while_the_store_is_away),
		TEST(bounds_what_is_open),
		TEST(bounds_what_is_queued_of_all),
		TEST(releases_what_nobody_heard_of),
		TEST(books_what_was_reserved_for_what_was_cut_off),
		TEST(takes_an_end_when_nothing_is_reserved_any_more),
		TEST(gives_a_lost_tunnel_up_after_a_time),
		TEST(counts_once_what_comes_after_it_was_given_up),
		TEST(takes_a_lost_tunnel_up_again),
		TEST(goes_on_where_a_broker_before_stopped),
		TEST(takes_over_once_what_it_has_not_heard_of),
		TEST(reserves_more_after_a_large_response),
		TEST(reserves_for_what_no_response_has_taken_in),
		TEST(closes_what_has_no_seconds_left),
		TEST(closes_what_never_reports_as_well),
		TEST(allows_all_to_whom_nothing_is_counted),
		TEST(acknowledges_where_nothing_is_kept),
		TEST(overshoots_by_one_response_of_many_sessions),
		TEST(overshoots_money_by_one_response_of_many_sessions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
