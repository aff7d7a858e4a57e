/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_refuse.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/str.h"

#define RETRY_AFTER_S "5"

json_t *
anam_error(const char *code, const char *message)
{
	return json_made(
	    json_pack("{s:s, s:s}", "error", code, "message", message));
}

const char *
anam_escape(const char *text, char *out, size_t size)
{
	return str_escape(out, size, text == NULL ? "-" : text,
	    text == NULL ? 1 : strlen(text));
}

void
anam_refuse(struct request *req, enum err err, const struct diag *diag)
{
	static struct log_limit denied = LOG_LIMIT_A_MINUTE;
	char client[64];

	if (err == ERR_RATE)
		request_add_header(req, "Retry-After", RETRY_AFTER_S);
	if (err_http_status(err) >= 500) {
		log_error("anam.failed", "client=%s reason=\"%s\"",
		    anam_escape(request_client(req), client, sizeof(client)),
		    diag->text);
		request_reply_error(req, err, NULL);
		return;
	}
	if (err == ERR_DENIED || err == ERR_UNAUTH || err == ERR_RATE)
		log_limited(&denied, LOG_LEVEL_NOTICE, "anam.denied",
		    "client=%s reason=\"%s\"",
		    anam_escape(request_client(req), client, sizeof(client)),
		    diag->text);
	if (err == ERR_RATE)
		request_reply_status(req, 429,
		    "Concurrent session limit reached",
		    "no more sessions are started now");
	else
		request_reply_error(req, err, diag->text);
}

void
anam_refuse_as(struct request *req, const struct anam_refusal *refusal,
    const char *of_persona, const struct diag *diag)
{
	char client[64], persona[160], seconds[24];

	anam_escape(request_client(req), client, sizeof(client));
	anam_escape(of_persona, persona, sizeof(persona));
	if (refusal->ours)
		log_error("anam.key_refused", "client=%s reason=\"%s\"", client,
		    diag->text);
	else if (refusal->status >= 500)
		log_error("anam.failed", "client=%s persona=%s reason=\"%s\"",
		    client, persona, diag->text);
	else
		log_notice("anam.refused",
		    "client=%s persona=%s status=%d reason=\"%s\"", client,
		    persona, refusal->status, diag->text);
	if (refusal->retry_after_s > 0) {
		(void)snprintf(seconds, sizeof(seconds), "%" PRId64,
		    refusal->retry_after_s);
		request_add_header(req, "Retry-After", seconds);
	} else if (refusal->status == 429) {
		request_add_header(req, "Retry-After", RETRY_AFTER_S);
	}
	request_reply_status(req, refusal->status, refusal->error,
	    refusal->message);
}
