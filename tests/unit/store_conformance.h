/* SPDX-License-Identifier: MIT */
#ifndef TESTS_STORE_CONFORMANCE_H
#define TESTS_STORE_CONFORMANCE_H

#include "broker/store/store.h"

/*
 * What every backend of broker/store/store.h has to do.  A backend's test opens
 * two handles on one empty store in its setup, closes them in its teardown, and
 * has STORE_CONFORMANCE(setup, teardown) among its tests.
 */
struct store_pair {
	struct store *one, *other;
};

#define STORE_CONFORMANCE_LIST(TEST)                        \
	TEST(keeps_an_anam_session_as_it_was)               \
	TEST(finds_an_anam_session_by_its_token)            \
	TEST(gives_an_id_and_a_token_once)                  \
	TEST(knows_no_anam_session_that_has_expired)        \
	TEST(keeps_a_ticket_as_it_was)                      \
	TEST(gives_a_ticket_once_until_it_expires)          \
	TEST(forgets_what_has_expired)                      \
	TEST(books_a_row_once)                              \
	TEST(books_all_rows_or_none)                        \
	TEST(refuses_rows_whose_sum_could_overflow)         \
	TEST(sums_by_day_route_user_and_model_in_order)     \
	TEST(sums_from_the_first_second_to_before_the_last) \
	TEST(sums_nothing_to_nothing)                       \
	TEST(lets_one_of_many_threads_have_a_token)         \
	TEST(books_what_many_threads_report)

#define STORE_CONFORMANCE_DECLARE(name) void name(void **state);
STORE_CONFORMANCE_LIST(STORE_CONFORMANCE_DECLARE)

#endif
