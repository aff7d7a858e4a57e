/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "broker/limits/subjects.h"
#include "config_text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char text[] =
    "store { path = \"/nonexistent/culvert.db\" }\n"
    "prices \"*\" { input_text = \"1\" }\n"
    "plan free { tunnels = 1 session_seconds = 60 messages_per_second = 9 }\n"
    "plan paid { tunnels = 5 session_seconds = 600 day_tokens = 1000 }\n"
    "plan visitor { tunnels = 1 day_seconds = 90 bytes_per_second = 500 }\n"
    "plan everyone { session_seconds = 300 day_money = \"2.50\" }\n"
    "plan all { tunnels = 100 }\n"
    "limits { user = free anonymous = visitor address = everyone }\n";

static struct config *config;

static int
setup(void **state)
{
	(void)state;
	config = config_text(text);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	config_unref(config);
	return 0;
}

/* "NAME=PLAN ...", a plan that is none is "-". */
static void
check(const struct subjects_request *request, const char *wanted)
{
	struct subjects subjects;
	char got[1024] = "";

	subjects_fill(config, request, &subjects);
	for (size_t i = 0; i < subjects.count; i++) {
		const struct subject *subject = &subjects.items[i];
		size_t len = strlen(got);

		(void)snprintf(got + len, sizeof(got) - len, "%s%s=%s",
		    i == 0 ? "" : " ", subject->name,
		    subject->plan == NULL ? "-" : subject->plan->name);
	}
	assert_string_equal(got, wanted);
}

static void
counts_for_who_where_from_and_whereto(void **state)
{
	static const struct {
		struct subjects_request request;
		const char *wanted;
	} cases[] = {
		{ { .user = "ann", .address = "192.0.2.1", .route = "/a" },
		    "u:ann=free n:192.0.2.1=everyone r:/a=-" },
		{ { .user = "ann",
		      .plan = "paid",
		      .address = "192.0.2.1",
		      .route = "/a",
		      .route_plan = "all" },
		    "u:ann=paid n:192.0.2.1=everyone r:/a=all" },
		{ { .user = "ann", .plan = "gone", .address = "192.0.2.1" },
		    "u:ann=free n:192.0.2.1=everyone" },
		{ { .anon_id = "v-12345678",
		      .address = "2001:db8:0:1::2",
		      .route = "chat" },
		    "a:v-12345678=visitor n:2001:db8:0:1::/64=everyone "
		    "r:chat=-" },
		{ { .address = "::ffff:192.0.2.1" },
		    "a:@192.0.2.1=visitor n:192.0.2.1=everyone" },
		{ { .address = "2001:db8::1", .plan = "paid" },
		    "a:@2001:db8::/64=visitor n:2001:db8::/64=everyone" },
		{ { .address = NULL }, "a:@-=visitor n:-=everyone" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		check(&cases[i].request, cases[i].wanted);
}

static void
counts_nobody_under_limits_that_are_not_there(void **state)
{
	struct config *empty = config_new();
	const struct subjects_request request = { .user = "ann",
		.address = "192.0.2.1",
		.route = "/a" };
	struct wire_limits limits = { .lifetime_ms = 7 };
	struct store_budgets budgets;
	struct subjects subjects;

	(void)state;
	subjects_fill(empty, &request, &subjects);
	assert_int_equal(subjects.count, 3);
	for (size_t i = 0; i < subjects.count; i++)
		assert_null(subjects.items[i].plan);
	assert_false(subjects_have_budget(&subjects));
	subjects_budgets(&subjects, &budgets);
	assert_int_equal(budgets.count, 0);
	subjects_limit_tunnel(&subjects, &limits);
	assert_int_equal(limits.lifetime_ms, 7);
	assert_int_equal(limits.client_bytes_per_s, 0);
	config_unref(empty);
}

static void
knows_an_address_before_anything_else(void **state)
{
	struct subjects subjects;

	(void)state;
	subjects_fill_address(config, "2001:db8::1", &subjects);
	assert_int_equal(subjects.count, 1);
	assert_string_equal(subjects.items[0].name, "n:2001:db8::/64");
	assert_string_equal(subjects.items[0].plan->name, "everyone");
}

static void
tells_long_names_apart(void **state)
{
	char first[301], second[301];
	const struct subjects_request requests[] = {
		{ .user = "u", .address = "192.0.2.1", .route = first },
		{ .user = "u", .address = "192.0.2.1", .route = second },
	};
	struct subjects a, b;

	(void)state;
	memset(first, 'x', sizeof(first) - 1);
	first[sizeof(first) - 1] = '\0';
	(void)strcpy(second, first);
	subjects_fill(config, &requests[0], &a);
	subjects_fill(config, &requests[1], &b);
	assert_string_equal(a.items[2].name, b.items[2].name);
	second[299] = 'y';
	subjects_fill(config, &requests[1], &b);
	assert_string_not_equal(a.items[2].name, b.items[2].name);
	/* what just fits is as it is */
	first[STORE_SUBJECT_MAX - 2] = '\0';
	subjects_fill(config, &requests[0], &a);
	assert_string_equal(a.items[2].name + 2, first);
}

static void
gives_the_store_the_limits_of_a_day(void **state)
{
	const struct subjects_request request = { .user = "ann",
		.plan = "paid",
		.address = "192.0.2.1",
		.route = "/a",
		.route_plan = "all" };
	const struct subjects_request visitor = { .address = "192.0.2.1" };
	struct store_budgets budgets;
	struct subjects subjects;

	(void)state;
	subjects_fill(config, &request, &subjects);
	assert_true(subjects_have_budget(&subjects));
	subjects_budgets(&subjects, &budgets);
	assert_int_equal(budgets.count, 2);
	assert_string_equal(budgets.items[0].subject, "u:ann");
	assert_int_equal(budgets.items[0].max_tokens, 1000);
	assert_int_equal(budgets.items[0].max_money, 0);
	assert_string_equal(budgets.items[1].subject, "n:192.0.2.1");
	assert_int_equal(budgets.items[1].max_money, 2500000);
	subjects_fill(config, &visitor, &subjects);
	subjects_budgets(&subjects, &budgets);
	assert_int_equal(budgets.count, 2);
	assert_int_equal(budgets.items[0].max_seconds, 90);
	/* seconds alone are nothing to reserve */
	subjects.count = 1;
	assert_false(subjects_have_budget(&subjects));
}

static void
narrows_a_tunnel_to_the_smallest_limit(void **state)
{
	static const struct {
		struct subjects_request request;
		struct wire_limits before, after;
	} cases[] = {
		{ { .user = "a" }, { .lifetime_ms = 0 },
		    { .lifetime_ms = 60000, .client_messages_per_s = 9 } },
		{ { .user = "a" },
		    { .lifetime_ms = 50000, .client_messages_per_s = 3 },
		    { .lifetime_ms = 50000, .client_messages_per_s = 3 } },
		{ { .user = "a", .plan = "paid" }, { .lifetime_ms = 3600000 },
		    { .lifetime_ms = 300000 } },
		{ { .anon_id = "v-12345678" },
		    { .client_bytes_per_s = 1000, .idle_ms = 5 },
		    { .client_bytes_per_s = 500,
			.lifetime_ms = 300000,
			.idle_ms = 5 } },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct wire_limits limits = cases[i].before;
		struct subjects subjects;

		subjects_fill(config, &cases[i].request, &subjects);
		subjects_limit_tunnel(&subjects, &limits);
		assert_memory_equal(&limits, &cases[i].after, sizeof(limits));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_for_who_where_from_and_whereto),
		cmocka_unit_test(counts_nobody_under_limits_that_are_not_there),
		cmocka_unit_test(knows_an_address_before_anything_else),
		cmocka_unit_test(tells_long_names_apart),
		cmocka_unit_test(gives_the_store_the_limits_of_a_day),
		cmocka_unit_test(narrows_a_tunnel_to_the_smallest_limit),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
