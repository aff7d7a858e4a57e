/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "broker/http/access.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* clang-format off */
static struct config_range loopback[] = {
	{ .family = AF_INET, .address = { 127 }, .prefix_len = 8 },
	{ .family = AF_INET6, .address = { [15] = 1 }, .prefix_len = 128 },
};
static struct config_range ranges[] = {
	{ .family = AF_INET, .address = { 10, 1, 2, 128 }, .prefix_len = 25 },
	{ .family = AF_INET, .address = { 192, 0, 2, 7 }, .prefix_len = 32 },
	{ .family = AF_INET6, .address = { 0x20, 0x01, 0x0d, 0xb8 },
	    .prefix_len = 32 },
};
static struct config_range any[] = { { .any = true } };
static struct config_range all_v4[] = { { .family = AF_INET } };
static struct config_range all_v6[] = { { .family = AF_INET6 } };
static struct config_range mapped[] = {
	{ .family = AF_INET6, .address = { [10] = 0xff, [11] = 0xff, 127 },
	    .prefix_len = 104 },
};
/* clang-format on */

static struct config
with(struct config_range *clients, size_t count, const char *const *origins,
    size_t origin_count)
{
	struct config config = { 0 };

	config.access.clients = clients;
	config.access.client_count = count;
	/* never written to */
	config.access.origins.items = (char **)(uintptr_t)origins;
	config.access.origins.count = origin_count;
	return config;
}

static enum err
check(const struct config *config, const char *client, const char *origin,
    struct diag *diag)
{
	struct access_request request = { .client = client,
		.method = "POST",
		.origin = origin };

	return access_check(config, &request, diag);
}

static void
admits_the_clients_of_its_ranges(void **state)
{
	static const struct {
		struct config_range *clients;
		size_t count;
		const char *address;
		bool good;
	} cases[] = {
		{ loopback, 2, "127.0.0.1", true },
		{ loopback, 2, "127.255.0.9", true },
		{ loopback, 2, "::1", true },
		{ loopback, 2, "::ffff:127.0.0.1", true },
		{ loopback, 2, "::FFFF:7f00:1", true },
		{ loopback, 2, "128.0.0.1", false },
		{ loopback, 2, "::2", false },
		{ loopback, 2, "::127.0.0.1", false },
		{ loopback, 2, "::ffff:10.0.0.1", false },
		{ loopback, 2, "127.0.0.1, 10.0.0.1", false },
		{ loopback, 2, "127.0.0.1:80", false },
		{ loopback, 2, "127.0.0.1%lo", false },
		{ loopback, 2, "127.1", false },
		{ loopback, 2, "0127.0.0.1", false },
		{ loopback, 2, " 127.0.0.1", false },
		{ loopback, 2, "localhost", false },
		{ loopback, 2, "unix:", false },
		{ loopback, 2, "", false },
		{ loopback, 2, NULL, false },
		{ ranges, 3, "10.1.2.128", true },
		{ ranges, 3, "10.1.2.255", true },
		{ ranges, 3, "10.1.2.127", false },
		{ ranges, 3, "192.0.2.7", true },
		{ ranges, 3, "192.0.2.6", false },
		{ ranges, 3, "2001:db8:ffff::1", true },
		{ ranges, 3, "2001:db9::1", false },
		{ ranges, 3, "127.0.0.1", false },
		{ any, 1, "8.8.8.8", true },
		{ any, 1, "fe80::1%eth0", true },
		{ any, 1, "x", false },
		{ any, 1, NULL, false },
		{ all_v4, 1, "8.8.8.8", true },
		{ all_v4, 1, "::ffff:8.8.8.8", true },
		{ all_v4, 1, "2001:db8::1", false },
		{ all_v6, 1, "2001:db8::1", true },
		{ all_v6, 1, "8.8.8.8", false },
		{ mapped, 1, "127.0.0.1", true },
		{ NULL, 0, "127.0.0.1", false },
	};
	static const char *const origins[] = { "loopback" };

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct config config =
		    with(cases[i].clients, cases[i].count, origins, 1);
		struct diag diag = { "" };
		enum err err =
		    check(&config, cases[i].address, "http://localhost", &diag);

		if (err != (cases[i].good ? ERR_OK : ERR_DENIED))
			fail_msg("case %zu: %s", i, cases[i].address);
		assert_true(cases[i].good == (diag.text[0] == '\0'));
	}
}

static void
names_the_header_that_an_unknown_client_needs(void **state)
{
	struct config config = with(any, 1, NULL, 0);
	struct diag diag;

	(void)state;
	assert_int_equal(check(&config, NULL, NULL, &diag), ERR_DENIED);
	assert_non_null(strstr(diag.text, "X-Forwarded-For"));
}

static const char *const listed[] = { "https://Site.example",
	"http://app.example:8080", "http://[2001:DB8::0:1]",
	"capacitor://localhost", "https://x.example/", "null" };
static const char *const loop[] = { "loopback" };
static const char *const star[] = { "*" };

static const struct {
	const char *const *origins;
	size_t count;
	const char *origin;
	bool good;
} origin_cases[] = {
	{ listed, 6, "https://site.example", true },
	{ listed, 6, "https://site.example:443", true },
	{ listed, 6, "HTTPS://SITE.EXAMPLE", true },
	{ listed, 6, "https://site.example:444", false },
	{ listed, 6, "https://site.example:0443", false },
	{ listed, 6, "https://site.example:", false },
	{ listed, 6, "https://site.example:65536", false },
	{ listed, 6, "https://site.example:0", false },
	{ listed, 6, "https://site.example:443x", false },
	{ listed, 6, "https://site.example/", false },
	{ listed, 6, "https://site.example?", false },
	{ listed, 6, "https://site.example#", false },
	{ listed, 6, "https://site.example ", false },
	{ listed, 6, " https://site.example", false },
	{ listed, 6, "https://site.example.", false },
	{ listed, 6, "https://site.example https://evil.example", false },
	{ listed, 6, "https://evil.example, https://site.example", false },
	{ listed, 6, "https://evil-site.example", false },
	{ listed, 6, "https://evil.site.example", false },
	{ listed, 6, "https://site.example.evil.example", false },
	{ listed, 6, "https://site.example@evil.example", false },
	{ listed, 6, "https://site.example\\@evil.example", false },
	{ listed, 6, "https://site%2eexample", false },
	{ listed, 6, "https://site.example\r\nX: y", false },
	{ listed, 6, "https://s\xc3\xadte.example", false },
	{ listed, 6, "http://site.example", false },
	{ listed, 6, "https:site.example", false },
	{ listed, 6, "//site.example", false },
	{ listed, 6, "site.example", false },
	{ listed, 6, "://site.example", false },
	{ listed, 6, "https://", false },
	{ listed, 6, "https://x.example", false },
	{ listed, 6, "https://x.example/", false },
	{ listed, 6, "http://app.example:8080", true },
	{ listed, 6, "http://app.example", false },
	{ listed, 6, "http://app.example:80", false },
	{ listed, 6, "http://[2001:db8::1]", true },
	{ listed, 6, "http://[2001:db8::2]", false },
	{ listed, 6, "http://[2001:db8::1", false },
	{ listed, 6, "http://[2001:db8::1]x", false },
	{ listed, 6, "http://[2001:db8::1]:80", true },
	{ listed, 6, "capacitor://localhost", true },
	{ listed, 6, "null", false },
	{ listed, 6, "NULL", false },
	{ listed, 6, "*", false },
	{ listed, 6, "", false },
	{ listed, 6, NULL, false },
	{ loop, 1, "http://localhost", true },
	{ loop, 1, "https://localhost:5173", true },
	{ loop, 1, "http://LOCALHOST:1", true },
	{ loop, 1, "http://127.0.0.1:65535", true },
	{ loop, 1, "http://[::1]:3000", true },
	{ loop, 1, "http://[0:0::1]", true },
	{ loop, 1, "http://localhost.evil.example", false },
	{ loop, 1, "http://localhost.", false },
	{ loop, 1, "http://localhost:80@evil.example", false },
	{ loop, 1, "http://localhost@evil.example", false },
	{ loop, 1, "http://127.0.0.1.evil.example", false },
	{ loop, 1, "http://127.0.0.1.nip.io", false },
	{ loop, 1, "http://evil-localhost", false },
	{ loop, 1, "http://127.1", false },
	{ loop, 1, "http://2130706433", false },
	{ loop, 1, "http://[::1].evil.example", false },
	{ loop, 1, "http://[::ffff:127.0.0.1]", false },
	{ loop, 1, "http://[::1%25lo]", false },
	{ loop, 1, "ftp://localhost", false },
	{ loop, 1, "httpx://localhost", false },
	{ loop, 1, "file://localhost", false },
	{ loop, 1, "null", false },
	{ star, 1, "https://anything.example:9", true },
	{ star, 1, "null", false },
	{ star, 1, "", false },
	{ star, 1, "https://a b", false },
	{ star, 1, "https://a\"b", false },
	{ star, 1, NULL, false },
	{ NULL, 0, "http://localhost", false },
};

static void
admits_listed_origins_and_no_look_alikes(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(origin_cases); i++) {
		struct config config = with(loopback, 2,
		    origin_cases[i].origins, origin_cases[i].count);
		enum err err =
		    check(&config, "127.0.0.1", origin_cases[i].origin, NULL);

		if (err != (origin_cases[i].good ? ERR_OK : ERR_DENIED))
			fail_msg("case %zu: %s", i, origin_cases[i].origin);
	}
}

static void
bounds_the_length_of_an_origin(void **state)
{
	struct config config = with(loopback, 2, star, 1);
	char origin[1000] = "https://";

	(void)state;
	memset(origin + 8, 'a', sizeof(origin) - 9);
	assert_int_equal(check(&config, "::1", origin, NULL), ERR_DENIED);
	origin[8 + 255] = '\0';
	assert_int_equal(check(&config, "::1", origin, NULL), ERR_OK);
	memset(origin, 'a', 40);
	assert_int_equal(check(&config, "::1", origin, NULL), ERR_DENIED);
}

static void
serves_clients_without_origin_only_where_configured(void **state)
{
	struct config config = with(loopback, 2, loop, 1);
	struct diag diag;

	(void)state;
	assert_int_equal(check(&config, "::1", NULL, &diag), ERR_DENIED);
	assert_non_null(strstr(diag.text, "missing_origin"));
	config.access.missing_origin = true;
	assert_int_equal(check(&config, "::1", NULL, NULL), ERR_OK);
	assert_int_equal(check(&config, "::1", "null", NULL), ERR_DENIED);
	assert_int_equal(check(&config, "::1", "", NULL), ERR_DENIED);
	assert_int_equal(check(&config, "192.0.2.1", NULL, NULL), ERR_DENIED);
}

static void
admits_reading_pages_of_its_own_site_that_send_no_origin(void **state)
{
	static const char same[] = "same-origin";
	static const struct {
		const char *const *origins;
		size_t count;
		const char *method, *origin, *host, *fetch_site;
		bool good;
	} cases[] = {
		{ listed, 6, "GET", NULL, "site.example", same, true },
		{ listed, 6, "HEAD", NULL, "Site.Example:443", same, true },
		{ listed, 6, "GET", NULL, "app.example:8080", same, true },
		{ listed, 6, "GET", NULL, "[2001:db8::1]", same, true },
		{ loop, 1, "GET", NULL, "127.0.0.1:8080", same, true },
		{ loop, 1, "GET", NULL, "localhost", same, true },
		{ star, 1, "GET", NULL, "anything.example", same, true },
		/* what changes something comes with an Origin */
		{ listed, 6, "POST", NULL, "site.example", same, false },
		{ listed, 6, "DELETE", NULL, "site.example", same, false },
		{ listed, 6, "OPTIONS", NULL, "site.example", same, false },
		{ listed, 6, "get", NULL, "site.example", same, false },
		{ listed, 6, "GET", NULL, "site.example", "same-site", false },
		{ listed, 6, "GET", NULL, "site.example", "cross-site", false },
		{ listed, 6, "GET", NULL, "site.example", "none", false },
		{ listed, 6, "GET", NULL, "site.example", "Same-Origin",
		    false },
		{ listed, 6, "GET", NULL, "site.example",
		    "same-origin, same-origin", false },
		{ listed, 6, "GET", NULL, "site.example", "same-origin ",
		    false },
		{ listed, 6, "GET", NULL, "site.example", "", false },
		{ listed, 6, "GET", NULL, "site.example", NULL, false },
		/* a name that leads here, and is nobody's we know */
		{ listed, 6, "GET", NULL, "evil.example", same, false },
		{ loop, 1, "GET", NULL, "evil.example:8080", same, false },
		{ listed, 6, "GET", NULL, "site.example:444", same, false },
		{ listed, 6, "GET", NULL, "x@site.example", same, false },
		{ listed, 6, "GET", NULL, "site.example/", same, false },
		{ star, 1, "GET", NULL, "a, b", same, false },
		{ star, 1, "GET", NULL, "", same, false },
		{ star, 1, "GET", NULL, NULL, same, false },
		{ NULL, 0, "GET", NULL, "site.example", same, false },
		/* an Origin goes first */
		{ listed, 6, "GET", "https://evil.example", "site.example",
		    same, false },
		{ listed, 6, "GET", "null", "site.example", same, false },
		{ listed, 6, "GET", "", "site.example", same, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct config config =
		    with(loopback, 2, cases[i].origins, cases[i].count);
		struct access_request request = {
			.client = "127.0.0.1",
			.method = cases[i].method,
			.origin = cases[i].origin,
			.host = cases[i].host,
			.fetch_site = cases[i].fetch_site,
		};

		if (access_check(&config, &request, NULL) !=
		    (cases[i].good ? ERR_OK : ERR_DENIED))
			fail_msg("case %zu", i);
		request.client = "192.0.2.1";
		assert_int_equal(access_check(&config, &request, NULL),
		    ERR_DENIED);
	}
}

static void
tells_named_origins_from_all(void **state)
{
	static const char *const both[] = { "*", "https://site.example" };
	struct config config = with(loopback, 2, both, 2);

	(void)state;
	assert_true(access_is_named(&config, "https://site.example:443"));
	assert_false(access_is_named(&config, "https://other.example"));
	assert_false(access_is_named(&config, "null"));
	config = with(loopback, 2, loop, 1);
	assert_true(access_is_named(&config, "http://localhost:5173"));
	config = with(loopback, 2, star, 1);
	assert_false(access_is_named(&config, "http://localhost:5173"));
}

static void
knows_whether_it_admits_loopback_alone(void **state)
{
	static const struct {
		struct config_range *clients;
		size_t count;
		bool only;
	} cases[] = {
		{ loopback, 2, true },
		{ mapped, 1, true },
		{ NULL, 0, true },
		{ ranges, 3, false },
		{ any, 1, false },
		{ all_v4, 1, false },
		{ all_v6, 1, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct config config =
		    with(cases[i].clients, cases[i].count, NULL, 0);

		assert_int_equal(access_is_loopback_only(&config),
		    cases[i].only);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(admits_the_clients_of_its_ranges),
		cmocka_unit_test(names_the_header_that_an_unknown_client_needs),
		cmocka_unit_test(admits_listed_origins_and_no_look_alikes),
		cmocka_unit_test(bounds_the_length_of_an_origin),
		cmocka_unit_test(
		    serves_clients_without_origin_only_where_configured),
		cmocka_unit_test(
		    admits_reading_pages_of_its_own_site_that_send_no_origin),
		cmocka_unit_test(tells_named_origins_from_all),
		cmocka_unit_test(knows_whether_it_admits_loopback_alone),
	};

	return cmocka_run_group_tests_name("access", tests, NULL, NULL);
}
