/* SPDX-License-Identifier: MIT */
#include "request_double.h"

#include <stdio.h>
#include <string.h>

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
	return req->client == NULL ? "192.0.2.1" : req->client;
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
	(void)diag;
	*ret = NULL;
	for (size_t i = 0; i < COUNT(req->query); i++)
		if (req->query[i].name != NULL &&
		    strcmp(req->query[i].name, name) == 0)
			*ret = req->query[i].value;
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
	req->err = err;
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

void
request_double_done(struct request *req)
{
	json_decref(req->parsed);
	json_decref(req->reply);
}
