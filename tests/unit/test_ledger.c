/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <limits.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "broker/config/config.h"
#include "broker/store/ledger.h"
#include "broker/store/store_sqlite.h"
#include "common/clock.h"
#include "common/log.h"
#include "config_text.h"

#define ROOM 8

static const struct ledger_options quick = {
	.max_rows = ROOM,
	.max_bytes = 1000,
	.retry_ms = 1,
	.max_retry_ms = 4,
	.flush_ms = 50,
};

static struct lease_info lease = { .id = "0123456789abcdef" };

/* ---- a store that does what the test says ------------------------------- */

static struct {
	struct store store;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum err answer;     /* to all rows */
	int64_t refused_n;   /* ERR_DENIED for it */
	bool held;	     /* add_usage() does not return */
	int64_t booked[256]; /* n, in order */
	unsigned booked_count, attempts, expirations;
	unsigned expirations_needed; /* until nothing is left */
	int64_t told;		     /* the last that was told as booked */
	unsigned spent_count, metered;
	int64_t metered_s;
	struct store_budget asked;  /* about this one, last */
	struct store_expiry expiry; /* of the last one */
} fake;

static enum err
fake_add(struct store *store, const struct store_usage *rows, size_t count,
    struct diag *diag)
{
	enum err err;

	(void)store;
	diag_set(diag, "as the test says");
	(void)pthread_mutex_lock(&fake.lock);
	fake.attempts++;
	(void)pthread_cond_broadcast(&fake.changed);
	while (fake.held)
		(void)pthread_cond_wait(&fake.changed, &fake.lock);
	err = fake.answer;
	for (size_t i = 0; i < count; i++)
		if (rows[i].n == fake.refused_n)
			err = ERR_DENIED;
	for (size_t i = 0; err == ERR_OK && i < count; i++)
		fake.booked[fake.booked_count++] = rows[i].n;
	(void)pthread_cond_broadcast(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
	return err;
}

static enum err
fake_expire(struct store *store, const struct store_expiry *in, bool *ret_more,
    struct diag *diag)
{
	(void)store;
	(void)diag;
	assert_in_range(in->now, clock_unix() - 60, clock_unix());
	(void)pthread_mutex_lock(&fake.lock);
	fake.expiry = *in;
	fake.expirations++;
	*ret_more = fake.expirations < fake.expirations_needed;
	(void)pthread_cond_broadcast(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
	return ERR_OK;
}

static enum err
fake_add_seconds(struct store *store, const struct store_seconds *rows,
    size_t count, struct diag *diag)
{
	enum err err;

	(void)store;
	diag_set(diag, "as the test says");
	(void)pthread_mutex_lock(&fake.lock);
	fake.attempts++;
	err = fake.answer;
	for (size_t i = 0; err == ERR_OK && i < count; i++) {
		assert_string_equal(rows[i].subjects[0], "u:ann");
		assert_null(rows[i].subjects[1]);
		fake.metered++;
		fake.metered_s = rows[i].total;
	}
	(void)pthread_cond_broadcast(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
	return err;
}

/* All is used up. */
static enum err
fake_check(struct store *store, const struct store_budgets *budgets,
    int64_t now, struct store_budget_state *ret, struct diag *diag)
{
	(void)store;
	(void)now;
	(void)diag;
	assert_int_equal(budgets->count, 1);
	*ret = (struct store_budget_state){ .seconds = 99 };
	(void)pthread_mutex_lock(&fake.lock);
	fake.asked = budgets->items[0];
	(void)pthread_mutex_unlock(&fake.lock);
	return ERR_BUDGET;
}

static void
on_booked(void *arg, const char *id, int64_t n)
{
	assert_ptr_equal(arg, &fake);
	assert_string_equal(id, lease.id);
	(void)pthread_mutex_lock(&fake.lock);
	fake.told = n;
	(void)pthread_cond_broadcast(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
}

static void
on_spent(void *arg, const char *id, const struct store_budget_state *now)
{
	assert_ptr_equal(arg, &fake);
	assert_string_equal(id, lease.id);
	assert_int_equal(now->seconds, 99);
	(void)pthread_mutex_lock(&fake.lock);
	fake.spent_count++;
	(void)pthread_cond_broadcast(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
}

static const struct ledger_listener listener = { on_booked, on_spent, &fake };

static const struct store_ops fake_ops = {
	.add_usage = fake_add,
	.add_seconds = fake_add_seconds,
	.check_budgets = fake_check,
	.expire = fake_expire,
};

static void
set(enum err answer, bool held)
{
	(void)pthread_mutex_lock(&fake.lock);
	fake.answer = answer;
	fake.held = held;
	(void)pthread_cond_broadcast(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
}

/* Until one of its counters has come so far. */
static void
wait_for(const unsigned *counter, unsigned value)
{
	struct timespec limit;

	(void)clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 10;
	(void)pthread_mutex_lock(&fake.lock);
	while (*counter < value)
		if (pthread_cond_timedwait(&fake.changed, &fake.lock, &limit) !=
		    0)
			fail_msg("%u instead of %u", *counter, value);
	(void)pthread_mutex_unlock(&fake.lock);
}

static int
start(void **state)
{
	struct diag diag;

	(void)state;
	fake.store.ops = &fake_ops;
	fake.answer = ERR_OK;
	fake.refused_n = 0;
	fake.held = false;
	fake.booked_count = fake.attempts = fake.expirations = 0;
	fake.expirations_needed = 3;
	fake.told = 0;
	fake.spent_count = fake.metered = 0;
	ledger_listen(&listener);
	return ledger_start(&fake.store, &quick, &diag) == ERR_OK ? 0 : -1;
}

static int
stop(void **state)
{
	(void)state;
	set(ERR_OK, false);
	ledger_stop();
	ledger_listen(NULL);
	return 0;
}

/* Report events n to n + count - 1. */
static void
report(int64_t n, unsigned count, const char *type)
{
	json_t *events = json_array();

	for (unsigned i = 0; i < count; i++)
		(void)json_array_append_new(events,
		    json_pack("{sI ss s{si}}", "n", (json_int_t)(n + i), "type",
			type, "usage", "input_tokens", 5));
	ledger_add(&lease, events, NULL);
	json_decref(events);
}

static void
assert_booked(int64_t from, unsigned count)
{
	wait_for(&fake.booked_count, count);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(fake.booked[i], from + i);
}

/* ---- tests ------------------------------------------------------------- */

static void
books_what_is_reported_in_order(void **state)
{
	(void)state;
	ledger_add(&lease, NULL, NULL);
	for (int i = 0; i < 20; i++) {
		report(1 + 3 * i, 3, "response.done");
		assert_booked(1, 3 * (i + 1));
	}
}

static void
skips_what_is_no_event(void **state)
{
	json_t *events = json_pack("[{} {sIss} {sIsss{}}]", "n", (json_int_t)1,
	    "type", "a", "n", (json_int_t)2, "type", "a", "usage");

	(void)state;
	ledger_add(&lease, events, NULL);
	json_decref(events);
	assert_booked(2, 1);
}

static void
keeps_reports_while_the_store_is_away(void **state)
{
	(void)state;
	set(ERR_UNAVAIL, false);
	report(1, 2, "response.done");
	wait_for(&fake.attempts, 3);
	report(3, 2, "response.done");
	wait_for(&fake.attempts, 6);
	assert_int_equal(fake.booked_count, 0);
	set(ERR_OK, false);
	assert_booked(1, 4);
	report(5, 1, "response.done");
	assert_booked(1, 5);
}

static void
loses_what_there_is_no_room_for(void **state)
{
	(void)state;
	set(ERR_UNAVAIL, false);
	report(1, ROOM + 3, "response.done");
	set(ERR_OK, false);
	assert_booked(1, ROOM);
	/* there is room again */
	report(ROOM + 1, 2, "response.done");
	assert_booked(1, ROOM + 2);
}

static void
bounds_the_bytes_that_wait(void **state)
{
	json_t *events;
	char text[400];

	(void)state;
	(void)memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	events = json_array();
	for (json_int_t n = 1; n <= 4; n++)
		(void)json_array_append_new(events,
		    json_pack("{sI ss s{ss}}", "n", n, "type", "a", "usage",
			"x", n == 4 ? "" : text));
	set(ERR_UNAVAIL, false);
	ledger_add(&lease, events, NULL);
	json_decref(events);
	set(ERR_OK, false);
	wait_for(&fake.booked_count, 3);
	assert_int_equal(fake.booked[1], 2);
	assert_int_equal(fake.booked[2], 4); /* 3 was too large */
}

static void
lets_one_bad_row_hold_up_no_other(void **state)
{
	(void)state;
	fake.refused_n = 2;
	set(ERR_OK, true);
	report(1, 3, "response.done");
	set(ERR_OK, false);
	wait_for(&fake.booked_count, 2);
	assert_int_equal(fake.booked[0], 1);
	assert_int_equal(fake.booked[1], 3);
	report(4, 1, "response.done");
	wait_for(&fake.booked_count, 3);
}

static void
never_waits_for_the_store(void **state)
{
	(void)state;
	set(ERR_OK, true);
	report(1, 1, "response.done");
	wait_for(&fake.attempts, 1);
	/* this returns, though the store does not */
	report(2, ROOM, "response.done");
	set(ERR_OK, false);
	assert_booked(1, ROOM);
}

static void
writes_what_waits_before_it_ends(void **state)
{
	(void)state;
	set(ERR_OK, true);
	report(1, 4, "response.done");
	set(ERR_OK, false);
	ledger_stop();
	assert_int_equal(fake.booked_count, 4);
	report(5, 1, "response.done"); /* harmless */
	ledger_stop();
	assert_int_equal(fake.booked_count, 4);
}

static void
ends_though_the_store_is_away(void **state)
{
	(void)state;
	set(ERR_UNAVAIL, false);
	report(1, 4, "response.done");
	ledger_stop();
	assert_int_equal(fake.booked_count, 0);
	assert_true(fake.attempts > 1);
}

static void
has_the_store_forget_what_expired(void **state)
{
	(void)state;
	/* at once, as long as there is more */
	wait_for(&fake.expirations, 3);
	assert_int_equal(fake.expiry.user_keep_s, 0);
	assert_int_equal(fake.expiry.anonymous_keep_s, 0);
}

static int
start_with_a_chat(void **state)
{
	static const char text[] =
	    "store { path = \"/x/y.db\" }\n"
	    "chat { url = \"http://127.0.0.1:9\" models = {m} keep = 7\n"
	    "anonymous { keep = 8 } }\n";

	config_set_current(config_text(text));
	return start(state);
}

static int
stop_with_a_chat(void **state)
{
	(void)stop(state);
	config_set_current(NULL);
	return 0;
}

static void
has_chats_kept_as_long_as_configured(void **state)
{
	(void)state;
	wait_for(&fake.expirations, 3);
	assert_int_equal(fake.expiry.user_keep_s, 7);
	assert_int_equal(fake.expiry.anonymous_keep_s, 8);
}

static void
goes_on_writing_while_there_is_much_to_forget(void **state)
{
	(void)state;
	(void)pthread_mutex_lock(&fake.lock);
	fake.expirations_needed = UINT_MAX;
	(void)pthread_mutex_unlock(&fake.lock);
	report(1, 3, "response.done");
	wait_for(&fake.booked_count, 3);
}

static void
names_whose_usage_it_was(void **state)
{
	static const char *const models[] = { "gpt-realtime", "transcription" };
	char dir[] = "/tmp/culvert-test.XXXXXX", path[64];
	struct store_sums sums;
	struct store *store;
	struct diag diag;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/db", dir);
	assert_int_equal(store_sqlite_open(path, &store, &diag), ERR_OK);
	assert_int_equal(ledger_start(store, &ledger_defaults, &diag), ERR_OK);
	report(1, 2, "response.done");
	report(2, 2, "response.done");
	report(4, 1, "conversation.item.input_audio_transcription.completed");
	ledger_stop();
	assert_int_equal(store->ops->sum_usage(store, 0, INT64_MAX, &sums,
			     &diag),
	    ERR_OK);
	assert_int_equal(sums.count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(sums.items[i].route, "openai");
		assert_string_equal(sums.items[i].user, "ann");
		assert_string_equal(sums.items[i].model, models[i]);
		assert_int_equal(sums.items[i].events, i == 0 ? 3 : 1);
		assert_int_equal(sums.items[i].tokens[STORE_INPUT_TEXT],
		    sums.items[i].events * 5);
	}
	store_sums_done(&sums);
	store->ops->close(store);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void
tells_what_is_in_the_store_and_nothing_before(void **state)
{
	(void)state;
	set(ERR_UNAVAIL, false);
	report(1, 3, "response.done");
	wait_for(&fake.attempts, 3);
	(void)pthread_mutex_lock(&fake.lock);
	assert_int_equal(fake.told, 0);
	(void)pthread_mutex_unlock(&fake.lock);
	set(ERR_OK, false);
	ledger_stop();
	assert_int_equal(fake.told, 3);
	/* where nothing is kept, nothing has to be sent again */
	report(4, 2, "response.done");
	assert_int_equal(fake.told, 5);
	ledger_listen(NULL);
	report(6, 2, "response.done");
	assert_int_equal(fake.told, 5);
}

static void
has_no_reservation_wait_for_a_row_that_is_refused(void **state)
{
	(void)state;
	fake.refused_n = 2;
	report(1, 2, "response.done");
	ledger_stop();
	assert_int_equal(fake.told, 2);
}

/* With seconds, tokens and money, of which a route of this name is about. */
static struct config *
count_lease(const char *over_budget)
{
	char text[512];
	struct config *config;

	(void)snprintf(text, sizeof(text),
	    "store { path = \"/x/y.db\" }\n"
	    "prices \"*\" { input_text = \"1\" output_text = \"1\" }\n"
	    "plan free { day_seconds = 9 day_tokens = 8 day_money = \"7\" }\n"
	    "openai { url = \"ws://127.0.0.1:9/\" api_key = \"env:T_KEY\"\n"
	    "over_budget = \"%s\" }\n",
	    over_budget);
	config = config_text(text);
	lease.config = config;
	lease.subjects.count = 1;
	(void)strcpy(lease.subjects.items[0].name, "u:ann");
	lease.subjects.items[0].plan = config_find_plan(config, "free");
	lease.started_unix = clock_unix() - 50;
	return config;
}

static void
books_seconds_and_tells_whose_budget_is_used_up(void **state)
{
	static const struct {
		const char *over_budget;
		bool unasked;
		int64_t max_tokens, max_money;
	} cases[] = {
		{ "close", false, 8, 7000000 },
		{ "error", false, 0, 0 },
		{ "error", true, 8, 7000000 },
	};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct config *config = count_lease(cases[i].over_budget);

		set(i == 0 ? ERR_UNAVAIL : ERR_OK, false);
		ledger_add_seconds(&lease, cases[i].unasked);
		if (i == 0)
			wait_for(&fake.attempts, 3);
		set(ERR_OK, false);
		wait_for(&fake.spent_count, i + 1);
		assert_int_equal(fake.metered, i + 1);
		assert_in_range(fake.metered_s, 50, 60);
		assert_int_equal(fake.asked.max_seconds, 9);
		assert_int_equal(fake.asked.max_tokens, cases[i].max_tokens);
		assert_int_equal(fake.asked.max_money, cases[i].max_money);
		lease.config = NULL;
		lease.subjects.count = 0;
		config_unref(config);
	}
	/* whom nobody counts */
	ledger_add_seconds(&lease, true);
	ledger_stop();
	assert_int_equal(fake.metered, 3);
}

static int
set_up(void **state)
{
	static char session[] = "session", route[] = "openai", user[] = "ann",
		    model[] = "gpt-realtime", client[] = "192.0.2.1";

	(void)state;
	log_init("test_ledger", LOG_LEVEL_ERROR);
	(void)setenv("T_KEY", "x", 1);
	lease.session = session;
	lease.route = route;
	lease.client = client;
	lease.user = user;
	lease.model = model;
	(void)pthread_mutex_init(&fake.lock, NULL);
	(void)pthread_cond_init(&fake.changed, NULL);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(books_what_is_reported_in_order),
		TEST(skips_what_is_no_event),
		TEST(keeps_reports_while_the_store_is_away),
		TEST(loses_what_there_is_no_room_for),
		TEST(bounds_the_bytes_that_wait),
		TEST(lets_one_bad_row_hold_up_no_other),
		TEST(never_waits_for_the_store),
		TEST(writes_what_waits_before_it_ends),
		TEST(ends_though_the_store_is_away),
		TEST(has_the_store_forget_what_expired),
		TEST(tells_what_is_in_the_store_and_nothing_before),
		TEST(has_no_reservation_wait_for_a_row_that_is_refused),
		TEST(books_seconds_and_tells_whose_budget_is_used_up),
		cmocka_unit_test_setup_teardown(
		    has_chats_kept_as_long_as_configured, start_with_a_chat,
		    stop_with_a_chat),
		TEST(goes_on_writing_while_there_is_much_to_forget),
		cmocka_unit_test(names_whose_usage_it_was),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
