/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/openai/calls.h"
#include "broker/store/store.h"
#include "common/clock.h"
#include "ticket_store.h"

static struct config *config;
static struct subjects ann;

static int
setup(void **state)
{
	static const char text[] =
	    "plan \"small\" { tunnels = 1 day_seconds = 100 }\n"
	    "limits { user = small }\n"
	    "store { path = \"/nowhere/culvert.db\" }\n"
	    "relay \"/voice\" { upstream = \"ws://127.0.0.1:9/\" }\n";
	const struct subjects_request who = {
		.user = "ann",
		.address = "192.0.2.1",
		.route = "/voice",
	};
	struct diag diag;

	(void)state;
	if (config_parse("t", text, strlen(text), &config, &diag) != ERR_OK) {
		print_error("%s\n", diag.text);
		return -1;
	}
	subjects_fill(config, &who, &ann);
	return ticket_store_open();
}

static int
teardown(void **state)
{
	(void)state;
	config_unref(config);
	return ticket_store_close();
}

static enum err
reserve(struct call_place **ret)
{
	const struct calls_request request = {
		.config = config,
		.relay = &config->relays[0],
		.subjects = &ann,
		.user = "ann",
		.issued = clock_unix(),
	};

	return calls_reserve(&request, ret, NULL);
}

static int64_t
seconds_of_ann(void)
{
	struct store *store = store_current();
	struct store_budget_list list = { .items = NULL };
	int64_t seconds = 0;

	assert_int_equal(store->ops->list_budgets(store, "u:ann", clock_unix(),
			     &list, NULL),
	    ERR_OK);
	for (size_t i = 0; i < list.count; i++)
		seconds += list.items[i].seconds;
	free(list.items);
	return seconds;
}

static void
gives_the_place_of_a_call_that_was_not_made_back(void **state)
{
	struct call_place *place, *other;

	(void)state;
	assert_int_equal(calls_start(NULL), ERR_OK);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(reserve(&place), ERR_OK);
		assert_int_equal(reserve(&other), ERR_RATE);
		calls_settle(place, NULL);
	}
	calls_stop();
}

static void
keeps_and_books_nothing_of_a_call_that_is_made_while_it_stops(void **state)
{
	struct call_place *place;

	(void)state;
	assert_int_equal(calls_start(NULL), ERR_OK);
	assert_int_equal(reserve(&place), ERR_OK);
	calls_stop();
	calls_settle(place, "rtc_1");
	assert_int_equal(seconds_of_ann(), 0);
	assert_int_equal(reserve(&place), ERR_OK);
	calls_settle(place, NULL);
}

static void
keeps_a_call_no_longer_than_it_runs(void **state)
{
	struct call_place *place;

	(void)state;
	assert_int_equal(calls_start(NULL), ERR_OK);
	assert_int_equal(reserve(&place), ERR_OK);
	calls_settle(place, "rtc_2");
	calls_stop();
	assert_true(seconds_of_ann() < 60);
	assert_int_equal(calls_hang_up("rtc_2", &(struct diag){ "" }),
	    ERR_NOTFOUND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    gives_the_place_of_a_call_that_was_not_made_back),
		cmocka_unit_test(
		    keeps_and_books_nothing_of_a_call_that_is_made_while_it_stops),
		cmocka_unit_test(keeps_a_call_no_longer_than_it_runs),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
