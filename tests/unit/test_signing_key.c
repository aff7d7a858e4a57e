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

#include "broker/signing_key.h"

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
	(void)snprintf(world.path, sizeof(world.path), "%s/ticket-key",
	    world.dir);
	*state = &world;
	return 0;
}

/* The folder is empty again: no file is left but the key. */
static int
end_world(void **state)
{
	struct world *world = *state;

	signing_key_done();
	(void)unlink(world->path);
	return rmdir(world->dir);
}

static void
sign(uint8_t out[32])
{
	uint8_t *signature;
	size_t len;

	assert_non_null(signing_key_current());
	assert_int_equal(crypt_sign(signing_key_current(), "HS256", "x", 1,
			     &signature, &len),
	    ERR_OK);
	assert_int_equal(len, 32);
	memcpy(out, signature, 32);
	free(signature);
}

static void
makes_a_key_once(void **state)
{
	struct world *world = *state;
	uint8_t first[32], again[32], other[32];
	struct stat st;

	assert_null(signing_key_current());
	assert_int_equal(signing_key_init(NULL, world->path, NULL), ERR_OK);
	sign(first);
	assert_int_equal(stat(world->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, 43);
	signing_key_done();
	assert_int_equal(signing_key_init(NULL, world->path, NULL), ERR_OK);
	sign(again);
	assert_memory_equal(first, again, 32);
	assert_int_equal(unlink(world->path), 0);
	assert_int_equal(signing_key_init(NULL, world->path, NULL), ERR_OK);
	sign(other);
	assert_memory_not_equal(first, other, 32);
}

static void
prefers_the_operators_secret(void **state)
{
	struct world *world = *state;
	struct secret *secret =
	    secret_new("0123456789abcdef0123456789abcdef", 32, "test");
	uint8_t signature[32];

	assert_int_equal(signing_key_init(secret, world->path, NULL), ERR_OK);
	secret_free(secret);
	sign(signature);
	assert_int_equal(access(world->path, F_OK), -1);
}

static void
refuses_a_short_secret(void **state)
{
	struct world *world = *state;
	struct secret *secret = secret_new("0123456789", 10, "test");

	assert_int_equal(signing_key_init(secret, world->path, NULL),
	    ERR_LIMIT);
	secret_free(secret);
	assert_null(signing_key_current());
}

static void
write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void
refuses_a_file_that_will_not_do(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		enum err err;
	} cases[] = {
		{ "0123456789abcdef0123456789abcdef0123456789a", 0640,
		    ERR_DENIED },
		{ "0123456789abcdef0123456789abcdef0123456789a", 0604,
		    ERR_DENIED },
		{ "", 0600, ERR_SYS },
		{ "0123456789abcdef", 0600, ERR_LIMIT },
	};
	struct world *world = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct diag diag = { "" };

		write_file(world->path, cases[i].text, cases[i].mode);
		assert_int_equal(signing_key_init(NULL, world->path, &diag),
		    cases[i].err);
		assert_null(signing_key_current());
		assert_string_not_equal(diag.text, "");
	}
}

static void
says_where_it_cannot_be_made(void **state)
{
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(signing_key_init(NULL, "/nowhere/at/all", &diag),
	    ERR_SYS);
	assert_non_null(strstr(diag.text, "/nowhere/at/all"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_world, end_world)
		TEST(makes_a_key_once),
		TEST(prefers_the_operators_secret),
		TEST(refuses_a_short_secret),
		TEST(refuses_a_file_that_will_not_do),
		TEST(says_where_it_cannot_be_made),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
