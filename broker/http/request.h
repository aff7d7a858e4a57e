/* SPDX-License-Identifier: MIT */
#ifndef BROKER_REQUEST_H
#define BROKER_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "common/err.h"

/*
 * request: one HTTP request and its answer, over FastCGI or plain CGI.
 *
 * Handlers see this interface alone and cannot tell the two apart.  A handler
 * answers exactly once, or has the request parked (broker/http/parked.h); what
 * it does neither to is answered 500.  All memory of a request ends with it.
 */
struct request;

/*
 * A request header by its HTTP name, as "origin"; NULL where it is absent.
 * Borrowed.  "proxy" (httpoxy) is never there.
 */
const char *request_header(const struct request *req, const char *name);

const char *request_method(const struct request *req);

/*
 * Path of REQUEST_URI without the query and without `base_path': begins with
 * "/", has no control character, no "//", no dot segment, no escape.
 */
const char *request_path(const struct request *req);

/* REMOTE_ADDR: the client's numeric address; never a header's word. */
const char *request_client(const struct request *req);

/*
 * REMOTE_USER: whom the web server has authenticated; NULL: nobody.  Never a
 * header's word.
 */
const char *request_remote_user(const struct request *req);

/* "https" or "http": how the client speaks with the web server. */
const char *request_scheme(const struct request *req);

/*
 * A parameter of the query, decoded as broker/tunnels/target.h says; *ret is
 * NULL where it is not given.  ERR_PROTO where the query is malformed.
 * Borrowed.
 */
enum err request_query(struct request *req, const char *name, const char **ret,
    struct diag *diag) MUST_CHECK;

/* The configuration this request began with. */
const struct config *request_config(const struct request *req);

/*
 * Read the body as a JSON object: application/json (else ERR_TYPE), a valid
 * CONTENT_LENGTH of at most `body_bytes' (ERR_PROTO, ERR_LIMIT), read within
 * the time limit (ERR_TIMEOUT), an object (ERR_PROTO).  An absent or empty
 * body is ERR_PROTO.  Belongs to the request.
 */
enum err request_json(struct request *req, const json_t **ret,
    struct diag *diag) MUST_CHECK;

/* Whether there is a body, by its length; one that is none is one, too. */
bool request_has_body(const struct request *req);

/*
 * Read the body as it is: of one of these media types (a list that ends with
 * NULL; ERR_TYPE), and of 1 to max_bytes (ERR_PROTO, ERR_LIMIT), as
 * request_json() otherwise.  What it finds belongs to the request, is cleared
 * with it, and ends with a NUL; *ret_type is the whole Content-Type.
 */
enum err request_body(struct request *req, const char *const types[],
    size_t max_bytes, const char **ret_data, size_t *ret_len,
    const char **ret_type, struct diag *diag) MUST_CHECK;

/* Add a header to the answer; a value with CR, LF or NUL is dropped. */
void request_add_header(struct request *req, const char *name,
    const char *value);

/* Answer with JSON; takes ownership of body. */
void request_reply_json(struct request *req, int status, json_t *body);

/* Answer with a copy of len bytes of another type. */
void request_reply(struct request *req, int status, const char *content_type,
    const void *body, size_t len);

/*
 * What the body of an error is for this request's clients, from a code of ours
 * (or of a handler's) and a message, both UTF-8.  The default is http_error().
 */
typedef json_t *request_error_form(const char *code, const char *message);
void request_set_error_form(struct request *req, request_error_form *form);

/* Answer {"error":{"code","message"}} with the code's own status. */
void request_reply_error(struct request *req, enum err err,
    const char *message);

/* The same with a status and a code of the caller's. */
void request_reply_status(struct request *req, int status, const char *code,
    const char *message);

/* Answer without a body: 204, 304. */
void request_reply_empty(struct request *req, int status);

typedef void request_handler(struct request *req);

/* ---- for broker/http/parked.c ---- */

/* What is left of a request that is answered elsewhere. */
struct request_left {
	int fd;	      /* the web server's connection; its input is at the end */
	uint16_t id;  /* FastCGI's */
	bool is_head; /* the method is HEAD */
	char *headers; /* that have been added, see answer_add_header() */
	char *words;   /* for answer_log() */
	int64_t started_ms;
	request_error_form *error_form; /* NULL: ours */
};

/*
 * Take the connection out of a request that has not been answered and will not
 * be by its handler, which returns.  All in *ret is the caller's.  ERR_UNAVAIL
 * in plain CGI: then it has to be answered.
 */
enum err request_leave(struct request *req, struct request_left *ret,
    struct diag *diag) MUST_CHECK;

/* The body of an error; the caller decrefs it. */
json_t *request_error_body(request_error_form *form, const char *code,
    const char *message);

/* ---- for broker/http/fcgi.c and cgi.c ---- */

/* How a request is read and answered. */
struct request_io {
	/* ERR_OK and *ret_len, 0 at the end of input; ERR_TIMEOUT. */
	enum err (*read)(void *arg, int64_t deadline_ms, char *buf, size_t size,
	    size_t *ret_len);
	/* Write all; ERR_TIMEOUT, ERR_SYS where the client is gone. */
	enum err (*write)(void *arg, int64_t deadline_ms, const char *data,
	    size_t len);
	/* End the answer; errors as of write. */
	enum err (*end)(void *arg);
	/* Give the connection away; NULL: there is none. */
	int (*leave)(void *arg, uint16_t *ret_id);
};

struct request_source {
	const struct request_io *io;
	void *io_arg;
	char *const *envp;
	const struct config *config;
	int64_t started_ms;
};

/* Check one request, have it handled, and answer it. */
void request_run(const struct request_source *source, request_handler *handler);

#endif
