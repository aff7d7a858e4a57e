/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_REQUEST_DOUBLE_H
#define TESTS_UNIT_REQUEST_DOUBLE_H

#include <jansson.h>

#include "broker/http/request.h"

/*
 * request_double: in place of broker/http/request.c, for tests of handlers:
 * what a request asks is written into it, what is answered is read from it.
 */
struct request {
	/* NULL: POST, of 192.0.2.1, over https */
	const char *method, *client, *scheme;
	bool no_client; /* it has no address */
	const char *path, *remote_user;
	const char *authorization, *cookie, *anon_id; /* headers */
	const char *origin, *host, *fetch_site, *protocol;
	const char *cors_headers; /* access-control-request-headers */
	struct {
		const char *name, *value;
	} query[4];
	enum err query_err; /* what is said of it */
	const char *body;   /* NULL: there is none */
	const char *type;   /* of the body; request_json() asks for none */
	enum err body_err;  /* what is said of none; ERR_OK: ERR_PROTO */
	size_t max_bytes;   /* that it might have, as it was asked for */
	const struct config *config;
	request_error_form *error_form; /* NULL: no reply is made of an error */
	/* the answer */
	unsigned answers;
	int status;
	json_t *reply;
	char text[4096], text_type[64]; /* of a reply that is no JSON */
	enum err err;			/* of an error */
	char message[320];  /* "CODE: message" where the status was given */
	char headers[4096]; /* "Name: value\n", as they were added */
	json_t *parsed;	    /* private */
};

/* Free what it has. */
void request_double_done(struct request *req);

#endif
