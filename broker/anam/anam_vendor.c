/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_vendor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/http_client.h"
#include "common/clock.h"
#include "common/http.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define ANSWER_MAX_BYTES (256 * 1024)
#define TOKEN_MAX_BYTES	 8192

/* ---- refusals ----------------------------------------------------------- */

static void
set(struct anam_refusal *refusal, int status, const char *message)
{
	*refusal = (struct anam_refusal){
		.status = status,
		.error = http_phrase(status),
		.message = message,
	};
}

void
anam_refusal_of(enum err err, struct anam_refusal *ret)
{
	set(ret, err_http_status(err), err_text(err));
}

/* The SDKs tell limits of the account apart by these words. */
static void
set_limit(struct anam_refusal *refusal, const char *body, size_t len)
{
	static const char *const literals[] = {
		"Concurrent session limit reached",
		"Spend cap reached",
	};
	const char *error = "";
	json_t *object = NULL;

	set(refusal, 429, "a limit of the vendor's is reached");
	refusal->error = "Usage limit reached";
	if (json_parse(body, len, &object, NULL) != ERR_OK)
		return;
	if (json_is_object(object) &&
	    json_get_string(object, "error", 256, &error) == ERR_OK)
		for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]);
		     i++)
			if (strcmp(error, literals[i]) == 0)
				refusal->error = literals[i];
	json_decref(object);
}

enum err
anam_refusal_read(int status, const char *body, size_t len,
    const char *retry_after, struct anam_refusal *ret, struct diag *diag)
{
	enum err err = ERR_UPSTREAM;

	if (status == 429) {
		set_limit(ret, body, len);
		err = ERR_RATE;
	} else if (status == 402) {
		set(ret, 402, "the vendor's account has no plan");
	} else if (status == 503) {
		set(ret, 503, "no persona is available now");
		err = ERR_UNAVAIL;
	} else if (status == 400 || status == 404 || status == 422) {
		set(ret, 400, "the vendor does not take this request");
		err = ERR_PROTO;
	} else {
		set(ret, 502, err_text(ERR_UPSTREAM));
		ret->ours = status == 401 || status == 403;
	}
	if (retry_after != NULL)
		ret->retry_after_s =
		    http_retry_after_s(retry_after, strlen(retry_after));
	diag_set(diag, "the vendor answered %d", status);
	return err;
}

/* ---- calls --------------------------------------------------------------- */

struct call {
	const struct config_anam *anam;
	const char *path;
	const struct secret *secret; /* of Authorization; NULL: none */
	const char *body;
	size_t body_len;
	int64_t deadline_ms;
};

static enum err
send_to(const struct call *call, const char *url,
    struct http_client_answer *ret, struct diag *diag)
{
	const struct http_client_header headers[] = {
		{ "Content-Type", "application/json", NULL },
		{ "Accept", "application/json", NULL },
		{ "Authorization", "Bearer ", call->secret },
	};
	const struct http_client_request request = {
		.method = "POST",
		.url = url,
		.headers = headers,
		.header_count = call->secret == NULL ? 2 : 3,
		.body = call->body,
		.body_len = call->body_len,
		.ca_file = call->anam->ca_file,
		.allow_private = call->anam->allow_private,
		.deadline_ms = call->deadline_ms,
		.max_bytes = ANSWER_MAX_BYTES,
	};
	enum err err = http_client_send(&request, ret, diag);

	return err == ERR_LIMIT ? ERR_UPSTREAM : err;
}

/* The object that an answer is. */
static enum err
read_answer(const struct http_client_answer *answer, json_t **ret,
    struct anam_refusal *refusal, struct diag *diag)
{
	struct diag why = { "" };
	json_t *value;

	if (answer->status != 200 && answer->status != 201)
		return anam_refusal_read(answer->status, answer->body,
		    answer->body_len, answer->retry_after, refusal, diag);
	anam_refusal_of(ERR_UPSTREAM, refusal);
	if (json_parse(answer->body, answer->body_len, &value, &why) !=
	    ERR_OK) {
		diag_set(diag, "the vendor's answer is not JSON: %.150s",
		    why.text);
		return ERR_UPSTREAM;
	}
	if (!json_is_object(value)) {
		diag_set(diag, "the vendor's answer is not a JSON object");
		json_decref(value);
		return ERR_UPSTREAM;
	}
	*ret = value;
	return ERR_OK;
}

/*
 * One call of the API.  *ret is the caller's; *ret_status is 0 where there was
 * no answer.
 */
static enum err
call_api(const struct call *call, json_t **ret, int *ret_status,
    struct anam_refusal *refusal, struct diag *diag)
{
	struct http_client_answer answer;
	char *url = xasprintf("%s%s", call->anam->url, call->path);
	enum err err = send_to(call, url, &answer, diag);

	free(url);
	*ret_status = 0;
	if (err != ERR_OK) {
		anam_refusal_of(err, refusal);
		return err;
	}
	*ret_status = answer.status;
	err = read_answer(&answer, ret, refusal, diag);
	http_client_answer_done(&answer);
	return err;
}

/* Worth a second call: the first was not answered, or only by a failure. */
static bool
may_retry(enum err err, int status, int64_t deadline_ms)
{
	return err == ERR_UPSTREAM && (status == 0 || status >= 500) &&
	    clock_ms() < deadline_ms;
}

static enum err
get_token(const struct config_anam *anam, const json_t *persona,
    int64_t deadline_ms, struct secret **ret, struct anam_refusal *refusal,
    struct diag *diag)
{
	json_t *body = json_pack("{s:O}", "personaConfig", persona), *answer;
	struct call call = { .anam = anam,
		.path = "/v1/auth/session-token",
		.secret = anam->api_key,
		.deadline_ms = deadline_ms };
	char *text = json_text(body, &call.body_len);
	const char *token;
	int status;
	enum err err;

	json_decref(body);
	call.body = text;
	err = call_api(&call, &answer, &status, refusal, diag);
	if (may_retry(err, status, deadline_ms))
		err = call_api(&call, &answer, &status, refusal, diag);
	explicit_bzero(text, call.body_len);
	free(text);
	if (err != ERR_OK)
		return err;
	if (json_get_string(answer, "sessionToken", TOKEN_MAX_BYTES, &token) !=
		ERR_OK ||
	    *token == '\0' || !str_is_field_value(token, strlen(token))) {
		diag_set(diag, "the vendor's answer has no sessionToken");
		err = ERR_UPSTREAM;
		anam_refusal_of(err, refusal);
	} else {
		*ret = secret_new(token, strlen(token), "the vendor");
	}
	json_decref(answer);
	return err;
}

enum err
anam_vendor_start(const struct config_anam *anam, const json_t *persona,
    const json_t *session, int64_t deadline_ms, json_t **ret,
    struct anam_refusal *refusal, struct diag *diag)
{
	struct call call = { .anam = anam,
		.path = "/v1/engine/session",
		.deadline_ms = deadline_ms };
	struct secret *token;
	char *text;
	int status;
	enum err err =
	    get_token(anam, persona, deadline_ms, &token, refusal, diag);

	if (err != ERR_OK)
		return err;
	text = json_text(session, &call.body_len);
	call.body = text;
	call.secret = token;
	err = call_api(&call, ret, &status, refusal, diag);
	free(text);
	secret_free(token);
	return err;
}

enum err
anam_vendor_talk(const struct config_anam *anam, const char *url,
    const char *session_id, const char *body, size_t len, int64_t deadline_ms,
    struct anam_refusal *refusal, struct diag *diag)
{
	const struct call call = { .anam = anam,
		.body = body,
		.body_len = len,
		.deadline_ms = deadline_ms };
	char *whole = xasprintf("%s?session_id=%s", url, session_id);
	struct http_client_answer answer;
	enum err err = send_to(&call, whole, &answer, diag);

	explicit_bzero(whole, strlen(whole));
	free(whole);
	if (err != ERR_OK) {
		anam_refusal_of(err, refusal);
		return err;
	}
	if (answer.status < 200 || answer.status > 299)
		err = anam_refusal_read(answer.status, answer.body,
		    answer.body_len, answer.retry_after, refusal, diag);
	/* no key was sent: it is the session that is refused */
	if (answer.status == 401 || answer.status == 403 ||
	    answer.status == 404 || answer.status == 410) {
		set(refusal, 404, "the session is over");
		err = ERR_NOTFOUND;
	}
	http_client_answer_done(&answer);
	return err;
}
