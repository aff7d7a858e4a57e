/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/tunnels/target.h"

/* A string that can be changed, as those of a configuration can. */
#define S(text) ((char[]){ text })

static struct config_alias aliases[] = {
	{ S("old"), S("new-1") },
	{ S("bad"), S("not allowed") },
};
static char *alone[] = { S("call") };
static char *model_values[] = { S("new-*"), S("a b") };
static struct config_query queries[] = {
	{
	    .name = S("model"),
	    .values = { model_values, 2 },
	    .fallback = S("new-0"),
	    .fallback_unless = { alone, 1 },
	    .aliases = aliases,
	    .alias_count = 2,
	},
	{ .name = S("any") },
};
static const struct config_relay relay = {
	.name = S("/r"),
	.upstream = { .path = S("/up") },
	.queries = queries,
	.query_count = 2,
};
static const struct config_relay fixed = {
	.name = S("/f"),
	.upstream = { .path = S("/up"), .query = S("key=1") },
	.queries = &queries[1],
	.query_count = 1,
};

static void
takes_a_target_apart(void **state)
{
	struct target *target;

	(void)state;
	assert_int_equal(target_parse("/a/b-c?x=1&&y&z=%C3%A9+%2B%26=", &target,
			     NULL),
	    ERR_OK);
	assert_string_equal(target->path, "/a/b-c");
	assert_int_equal(target->count, 3);
	assert_string_equal(target->parameters[0].value, "1");
	assert_string_equal(target->parameters[1].name, "y");
	assert_string_equal(target->parameters[1].value, "");
	assert_string_equal(target->parameters[2].value, "\xc3\xa9 +&=");
	target_free(target);
	target_free(NULL);
}

static void
refuses_what_two_readers_could_read_differently(void **state)
{
	static const char *const cases[] = {
		"",
		"*",
		"a",
		"?a=b",
		"http://vendor.example/",
		"//vendor.example/",
		"/a//b",
		"/.",
		"/..",
		"/./a",
		"/a/../b",
		"/a/..",
		"/a/.",
		"/%61",
		"/a%2fb",
		"/a%00",
		"/a\\b",
		"/a b",
		"/a\tb",
		"/a#b",
		"/\xc3\xa9",
		"/a?x=%",
		"/a?x=%4",
		"/a?x=%zz",
		"/a?x=%+1",
		"/a?x=%00",
		"/a?x=%0a",
		"/a?x=%0D%0AHost:%20b",
		"/a?x=%7f",
		"/a?%01=1",
		"/a?x=\x01",
		"/a?x=%ff",
		"/a?x=%c0%af",
		"/a?x=%ed%a0%80",
		"/a?x=1&x=1",
		"/a?x=1&%78=2",
		"/a?x&y&x=",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct target *target = NULL;
		struct diag diag = { "" };

		if (target_parse(cases[i], &target, &diag) != ERR_PROTO)
			fail_msg("%s", cases[i]);
		assert_null(target);
		assert_string_not_equal(diag.text, "");
	}
}

static void
bounds_the_number_of_parameters(void **state)
{
	char text[1024] = "/?";
	struct target *target;
	size_t len = 2;

	(void)state;
	for (int i = 0; i < TARGET_PARAMETERS_MAX; i++)
		len += (size_t)sprintf(text + len, "p%d=1&", i);
	assert_int_equal(target_parse(text, &target, NULL), ERR_OK);
	assert_int_equal(target->count, TARGET_PARAMETERS_MAX);
	target_free(target);
	(void)strcpy(text + len, "q");
	assert_int_equal(target_parse(text, &target, NULL), ERR_PROTO);
}

static void
rewrites_by_the_rules_of_the_relay(void **state)
{
	static const struct {
		const char *text;
		const struct config_relay *relay;
		enum err err;
		const char *result;
	} cases[] = {
		{ "/r", &relay, ERR_OK, "/up?model=new-0" },
		{ "/r?", &relay, ERR_OK, "/up?model=new-0" },
		{ "/r?model=new-5", &relay, ERR_OK, "/up?model=new-5" },
		{ "/r?mod%65l=new-%35", &relay, ERR_OK, "/up?model=new-5" },
		{ "/r?model=old", &relay, ERR_OK, "/up?model=new-1" },
		{ "/r?model=a+b", &relay, ERR_OK, "/up?model=a%20b" },
		{ "/r?model=bad", &relay, ERR_DENIED, NULL },
		{ "/r?model=other", &relay, ERR_DENIED, NULL },
		{ "/r?model=", &relay, ERR_DENIED, NULL },
		{ "/r?model", &relay, ERR_DENIED, NULL },
		{ "/r?Model=new-5", &relay, ERR_OK, "/up?model=new-0" },
		{ "/r?any=&model=new-5", &relay, ERR_OK,
		    "/up?model=new-5&any=" },
		{ "/r?model=new-5%26key%3d2%23", &relay, ERR_OK,
		    "/up?model=new-5%26key%3D2%23" },
		{ "/r?url=ws://evil.example&host=x&key=2", &relay, ERR_OK,
		    "/up?model=new-0" },
		{ "/r?call=1", &relay, ERR_OK, "/up" },
		{ "/r?call=1&model=new-5", &relay, ERR_OK, "/up?model=new-5" },
		{ "/f", &fixed, ERR_OK, "/up?key=1" },
		{ "/f?key=2", &fixed, ERR_OK, "/up?key=1" },
		{ "/f?any=%C3%A9~/'", &fixed, ERR_OK,
		    "/up?key=1&any=%C3%A9~%2F%27" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct target *target;
		struct diag diag = { "" };
		char *result = NULL;
		enum err err;

		assert_int_equal(target_parse(cases[i].text, &target, NULL),
		    ERR_OK);
		err = target_rewrite(target, cases[i].relay, &result, &diag);
		if (err != cases[i].err)
			fail_msg("%s: %s", cases[i].text, err_text(err));
		if (err == ERR_OK)
			assert_string_equal(result, cases[i].result);
		else
			assert_non_null(strstr(diag.text, "`model'"));
		free(result);
		target_free(target);
	}
}

static void
refuses_what_becomes_too_long(void **state)
{
	char text[4096] = "/r?any=";
	struct target *target;
	struct diag diag;
	char *result;

	(void)state;
	memset(text + 7, '!', sizeof(text) - 8);
	assert_int_equal(target_parse(text, &target, NULL), ERR_OK);
	assert_int_equal(target_rewrite(target, &relay, &result, &diag),
	    ERR_HEAD);
	assert_string_equal(diag.text, "the query is too long");
	target_free(target);
}

static void
describes_a_target_without_its_secrets(void **state)
{
	static const struct {
		const char *target, *word;
	} cases[] = {
		{ "/v1/realtime?model=x", "/v1/realtime" },
		{ "/b/abc/ws?session_id=abc", "/b/(a9993e36)/ws" },
		{ "/b/abc", "/b/(a9993e36)" },
		{ "/culvert/b/abc/talk", "/culvert/b/(a9993e36)/talk" },
		{ "/b/", "/b/" },
		{ "/b/?a=/b/abc", "/b/" },
		{ "/a?b=/b/abc", "/a" },
		{ "/b/abc?", "/b/(a9993e36)" },
		{ "/b/a b\n", "/b/(90ce62ed)" },
		{ "/a b", "/a\\x20b" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char word[64];

		target_describe(cases[i].target, word, sizeof(word));
		assert_string_equal(word, cases[i].word);
	}
}

/* What becomes of a parameter of "/?x=1&m=old" that is set to this. */
static void
assert_value(const char *set, enum err wanted_err, const char *wanted)
{
	static char name[] = "m", any[] = "gpt-*", from[] = "old",
		    to[] = "gpt-b", fallback[] = "gpt-a", r[] = "/r";
	static char *values[] = { any };
	static struct config_alias alias = { from, to };
	static struct config_query query = { .name = name,
		.values = { values, 1 },
		.fallback = fallback,
		.aliases = &alias,
		.alias_count = 1 };
	static const struct config_relay rules = { .name = r,
		.queries = &query,
		.query_count = 1 };
	const char *value = "untouched";
	struct target *target;

	assert_int_equal(target_parse("/?x=1&m=old&y=2", &target, NULL),
	    ERR_OK);
	if (strcmp(set, "old") != 0)
		assert_int_equal(target_set(target, "m",
				     *set == '\0' ? NULL : set, NULL),
		    ERR_OK);
	assert_int_equal(target_value(target, &rules, "m", &value, NULL),
	    wanted_err);
	if (wanted_err == ERR_OK)
		assert_string_equal(value, wanted);
	assert_int_equal(target_value(target, &rules, "x", &value, NULL),
	    ERR_OK);
	assert_null(value); /* no rule: it is not sent */
	assert_string_equal(target_find(target, "x"), "1");
	assert_string_equal(target_find(target, "y"), "2");
	target_free(target);
}

static void
a_parameter_can_be_set_and_keeps_to_the_rules(void **state)
{
	(void)state;
	assert_value("old", ERR_OK, "gpt-b");
	assert_value("gpt-c", ERR_OK, "gpt-c");
	assert_value("claude", ERR_DENIED, NULL);
	assert_value("", ERR_OK, "gpt-a");
}

static void
a_parameter_is_set_where_there_is_room(void **state)
{
	char name[16];
	struct target *target;

	(void)state;
	assert_int_equal(target_parse("/", &target, NULL), ERR_OK);
	for (int i = 0; i < TARGET_PARAMETERS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "p%d", i);
		assert_int_equal(target_set(target, name, "x", NULL), ERR_OK);
	}
	assert_int_equal(target_set(target, "more", "x", NULL), ERR_PROTO);
	assert_int_equal(target_set(target, "more", NULL, NULL), ERR_OK);
	assert_int_equal(target_set(target, "p7", "y", NULL), ERR_OK);
	assert_string_equal(target_find(target, "p7"), "y");
	assert_int_equal(target->count, TARGET_PARAMETERS_MAX);
	target_free(target);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_a_target_apart),
		cmocka_unit_test(describes_a_target_without_its_secrets),
		cmocka_unit_test(
		    refuses_what_two_readers_could_read_differently),
		cmocka_unit_test(bounds_the_number_of_parameters),
		cmocka_unit_test(rewrites_by_the_rules_of_the_relay),
		cmocka_unit_test(refuses_what_becomes_too_long),
		cmocka_unit_test(a_parameter_can_be_set_and_keeps_to_the_rules),
		cmocka_unit_test(a_parameter_is_set_where_there_is_room),
	};

	return cmocka_run_group_tests_name("target", tests, NULL, NULL);
}
