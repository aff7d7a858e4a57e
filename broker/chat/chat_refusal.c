/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_refusal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/chat/sse_text.h"
#include "common/http.h"
#include "common/json.h"

#define SECONDS_LEN 24

bool
chat_refusal_as_events(const struct request *req)
{
	const char *accept = request_header(req, "accept");

	return accept == NULL || strcasestr(accept, "application/json") == NULL;
}

struct answer {
	const char *content_type;
	struct sse_text text;
};

static struct answer
answer_of(const struct chat_refusal *refusal)
{
	static const struct sse_id none = { .stream = NULL };
	const char *code =
	    refusal->code == NULL ? err_code(refusal->err) : refusal->code;
	const char *message = refusal->why.text[0] == '\0'
	    ? err_text(refusal->err)
	    : refusal->why.text;
	struct answer answer = { .content_type = SSE_TEXT_TYPE };
	json_t *body;

	if (refusal->as_events) {
		body = json_made(
		    json_pack("{s:s, s:s}", "code", code, "error", message));
		if (refusal->retry_after_s > 0)
			json_object_set_new(body, "retry_after",
			    json_integer(refusal->retry_after_s));
		sse_text_add(&answer.text, none, "assistant_error", body);
	} else {
		body = http_error(code, message);
		answer.content_type = "application/json";
		answer.text.data = json_text(body, &answer.text.len);
		answer.text.size = answer.text.len;
		json_decref(body);
	}
	return answer;
}

static const char *
seconds(const struct chat_refusal *refusal, char out[SECONDS_LEN])
{
	(void)snprintf(out, SECONDS_LEN, "%" PRId64, refusal->retry_after_s);
	return out;
}

void
chat_refusal_reply(struct request *req, const struct chat_refusal *refusal)
{
	struct answer answer = answer_of(refusal);
	char text[SECONDS_LEN];

	if (refusal->retry_after_s > 0)
		request_add_header(req, "Retry-After", seconds(refusal, text));
	request_reply(req, err_http_status(refusal->err), answer.content_type,
	    answer.text.data, answer.text.len);
	sse_text_done(&answer.text);
}

void
chat_refusal_reply_limited(struct request *req, const struct diag *diag,
    int64_t retry_after_s)
{
	const struct chat_refusal refusal = {
		.err = ERR_RATE,
		.why = *diag,
		.retry_after_s = retry_after_s,
		.as_events = chat_refusal_as_events(req),
	};

	chat_refusal_reply(req, &refusal);
}

void
chat_refusal_reply_parked(struct parked *parked,
    const struct chat_refusal *refusal)
{
	struct answer answer = answer_of(refusal);
	char text[SECONDS_LEN];

	parked_begin(parked, NULL, NULL);
	if (refusal->retry_after_s > 0)
		parked_add_header(parked, "Retry-After",
		    seconds(refusal, text));
	parked_reply(parked, err_http_status(refusal->err), answer.content_type,
	    answer.text.data, answer.text.len);
	sse_text_done(&answer.text);
}
