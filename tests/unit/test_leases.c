/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "broker/tunnels/leases.h"

static struct lease_request
request_for(const char *route, uint64_t max_route, uint64_t max_total)
{
	return (struct lease_request){
		.session = "s1",
		.route = route,
		.client = "192.0.2.1",
		.max_route = max_route,
		.max_total = max_total,
	};
}

static enum err
take(struct leases *leases, const char *route, uint64_t max_route,
    uint64_t max_total, struct lease **ret)
{
	struct lease_request request = request_for(route, max_route, max_total);

	return leases_take(leases, &request, ret, NULL);
}

static void
counts_per_route_and_in_total(void **state)
{
	struct leases *leases = leases_new();
	struct lease *one, *two, *three, *none = NULL;

	(void)state;
	assert_int_equal(take(leases, "/a", 1, 3, &one), ERR_OK);
	assert_int_equal(take(leases, "/a", 1, 3, &none), ERR_RATE);
	assert_int_equal(take(leases, "/b", 2, 3, &two), ERR_OK);
	assert_int_equal(take(leases, "/b", 2, 3, &three), ERR_OK);
	assert_int_equal(take(leases, "/b", 2, 3, &none), ERR_UNAVAIL);
	assert_int_equal(take(leases, "/c", 0, 3, &none), ERR_UNAVAIL);
	assert_null(none);
	lease_release(one);
	assert_int_equal(take(leases, "/a", 1, 3, &one), ERR_OK);
	assert_int_equal(take(leases, "/c", 0, 0, &none), ERR_OK);
	lease_release(none);
	lease_release(one);
	lease_release(two);
	lease_release(three);
	lease_release(NULL);
	leases_free(leases);
	leases_free(NULL);
}

static void
gives_every_lease_a_name_of_its_own(void **state)
{
	struct leases *leases = leases_new();
	struct lease *one, *two;

	(void)state;
	assert_int_equal(take(leases, "/a", 0, 0, &one), ERR_OK);
	assert_int_equal(take(leases, "/a", 0, 0, &two), ERR_OK);
	assert_int_equal(strlen(lease_peek(one)->id), 32);
	assert_string_not_equal(lease_peek(one)->id, lease_peek(two)->id);
	lease_release(one);
	lease_release(two);
	leases_free(leases);
}

static json_int_t
number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static struct subjects
subjects_of(const char *name, const struct config_plan *plan)
{
	struct subjects subjects = { .count = 1 };

	(void)strcpy(subjects.items[0].name, name);
	subjects.items[0].plan = plan;
	return subjects;
}

static void
keeps_what_it_was_taken_for(void **state)
{
	struct leases *leases = leases_new();
	struct config *config = config_new();
	struct subjects subjects = subjects_of("u:ann", NULL);
	char plan[] = "paid", ticket[] = "t1", anon_id[] = "v-12345678";
	struct lease_request request = request_for("/a", 0, 0);
	const struct lease_info *info;
	struct lease *lease;

	(void)state;
	request.plan = plan;
	request.ticket = ticket;
	request.anon_id = anon_id;
	request.issued = 42;
	request.subjects = &subjects;
	request.config = config;
	assert_int_equal(leases_take(leases, &request, &lease, NULL), ERR_OK);
	/* nothing of it is borrowed */
	config_unref(config);
	plan[0] = ticket[0] = anon_id[0] = '\0';
	subjects.count = 0;
	info = lease_peek(lease);
	assert_string_equal(info->plan, "paid");
	assert_string_equal(info->ticket, "t1");
	assert_string_equal(info->anon_id, "v-12345678");
	assert_int_equal(info->issued, 42);
	assert_int_equal(info->subjects.count, 1);
	assert_string_equal(info->subjects.items[0].name, "u:ann");
	assert_ptr_equal(info->config, config);
	assert_int_equal(info->config->relay_count, 0);
	lease_release(lease);
	leases_free(leases);
}

static void
holds_a_subject_to_its_tunnels(void **state)
{
	static const struct config_plan plan = { .max_tunnels = 1 };
	struct leases *leases = leases_new();
	struct subjects ann = subjects_of("u:ann", &plan);
	struct subjects bob = subjects_of("u:bob", &plan);
	struct lease_request request = request_for("/a", 0, 0);
	struct lease *one, *two, *none = NULL;
	struct diag diag = { "" };
	json_t *list;

	(void)state;
	request.subjects = &ann;
	assert_int_equal(leases_take(leases, &request, &one, NULL), ERR_OK);
	request.route = "/b";
	assert_int_equal(leases_take(leases, &request, &none, &diag), ERR_RATE);
	assert_non_null(strstr(diag.text, "the only connection of yours is in use"));
	/* a refusal leaves nothing behind */
	list = leases_list(leases, 4096);
	assert_int_equal(number(list, "total"), 1);
	assert_int_equal(json_object_size(json_object_get(list, "routes")), 1);
	json_decref(list);
	request.subjects = &bob;
	assert_int_equal(leases_take(leases, &request, &two, NULL), ERR_OK);
	lease_release(one);
	request.subjects = &ann;
	assert_int_equal(leases_take(leases, &request, &one, NULL), ERR_OK);
	lease_release(one);
	lease_release(two);
	leases_free(leases);
}

static void
takes_no_slot_where_there_is_no_connection(void **state)
{
	static const struct config_plan plan = { .max_tunnels = 2 };
	struct leases *leases = leases_new();
	struct subjects ann = subjects_of("u:ann", &plan);
	struct lease_request request = request_for("/a", 1, 0);
	struct lease *one, *two, *none = NULL;

	(void)state;
	request.subjects = &ann;
	assert_int_equal(leases_take(leases, &request, &one, NULL), ERR_OK);
	for (int i = 0; i < 5; i++)
		assert_int_equal(leases_take(leases, &request, &none, NULL),
		    ERR_RATE);
	request.max_route = 0;
	assert_int_equal(leases_take(leases, &request, &two, NULL), ERR_OK);
	assert_int_equal(leases_take(leases, &request, &none, NULL), ERR_RATE);
	lease_release(one);
	lease_release(two);
	leases_free(leases);
}

static void
takes_up_a_lease_of_before_beyond_every_limit(void **state)
{
	static const struct config_plan plan = { .max_tunnels = 1 };
	static const char *const ids[] = { "00112233445566778899aabbccddeeff",
		"10112233445566778899aabbccddeeff" };
	struct leases *leases = leases_new();
	struct subjects ann = subjects_of("u:ann", &plan);
	struct lease_request request = request_for("/a", 1, 1);
	struct lease *all[2], *none = NULL;
	struct diag diag = { "" };

	(void)state;
	request.subjects = &ann;
	for (size_t i = 0; i < 2; i++) {
		request.id = ids[i];
		assert_int_equal(leases_take(leases, &request, &all[i], &diag),
		    ERR_OK);
		assert_string_equal(lease_peek(all[i])->id, ids[i]);
	}
	assert_int_equal(leases_take(leases, &request, &none, &diag),
	    ERR_CONFLICT);
	/* a new one has to wait for both */
	request.id = NULL;
	request.max_route = request.max_total = 0;
	assert_int_equal(leases_take(leases, &request, &none, &diag), ERR_RATE);
	lease_release(all[0]);
	assert_int_equal(leases_take(leases, &request, &none, &diag), ERR_RATE);
	request.id = ids[0];
	assert_int_equal(leases_take(leases, &request, &all[0], &diag), ERR_OK);
	lease_release(all[0]);
	lease_release(all[1]);
	request.id = NULL;
	assert_int_equal(leases_take(leases, &request, &all[0], &diag), ERR_OK);
	lease_release(all[0]);
	leases_free(leases);
}

static void
lists_what_is_open_with_its_totals(void **state)
{
	const struct wire_usage usage = {
		.client = { .messages = 1, .bytes = 2 },
		.upstream = { .messages = 3, .bytes = 4 },
	};
	struct leases *leases = leases_new();
	struct lease_request request = request_for("/a", 0, 0);
	struct lease *one, *two;
	json_t *list, *first;

	(void)state;
	request.user = "ann";
	request.model = "gpt-realtime";
	assert_int_equal(leases_take(leases, &request, &one, NULL), ERR_OK);
	assert_int_equal(take(leases, "/b", 0, 0, &two), ERR_OK);
	lease_update(one, &usage);
	list = leases_list(leases, 4096);
	assert_int_equal(number(list, "total"), 2);
	assert_int_equal(number(list, "omitted"), 0);
	assert_int_equal(number(json_object_get(list, "routes"), "/b"), 1);
	first = json_array_get(json_object_get(list, "leases"), 0);
	assert_string_equal(json_string_value(json_object_get(first, "id")),
	    lease_peek(one)->id);
	assert_string_equal(json_string_value(json_object_get(first, "client")),
	    "192.0.2.1");
	assert_string_equal(json_string_value(json_object_get(first, "user")),
	    "ann");
	assert_string_equal(json_string_value(json_object_get(first, "model")),
	    "gpt-realtime");
	/* what is not known is not there */
	assert_null(
	    json_object_get(json_array_get(json_object_get(list, "leases"), 1),
		"user"));
	assert_int_equal(number(json_object_get(first, "from_upstream"),
			     "bytes"),
	    4);
	json_decref(list);
	lease_release(one);
	lease_release(two);
	leases_free(leases);
}

static void
lists_no_more_than_fits(void **state)
{
	struct leases *leases = leases_new();
	struct lease *all[100];
	json_t *list;
	char *text;

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(take(leases, "/a", 0, 0, &all[i]), ERR_OK);
	list = leases_list(leases, 2000);
	assert_int_equal(number(list, "total"), 100);
	assert_true(number(list, "omitted") > 80);
	assert_true(number(list, "omitted") < 100);
	text = json_dumps(list, JSON_COMPACT);
	assert_true(strlen(text) < 2100);
	free(text);
	json_decref(list);
	for (int i = 0; i < 100; i++)
		lease_release(all[i]);
	leases_free(leases);
}

static void *
take_and_release(void *arg)
{
	for (int i = 0; i < 1000; i++) {
		struct lease *lease = NULL;
		enum err err =
		    take(arg, i % 2 == 0 ? "/a" : "/b", 2, 3, &lease);

		if (err != ERR_OK && err != ERR_RATE && err != ERR_UNAVAIL)
			return arg;
		lease_release(lease);
	}
	return NULL;
}

static void
counts_right_from_many_threads(void **state)
{
	struct leases *leases = leases_new();
	pthread_t threads[4];
	json_t *list;
	void *failed;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
				     take_and_release, leases),
		    0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	list = leases_list(leases, 4096);
	assert_int_equal(number(list, "total"), 0);
	assert_int_equal(json_object_size(json_object_get(list, "routes")), 0);
	json_decref(list);
	leases_free(leases);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_per_route_and_in_total),
		cmocka_unit_test(gives_every_lease_a_name_of_its_own),
		cmocka_unit_test(keeps_what_it_was_taken_for),
		cmocka_unit_test(holds_a_subject_to_its_tunnels),
		cmocka_unit_test(takes_no_slot_where_there_is_no_connection),
		cmocka_unit_test(takes_up_a_lease_of_before_beyond_every_limit),
		cmocka_unit_test(lists_what_is_open_with_its_totals),
		cmocka_unit_test(lists_no_more_than_fits),
		cmocka_unit_test(counts_right_from_many_threads),
	};

	return cmocka_run_group_tests_name("leases", tests, NULL, NULL);
}
