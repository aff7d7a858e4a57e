/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/config/config_notice.h"
#include "common/log.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What is logged of a configuration; standard error is a pipe meanwhile. */
static char *
notices_of(const char *text)
{
	struct config *config;
	struct diag diag = { "" };
	char *out = xcalloc(1, 16384);
	int fds[2], saved;

	if (config_parse("t", text, strlen(text), &config, &diag) != ERR_OK)
		fail_msg("%s: %s", text, diag.text);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	assert_int_not_equal(dup2(fds[1], STDERR_FILENO), -1);
	config_notice_log(config);
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	(void)close(fds[1]);
	(void)!read(fds[0], out, 16383);
	(void)close(fds[0]);
	config_unref(config);
	return out;
}

static unsigned
count_lines(const char *text)
{
	unsigned lines = 0;

	for (; *text != '\0'; text++)
		lines += *text == '\n';
	return lines;
}

#define OPEN   "access { clients = {any} }\n"
#define KEYED  " header \"A\" { secret = \"env:T_KEY\" } }\n"
#define CHAT   OPEN "store { path = \"/a/b\" } chat { models = {m}\n"
#define VENDOR OPEN "relay \"/a\" { upstream = \"wss://x\"" KEYED

static void
says_what_an_operator_may_not_expect_and_nothing_else(void **state)
{
	static const struct {
		const char *text;
		const char *events[3]; /* in this order, and no others */
	} rows[] = {
		{ VENDOR, { NULL } },
		{ "",
		    { " config.loopback_only file=t ",
			" config.no_routes file=t " } },
		{ OPEN, { " config.no_routes file=t " } },
		{ "access { clients = {\"127.0.0.0/8\", \"::1\"} }\n"
		  "openai { api_key = \"env:T_KEY\" }",
		    { " config.loopback_only " } },
		{ "access { clients = {\"126.0.0.0/7\"} }\n"
		  "openai { api_key = \"env:T_KEY\" }",
		    { NULL } },
		{ OPEN "openai { api_key = \"env:T_KEY\"\n"
		       "client_secrets = true }",
		    { " config.no_store route=openai " } },
		{ OPEN "store { path = \"/a/b\" }\n"
		       "openai { api_key = \"env:T_KEY\"\n"
		       "client_secrets = true calls = true }",
		    { NULL } },
		{ OPEN "store { path = \"/a/b\" }\n"
		       "plan p { day_money = 1 }\n"
		       "prices \"gpt-realtime*\" { input_text = 1 }\n"
		       "openai { api_key = \"env:T_KEY\"\n"
		       "models = {\"gpt-realtime\", \"gpt-*\"} }",
		    { " config.no_price route=openai models=gpt-* " } },
		{ OPEN "plan p { tunnels = 1 }\n"
		       "openai { api_key = \"env:T_KEY\"\n"
		       "models = {\"gpt-realtime\", \"gpt-*\"} }",
		    { NULL } },
		{ OPEN "openai { api_key = \"env:T_KEY\"\n"
		       "calls = true session { } }",
		    { " config.past_pin route=openai " } },
		{ OPEN "openai { api_key = \"env:T_KEY\" message_log = full\n"
		       "message_log_file = \"/l\" }",
		    { NULL } },
		{ OPEN "openai { api_key = \"env:T_KEY\" message_log = full\n"
		       "message_log_file = \"/no/such/folder/l\" }\n"
		       "relay \"/b\" { inherit = openai }",
		    { " config.no_log_folder route=openai "
		      "file=/no/such/folder/l " } },
		{ VENDOR "relay \"/b\" { upstream = \"wss://x\" }",
		    { " config.no_key route=/b " } },
		{ VENDOR "relay \"/b\" { upstream = \"ws://x\"\n"
			 "header \"A\" { value = b } }",
		    { " config.no_key route=/b " } },
		{ VENDOR "relay \"/b\" { upstream = \"ws://x\"" KEYED,
		    { " config.plain_secret route=/b " } },
		{ VENDOR "relay \"/b\" { upstream = \"ws://10.0.0.1\"" KEYED,
		    { " config.plain_secret route=/b " } },
		{ VENDOR "relay \"/b\" { upstream = \"ws://localhost:1\"" KEYED,
		    { NULL } },
		{ VENDOR "relay \"/b\" { upstream = \"ws://127.0.0.9\"" KEYED,
		    { NULL } },
		{ VENDOR "relay \"/b\" { upstream = \"ws://[::1]\"" KEYED,
		    { NULL } },
		{ VENDOR "relay \"/b\" { upstream = \"ws://localhost.x\"" KEYED,
		    { " config.plain_secret route=/b " } },
		{ VENDOR
		    "relay \"/b\" { upstream = \"ws://127.x.example\"" KEYED,
		    { " config.plain_secret route=/b " } },
		{ OPEN "livekit { url = \"wss://x\" api_key = \"env:T_KEY\"\n"
		       "api_secret = \"env:T_32\" token \"a\" {}\n"
		       "token \"b\" { room_join = true } }",
		    { " config.no_grants token=a " } },
		{ OPEN "livekit { url = \"wss://x\" api_key = \"env:T_KEY\"\n"
		       "api_secret = \"env:T_31\" }",
		    { " config.short_secret key=livekit.api_secret "
		      "bytes=31 " } },
		{ OPEN "livekit { url = \"wss://x\" api_key = \"env:T_KEY\"\n"
		       "api_secret = \"env:T_32\" }",
		    { NULL } },
		{ CHAT "}", { NULL } },
		{ CHAT "url = \"https://x/v1\" }",
		    { " config.no_key route=chat " } },
		{ CHAT "url = \"http://[::1]:1/v1\" }", { NULL } },
		{ CHAT "url = \"http://10.0.0.1\" allow_http = true\n"
		       "api_key = \"env:T_KEY\" }",
		    { " config.plain_secret route=chat " } },
		{ CHAT "balance = false } users { secret = \"env:T_32\" }",
		    { " config.no_balance " } },
		{ OPEN "socketio { echo = true }", { " config.echo " } },
		{ CHAT "} socketio { echo = false }", { NULL } },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *text = notices_of(rows[i].text);
		const char *at = text;
		unsigned events = 0;

		while (at != NULL && rows[i].events[events] != NULL)
			at = strstr(at, rows[i].events[events++]);
		if (at == NULL || count_lines(text) != events ||
		    strstr(text, "canary") != NULL)
			fail_msg("%s:\n%s", rows[i].text, text);
		free(text);
	}
}

static void
warns_of_a_key_that_every_user_may_read(void **state)
{
	static const struct {
		mode_t mode;
		bool warns;
	} rows[] = { { 0600, false }, { 0640, false }, { 0644, true },
		{ 0604, true } };
	char path[] = "/tmp/test_config_notice.XXXXXX";
	int fd = mkstemp(path);
	char *text = xasprintf(OPEN "openai { api_key = \"file:%s\" }", path);

	(void)state;
	assert_int_equal(write(fd, "canary", 6), 6);
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *out;

		assert_int_equal(fchmod(fd, rows[i].mode), 0);
		out = notices_of(text);
		if ((strstr(out, " config.open_secret ") != NULL) !=
			rows[i].warns ||
		    count_lines(out) != rows[i].warns ||
		    strstr(out, "canary") != NULL)
			fail_msg("%o: %s", (unsigned)rows[i].mode, out);
		free(out);
	}
	(void)close(fd);
	(void)unlink(path);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    says_what_an_operator_may_not_expect_and_nothing_else),
		cmocka_unit_test(warns_of_a_key_that_every_user_may_read),
	};

	if (setenv("T_KEY", "canary", 1) != 0 ||
	    setenv("OPENAI_API_KEY", "canary", 1) != 0 ||
	    setenv("T_31", "canary7890123456789012345678901", 1) != 0 ||
	    setenv("T_32", "canary78901234567890123456789012", 1) != 0 ||
	    unsetenv("JOURNAL_STREAM") != 0)
		return 1;
	log_init("test", LOG_LEVEL_INFO);
	return cmocka_run_group_tests_name("config_notice", tests, NULL, NULL);
}
