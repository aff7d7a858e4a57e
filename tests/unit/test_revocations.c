/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/limits/revocations.h"
#include "broker/store/store.h"
#include "broker/store/store_sqlite.h"

#define NOW   1767225600 /* 2026-01-01 */
#define LATER (NOW + 86400)

static char dir[] = "/tmp/test_revocations.XXXXXX";
static char path[64], wal[64], shm[64];

static enum err
add(const char *kind, const char *value, int64_t before)
{
	return revocations_add(kind, value, before, LATER, NULL);
}

static bool
has_user(const char *user, int64_t issued)
{
	return revocations_have(
	    &(const struct revocations_subject){ .user = user,
		.issued = issued });
}

static int
forget(void **state)
{
	struct store *store = store_current();

	(void)state;
	revocations_done();
	store_set_current(NULL);
	if (store != NULL) {
		store->ops->close(store);
		(void)unlink(path);
		(void)unlink(wal);
		(void)unlink(shm);
	}
	return 0;
}

static int
open_store(void **state)
{
	struct store *store;
	struct diag diag = { "" };

	(void)state;
	if (store_sqlite_open(path, &store, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	store_set_current(store);
	return 0;
}

static void
refuses_what_was_issued_at_the_moment_or_before(void **state)
{
	(void)state;
	assert_false(has_user("ann", NOW));
	assert_int_equal(add("user", "ann", NOW), ERR_OK);
	assert_true(has_user("ann", NOW - 1));
	assert_true(has_user("ann", NOW));
	assert_false(has_user("ann", NOW + 1));
	/* who does not say when it was issued */
	assert_true(has_user("ann", 0));
	assert_false(has_user("bob", NOW));
	assert_false(has_user(NULL, 0));
}

static void
tells_kinds_apart(void **state)
{
	static const char *const kinds[] = { "user", "session", "ticket",
		"route" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		const struct revocations_subject subjects[] = {
			{ .user = "x", .issued = NOW },
			{ .session = "x", .issued = NOW },
			{ .ticket = "x", .issued = NOW },
			{ .route = "x", .issued = NOW },
		};

		assert_int_equal(add(kinds[i], "x", NOW), ERR_OK);
		for (size_t j = 0; j < 4; j++)
			assert_int_equal(revocations_have(&subjects[j]),
			    i == j);
		revocations_done();
	}
	assert_int_equal(add("lease", "x", NOW), ERR_PROTO);
}

static void
finds_one_of_many(void **state)
{
	char name[16];

	(void)state;
	for (int i = 0; i < 500; i++) {
		(void)snprintf(name, sizeof(name), "u%d", i * 7919 % 500);
		assert_int_equal(add("user", name, NOW + i), ERR_OK);
	}
	for (int i = 0; i < 500; i++) {
		(void)snprintf(name, sizeof(name), "u%d", i * 7919 % 500);
		assert_true(has_user(name, NOW + i));
		assert_false(has_user(name, NOW + i + 1));
	}
}

static void
keeps_the_later_moment(void **state)
{
	(void)state;
	assert_int_equal(add("user", "ann", NOW + 5), ERR_OK);
	assert_int_equal(add("user", "ann", NOW), ERR_OK);
	assert_true(has_user("ann", NOW + 5));
	assert_false(has_user("ann", NOW + 6));
}

static void
forgets_those_that_have_expired(void **state)
{
	(void)state;
	assert_int_equal(add("user", "ann", NOW), ERR_OK);
	assert_int_equal(revocations_load(LATER - 1, NULL), ERR_OK);
	assert_true(has_user("ann", NOW));
	assert_int_equal(revocations_load(LATER, NULL), ERR_OK);
	assert_false(has_user("ann", NOW));
}

static void
outlives_the_process_in_the_store(void **state)
{
	(void)state;
	assert_int_equal(add("user", "ann", NOW), ERR_OK);
	revocations_done();
	assert_false(has_user("ann", NOW));
	assert_int_equal(revocations_load(NOW, NULL), ERR_OK);
	assert_true(has_user("ann", NOW));
}

static void
hears_of_what_another_process_has_added(void **state)
{
	const struct store_revocation in = {
		.kind = (char[]){ "route" },
		.value = (char[]){ "/a" },
		.before = NOW,
		.expires = LATER,
	};
	const struct revocations_subject subject = { .route = "/a",
		.issued = NOW };
	struct store *store = store_current();

	(void)state;
	assert_int_equal(store->ops->revoke(store, &in, NULL), ERR_OK);
	assert_false(revocations_have(&subject));
	assert_int_equal(revocations_load(NOW, NULL), ERR_OK);
	assert_true(revocations_have(&subject));
}

/* What cannot be kept is not told to be. */
static void
adds_nothing_while_the_store_is_away(void **state)
{
	(void)state;
	assert_int_equal(add("user", "ann", NOW), ERR_OK);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(chmod(path, 0), 0);
	if (geteuid() == 0)
		assert_int_equal(rename(dir, "/tmp/test_revocations.away"), 0);
	assert_int_equal(add("user", "bob", NOW), ERR_UNAVAIL);
	assert_false(has_user("bob", NOW));
	/* and what is in memory stays */
	assert_int_equal(revocations_load(NOW, NULL), ERR_UNAVAIL);
	assert_true(has_user("ann", NOW));
	if (geteuid() == 0)
		assert_int_equal(rename("/tmp/test_revocations.away", dir), 0);
}

static void
lists_them_as_far_as_there_is_room(void **state)
{
	json_t *list;

	(void)state;
	assert_int_equal(add("user", "ann", NOW), ERR_OK);
	assert_int_equal(add("route", "/a", NOW), ERR_OK);
	list = revocations_list(1000);
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(
				json_object_get(json_array_get(list, 1),
				    "value")),
	    "ann");
	assert_int_equal(json_integer_value(
			     json_object_get(json_array_get(list, 1),
				 "before")),
	    NOW);
	json_decref(list);
	list = revocations_list(100);
	assert_int_equal(json_array_size(list), 1);
	json_decref(list);
}

#define ADDERS 3
#define ADDED  40 /* by each of them */

static atomic_uint adding, forgotten;

static void *
add_some(void *arg)
{
	const char *name = arg;
	char user[32];

	for (int i = 0; i < ADDED; i++) {
		(void)snprintf(user, sizeof(user), "%s%d", name, i);
		if (add("user", user, NOW) != ERR_OK || !has_user(user, NOW))
			atomic_fetch_add(&forgotten, 1);
	}
	for (int i = 0; i < ADDED; i++) {
		(void)snprintf(user, sizeof(user), "%s%d", name, i);
		if (!has_user(user, NOW))
			atomic_fetch_add(&forgotten, 1);
	}
	atomic_fetch_sub(&adding, 1);
	return NULL;
}

static void *
load_meanwhile(void *arg)
{
	(void)arg;
	while (atomic_load(&adding) > 0)
		if (revocations_load(NOW, NULL) != ERR_OK)
			atomic_fetch_add(&forgotten, 1);
	return NULL;
}

static void *
list_meanwhile(void *arg)
{
	(void)arg;
	while (atomic_load(&adding) > 0)
		json_decref(revocations_list(SIZE_MAX));
	return NULL;
}

static void
forgets_none_while_others_are_added_and_read(void **state)
{
	static char names[ADDERS][2] = { "a", "b", "c" };
	pthread_t threads[ADDERS + 2];

	(void)state;
	atomic_store(&adding, ADDERS);
	for (size_t i = 0; i < ADDERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_some,
				     names[i]),
		    0);
	assert_int_equal(pthread_create(&threads[ADDERS], NULL, load_meanwhile,
			     NULL),
	    0);
	assert_int_equal(pthread_create(&threads[ADDERS + 1], NULL,
			     list_meanwhile, NULL),
	    0);
	for (size_t i = 0; i < ADDERS + 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&forgotten), 0);
}

int
main(void)
{
#define TEST(name)   cmocka_unit_test_teardown(name, forget)
#define STORED(name) cmocka_unit_test_setup_teardown(name, open_store, forget)
	const struct CMUnitTest tests[] = {
		TEST(refuses_what_was_issued_at_the_moment_or_before),
		TEST(tells_kinds_apart),
		TEST(finds_one_of_many),
		TEST(keeps_the_later_moment),
		TEST(forgets_those_that_have_expired),
		STORED(outlives_the_process_in_the_store),
		STORED(hears_of_what_another_process_has_added),
		STORED(adds_nothing_while_the_store_is_away),
		STORED(forgets_none_while_others_are_added_and_read),
		TEST(lists_them_as_far_as_there_is_room),
	};
	int rc;

	if (mkdtemp(dir) == NULL)
		return 1;
	(void)snprintf(path, sizeof(path), "%s/store.db", dir);
	(void)snprintf(wal, sizeof(wal), "%s/store.db-wal", dir);
	(void)snprintf(shm, sizeof(shm), "%s/store.db-shm", dir);
	rc = cmocka_run_group_tests_name("revocations", tests, NULL, NULL);
	(void)rmdir(dir);
	return rc;
}
