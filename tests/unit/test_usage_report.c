/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/store/usage_report.h"
#include "common/xalloc.h"
#include "config_text.h"

static const char settings[] = "prices \"gpt-realtime-mini*\" {\n"
			       "	currency = EUR\n"
			       "	input_text = \"1\"\n"
			       "	output_text = \"2\"\n"
			       "}\n"
			       "prices \"gpt-realtime*\" {\n"
			       "	input_text = \"4.00\"\n"
			       "	cached_text = \"0.40\"\n"
			       "	output_text = \"16.00\"\n"
			       "}\n"
			       "prices \"whisper\" {\n"
			       "	minute = \"0.006\"\n"
			       "}\n";

static void
add(struct store_sums *sums, const char *day, const char *user,
    const char *model, uint64_t input, uint64_t output)
{
	sums->items =
	    xreallocarray(sums->items, sums->count + 1, sizeof(sums->items[0]));
	sums->items[sums->count++] = (struct store_sum){
		.day = xstrdup(day),
		.route = xstrdup("openai"),
		.user = xstrdup(user),
		.model = xstrdup(model),
		.events = 2,
		.tokens = { [STORE_INPUT_TEXT] = input,
		    [STORE_OUTPUT_TEXT] = output },
		.total_tokens = input + output,
		.seconds = strcmp(model, "whisper") == 0 ? 30 : 0,
	};
}

static struct store_sums
example(void)
{
	struct store_sums sums = { .count = 0 };

	add(&sums, "2026-01-01", "ann", "gpt-realtime", 1000000, 500000);
	add(&sums, "2026-01-01", "bob", "gpt-realtime-mini", 3000000, 0);
	add(&sums, "2026-01-01", "bob", "other", 7, 7);
	add(&sums, "2026-01-02", "ann", "gpt-realtime-2", 500000, 0);
	add(&sums, "2026-01-02", "bob", "whisper", 0, 0);
	return sums;
}

static void
assert_report(const char *by, const char *expected)
{
	struct config *config = config_text(settings);
	struct store_sums sums = example();
	json_t *report = usage_report_make(config, &sums, by, 65536);
	json_t *want = json_loads(expected, JSON_DECODE_ANY, NULL);

	assert_non_null(want);
	if (!json_equal(json_object_get(report, "rows"), want))
		fail_msg("%s", json_dumps(report, JSON_INDENT(1)));
	assert_int_equal(json_integer_value(json_object_get(report, "omitted")),
	    0);
	json_decref(want);
	json_decref(report);
	store_sums_done(&sums);
	config_unref(config);
}

static void
adds_up_by_day(void **state)
{
	(void)state;
	assert_report("day",
	    "[{\"day\":\"2026-01-01\",\"events\":6,\"tokens\":"
	    "{\"input_text\":4000007,\"output_text\":500007},"
	    "\"total_tokens\":4500014,\"seconds\":0.0,"
	    "\"cost\":{\"USD\":\"12.000000\",\"EUR\":\"3.000000\"},"
	    "\"unpriced\":2},"
	    "{\"day\":\"2026-01-02\",\"events\":4,\"tokens\":"
	    "{\"input_text\":500000},"
	    "\"total_tokens\":500000,\"seconds\":30.0,"
	    "\"cost\":{\"USD\":\"2.003000\"},\"unpriced\":0}]");
}

static void
adds_up_by_user(void **state)
{
	(void)state;
	assert_report("user",
	    "[{\"user\":\"ann\",\"events\":4,\"tokens\":"
	    "{\"input_text\":1500000,\"output_text\":500000},"
	    "\"total_tokens\":2000000,\"seconds\":0.0,"
	    "\"cost\":{\"USD\":\"14.000000\"},\"unpriced\":0},"
	    "{\"user\":\"bob\",\"events\":6,\"tokens\":"
	    "{\"input_text\":3000007,\"output_text\":7},"
	    "\"total_tokens\":3000014,\"seconds\":30.0,"
	    "\"cost\":{\"EUR\":\"3.000000\",\"USD\":\"0.003000\"},"
	    "\"unpriced\":2}]");
}

static void
keeps_all_apart_where_nothing_is_asked(void **state)
{
	struct config *config = config_text("");
	struct store_sums sums = example();
	json_t *report = usage_report_make(config, &sums, NULL, 65536);
	const json_t *rows = json_object_get(report, "rows");
	const json_t *total = json_object_get(report, "total");
	const json_t *row = json_array_get(rows, 3);

	(void)state;
	assert_int_equal(json_array_size(rows), 5);
	assert_string_equal(json_string_value(json_object_get(row, "day")),
	    "2026-01-02");
	assert_string_equal(json_string_value(json_object_get(row, "model")),
	    "gpt-realtime-2");
	assert_string_equal(json_string_value(json_object_get(row, "route")),
	    "openai");
	assert_string_equal(json_string_value(json_object_get(row, "user")),
	    "ann");
	/* without prices nothing has one */
	assert_int_equal(json_integer_value(json_object_get(total, "unpriced")),
	    10);
	assert_int_equal(json_object_size(json_object_get(total, "cost")), 0);
	assert_int_equal(json_integer_value(json_object_get(total, "events")),
	    10);
	assert_null(json_object_get(total, "day"));
	json_decref(report);
	store_sums_done(&sums);
	config_unref(config);
}

static void
says_what_did_not_fit(void **state)
{
	struct config *config = config_text(settings);
	struct store_sums sums = { .count = 0 };
	json_t *report;
	char user[16];
	size_t shown;

	(void)state;
	for (int i = 0; i < 100; i++) {
		(void)snprintf(user, sizeof(user), "user-%02d", i);
		add(&sums, "2026-01-01", user, "gpt-realtime", 10, 0);
	}
	report = usage_report_make(config, &sums, "user", 2000);
	shown = json_array_size(json_object_get(report, "rows"));
	assert_in_range(shown, 5, 50);
	assert_int_equal(json_integer_value(json_object_get(report, "omitted")),
	    100 - shown);
	assert_int_equal(json_integer_value(
			     json_object_get(json_object_get(report, "total"),
				 "events")),
	    200);
	assert_true(json_dumpb(report, NULL, 0, JSON_COMPACT) < 2500);
	json_decref(report);
	store_sums_done(&sums);
	config_unref(config);
}

static void
reports_nothing_of_nothing(void **state)
{
	struct config *config = config_text("");
	struct store_sums sums = { .count = 0 };
	json_t *report = usage_report_make(config, &sums, "model", 1000);

	(void)state;
	assert_int_equal(json_array_size(json_object_get(report, "rows")), 0);
	assert_int_equal(json_integer_value(
			     json_object_get(json_object_get(report, "total"),
				 "events")),
	    0);
	json_decref(report);
	config_unref(config);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adds_up_by_day),
		cmocka_unit_test(adds_up_by_user),
		cmocka_unit_test(keeps_all_apart_where_nothing_is_asked),
		cmocka_unit_test(says_what_did_not_fit),
		cmocka_unit_test(reports_nothing_of_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
