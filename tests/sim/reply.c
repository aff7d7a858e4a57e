/* SPDX-License-Identifier: MIT */
#include "reply.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/xalloc.h"

struct reply *
reply_new(int status, const char *type, char *text, size_t len)
{
	struct reply *reply = xcalloc(1, sizeof(*reply));

	reply->status = status;
	reply->type = type;
	reply->text = text;
	reply->len = len;
	return reply;
}

struct reply *
reply_json(int status, json_t *value)
{
	size_t len = 0;
	char *text = json_text(value, &len);

	json_decref(value);
	return reply_new(status, "application/json", text, len);
}

struct reply *
reply_text(int status, const char *type, const char *text)
{
	return reply_new(status, type, xstrdup(text), strlen(text));
}

void
reply_free(struct reply *reply)
{
	if (reply == NULL)
		return;
	free(reply->text);
	free(reply->location);
	free(reply->retry_after);
	chat_free(reply->chat);
	free(reply);
}

struct reply *
reply_error(enum vendor vendor, int status, const char *code,
    const char *message)
{
	if (vendor == VENDOR_ANAM)
		return reply_json(status,
		    json_pack("{s:s, s:s}", "error", code, "message", message));
	return reply_json(status,
	    json_pack("{s:{s:s, s:s, s:n, s:s?}}", "error", "message", message,
		"type",
		status >= 500 ? "server_error" : "invalid_request_error",
		"param", "code", code));
}
