/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/config/config_value.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* `openai { KEY = TEXT }', in line 2; what is read from it is told of `t'. */
static struct conf_section *root, *section;

static void
write_key(const char *key, const char *text)
{
	char *file = xasprintf("openai {\n%s = %s\n}", key, text);
	struct diag diag = { "" };

	conf_free(root);
	root = NULL;
	if (conf_parse("t", file, strlen(file), &root, &diag) != ERR_OK)
		fail_msg("%s: %s", file, diag.text);
	section = conf_section(root, "openai", 0);
	free(file);
}

static int
teardown(void **state)
{
	(void)state;
	conf_free(root);
	root = NULL;
	return 0;
}

static void
assert_told(const struct diag *diag, const char *key, const char *word)
{
	char *place = xasprintf("t:2: openai: %s: ", key);

	if (strncmp(diag->text, place, strlen(place)) != 0 ||
	    strstr(diag->text, word) == NULL)
		fail_msg("wanted %s...%s, got %s", place, word, diag->text);
	free(place);
}

/* ---- checks of a text ---- */

static void
checks_texts_by_what_they_are_for(void **state)
{
	static const struct {
		value_check *check;
		const char *text;
		bool good;
	} rows[] = {
		{ value_check_path, "/", true },
		{ value_check_path, "/a", true },
		{ value_check_path, "/a/b-c_d.e~f", true },
		{ value_check_path, "/...", true },
		{ value_check_path, "/.a", true },
		{ value_check_path, "", false },
		{ value_check_path, "a", false },
		{ value_check_path, "//", false },
		{ value_check_path, "/a/", true },
		{ value_check_path, "/a//b", false },
		{ value_check_path, "/.", false },
		{ value_check_path, "/a/..", false },
		{ value_check_path, "/a/./b", false },
		{ value_check_path, "/%61", false },
		{ value_check_path, "/a?b", false },
		{ value_check_path, "/a#b", false },
		{ value_check_path, "/a b", false },
		{ value_check_path, "/a\\b", false },
		{ value_check_file, "/etc/x y", true },
		{ value_check_file, "/", true },
		{ value_check_file, "", false },
		{ value_check_file, "etc/x", false },
		{ value_check_file, "~/x", false },
		{ value_check_word, "a", true },
		{ value_check_word, "a b", true },
		{ value_check_word, "gpt-*", true },
		{ value_check_word, "", false },
		{ value_check_word, "a\tb", false },
		{ value_check_word, "a\nb", false },
		{ value_check_token, "X-Key", true },
		{ value_check_token, "!#$%&'*+-.^_`|~09azAZ", true },
		{ value_check_token, "", false },
		{ value_check_token, "a b", false },
		{ value_check_token, "a:b", false },
		{ value_check_token, "a/b", false },
		{ value_check_token, "a\"b", false },
		{ value_check_token, "b\xc3\xbc", false },
		{ value_check_field, "", true },
		{ value_check_field, "Bearer a=b; \"c\"", true },
		{ value_check_field, "a\tb", true },
		{ value_check_field, "a\r\nb: c", false },
		{ value_check_field, "a\nb", false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		if ((rows[i].check(rows[i].text) == NULL) != rows[i].good)
			fail_msg("row %zu: %s", i, rows[i].text);
}

/* ---- scalars ---- */

static void
takes_whole_numbers_within_their_range(void **state)
{
	static const struct {
		const char *text;
		uint64_t min, max, value;
		bool good;
	} rows[] = {
		{ "0", 0, 9, 0, true },
		{ "9", 0, 9, 9, true },
		{ "10", 0, 9, 0, false },
		{ "3", 4, 9, 0, false },
		{ "4", 4, 9, 4, true },
		{ "007", 0, 9, 7, true },
		{ "18446744073709551615", 0, UINT64_MAX, UINT64_MAX, true },
		{ "18446744073709551616", 0, UINT64_MAX, 0, false },
		{ "99999999999999999999999", 0, UINT64_MAX, 0, false },
		{ "\"\"", 0, 9, 0, false },
		{ "\" 1\"", 0, 9, 0, false },
		{ "\"1 \"", 0, 9, 0, false },
		{ "\"+1\"", 0, 9, 0, false },
		{ "-1", 0, 9, 0, false },
		{ "1.0", 0, 9, 0, false },
		{ "1e1", 0, 99, 0, false },
		{ "0x1", 0, 99, 0, false },
		{ "5s", 0, 99, 0, false },
		{ "true", 0, 9, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		uint64_t value = 77;
		struct diag diag = { "" };
		enum err err;

		write_key("lifetime", rows[i].text);
		err = value_get_number(section, "lifetime", rows[i].min,
		    rows[i].max, 5, &value, &diag);
		if (err != (rows[i].good ? ERR_OK : ERR_PROTO) ||
		    (rows[i].good && value != rows[i].value))
			fail_msg("%s: %s", rows[i].text, diag.text);
		if (!rows[i].good)
			assert_told(&diag, "lifetime", "whole number");
		assert_int_equal(value_get_number(section, "idle_timeout", 0, 9,
				     5, &value, &diag),
		    ERR_OK);
		assert_int_equal(value, 5);
	}
}

static void
takes_six_words_for_yes_and_no(void **state)
{
	static const struct {
		const char *text;
		bool value, good;
	} rows[] = {
		{ "true", true, true },
		{ "TRUE", true, true },
		{ "yes", true, true },
		{ "On", true, true },
		{ "false", false, true },
		{ "no", false, true },
		{ "off", false, true },
		{ "\"\"", false, false },
		{ "1", false, false },
		{ "0", false, false },
		{ "y", false, false },
		{ "\"true \"", false, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		bool value = !rows[i].value;
		struct diag diag = { "" };
		enum err err;

		write_key("allow_private", rows[i].text);
		err = value_get_bool(section, "allow_private", true, &value,
		    &diag);
		if (err != (rows[i].good ? ERR_OK : ERR_PROTO) ||
		    (rows[i].good && value != rows[i].value))
			fail_msg("%s: %s", rows[i].text, diag.text);
		if (!rows[i].good)
			assert_told(&diag, "allow_private", "true or false");
	}
	write_key("url", "x");
	for (int i = 0; i < 2; i++) {
		bool value = i == 0;

		assert_int_equal(value_get_bool(section, "allow_private",
				     i == 1, &value, NULL),
		    ERR_OK);
		assert_int_equal(value, i == 1);
	}
}

static void
a_text_is_checked_and_an_absent_one_is_the_fallback(void **state)
{
	struct diag diag = { "" };
	char *text;

	(void)state;
	write_key("project", "\"p\"");
	assert_int_equal(value_get_text(section, "project", value_check_token,
			     "f", &text, &diag),
	    ERR_OK);
	assert_string_equal(text, "p");
	free(text);
	assert_int_equal(value_get_text(section, "organization",
			     value_check_file, "f", &text, &diag),
	    ERR_OK);
	assert_string_equal(text, "f");
	free(text);
	assert_int_equal(value_get_text(NULL, "organization", NULL, NULL, &text,
			     &diag),
	    ERR_OK);
	assert_null(text);
	assert_int_equal(value_get_text(section, "project", value_check_file,
			     NULL, &text, &diag),
	    ERR_PROTO);
	assert_told(&diag, "project", "\"p\": write the whole path");
	write_key("project", "\"\"");
	assert_int_equal(value_get_optional(section, "project",
			     value_check_token, &text, &diag),
	    ERR_OK);
	assert_null(text);
	assert_int_equal(value_get_text(section, "project", value_check_token,
			     NULL, &text, &diag),
	    ERR_PROTO);
}

/* ---- sizes ---- */

static enum err
get_text(struct diag *diag)
{
	char *text = NULL;
	enum err err =
	    value_get_text(section, "project", NULL, NULL, &text, diag);

	free(text);
	return err;
}

static void
free_strings(struct config_strings *strings)
{
	for (size_t i = 0; i < strings->count; i++)
		free(strings->items[i]);
	free(strings->items);
	*strings = (struct config_strings){ .count = 0 };
}

static enum err
get_list(struct diag *diag)
{
	struct config_strings strings = { .count = 0 };
	enum err err = value_get_list(section, "models", value_check_word, NULL,
	    &strings, diag);

	free_strings(&strings);
	return err;
}

static void
bounds_texts_items_and_lists(void **state)
{
	char *text = xcalloc(1, VALUE_TEXT_MAX + 2);
	struct diag diag = { "" };

	(void)state;
	memset(text, 'x', VALUE_TEXT_MAX + 1);
	write_key("project", text);
	assert_int_equal(get_text(&diag), ERR_PROTO);
	assert_told(&diag, "project", "8192");
	text[VALUE_TEXT_MAX] = '\0';
	write_key("project", text);
	assert_int_equal(get_text(&diag), ERR_OK);
	text[VALUE_ITEM_MAX + 1] = '\0';
	write_key("models", text);
	assert_int_equal(get_list(&diag), ERR_PROTO);
	assert_told(&diag, "models", "256 bytes");
	text[VALUE_ITEM_MAX] = '\0';
	write_key("models", text);
	assert_int_equal(get_list(&diag), ERR_OK);
	/* "{a,a,...}" */
	for (size_t i = 0; i <= VALUE_LIST_MAX; i++)
		memcpy(text + 1 + 2 * i, "a,", 2);
	text[0] = '{';
	memcpy(text + 2 + 2 * VALUE_LIST_MAX, "}", 2);
	write_key("models", text);
	assert_int_equal(get_list(&diag), ERR_PROTO);
	assert_told(&diag, "models", "more than 256");
	memcpy(text + 2 * VALUE_LIST_MAX, "}", 2);
	write_key("models", text);
	assert_int_equal(get_list(&diag), ERR_OK);
	free(text);
}

static void
an_empty_list_is_not_an_absent_one(void **state)
{
	static const char *const fallback[] = { "x", "y", NULL };
	struct config_strings strings = { .count = 0 };
	struct diag diag = { "" };

	(void)state;
	write_key("models", "{}");
	assert_int_equal(value_get_list(section, "models", NULL, fallback,
			     &strings, &diag),
	    ERR_OK);
	assert_int_equal(strings.count, 0);
	assert_int_equal(value_get_list(section, "paths", NULL, fallback,
			     &strings, &diag),
	    ERR_OK);
	assert_int_equal(strings.count, 2);
	assert_string_equal(strings.items[1], "y");
	free_strings(&strings);
	write_key("models", "{\"a\", \"\"}");
	assert_int_equal(get_list(&diag), ERR_PROTO);
	assert_told(&diag, "models", "leave it out");
}

/* ---- secrets, files ---- */

static void
a_key_is_one_line_as_the_vendor_gave_it(void **state)
{
	static const struct {
		const char *value, *word; /* NULL: it is good */
	} rows[] = {
		{ "sk-canary", NULL },
		{ "sk canary", NULL },
		{ "x", NULL },
		{ " canary", "blank" },
		{ "canary ", "blank" },
		{ "\tcanary", "blank" },
		{ "\xef\xbb\xbf"
		  "canary",
		    "byte order mark" },
		{ "can\nary", "one line" },
		{ "can\rary", "one line" },
		{ "canary\x7f", "one line" },
		{ "", "" },
	};

	(void)state;
	write_key("api_key", "\"env:T_KEY\"");
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct secret *secret = NULL;
		struct diag diag = { "" };
		enum err err;

		assert_int_equal(setenv("T_KEY", rows[i].value, 1), 0);
		err =
		    value_get_secret(section, "api_key", NULL, &secret, &diag);
		if (err != (rows[i].word == NULL ? ERR_OK : ERR_PROTO) ||
		    (secret != NULL) != (err == ERR_OK) ||
		    strstr(diag.text, "canary") != NULL)
			fail_msg("%s: %d: %s", rows[i].value, err, diag.text);
		if (err != ERR_OK)
			assert_told(&diag, "api_key", rows[i].word);
		secret_free(secret);
	}
}

static void
a_certificate_file_has_to_be_readable(void **state)
{
	char path[] = "/tmp/test_config_value.XXXXXX", *text, *file;
	struct diag diag = { "" };
	int fd = mkstemp(path);

	(void)state;
	assert_int_not_equal(fd, -1);
	(void)close(fd);
	text = xasprintf("\"%s\"", path);
	write_key("ca_file", text);
	assert_int_equal(value_get_ca_file(section, &file, &diag), ERR_OK);
	assert_string_equal(file, path);
	free(file);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(value_get_ca_file(section, &file, &diag), ERR_PROTO);
	assert_told(&diag, "ca_file", "cannot read");
	free(file);
	free(text);
	write_key("ca_file", "\"x.pem\"");
	file = NULL;
	assert_int_equal(value_get_ca_file(section, &file, &diag), ERR_PROTO);
	assert_told(&diag, "ca_file", "whole path");
	free(file);
	write_key("ca_file", "\"\"");
	assert_int_equal(value_get_ca_file(section, &file, &diag), ERR_OK);
	assert_null(file);
}

/* ---- the way back ---- */

static void
what_is_written_reads_as_the_same_text(void **state)
{
	static const char *const texts[] = { "", "a", "a b", "\"", "\\",
		"\\\\\"", "${HOME}", "$", "\\${", "a\nb\tc", "#", "'", "{}",
		"\xc3\xbc" };

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		char *text = NULL;
		size_t len;
		FILE *f = open_memstream(&text, &len);

		assert_non_null(f);
		value_put_quoted(f, texts[i]);
		assert_int_equal(fclose(f), 0);
		write_key("url", text);
		assert_string_equal(conf_string(section, "url", 0), texts[i]);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_texts_by_what_they_are_for),
		cmocka_unit_test(takes_whole_numbers_within_their_range),
		cmocka_unit_test(takes_six_words_for_yes_and_no),
		cmocka_unit_test(
		    a_text_is_checked_and_an_absent_one_is_the_fallback),
		cmocka_unit_test(bounds_texts_items_and_lists),
		cmocka_unit_test(an_empty_list_is_not_an_absent_one),
		cmocka_unit_test(a_key_is_one_line_as_the_vendor_gave_it),
		cmocka_unit_test(a_certificate_file_has_to_be_readable),
		cmocka_unit_test(what_is_written_reads_as_the_same_text),
	};

	return cmocka_run_group_tests_name("config_value", tests, NULL,
	    teardown);
}
