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
 * The only user of libfcgi.  Handlers see this interface alone and cannot
 * tell the two apart.  A handler answers exactly once; what it never answers
 * is answered 500.  All memory of a request ends with it.
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

/* ---- for main.c and route.c ---- */

typedef void request_handler(struct request *req);

/*
 * Serve FastCGI on a listening descriptor with `threads' threads until
 * request_stop() (safe in a signal handler), then let running requests finish
 * for `stop_ms'.  Every request goes to handler.
 */
enum err request_serve_fcgi(int listen_fd, request_handler *handler,
    struct diag *diag) MUST_CHECK;
void request_stop(void);

/* Whether this process was started as a CGI program (RFC 3875). */
bool request_is_cgi(void);

/* Serve the one request of the environment and standard input. */
enum err request_serve_cgi(request_handler *handler,
    struct diag *diag) MUST_CHECK;

#endif
