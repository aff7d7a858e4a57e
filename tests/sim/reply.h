/* SPDX-License-Identifier: MIT */
#ifndef SIM_REPLY_H
#define SIM_REPLY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "chat.h"

/* reply: the answer to an HTTP request, before it is sent.  Pure. */
struct reply {
	int status;
	const char *type; /* Content-Type; static, or the chat's */
	char *text;
	size_t len;
	char *location; /* headers of these names, or NULL */
	char *retry_after;
	struct chat *chat; /* an answer in pieces, instead of the text */
	int delay_ms;	   /* before it is sent */
	bool drop;	   /* hang up instead */
};

/* The text, or the value, is taken over.  The caller frees the reply. */
struct reply *reply_new(int status, const char *type, char *text, size_t len);
struct reply *reply_json(int status, json_t *value);
/* A static text. */
struct reply *reply_text(int status, const char *type, const char *text);
void reply_free(struct reply *reply);

/* As whom an error speaks. */
enum vendor {
	VENDOR_OPENAI, /* {"error":{"message","type","param","code"}} */
	VENDOR_ANAM,   /* {"error","message"} */
};

/* Where OpenAI has a code, Anam has its literal of an error. */
struct reply *reply_error(enum vendor vendor, int status, const char *code,
    const char *message);

#endif
