/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/livekit/livekit.h"
#include "common/json.h"
#include "request_double.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char name_default[] = "default", name_stage[] = "stage",
	    name_broken[] = "broken", prefix[] = "user-", any[] = "*",
	    url[] = "wss://x.example";
static char *any_room[] = { any };
static struct config_token tokens[] = {
	{ .name = name_default, .ttl_s = 600, .identity = prefix },
	{ .name = name_stage, .ttl_s = 60, .identity = prefix },
	{ .name = name_broken, .ttl_s = 60, .identity_mode = IDENTITY_FIXED },
};
static struct config_livekit livekit = { .url = url,
	.tokens = tokens,
	.token_count = COUNT(tokens) };
static struct config config = { .livekit = &livekit };

static int
setup(void **state)
{
	(void)state;
	livekit.api_key = secret_new("APIkey", 6, "env:KEY");
	livekit.api_secret = secret_new("topsecret", 9, "env:SECRET");
	config.livekit = &livekit;
	for (size_t i = 0; i < COUNT(tokens); i++) {
		tokens[i].rooms = (struct config_strings){ any_room, 1 };
		tokens[i].claims =
		    json_pack("{s:{s:b}}", "video", "roomJoin", 1);
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(tokens); i++)
		json_decref(tokens[i].claims);
	secret_free(livekit.api_key);
	secret_free(livekit.api_secret);
	return 0;
}

static struct request
handle(const char *path, const char *body)
{
	struct request req = { .path = path,
		.body = body,
		.body_err = ERR_TYPE,
		.config = &config };

	livekit_token_handle(&req);
	assert_int_equal(req.answers, 1);
	return req;
}

#define PATH "/api/livekit/token"

static void
answers_the_seed_form_with_200_and_token_alone(void **state)
{
	struct request req = handle(PATH, "{\"roomName\":\"lobby\"}");

	(void)state;
	assert_int_equal(req.status, 200);
	assert_int_equal(json_object_size(req.reply), 1);
	assert_memory_equal(json_string_value(
				json_object_get(req.reply, "token")),
	    "eyJ", 3);
	request_double_done(&req);
}

static void
answers_the_standard_form_with_201_and_the_server(void **state)
{
	static const char *const bodies[] = { "{}",
		"{\"room_name\":\"lobby\"}" };
	struct request req;

	(void)state;
	for (size_t i = 0; i < COUNT(bodies); i++) {
		req = handle(PATH, bodies[i]);
		assert_int_equal(req.status, 201);
		assert_int_equal(json_object_size(req.reply), 2);
		assert_string_equal(json_string_value(json_object_get(req.reply,
					"server_url")),
		    "wss://x.example");
		assert_memory_equal(json_string_value(json_object_get(req.reply,
					"participant_token")),
		    "eyJ", 3);
		request_double_done(&req);
	}
}

static void
the_last_part_of_the_path_names_the_template(void **state)
{
	static const struct {
		const char *path;
		int status;
	} rows[] = {
		{ PATH, 201 },
		{ PATH "/default", 201 },
		{ PATH "/stage", 201 },
		{ PATH "/", 404 },
		{ PATH "/other", 404 },
		{ PATH "/Stage", 404 },
		{ PATH "/stage/", 404 },
		{ PATH "/stage/default", 404 },
		{ PATH "stage", 404 },
		{ PATH "s", 404 },
		{ "/api/livekit", 404 },
		{ "/", 404 },
	};
	struct request req;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		req = handle(rows[i].path, "{}");
		if (req.status != rows[i].status)
			fail_msg("%s: %d", rows[i].path, req.status);
		request_double_done(&req);
	}
	config.livekit = NULL;
	req = handle(PATH, "{}");
	assert_int_equal(req.status, 404);
	request_double_done(&req);
}

static void
tells_the_client_what_it_may_not_do(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *word;
	} rows[] = {
		{ NULL, 415, "no JSON" },
		{ "{\"api_base\":\"x\"}", 400, "api_base" },
		{ "{\"participant_identity\":\"x\"}", 403,
		    "participant_identity" },
		{ "{\"participantName\":\"x\"}", 403, "participantName" },
	};
	struct request req;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		req = handle(PATH, rows[i].body);
		assert_int_equal(req.status, rows[i].status);
		assert_non_null(strstr(req.message, rows[i].word));
		request_double_done(&req);
	}
}

static void
keeps_its_own_failures_to_itself(void **state)
{
	struct request req = handle(PATH "/broken", "{}");

	(void)state;
	assert_int_equal(req.status, 500);
	assert_string_equal(req.message, err_text(ERR_SYS));
	request_double_done(&req);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_the_seed_form_with_200_and_token_alone),
		TEST(answers_the_standard_form_with_201_and_the_server),
		TEST(the_last_part_of_the_path_names_the_template),
		TEST(tells_the_client_what_it_may_not_do),
		TEST(keeps_its_own_failures_to_itself),
	};

	return cmocka_run_group_tests_name("livekit", tests, NULL, NULL);
}
