/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/show.h"
#include "ctl/table.h"

static const struct table_column columns[] = {
	{ "NAME", false },
	{ "EMPTY", false },
	{ "N", true },
	{ "LAST", false },
};

/* What a table prints; the caller frees both. */
static char *
print(struct table *table)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	table_print(table, f);
	assert_int_equal(fclose(f), 0);
	table_free(table);
	return text;
}

static void
aligns_words_to_the_left_and_numbers_to_the_right(void **state)
{
	struct table *table = table_new(columns, 4);
	char *text;

	(void)state;
	table_add_row(table);
	table_put(table, 0, "a");
	table_put_number(table, 2, 1000);
	table_put(table, 3, "end");
	table_add_row(table);
	table_put(table, 0, "longer");
	table_put_number(table, 2, 7);
	text = print(table);
	assert_string_equal(text,
	    "NAME       N  LAST\n"
	    "a       1000  end\n"
	    "longer     7\n");
	free(text);
}

static void
does_nothing_to_a_terminal(void **state)
{
	struct table *table = table_new(columns, 4);
	char *text;

	(void)state;
	table_add_row(table);
	table_put(table, 0, "\x1b[2J\n\xc3\xa4");
	text = print(table);
	assert_string_equal(text, "NAME\n\\x1b[2J\\x0a\\xc3\\xa4\n");
	free(text);
}

static void
prints_titles_alone_where_there_is_nothing(void **state)
{
	char *text = print(table_new(columns, 4));

	(void)state;
	assert_string_equal(text, "\n");
	free(text);
}

/* Whatever a broker answers, of another version or a broken one. */
static void
shows_answers_that_are_not_what_they_should_be(void **state)
{
	static const char *const answers[] = { "null", "1", "[]", "{}",
		"{\"leases\":{},\"total\":\"x\"}", "{\"leases\":[1,null,{}]}",
		"{\"leases\":[{\"id\":1,\"started\":9223372036854775807,"
		"\"from_client\":[]}],\"total\":-1,\"omitted\":-1}",
		"{\"rows\":[1,{}],\"total\":{\"events\":1}}",
		"{\"rows\":[{\"cost\":{\"USD\":1},\"tokens\":[]}],"
		"\"total\":{\"events\":1,\"cost\":[],\"seconds\":\"x\"}}" };

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		json_t *answer = json_loads(answers[i], JSON_DECODE_ANY, NULL);
		char *text;
		size_t len;
		FILE *f = open_memstream(&text, &len);

		assert_non_null(answer);
		show_sessions(answer, f);
		show_usage(answer, f);
		assert_int_equal(fclose(f), 0);
		assert_true(len > 0 && text[len - 1] == '\n');
		free(text);
		json_decref(answer);
	}
}

static void
shows_usage_with_its_cost_and_the_total_under_what_it_is_for(void **state)
{
	json_t *answer = json_loads("{\"rows\":[{\"user\":\"\",\"events\":2,"
				    "\"tokens\":{\"input_text\":26},"
				    "\"cost\":{\"USD\":\"0.0028\"}},"
				    "{\"user\":\"Ada L\",\"events\":1,"
				    "\"cost\":{\"\\u001b[2J\":\"\\n\"}}],"
				    "\"total\":{\"events\":3,\"cost\":"
				    "{\"EUR\":\"1.25\",\"USD\":\"3.00\"}}}",
	    0, NULL);
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(answer);
	show_usage(answer, f);
	assert_int_equal(fclose(f), 0);
	assert_string_equal(text,
	    "USER      EVENTS  TEXT IN                 COST\n"
	    "-              2       26           0.0028 USD\n"
	    "Ada\\x20L       1                  \\x0a \\x1b[2J\n"
	    "total          3           1.25 EUR + 3.00 USD\n");
	free(text);
	json_decref(answer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    aligns_words_to_the_left_and_numbers_to_the_right),
		cmocka_unit_test(does_nothing_to_a_terminal),
		cmocka_unit_test(prints_titles_alone_where_there_is_nothing),
		cmocka_unit_test(
		    shows_answers_that_are_not_what_they_should_be),
		cmocka_unit_test(
		    shows_usage_with_its_cost_and_the_total_under_what_it_is_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
