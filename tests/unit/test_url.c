/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/config/url.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool
is_text(const char *text, const char *wanted)
{
	if (text == NULL || wanted == NULL)
		return text == wanted;
	return strcmp(text, wanted) == 0;
}

static void
takes_a_url_apart(void **state)
{
	static const struct {
		const char *text;
		bool tls;
		const char *host;
		uint16_t port;
		const char *authority, *path, *query;
	} rows[] = {
		{ "wss://a.example", true, "a.example", 443, "a.example", "/",
		    NULL },
		{ "ws://a.example", false, "a.example", 80, "a.example", "/",
		    NULL },
		{ "WSS://a.example/", true, "a.example", 443, "a.example", "/",
		    NULL },
		{ "wss://a.example:443/x", true, "a.example", 443, "a.example",
		    "/x", NULL },
		{ "ws://a.example:443/x", false, "a.example", 443,
		    "a.example:443", "/x", NULL },
		{ "wss://a:80", true, "a", 80, "a:80", "/", NULL },
		{ "wss://a:1/", true, "a", 1, "a:1", "/", NULL },
		{ "wss://a:65535/", true, "a", 65535, "a:65535", "/", NULL },
		{ "ws://127.0.0.1:9/", false, "127.0.0.1", 9, "127.0.0.1:9",
		    "/", NULL },
		{ "wss://[::1]/", true, "::1", 443, "[::1]", "/", NULL },
		{ "ws://[2001:db8::1]:81/p", false, "2001:db8::1", 81,
		    "[2001:db8::1]:81", "/p", NULL },
		{ "wss://a/b?c=d&e=%20", true, "a", 443, "a", "/b",
		    "c=d&e=%20" },
		{ "wss://a?c=d", true, "a", 443, "a", "/", "c=d" },
		{ "wss://a/?", true, "a", 443, "a", "/", NULL },
		{ "wss://a/?a=b?c", true, "a", 443, "a", "/", "a=b?c" },
		{ "wss://a/b/../c/./d", true, "a", 443, "a", "/b/../c/./d",
		    NULL },
		{ "wss://a/%2e%2F", true, "a", 443, "a", "/%2e%2F", NULL },
		{ "wss://a/x:y@z", true, "a", 443, "a", "/x:y@z", NULL },
		{ "wss://under_score.example/", true, "under_score.example",
		    443, "under_score.example", "/", NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config_url url = { .tls = false };
		struct diag diag = { "" };

		if (url_parse(rows[i].text, &url, &diag) != ERR_OK)
			fail_msg("%s: %s", rows[i].text, diag.text);
		if (url.tls != rows[i].tls || url.port != rows[i].port ||
		    !is_text(url.host, rows[i].host) ||
		    !is_text(url.authority, rows[i].authority) ||
		    !is_text(url.path, rows[i].path) ||
		    !is_text(url.query, rows[i].query))
			fail_msg("%s: %d %s %u %s %s %s", rows[i].text, url.tls,
			    url.host, url.port, url.authority, url.path,
			    url.query == NULL ? "-" : url.query);
		config_url_done(&url);
	}
}

struct bad {
	const char *text, *word;
};

static const struct bad bad_urls[] = {
	{ "", "scheme://host" },
	{ "a.example", "scheme://host" },
	{ "//a.example/", "scheme://host" },
	{ "wss:/a.example/", "scheme://host" },
	{ "wss://", "scheme://host" },
	{ "wss:///x", "scheme://host" },
	{ "wss://?x", "scheme://host" },
	{ "https://a.example/", "wss://" },
	{ "file://a/etc/passwd", "" },
	{ "wsss://a/", "wss://" },
	{ "javascript://a/", "wss://" },
	{ "wss://user@a/", "user" },
	{ "wss://user:hunter2@a/", "user" },
	{ "wss://@a/", "user" },
	{ "wss://a:80@b/", "user" },
	{ "wss://a%2eb/", "escape" },
	{ "wss://a%00/", "escape" },
	{ "wss://[fe80::1%25lo]/", "escape" },
	{ "wss://[fe80::1%lo]/", "escape" },
	{ "wss://a/#", "%23" },
	{ "wss://a/#f", "%23" },
	{ "wss://a/ b", "%20" },
	{ " wss://a/", "%20" },
	{ "wss://a/\n", "%0A" },
	{ "wss://a/\r\nHost: b", "%0D" },
	{ "wss://a\\b/", "%5C" },
	{ "wss://a/\"", "%22" },
	{ "wss://a/{x}", "%7B" },
	{ "wss://a/\x7f", "%7F" },
	{ "wss://b\xc3\xbc"
	  "cher.example/",
	    "%C3" },
	{ "wss://a:0/", "65535" },
	{ "wss://a:65536/", "URL" },
	{ "wss://a:-1/", "URL" },
	{ "wss://a:8x/", "URL" },
	{ "wss://a:80:81/", "URL" },
	{ "wss://[::1/", "URL" },
	{ "wss://::1/", "URL" },
	{ "wss://[]/", "URL" },
	{ "wss://[127.0.0.1]/", "URL" },
	{ "wss://[:::]/", "URL" },
	{ "wss://-a/", "host" },
	{ "wss://.a/", "host" },
	{ "wss://a,b/", "host" },
	{ "wss://a*/", "host" },
	{ "wss://a;b/", "host" },
};

static void
check_bad(const struct bad *bad, enum err err, const struct diag *diag)
{
	if (err != ERR_PROTO || diag->text[0] == '\0' ||
	    strstr(diag->text, bad->word) == NULL ||
	    strstr(diag->text, "hunter2") != NULL)
		fail_msg("%s: wanted %s, got %d: %s", bad->text, bad->word, err,
		    diag->text);
}

static void
says_what_is_wrong_with_a_url_but_not_its_password(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad_urls); i++) {
		struct config_url url = { .port = 7 };
		struct diag diag = { "" };
		enum err err = url_parse(bad_urls[i].text, &url, &diag);

		check_bad(&bad_urls[i], err, &diag);
		/* what the caller has stays as it was: nothing to free */
		assert_int_equal(url.port, 7);
		assert_null(url.host);
	}
}

/* "wss://", then HOST, then "/" and as many x as it takes. */
static char *
url_of_length(size_t host_len, size_t len)
{
	char *text = xcalloc(1, len + 1);

	memset(text, 'x', len);
	memcpy(text, "wss://", 6);
	text[6 + host_len] = '/';
	return text;
}

static void
takes_urls_and_hosts_up_to_their_longest(void **state)
{
	static const struct {
		size_t host_len, len;
		enum err err;
	} rows[] = {
		{ 1, URL_MAX_BYTES, ERR_OK },
		{ 1, URL_MAX_BYTES + 1, ERR_PROTO },
		{ 253, 300, ERR_OK },
		{ 254, 300, ERR_PROTO },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *text = url_of_length(rows[i].host_len, rows[i].len);
		struct config_url url = { .tls = false };
		struct diag diag = { "" };

		if (url_parse(text, &url, &diag) != rows[i].err)
			fail_msg("row %zu: %s", i, diag.text);
		config_url_done(&url);
		free(text);
	}
}

static void
takes_origins_as_browsers_write_them(void **state)
{
	static const char *const origins[] = { "https://a.example",
		"http://a.example", "http://a.example:8080", "https://a:80",
		"http://a:443", "http://localhost:3000", "http://127.0.0.1",
		"http://[::1]:3000", "https://xn--bcher-kva.example",
		"capacitor://localhost", "chrome-extension://abcdef",
		"app://host:9" };
	struct diag diag = { "" };

	(void)state;
	for (size_t i = 0; i < COUNT(origins); i++)
		if (url_check_origin(origins[i], &diag) != ERR_OK)
			fail_msg("%s: %s", origins[i], diag.text);
}

static const struct bad bad_origins[] = {
	{ "", "scheme://host" },
	{ "null", "never served" },
	{ "a.example", "write https://a.example" },
	{ "https://", "scheme://host" },
	{ "https://a.example/", "write https://a.example" },
	{ "https://a.example/x", "write https://a.example" },
	{ "https://a.example?x", "write https://a.example" },
	{ "https://A.Example", "write https://a.example" },
	{ "HTTPS://a.example", "write https://a.example" },
	{ "https://a.example:443", "write https://a.example" },
	{ "http://a.example:80", "write http://a.example" },
	{ "http://a.example:0080", "write http://a.example" },
	{ "http://a.example:", "write http://a.example" },
	{ "https://user:hunter2@a.example", "user" },
	{ "https://*.a.example", "" },
	{ "https://a.example#", "%23" },
	{ "https://a.example https://b.example", "%20" },
	{ "https://b\xc3\xbc"
	  "cher.example",
	    "%C3" },
	{ "https://a.example:99999", "URL" },
	{ "https://[::1", "URL" },
	{ "http://[0:0:0:0:0:0:0:1]", "write http://[::1]" },
};

static void
says_how_browsers_would_write_an_origin(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad_origins); i++) {
		struct diag diag = { "" };
		enum err err = url_check_origin(bad_origins[i].text, &diag);

		check_bad(&bad_origins[i], err, &diag);
	}
}

static void
reads_what_begins_with_http_alike(void **state)
{
	struct config_url url;
	struct diag diag;

	(void)state;
	assert_int_equal(url_parse_http("https://x.example/v1", &url, &diag),
	    ERR_OK);
	assert_true(url.tls);
	assert_int_equal(url.port, 443);
	assert_string_equal(url.path, "/v1");
	config_url_done(&url);
	assert_int_equal(url_parse_http("http://[::1]:81", &url, &diag),
	    ERR_OK);
	assert_false(url.tls);
	assert_int_equal(url.port, 81);
	assert_string_equal(url.host, "::1");
	config_url_done(&url);
	assert_int_equal(url_parse_http("wss://x", &url, &diag), ERR_PROTO);
	assert_non_null(strstr(diag.text, "https://"));
	assert_int_equal(url_parse_http("httpss://x", &url, &diag), ERR_PROTO);
	assert_int_equal(url_parse("https://x", &url, &diag), ERR_PROTO);
}

static void
knows_the_names_of_this_machine(void **state)
{
	static const char *const local[] = { "localhost", "127.0.0.1",
		"127.9.9.9", "::1" };
	static const char *const others[] = { "localhost.x", "127.x.example",
		"10.0.0.1", "::2", "" };

	(void)state;
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		assert_true(url_host_is_local(local[i]));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_false(url_host_is_local(others[i]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_a_url_apart),
		cmocka_unit_test(
		    says_what_is_wrong_with_a_url_but_not_its_password),
		cmocka_unit_test(takes_urls_and_hosts_up_to_their_longest),
		cmocka_unit_test(takes_origins_as_browsers_write_them),
		cmocka_unit_test(says_how_browsers_would_write_an_origin),
		cmocka_unit_test(reads_what_begins_with_http_alike),
		cmocka_unit_test(knows_the_names_of_this_machine),
	};

	return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
