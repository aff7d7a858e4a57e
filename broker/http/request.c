/* SPDX-License-Identifier: MIT */
#include "broker/http/request.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/answer.h"
#include "broker/http/request_parse.h"
#include "broker/tunnels/target.h"
#include "common/clock.h"
#include "common/http.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

#define HINT_EVERY_MS (60 * 60 * 1000)

struct request {
	struct request_source source;
	int64_t deadline_ms;   /* of reading; then, of writing */
	char *path;	       /* NULL until it has been checked */
	struct target *target; /* of the query; NULL until it is asked for */
	json_t *body;
	char *raw; /* the body as it came */
	size_t raw_len;
	request_error_form *error_form; /* NULL: ours */
	bool answered;
	bool left; /* its connection is somebody else's */
	int status;
	char *answer; /* NULL for an answer without a body */
	size_t answer_len;
	char *answer_type; /* NULL: JSON */
	char *headers;	   /* of answer_add_header() */
};

/* ---- what handlers ask ---------------------------------------------- */

/* A CGI meta-variable (RFC 3875 4.1) or NULL. */
static const char *
param(const struct request *req, const char *name)
{
	return request_parse_param(req->source.envp, name);
}

const char *
request_header(const struct request *req, const char *name)
{
	return request_parse_header(req->source.envp, name);
}

const char *
request_method(const struct request *req)
{
	return param(req, "REQUEST_METHOD");
}

const char *
request_path(const struct request *req)
{
	return req->path;
}

const char *
request_client(const struct request *req)
{
	return param(req, "REMOTE_ADDR");
}

const char *
request_remote_user(const struct request *req)
{
	const char *user = param(req, "REMOTE_USER");

	return user == NULL || *user == '\0' ? NULL : user;
}

const char *
request_scheme(const struct request *req)
{
	return request_parse_scheme(req->source.envp);
}

/* Parsed as a tunnel's; the path has been checked on its own. */
static enum err
parse_query(struct request *req, struct diag *diag)
{
	char *text = xasprintf("/?%s", request_parse_query(req->source.envp));
	enum err err = target_parse(text, &req->target, diag);

	explicit_bzero(text, strlen(text));
	free(text);
	return err;
}

enum err
request_query(struct request *req, const char *name, const char **ret,
    struct diag *diag)
{
	enum err err = ERR_OK;

	if (req->target == NULL)
		err = parse_query(req, diag);
	if (err == ERR_OK)
		*ret = target_find(req->target, name);
	return err;
}

const struct config *
request_config(const struct request *req)
{
	return req->source.config;
}

/* Read exactly len bytes; an end before that is ERR_PROTO. */
static enum err
read_body(struct request *req, char *buf, size_t len, struct diag *diag)
{
	size_t done = 0, n;
	enum err err;

	while (done < len) {
		err = req->source.io->read(req->source.io_arg, req->deadline_ms,
		    buf + done, len - done, &n);
		if (err != ERR_OK) {
			diag_set(diag, "the body did not come in time");
			return err;
		}
		if (n == 0) {
			diag_set(diag, "the body is shorter than announced");
			return ERR_PROTO;
		}
		done += n;
	}
	return ERR_OK;
}

/* Check the announced length before a byte is read. */
static enum err
body_length(const struct request *req, uint64_t max, uint64_t *ret,
    struct diag *diag)
{
	if (request_parse_length(param(req, "CONTENT_LENGTH"), ret) != ERR_OK ||
	    *ret == 0) {
		diag_set(diag, "there is no body");
		return ERR_PROTO;
	}
	if (*ret > max) {
		diag_set(diag, "the body is larger than %llu bytes",
		    (unsigned long long)max);
		return ERR_LIMIT;
	}
	return ERR_OK;
}

/* Read all of the body into memory of its own; the caller frees it. */
static enum err
take_body(struct request *req, uint64_t max, char **ret, size_t *ret_len,
    struct diag *diag)
{
	uint64_t len;
	enum err err = body_length(req, max, &len, diag);
	char *data;

	if (err != ERR_OK)
		return err;
	data = xcalloc(1, (size_t)len + 1);
	err = read_body(req, data, (size_t)len, diag);
	if (err != ERR_OK) {
		explicit_bzero(data, (size_t)len);
		free(data);
		return err;
	}
	*ret = data;
	*ret_len = (size_t)len;
	return ERR_OK;
}

enum err
request_body(struct request *req, const char *const types[], size_t max_bytes,
    const char **ret_data, size_t *ret_len, const char **ret_type,
    struct diag *diag)
{
	const char *type = param(req, "CONTENT_TYPE");
	const char *const *known = types;
	enum err err = ERR_OK;

	while (type != NULL && *known != NULL &&
	    !request_parse_is_type(type, *known))
		known++;
	if (type == NULL || *known == NULL) {
		diag_set(diag, "the body has to be %s", types[0]);
		return ERR_TYPE;
	}
	if (req->raw == NULL)
		err = take_body(req, max_bytes, &req->raw, &req->raw_len, diag);
	if (err != ERR_OK)
		return err;
	*ret_data = req->raw;
	*ret_len = req->raw_len;
	*ret_type = type;
	return ERR_OK;
}

enum err
request_json(struct request *req, const json_t **ret, struct diag *diag)
{
	const char *type = param(req, "CONTENT_TYPE");
	size_t len;
	enum err err;
	char *text;

	if (req->body != NULL) {
		*ret = req->body;
		return ERR_OK;
	}
	if (type == NULL || !request_parse_is_type(type, "application/json")) {
		diag_set(diag, "%s", err_text(ERR_TYPE));
		return ERR_TYPE;
	}
	err = take_body(req, req->source.config->requests.body_bytes, &text,
	    &len, diag);
	if (err != ERR_OK)
		return err;
	err = json_parse(text, len, &req->body, diag);
	explicit_bzero(text, len);
	free(text);
	if (err == ERR_OK && !json_is_object(req->body)) {
		diag_set(diag, "the body is not a JSON object");
		json_decref(req->body);
		req->body = NULL;
		err = ERR_PROTO;
	}
	if (err == ERR_OK)
		*ret = req->body;
	return err;
}

bool
request_has_body(const struct request *req)
{
	const char *length = param(req, "CONTENT_LENGTH");

	return length != NULL && *length != '\0' && strcmp(length, "0") != 0;
}

/* ---- what handlers answer ------------------------------------------- */

void
request_add_header(struct request *req, const char *name, const char *value)
{
	answer_add_header(&req->headers, name, value);
}

static void
set_answer(struct request *req, int status, char *answer, size_t len)
{
	if (req->answered) {
		free(answer);
		log_error("request.answered_twice", "status=%d", status);
		return;
	}
	req->answered = true;
	req->status = status;
	req->answer = answer;
	req->answer_len = len;
}

void
request_reply_json(struct request *req, int status, json_t *body)
{
	size_t len;
	char *text = json_text(body, &len);

	json_decref(body);
	set_answer(req, status, text, len);
}

void
request_reply_empty(struct request *req, int status)
{
	set_answer(req, status, NULL, 0);
}

void
request_reply(struct request *req, int status, const char *content_type,
    const void *body, size_t len)
{
	char *copy = xcalloc(1, len + 1);

	memcpy(copy, body, len);
	if (!req->answered &&
	    str_is_field_value(content_type, strlen(content_type)))
		req->answer_type = xstrdup(content_type);
	set_answer(req, status, copy, len);
}

void
request_set_error_form(struct request *req, request_error_form *form)
{
	req->error_form = form;
}

json_t *
request_error_body(request_error_form *form, const char *code,
    const char *message)
{
	/* it may have been cut within a character */
	if (!str_is_utf8(message, strlen(message)))
		message = code;
	return form == NULL ? http_error(code, message) : form(code, message);
}

void
request_reply_status(struct request *req, int status, const char *code,
    const char *message)
{
	request_reply_json(req, status,
	    request_error_body(req->error_form, code, message));
}

void
request_reply_error(struct request *req, enum err err, const char *message)
{
	request_reply_status(req, err_http_status(err), err_code(err),
	    message == NULL ? err_text(err) : message);
}

static enum err
send_answer(struct request *req)
{
	const struct request_io *io = req->source.io;
	const char *method = request_method(req), *type = req->answer_type;
	void *arg = req->source.io_arg;
	size_t head_len;
	char *head;
	enum err err;

	if (req->answer != NULL && type == NULL)
		type = "application/json";
	head = answer_head(req->status, type, (int64_t)req->answer_len,
	    req->headers, &head_len);
	err = io->write(arg, req->deadline_ms, head, head_len);
	free(head);
	if (err == ERR_OK && req->answer != NULL &&
	    (method == NULL || strcmp(method, "HEAD") != 0))
		err = io->write(arg, req->deadline_ms, req->answer,
		    req->answer_len);
	return err == ERR_OK ? io->end(arg) : err;
}

/* ---- the life of a request ------------------------------------------ */

static char *
words_of(const struct request *req)
{
	return answer_words(request_method(req), req->path,
	    request_client(req));
}

enum err
request_leave(struct request *req, struct request_left *ret, struct diag *diag)
{
	const char *method = request_method(req);

	if (req->source.io->leave == NULL) {
		diag_set(diag, "this needs a broker that runs by itself");
		return ERR_UNAVAIL;
	}
	*ret = (struct request_left){
		.is_head = method != NULL && strcmp(method, "HEAD") == 0,
		.headers = req->headers,
		.words = words_of(req),
		.started_ms = req->source.started_ms,
		.error_form = req->error_form,
	};
	ret->fd = req->source.io->leave(req->source.io_arg, &ret->id);
	req->headers = NULL;
	req->answered = req->left = true;
	return ERR_OK;
}

/*
 * Apache keeps Authorization to itself unless it is told not to, and then a
 * client that has sent its token looks as one that has none.
 */
static void
hint_at_authorization(const struct request *req)
{
	static atomic_llong next_ms;
	long long due_ms = atomic_load(&next_ms), now_ms = clock_ms();

	if (req->status != 401 || now_ms < due_ms ||
	    param(req, "HTTP_AUTHORIZATION") != NULL ||
	    !atomic_compare_exchange_strong(&next_ms, &due_ms,
		now_ms + HINT_EVERY_MS))
		return;
	log_notice("request.no_authorization", "reason=\"%s\"",
	    "a client was answered 401 that showed no Authorization: if it "
	    "sends one, the web server does not pass it on; Apache needs "
	    "CGIPassAuth On");
}

static void
answer(struct request *req)
{
	char *words = words_of(req);
	enum err err;

	if (!req->answered) {
		log_error("request.not_answered", "ms=%lld",
		    (long long)(clock_ms() - req->source.started_ms));
		request_reply_error(req, ERR_SYS, NULL);
	}
	hint_at_authorization(req);
	req->deadline_ms = clock_ms() + req->source.config->requests.timeout_ms;
	err = send_answer(req);
	answer_log(words, req->status, req->source.started_ms,
	    err == ERR_OK ? ANSWER_TAKEN : ANSWER_NOT_TAKEN);
	free(words);
}

static void
request_done(struct request *req)
{
	json_decref(req->body);
	if (req->answer != NULL)
		explicit_bzero(req->answer, req->answer_len);
	free(req->answer);
	free(req->answer_type);
	free(req->headers);
	if (req->raw != NULL)
		explicit_bzero(req->raw, req->raw_len);
	free(req->raw);
	target_free(req->target);
	free(req->path);
}

void
request_run(const struct request_source *source, request_handler *handler)
{
	struct request req = {
		.source = *source,
		.deadline_ms =
		    source->started_ms + source->config->requests.timeout_ms,
	};
	struct diag diag = { "" };
	enum err err = request_parse_check(source->envp, &diag);

	if (err == ERR_OK) {
		err = request_parse_path(source->envp,
		    source->config->requests.base_path, &req.path);
		diag_set(&diag,
		    err == ERR_NOTFOUND ? "the path is not under `base_path'"
					: "the path is not acceptable");
	}
	if (err == ERR_OK)
		handler(&req);
	else
		request_reply_error(&req, err, diag.text);
	if (!req.left)
		answer(&req);
	request_done(&req);
}
