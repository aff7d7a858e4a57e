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
#include "ticket_store.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- a request that stands in for the real one ---- */

struct request {
	const char *method, *path, *anon_id, *authorization;
	const char *page, *limit, *all_versions; /* of the query */
	const char *body;			 /* NULL: none */
	const struct config *config;
	json_t *parsed;
	unsigned answers;
	int status;
	json_t *reply;
	char message[256];
	char headers[512]; /* "Name: value\n", as they were added */
};

static struct config *config;

const char *
request_method(const struct request *req)
{
	return req->method;
}

const char *
request_path(const struct request *req)
{
	return req->path;
}

const char *
request_client(const struct request *req)
{
	(void)req;
	return "192.0.2.1";
}

const char *
request_remote_user(const struct request *req)
{
	(void)req;
	return NULL;
}

const char *
request_scheme(const struct request *req)
{
	(void)req;
	return "https";
}

const char *
request_header(const struct request *req, const char *name)
{
	if (strcmp(name, "authorization") == 0)
		return req->authorization;
	/* the one of the answers must not matter */
	if (strcmp(name, "cookie") == 0)
		return "culvert_chat=e30.e30.AAAA";
	return strcmp(name, "x-anon-id") == 0 ? req->anon_id : NULL;
}

enum err
request_query(struct request *req, const char *name, const char **ret,
    struct diag *diag)
{
	(void)diag;
	*ret = strcmp(name, "page") == 0 ? req->page
	    : strcmp(name, "limit") == 0 ? req->limit
					 : req->all_versions;
	return ERR_OK;
}

const struct config *
request_config(const struct request *req)
{
	return req->config;
}

enum err
request_json(struct request *req, const json_t **ret, struct diag *diag)
{
	if (req->body == NULL) {
		diag_set(diag, "there is no body");
		return ERR_PROTO;
	}
	if (req->parsed == NULL)
		assert_int_equal(json_parse(req->body, strlen(req->body),
				     &req->parsed, diag),
		    ERR_OK);
	*ret = req->parsed;
	return ERR_OK;
}

void
request_add_header(struct request *req, const char *name, const char *value)
{
	size_t len = strlen(req->headers);

	(void)snprintf(req->headers + len, sizeof(req->headers) - len,
	    "%s: %s\n", name, value);
}

void
request_reply_json(struct request *req, int status, json_t *body)
{
	req->answers++;
	req->status = status;
	req->reply = body;
}

void
request_reply_error(struct request *req, enum err err, const char *message)
{
	req->answers++;
	req->status = err_http_status(err);
	(void)snprintf(req->message, sizeof(req->message), "%s",
	    message == NULL ? "" : message);
}

void
request_reply_status(struct request *req, int status, const char *code,
    const char *message)
{
	req->answers++;
	req->status = status;
	(void)snprintf(req->message, sizeof(req->message), "%s: %s", code,
	    message);
}

/* ---- asking ---- */

static void
request_end(struct request *req)
{
	json_decref(req->parsed);
	json_decref(req->reply);
}

/* Route it as broker/http/route.c does. */
static void
ask(struct request *req, int status)
{
	req->config = config;
	if (req->anon_id == NULL)
		req->anon_id = "anonymous-id";
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
	request_end(&req);
	return path;
}

/* ---- tests ---- */

static void
makes_lists_renames_and_deletes_chats(void **state)
{
	char *path = create(NULL);
	struct request list = { .method = "GET",
		.path = "/api/v1/chats",
		.limit = "10" };
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
	request_end(&list);
	request_end(&patch);
	request_end(&delete);
	request_end(&again);
	free(path);
}

static void
lists_messages(void **state)
{
	char *path = create(NULL), *below = xasprintf("%s/messages", path);
	struct request req = { .method = "GET",
		.path = below,
		.page = "0",
		.all_versions = "true" };

	(void)state;
	ask(&req, 200);
	assert_string_equal(json_string_value(
				json_object_get(req.reply, "chat_id")),
	    strrchr(path, '/') + 1);
	assert_int_equal(json_array_size(
			     json_object_get(req.reply, "messages")),
	    0);
	request_end(&req);
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
	request_end(&get);
	request_end(&patch);
	request_end(&delete);
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
	request_end(&req);
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
	struct diag diag;

	(void)state;
	assert_int_equal(config_parse("t", text, strlen(text), &one, &diag),
	    ERR_OK);
	config = one;
	/* there have been others from this address */
	ask(&req, 429);
	assert_non_null(strstr(req.message, "ANON_LIMIT_REACHED: "));
	request_end(&req);
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
		{ { .method = "GET", .path = "/api/v1/chats", .page = "x" },
		    400, "page" },
		{ { .method = "GET", .path = "/api/v1/chats", .limit = "-1" },
		    400, "limit" },
		{ { .method = "GET",
		      .path = "/api/v1/chats",
		      .limit = "4294967297" },
		    400, "limit" },
		{ { .method = "GET",
		      .path = "/api/v1/chats",
		      .all_versions = "true" },
		    400, "page, limit" },
		{ { .method = "GET",
		      .path = "/api/v1/chats/x/messages",
		      .all_versions = "maybe" },
		    400, "true or false" },
		{ { .method = "GET", .path = "/api/v1/chats/x/messages" }, 404,
		    "" },
		{ { .method = "POST", .path = "/api/v1/chats" }, 400,
		    "no body" },
		{ { .method = "POST",
		      .path = "/api/v1/chats",
		      .body = "{\"name\":\"x\"}" },
		    400, "title" },
		{ { .method = "PATCH", .path = "/api/v1/chats/x" }, 400,
		    "no body" },
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
		request_end(&req);
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
	struct diag diag;

	(void)state;
	if (config_parse("t", text, strlen(text), &config, &diag) != ERR_OK)
		return -1;
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
