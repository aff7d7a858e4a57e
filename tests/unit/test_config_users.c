/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "broker/config/config.h"
#include "common/xalloc.h"
#include "test_keys.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SECRET	 "secret = \"env:T_SECRET\" "

static char public_path[] = "/tmp/culvert-test.XXXXXX";
static char private_path[] = "/tmp/culvert-test.XXXXXX";

/* users { body }, after what stands before it. */
static struct config *
load(const char *before, const char *body, struct diag *diag)
{
	struct config *config = NULL;
	char *text = xasprintf("%susers { %s }\n", before, body);
	enum err err = config_parse("t", text, strlen(text), &config, diag);

	free(text);
	return err == ERR_OK ? config : NULL;
}

static struct config *
must_load(const char *before, const char *body)
{
	struct diag diag = { "" };
	struct config *config = load(before, body, &diag);

	if (config == NULL)
		fail_msg("%s", diag.text);
	return config;
}

static void
knows_nobody_without_a_section(void **state)
{
	struct config *config;

	(void)state;
	assert_int_equal(config_parse("t", "", 0, &config, NULL), ERR_OK);
	assert_null(config->users);
	config_unref(config);
}

static void
has_defaults_that_a_site_can_live_with(void **state)
{
	struct config *config = must_load("", SECRET);
	const struct config_users *users = config->users;

	(void)state;
	assert_true(crypt_key_allows(users->key, "HS256"));
	assert_string_equal(users->key_source, "env:T_SECRET");
	assert_int_equal(users->algorithms.count, 0);
	assert_null(users->issuer);
	assert_null(users->audience);
	assert_int_equal(users->leeway_s, 60);
	assert_int_equal(users->jwks_refresh_s, 600);
	assert_string_equal(users->user_claim, "sub");
	assert_null(users->plan_claim);
	assert_null(users->cookie);
	assert_false(users->remote_user);
	config_unref(config);
}

static struct config *
dump_and_load(struct config *config)
{
	struct config *again = NULL;
	struct diag diag = { "" };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	config_dump(config, out);
	assert_int_equal(fclose(out), 0);
	config_unref(config);
	assert_null(strstr(text, "canary"));
	if (config_parse("t", text, len, &again, &diag) != ERR_OK)
		fail_msg("%s\n%s", diag.text, text);
	free(text);
	return again;
}

static void
reads_what_is_written_and_writes_it_again(void **state)
{
	struct config *config = dump_and_load(must_load(
	    "relay \"/r\" { upstream = \"wss://x\" require_user = true }\n"
	    "livekit { url = \"wss://x\" api_key = \"env:T_KEY\"\n"
	    "api_secret = \"env:T_KEY\" require_user = true }\n",
	    "jwks_url = \"http://10.0.0.1:9/keys?a=b\" allow_http = true\n"
	    "allow_private = true jwks_refresh = 30\n"
	    "algorithms = {RS256, EdDSA} issuer = \"https://i\" audience = a\n"
	    "leeway = 0 user_claim = \"a.b\" plan_claim = \"https://x/plan\"\n"
	    "cookie = session remote_user = true"));
	const struct config_users *users = config->users;

	(void)state;
	assert_null(users->key);
	assert_string_equal(users->jwks_url, "http://10.0.0.1:9/keys?a=b");
	assert_true(users->allow_http);
	assert_true(users->allow_private);
	assert_int_equal(users->jwks_refresh_s, 30);
	assert_int_equal(users->algorithms.count, 2);
	assert_string_equal(users->algorithms.items[1], "EdDSA");
	assert_string_equal(users->issuer, "https://i");
	assert_string_equal(users->audience, "a");
	assert_int_equal(users->leeway_s, 0);
	assert_string_equal(users->user_claim, "a.b");
	assert_string_equal(users->plan_claim, "https://x/plan");
	assert_string_equal(users->cookie, "session");
	assert_true(users->remote_user);
	assert_true(config->relays[0].require_user);
	assert_true(config->livekit->require_user);
	config_unref(config);

	config = dump_and_load(must_load("", "jwks_file = \"/a/b.json\""));
	assert_string_equal(config->users->jwks_file, "/a/b.json");
	config_unref(config);
	config = dump_and_load(must_load("", SECRET));
	assert_string_equal(config->users->key_source, "env:T_SECRET");
	config_unref(config);
}

static void
takes_a_public_key_and_no_private_one(void **state)
{
	char *body = xasprintf("public_key_file = \"%s\"", public_path);
	struct config *config = dump_and_load(must_load("", body));
	struct diag diag = { "" };

	(void)state;
	assert_true(crypt_key_allows(config->users->key, "EdDSA"));
	assert_false(crypt_key_allows(config->users->key, "HS256"));
	assert_string_equal(config->users->key_source, public_path);
	config_unref(config);
	free(body);

	body = xasprintf("public_key_file = \"%s\"", private_path);
	assert_null(load("", body, &diag));
	assert_non_null(strstr(diag.text, "private key"));
	free(body);
}

static void
needs_no_key_where_the_web_server_signs_users_in(void **state)
{
	struct config *config = must_load("", "remote_user = true");

	(void)state;
	assert_null(config->users->key);
	config_unref(config);
}

static void
signs_nobody_in_with_what_signs_other_tokens(void **state)
{
	static const char *const others[] = {
		"tickets { secret = \"env:T_SECRET\" }\n",
		"livekit { url = \"wss://x\" api_key = \"env:T_KEY\"\n"
		"api_secret = \"env:T_SECRET\" }\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(others); i++) {
		struct diag diag = { "" };

		assert_null(load(others[i], SECRET, &diag));
		assert_non_null(strstr(diag.text, "sign a user in"));
	}
}

static void
wants_users_only_where_somebody_can_be_one(void **state)
{
	static const char livekit[] =
	    "livekit { url = \"wss://x\" api_key = \"env:T_KEY\"\n"
	    "api_secret = \"env:T_KEY\" require_user = true }";
	static const char *const texts[] = {
		"relay \"/r\" { upstream = \"wss://x\" require_user = true }",
		"openai { api_key = \"env:T_KEY\" require_user = true }",
		livekit,
	};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct config *config;
		struct diag diag = { "" };

		assert_int_equal(config_parse("t", texts[i], strlen(texts[i]),
				     &config, &diag),
		    ERR_PROTO);
		assert_non_null(strstr(diag.text, "require_user: nobody"));
	}
}

static void
says_what_is_wrong(void **state)
{
	static const struct {
		const char *body, *says;
	} cases[] = {
		{ "", "jwks_url" },
		{ SECRET "public_key_file = \"/x\"", "leave out one" },
		{ SECRET "jwks_url = \"https://x\"", "leave out one" },
		{ "jwks_file = \"/x\" jwks_url = \"https://x\"",
		    "leave out one" },
		{ "public_key_file = \"/nowhere\"", "/nowhere" },
		{ "public_key_file = \"\"", "path" },
		{ "public_key_file = \"/dev/null\"", "PEM" },
		{ "secret = \"env:T_KEY\"", "32" },
		{ "secret = \"env:T_EMPTY\"", "T_EMPTY" },
		{ "secret = \"env:T_NONE\"", "T_NONE" },
		{ "secret = \"0123456789 a secret in the file itself\"",
		    "env:NAME" },
		{ "jwks_file = \"relative\"", "jwks_file" },
		{ "jwks_url = \"http://x/keys\"", "allow_http" },
		{ "jwks_url = \"wss://x/keys\"", "https://" },
		{ "jwks_url = \"file:///x\"", "scheme://host" },
		{ "jwks_url = \"https://u:p@x/\"", "user" },
		{ "jwks_url = \"https://x\" ca_file = \"/nowhere\"",
		    "/nowhere" },
		{ SECRET "algorithms = {none}", "HS256" },
		{ SECRET "algorithms = {None}", "HS256" },
		{ SECRET "algorithms = {RS256}", "RS256 does not go" },
		{ SECRET "algorithms = {hs256}", "HS256" },
		{ "jwks_url = \"https://x\" algorithms = {HS256}",
		    "HS256 does not go" },
		{ SECRET "leeway = 601", "leeway" },
		{ SECRET "jwks_refresh = 29", "jwks_refresh" },
		{ SECRET "cookie = \"a b\"", "cookie" },
		{ SECRET "cookie = \"a=b\"", "cookie" },
		{ SECRET "remote_user = maybe", "remote_user" },
		{ SECRET "balance = true", "balance" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct diag diag = { "" };

		if (load("", cases[i].body, &diag) != NULL ||
		    strncmp(diag.text, "t:", 2) != 0 ||
		    strstr(diag.text, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].body, diag.text);
	}
}

static void
write_file(char *path, const char *text)
{
	int fd = mkstemp(path);

	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
	    close(fd) != 0)
		abort();
}

static int
init(void **state)
{
	EVP_PKEY *pkey = test_key("ED25519", NULL, 0);
	char *public = test_pem(pkey, false, NULL);
	char *private = test_pem(pkey, true, NULL);

	(void)state;
	write_file(public_path, public);
	write_file(private_path, private);
	free(public);
	free(private);
	EVP_PKEY_free(pkey);
	(void)unsetenv("STATE_DIRECTORY");
	(void)setenv("T_KEY", "canary", 1);
	(void)setenv("T_EMPTY", "", 1);
	return setenv("T_SECRET", "canary7890123456789012345678901234", 1);
}

static int
done(void **state)
{
	(void)state;
	return unlink(public_path) | unlink(private_path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_nobody_without_a_section),
		cmocka_unit_test(has_defaults_that_a_site_can_live_with),
		cmocka_unit_test(reads_what_is_written_and_writes_it_again),
		cmocka_unit_test(takes_a_public_key_and_no_private_one),
		cmocka_unit_test(
		    needs_no_key_where_the_web_server_signs_users_in),
		cmocka_unit_test(signs_nobody_in_with_what_signs_other_tokens),
		cmocka_unit_test(wants_users_only_where_somebody_can_be_one),
		cmocka_unit_test(says_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, init, done);
}
