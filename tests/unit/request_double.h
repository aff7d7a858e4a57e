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
	const char *path, *remote_user;
	const char *authorization, *cookie, *anon_id; /* headers */
	const char *origin, *host, *fetch_site;
	struct {
		const char *name, *value;
	} query[4];
	const char *body;  /* JSON; NULL: there is none */
	enum err body_err; /* what is said of none; ERR_OK: ERR_PROTO */
	const struct config *config;
	/* the answer */
	unsigned answers;
	int status;
	json_t *reply;
	enum err err;	    /* of an error */
	char message[320];  /* "CODE: message" where the status was given */
	char headers[1024]; /* "Name: value\n", as they were added */
	json_t *parsed;	    /* private */
};

/* Free what it has. */
void request_double_done(struct request *req);

#endif
