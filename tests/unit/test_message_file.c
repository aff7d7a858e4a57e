/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/store/message_file.h"
#include "common/log.h"
#include "common/xalloc.h"

static char dir[64], path[96];
static struct lease_info lease = { .id = "0123456789abcdef" };

static struct message_file
file_of(uint64_t max_bytes, unsigned keep)
{
	return (struct message_file){
		.path = path,
		.max_bytes = max_bytes,
		.keep = keep,
		.content = true,
	};
}

static void
write_text(const struct message_file *file, const char *records,
    uint64_t dropped)
{
	struct wire_log log = {
		.records = json_loads(records, 0, NULL),
		.dropped = dropped,
	};

	assert_non_null(log.records);
	message_file_write(file, &lease, &log);
	json_decref(log.records);
}

/* The lines of a file, as an array. */
static json_t *
read_lines(const char *suffix)
{
	char *name = xasprintf("%s%s", path, suffix), line[4096];
	json_t *lines = json_array();
	FILE *f = fopen(name, "r");

	free(name);
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		json_t *value = json_loads(line, 0, NULL);

		if (value == NULL)
			fail_msg("%s", line);
		(void)json_array_append_new(lines, value);
	}
	(void)fclose(f);
	return lines;
}

static bool
exists(const char *suffix)
{
	char *name = xasprintf("%s%s", path, suffix);
	bool found = access(name, F_OK) == 0;

	free(name);
	return found;
}

static void
start(size_t max_bytes)
{
	struct diag diag;

	assert_int_equal(message_file_start(max_bytes, &diag), ERR_OK);
}

static int
set_up(void **state)
{
	static char session[] = "s1", route[] = "openai", user[] = "ann",
		    client[] = "192.0.2.1";

	(void)state;
	log_init("test_message_file", LOG_LEVEL_ERROR);
	lease.session = session;
	lease.route = route;
	lease.client = client;
	lease.user = user;
	(void)strcpy(dir, "/tmp/culvert-test.XXXXXX");
	(void)snprintf(path, sizeof(path), "%s/messages.log",
	    mkdtemp(dir) == NULL ? "" : dir);
	return 0;
}

static int
tear_down(void **state)
{
	struct dirent *entry;
	DIR *d;

	(void)state;
	message_file_stop();
	d = opendir(dir);
	while ((entry = readdir(d)) != NULL)
		(void)unlinkat(dirfd(d), entry->d_name, 0);
	(void)closedir(d);
	return rmdir(dir);
}

/* ---- tests ------------------------------------------------------------- */

static void
writes_a_line_for_each_record(void **state)
{
	struct message_file file = file_of(0, 0);
	json_t *lines, *want;
	struct stat st;

	(void)state;
	start(100000);
	write_text(&file,
	    "[{\"at\":1,\"type\":\"a\",\"lease\":\"forged\"},"
	    "{\"at\":2,\"content\":{\"x\":\"line\\nbreak\"}}]",
	    0);
	message_file_stop();
	want = json_loads("[{\"session\":\"s1\",\"lease\":\"0123456789abcdef\","
			  "\"route\":\"openai\",\"client\":\"192.0.2.1\","
			  "\"user\":\"ann\",\"at\":1,\"type\":\"a\"},"
			  "{\"session\":\"s1\",\"lease\":\"0123456789abcdef\","
			  "\"route\":\"openai\",\"client\":\"192.0.2.1\","
			  "\"user\":\"ann\",\"at\":2,"
			  "\"content\":{\"x\":\"line\\nbreak\"}}]",
	    0, NULL);
	lines = read_lines("");
	assert_true(json_equal(lines, want));
	json_decref(lines);
	json_decref(want);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void
writes_no_content_where_none_is_wanted(void **state)
{
	struct message_file file = file_of(0, 0);
	json_t *lines;

	(void)state;
	file.content = false;
	start(100000);
	write_text(&file, "[{\"at\":1,\"content\":{},\"text\":\"secret\"}]", 0);
	message_file_stop();
	lines = read_lines("");
	assert_null(json_object_get(json_array_get(lines, 0), "content"));
	assert_null(json_object_get(json_array_get(lines, 0), "text"));
	assert_int_equal(json_integer_value(
			     json_object_get(json_array_get(lines, 0), "at")),
	    1);
	json_decref(lines);
}

/* A tunnel that was taken over must not name somebody. */
static void
takes_nobodys_name_from_a_tunnel(void **state)
{
	struct message_file file = file_of(0, 0);
	json_t *lines;

	(void)state;
	lease.user = NULL;
	start(100000);
	write_text(&file, "[{\"user\":\"mallory\",\"dropped\":7,\"other\":1}]",
	    0);
	message_file_stop();
	lines = read_lines("");
	assert_int_equal(json_object_size(json_array_get(lines, 0)), 4);
	assert_null(json_object_get(json_array_get(lines, 0), "user"));
	json_decref(lines);
}

static void
puts_full_files_aside_and_keeps_some(void **state)
{
	struct message_file file = file_of(300, 2);
	json_t *lines;

	(void)state;
	start(100000);
	/* a line has about 130 bytes: two fit */
	for (int i = 1; i <= 9; i++) {
		char *records = xasprintf("[{\"at\":%d}]", i);

		write_text(&file, records, 0);
		free(records);
	}
	message_file_stop();
	assert_true(exists(""));
	assert_true(exists(".1"));
	assert_true(exists(".2"));
	assert_false(exists(".3"));
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = { "", ".1", ".2" };
		static const int first[] = { 9, 7, 5 };

		lines = read_lines(names[i]);
		assert_int_equal(json_array_size(lines), i == 0 ? 1 : 2);
		assert_int_equal(json_integer_value(
				     json_object_get(json_array_get(lines, 0),
					 "at")),
		    first[i]);
		json_decref(lines);
	}
}

static void
keeps_none_aside_where_none_is_wanted(void **state)
{
	struct message_file file = file_of(200, 0);
	json_t *lines;

	(void)state;
	start(100000);
	write_text(&file, "[{\"at\":1}]", 0);
	write_text(&file, "[{\"at\":2}]", 0);
	message_file_stop();
	assert_false(exists(".1"));
	lines = read_lines("");
	assert_int_equal(json_array_size(lines), 1);
	json_decref(lines);
}

static void
says_what_the_tunnel_dropped(void **state)
{
	struct message_file file = file_of(0, 0);
	const json_t *line;
	json_t *lines;

	(void)state;
	start(100000);
	write_text(&file, "[{\"at\":1}]", 12);
	write_text(&file, "[]", 3);
	write_text(&file, "[]", 0);
	message_file_stop();
	lines = read_lines("");
	assert_int_equal(json_array_size(lines), 3);
	line = json_array_get(lines, 0);
	assert_int_equal(json_integer_value(json_object_get(line, "dropped")),
	    12);
	assert_string_equal(json_string_value(json_object_get(line, "session")),
	    "s1");
	assert_true(json_is_integer(json_object_get(line, "at")));
	json_decref(lines);
}

static void
says_what_could_not_be_written(void **state)
{
	struct message_file file = file_of(0, 0);
	char *other = xasprintf("%s/other", dir);
	json_t *lines;

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	start(100000);
	write_text(&file, "[{\"at\":1},{\"at\":2}]", 0);
	write_text(&file, "[{\"at\":3}]", 0);
	/* these have been tried when another file is there */
	file.path = other;
	write_text(&file, "[{\"at\":4}]", 0);
	while (access(other, F_OK) != 0)
		(void)poll(NULL, 0, 1);
	assert_int_equal(rmdir(path), 0);
	file.path = path;
	write_text(&file, "[{\"at\":5}]", 0);
	message_file_stop();
	lines = read_lines("");
	assert_int_equal(json_array_size(lines), 2);
	assert_int_equal(json_integer_value(
			     json_object_get(json_array_get(lines, 0),
				 "dropped")),
	    3);
	json_decref(lines);
	free(other);
}

static void
drops_what_there_is_no_room_for_and_says_so(void **state)
{
	struct message_file file = file_of(0, 0);
	const json_t *line;
	json_t *lines;

	(void)state;
	start(400);
	/* too large for the queue, however empty it is */
	write_text(&file,
	    "[{\"at\":1},{\"at\":2},{\"at\":3},{\"at\":4},{\"at\":5}]", 0);
	write_text(&file, "[{\"at\":6}]", 0);
	message_file_stop();
	lines = read_lines("");
	assert_int_equal(json_array_size(lines), 2);
	line = json_array_get(lines, 0);
	assert_int_equal(json_integer_value(json_object_get(line, "dropped")),
	    5);
	line = json_array_get(lines, 1);
	assert_int_equal(json_integer_value(json_object_get(line, "at")), 6);
	json_decref(lines);
}

static void
leaves_no_half_line_on_a_full_disk(void **state)
{
	struct message_file file = file_of(0, 0);
	struct rlimit old, small = { .rlim_cur = 200 };
	struct stat st;
	json_t *lines;

	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	start(100000);
	write_text(&file, "[{\"at\":1}]", 0);
	write_text(&file, "[{\"at\":2}]", 0);
	message_file_stop();
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_in_range(st.st_size, 50, 199);
	lines = read_lines("");
	assert_int_equal(json_array_size(lines), 1);
	json_decref(lines);
}

static void
follows_no_link_and_waits_for_no_pipe(void **state)
{
	struct message_file file = file_of(0, 0);
	char *other = xasprintf("%s/other", dir);

	(void)state;
	start(100000);
	assert_int_equal(symlink(other, path), 0);
	write_text(&file, "[{\"at\":1}]", 0);
	message_file_stop();
	assert_int_not_equal(access(other, F_OK), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	start(100000);
	write_text(&file, "[{\"at\":1}]", 0);
	message_file_stop(); /* comes back */
	free(other);
}

static void
does_nothing_where_it_was_not_started(void **state)
{
	struct message_file file = file_of(0, 0);

	(void)state;
	write_text(&file, "[{\"at\":1}]", 0);
	message_file_stop();
	assert_false(exists(""));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_a_line_for_each_record),
		TEST(writes_no_content_where_none_is_wanted),
		TEST(takes_nobodys_name_from_a_tunnel),
		TEST(puts_full_files_aside_and_keeps_some),
		TEST(keeps_none_aside_where_none_is_wanted),
		TEST(says_what_the_tunnel_dropped),
		TEST(says_what_could_not_be_written),
		TEST(drops_what_there_is_no_room_for_and_says_so),
		TEST(leaves_no_half_line_on_a_full_disk),
		TEST(follows_no_link_and_waits_for_no_pipe),
		TEST(does_nothing_where_it_was_not_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
