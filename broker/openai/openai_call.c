/* SPDX-License-Identifier: MIT */
#include "broker/openai/openai_call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/http/flight.h"
#include "broker/http/http_client.h"
#include "broker/http/multipart.h"
#include "broker/openai/calls.h"
#include "broker/openai/openai_ask.h"
#include "broker/openai/session_rules.h"
#include "broker/tickets/ticket.h"
#include "common/clock.h"
#include "common/http.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

#define ANSWER_MAX_BYTES (64 * 1024)
#define CALL_ID_MAX	 128
#define RETRY_S		 5 /* where the vendor does not say */
#define PLACE_RETRY_S	 "5"
#define HANGUP_WAIT_MS	 5000 /* for another one of this call */
#define CALLS_PATH	 "/v1/realtime/calls"
#define SDP_TYPE	 "application/sdp"
#define FORM_TYPE	 "multipart/form-data"

/* What a call is made of. */
struct call {
	const struct config_relay *relay;
	struct identity who;
	const char *sdp; /* the offer; the request's */
	size_t sdp_len;
	json_t *asked; /* the form's `session'; NULL: none */
	const char *model;
	json_t *session; /* what the vendor gets */
};

static void
call_done(struct call *call)
{
	identity_done(&call->who);
	json_decref(call->asked);
	json_decref(call->session);
}

/* ---- the request ---- */

/* SDP begins so (RFC 8866 5.1); nothing else is sent on as such. */
static bool
is_sdp(const char *data, size_t len)
{
	static const char start[] = "v=0";

	return len > sizeof(start) &&
	    memcmp(data, start, sizeof(start) - 1) == 0 &&
	    (data[3] == '\r' || data[3] == '\n') && str_is_utf8(data, len) &&
	    memchr(data, '\0', len) == NULL;
}

static enum err
take_form(struct call *call, const char *type, const char *body, size_t len,
    struct diag *diag)
{
	const struct multipart_part *sdp, *session;
	struct multipart form;
	enum err err = multipart_parse(type, body, len, &form, diag);

	if (err != ERR_OK)
		return err;
	sdp = multipart_find(&form, "sdp");
	session = multipart_find(&form, "session");
	if (sdp == NULL || form.count != (session == NULL ? 1 : 2)) {
		diag_set(diag, "the form has the parts sdp and session");
		return ERR_PROTO;
	}
	call->sdp = sdp->data;
	call->sdp_len = sdp->len;
	if (session == NULL)
		return ERR_OK;
	return json_parse(session->data, session->len, &call->asked, diag);
}

static enum err
take_body(struct request *req, struct call *call, struct diag *diag)
{
	static const char *const types[] = { SDP_TYPE, FORM_TYPE, NULL };
	const char *type;
	enum err err =
	    request_body(req, types, request_config(req)->requests.body_bytes,
		&call->sdp, &call->sdp_len, &type, diag);

	if (err == ERR_OK &&
	    strncasecmp(type, FORM_TYPE, strlen(FORM_TYPE)) == 0)
		err = take_form(call, type, call->sdp, call->sdp_len, diag);
	if (err == ERR_OK && !is_sdp(call->sdp, call->sdp_len)) {
		diag_set(diag, "the offer is no SDP");
		err = ERR_PROTO;
	}
	return err;
}

static enum err
check_ticket(const struct call *call, struct diag *diag)
{
	if (!call->relay->require_ticket || call->who.ticket.id != NULL)
		return ERR_OK;
	diag_set(diag, "a ticket is needed here");
	return ERR_UNAUTH;
}

static bool
is_realtime(const json_t *session)
{
	const char *type = json_string_value(json_object_get(session, "type"));

	return type != NULL && strcmp(type, "realtime") == 0;
}

/* The site's session over the ticket's over the client's; false: answered. */
static bool
make_session(struct request *req, struct call *call)
{
	const struct store_ticket *ticket = &call->who.ticket;
	struct openai_session asked;
	struct diag diag = { "the session is too large" };
	enum err err;

	if (!openai_ask_session(req, call->relay, call->asked,
		ticket->model != NULL ? ticket->model : call->model, &asked))
		return false;
	err = session_rules_merge(call->relay, ticket->session, asked.members,
	    &call->session);
	if (err == ERR_OK && call->session == NULL)
		call->session = json_pack("{s:s}", "type", "realtime");
	if (err == ERR_OK && asked.served != NULL && is_realtime(call->session))
		(void)json_object_set_new(call->session, "model",
		    json_string(asked.served));
	openai_session_done(&asked);
	if (err != ERR_OK)
		openai_ask_refuse(req, call->relay, err, &diag);
	return err == ERR_OK;
}

/* ---- to the vendor ---- */

static char *
format_url(const struct config_url *url)
{
	return xasprintf("%s://%s%s/calls%s%s", url->tls ? "https" : "http",
	    url->authority, url->path, url->query == NULL ? "" : "?",
	    url->query == NULL ? "" : url->query);
}

static enum err
send_call(const struct call *call, struct http_client_answer *ret,
    struct diag *diag)
{
	const struct config_relay *relay = call->relay;
	struct http_client_header *headers =
	    xcalloc(relay->header_count + 1, sizeof(*headers));
	size_t session_len;
	char *session = json_text(call->session, &session_len);
	const struct multipart_field fields[] = {
		{ "sdp", SDP_TYPE, call->sdp, call->sdp_len },
		{ "session", "application/json", session, session_len },
	};
	char *url = format_url(&relay->upstream), *type, *body;
	struct http_client_request request = {
		.method = "POST",
		.url = url,
		.headers = headers,
		.header_count = relay->header_count + 1,
		.ca_file = relay->ca_file,
		/* an address that stands in the configuration is meant */
		.allow_private = relay->allow_private ||
		    str_is_address(relay->upstream.host),
		.deadline_ms = clock_ms() + relay->limits.connect_ms,
		.max_bytes = ANSWER_MAX_BYTES,
	};
	enum err err;

	multipart_format(fields, 2, &type, &body, &request.body_len);
	request.body = body;
	for (size_t i = 0; i < relay->header_count; i++)
		headers[i] = (struct http_client_header){
			relay->headers[i].name,
			relay->headers[i].prefix,
			relay->headers[i].secret,
		};
	headers[relay->header_count] =
	    (struct http_client_header){ "Content-Type", type, NULL };
	err = http_client_send(&request, ret, diag);
	explicit_bzero(session, session_len);
	free(session);
	explicit_bzero(body, request.body_len);
	free(body);
	free(type);
	free(url);
	free(headers);
	return err;
}

/* ---- the answer ---- */

/* The id of the call: what the vendor's Location ends in. */
static bool
find_id(const char *location, char out[CALL_ID_MAX + 1])
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz"
				      "0123456789_-";
	const char *last = location == NULL ? NULL : strrchr(location, '/');
	size_t len;

	if (last == NULL)
		return false;
	len = strspn(++last, letters);
	if (len == 0 || len > CALL_ID_MAX || last[len] != '\0')
		return false;
	memcpy(out, last, len + 1);
	return true;
}

static void
reply_sdp(struct request *req, const struct call *call,
    const struct http_client_answer *answer, const char *id)
{
	const char *user = call->who.user;
	char client[64], word[2 * TICKET_USER_MAX];
	char *location;

	if (id != NULL) {
		location = xasprintf("%s" CALLS_PATH "/%s",
		    request_config(req)->requests.base_path, id);
		request_add_header(req, "Location", location);
		request_add_header(req, "Access-Control-Expose-Headers",
		    "Location");
		free(location);
	}
	if (user == NULL)
		user = "-";
	log_info("openai.call", "client=%s route=%s call=%s user=%s",
	    openai_ask_client(req, client, sizeof(client)), call->relay->name,
	    id == NULL ? "-" : id,
	    str_escape(word, sizeof(word), user, strlen(user)));
	request_reply(req, 201, SDP_TYPE, answer->body, answer->body_len);
}

/* A refusal is ours to explain: the vendor's words are about our account. */
static enum err
map_status(struct request *req, const struct http_client_answer *answer,
    struct diag *diag)
{
	const char *text = answer->retry_after;
	int64_t retry_s = 0;
	char retry[24];

	diag_set(diag, "the vendor answered a call with %d", answer->status);
	if (answer->status == 429) {
		if (text != NULL)
			retry_s = http_retry_after_s(text, strlen(text));
		(void)snprintf(retry, sizeof(retry), "%" PRId64,
		    retry_s > 0 ? retry_s : RETRY_S);
		request_add_header(req, "Retry-After", retry);
		diag_set(diag, "the vendor is busy");
		return ERR_RATE;
	}
	if (answer->status == 400 || answer->status == 422) {
		diag_set(diag, "the vendor does not take this offer");
		return ERR_PROTO;
	}
	return ERR_UPSTREAM;
}

static bool
is_made(const struct http_client_answer *answer)
{
	return (answer->status == 200 || answer->status == 201) &&
	    is_sdp(answer->body, answer->body_len);
}

static void
reply(struct request *req, const struct call *call,
    const struct http_client_answer *answer, const char *id)
{
	struct diag diag = { "the vendor's answer to a call is no SDP" };

	if (answer->status != 200 && answer->status != 201)
		openai_ask_refuse(req, call->relay,
		    map_status(req, answer, &diag), &diag);
	else if (!is_made(answer))
		openai_ask_refuse(req, call->relay, ERR_UPSTREAM, &diag);
	else
		reply_sdp(req, call, answer, id);
}

/* Among the tunnels of whoever calls. */
static enum err
take_place(struct request *req, const struct call *call,
    struct call_place **ret, struct diag *diag)
{
	const struct config *config = request_config(req);
	const struct subjects_request who = {
		.user = call->who.user,
		.plan = call->who.plan,
		.anon_id = call->who.anon_id,
		.address = request_client(req),
		.route = call->relay->name,
		.route_plan = call->relay->plan,
	};
	struct subjects subjects;
	const struct calls_request request = {
		/* it is counted, and so changed, where it is kept */
		.config = (struct config *)(uintptr_t)config,
		.relay = call->relay,
		.subjects = &subjects,
		.user = who.user,
		.ticket = call->who.token_id,
		.issued = who.user == NULL && call->who.token_id == NULL
		    ? clock_unix()
		    : call->who.issued,
	};

	enum err err;

	subjects_fill(config, &who, &subjects);
	err = calls_reserve(&request, ret, diag);
	if (err == ERR_RATE)
		request_add_header(req, "Retry-After", PLACE_RETRY_S);
	return err;
}

static void
make_call(struct request *req, const struct call *call)
{
	unsigned threads = request_config(req)->requests.threads;
	struct http_client_answer answer;
	char id[CALL_ID_MAX + 1];
	struct call_place *place = NULL;
	struct flight *flight = NULL;
	bool has_id = false;
	struct diag diag = { "" };
	enum err err = flight_begin(NULL, threads, clock_ms(), &flight, &diag);

	if (err == ERR_OK)
		err = take_place(req, call, &place, &diag);
	/* last of all: there is no way back */
	if (err == ERR_OK)
		err = ticket_spend(&call->who.ticket, clock_unix(), &diag);
	if (err == ERR_OK)
		err = send_call(call, &answer, &diag);
	flight_end(flight);
	if (err == ERR_OK && is_made(&answer))
		has_id = find_id(answer.location, id);
	if (place != NULL)
		calls_settle(place, has_id ? id : NULL);
	if (err != ERR_OK) {
		/* too large is the vendor's fault, not the client's */
		openai_ask_refuse(req, call->relay,
		    err == ERR_LIMIT ? ERR_UPSTREAM : err, &diag);
		return;
	}
	reply(req, call, &answer, has_id ? id : NULL);
	http_client_answer_done(&answer);
}

void
openai_calls_handle(struct request *req)
{
	struct call call = { .relay = openai_ask_relay(req) };
	struct diag diag = { "" };
	enum err err;

	if (call.relay == NULL)
		return;
	if (!call.relay->calls) {
		request_reply_error(req, ERR_NOTFOUND,
		    "calls are not served here");
		return;
	}
	if (!openai_ask_identity(req, call.relay, &call.who))
		return;
	err = check_ticket(&call, &diag);
	if (err == ERR_OK)
		err = request_query(req, "model", &call.model, &diag);
	if (err == ERR_OK)
		err = take_body(req, &call, &diag);
	if (err != ERR_OK)
		openai_ask_refuse(req, call.relay, err, &diag);
	else if (make_session(req, &call))
		make_call(req, &call);
	call_done(&call);
}

/* The path is .../calls/ID/hangup, as the route says. */
void
openai_hangup_handle(struct request *req)
{
	const char *id = request_path(req) + strlen(CALLS_PATH) + 1;
	char *own = xstrndup(id, strcspn(id, "/"));
	unsigned threads = request_config(req)->requests.threads;
	struct flight *flight = NULL;
	struct diag diag = { "" };
	enum err err = flight_begin(own, threads, clock_ms() + HANGUP_WAIT_MS,
	    &flight, &diag);

	if (err == ERR_OK)
		err = calls_hang_up(own, &diag);
	flight_end(flight);
	free(own);
	if (err == ERR_OK)
		request_reply_empty(req, 200);
	else
		request_reply_error(req, err,
		    err == ERR_NOTFOUND ? diag.text : NULL);
}
