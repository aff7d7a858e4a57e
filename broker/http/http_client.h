/* SPDX-License-Identifier: MIT */
#ifndef BROKER_HTTP_CLIENT_H
#define BROKER_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/secret.h"

/*
 * http_client: one HTTP request to a vendor and its answer, with libcurl.
 *
 * Only http and https, as the URL says; redirects are not followed; proxies
 * of the environment are not used; TLS 1.2 or later, verified.  The answer is
 * bounded in bytes and in time.  Thread-safe: a call has a connection of its
 * own.
 */
struct http_client_header {
	const char *name;
	const char *value;	     /* or, with a secret, what precedes it */
	const struct secret *secret; /* may be NULL */
};

struct http_client_request {
	const char *method; /* "GET", "POST" */
	const char *url;    /* ours, never a client's */
	const struct http_client_header *headers;
	size_t header_count;
	const void *body; /* NULL: none */
	size_t body_len;
	const char *ca_file; /* trust this alone; NULL: the system's store */
	bool allow_private;  /* the host may have a private address */
	int64_t deadline_ms; /* clock_ms() by which it has to be over */
	size_t max_bytes;    /* of the answer's body */
};

struct http_client_answer {
	int status;
	char *content_type; /* "" where there is none */
	char *location;	    /* NULL where there is none */
	char *retry_after;  /* NULL where there is none */
	char *body;	    /* NUL-terminated */
	size_t body_len;
};

/*
 * ERR_UPSTREAM: no connection, no TLS, no HTTP; ERR_UPSTREAM_TIMEOUT;
 * ERR_LIMIT: the answer is too large.  diag says why, without secrets or
 * content.  Any status is ERR_OK.  Free what it filled with
 * http_client_answer_done().
 */
enum err http_client_send(const struct http_client_request *request,
    struct http_client_answer *ret, struct diag *diag) MUST_CHECK;

/* Clear and free. */
void http_client_answer_done(struct http_client_answer *answer);

/* ---- an answer that comes piece by piece ------------------------------- */

/*
 * A request whose answer is handed on as it comes, in the hub's thread
 * (broker/hub/hub.h), without a thread of its own.  HTTP/1.1; connections to
 * the same host are used again.  max_bytes bounds all of the answer.
 */
struct http_stream;

struct http_stream_events {
	/* First, once.  content_type "" and retry_after NULL: absent. */
	void (*head)(void *arg, int status, const char *content_type,
	    const char *retry_after);
	void (*data)(void *arg, const void *data, size_t len);
	/*
	 * Last, once: ERR_OK where the answer has come to its end as HTTP
	 * says, else as of http_client_send().  The stream is still to be
	 * freed.
	 */
	void (*ended)(void *arg, enum err err, const struct diag *diag);
};

/*
 * Begin; no event comes in this call.  Everything of the request and the events
 * is copied.  The hub's thread alone.
 */
struct http_stream *http_stream_start(const struct http_client_request *request,
    const struct http_stream_events *events, void *arg);

/*
 * End it at once, its connection too where the answer is not over.  Allowed
 * in its events; NULL is allowed.
 */
void http_stream_free(struct http_stream *stream);

/*
 * Close the connections that wait to be used again; all streams have been
 * freed. In the hub's thread before it stops: hub_call(http_stream_done, NULL).
 */
void http_stream_done(void *unused);

/* Once, before threads start, and at the end. */
enum err http_client_init(struct diag *diag) MUST_CHECK;
void http_client_done(void);

#endif
