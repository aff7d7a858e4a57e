/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/config/conf_tree.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct conf_section *
parse(const char *text)
{
	struct conf_section *root = NULL;
	struct diag diag = { "" };

	if (conf_parse("t", text, strlen(text), &root, &diag) != ERR_OK)
		fail_msg("%s: %s", text, diag.text);
	return root;
}

/* ---- strings ---- */

static void
takes_a_string_as_it_is_written(void **state)
{
	static const char *const rows[][2] = {
		{ "\"\"", "" },
		{ "word", "word" },
		{ "1-2_3.4:5/6", "1-2_3.4:5/6" },
		{ "true", "true" },
		{ "\"a b\"", "a b" },
		{ "\"# no comment\"", "# no comment" },
		{ "\"/* no comment */\"", "/* no comment */" },
		{ "\"// no comment\"", "// no comment" },
		{ "\"{ a = b }\"", "{ a = b }" },
		{ "\"it's\"", "it's" },
		{ "'say \"a\"'", "say \"a\"" },
		{ "'it\\'s'", "it's" },
		{ "'a\\\\b'", "a\\b" },
		{ "'a\\nb'", "a\\nb" },
		{ "'${HOME}'", "${HOME}" },
		{ "\"\\${HOME}\"", "${HOME}" },
		{ "\"$HOME $ {\"", "$HOME $ {" },
		{ "\"ends in $\"", "ends in $" },
		{ "\"\\\"\\\\\\$\\n\\t\"", "\"\\$\n\t" },
		{ "\"\\\\${\"", NULL },
		{ "\"\\\\\\${\"", "\\${" },
		{ "\"a\\\\\"", "a\\" },
		{ "\"tab\there\"", "tab\there" },
		{ "\"b\xc3\xbc"
		  "cher \xf0\x9f\x90\x9f\"",
		    "b\xc3\xbc"
		    "cher \xf0\x9f\x90\x9f" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *text = xasprintf("openai { url = %s }", rows[i][0]);
		struct conf_section *root = NULL;
		struct diag diag = { "" };
		const char *value;
		enum err err =
		    conf_parse("t", text, strlen(text), &root, &diag);

		value = conf_string(conf_section(root, "openai", 0), "url", 0);
		if ((err == ERR_OK) != (rows[i][1] != NULL) ||
		    (value != NULL && strcmp(value, rows[i][1]) != 0))
			fail_msg("%s: %s%s", text, diag.text,
			    value == NULL ? "" : value);
		conf_free(root);
		free(text);
	}
}

static void
nothing_of_the_environment_gets_into_a_value(void **state)
{
	static const char *const texts[] = {
		"openai { url = \"${T_VALUE}\" }",
		"openai { url = \"a${T_VALUE:-b}\" }",
		"openai { url = ${T_VALUE} }",
		"openai { url = \"\\\\${T_VALUE}\" }",
		"openai { models = {\"${T_VALUE}\"} }",
		"relay \"${T_VALUE}\" {}",
	};

	(void)state;
	assert_int_equal(setenv("T_VALUE", "canary", 1), 0);
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct conf_section *root = NULL;
		struct diag diag = { "" };

		if (conf_parse("t", texts[i], strlen(texts[i]), &root, &diag) !=
			ERR_PROTO ||
		    root != NULL || strstr(diag.text, "canary") != NULL)
			fail_msg("%s: %s", texts[i], diag.text);
	}
}

/* ---- lists, comments, sections ---- */

static void
a_list_may_be_empty_or_end_with_a_comma_or_hold_comments(void **state)
{
	static const struct {
		const char *text;
		size_t count;
	} rows[] = {
		{ "{}", 0 },
		{ "{ # none\n}", 0 },
		{ "{\"a\"}", 1 },
		{ "{\"a\", \"b\"}", 2 },
		{ "{\n\"a\", # one, {\n\"b\" # two, }\n}", 2 },
		{ "{\"a\",\n\n\"b\", c}", 3 },
		{ "\"a\"", 1 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *text = xasprintf("openai { models = %s }", rows[i].text);
		struct conf_section *root = parse(text);
		struct conf_section *openai = conf_section(root, "openai", 0);

		assert_true(conf_given(openai, "models"));
		if (conf_count(openai, "models") != rows[i].count)
			fail_msg("%s: %zu", text, conf_count(openai, "models"));
		assert_null(conf_string(openai, "models", rows[i].count));
		conf_free(root);
		free(text);
	}
}

static void
takes_comments_crlf_and_a_last_line_without_its_end(void **state)
{
	struct conf_section *root = parse("# one\r\n"
					  "tunnel { # \"two\r\n"
					  "\tlifetime = 5 # 'three\r\n"
					  "} # four ${x} \x7e");
	struct conf_section *tunnel = conf_section(root, "tunnel", 0);

	(void)state;
	assert_string_equal(conf_string(tunnel, "lifetime", 0), "5");
	conf_free(root);
	root = parse("#");
	assert_int_equal(conf_section_count(root, "relay"), 0);
	conf_free(root);
}

static void
keeps_sections_in_their_order_with_their_titles(void **state)
{
	struct conf_section *root =
	    parse("relay \"/b\" { header \"X\" { value = y } }\n"
		  "relay '/a' {}\n"
		  "relay /c {}\n");
	struct conf_section *first = conf_section(root, "relay", 0);

	(void)state;
	assert_int_equal(conf_section_count(root, "relay"), 3);
	assert_string_equal(conf_title(first), "/b");
	assert_string_equal(conf_title(conf_section(first, "header", 0)), "X");
	assert_string_equal(conf_title(conf_section(root, "relay", 1)), "/a");
	assert_string_equal(conf_title(conf_section(root, "relay", 2)), "/c");
	assert_null(conf_section(root, "relay", 3));
	assert_string_equal(conf_title(root), "");
	conf_free(root);
}

static void
a_section_without_a_title_may_be_written_in_parts(void **state)
{
	struct conf_section *root = parse("tunnel { lifetime = 1 }\n"
					  "tunnel { idle_timeout = 2 }\n");
	struct conf_section *tunnel = conf_section(root, "tunnel", 0);

	(void)state;
	assert_int_equal(conf_section_count(root, "tunnel"), 1);
	assert_string_equal(conf_string(tunnel, "lifetime", 0), "1");
	assert_string_equal(conf_string(tunnel, "idle_timeout", 0), "2");
	conf_free(root);
}

static void
a_section_that_is_absent_has_no_keys(void **state)
{
	struct conf_section *root = parse("openai {}");
	struct conf_section *openai = conf_section(root, "openai", 0);
	struct conf_section *none = conf_section(root, "livekit", 0);

	(void)state;
	assert_non_null(openai);
	assert_null(none);
	assert_false(conf_given(openai, "url"));
	assert_null(conf_string(openai, "url", 0));
	assert_false(conf_given(none, "url"));
	assert_int_equal(conf_count(none, "url"), 0);
	assert_null(conf_string(none, "url", 0));
	assert_int_equal(conf_section_count(none, "token"), 0);
	assert_null(conf_section(none, "token", 0));
	conf_free(root);
	conf_free(NULL);
}

/* ---- what is wrong, and where ---- */

static const struct {
	const char *text;
	const char *wanted; /* what the message begins with */
} bad[] = {
	{ "opnai {}", "t:1: no such option 'opnai'" },
	{ "openai {\n\n key = 1 }", "t:3: no such option 'key'" },
	{ "# 1\n# 2\n\n# 4\nopenai { # 5\n# 6\nkey = 1 }", "t:7: no such" },
	{ "url = \"x\"", "t:1: no such option 'url'" },
	{ "relay \"/a\" {\n header \"A\" {\n title = 1 } }", "t:3: no such" },
	{ "openai {", "t:1: this brace is never closed" },
	{ "openai {\n url = \"x\"\n", "t:1: this brace is never closed" },
	{ "openai {\n models = {\"a\",\n", "t:2: this brace is never" },
	{ "openai {\n url = \"x", "t:2: a string has to end" },
	{ "openai {\n url = \"x\\", "t:2: " },
	{ "openai {\n url = 'x\\", "t:2: a string has to end" },
	{ "openai {\n url =", "t:1: this brace" },
	{ "openai", "t:" },
	{ "relay \"/a\"", "t:" },
	{ "openai { url = }\n", "t:1: " },
	{ "openai { url = \"a\" \"b\" }\n", "t:1: " },
	{ "openai { url \"a\" }\n", "t:1: " },
	{ "openai { url = {\"a\", \"b\"} }\n", "t:1: " },
	{ "openai { models = {\"a\" \"b\"} }\n", "t:1: " },
	{ "openai { models = {{\"a\"}} }\n", "t:1: " },
	{ "}", "t:1: this brace closes nothing" },
	{ "openai { url = \"a\nb\" }", "t:1: a string has to end" },
	{ "openai { url = 'a\nb' }", "t:1: a string has to end" },
	{ "openai { url = \"a\\\nb\" }", "t:1: unknown escape" },
	{ "openai {\n url = \"\\e\" }", "t:2: unknown escape" },
	{ "openai {\n url = \"\\101\" }", "t:2: unknown escape" },
	{ "openai { /* a */ }", "t:1: unexpected character" },
	{ "// a\nopenai {}", "t:1: // outside quotes" },
	{ "openai { url = a;b }", "t:1: unexpected character" },
	{ "openai { url = `id` }", "t:1: unexpected character" },
	{ "openai { url = a\rb }", "t:1: unexpected character" },
	{ "include(\"x\")", "t:1: unexpected character" },
	{ "\n\x01", "t:2: a control character" },
	{ "# \x1b[2J", "t:1: a control character" },
	{ "openai { url = \"\x7f\" }", "t:1: a control character" },
	{ "# \xc3", "t: the file has to be UTF-8" },
	{ "# \xed\xa0\x80", "t: the file has to be UTF-8" },
	{ "\xef\xbb\xbf"
	  "openai {}",
	    "t:1: unexpected character" },
	{ "openai {\n url = a\n\n url = b }",
	    "t:4: url is here twice: it is "
	    "in line 2" },
	{ "relay \"/a\" {}\nrelay \"/a\" {}", "t:2: " },
	{ "relay {}", "t:1: " },
	{ "openai \"x\" {}", "t:1: " },
	{ "{{{{{{{{{", "t:1: too many braces" },
};

static void
names_the_line_of_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct conf_section *root = NULL;
		struct diag diag = { "" };
		enum err err = conf_parse("t", bad[i].text, strlen(bad[i].text),
		    &root, &diag);

		if (err != ERR_PROTO || root != NULL ||
		    strncmp(diag.text, bad[i].wanted, strlen(bad[i].wanted)) !=
			0)
			fail_msg("%s: wanted %s, got %d: %s", bad[i].text,
			    bad[i].wanted, err, diag.text);
	}
}

static const char sample[] =
    "access { clients = {\"any\", '::1'} } # who\n"
    "openai { url = \"wss://x/\\$\" alias \"a\" { model = b } }\n"
    "livekit { token \"t\" { room_config { tag \"k\" { value = 'v' } } } }\n";

/* Whether the text, cut here, is a file of its own: outside all braces. */
static bool
is_whole(const char *text, size_t len)
{
	int depth = 0;

	for (size_t i = 0; i < len; i++)
		depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
	return depth == 0;
}

static void
a_file_that_is_cut_within_a_section_is_refused(void **state)
{
	(void)state;
	for (size_t len = 0; len < sizeof(sample); len++) {
		struct conf_section *root = NULL;
		struct diag diag = { "" };
		enum err err = conf_parse("t", sample, len, &root, &diag);

		if (err == ERR_OK && !is_whole(sample, len))
			fail_msg("taken when cut at %zu", len);
		if (err != ERR_OK && diag.text[0] == '\0')
			fail_msg("no reason when cut at %zu", len);
		conf_free(root);
		/* and the next one starts afresh */
		root = parse("openai { url = a }");
		conf_free(root);
	}
}

static void
takes_files_up_to_the_largest(void **state)
{
	char *text = xcalloc(1, CONF_MAX_BYTES + 1);
	struct conf_section *root = NULL;
	struct diag diag = { "" };

	(void)state;
	memset(text, '\n', CONF_MAX_BYTES + 1);
	assert_int_equal(conf_parse("t", text, CONF_MAX_BYTES, &root, &diag),
	    ERR_OK);
	conf_free(root);
	assert_int_equal(conf_parse("t", text, CONF_MAX_BYTES + 1, &root,
			     &diag),
	    ERR_LIMIT);
	assert_int_equal(conf_parse("t", "a\0b", 3, &root, &diag), ERR_PROTO);
	free(text);
}

static void
a_fault_is_told_by_line_section_and_key(void **state)
{
	struct conf_section *root = parse("\nrelay \"/a\" {\n"
					  "\n upstream = x\n}\n");
	struct conf_section *relay = conf_section(root, "relay", 0);
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(conf_fail(relay, "upstream", &diag, "no %d", 7),
	    ERR_PROTO);
	assert_string_equal(diag.text, "t:4: relay \"/a\": upstream: no 7");
	(void)conf_fail(relay, NULL, &diag, "bad");
	assert_non_null(strstr(diag.text, ": relay \"/a\": bad"));
	(void)conf_fail(NULL, "url", &diag, "bad");
	assert_non_null(strstr(diag.text, "url: bad"));
	(void)conf_fail(relay, "upstream", NULL, "bad");
	conf_free(root);
}

/* ---- threads ---- */

static void *
parse_often(void *arg)
{
	const char *value = arg;
	char *text = xasprintf("openai {\n url = \"%s\" }", value);
	bool good = true;

	for (int i = 0; i < 50 && good; i++) {
		struct conf_section *root = NULL;
		struct diag diag = { "" };

		good = conf_parse(value, text, strlen(text), &root, &diag) ==
			ERR_OK &&
		    strcmp(conf_string(conf_section(root, "openai", 0), "url",
			       0),
			value) == 0;
		conf_free(root);
		good = good &&
		    conf_parse(value, "\nx {}", 5, &root, &diag) == ERR_PROTO &&
		    strncmp(diag.text, value, strlen(value)) == 0;
	}
	free(text);
	return good ? arg : NULL;
}

static void
threads_parse_without_hearing_of_each_other(void **state)
{
	static char names[4][4] = { "one", "two", "thr", "fou" };
	pthread_t threads[4];
	void *result;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(thread_start(&threads[i], "parse", parse_often,
				     names[i], NULL),
		    ERR_OK);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &result), 0);
		assert_ptr_equal(result, names[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_a_string_as_it_is_written),
		cmocka_unit_test(nothing_of_the_environment_gets_into_a_value),
		cmocka_unit_test(
		    a_list_may_be_empty_or_end_with_a_comma_or_hold_comments),
		cmocka_unit_test(
		    takes_comments_crlf_and_a_last_line_without_its_end),
		cmocka_unit_test(
		    keeps_sections_in_their_order_with_their_titles),
		cmocka_unit_test(
		    a_section_without_a_title_may_be_written_in_parts),
		cmocka_unit_test(a_section_that_is_absent_has_no_keys),
		cmocka_unit_test(names_the_line_of_what_is_wrong),
		cmocka_unit_test(
		    a_file_that_is_cut_within_a_section_is_refused),
		cmocka_unit_test(takes_files_up_to_the_largest),
		cmocka_unit_test(a_fault_is_told_by_line_section_and_key),
		cmocka_unit_test(threads_parse_without_hearing_of_each_other),
	};

	return cmocka_run_group_tests_name("conf_tree", tests, NULL, NULL);
}
