/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>

#include "clock_double.h"
#include "common/log.h"
#include "common/xalloc.h"

/* Standard error is a pipe during a test. */
static int saved, reader;

static int
capture(void **state)
{
	int fds[2];

	(void)state;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) == -1)
		return -1;
	saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (saved == -1 || dup2(fds[1], STDERR_FILENO) == -1)
		return -1;
	(void)close(fds[1]);
	reader = fds[0];
	return unsetenv("JOURNAL_STREAM");
}

static int
restore(void **state)
{
	(void)state;
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	return close(reader);
}

/* What has been logged since the last call. */
static const char *
logged(void)
{
	static char text[128 * 1024];
	ssize_t n = read(reader, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void
writes_time_program_event_and_values(void **state)
{
	const char *line;

	(void)state;
	log_init("prog", LOG_LEVEL_INFO);
	log_info("event.name", "key=%d word=%s", 7, "x");
	line = logged();
	assert_int_equal(line[4], '-');
	assert_int_equal(line[23], 'Z');
	assert_non_null(strstr(line, "Z prog["));
	assert_non_null(strstr(line, "] event.name key=7 word=x\n"));
}

static void
under_the_journal_a_line_begins_with_its_priority(void **state)
{
	(void)state;
	assert_int_equal(setenv("JOURNAL_STREAM", "8:1", 1), 0);
	log_init("prog", LOG_LEVEL_DEBUG);
	log_error("a.b", "k=%d", 1);
	assert_string_equal(logged(), "<3>a.b k=1\n");
	log_debug("a.b", "k=%d", 1);
	assert_string_equal(logged(), "<7>a.b k=1\n");
}

static void
leaves_out_what_is_over_the_level(void **state)
{
	(void)state;
	log_init("prog", LOG_LEVEL_WARNING);
	log_notice("a.b", "k=%d", 1);
	assert_string_equal(logged(), "");
	log_warning("a.b", "k=%d", 1);
	assert_string_not_equal(logged(), "");
}

static void
cuts_a_long_line_and_ends_it(void **state)
{
	char value[5000];
	const char *line;

	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	log_init("prog", LOG_LEVEL_INFO);
	log_info("a.b", "k=%s", value);
	line = logged();
	assert_int_equal(strlen(line), 2048);
	assert_int_equal(line[2047], '\n');
}

static void
drops_lines_that_nobody_takes_and_counts_them(void **state)
{
	unsigned written = 0;
	const char *line;

	(void)state;
	log_init("prog", LOG_LEVEL_INFO);
	for (int i = 0; i < 10000; i++)
		log_info("a.b", "i=%d", i);
	line = logged();
	assert_non_null(strstr(line, "a.b i=0\n"));
	while ((line = strstr(line, "a.b i=")) != NULL) {
		written++;
		line++;
	}
	log_info("a.b", "last=%d", 1);
	line = strstr(logged(), "log.dropped lines=");
	assert_non_null(line);
	assert_int_equal(strtoul(line + strlen("log.dropped lines="), NULL, 10),
	    10000 - written);
	log_info("a.b", "last=%d", 2);
	assert_null(strstr(logged(), "log.dropped"));
}

/* poll() sees room, as it does where another process is about to take it. */
static bool sees_room;
int __real_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);

int
__wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	if (!sees_room)
		return __real_poll(fds, n, timeout_ms);
	fds[0].revents = POLLOUT;
	return 1;
}

static void
does_not_wait_where_another_took_the_room(void **state)
{
	char line[] = "\n";
	struct iovec iov = { .iov_base = line, .iov_len = 1 };

	(void)state;
	assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, 0), 0);
	if (pwritev2(STDERR_FILENO, &iov, 1, -1, RWF_NOWAIT) == -1)
		skip(); /* before Linux 6.5 */
	log_init("prog", LOG_LEVEL_INFO);
	for (int i = 0; i < 3000; i++)
		log_info("a.b", "i=%d", i); /* until it is full */
	sees_room = true;
	(void)alarm(10);
	for (int i = 0; i < 200; i++)
		log_info("a.b", "late=%d", i);
	(void)alarm(0);
	sees_room = false;
	assert_null(strstr(logged(), "late=199"));
	log_info("a.b", "last=%d", 1);
	assert_non_null(strstr(logged(), "log.dropped lines="));
}

static void
knows_its_levels_by_name(void **state)
{
	enum log_level level = LOG_LEVEL_INFO;

	(void)state;
	assert_int_equal(log_level_parse("error", &level), ERR_OK);
	assert_int_equal(level, LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("debug", &level), ERR_OK);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("Debug", &level), ERR_NOTFOUND);
	assert_int_equal(log_level_parse("", &level), ERR_NOTFOUND);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
}

#define LOG_TEST(test) cmocka_unit_test_setup_teardown(test, capture, restore)

static unsigned
count_lines(const char *text)
{
	unsigned lines = 0;

	for (; (text = strchr(text, '\n')) != NULL; text++)
		lines++;
	return lines;
}

static void
limits_lines_and_says_how_many_are_missing(void **state)
{
	struct log_limit limit = { .max = 3, .per_ms = 60000 };
	struct log_limit other = LOG_LIMIT_A_MINUTE;
	char *text;

	(void)state;
	log_init("prog", LOG_LEVEL_INFO);
	for (int i = 0; i < 10; i++) {
		log_limited(&limit, LOG_LEVEL_INFO, "one", "i=%d", i);
		/* one that is not wanted does not count */
		log_limited(&limit, LOG_LEVEL_DEBUG, "one", "i=%d", i);
	}
	log_limited(&other, LOG_LEVEL_INFO, "two", "i=0");
	text = xstrdup(logged());
	assert_int_equal(count_lines(text), 4);
	assert_non_null(strstr(text, " one i=0\n"));
	assert_non_null(strstr(text, " one i=2\n"));
	assert_non_null(strstr(text, " two i=0\n"));
	free(text);

	log_limited(&limit, LOG_LEVEL_INFO, "one", "i=10");
	assert_string_equal(logged(), "");
	clock_skipped_ms += 60000;
	log_limited(&limit, LOG_LEVEL_INFO, "one", "i=%s", "11");
	log_limited(&limit, LOG_LEVEL_INFO, "one", "i=12");
	text = xstrdup(logged());
	assert_non_null(strstr(text, " one i=11 omitted=8\n"));
	assert_non_null(strstr(text, " one i=12\n"));
	free(text);

	/* however long it is */
	clock_skipped_ms += 60000;
	for (int i = 0; i < 4; i++)
		log_limited(&limit, LOG_LEVEL_INFO, "one", "%02000d", i);
	(void)logged();
	clock_skipped_ms += 60000;
	log_limited(&limit, LOG_LEVEL_INFO, "one", "%02000d", 7);
	assert_non_null(strstr(logged(), " omitted=1\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		LOG_TEST(writes_time_program_event_and_values),
		LOG_TEST(under_the_journal_a_line_begins_with_its_priority),
		LOG_TEST(leaves_out_what_is_over_the_level),
		LOG_TEST(cuts_a_long_line_and_ends_it),
		LOG_TEST(drops_lines_that_nobody_takes_and_counts_them),
		LOG_TEST(does_not_wait_where_another_took_the_room),
		LOG_TEST(limits_lines_and_says_how_many_are_missing),
		cmocka_unit_test(knows_its_levels_by_name),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
