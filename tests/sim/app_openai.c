/* SPDX-License-Identifier: MIT */
/*
 * app_openai: OpenAI Realtime on a WebSocket: who may, and the conversation
 * at its pace.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"
#include "openai.h"
#include "ws.h"

#define MESSAGE_MAX (24 * 1024 * 1024) /* 15 MiB of sound in base64 */
#define QUEUE_MAX   (1024 * 1024)

struct session {
	struct ws_conn *conn;
	struct openai *openai; /* NULL where it was refused */
	struct buf *in;	       /* a message that comes in pieces */
	bool waiting;	       /* for the timer */
};

/* What the vendor will bill, even where nobody hears of it. */
static void
note_charge(const struct session *s, const json_t *event)
{
	const json_t *response = json_object_get(event, "response");
	const json_t *usage = json_object_get(response, "usage");
	const char *type = json_string_value(json_object_get(event, "type"));
	int fd = ws_conn_options(s->conn)->charges_fd;

	if (fd >= 0 && type != NULL && strcmp(type, "response.done") == 0 &&
	    json_is_object(usage))
		(void)dprintf(fd, "%s %" JSON_INTEGER_FORMAT "\n",
		    json_string_value(json_object_get(response, "id")),
		    json_integer_value(json_object_get(usage, "total_tokens")));
}

static void
send_event(struct session *s, json_t *event)
{
	size_t len = 0;
	char *text = json_text(event, &len);

	note_charge(s, event);
	ws_conn_send(s->conn, text, len, false, true, true);
	free(text);
	json_decref(event);
}

/* Send what is due, as long as the client takes it. */
static void
go_on(struct session *s)
{
	if (s->openai == NULL)
		return;
	while (ws_conn_queued(s->conn) < QUEUE_MAX) {
		int pace = ws_conn_options(s->conn)->pace_ms;

		switch (openai_due(s->openai)) {
		case OPENAI_NOTHING:
			return;
		case OPENAI_PACED:
			if (pace > 0 && !s->waiting) {
				s->waiting = true;
				ws_conn_timer(s->conn, pace);
			}
			if (pace > 0)
				return;
			break;
		case OPENAI_NOW:
			break;
		}
		send_event(s, openai_next(s->openai));
	}
}

/* An error event, then the close that names it: as the vendor refuses. */
static void
refuse(struct session *s, int close_code, const char *code, const char *message,
    const char *param)
{
	char *reason = xasprintf("invalid_request_error.%s", code);

	send_event(s,
	    openai_error_event("invalid_request_error", code, message, param));
	ws_conn_close(s->conn, close_code, reason);
	free(reason);
}

static bool
is_beta(const struct request *r)
{
	const char *beta = request_header(r, "OpenAI-Beta");
	const char *protocols = request_header(r, "Sec-WebSocket-Protocol");

	return (beta != NULL && strstr(beta, "realtime=v1") != NULL) ||
	    (protocols != NULL &&
		str_list_has(protocols, strlen(protocols),
		    "openai-beta.realtime-v1"));
}

static void
start(struct session *s)
{
	const struct request *r = ws_conn_request(s->conn);
	const struct options *o = ws_conn_options(s->conn);
	const char *model = request_query(r, "model");
	const char *intent = request_query(r, "intent");
	bool transcription =
	    intent != NULL && strcmp(intent, "transcription") == 0;
	size_t len = 0;
	const char *key = request_key(r, &len);

	if (!options_key_is_good(o, key, len, clock_unix())) {
		refuse(s, 3000, "invalid_api_key",
		    key == NULL
			? "Missing bearer authentication in header."
			: "Incorrect API key provided. You can find your API "
			  "key at "
			  "https://platform.openai.com/account/api-keys.",
		    NULL);
	} else if (is_beta(r)) {
		refuse(s, 4000, "beta_api_shape_disabled",
		    "The Realtime Beta API is no longer supported. Please use "
		    "/v1/realtime for the GA API.",
		    NULL);
	} else if (model == NULL && request_query(r, "call_id") == NULL &&
	    !transcription) {
		refuse(s, 4000, "missing_model",
		    "You must provide a model parameter.", "model");
	} else if (model != NULL && !options_has_model(o, model)) {
		refuse(s, 4000, "model_not_found",
		    "The model does not exist or you do not have access to "
		    "it.",
		    "model");
	} else {
		s->openai = openai_new(transcription ? OPENAI_TRANSCRIPTION
						     : OPENAI_REALTIME,
		    model == NULL ? "gpt-realtime" : model,
		    clock_unix() + o->session_s);
		go_on(s);
	}
}

static void *
session_open(struct ws_conn *conn)
{
	struct session *s = xcalloc(1, sizeof(*s));

	s->conn = conn;
	s->in = buf_new(MESSAGE_MAX);
	start(s);
	return s;
}

static void
session_piece(void *app, const void *data, size_t len, bool binary, bool first,
    bool final)
{
	struct session *s = app;
	const uint8_t *all;

	(void)first;
	if (s->openai == NULL)
		return;
	if (buf_add(s->in, data, len) != ERR_OK) {
		ws_conn_close(s->conn, 1009, "the message is too big");
		return;
	}
	if (!final)
		return;
	all = buf_peek(s->in, &len);
	if (binary)
		openai_receive_binary(s->openai);
	else
		openai_receive(s->openai, all, len);
	buf_drain(s->in, len);
	go_on(s);
	/* A client that asks and does not read has to wait. */
	if (ws_conn_queued(s->conn) >= QUEUE_MAX)
		ws_conn_pause(s->conn, true);
}

static void
session_drained(void *app)
{
	struct session *s = app;

	ws_conn_pause(s->conn, false);
	go_on(s);
}

static void
session_timer(void *app)
{
	struct session *s = app;

	s->waiting = false;
	if (openai_due(s->openai) != OPENAI_NOTHING)
		send_event(s, openai_next(s->openai));
	go_on(s);
}

static void
session_close(void *app)
{
	struct session *s = app;

	openai_free(s->openai);
	buf_free(s->in);
	free(s);
}

const struct ws_app app_openai = {
	.open = session_open,
	.piece = session_piece,
	.drained = session_drained,
	.timer = session_timer,
	.close = session_close,
};
