/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/secret.h"
#include "common/xalloc.h"

#define VALUE "sk-not-for-others"

struct world {
	char dir[64], path[96], spec[128];
};

static int
make_world(void **state)
{
	static struct world world;

	(void)strcpy(world.dir, "/tmp/culvert-test.XXXXXX");
	if (mkdtemp(world.dir) == NULL)
		return -1;
	(void)snprintf(world.path, sizeof(world.path), "%s/key", world.dir);
	(void)snprintf(world.spec, sizeof(world.spec), "file:%s", world.path);
	*state = &world;
	return 0;
}

static int
end_world(void **state)
{
	struct world *world = *state;

	(void)unlink(world->path);
	return rmdir(world->dir);
}

static void
write_file(const struct world *world, const void *data, size_t len)
{
	FILE *f = fopen(world->path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void
assert_loads(const char *spec, const char *value)
{
	struct secret *secret = NULL;
	struct diag diag = { "" };
	size_t len;

	if (secret_load(spec, &secret, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	assert_string_equal(secret_peek(secret, &len), value);
	assert_int_equal(len, strlen(value));
	assert_string_equal(secret_source(secret), spec);
	assert_null(strstr(secret_describe(secret), value));
	assert_non_null(strstr(secret_describe(secret), spec));
	secret_free(secret);
}

static void
assert_fails(const char *spec, enum err err)
{
	struct secret *secret = NULL;
	struct diag diag = { "" };

	if (secret_load(spec, &secret, &diag) != err)
		fail_msg("%s: %s", spec, diag.text);
	assert_null(secret);
	assert_string_not_equal(diag.text, "");
}

static void
comes_from_the_environment(void **state)
{
	(void)state;
	assert_int_equal(setenv("CULVERT_TEST_KEY", VALUE, 1), 0);
	assert_loads("env:CULVERT_TEST_KEY", VALUE);
	assert_int_equal(setenv("CULVERT_TEST_KEY", "", 1), 0);
	assert_fails("env:CULVERT_TEST_KEY", ERR_NOTFOUND);
	assert_int_equal(unsetenv("CULVERT_TEST_KEY"), 0);
	assert_fails("env:CULVERT_TEST_KEY", ERR_NOTFOUND);
}

static void
comes_from_a_file_without_its_last_line_ending(void **state)
{
	const struct world *world = *state;

	write_file(world, VALUE, strlen(VALUE));
	assert_loads(world->spec, VALUE);
	write_file(world, VALUE "\n", strlen(VALUE) + 1);
	assert_loads(world->spec, VALUE);
	write_file(world, VALUE "\r\n", strlen(VALUE) + 2);
	assert_loads(world->spec, VALUE);
	write_file(world, VALUE "\n\n", strlen(VALUE) + 2);
	assert_loads(world->spec, VALUE "\n");
}

static void
a_file_that_is_absent_empty_or_too_large_is_none(void **state)
{
	const struct world *world = *state;
	char *large = xcalloc(1, 64 * 1024 + 1);

	(void)unlink(world->path);
	assert_fails(world->spec, ERR_NOTFOUND);
	write_file(world, "\n", 1);
	assert_fails(world->spec, ERR_NOTFOUND);
	memset(large, 'x', 64 * 1024 + 1);
	write_file(world, large, 64 * 1024 + 1);
	assert_fails(world->spec, ERR_LIMIT);
	assert_int_equal(truncate(world->path, 64 * 1024), 0);
	large[64 * 1024] = '\0';
	assert_loads(world->spec, large);
	free(large);
	assert_fails("file:/", ERR_SYS);
}

static void
a_pipe_is_not_waited_for(void **state)
{
	const struct world *world = *state;

	(void)unlink(world->path);
	assert_int_equal(mkfifo(world->path, 0600), 0);
	(void)alarm(10); /* ends a test that waits */
	assert_fails(world->spec, ERR_NOTFOUND);
	(void)alarm(0);
	assert_int_equal(unlink(world->path), 0);
}

static void
comes_from_a_credential_of_systemd(void **state)
{
	const struct world *world = *state;

	write_file(world, VALUE, strlen(VALUE));
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	assert_fails("credential:key", ERR_NOTFOUND);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", world->dir, 1), 0);
	assert_loads("credential:key", VALUE);
	assert_fails("credential:other", ERR_NOTFOUND);
	assert_fails("credential:", ERR_PROTO);
	assert_fails("credential:../key", ERR_PROTO);
}

static void
a_key_in_the_place_of_its_source_is_not_repeated(void **state)
{
	struct secret *secret = NULL;
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(secret_load(VALUE, &secret, &diag), ERR_PROTO);
	assert_null(strstr(diag.text, VALUE));
	assert_non_null(strstr(diag.text, "env:NAME"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_from_the_environment),
		cmocka_unit_test(
		    comes_from_a_file_without_its_last_line_ending),
		cmocka_unit_test(
		    a_file_that_is_absent_empty_or_too_large_is_none),
		cmocka_unit_test(a_pipe_is_not_waited_for),
		cmocka_unit_test(comes_from_a_credential_of_systemd),
		cmocka_unit_test(
		    a_key_in_the_place_of_its_source_is_not_repeated),
	};

	return cmocka_run_group_tests_name("secret", tests, make_world,
	    end_world);
}
