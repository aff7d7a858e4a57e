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
#include "tests/unit/test_keys.h"

#define STORE  "store { path = \"/x/y.db\" }\n"
#define PRICES "prices \"m\" { input_text = \"1\" output_text = \"2\" }\n"
#define LOCAL  "url = \"http://127.0.0.1:9\" models = {m}\n"
#define USERS  "users { secret = \"env:T_SECRET\" }\n"

static char public_path[] = "/tmp/culvert-test.XXXXXX";

static struct config *
load(const char *before, const char *body, struct diag *diag)
{
	struct config *config = NULL;
	char *text = xasprintf(STORE "%schat {\n%s}\n", before, body);
	enum err err = config_parse("t", text, strlen(text), &config, diag);

	free(text);
	return err == ERR_OK ? config : NULL;
}

static void
needs_models_alone_and_asks_openai(void **state)
{
	struct diag diag = { "" };
	struct config *config = load("", "models = {m, n}", &diag);
	const struct config_chat *chat;

	(void)state;
	if (config == NULL)
		fail_msg("%s", diag.text);
	chat = config->chat;
	assert_string_equal(chat->url,
	    "https://api.openai.com/v1/chat/completions");
	assert_int_equal(chat->header_count, 1);
	assert_string_equal(chat->headers[0].name, "Authorization");
	assert_string_equal(chat->headers[0].prefix, "Bearer ");
	assert_string_equal(secret_source(chat->headers[0].secret),
	    "env:OPENAI_API_KEY");
	assert_false(chat->allow_http);
	assert_false(chat->allow_private);
	assert_string_equal(chat->models.items[0], "m");
	assert_null(chat->system);
	assert_int_equal(chat->content_bytes, 32768);
	assert_int_equal(chat->history_messages, 50);
	assert_int_equal(chat->history_bytes, 65536);
	assert_int_equal(chat->max_output_tokens, 4096);
	assert_int_equal(chat->answer_bytes, 1048576);
	assert_int_equal(chat->first_ms, 60000);
	assert_int_equal(chat->idle_ms, 60000);
	assert_int_equal(chat->total_ms, 600000);
	assert_int_equal(chat->detach_ms, 60000);
	assert_int_equal(chat->heartbeat_ms, 15000);
	assert_int_equal(chat->replay_s, 300);
	assert_int_equal(chat->max_streams, 200);
	assert_int_equal(chat->max_streams_per_owner, 4);
	assert_int_equal(chat->max_readers, 32);
	assert_int_equal(chat->max_chats, 1000);
	assert_int_equal(chat->max_turns, 2000);
	assert_int_equal(chat->keep_s, 0);
	assert_true(chat->anonymous.allowed);
	assert_int_equal(chat->anonymous.messages, 20);
	assert_int_equal(chat->anonymous.window_s, 86400);
	assert_int_equal(chat->anonymous.keep_s, 30 * 86400);
	assert_false(chat->balance);
	config_unref(config);
}

static void
gives_a_server_of_ones_own_no_key_of_openais(void **state)
{
	struct diag diag = { "" };
	struct config *config = load("",
	    "models = {m} url = \"http://localhost:11434/v1/\"", &diag);

	(void)state;
	assert_non_null(config);
	assert_string_equal(config->chat->url,
	    "http://localhost:11434/v1/chat/completions");
	assert_int_equal(config->chat->header_count, 0);
	/* or the name of this machine could not be dialled */
	assert_true(config->chat->allow_private);
	config_unref(config);
	/* as it stands in an example of curl's */
	config = load("",
	    "models = {m} url = \"http://localhost/v1/chat/completions\"",
	    &diag);
	assert_non_null(config);
	assert_string_equal(config->chat->url,
	    "http://localhost/v1/chat/completions");
	config_unref(config);
	config = load("", "models = {m} api_key = \"\"", &diag);
	assert_non_null(config);
	assert_int_equal(config->chat->header_count, 0);
	config_unref(config);
}

static void
reads_what_is_written_and_writes_it_again(void **state)
{
	static const char body[] =
	    "api_key = \"env:T_KEY\" url = \"http://10.0.0.1:9/a\"\n"
	    "allow_http = true allow_private = true models = {m, \"n/1\"}\n"
	    "content_bytes = 11 history_messages = 12 history_bytes = 13\n"
	    "max_output_tokens = 14 answer_bytes = 2048 first_timeout = 15\n"
	    "idle_timeout = 16 total_timeout = 17 detach_timeout = 0\n"
	    "heartbeat = 18 replay = 0 max_streams = 3 max_chats = 20\n"
	    "max_turns = 21 keep = 24 balance = false require_user = true\n"
	    "anonymous { allow = false messages = 22 window = 23 keep = 0 }\n";
	char *text = NULL;
	struct diag diag = { "" };
	struct config *config = load(USERS, body, &diag);
	const struct config_chat *chat;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	if (config == NULL)
		fail_msg("%s", diag.text);
	config_dump(config, out);
	assert_int_equal(fclose(out), 0);
	config_unref(config);
	assert_null(strstr(text, "canary"));
	assert_int_equal(config_parse("t", text, len, &config, &diag), ERR_OK);
	chat = config->chat;
	assert_string_equal(chat->url, "http://10.0.0.1:9/a/chat/completions");
	assert_string_equal(secret_source(chat->headers[0].secret),
	    "env:T_KEY");
	assert_true(chat->allow_http);
	assert_true(chat->allow_private);
	assert_string_equal(chat->models.items[1], "n/1");
	assert_int_equal(chat->content_bytes, 11);
	assert_int_equal(chat->history_messages, 12);
	assert_int_equal(chat->history_bytes, 13);
	assert_int_equal(chat->max_output_tokens, 14);
	assert_int_equal(chat->answer_bytes, 2048);
	assert_int_equal(chat->first_ms, 15000);
	assert_int_equal(chat->idle_ms, 16000);
	assert_int_equal(chat->total_ms, 17000);
	assert_int_equal(chat->detach_ms, 0);
	assert_int_equal(chat->heartbeat_ms, 18000);
	assert_int_equal(chat->replay_s, 0);
	assert_int_equal(chat->max_streams, 3);
	assert_int_equal(chat->max_streams_per_owner, 3);
	assert_int_equal(chat->max_chats, 20);
	assert_int_equal(chat->max_turns, 21);
	assert_int_equal(chat->keep_s, 24);
	assert_false(chat->anonymous.allowed);
	assert_int_equal(chat->anonymous.messages, 22);
	assert_int_equal(chat->anonymous.window_s, 23);
	assert_int_equal(chat->anonymous.keep_s, 0);
	assert_false(chat->balance);
	assert_true(chat->require_user);
	config_unref(config);
	free(text);
}

static void
keeps_the_prompt_out_of_its_dump(void **state)
{
	struct diag diag = { "" };
	struct config *config =
	    load("", LOCAL "system = \"canary of a prompt\"", &diag);
	char *text = NULL, *body;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(config);
	assert_string_equal(config->chat->system, "canary of a prompt");
	config_dump(config, out);
	assert_int_equal(fclose(out), 0);
	config_unref(config);
	assert_null(strstr(text, "canary"));
	assert_non_null(strstr(text, "# system: 18 bytes"));
	free(text);

	body = xasprintf(LOCAL "system_file = \"%s\"", public_path);
	config = load("", body, &diag);
	assert_non_null(config);
	assert_string_equal(config->chat->system_file, public_path);
	assert_non_null(strstr(config->chat->system, "PUBLIC KEY"));
	config_unref(config);
	free(body);
}

static void
lets_users_pay_where_all_has_a_price(void **state)
{
	struct diag diag = { "" };
	struct config *config = load(USERS PRICES, LOCAL, &diag);

	(void)state;
	if (config == NULL)
		fail_msg("%s", diag.text);
	assert_true(config->chat->balance);
	config_unref(config);
	assert_null(load(USERS, LOCAL, &diag));
	assert_non_null(strstr(diag.text, "m has no price"));
	assert_null(load(USERS "prices \"*\" { input_text = \"1\" }\n", LOCAL,
	    &diag));
	assert_non_null(strstr(diag.text, "m has no price"));
	assert_null(load(USERS PRICES
	    "prices \"n\" { currency = EUR input_text = \"1\"\n"
	    "output_text = \"1\" }\n",
	    "url = \"http://localhost\" models = {m, n}", &diag));
	assert_non_null(strstr(diag.text, "one currency"));
}

static void
says_what_is_wrong(void **state)
{
	static const struct {
		const char *body, *says;
	} cases[] = {
		{ "", "models" },
		{ "models = {}", "models" },
		{ "models = {\"gpt-*\"}", "without *" },
		{ "models = {m} api_key = \"sk-1\"", "env:NAME" },
		{ "models = {m} url = \"api.openai.com\"", "scheme" },
		{ "models = {m} url = \"wss://x/v1\"", "https://" },
		{ "models = {m} url = \"https://u:p@x/v1\"", "user" },
		{ "models = {m} url = \"https://x/v1?a=b\"", "query" },
		{ "models = {m} url = \"https://x/v1#b\"", "character" },
		{ "models = {m} url = \"http://x/v1\"", "allow_http" },
		{ "models = {m} url = \"http://10.0.0.1\"", "allow_http" },
		{ LOCAL "system = a system_file = \"/b\"", "leave out one" },
		{ LOCAL "system_file = \"/nowhere\"", "/nowhere" },
		{ LOCAL "system_file = \"/dev/zero\"", "262144" },
		{ LOCAL "ca_file = \"/nowhere\"", "/nowhere" },
		{ LOCAL "content_bytes = 0", "content_bytes" },
		{ LOCAL "content_bytes = 70000", "history_bytes" },
		{ LOCAL "content_bytes = 65536", "body_bytes" },
		{ LOCAL "max_streams = 0", "max_streams" },
		{ LOCAL "max_readers = 0", "max_readers" },
		{ LOCAL "keep = 315360001", "keep" },
		{ LOCAL "anonymous { keep = -1 }", "keep" },
		{ LOCAL "max_streams = 3 max_streams_per_owner = 4", "1 to 3" },
		{ LOCAL "max_turns = 1", "max_turns" },
		{ LOCAL "heartbeat = 0", "heartbeat" },
		{ LOCAL "anonymous { messages = 0 }", "messages" },
		{ LOCAL "anonymous { allow = false }", "nobody" },
		{ LOCAL "require_user = true", "nobody" },
		{ LOCAL "users { secret = \"env:T_SECRET\" }", "users" },
		{ LOCAL "nonsense = 1", "nonsense" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct diag diag = { "" };

		if (load("", cases[i].body, &diag) != NULL ||
		    strncmp(diag.text, "t:", 2) != 0 ||
		    strstr(diag.text, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].body, diag.text);
	}
}

static void
needs_a_store(void **state)
{
	static const char text[] = "chat { " LOCAL " }\n";
	struct config *config;
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(config_parse("t", text, strlen(text), &config, &diag),
	    ERR_PROTO);
	assert_non_null(strstr(diag.text, "store { path"));
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

	(void)state;
	write_file(public_path, public);
	free(public);
	EVP_PKEY_free(pkey);
	(void)unsetenv("STATE_DIRECTORY");
	(void)setenv("OPENAI_API_KEY", "canary", 1);
	(void)setenv("T_KEY", "canary", 1);
	return setenv("T_SECRET", "canary7890123456789012345678901234", 1);
}

static int
done(void **state)
{
	(void)state;
	return unlink(public_path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(needs_models_alone_and_asks_openai),
		cmocka_unit_test(gives_a_server_of_ones_own_no_key_of_openais),
		cmocka_unit_test(reads_what_is_written_and_writes_it_again),
		cmocka_unit_test(keeps_the_prompt_out_of_its_dump),
		cmocka_unit_test(lets_users_pay_where_all_has_a_price),
		cmocka_unit_test(says_what_is_wrong),
		cmocka_unit_test(needs_a_store),
	};

	return cmocka_run_group_tests(tests, init, done);
}
