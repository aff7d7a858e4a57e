/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/config.h"
#include "broker/config/config_plan.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define STORE  "store { path = \"/nonexistent/culvert.db\" }\n"
#define PRICES "prices \"gpt-*\" { input_text = \"1\" }\n"

static struct config *
load(const char *text)
{
	struct config *config = NULL;
	struct diag diag = { "" };

	if (config_parse("t.conf", text, strlen(text), &config, &diag) !=
	    ERR_OK)
		fail_msg("%s", diag.text);
	return config;
}

static void
reads_every_limit_of_a_plan(void **state)
{
	struct config *config = load(STORE PRICES
	    "plan \"free\" {\n"
	    "	requests_per_second = 0.5\n"
	    "	burst = 20\n"
	    "	tunnels = 1\n"
	    "	streams = 2\n"
	    "	session_seconds = 600\n"
	    "	day_seconds = 3600\n"
	    "	messages_per_second = 50\n"
	    "	bytes_per_second = 65536\n"
	    "	day_tokens = 100000\n"
	    "	day_money = \"0.25\"\n"
	    "	response_tokens = 2000\n"
	    "}\n"
	    "plan \"none\" {}\n"
	    "limits { user = \"free\" anonymous = \"none\" address = \"\"\n"
	    "	revocation_keep = 86400 }\n");
	const struct config_plan *plan = config_find_plan(config, "free");

	(void)state;
	assert_true(plan->requests_per_s == 0.5);
	assert_int_equal(plan->burst, 20);
	assert_int_equal(plan->max_tunnels, 1);
	assert_int_equal(plan->max_streams, 2);
	assert_int_equal(plan->session_s, 600);
	assert_int_equal(plan->day_s, 3600);
	assert_int_equal(plan->client_messages_per_s, 50);
	assert_int_equal(plan->client_bytes_per_s, 65536);
	assert_int_equal(plan->day_tokens, 100000);
	assert_int_equal(plan->day_money, 250000);
	assert_int_equal(plan->response_tokens, 2000);
	plan = config_find_plan(config, "none");
	assert_true(plan->requests_per_s == 0);
	assert_int_equal(plan->burst, 0);
	assert_int_equal(plan->max_tunnels, 0);
	assert_int_equal(plan->response_tokens, 4000);
	assert_string_equal(config->limits.user, "free");
	assert_string_equal(config->limits.anonymous, "none");
	assert_null(config->limits.address);
	assert_int_equal(config->limits.revocation_s, 86400);
	assert_null(config_find_plan(config, "other"));
	assert_null(config_find_plan(config, NULL));
	config_unref(config);
}

static void
lets_a_second_s_requests_come_at_once(void **state)
{
	static const struct {
		const char *rate;
		uint64_t burst;
	} cases[] = {
		{ "0.5", 1 },
		{ "1", 1 },
		{ "2.5", 3 },
		{ "100", 100 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *text = xasprintf("plan a { requests_per_second = %s }",
		    cases[i].rate);
		struct config *config = load(text);

		assert_int_equal(config->plans[0].burst, cases[i].burst);
		config_unref(config);
		free(text);
	}
}

static void
knows_no_limits_where_nothing_is_written(void **state)
{
	struct config *config = load("");

	(void)state;
	assert_int_equal(config->plan_count, 0);
	assert_null(config->limits.user);
	assert_null(config->limits.anonymous);
	assert_null(config->limits.address);
	assert_int_equal(config->limits.revocation_s, 2592000);
	config_unref(config);
}

static void
gives_routes_their_plans(void **state)
{
	struct config *config = load(STORE
	    "plan p {}\nplan q {}\n"
	    "openai { api_key = \"env:T_KEY\" plan = p }\n"
	    "relay \"/a\" { inherit = openai }\n"
	    "relay \"/b\" { inherit = openai plan = q }\n"
	    "relay \"/c\" { inherit = openai plan = \"\" }\n"
	    "livekit { url = \"wss://x\" api_key = \"env:T_KEY\"\n"
	    " api_secret = \"env:T_KEY\" plan = p }\n"
	    "anam { api_key = \"env:T_KEY\" plan = q }\n"
	    "chat { url = \"http://localhost/v1\" models = {m} plan = p }\n");

	(void)state;
	assert_string_equal(config->relays[0].plan, "p");
	assert_string_equal(config->relays[1].plan, "p");
	assert_string_equal(config->relays[2].plan, "q");
	assert_null(config->relays[3].plan);
	assert_string_equal(config->livekit->plan, "p");
	assert_string_equal(config->anam->plan, "q");
	assert_string_equal(config->chat->plan, "p");
	config_unref(config);
}

static void
names_the_line_of_what_will_not_do(void **state)
{
	static const struct {
		const char *text;
		int line;
		const char *word;
	} cases[] = {
		{ "plan {}\n", 1, "title" },
		{ "plan \"\" {}\n", 1, "1 to 64" },
		{ "plan \"a b\" {}\n", 1, "1 to 64" },
		{ "plan \"a\\\"b\" {}\n", 1, "1 to 64" },
		{ "plan a {}\nplan a {}\n", 2, "duplicate" },
		{ "plan a { tunels = 1 }\n", 1, "no such option" },
		{ "plan a {\n tunnels = -1 }\n", 2, "whole number" },
		{ "plan a {\n tunnels = many }\n", 2, "whole number" },
		{ "plan a {\n session_seconds = 604801 }\n", 2, "604800" },
		{ "plan a {\n requests_per_second = fast }\n", 2, "2.50" },
		{ "plan a {\n requests_per_second = -1 }\n", 2, "2.50" },
		{ "plan a {\n requests_per_second = 1e3 }\n", 2, "2.50" },
		{ "plan a {\n requests_per_second = 0.0000001 }\n", 2,
		    "six decimals" },
		{ "plan a {\n requests_per_second = 100001 }\n", 2, "100000" },
		{ "plan a {\n burst = 5 }\n", 2, "requests_per_second" },
		{ "plan a { requests_per_second = 1\n burst = 0 }\n", 2,
		    "from 1" },
		{ "plan a {\n response_tokens = 0 }\n", 2, "from 1" },
		{ "plan a {\n day_tokens = 5 }\n", 2, "store { path" },
		{ "plan a {\n day_seconds = 5 }\n", 2, "store { path" },
		{ "plan a {\n day_money = 5 }\n", 2, "store { path" },
		{ STORE "plan a {\n day_money = \"five\" }\n", 3, "2.50" },
		{ "limits {\n user = free }\n", 2, "no plan \"free\"" },
		{ "plan b {}\nlimits {\n anonymous = a }\n", 3, "no plan" },
		{ "limits {\n address = a }\n", 2, "plan \"a\" { ... }" },
		{ "limits {\n revocation_keep = 5 }\n", 2, "from 86400" },
		{ "relay \"/a\" { upstream = \"ws://x\"\n plan = p }\n", 2,
		    "no plan \"p\"" },
		{ "openai { api_key = \"env:T_KEY\"\n plan = p }\n", 2,
		    "no plan" },
		{ "livekit { url = \"wss://x\" api_key = \"env:T_KEY\"\n"
		  "api_secret = \"env:T_KEY\"\nplan = p }\n",
		    3, "no plan" },
		{ STORE "anam { api_key = \"env:T_KEY\"\n plan = p }\n", 3,
		    "no plan" },
		{ STORE "chat { url = \"http://localhost/v1\" models = {m}\n"
			"plan = p }\n",
		    3, "no plan" },
		/* money that cannot be counted */
		{ STORE "plan a {\n day_money = 5 }\n", 3, "nothing has" },
		{ STORE PRICES
		    "plan a {\n day_money = 5 }\n"
		    "chat { url = \"http://localhost/v1\" models = {gpt-5, m}"
		    "}\n",
		    4, "m has no price" },
		{ STORE PRICES "plan a {\n day_money = 5 }\n"
			       "openai { api_key = \"env:T_KEY\" models = {o}\n"
			       " default_model = o }\n",
		    4, "o has no price" },
		{ STORE PRICES
		    "prices \"o\" { currency = EUR input_text = \"1\" }\n"
		    "plan a {\n day_money = 5 }\n",
		    5, "USD and in EUR" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *text = cases[i].text;
		char *place = xasprintf("t.conf:%d: ", cases[i].line);
		struct config *config = NULL;
		struct diag diag = { "" };
		enum err err =
		    config_parse("t.conf", text, strlen(text), &config, &diag);

		if (err != ERR_PROTO || config != NULL ||
		    strncmp(diag.text, place, strlen(place)) != 0 ||
		    strstr(diag.text, cases[i].word) == NULL)
			fail_msg("%s: wanted %s...%s..., got %d: %s", text,
			    place, cases[i].word, err, diag.text);
		free(place);
	}
}

static void
knows_which_patterns_have_models_without_a_price(void **state)
{
	static const struct {
		const char *text;
		const char *wanted;
	} cases[] = {
		{ "prices \"*\" {}\nopenai { api_key = \"env:T_KEY\"\n"
		  " models = {\"*\"} }\n",
		    NULL },
		{ "prices \"gpt-*\" {}\nopenai { api_key = \"env:T_KEY\"\n"
		  " models = {\"gpt-realtime\", \"gpt-*\"} }\n",
		    NULL },
		{ "prices \"gpt-*\" {}\nopenai { api_key = \"env:T_KEY\"\n"
		  " models = {\"gpt-realtime\", \"gpt-*-mini*\"} }\n",
		    NULL },
		{ "prices \"gpt-a*\" {}\nopenai { api_key = \"env:T_KEY\"\n"
		  " models = {\"gpt-a\", \"gpt-*a\"}\n"
		  " default_model = \"gpt-a\" }\n",
		    "gpt-*a" },
		{ "prices \"gpt-*\" {}\nopenai { api_key = \"env:T_KEY\"\n"
		  " models = {\"gpt-realtime\", \"*\"} }\n",
		    "*" },
		{ "relay \"/a\" { upstream = \"ws://x\" usage = true }\n",
		    "*" },
		{ "relay \"/a\" { upstream = \"ws://x\" usage = false }\n",
		    NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct config *config = load(cases[i].text);
		const char *got =
		    config_plan_unpriced(config, &config->relays[0]);

		if (cases[i].wanted == NULL)
			assert_null(got);
		else
			assert_string_equal(got, cases[i].wanted);
		config_unref(config);
	}
}

static char *
dump(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	config_dump(config, f);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void
dumps_what_it_would_read_again(void **state)
{
	struct config *config = load(STORE PRICES
	    "plan free { requests_per_second = 0.333333 burst = 7\n"
	    " tunnels = 1 day_money = 1.5 day_tokens = 9 }\n"
	    "plan all { streams = 3 }\n"
	    "limits { user = free anonymous = free address = all }\n"
	    "relay \"/a\" { upstream = \"ws://x\" plan = all }\n");
	char *first = dump(config), *second;

	(void)state;
	config_unref(config);
	config = load(first);
	second = dump(config);
	assert_string_equal(first, second);
	assert_non_null(strstr(first, "requests_per_second = \"0.333333\""));
	assert_non_null(strstr(first, "day_money = \"1.500000\""));
	assert_non_null(strstr(first, "plan = \"all\""));
	assert_non_null(strstr(first, "address = \"all\""));
	assert_int_equal(config->plans[0].burst, 7);
	config_unref(config);
	free(first);
	free(second);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_limit_of_a_plan),
		cmocka_unit_test(lets_a_second_s_requests_come_at_once),
		cmocka_unit_test(knows_no_limits_where_nothing_is_written),
		cmocka_unit_test(gives_routes_their_plans),
		cmocka_unit_test(names_the_line_of_what_will_not_do),
		cmocka_unit_test(
		    knows_which_patterns_have_models_without_a_price),
		cmocka_unit_test(dumps_what_it_would_read_again),
	};

	if (setenv("T_KEY", "key-0123456789-0123456789-0123456789", 1) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
