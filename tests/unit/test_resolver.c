/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "broker/tunnels/resolver.h"

#define LONG_MS 60000

static atomic_int lookups, running, most_running;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

/* Stands in for the system: "hang..." waits until the test opens the gate. */
static enum err
lookup(const char *name, struct resolver_answer *ret, struct diag *diag)
{
	int now = atomic_fetch_add(&running, 1) + 1;

	if (now > atomic_load(&most_running))
		atomic_store(&most_running, now);
	atomic_fetch_add(&lookups, 1);
	if (strncmp(name, "hang", 4) == 0) {
		(void)pthread_mutex_lock(&gate);
		(void)pthread_mutex_unlock(&gate);
	}
	atomic_fetch_sub(&running, 1);
	*ret = (struct resolver_answer){ .count = 1 };
	if (strcmp(name, "none.example") == 0) {
		diag_set(diag, "none.example: no such name");
		return ERR_UPSTREAM;
	}
	if (strcmp(name, "empty.example") == 0)
		ret->count = 0;
	(void)strcpy(ret->addresses[0],
	    strcmp(name, "private.example") == 0 ? "10.1.2.3" : "8.8.8.8");
	if (strcmp(name, "mixed.example") == 0) {
		(void)strcpy(ret->addresses[1], "::1");
		ret->count = 2;
	}
	return ERR_OK;
}

static struct resolver *
new_resolver(int64_t limit_ms)
{
	struct resolver *resolver;

	atomic_store(&lookups, 0);
	assert_int_equal(resolver_new(lookup, limit_ms, &resolver, NULL),
	    ERR_OK);
	return resolver;
}

/* Ask as the control server does, until there is an answer. */
static enum err
resolve(struct resolver *resolver, const char *host, bool allow_private,
    struct resolver_answer *ret, struct diag *diag)
{
	struct pollfd pfd = {
		.fd = resolver_fd(resolver),
		.events = POLLIN,
	};
	enum err err;

	while ((err = resolver_resolve(resolver, host, allow_private, ret,
		    diag)) == ERR_AGAIN) {
		(void)poll(&pfd, 1, 10);
		resolver_clear(resolver);
	}
	return err;
}

static void
knows_public_addresses_from_all_others(void **state)
{
	static const struct {
		const char *address;
		bool is_public;
	} cases[] = {
		{ "0.0.0.0", false },
		{ "0.1.2.3", false },
		{ "1.1.1.1", true },
		{ "9.255.255.255", true },
		{ "10.0.0.0", false },
		{ "10.255.255.255", false },
		{ "11.0.0.0", true },
		{ "100.63.255.255", true },
		{ "100.64.0.0", false },
		{ "100.127.255.255", false },
		{ "100.128.0.0", true },
		{ "127.0.0.1", false },
		{ "127.255.255.255", false },
		{ "128.0.0.1", true },
		{ "169.253.255.255", true },
		{ "169.254.169.254", false },
		{ "172.15.255.255", true },
		{ "172.16.0.0", false },
		{ "172.31.255.255", false },
		{ "172.32.0.0", true },
		{ "192.0.0.8", false },
		{ "192.167.255.255", true },
		{ "192.168.1.1", false },
		{ "198.17.255.255", true },
		{ "198.18.0.0", false },
		{ "198.19.255.255", false },
		{ "198.20.0.0", true },
		{ "223.255.255.255", true },
		{ "224.0.0.1", false },
		{ "239.255.255.255", false },
		{ "240.0.0.1", false },
		{ "255.255.255.255", false },
		{ "::", false },
		{ "::1", false },
		{ "::7f00:1", false },
		{ "::ffff:127.0.0.1", false },
		{ "::ffff:10.0.0.1", false },
		{ "::ffff:169.254.169.254", false },
		{ "::ffff:8.8.8.8", true },
		{ "64:ff9b::10.0.0.1", false },
		{ "64:ff9b::8.8.8.8", true },
		{ "64:ff9b:1::1", false },
		{ "100::1", false },
		{ "2001::1", false },
		{ "2001:4860:4860::8888", true },
		{ "2002:7f00:1::", false },
		{ "2002:a00:1::", false },
		{ "2002:808:808::", true },
		{ "2a00:1450::1", true },
		{ "fc00::1", false },
		{ "fdff::1", false },
		{ "fe80::1", false },
		{ "febf::1", false },
		{ "fec0::1", false },
		{ "ff02::1", false },
		{ "localhost", false },
		{ "1.2.3", false },
		{ "", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (resolver_is_public(cases[i].address) != cases[i].is_public)
			fail_msg("%s", cases[i].address);
}

static void
answers_numeric_hosts_and_localhost_at_once(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "10.0.0.1", "::1",
		"0.0.0.0", "2001:db8::1" };
	struct resolver *resolver = new_resolver(LONG_MS);
	struct resolver_answer answer;

	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		assert_int_equal(resolver_resolve(resolver, hosts[i], false,
				     &answer, NULL),
		    ERR_OK);
		assert_int_equal(answer.count, 1);
		assert_string_equal(answer.addresses[0], hosts[i]);
	}
	assert_int_equal(resolver_resolve(resolver, "LocalHost", false, &answer,
			     NULL),
	    ERR_OK);
	assert_string_equal(answer.addresses[0], "127.0.0.1");
	assert_int_equal(atomic_load(&lookups), 0);
	resolver_free(resolver);
	resolver_free(NULL);
}

static void
refuses_a_name_that_leads_inside(void **state)
{
	struct resolver *resolver = new_resolver(LONG_MS);
	struct resolver_answer answer;
	struct diag diag;

	(void)state;
	assert_int_equal(resolve(resolver, "private.example", false, &answer,
			     &diag),
	    ERR_UPSTREAM);
	assert_non_null(strstr(diag.text, "10.1.2.3"));
	assert_int_equal(resolve(resolver, "mixed.example", false, &answer,
			     &diag),
	    ERR_UPSTREAM);
	assert_int_equal(resolve(resolver, "private.example", true, &answer,
			     &diag),
	    ERR_OK);
	assert_string_equal(answer.addresses[0], "10.1.2.3");
	assert_int_equal(atomic_load(&lookups), 2);
	resolver_free(resolver);
}

static void
says_why_a_name_has_no_address(void **state)
{
	struct resolver *resolver = new_resolver(LONG_MS);
	struct resolver_answer answer;
	char name[300];
	struct diag diag;

	(void)state;
	assert_int_equal(resolve(resolver, "none.example", false, &answer,
			     &diag),
	    ERR_UPSTREAM);
	assert_string_equal(diag.text, "none.example: no such name");
	assert_int_equal(resolve(resolver, "empty.example", false, &answer,
			     &diag),
	    ERR_UPSTREAM);
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(resolve(resolver, name, false, &answer, &diag),
	    ERR_UPSTREAM);
	resolver_free(resolver);
}

static void
asks_once_for_what_it_knows(void **state)
{
	struct resolver *resolver = new_resolver(LONG_MS);
	struct resolver_answer answer;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(resolve(resolver, "public.example", false,
				     &answer, NULL),
		    ERR_OK);
	assert_int_equal(resolve(resolver, "PUBLIC.example", false, &answer,
			     NULL),
	    ERR_OK);
	assert_string_equal(answer.addresses[0], "8.8.8.8");
	assert_int_equal(atomic_load(&lookups), 1);
	resolver_free(resolver);
}

static void
gives_up_on_a_name_in_time(void **state)
{
	struct resolver *resolver = new_resolver(500);
	struct resolver_answer answer;
	struct diag diag;

	(void)state;
	(void)pthread_mutex_lock(&gate);
	assert_int_equal(resolve(resolver, "hang.example", false, &answer,
			     &diag),
	    ERR_UPSTREAM_TIMEOUT);
	assert_int_equal(resolver_resolve(resolver, "hang.example", false,
			     &answer, &diag),
	    ERR_UPSTREAM_TIMEOUT);
	assert_int_equal(resolve(resolver, "public.example", false, &answer,
			     &diag),
	    ERR_OK);
	/* freeing does not wait for the one that hangs */
	resolver_free(resolver);
	(void)pthread_mutex_unlock(&gate);
}

static void
bounds_threads_and_names_that_hang(void **state)
{
	struct resolver *resolver = new_resolver(LONG_MS);
	struct resolver_answer answer;
	enum err err = ERR_AGAIN;
	char name[32];
	int asked;

	(void)state;
	while (atomic_load(&running) > 0) /* of the test before */
		(void)poll(NULL, 0, 1);
	atomic_store(&most_running, 0);
	(void)pthread_mutex_lock(&gate);
	for (asked = 0; err == ERR_AGAIN && asked < 1000; asked++) {
		(void)snprintf(name, sizeof(name), "hang%d.example", asked);
		err = resolver_resolve(resolver, name, false, &answer, NULL);
	}
	assert_int_equal(err, ERR_UNAVAIL);
	assert_true(asked < 100);
	(void)pthread_mutex_unlock(&gate);
	/* when the system answers again, so do we */
	assert_int_equal(resolve(resolver, "hang0.example", false, &answer,
			     NULL),
	    ERR_OK);
	assert_int_equal(resolve(resolver, "hang60.example", false, &answer,
			     NULL),
	    ERR_OK);
	assert_true(atomic_load(&most_running) <= 8);
	resolver_free(resolver);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_public_addresses_from_all_others),
		cmocka_unit_test(answers_numeric_hosts_and_localhost_at_once),
		cmocka_unit_test(refuses_a_name_that_leads_inside),
		cmocka_unit_test(says_why_a_name_has_no_address),
		cmocka_unit_test(asks_once_for_what_it_knows),
		cmocka_unit_test(gives_up_on_a_name_in_time),
		cmocka_unit_test(bounds_threads_and_names_that_hang),
	};

	return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
