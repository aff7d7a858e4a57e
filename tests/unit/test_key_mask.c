/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/str.h"
#include "tunnel/key_mask.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define LONG "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz"

static struct wire_header items[] = {
	{ (char[]){ "OpenAI-Beta" }, (char[]){ "realtime=v1" }, false },
	{ (char[]){ "Authorization" }, (char[]){ "Bearer " LONG }, true },
	{ (char[]){ "X-Plain" }, (char[]){ "0123abcd" }, true },
	{ (char[]){ "X-Short" }, (char[]){ "word" }, true },
};
static const struct wire_headers headers = { items, COUNT(items) };

static void
masks_keys_and_nothing_else(void **state)
{
	static const struct {
		const char *text, *masked; /* NULL: as it is */
	} cases[] = {
		{ "", NULL },
		{ "bye", NULL },
		{ "a word of realtime=v1 and Bearer", NULL },
		{ "of another: sk-proj-9876543210abcdef", NULL },
		{ "cut: sk-proj-012345", NULL }, /* anybody could guess it */
		{ "bad " LONG, "bad <masked>" },
		{ "bad Bearer " LONG ", \xc3\xa4 there",
		    "bad Bearer <masked> \xc3\xa4 there" },
		{ "bad Bearer " LONG " there", "bad Bearer <masked> there" },
		{ "cut: sk-proj-01234567", "cut: <masked>" },
		{ "{\"key\":\"" LONG "\"}", "{\"key\":\"<masked>\"}" },
		{ "key=" LONG "&more \xc3\xa4", "key=<masked> \xc3\xa4" },
		{ LONG "\xc3\xa4", "<masked>" },
		{ "0123abcd", "<masked>" },
		{ "0123abcd " LONG " 0123abcd", "<masked> <masked> <masked>" },
		{ "0123abc", NULL },
	};
	struct key_mask *mask = key_mask_new(&headers);

	(void)state;
	assert_non_null(mask);
	for (size_t i = 0; i < COUNT(cases); i++) {
		bool masks = cases[i].masked != NULL;
		char text[128];

		(void)snprintf(text, sizeof(text), "%s", cases[i].text);
		assert_int_equal(key_mask_apply(mask, text), masks);
		assert_string_equal(text,
		    masks ? cases[i].masked : cases[i].text);
		assert_true(strlen(text) <= strlen(cases[i].text));
		assert_true(str_is_utf8(text, strlen(text)));
	}
	key_mask_free(mask);
}

static void
there_is_none_without_a_key(void **state)
{
	const struct wire_headers none = { NULL, 0 };
	const struct wire_headers plain = { items, 1 };
	const struct wire_headers too_short = { items + 3, 1 };
	char text[] = "0123abcd";

	(void)state;
	assert_null(key_mask_new(&none));
	assert_null(key_mask_new(&plain));
	assert_null(key_mask_new(&too_short));
	assert_false(key_mask_apply(NULL, text));
	key_mask_free(NULL);
}

static void
keeps_no_key_in_whole(void **state)
{
	struct key_mask *mask = key_mask_new(&headers);
	char text[] = "sk-proj-0123456x";

	(void)state;
	/* no more than the beginning is known: it does for others, too */
	assert_false(key_mask_apply(mask, text));
	text[strlen(text) - 1] = '7';
	assert_true(key_mask_apply(mask, text));
	key_mask_free(mask);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(masks_keys_and_nothing_else),
		cmocka_unit_test(there_is_none_without_a_key),
		cmocka_unit_test(keeps_no_key_in_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
