/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/socketio/sio_room.h"
#include "common/xalloc.h"

#define FIRST 1000
#define NOW   5000

static const struct sio_room_limits limits = {
	.recovery_ms = 100,
	.keep_ms = 300,
	.lost_max = 2,
	.room_packets = 4,
	.room_bytes = 4096,
	.all_bytes = 8192,
};

static int a_socket, b_socket;

static int
set_up(void **state)
{
	*state = sio_rooms_new(&limits, FIRST);
	return 0;
}

static int
tear_down(void **state)
{
	sio_rooms_free(*state);
	return 0;
}

/* Tell a room, or one of it, a text; its offset in out. */
static void
keep(struct sio_rooms *rooms, struct sio_session *session, bool all,
    const char *text, char out[SIO_OFFSET_SIZE])
{
	struct sio_told told = { .text = xstrdup(text), .len = strlen(text) };

	sio_rooms_offset(rooms, out);
	sio_room_keep(sio_session_room(session), all ? NULL : session, &told,
	    NOW);
}

static void
add_text(void *arg, const struct sio_told *told)
{
	char *out = arg;

	(void)strncat(out, told->text, 99 - strlen(out));
}

static const char *
missed(const struct sio_session *session, const char *offset)
{
	static char out[100];

	out[0] = '\0';
	sio_session_missed(session, offset, add_text, out);
	return out;
}

static struct sio_session *
find(const struct sio_rooms *rooms, const char *pid, const char *offset,
    int64_t now_ms)
{
	return sio_session_find(rooms, "/", "room", pid, offset, now_ms);
}

static void
count_visit(void *arg, void *socket)
{
	assert_true(socket == &a_socket || socket == &b_socket);
	(*(int *)arg)++;
}

static void
visits_who_is_there(void **state)
{
	struct sio_session *a, *b, *own;
	int count = 0;

	a = sio_session_new(*state, "/", "room", &a_socket);
	b = sio_session_new(*state, "/", "room", &b_socket);
	own = sio_session_new(*state, "/", NULL, &a_socket);
	assert_string_not_equal(sio_session_sid(a), sio_session_sid(b));
	assert_string_not_equal(sio_session_sid(a), sio_session_pid(a));
	assert_null(sio_room_find(*state, "/other", "room"));
	assert_null(sio_room_find(*state, "/", sio_session_pid(own)));
	assert_ptr_equal(sio_room_find(*state, "/", "room"),
	    sio_session_room(a));
	sio_room_each(sio_session_room(a), count_visit, &count);
	assert_int_equal(count, 2);
	sio_session_lose(a, NOW);
	sio_room_each(sio_session_room(b), count_visit, &count);
	assert_int_equal(count, 3);
	sio_session_end(b);
	sio_session_end(own);
}

static void
tells_what_was_missed(void **state)
{
	char one[SIO_OFFSET_SIZE], two[SIO_OFFSET_SIZE], o[SIO_OFFSET_SIZE];
	struct sio_session *a, *b, *found;
	char pid[32];

	a = sio_session_new(*state, "/", "room", &a_socket);
	b = sio_session_new(*state, "/", "room", &b_socket);
	(void)snprintf(pid, sizeof(pid), "%s", sio_session_pid(a));
	keep(*state, a, true, "1", one);
	keep(*state, a, false, "2", two);
	keep(*state, b, false, "x", o); /* not for a */
	sio_session_lose(a, NOW);
	keep(*state, b, true, "3", o);
	found = find(*state, pid, two, NOW);
	assert_ptr_equal(found, a);
	assert_null(sio_session_socket(a));
	assert_string_equal(missed(found, two), "3");
	assert_string_equal(missed(found, one), "23");
	assert_string_equal(missed(found, NULL), "123");
	sio_session_take(found, &b_socket);
	assert_ptr_equal(sio_session_socket(found), &b_socket);
	assert_string_equal(sio_session_pid(found), pid);
	sio_session_end(a);
	sio_session_end(b);
}

static void
knows_who_may_come_back(void **state)
{
	struct sio_session *a, *own;
	char offset[SIO_OFFSET_SIZE], own_pid[32], pid[32];

	a = sio_session_new(*state, "/", "room", &a_socket);
	own = sio_session_new(*state, "/", NULL, &b_socket);
	(void)snprintf(pid, sizeof(pid), "%s", sio_session_pid(a));
	(void)snprintf(own_pid, sizeof(own_pid), "%s", sio_session_pid(own));
	keep(*state, a, true, "1", offset);
	/* whom we do not know to be gone, too */
	assert_ptr_equal(find(*state, pid, offset, NOW), a);
	sio_session_lose(a, NOW);
	sio_session_lose(own, NOW);
	assert_ptr_equal(find(*state, pid, offset, NOW + 100), a);
	assert_null(find(*state, pid, offset, NOW + 101));
	assert_null(find(*state, "", offset, NOW));
	assert_null(find(*state, own_pid, offset, NOW));
	assert_null(sio_session_find(*state, "/", "other", pid, offset, NOW));
	assert_null(sio_session_find(*state, "/", NULL, pid, offset, NOW));
	assert_null(
	    sio_session_find(*state, "/other", "room", pid, offset, NOW));
	assert_ptr_equal(sio_session_find(*state, "/", NULL, own_pid, NULL,
			     NOW),
	    own);
	assert_null(sio_session_find(*state, "/", own_pid, own_pid, NULL, NOW));
}

static void
takes_no_offset_but_its_own(void **state)
{
	static const char *const bad[] = { "", "x", "-1", "1e3", " 1001",
		"1001 ", "9999", "99999999999999999999999" };
	char offset[SIO_OFFSET_SIZE];
	struct sio_session *a;

	a = sio_session_new(*state, "/", "room", &a_socket);
	keep(*state, a, true, "1", offset);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_null(find(*state, sio_session_pid(a), bad[i], NOW));
	/* of a session before, as the client goes on saying */
	assert_ptr_equal(find(*state, sio_session_pid(a), "7", NOW), a);
	assert_string_equal(missed(a, "7"), "1");
	sio_session_end(a);
}

static void
tells_nothing_from_before_it_began(void **state)
{
	struct sio_session *a, *b;
	char offset[SIO_OFFSET_SIZE];

	a = sio_session_new(*state, "/", "room", &a_socket);
	keep(*state, a, true, "1", offset);
	b = sio_session_new(*state, "/", "room", &b_socket);
	assert_string_equal(missed(b, NULL), "");
	assert_string_equal(missed(b, offset), "");
	keep(*state, a, true, "2", offset);
	assert_string_equal(missed(b, NULL), "2");
	sio_session_end(a);
	sio_session_end(b);
}

static void
recovers_nothing_when_something_is_missing(void **state)
{
	char first[SIO_OFFSET_SIZE], offset[SIO_OFFSET_SIZE];
	struct sio_session *a;

	a = sio_session_new(*state, "/", "room", &a_socket);
	keep(*state, a, true, "1", first);
	for (int i = 0; i < 4; i++)
		keep(*state, a, true, "2", offset);
	/* "1" gave way, and whoever was told it misses nothing */
	assert_ptr_equal(find(*state, sio_session_pid(a), first, NOW), a);
	assert_string_equal(missed(a, first), "2222");
	assert_null(find(*state, sio_session_pid(a), NULL, NOW));
	keep(*state, a, true, "2", offset);
	assert_null(find(*state, sio_session_pid(a), first, NOW));
	sio_session_end(a);
}

static void
keeps_no_more_bytes_than_its_maximum(void **state)
{
	static const char bytes[4096];
	struct sio_attachment big = { (void *)(uintptr_t)bytes, sizeof(bytes) };
	struct sio_attachment half = { big.data, 3000 };
	struct sio_told told = { .attachments = &big, .attachment_count = 1 };
	struct sio_session *rooms[3];
	char offset[SIO_OFFSET_SIZE];

	/* too much for a room */
	rooms[0] = sio_session_new(*state, "/", "0", &a_socket);
	told.text = xstrdup("");
	sio_rooms_offset(*state, offset);
	sio_room_keep(sio_session_room(rooms[0]), NULL, &told, NOW);
	assert_null(sio_session_find(*state, "/", "0",
	    sio_session_pid(rooms[0]), NULL, NOW));
	assert_non_null(sio_session_find(*state, "/", "0",
	    sio_session_pid(rooms[0]), offset, NOW));
	sio_session_end(rooms[0]);
	/* too much in all: the oldest gives way */
	told.attachments = &half;
	for (int i = 0; i < 3; i++) {
		char name[] = { (char)('0' + i), '\0' };

		rooms[i] = sio_session_new(*state, "/", name, &a_socket);
		told.text = xstrdup("");
		sio_rooms_offset(*state, offset);
		sio_room_keep(sio_session_room(rooms[i]), NULL, &told, NOW);
	}
	assert_null(sio_session_find(*state, "/", "0",
	    sio_session_pid(rooms[0]), NULL, NOW));
	assert_non_null(sio_session_find(*state, "/", "1",
	    sio_session_pid(rooms[1]), NULL, NOW));
	for (int i = 0; i < 3; i++)
		sio_session_end(rooms[i]);
}

static void
keeps_no_more_lost_sessions_than_its_maximum(void **state)
{
	struct sio_session *lost[3];
	char pid[3][32];

	for (int i = 0; i < 3; i++) {
		lost[i] = sio_session_new(*state, "/", "room", &a_socket);
		(void)snprintf(pid[i], sizeof(pid[i]), "%s",
		    sio_session_pid(lost[i]));
	}
	for (int i = 0; i < 3; i++)
		sio_session_lose(lost[i], NOW + i);
	assert_null(find(*state, pid[0], NULL, NOW));
	assert_ptr_equal(find(*state, pid[1], NULL, NOW), lost[1]);
	/* one that is found again makes room */
	sio_session_take(lost[1], &a_socket);
	sio_session_lose(lost[1], NOW);
	assert_ptr_equal(find(*state, pid[2], NULL, NOW), lost[2]);
	assert_ptr_equal(find(*state, pid[1], NULL, NOW), lost[1]);
}

static void
forgets_what_is_too_old(void **state)
{
	struct sio_session *a;
	char offset[SIO_OFFSET_SIZE], pid[32];

	a = sio_session_new(*state, "/", "room", &a_socket);
	(void)snprintf(pid, sizeof(pid), "%s", sio_session_pid(a));
	assert_false(sio_rooms_tidy(*state, NOW));
	keep(*state, a, true, "1", offset);
	assert_true(sio_rooms_tidy(*state, NOW + 300));
	assert_string_equal(missed(a, NULL), "1");
	assert_false(sio_rooms_tidy(*state, NOW + 301));
	/* it was not for want of room: nobody can have missed it */
	assert_string_equal(missed(a, NULL), "");
	assert_ptr_equal(find(*state, pid, NULL, NOW), a);
	sio_session_lose(a, NOW);
	assert_true(sio_rooms_tidy(*state, NOW + 100));
	assert_non_null(sio_room_find(*state, "/", "room"));
	assert_false(sio_rooms_tidy(*state, NOW + 101));
	assert_null(sio_room_find(*state, "/", "room"));
}

static void
loses_nothing_where_nothing_can_be_recovered(void **state)
{
	struct sio_room_limits none = limits;
	struct sio_session *a;
	struct sio_rooms *rooms;

	(void)state;
	none.recovery_ms = 0;
	rooms = sio_rooms_new(&none, FIRST);
	a = sio_session_new(rooms, "/", "room", &a_socket);
	sio_session_lose(a, NOW);
	assert_null(sio_room_find(rooms, "/", "room"));
	sio_rooms_free(rooms);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(visits_who_is_there),
		TEST(tells_what_was_missed),
		TEST(knows_who_may_come_back),
		TEST(takes_no_offset_but_its_own),
		TEST(tells_nothing_from_before_it_began),
		TEST(recovers_nothing_when_something_is_missing),
		TEST(keeps_no_more_bytes_than_its_maximum),
		TEST(keeps_no_more_lost_sessions_than_its_maximum),
		TEST(forgets_what_is_too_old),
		TEST(loses_nothing_where_nothing_can_be_recovered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
