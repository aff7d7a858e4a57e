/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "broker/limits/admission.h"
#include "broker/limits/buckets.h"
#include "config_text.h"
#include "request_double.h"

static struct config *config;

/* Rates at which nothing comes in while a test runs. */
static const char text[] =
    "plan free { requests_per_second = 0.002 burst = 2 }\n"
    "plan paid { requests_per_second = 0.01 burst = 3 }\n"
    "plan here { requests_per_second = 0.003 burst = 2 }\n"
    "plan all { tunnels = 1 }\n"
    "limits { user = free anonymous = free address = here }\n";

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

static int
forget(void **state)
{
	(void)state;
	buckets_done();
	return 0;
}

static struct request
ask_address(const char *client, enum err wanted)
{
	struct request req = { .client = client, .config = config };
	struct diag diag = { "" };

	assert_int_equal(admission_check_address(&req, &diag), wanted);
	return req;
}

static struct request
ask(const struct subjects_request *who, bool wanted)
{
	struct request req = { .config = config };

	assert_int_equal(admission_admits(&req, who), wanted);
	assert_int_equal(req.err, wanted ? ERR_OK : ERR_RATE);
	return req;
}

static void
says_how_much_is_left_and_when_to_come_again(void **state)
{
	struct request req = ask_address("192.0.2.1", ERR_OK);

	(void)state;
	assert_string_equal(req.headers,
	    "RateLimit-Policy: \"here\";q=2;w=667\n"
	    "RateLimit: \"here\";r=1;t=334\n");
	req = ask_address("::ffff:192.0.2.1", ERR_OK);
	assert_string_equal(req.headers,
	    "RateLimit-Policy: \"here\";q=2;w=667\n"
	    "RateLimit: \"here\";r=0;t=667\n");
	req = ask_address("192.0.2.1", ERR_RATE);
	assert_string_equal(req.headers,
	    "RateLimit-Policy: \"here\";q=2;w=667\n"
	    "RateLimit: \"here\";r=0;t=667\n"
	    "Retry-After: 334\n");
	(void)ask_address("192.0.2.2", ERR_OK);
}

static void
asks_for_who_it_is_beside_the_address(void **state)
{
	static const struct subjects_request ann = { .user = "ann",
		.route = "livekit",
		.route_plan = "all" };
	static const struct subjects_request bob = { .user = "bob",
		.plan = "paid" };
	struct request req = ask(&ann, true);

	(void)state;
	assert_string_equal(req.headers,
	    "RateLimit-Policy: \"free\";q=2;w=1000\n"
	    "RateLimit: \"free\";r=1;t=500\n");
	(void)ask(&ann, true);
	req = ask(&ann, false);
	assert_string_equal(req.headers,
	    "RateLimit-Policy: \"free\";q=2;w=1000\n"
	    "RateLimit: \"free\";r=0;t=1000\n"
	    "Retry-After: 500\n");
	assert_string_equal(req.message,
	    "too many requests: try again in 500 seconds");
	req = ask(&bob, true);
	assert_string_equal(req.headers,
	    "RateLimit-Policy: \"paid\";q=3;w=300\n"
	    "RateLimit: \"paid\";r=2;t=100\n");
	/* of the address nothing was taken */
	(void)ask_address("192.0.2.1", ERR_OK);
	(void)ask_address("192.0.2.1", ERR_OK);
	(void)ask_address("192.0.2.1", ERR_RATE);
}

static void
leaves_retry_after_to_who_answers_otherwise(void **state)
{
	static const struct subjects_request who = { .anon_id = "v-12345678",
		.address = "192.0.2.1" };
	struct request req = { .config = config };
	struct subjects subjects;
	struct diag diag = { "" };
	int64_t wait_s = -1;

	(void)state;
	subjects_fill(config, &who, &subjects);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(admission_ask(&req, &subjects, &wait_s, &diag),
		    ERR_OK);
		assert_int_equal(wait_s, 0);
	}
	assert_int_equal(admission_ask(&req, &subjects, &wait_s, &diag),
	    ERR_RATE);
	assert_int_equal(wait_s, 500);
	for (int i = 0; i < 2; i++)
		assert_int_equal(admission_ask_address(&req, &wait_s, &diag),
		    ERR_OK);
	assert_int_equal(admission_ask_address(&req, &wait_s, &diag), ERR_RATE);
	assert_int_equal(wait_s, 334);
	assert_null(strstr(req.headers, "Retry-After"));
}

static void
says_when_a_day_ends(void **state)
{
	const struct store_budget_state budget = { .resets = 86400 };
	struct request req = { .config = config }, late = req;

	(void)state;
	admission_add_budget(&req, &budget, 86000);
	assert_string_equal(req.headers,
	    "RateLimit: \"day\";r=0;t=400\nRetry-After: 400\n");
	admission_add_budget(&late, &budget, 86401);
	assert_string_equal(late.headers,
	    "RateLimit: \"day\";r=0;t=1\nRetry-After: 1\n");
}

#define TEST(name) cmocka_unit_test_teardown(name, forget)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(says_how_much_is_left_and_when_to_come_again),
		TEST(asks_for_who_it_is_beside_the_address),
		TEST(leaves_retry_after_to_who_answers_otherwise),
		TEST(says_when_a_day_ends),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
