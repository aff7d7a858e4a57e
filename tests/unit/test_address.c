/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "broker/http/address.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void
knows_one_way_to_write_an_address(void **state)
{
	static const char *const cases[][2] = {
		{ "192.0.2.1", "192.0.2.1" },
		{ "::ffff:192.0.2.1", "192.0.2.1" },
		{ "::FFFF:c000:201", "192.0.2.1" },
		{ "2001:DB8:0:0::1", "2001:db8::1" },
		{ "fe80::1%eth0", "fe80::1" },
		{ "::1", "::1" },
	};
	char out[INET6_ADDRSTRLEN];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(address_normalize(cases[i][0], out), ERR_OK);
		assert_string_equal(out, cases[i][1]);
	}
}

static void
refuses_what_is_no_address(void **state)
{
	static const char *const cases[] = { NULL, "", "%", "%eth0",
		"localhost", "192.0.2", "192.0.2.1:80", "[::1]", "unix:",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb" };
	char out[INET6_ADDRSTRLEN];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(address_normalize(cases[i], out), ERR_PROTO);
}

static bool
is_one(const char *a, const char *b)
{
	uint8_t first[ADDRESS_NETWORK_BYTES], second[ADDRESS_NETWORK_BYTES];

	address_network(a, first);
	address_network(b, second);
	return memcmp(first, second, sizeof(first)) == 0;
}

static void
knows_a_visitor_by_the_network(void **state)
{
	(void)state;
	assert_true(is_one("2001:db8::1", "2001:db8::ffff:0:0:2"));
	assert_false(is_one("2001:db8::1", "2001:db8:0:1::1"));
	assert_false(is_one("192.0.2.1", "192.0.2.2"));
	assert_true(is_one("::ffff:192.0.2.1", "192.0.2.1"));
	assert_false(is_one("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
	assert_true(is_one("fe80::1%eth0", "fe80::2"));
}

static void
writes_a_visitor_as_a_network(void **state)
{
	static const char *const cases[][2] = {
		{ "192.0.2.1", "192.0.2.1" },
		{ "::ffff:192.0.2.1", "192.0.2.1" },
		{ "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64" },
		{ "2001:db8::1", "2001:db8::/64" },
		{ "fe80::1%eth0", "fe80::/64" },
		{ "1111:2222:3333:4444:5555:6666:7777:8888",
		    "1111:2222:3333:4444::/64" },
		{ "::1", "::/64" },
		{ "unix:", "-" },
		{ NULL, "-" },
	};
	char out[ADDRESS_VISITOR_SIZE];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		address_visitor(cases[i][0], out);
		assert_string_equal(out, cases[i][1]);
	}
}

static void
knows_this_machine(void **state)
{
	static const struct {
		const char *text;
		bool is_loopback;
	} cases[] = {
		{ "127.0.0.1", true },
		{ "127.255.255.254", true },
		{ "::1", true },
		{ "::ffff:127.0.0.1", true },
		{ "128.0.0.1", false },
		{ "::", false },
		{ "::2", false },
		{ "127.0.0", false },
		{ "", false },
		{ NULL, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(address_is_loopback(cases[i].text),
		    cases[i].is_loopback);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_one_way_to_write_an_address),
		cmocka_unit_test(refuses_what_is_no_address),
		cmocka_unit_test(knows_a_visitor_by_the_network),
		cmocka_unit_test(writes_a_visitor_as_a_network),
		cmocka_unit_test(knows_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
