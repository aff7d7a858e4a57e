/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/http/request_parse.h"
#include "common/xalloc.h"

#define COUNT(a)  (sizeof(a) / sizeof((a)[0]))
#define ENVP(...) ((char *const[]){ __VA_ARGS__, NULL })
/* never written to */
#define P(text) ((char *)(uintptr_t)(text))

static void
finds_parameters_by_their_whole_name(void **state)
{
	char *const *envp = ENVP(P("AB=1"), P("A=2"), P("A=3"), P("B="),
	    P("NOTHING"), P("C=x=y"));

	(void)state;
	assert_string_equal(request_parse_param(envp, "A"), "2");
	assert_string_equal(request_parse_param(envp, "AB"), "1");
	assert_string_equal(request_parse_param(envp, "B"), "");
	assert_string_equal(request_parse_param(envp, "C"), "x=y");
	assert_null(request_parse_param(envp, "NOTHING"));
	assert_null(request_parse_param(envp, "D"));
	assert_null(request_parse_param(envp, ""));
}

static void
finds_headers_without_case(void **state)
{
	char *const *envp = ENVP(P("HTTP_X_ANON_ID=a"), P("CONTENT_TYPE=t"),
	    P("CONTENT_LENGTH=4"), P("HTTP_CONTENT_TYPE=wrong"),
	    P("HTTP_ORIGIN=o"));
	char name[200];

	(void)state;
	assert_string_equal(request_parse_header(envp, "x-anon-id"), "a");
	assert_string_equal(request_parse_header(envp, "Origin"), "o");
	assert_string_equal(request_parse_header(envp, "Content-Type"), "t");
	assert_string_equal(request_parse_header(envp, "content-length"), "4");
	assert_null(request_parse_header(envp, "authorization"));
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_null(request_parse_header(envp, name));
}

static void
never_shows_a_clients_proxy(void **state)
{
	char *const *envp = ENVP(P("HTTP_PROXY=http://evil.example"));

	(void)state;
	assert_null(request_parse_param(envp, "HTTP_PROXY"));
	assert_null(request_parse_header(envp, "proxy"));
	assert_null(request_parse_header(envp, "Proxy"));
}

static void
reads_content_length_as_digits_alone(void **state)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t value;
	} cases[] = {
		{ "0", true, 0 },
		{ "12", true, 12 },
		{ "9223372036854775807", true, INT64_MAX },
		{ "9223372036854775808", false, 0 },
		{ "18446744073709551616", false, 0 },
		{ "99999999999999999999999999", false, 0 },
		{ NULL, false, 0 },
		{ "", false, 0 },
		{ "-1", false, 0 },
		{ "+1", false, 0 },
		{ " 1", false, 0 },
		{ "1 ", false, 0 },
		{ "12x", false, 0 },
		{ "0x10", false, 0 },
		{ "1e3", false, 0 },
		{ "1,1", false, 0 },
		{ "1.0", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint64_t value = 0;
		enum err err = request_parse_length(cases[i].text, &value);

		if (err != (cases[i].good ? ERR_OK : ERR_PROTO) ||
		    value != cases[i].value)
			fail_msg("case %zu: %s", i, cases[i].text);
	}
}

static const struct {
	const char *uri, *base;
	enum err err;
	const char *path;
} path_cases[] = {
	{ "/", "", ERR_OK, "/" },
	{ "/a", "", ERR_OK, "/a" },
	{ "/a/", "", ERR_OK, "/a/" },
	{ "/a/b.c/..d/e..", "", ERR_OK, "/a/b.c/..d/e.." },
	{ "/a?b//..%00", "", ERR_OK, "/a" },
	{ "/?", "", ERR_OK, "/" },
	{ "/a-._~!$&'()*+,;=:@/b", "", ERR_OK, "/a-._~!$&'()*+,;=:@/b" },
	{ "/x/a", "/x", ERR_OK, "/a" },
	{ "/x", "/x", ERR_OK, "/" },
	{ "/x?q", "/x", ERR_OK, "/" },
	{ "/x/", "/x", ERR_OK, "/" },
	{ "/xa", "/x", ERR_NOTFOUND, NULL },
	{ "/", "/x", ERR_NOTFOUND, NULL },
	{ "/X/a", "/x", ERR_NOTFOUND, NULL },
	{ "", "", ERR_PROTO, NULL },
	{ "?", "", ERR_PROTO, NULL },
	{ "*", "", ERR_PROTO, NULL },
	{ "a", "", ERR_PROTO, NULL },
	{ "http://host/a", "", ERR_PROTO, NULL },
	{ "//host/a", "", ERR_PROTO, NULL },
	{ "/a//b", "", ERR_PROTO, NULL },
	{ "/a//", "", ERR_PROTO, NULL },
	{ "/.", "", ERR_PROTO, NULL },
	{ "/..", "", ERR_PROTO, NULL },
	{ "/../a", "", ERR_PROTO, NULL },
	{ "/a/../b", "", ERR_PROTO, NULL },
	{ "/a/./b", "", ERR_PROTO, NULL },
	{ "/a/..", "", ERR_PROTO, NULL },
	{ "/x/../a", "/x", ERR_PROTO, NULL },
	{ "/%61", "", ERR_PROTO, NULL },
	{ "/%2e%2e/a", "", ERR_PROTO, NULL },
	{ "/a%2fb", "", ERR_PROTO, NULL },
	{ "/a%00", "", ERR_PROTO, NULL },
	{ "/a%", "", ERR_PROTO, NULL },
	{ "/a\\b", "", ERR_PROTO, NULL },
	{ "/a b", "", ERR_PROTO, NULL },
	{ "/a#b", "", ERR_PROTO, NULL },
	{ "/a\tb", "", ERR_PROTO, NULL },
	{ "/a\r\nX: y", "", ERR_PROTO, NULL },
	{ "/\x7f", "", ERR_PROTO, NULL },
	{ "/\xc3\xa9", "", ERR_PROTO, NULL },
	{ "/<a>", "", ERR_PROTO, NULL },
	{ "/\"", "", ERR_PROTO, NULL },
};

static void
takes_paths_that_have_one_reading(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(path_cases); i++) {
		char *param = xasprintf("REQUEST_URI=%s", path_cases[i].uri);
		char *path = NULL;
		enum err err =
		    request_parse_path(ENVP(param), path_cases[i].base, &path);

		if (err != path_cases[i].err)
			fail_msg("case %zu: %s", i, path_cases[i].uri);
		if (err == ERR_OK)
			assert_string_equal(path, path_cases[i].path);
		else
			assert_null(path);
		free(path);
		free(param);
	}
}

static void
finds_the_path_where_there_is_no_request_uri(void **state)
{
	char *path;

	(void)state;
	assert_int_equal(request_parse_path(ENVP(P("SCRIPT_NAME=/cgi-bin/x"),
						P("PATH_INFO=/a")),
			     "/cgi-bin/x", &path),
	    ERR_OK);
	assert_string_equal(path, "/a");
	free(path);
	assert_int_equal(request_parse_path(ENVP(P("A=b")), "", &path),
	    ERR_PROTO);
}

static void
bounds_the_length_of_a_uri(void **state)
{
	char *uri = xcalloc(1, REQUEST_URI_MAX_BYTES + 100), *path;
	size_t len = strlen("REQUEST_URI=/");

	(void)state;
	(void)strcpy(uri, "REQUEST_URI=/");
	memset(uri + len, 'a', REQUEST_URI_MAX_BYTES - 1);
	assert_int_equal(request_parse_path(ENVP(uri), "", &path), ERR_OK);
	free(path);
	uri[len + REQUEST_URI_MAX_BYTES - 1] = 'a';
	assert_int_equal(request_parse_path(ENVP(uri), "", &path), ERR_HEAD);
	uri[len] = '?';
	assert_int_equal(request_parse_path(ENVP(uri), "", &path), ERR_HEAD);
	free(uri);
}

static void
refuses_what_no_request_may_have(void **state)
{
	static const struct {
		const char *a, *b, *c;
		enum err err;
	} cases[] = {
		{ "REQUEST_METHOD=GET", "CONTENT_LENGTH=", "C=", ERR_OK },
		{ "REQUEST_METHOD=POST", "CONTENT_LENGTH=12", "C=", ERR_OK },
		{ "REQUEST_METHOD=M-SEARCH", "X=\x01", "C=", ERR_OK },
		{ "REQUEST_METHOD=GET", "SSL_CLIENT_CERT=a\nb", "C=", ERR_OK },
		{ "REQUEST_METHOD=GET", "HTTP_X=\xc3\xa9\t", "C=", ERR_OK },
		{ "REQUEST_METHOD=GET", "HTTP_X=a\rb", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=GET", "HTTP_ORIGIN=a\n", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=GET", "REMOTE_ADDR=1\n", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=GET", "CONTENT_TYPE=\x7f", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=GET", "CONTENT_LENGTH=-1", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=GET", "CONTENT_LENGTH=12x", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=", "A=b", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=G T", "A=b", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=G\nT", "A=b", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=G\xc3\xa9T", "A=b", "C=", ERR_PROTO },
		{ "REQUEST_METHODX=GET", "A=b", "C=", ERR_PROTO },
		{ "REQUEST_METHOD=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "A=b",
		    "C=", ERR_PROTO },
		{ "REQUEST_METHOD=GET", "HTTP_ORIGIN=a", "HTTP_ORIGIN=b",
		    ERR_PROTO },
		{ "REQUEST_METHOD=GET", "HTTP_COOKIE=a", "HTTP_COOKIE=b",
		    ERR_OK },
		{ "REQUEST_METHOD=GET", "HTTP_ORIGIN=a", "HTTP_ORIGINAL=b",
		    ERR_OK },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct diag diag = { "" };

		if (request_parse_check(ENVP(P(cases[i].a), P(cases[i].b),
					    P(cases[i].c)),
			&diag) != cases[i].err)
			fail_msg("case %zu: %s", i, cases[i].a);
		assert_true((cases[i].err == ERR_OK) == (diag.text[0] == 0));
	}
}

static void
bounds_the_parameters(void **state)
{
	static char *envp[REQUEST_PARAMS_MAX + 2];
	char *large = xcalloc(1, REQUEST_PARAMS_MAX_BYTES + 1);

	(void)state;
	envp[0] = P("REQUEST_METHOD=GET");
	for (size_t i = 1; i < REQUEST_PARAMS_MAX; i++)
		envp[i] = P("HTTP_X=y");
	assert_int_equal(request_parse_check(envp, NULL), ERR_OK);
	envp[REQUEST_PARAMS_MAX] = P("HTTP_X=y");
	assert_int_equal(request_parse_check(envp, NULL), ERR_HEAD);
	memset(large, 'a', REQUEST_PARAMS_MAX_BYTES);
	assert_int_equal(
	    request_parse_check(ENVP(P("REQUEST_METHOD=GET"), large), NULL),
	    ERR_HEAD);
	free(large);
}

static bool
is_json(const char *content_type)
{
	return request_parse_is_type(content_type, "application/json");
}

static void
knows_json_by_its_type(void **state)
{
	(void)state;
	assert_true(is_json("application/json"));
	assert_true(is_json("Application/JSON; charset=utf-8"));
	assert_true(is_json("application/json \t;x"));
	assert_false(is_json("application/jsonp"));
	assert_false(is_json("application/json-patch+json"));
	assert_false(is_json("text/plain; application/json"));
	assert_false(is_json(" application/json"));
	assert_false(is_json("text/plain"));
	assert_false(is_json(""));
	assert_false(is_json(";"));
}

static void
finds_the_credential_of_a_header(void **state)
{
	static const struct {
		const char *header, *shows; /* NULL: none */
	} cases[] = {
		{ "Bearer a.b.c", "a.b.c" },
		{ "bearer  a.b.c", "a.b.c" },
		{ "BEARER a b", "a b" },
		/* it is there, and shows nothing */
		{ "Bearer ", "" },
		{ "Bearer", "" },
		{ "Bearera.b.c", NULL },
		{ "Basic a.b.c", NULL },
		{ " Bearer a.b.c", NULL },
		{ "", NULL },
		{ NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *got = request_parse_bearer(cases[i].header);

		if (cases[i].shows == NULL)
			assert_null(got);
		else
			assert_string_equal(got, cases[i].shows);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_parameters_by_their_whole_name),
		cmocka_unit_test(finds_headers_without_case),
		cmocka_unit_test(never_shows_a_clients_proxy),
		cmocka_unit_test(reads_content_length_as_digits_alone),
		cmocka_unit_test(takes_paths_that_have_one_reading),
		cmocka_unit_test(finds_the_path_where_there_is_no_request_uri),
		cmocka_unit_test(bounds_the_length_of_a_uri),
		cmocka_unit_test(refuses_what_no_request_may_have),
		cmocka_unit_test(bounds_the_parameters),
		cmocka_unit_test(knows_json_by_its_type),
		cmocka_unit_test(finds_the_credential_of_a_header),
	};

	return cmocka_run_group_tests_name("request_parse", tests, NULL, NULL);
}
