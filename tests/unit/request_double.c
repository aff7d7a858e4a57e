/* SPDX-License-Identifier: MIT */
#include "request_double.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const char *
request_method(const struct request *req)
{
	return req->method == NULL ? "POST" : req->method;
}

const char *
request_path(const struct request *req)
{
	return req->path;
}

const char *
request_client(const struct request *req)
{
	return req->client != NULL || req->no_client ? req->client
						     : "192.0.2.1";
}

const char *
request_scheme(const struct request *req)
{
	return req->scheme == NULL ? "https" : req->scheme;
}

const char *
request_remote_user(const struct request *req)
{
	return req->remote_user;
}

const char *
request_header(const struct request *req, const char *name)
{
	const struct {
		const char *name, *value;
	} headers[] = {
		{ "authorization", req->authorization },
		{ "cookie", req->cookie },
		{ "x-anon-id", req->anon_id },
		{ "origin", req->origin },
		{ "host", req->host },
		{ "sec-fetch-site", req->fetch_site },
		{ "sec-websocket-protocol", req->protocol },
		{ "access-control-request-headers", req->cors_headers },
	};

	for (size_t i = 0; i < COUNT(headers); i++)
		if (strcmp(headers[i].name, name) == 0)
			return headers[i].value;
	return NULL;
}

enum err
request_query(struct request *req, const char *name, const char **ret,
    struct diag *diag)
{
	*ret = NULL;
	if (req->query_err != ERR_OK)
		diag_set(diag, "the query is not well encoded");
	for (size_t i = 0; i < COUNT(req->query); i++)
		if (req->query[i].name != NULL &&
		    strcmp(req->query[i].name, name) == 0)
			*ret = req->query[i].value;
	return req->query_err;
}

const struct config *
request_config(const struct request *req)
{
	return req->config;
}

enum err
request_json(struct request *req, const json_t **ret, struct diag *diag)
{
	enum err err = ERR_OK;

	if (req->body == NULL) {
		diag_set(diag, "there is no JSON");
		return req->body_err == ERR_OK ? ERR_PROTO : req->body_err;
	}
	if (req->parsed == NULL)
		err = json_parse(req->body, strlen(req->body), &req->parsed,
		    diag);
	*ret = req->parsed;
	return err;
}

enum err
request_body(struct request *req, const char *const types[], size_t max_bytes,
    const char **ret_data, size_t *ret_len, const char **ret_type,
    struct diag *diag)
{
	size_t len = strcspn(req->type, ";");

	req->max_bytes = max_bytes;
	for (size_t i = 0; types[i] != NULL; i++)
		if (strlen(types[i]) == len &&
		    strncasecmp(types[i], req->type, len) == 0) {
			*ret_data = req->body;
			*ret_len = strlen(req->body);
			*ret_type = req->type;
			return ERR_OK;
		}
	diag_set(diag, "another type");
	return ERR_TYPE;
}

void
request_set_error_form(struct request *req, request_error_form *form)
{
	req->error_form = form;
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
request_reply(struct request *req, int status, const char *type,
    const void *body, size_t len)
{
	req->answers++;
	req->status = status;
	(void)snprintf(req->text_type, sizeof(req->text_type), "%s", type);
	(void)snprintf(req->text, sizeof(req->text), "%.*s", (int)len,
	    (const char *)body);
}

void
request_reply_empty(struct request *req, int status)
{
	req->answers++;
	req->status = status;
}

void
request_reply_error(struct request *req, enum err err, const char *message)
{
	req->answers++;
	req->err = err;
	req->status = err_http_status(err);
	(void)snprintf(req->message, sizeof(req->message), "%s",
	    message == NULL ? "" : message);
	if (req->error_form != NULL)
		req->reply = req->error_form(err_code(err),
		    message == NULL ? err_text(err) : message);
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

void
request_double_done(struct request *req)
{
	json_decref(req->parsed);
	json_decref(req->reply);
}
