/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/chat/chat_http.h"
#include "common/json.h"
#include "common/xalloc.h"
#include "config_text.h"
#include "request_double.h"
#include "ticket_store.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct config *config;

/* ---- asking ---- */

/* Route it as broker/http/route.c does. */
static void
ask(struct request *req, int status)
{
	req->config = config;
	if (req->anon_id == NULL)
		req->anon_id = "anonymous-id";
	/* the one of the answers must not matter */
	req->cookie = "culvert_chat=e30.e30.AAAA";
	if (strcmp(req->path, "/api/v1/usage") == 0)
		chat_http_usage_handle(req);
	else if (strcmp(req->path, "/api/v1/chats") == 0)
		chat_http_chats_handle(req);
	else
		chat_http_chat_handle(req);
	assert_int_equal(req->answers, 1);
	if (req->status != status)
		fail_msg("%s %s: %d %s", req->method, req->path, req->status,
		    req->message);
}

/* "/api/v1/chats/ID" of a new one; the caller frees it. */
static char *
create(const char *anon_id)
{
	struct request req = { .method = "POST",
		.path = "/api/v1/chats",
		.anon_id = anon_id,
		.body = "{\"title\":\"T\"}" };
	char *path;

	ask(&req, 201);
	path = xasprintf("/api/v1/chats/%s",
	    json_string_value(
		json_object_get(json_object_get(req.reply, "chat"), "id")));
	request_double_done(&req);
	return path;
}

/* ---- tests ---- */

static void
makes_lists_renames_and_deletes_chats(void **state)
{
	char *path = create(NULL);
	struct request list = { .method = "GET",
		.path = "/api/v1/chats",
		.query = { { "limit", "10" } } };
	struct request patch = { .method = "PATCH",
		.path = path,
		.body = "{\"title\":\"New\"}" };
	struct request delete = { .method = "DELETE", .path = path };
	struct request again = { .method = "DELETE", .path = path };

	(void)state;
	ask(&list, 200);
	assert_int_equal(json_integer_value(
			     json_object_get(list.reply, "limit")),
	    10);
	assert_int_equal(json_array_size(json_object_get(list.reply, "chats")),
	    1);
	ask(&patch, 200);
	assert_string_equal(json_string_value(json_object_get(
				json_object_get(patch.reply, "chat"), "title")),
	    "New");
	ask(&delete, 200);
	ask(&again, 404);
	request_double_done(&list);
	request_double_done(&patch);
	request_double_done(&delete);
	request_double_done(&again);
	free(path);
}

static void
lists_messages(void **state)
{
	char *path = create(NULL), *below = xasprintf("%s/messages", path);
	struct request req = { .method = "GET",
		.path = below,
		.query = { { "page", "0" }, { "all_versions", "true" } } };

	(void)state;
	ask(&req, 200);
	assert_string_equal(json_string_value(
				json_object_get(req.reply, "chat_id")),
	    strrchr(path, '/') + 1);
	assert_int_equal(json_array_size(
			     json_object_get(req.reply, "messages")),
	    0);
	request_double_done(&req);
	free(below);
	free(path);
}

static void
shows_nobody_the_chats_of_another(void **state)
{
	char *path = create(NULL), *below = xasprintf("%s/messages", path);
	struct request get = { .method = "GET",
		.path = below,
		.anon_id = "somebody-else" };
	struct request patch = { .method = "PATCH",
		.path = path,
		.anon_id = "somebody-else",
		.body = "{\"title\":\"Mine\"}" };
	struct request delete = { .method = "DELETE",
		.path = path,
		.anon_id = "somebody-else" };

	(void)state;
	ask(&get, 404);
	ask(&patch, 404);
	ask(&delete, 404);
	request_double_done(&get);
	request_double_done(&patch);
	request_double_done(&delete);
	free(below);
	free(path);
}

static void
gives_a_new_visitor_its_id(void **state)
{
	struct request req = { .method = "GET",
		.path = "/api/v1/usage",
		.anon_id = "" };
	char *header;

	(void)state;
	ask(&req, 200);
	header = xasprintf("X-Anon-Id: %s\n",
	    json_string_value(json_object_get(req.reply, "anon_id")));
	assert_string_equal(req.headers, header);
	free(header);
	request_double_done(&req);
}

static void
says_by_a_code_that_a_visitor_has_to_wait(void **state)
{
	struct config *one = NULL, *ours = config;
	struct request req = { .method = "POST",
		.path = "/api/v1/chats",
		.anon_id = "patient-visitor",
		.body = "{}" };
	static const char text[] =
	    "store { path = \"/x/y.db\" }\n"
	    "chat { url = \"http://localhost\" models = {m}\n"
	    "anonymous { messages = 1 } }\n";

	(void)state;
	one = config_text(text);
	config = one;
	/* there have been others from this address */
	ask(&req, 429);
	assert_non_null(strstr(req.message, "ANON_LIMIT_REACHED: "));
	request_double_done(&req);
	config = ours;
	config_unref(one);
}

static void
refuses_what_will_not_do(void **state)
{
	static const struct {
		struct request req;
		int status;
		const char *says;
	} rows[] = {
		{ { .method = "GET",
		      .path = "/api/v1/chats",
		      .query = { { "page", "x" } } },
		    400, "page" },
		{ { .method = "GET",
		      .path = "/api/v1/chats",
		      .query = { { "limit", "-1" } } },
		    400, "limit" },
		{ { .method = "GET",
		      .path = "/api/v1/chats",
		      .query = { { "limit", "4294967297" } } },
		    400, "limit" },
		{ { .method = "GET",
		      .path = "/api/v1/chats",
		      .query = { { "all_versions", "true" } } },
		    400, "page, limit" },
		{ { .method = "GET",
		      .path = "/api/v1/chats/x/messages",
		      .query = { { "all_versions", "maybe" } } },
		    400, "true or false" },
		{ { .method = "GET", .path = "/api/v1/chats/x/messages" }, 404,
		    "" },
		{ { .method = "POST", .path = "/api/v1/chats" }, 400,
		    "no JSON" },
		{ { .method = "POST",
		      .path = "/api/v1/chats",
		      .body = "{\"name\":\"x\"}" },
		    400, "title" },
		{ { .method = "PATCH", .path = "/api/v1/chats/x" }, 400,
		    "no JSON" },
		{ { .method = "PATCH",
		      .path = "/api/v1/chats/x",
		      .body = "{}" },
		    400, "title" },
		{ { .method = "GET",
		      .path = "/api/v1/usage",
		      .anon_id = "short" },
		    400, "anonymous id" },
		{ { .method = "GET",
		      .path = "/api/v1/usage",
		      .authorization = "Bearer x" },
		    401, "sign in" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct request req = rows[i].req;

		ask(&req, rows[i].status);
		if (strstr(req.message, rows[i].says) == NULL)
			fail_msg("%s %s: %s", req.method, req.path,
			    req.message);
		request_double_done(&req);
	}
}

static void
is_not_there_without_a_chat(void **state)
{
	struct config *other = config_new(), *ours = config;
	struct request chats = { .method = "GET", .path = "/api/v1/chats" };
	struct request chat = { .method = "DELETE", .path = "/api/v1/chats/x" };
	struct request usage = { .method = "GET", .path = "/api/v1/usage" };

	(void)state;
	config = other;
	ask(&chats, 404);
	ask(&chat, 404);
	ask(&usage, 404);
	config = ours;
	config_unref(other);
}

static int
init(void **state)
{
	static const char text[] =
	    "store { path = \"/x/y.db\" }\n"
	    "chat { url = \"http://localhost\" models = {m} }\n";

	(void)state;
	config = config_text(text);
	return ticket_store_open();
}

static int
done(void **state)
{
	(void)state;
	config_unref(config);
	return ticket_store_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_lists_renames_and_deletes_chats),
		cmocka_unit_test(lists_messages),
		cmocka_unit_test(shows_nobody_the_chats_of_another),
		cmocka_unit_test(gives_a_new_visitor_its_id),
		cmocka_unit_test(says_by_a_code_that_a_visitor_has_to_wait),
		cmocka_unit_test(refuses_what_will_not_do),
		cmocka_unit_test(is_not_there_without_a_chat),
	};

	return cmocka_run_group_tests(tests, init, done);
}
