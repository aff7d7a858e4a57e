/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/service.h"

struct world {
	char dir[64], path[96];
};

static int
make_world(void **state)
{
	static struct world world;

	(void)strcpy(world.dir, "/tmp/culvert-test.XXXXXX");
	if (mkdtemp(world.dir) == NULL)
		return -1;
	(void)snprintf(world.path, sizeof(world.path), "%s/socket", world.dir);
	*state = &world;
	return 0;
}

static int
end_world(void **state)
{
	struct world *world = *state;

	return rmdir(world->dir);
}

static int
remove_socket(void **state)
{
	struct world *world = *state;

	(void)unlink(world->path);
	return 0;
}

static int
listen_at(const struct world *world, int type, mode_t mode)
{
	struct diag diag = { "" };
	int fd = -1;

	if (service_listen_unix(world->path, type, mode, &fd, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	return fd;
}

static void
listens_with_the_mode_that_was_asked_for(void **state)
{
	static const mode_t modes[] = { 0600, 0660, 0666 };
	struct world *world = *state;
	struct stat st;

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		int fd = listen_at(world, SOCK_SEQPACKET, modes[i]);

		assert_int_equal(stat(world->path, &st), 0);
		assert_int_equal(st.st_mode & 0777, modes[i]);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
		(void)close(fd);
	}
}

static void
replaces_a_socket_that_nobody_listens_on(void **state)
{
	struct world *world = *state;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = listen_at(world, SOCK_STREAM, 0600), client;

	(void)close(fd);
	assert_int_equal(access(world->path, F_OK), 0);
	fd = listen_at(world, SOCK_STREAM, 0600);
	(void)strcpy(addr.sun_path, world->path);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (void *)&addr, sizeof(addr)), 0);
	(void)close(client);
	(void)close(fd);
}

static void
leaves_a_socket_alone_that_is_in_use(void **state)
{
	struct world *world = *state;
	int fd = listen_at(world, SOCK_STREAM, 0600), other = -1;
	struct diag diag = { "" };

	assert_int_equal(service_listen_unix(world->path, SOCK_STREAM, 0600,
			     &other, &diag),
	    ERR_UNAVAIL);
	assert_int_equal(other, -1);
	assert_non_null(strstr(diag.text, world->path));
	(void)close(fd);
}

static void
leaves_a_file_alone_that_is_no_socket(void **state)
{
	struct world *world = *state;
	int fd = open(world->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	struct diag diag = { "" };
	struct stat st;

	assert_int_not_equal(fd, -1);
	(void)close(fd);
	assert_int_equal(service_listen_unix(world->path, SOCK_STREAM, 0600,
			     &fd, &diag),
	    ERR_SYS);
	assert_int_equal(stat(world->path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_non_null(strstr(diag.text, "another file"));
}

static void
says_that_the_directory_is_missing(void **state)
{
	struct world *world = *state;
	struct diag diag = { "" };
	char path[sizeof(world->path) + 8];
	int fd;

	(void)snprintf(path, sizeof(path), "%s.d/sock", world->path);
	assert_int_equal(service_listen_unix(path, SOCK_STREAM, 0600, &fd,
			     &diag),
	    ERR_SYS);
	assert_non_null(strstr(diag.text, path));
	assert_non_null(strstr(diag.text, "its directory does not exist"));
}

static void
says_which_path_is_too_long(void **state)
{
	char path[109] = "/";
	struct diag diag = { "" };
	int fd = -1;

	(void)state;
	memset(path + 1, 'x', sizeof(path) - 2);
	assert_int_equal(service_listen_unix(path, SOCK_STREAM, 0600, &fd,
			     &diag),
	    ERR_LIMIT);
	assert_int_equal(fd, -1);
	assert_non_null(strstr(diag.text, "107"));
}

static void
without_systemd_no_socket_is_passed_and_nobody_told(void **state)
{
	(void)state;
	assert_int_equal(unsetenv("LISTEN_FDS"), 0);
	assert_int_equal(unsetenv("LISTEN_PID"), 0);
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	assert_int_equal(service_passed_socket(SOCK_STREAM), -1);
	service_reloading();
	service_ready("serving");
	service_stopping();
}

static void
tells_the_manager_what_it_does(void **state)
{
	struct world *world = *state;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[256] = "";

	(void)strcpy(addr.sun_path, world->path);
	assert_int_equal(bind(fd, (void *)&addr, sizeof(addr)), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", world->path, 1), 0);
	service_ready("serving");
	assert_true(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) > 0);
	assert_string_equal(text, "READY=1\nSTATUS=serving");
	service_reloading();
	memset(text, 0, sizeof(text));
	assert_true(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) > 0);
	assert_non_null(strstr(text, "RELOADING=1\nMONOTONIC_USEC="));
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	(void)close(fd);
}

static void
raises_the_limit_of_descriptors_to_the_hard_one(void **state)
{
	struct rlimit old, low, now;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = (struct rlimit){ .rlim_cur = 64, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	service_use_all_descriptors();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
	assert_int_equal(now.rlim_cur, old.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

#define SERVICE_TEST(test) cmocka_unit_test_teardown(test, remove_socket)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SERVICE_TEST(listens_with_the_mode_that_was_asked_for),
		SERVICE_TEST(replaces_a_socket_that_nobody_listens_on),
		SERVICE_TEST(leaves_a_socket_alone_that_is_in_use),
		SERVICE_TEST(leaves_a_file_alone_that_is_no_socket),
		SERVICE_TEST(says_that_the_directory_is_missing),
		SERVICE_TEST(says_which_path_is_too_long),
		SERVICE_TEST(
		    without_systemd_no_socket_is_passed_and_nobody_told),
		SERVICE_TEST(tells_the_manager_what_it_does),
		cmocka_unit_test(
		    raises_the_limit_of_descriptors_to_the_hard_one),
	};

	return cmocka_run_group_tests_name("service", tests, make_world,
	    end_world);
}
