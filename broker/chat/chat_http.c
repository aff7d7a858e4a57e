/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_http.h"

#include <stdlib.h>
#include <string.h>

#include "broker/chat/caller.h"
#include "broker/chat/chat_json.h"
#include "broker/chat/chat_ops.h"
#include "broker/limits/admission.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

#define CHATS_PATH "/api/v1/chats/"

/* ---- answers ---- */

/*
 * Our own failures are for the log, not for the client.  caller NULL: it is
 * not known.
 */
static void
refuse(struct request *req, const char *op, enum err err,
    const struct caller *caller, const struct diag *diag)
{
	bool ours = err_http_status(err) >= 500;

	if (ours)
		log_error("chat.failed", "event=%s reason=\"%s\"", op,
		    diag->text);
	request_reply_status(req, err_http_status(err),
	    chat_json_code(err, caller),
	    ours || diag->text[0] == '\0' ? err_text(err) : diag->text);
}

static void
run(struct request *req, const struct caller *caller, const char *name,
    const json_t *args, int status)
{
	struct diag diag = { "" };
	json_t *result;
	enum err err = chat_ops_run(chat_ops_find(name), request_config(req),
	    caller, args, &result, &diag);

	if (err == ERR_OK)
		request_reply_json(req, status, result);
	else
		refuse(req, name, err, caller, &diag);
}

/* Whether the caller's limits let it pass; or it is answered. */
static bool
is_within_limits(struct request *req, const char *name,
    const struct caller *caller)
{
	struct subjects subjects;
	struct diag diag = { "" };
	enum err err;

	caller_subjects(caller, request_config(req), &subjects);
	err = admission_check(req, &subjects, &diag);
	if (err != ERR_OK)
		refuse(req, name, err, NULL, &diag);
	return err == ERR_OK;
}

/* Do an operation for whoever asks; takes args (NULL: none). */
static void
answer(struct request *req, const char *name, json_t *args, int status)
{
	struct diag diag = { "" };
	struct caller caller = { .id = NULL };
	enum err err = caller_of_request(req, false, &caller, &diag);

	if (err != ERR_OK) {
		refuse(req, name, err, NULL, &diag);
	} else {
		if (caller.is_new)
			request_add_header(req, "X-Anon-Id", caller.id);
		if (is_within_limits(req, name, &caller))
			run(req, &caller, name, args, status);
	}
	caller_done(&caller);
	json_decref(args);
}

/* Whether there is a chat at all; or it is answered. */
static bool
is_there(struct request *req)
{
	if (request_config(req)->chat != NULL)
		return true;
	request_reply_error(req, ERR_NOTFOUND, "there is no chat here");
	return false;
}

/* ---- arguments ---- */

/* A query's text as what it looks like: true, 7, or a text. */
static json_t *
value_of(const char *text)
{
	uint64_t number;

	if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
		return json_boolean(*text == 't');
	if (str_to_u64(text, strlen(text), INT32_MAX, &number) == ERR_OK)
		return json_integer((json_int_t)number);
	return json_made(json_string(text));
}

/* Add what the query has of these; names end with NULL. */
static enum err
add_query(struct request *req, const char *const names[], json_t *args,
    struct diag *diag)
{
	for (; *names != NULL; names++) {
		const char *text = NULL;
		enum err err = request_query(req, *names, &text, diag);

		if (err != ERR_OK)
			return err;
		if (text != NULL)
			(void)json_object_set_new(args, *names, value_of(text));
	}
	return ERR_OK;
}

static void
answer_list(struct request *req, const char *name, const char *chat)
{
	static const char *const names[] = { "page", "limit", "all_versions",
		NULL };
	json_t *args = json_made(json_object());
	struct diag diag = { "" };
	enum err err = add_query(req, names, args, &diag);

	if (err != ERR_OK) {
		refuse(req, name, err, NULL, &diag);
		json_decref(args);
		return;
	}
	if (chat != NULL)
		(void)json_object_set_new(args, "chat_id",
		    json_made(json_string(chat)));
	answer(req, name, args, 200);
}

/* chat: of the path; NULL: none. */
static void
answer_body(struct request *req, const char *name, const char *chat, int status)
{
	const json_t *body;
	struct diag diag = { "" };
	enum err err = request_json(req, &body, &diag);
	json_t *args;

	if (err != ERR_OK) {
		refuse(req, name, err, NULL, &diag);
		return;
	}
	args = json_made(json_deep_copy(body));
	if (chat != NULL)
		(void)json_object_set_new(args, "chat_id",
		    json_made(json_string(chat)));
	answer(req, name, args, status);
}

/* ---- routes ---- */

void
chat_http_chats_handle(struct request *req)
{
	if (!is_there(req))
		return;
	if (strcmp(request_method(req), "POST") == 0)
		answer_body(req, "create_chat", NULL, 201);
	else
		answer_list(req, "list_chats", NULL);
}

void
chat_http_chat_handle(struct request *req)
{
	const char *method = request_method(req);
	const char *rest = request_path(req) + strlen(CHATS_PATH);
	char *chat;

	if (!is_there(req))
		return;
	chat = xstrndup(rest, strcspn(rest, "/"));
	if (strcmp(method, "PATCH") == 0)
		answer_body(req, "rename_chat", chat, 200);
	else if (strcmp(method, "DELETE") == 0)
		answer(req, "delete_chat",
		    json_made(json_pack("{s:s}", "chat_id", chat)), 200);
	else
		answer_list(req, "list_messages", chat);
	free(chat);
}

void
chat_http_usage_handle(struct request *req)
{
	if (is_there(req))
		answer(req, "usage_info", NULL, 200);
}
