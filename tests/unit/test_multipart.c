/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/http/multipart.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TYPE	 "multipart/form-data; boundary=B"
#define PART(n)	 "Content-Disposition: form-data; name=\"" n "\"\r\n\r\n"

static enum err
parse(const char *type, const char *body, struct multipart *form)
{
	struct diag diag = { "" };
	enum err err = multipart_parse(type, body, strlen(body), form, &diag);

	assert_int_equal(err != ERR_OK, diag.text[0] != '\0');
	return err;
}

static void
takes_forms_as_clients_write_them(void **state)
{
	/* undici; curl -F; a browser with a file; nothing in a part */
	static const struct {
		const char *type, *body, *data;
	} good[] = {
		{ "multipart/form-data; boundary=----formdata-undici-01",
		    "------formdata-undici-01\r\n"
		    "Content-Disposition: form-data; name=\"sdp\"\r\n\r\n"
		    "v=0\r\no=-\r\n\r\n------formdata-undici-01--\r\n",
		    "v=0\r\no=-\r\n" },
		{ "Multipart/Form-Data;boundary=\"B C\"",
		    "--B C\r\n"
		    "content-disposition:form-data;name=sdp\r\n"
		    "Content-Type: application/sdp\r\n\r\n\r\nv\r\n"
		    "\r\n--B C--",
		    "\r\nv\r\n" },
		{ "multipart/form-data; charset=utf-8; boundary=B",
		    "--B\r\nContent-Type: text/plain; a=\"b\"\r\n"
		    "Content-Disposition: form-data; filename=\"a b.sdp\"; "
		    "name=\"sdp\"\r\n\r\n-B\r\n--\r\n--B--\r\n",
		    "-B\r\n--" },
		{ TYPE, "--B\r\n" PART("sdp") "\r\n--B--\r\n", "" },
		{ TYPE, "--B\r\n" PART("sdp") "--B--\r\n", "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		const struct multipart_part *part;
		struct multipart form;

		if (parse(good[i].type, good[i].body, &form) != ERR_OK)
			fail_msg("%zu", i);
		part = multipart_find(&form, "sdp");
		assert_non_null(part);
		assert_int_equal(part->len, strlen(good[i].data));
		assert_memory_equal(part->data, good[i].data, part->len);
		assert_null(multipart_find(&form, "sd"));
	}
}

static void
takes_several_parts(void **state)
{
	struct multipart form;

	(void)state;
	assert_int_equal(parse(TYPE,
			     "--B\r\n" PART("a") "1\r\n--B\r\n" PART(
				 "b") "\r\n--B\r\n" PART("c") "3\r\n--B--",
			     &form),
	    ERR_OK);
	assert_int_equal(form.count, 3);
	assert_memory_equal(multipart_find(&form, "c")->data, "3", 1);
	assert_int_equal(multipart_find(&form, "b")->len, 0);
	assert_int_equal(parse(TYPE, "--B--", &form), ERR_OK);
	assert_int_equal(form.count, 0);
}

static const char *const bad_types[] = { "", "multipart/form-data",
	"multipart/form-data; boundary",
	"multipart/form-data; boundary=", "multipart/form-data; boundary=\"\"",
	"multipart/form-data; boundary=\"B", "multipart/mixed; boundary=B",
	"multipart/form-data; boundary=B; boundary=B",
	"multipart/form-data; boundary=B C", "multipart/form-data boundary=B",
	"multipart/form-data; boundary=\"B\\\"\"",
	"multipart/form-data; =x; boundary=B",
	"multipart/form-dataX; boundary=B",
	"multipart/form-data; boundary="
	"0123456789012345678901234567890123456789"
	"0123456789012345678901234567890" };

static void
refuses_types_that_are_no_form(void **state)
{
	struct multipart form;

	(void)state;
	for (size_t i = 0; i < COUNT(bad_types); i++)
		if (parse(bad_types[i], "--B--", &form) != ERR_TYPE)
			fail_msg("%s", bad_types[i]);
	assert_int_equal(parse("multipart/form-data; boundary=\"B;\"", "--B;--",
			     &form),
	    ERR_PROTO);
	assert_int_equal(parse("multipart/form-data; boundary=\"B \"", "--B --",
			     &form),
	    ERR_PROTO);
}

static const char *const bad_bodies[] = { "", "--", "-", "--B", "--B-", "--C--",
	"\r\n--B--", "text\r\n--B--", "--B--\r\nmore", "--B-- ",
	"--B \r\n" PART("a") "1\r\n--B--", "--B\r\n", "--B\r\n\r\n",
	"--B\r\n\r\n1\r\n--B--", "--B\r\n" PART("a") "1",
	"--B\r\n" PART("a") "1\r\n--B", "--B\r\n" PART("a") "1\r\n--B\r\n",
	"--B\r\n" PART("a") "1\n--B--", "--B\r\n" PART("a") "1\r\n--BB\r\n",
	"--B\n" PART("a") "1\r\n--B--",
	"--B\r\n" PART("a") "1\r\n--B\r\n" PART("a") "2\r\n--B--",
	"--B\r\n" PART("") "1\r\n--B--", "--B\r\n" PART("a b") "1\r\n--B--",
	"--B\r\n" PART("a%22") "1\r\n--B--",
	"--B\r\nContent-Disposition: attachment; name=a\r\n\r\n\r\n--B--",
	"--B\r\nContent-Disposition: form-data\r\n\r\n\r\n--B--",
	"--B\r\nContent-Disposition: form-data; name*=a\r\n\r\n\r\n--B--",
	"--B\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n\r\n"
	"--B--",
	"--B\r\nContent-Disposition: form-data; name=a\r\n"
	"Content-Disposition: form-data; name=b\r\n\r\n\r\n--B--",
	"--B\r\nContent-Transfer-Encoding: base64\r\n" PART("a") "\r\n--B--",
	"--B\r\nnonsense\r\n" PART("a") "\r\n--B--",
	"--B\r\n: x\r\n" PART("a") "\r\n--B--",
	"--B\r\nX: a\x01\r\n" PART("a") "\r\n--B--",
	"--B\r\nX: a\r\n folded\r\n" PART("a") "\r\n--B--" };

static void
refuses_bodies_that_can_be_read_in_two_ways(void **state)
{
	struct multipart form = { .count = 77 };

	(void)state;
	for (size_t i = 0; i < COUNT(bad_bodies); i++)
		if (parse(TYPE, bad_bodies[i], &form) != ERR_PROTO)
			fail_msg("%zu: %s", i, bad_bodies[i]);
	assert_int_equal(form.count, 77);
}

static void
refuses_more_than_its_maximum(void **state)
{
	char body[4096] = "--B", head[2 * MULTIPART_HEAD_MAX];
	char name[MULTIPART_NAME_MAX + 2];
	struct multipart form;

	(void)state;
	for (int i = 0; i < MULTIPART_PARTS_MAX + 1; i++) {
		size_t n = strlen(body);

		(void)snprintf(body + n, sizeof(body) - n, "\r\n%s%d%s",
		    "Content-Disposition: form-data; name=n", i,
		    "\r\n\r\n\r\n--B");
	}
	(void)strcat(body, "--");
	assert_int_equal(parse(TYPE, body, &form), ERR_LIMIT);
	memset(head, 'x', sizeof(head));
	(void)snprintf(body, sizeof(body), "--B\r\nX: %.*s\r\n%s1\r\n--B--",
	    MULTIPART_HEAD_MAX, head, PART("a"));
	assert_int_equal(parse(TYPE, body, &form), ERR_PROTO);
	memset(name, 'x', sizeof(name));
	for (int len = MULTIPART_NAME_MAX; len <= MULTIPART_NAME_MAX + 1;
	     len++) {
		(void)snprintf(body, sizeof(body),
		    "--B\r\nContent-Disposition: form-data; name=%.*s"
		    "\r\n\r\n1\r\n--B--",
		    len, name);
		assert_int_equal(parse(TYPE, body, &form),
		    len > MULTIPART_NAME_MAX ? ERR_PROTO : ERR_OK);
	}
}

static void
reads_what_it_writes(void **state)
{
	const struct multipart_field fields[] = {
		{ "sdp", "application/sdp", "v=0\r\n--\r\n", 9 },
		{ "session", "application/json", "{\"a\":\0}", 7 },
	};
	struct multipart form;
	char *type, *body;
	size_t len;

	(void)state;
	multipart_format(fields, 2, &type, &body, &len);
	assert_int_equal(multipart_parse(type, body, len, &form, NULL), ERR_OK);
	assert_int_equal(form.count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(form.parts[i].name, fields[i].name);
		assert_int_equal(form.parts[i].len, fields[i].len);
		assert_memory_equal(form.parts[i].data, fields[i].data,
		    fields[i].len);
	}
	free(type);
	free(body);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_forms_as_clients_write_them),
		cmocka_unit_test(takes_several_parts),
		cmocka_unit_test(refuses_types_that_are_no_form),
		cmocka_unit_test(refuses_bodies_that_can_be_read_in_two_ways),
		cmocka_unit_test(refuses_more_than_its_maximum),
		cmocka_unit_test(reads_what_it_writes),
	};

	return cmocka_run_group_tests_name("multipart", tests, NULL, NULL);
}
