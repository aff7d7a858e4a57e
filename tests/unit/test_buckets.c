/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/limits/buckets.h"
#include "common/log.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define START_MS 1000000

static const struct config_plan slow = { .name = (char[]){ "slow" },
	.requests_per_s = 0.5,
	.burst = 2 };
static const struct config_plan fast = { .name = (char[]){ "fast" },
	.requests_per_s = 10,
	.burst = 5 };
static const struct config_plan rare = { .name = (char[]){ "rare" },
	.requests_per_s = 0.000001,
	.burst = 1 };
static const struct config_plan none = { .name = (char[]){ "none" } };
static const struct config_plan third = { .name = (char[]){ "third" },
	.requests_per_s = 1.0 / 3,
	.burst = 1 };
static const struct config_plan thousand = { .name = (char[]){ "thousand" },
	.requests_per_s = 1,
	.burst = 1000 };

static int
forget(void **state)
{
	(void)state;
	log_init("test", LOG_LEVEL_ERROR);
	buckets_done();
	return 0;
}

static struct subjects
subjects_of(const char *first, const struct config_plan *plan,
    const char *second, const struct config_plan *second_plan)
{
	struct subjects subjects = { .count = second == NULL ? 1 : 2 };

	(void)strcpy(subjects.items[0].name, first);
	subjects.items[0].plan = plan;
	if (second != NULL)
		(void)strcpy(subjects.items[1].name, second);
	subjects.items[1].plan = second_plan;
	return subjects;
}

static enum err
take(const struct subjects *subjects, int64_t at_ms)
{
	struct buckets_state state;
	struct diag diag;

	return buckets_take(subjects, START_MS + at_ms, &state, &diag);
}

static void
lets_a_burst_pass_and_then_so_many_a_second(void **state)
{
	static const struct {
		int64_t at_ms;
		enum err err;
		uint64_t remaining;
		int64_t reset_ms, retry_after_ms;
	} steps[] = {
		{ 0, ERR_OK, 1, 2000, 0 },
		{ 0, ERR_OK, 0, 4000, 0 },
		{ 0, ERR_RATE, 0, 4000, 2000 },
		{ 1, ERR_RATE, 0, 3999, 1999 },
		{ 1999, ERR_RATE, 0, 2001, 1 },
		{ 2000, ERR_OK, 0, 4000, 0 },
		{ 2001, ERR_RATE, 0, 3999, 1999 },
		{ 6000, ERR_OK, 1, 2000, 0 },
		/* it does not fill beyond its burst */
		{ 900000, ERR_OK, 1, 2000, 0 },
		{ 900000, ERR_OK, 0, 4000, 0 },
		{ 900000, ERR_RATE, 0, 4000, 2000 },
	};
	struct subjects ann = subjects_of("u:ann", &slow, NULL, NULL);

	(void)state;
	for (size_t i = 0; i < COUNT(steps); i++) {
		struct buckets_state got;
		struct diag diag = { "" };

		assert_int_equal(buckets_take(&ann, START_MS + steps[i].at_ms,
				     &got, &diag),
		    steps[i].err);
		assert_string_equal(got.plan, "slow");
		assert_int_equal(got.limit, 2);
		assert_int_equal(got.remaining, steps[i].remaining);
		assert_int_equal(got.reset_ms, steps[i].reset_ms);
		assert_int_equal(got.retry_after_ms, steps[i].retry_after_ms);
	}
}

static void
says_in_how_many_seconds_to_try_again(void **state)
{
	struct subjects ann = subjects_of("u:ann", &slow, NULL, NULL);
	struct buckets_state got;
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(take(&ann, 0), ERR_OK);
	assert_int_equal(take(&ann, 0), ERR_OK);
	assert_int_equal(buckets_take(&ann, START_MS + 1, &got, &diag),
	    ERR_RATE);
	assert_string_equal(diag.text,
	    "too many requests: try again in 2 seconds");
}

static void
does_not_touch_others(void **state)
{
	struct subjects ann = subjects_of("u:ann", &slow, NULL, NULL);
	struct subjects bob = subjects_of("u:bob", &slow, NULL, NULL);
	struct subjects anonymous = subjects_of("a:ann", &slow, NULL, NULL);

	(void)state;
	assert_int_equal(take(&ann, 0), ERR_OK);
	assert_int_equal(take(&ann, 0), ERR_OK);
	assert_int_equal(take(&ann, 0), ERR_RATE);
	assert_int_equal(take(&bob, 0), ERR_OK);
	assert_int_equal(take(&anonymous, 0), ERR_OK);
}

static void
takes_of_all_or_of_none(void **state)
{
	struct subjects both = subjects_of("u:ann", &fast, "r:/a", &slow);
	struct subjects alone = subjects_of("u:ann", &fast, NULL, NULL);
	struct buckets_state got;
	struct diag diag;

	(void)state;
	assert_int_equal(take(&both, 0), ERR_OK);
	assert_int_equal(take(&both, 0), ERR_OK);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(buckets_take(&both, START_MS, &got, &diag),
		    ERR_RATE);
		assert_string_equal(got.plan, "slow");
	}
	/* two of five are gone, not twelve */
	for (int i = 0; i < 3; i++)
		assert_int_equal(take(&alone, 0), ERR_OK);
	assert_int_equal(take(&alone, 0), ERR_RATE);
}

static void
tells_of_the_one_with_the_least_left(void **state)
{
	struct subjects both = subjects_of("u:ann", &fast, "r:/a", &slow);
	struct buckets_state got;
	struct diag diag;

	(void)state;
	assert_int_equal(buckets_take(&both, START_MS, &got, &diag), ERR_OK);
	assert_string_equal(got.plan, "slow");
	assert_int_equal(got.remaining, 1);
	both.items[1].plan = NULL;
	assert_int_equal(buckets_take(&both, START_MS, &got, &diag), ERR_OK);
	assert_string_equal(got.plan, "fast");
	assert_int_equal(got.remaining, 3);
}

static void
asks_nothing_of_who_has_no_limit(void **state)
{
	struct subjects ann = subjects_of("u:ann", NULL, "r:/a", &none);
	struct buckets_state got;
	struct diag diag;

	(void)state;
	for (int i = 0; i < 10000; i++)
		assert_int_equal(buckets_take(&ann, START_MS, &got, &diag),
		    ERR_OK);
	assert_null(got.plan);
}

static void
counts_exactly_over_a_long_time(void **state)
{
	struct subjects ann = subjects_of("u:ann", &third, NULL, NULL);
	struct subjects once = subjects_of("u:once", &rare, NULL, NULL);

	(void)state;
	for (int64_t i = 0; i < 100000; i++) {
		assert_int_equal(take(&ann, i * 3000), ERR_OK);
		assert_int_equal(take(&ann, i * 3000 + 2999), ERR_RATE);
	}
	assert_int_equal(take(&once, 0), ERR_OK);
	assert_int_equal(take(&once, 999999999), ERR_RATE);
	assert_int_equal(take(&once, 1000000000), ERR_OK);
}

static void
stays_small_and_remembers_the_latest(void **state)
{
	struct subjects flood = subjects_of("", &slow, NULL, NULL);
	struct subjects ann = subjects_of("u:ann", &slow, NULL, NULL);
	size_t before = mallinfo2().uordblks;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		(void)snprintf(flood.items[0].name, sizeof(flood.items[0].name),
		    i % 2 == 0 ? "n:%u" : "a:%u", i);
		assert_int_equal(take(&flood, 0), ERR_OK);
		/* who keeps coming is not forgotten by it */
		if (i % 1000 == 0)
			assert_int_equal(take(&ann, 0),
			    i < 2000 ? ERR_OK : ERR_RATE);
	}
	assert_in_range(mallinfo2().uordblks, before,
	    before + (size_t)BUCKETS_MAX * 96);
	/* the latest of the flood is known, the first one is forgotten */
	assert_int_equal(take(&flood, 0), ERR_OK);
	assert_int_equal(take(&flood, 0), ERR_RATE);
	buckets_done();
	assert_true(mallinfo2().uordblks <= before + 4096);
}

static atomic_uint passed;

static void *
race(void *arg)
{
	for (int i = 0; i < 10000; i++)
		if (take(arg, 0) == ERR_OK)
			(void)atomic_fetch_add(&passed, 1);
	return NULL;
}

static void
counts_exactly_against_many_threads(void **state)
{
	struct subjects ann = subjects_of("u:ann", &thousand, NULL, NULL);
	pthread_t threads[8];

	(void)state;
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, &ann),
		    0);
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&passed), 1000);
}

/* Standard error is a pipe meanwhile: what was logged. */
static size_t
count_lines(const struct subjects *subjects, int64_t now_ms, unsigned times,
    char *out, size_t size)
{
	int saved = dup(STDERR_FILENO), fds[2];
	size_t lines = 0;
	ssize_t n;

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_not_equal(dup2(fds[1], STDERR_FILENO), -1);
	for (unsigned i = 0; i < times; i++)
		assert_int_equal(take(subjects, now_ms), ERR_RATE);
	(void)dup2(saved, STDERR_FILENO);
	n = read(fds[0], out, size - 1);
	out[n > 0 ? n : 0] = '\0';
	for (const char *c = out; *c != '\0'; c++)
		lines += *c == '\n';
	(void)close(saved);
	(void)close(fds[0]);
	(void)close(fds[1]);
	return lines;
}

static void
logs_refusals_once_a_minute_with_their_number(void **state)
{
	struct subjects ann = subjects_of("u:ann\n", &rare, "n:x", &fast);
	char text[4096];

	(void)state;
	log_init("test", LOG_LEVEL_INFO);
	assert_int_equal(take(&ann, 0), ERR_OK);
	assert_int_equal(count_lines(&ann, 0, 5, text, sizeof(text)), 1);
	assert_non_null(strstr(text,
	    " requests.refused of=u:ann\\x0a plan=rare requests=1\n"));
	assert_int_equal(count_lines(&ann, 59999, 1, text, sizeof(text)), 0);
	assert_int_equal(count_lines(&ann, 60000, 1, text, sizeof(text)), 1);
	assert_non_null(strstr(text, " requests=6\n"));
}

static void
logs_so_many_refusals_a_minute_and_no_more(void **state)
{
	struct subjects flood = subjects_of("", &rare, NULL, NULL);
	char text[4096];
	size_t lines = 0;

	(void)state;
	log_init("test", LOG_LEVEL_INFO);
	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(flood.items[0].name, sizeof(flood.items[0].name),
		    "a:%u", i);
		assert_int_equal(take(&flood, 0), ERR_OK);
		lines += count_lines(&flood, 0, 2, text, sizeof(text));
	}
	assert_int_equal(lines, 60);
	/* the next minute */
	assert_int_equal(count_lines(&flood, 60000, 1, text, sizeof(text)), 1);
	assert_non_null(strstr(text, "of=a:999 plan=rare requests=3\n"));
}

#define TEST(name) cmocka_unit_test_teardown(name, forget)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lets_a_burst_pass_and_then_so_many_a_second),
		TEST(says_in_how_many_seconds_to_try_again),
		TEST(does_not_touch_others),
		TEST(takes_of_all_or_of_none),
		TEST(tells_of_the_one_with_the_least_left),
		TEST(asks_nothing_of_who_has_no_limit),
		TEST(counts_exactly_over_a_long_time),
		TEST(stays_small_and_remembers_the_latest),
		TEST(counts_exactly_against_many_threads),
		TEST(logs_refusals_once_a_minute_with_their_number),
		TEST(logs_so_many_refusals_a_minute_and_no_more),
	};

	log_init("test", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
