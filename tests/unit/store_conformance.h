/* SPDX-License-Identifier: MIT */
#ifndef TESTS_STORE_CONFORMANCE_H
#define TESTS_STORE_CONFORMANCE_H

#include <pthread.h>

#include "broker/store/store.h"

#define NOW 1767225600 /* 2026-01-01 */

/* What is written is only read. */
#define TEXT(s) ((char *)(uintptr_t)(s))

#define OPS(store, verb, ...) (store)->ops->verb((store), __VA_ARGS__)

/*
 * What every backend of broker/store/store.h has to do.  A backend's test opens
 * two handles on one empty store in its setup, closes them in its teardown, and
 * has STORE_CONFORMANCE(setup, teardown) among its tests.
 */
struct store_pair {
	struct store *one, *other;
};

void assert_ok(enum err err, const struct diag *diag);

/* Threads that do the same at once, on one handle or the other by turns. */
struct racer {
	pthread_t thread;
	struct store *store;
	int number;
	enum err err;
};
void race(struct store_pair *pair, struct racer *racers, int count,
    void *(*run)(void *));

/*
 * A generation to begin: "q3" is answered by "a3", which "g3" makes, in a chat,
 * or in a new one, "c3"; owner "u:ann", nobody pays.
 */
struct beginning {
	struct store_begin in;
	char chat[16], question[16], answer[16], generation[16];
};
void beginning_init(struct beginning *beginning, const char *chat, int n);

/* Begin it, with no result; the error is the store's. */
enum err try_begin(struct store *store, const struct store_begin *in);

/* The whole of a turn: begin it as above, and end it with this answer. */
void say(struct store *store, const char *chat, int n, const char *question,
    const char *answer);

/* How generation "gN" ends: completely, and nothing is charged. */
struct store_finish ending(const char *generation, const char *content);
struct store_finished end(struct store *store, const struct store_finish *in);

/* Until nothing is left to be forgotten. */
void expire(struct store *store, const struct store_expiry *in);
void expire_at(struct store *store, int64_t now); /* keeps all chats */

#define STORE_CONFORMANCE_LIST(TEST)                         \
	TEST(keeps_an_anam_session_as_it_was)                \
	TEST(finds_an_anam_session_by_its_token)             \
	TEST(gives_an_id_and_a_token_once)                   \
	TEST(knows_no_anam_session_that_has_expired)         \
	TEST(keeps_a_ticket_as_it_was)                       \
	TEST(keeps_what_a_ticket_is_bound_to)                \
	TEST(spends_a_ticket_once)                           \
	TEST(gives_a_ticket_once_until_it_expires)           \
	TEST(forgets_what_has_expired)                       \
	TEST(keeps_revocations_until_they_expire)            \
	TEST(keeps_the_later_moment_of_a_revocation)         \
	TEST(keeps_no_more_revocations_than_the_maximum)     \
	TEST(books_a_row_once)                               \
	TEST(books_all_rows_or_none)                         \
	TEST(refuses_rows_whose_sum_could_overflow)          \
	TEST(sums_by_day_route_user_and_model_in_order)      \
	TEST(sums_from_the_first_second_to_before_the_last)  \
	TEST(sums_nothing_to_nothing)                        \
	TEST(lets_one_of_many_threads_have_a_token)          \
	TEST(books_what_many_threads_report)                 \
	TEST(lists_chats_with_the_last_changed_first)        \
	TEST(gives_pages_of_chats_whatever_is_asked_for)     \
	TEST(keeps_no_more_chats_than_allowed)               \
	TEST(hides_a_chat_from_everybody_else)               \
	TEST(keeps_texts_as_they_are)                        \
	TEST(deletes_a_chat_with_all_that_is_in_it)          \
	TEST(begins_a_new_chat_with_a_question)              \
	TEST(goes_on_in_a_chat_that_is_there)                \
	TEST(gives_pages_of_messages_from_the_newest_on)     \
	TEST(bounds_the_history_and_keeps_the_question)      \
	TEST(makes_an_answer_anew_and_keeps_the_older_ones)  \
	TEST(makes_only_answers_anew)                        \
	TEST(bounds_turns_and_versions)                      \
	TEST(makes_one_answer_at_a_time_in_a_chat)           \
	TEST(repeats_what_a_key_began)                       \
	TEST(keeps_a_key_for_its_time_and_while_it_runs)     \
	TEST(leaves_nothing_of_what_did_not_begin)           \
	TEST(replays_events_from_any_one_on)                 \
	TEST(passes_over_pieces_that_come_twice_or_too_late) \
	TEST(replays_nothing_after_a_gap)                    \
	TEST(tells_what_runs_and_how_far_it_came)            \
	TEST(ends_an_answer_once)                            \
	TEST(forgets_events_and_keys_but_nothing_that_runs)  \
	TEST(forgets_chats_that_do_not_change)               \
	TEST(forgets_no_chat_in_which_an_answer_runs)        \
	TEST(lets_one_of_many_threads_begin_in_a_chat)       \
	TEST(begins_once_for_many_threads_with_one_key)      \
	TEST(has_nothing_for_a_user_never_heard_of)          \
	TEST(books_a_top_up_once_for_its_id)                 \
	TEST(takes_back_no_more_than_is_free)                \
	TEST(holds_no_more_than_the_maximum)                 \
	TEST(reserves_given_what_will_be_sent)               \
	TEST(begins_nothing_that_cannot_be_paid)             \
	TEST(charges_what_was_used_and_frees_the_rest)       \
	TEST(charges_more_only_as_far_as_it_is_free)         \
	TEST(takes_no_charge_below_nothing)                  \
	TEST(books_the_usage_of_an_answer_with_its_end)      \
	TEST(counts_messages_by_id_and_by_address)           \
	TEST(opens_a_new_window_when_the_old_one_is_over)    \
	TEST(counts_nothing_that_did_not_begin)              \
	TEST(never_spends_a_balance_twice)                   \
	TEST(reserves_in_all_budgets_or_in_none)             \
	TEST(gives_what_is_left_to_who_is_alone)             \
	TEST(lets_wait_while_others_have_reserved_the_rest)  \
	TEST(ends_a_reservation_with_its_row)                \
	TEST(counts_a_row_once_in_its_budgets)               \
	TEST(counts_a_lost_response_that_comes_late_once)    \
	TEST(counts_what_is_more_than_was_reserved_for_it)   \
	TEST(counts_the_usage_of_an_answer_with_its_end)     \
	TEST(begins_no_answer_that_no_budget_has_room_for)   \
	TEST(counts_an_answer_where_it_was_reserved)         \
	TEST(frees_what_an_answer_did_not_use)               \
	TEST(reserves_once_for_an_id)                        \
	TEST(knows_leases_that_are_over_until_they_expire)   \
	TEST(forgets_a_reservation_that_nobody_settles)      \
	TEST(books_as_lost_what_nobody_settles)              \
	TEST(books_no_response_as_lost_twice)                \
	TEST(begins_each_day_with_nothing_used)              \
	TEST(forgets_counters_of_old_days)                   \
	TEST(reserves_nothing_without_a_limit)               \
	TEST(refuses_amounts_that_could_overflow)            \
	TEST(books_what_is_new_of_a_connections_seconds)     \
	TEST(lists_the_budgets_of_today_the_dearest_first)   \
	TEST(tells_which_budget_has_least_left)              \
	TEST(overshoots_by_one_for_many_threads)

#define STORE_CONFORMANCE_DECLARE(name) void name(void **state);
STORE_CONFORMANCE_LIST(STORE_CONFORMANCE_DECLARE)

#endif
