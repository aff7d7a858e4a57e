/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"

static const enum err codes[] = {
#define ERR(name, http, code, text) ERR_##name,
#include "common/err.def"
};
#define COUNT (sizeof(codes) / sizeof(codes[0]))

static void
every_code_has_a_text_a_status_and_a_name_of_its_own(void **state)
{
	(void)state;
	assert_int_equal(ERR_OK, 0);
	assert_int_equal(err_http_status(ERR_OK), 200);
	for (size_t i = 0; i < COUNT; i++) {
		const char *code = err_code(codes[i]);

		assert_int_equal(codes[i], i);
		assert_string_not_equal(err_text(codes[i]), "");
		assert_int_equal(strspn(code, "abcdefghijklmnopqrstuvwxyz_"),
		    strlen(code));
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(code, err_code(codes[k]));
		if (i > 0)
			assert_in_range(err_http_status(codes[i]), 400, 599);
	}
}

static void
a_reason_is_cut_to_its_size_and_may_be_dropped(void **state)
{
	struct diag diag;
	char text[1000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	diag_set(&diag, "%d%s", 7, text);
	assert_int_equal(strlen(diag.text), sizeof(diag.text) - 1);
	assert_memory_equal(diag.text, "7xx", 3);
	diag_set(&diag, "%s", "short");
	assert_string_equal(diag.text, "short");
	diag_set(NULL, "%s", text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    every_code_has_a_text_a_status_and_a_name_of_its_own),
		cmocka_unit_test(
		    a_reason_is_cut_to_its_size_and_may_be_dropped),
	};

	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
