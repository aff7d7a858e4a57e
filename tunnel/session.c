/* SPDX-License-Identifier: MIT */
#include "tunnel/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypt.h"
#include "common/log.h"
#include "common/str.h"
#include "common/wire.h"
#include "common/xalloc.h"
#include "tunnel/broker_link.h"
#include "tunnel/dial.h"
#include "tunnel/http_head.h"
#include "tunnel/intake.h"
#include "tunnel/key_mask.h"
#include "tunnel/linger.h"
#include "tunnel/question.h"
#include "tunnel/relay.h"
#include "tunnel/reply.h"
#include "tunnel/report.h"
#include "tunnel/transform.h"

/* come back when the broker or we have been started again: 1 to 5 s */
#define RETRY_MIN_S 1
#define RETRY_MAX_S 5

enum session_phase {
	SESSION_HEAD,	/* the request is being read */
	SESSION_ASK,	/* the broker is deciding */
	SESSION_DIAL,	/* the vendor is being connected */
	SESSION_RELAY,	/* it is a WebSocket */
	SESSION_REFUSE, /* an HTTP refusal is on its way */
	SESSION_REPORT, /* the broker is still to be told of the end */
	SESSION_OVER,
};

struct session {
	const struct session_env *env;
	session_done done;
	void *arg;
	enum session_phase phase;
	struct loop_timer *timer;
	struct intake *intake; /* until relay or linger has the client */
	char accept[29];
	struct broker_link *link;
	struct report *report; /* from the grant until the end is told */
	bool stopping;
	struct wire_packet *grant;
	struct transform *transform; /* until the relay has it */
	struct key_mask *keys;	     /* as well */
	struct dial *dial;
	struct relay *relay;
	struct linger *linger;
	int64_t opened_ms;
};

/* ---- the end ----------------------------------------------------------- */

static void
on_over(void *arg)
{
	struct session *session = arg;

	session->done(session->arg, session);
}

/* Tell the owner, from the loop, once the broker has been told of the end. */
static void
finish(struct session *session)
{
	session->phase = SESSION_REPORT;
	if (session->report != NULL)
		return;
	session->phase = SESSION_OVER;
	session->timer = loop_timer_new(session->env->loop, on_over, session);
	loop_timer_set(session->timer, 0);
}

static void
on_lingered(void *arg)
{
	struct session *session = arg;

	session->linger = NULL;
	finish(session);
}

static const char *
route_name(const struct session *session)
{
	return session->grant != NULL ? session->grant->grant.route : "-";
}

/* The lease ends here. */
static void
drop_link(struct session *session)
{
	uint64_t lost = 0;

	if (session->report != NULL)
		lost = report_lost_events(session->report);
	if (lost > 0)
		log_warning("tunnel.usage_lost",
		    "session=%s route=%s events=%llu",
		    session->grant->grant.session, route_name(session),
		    (unsigned long long)lost);
	report_free(session->report);
	session->report = NULL;
	broker_link_free(session->link);
	session->link = NULL;
}

/*
 * The conversation, or what might have become one, is over: tell the broker.
 * Where it cannot be told now, the link is kept until it is.
 */
static void
end_lease(struct session *session, const struct relay_end *end)
{
	if (session->report != NULL && !report_end(session->report, end)) {
		if (session->stopping)
			report_hurry(session->report);
		return;
	}
	drop_link(session);
}

static void
end_grant(struct session *session, enum cause cause, enum cause_side side)
{
	const struct relay_end end = { .cause = cause, .side = side };

	end_lease(session, &end);
}

static void
on_delivered(void *arg)
{
	struct session *session = arg;

	drop_link(session);
	if (session->phase == SESSION_REPORT)
		finish(session);
}

/* Nothing of it is needed any more. */
static void
drop_all(struct session *session)
{
	dial_free(session->dial);
	session->dial = NULL;
	transform_free(session->transform);
	session->transform = NULL;
	key_mask_free(session->keys);
	session->keys = NULL;
	intake_free(session->intake);
	session->intake = NULL;
	if (session->grant != NULL)
		wire_headers_done(&session->grant->grant.upstream.headers);
}

/* ---- refusals ---------------------------------------------------------- */

struct refusal {
	int status;
	const char *code, *message;
	const struct wire_headers *headers;
	const json_t *body;	/* in place of code and message; NULL: they */
	unsigned retry_after_s; /* 0: none */
	const char *why;	/* for the log, ours */
};

/* Answer, and be done with everything else. */
static void
refuse(struct session *session, const struct refusal *refusal)
{
	struct wire_headers own = { NULL, 0 };
	char number[16], *text;
	struct wire_header retry = { (char[]){ "Retry-After" }, number, false };
	struct loop_watch *watch;
	struct stream *stream;
	size_t len;

	if (refusal->retry_after_s > 0) {
		(void)snprintf(number, sizeof(number), "%u",
		    refusal->retry_after_s);
		own.items = &retry;
		own.count = 1;
	}
	log_limited(session->env->refusals, LOG_LEVEL_INFO, "tunnel.refused",
	    "status=%d code=%s route=%s reason=\"%s\"", refusal->status,
	    refusal->code, route_name(session),
	    refusal->why != NULL ? refusal->why : "");
	text = reply_refusal(refusal->status, refusal->code, refusal->message,
	    refusal->body, refusal->headers != NULL ? refusal->headers : &own,
	    &len);
	end_grant(session, CAUSE_REFUSED, SIDE_TUNNEL);
	session->phase = SESSION_REFUSE;
	intake_take(session->intake, &stream, &watch);
	session->linger = linger_start(session->env->loop, stream, watch,
	    LINGER_SERVER, text, len, on_lingered, session);
	free(text);
	drop_all(session);
}

static void
refuse_err(struct session *session, enum err err, const char *message,
    const char *why)
{
	const struct refusal refusal = {
		.status = err_http_status(err),
		.code = err_code(err),
		.message = message != NULL ? message : err_text(err),
		.why = why,
	};

	refuse(session, &refusal);
}

static void
refuse_unavailable(struct session *session, const char *why)
{
	const struct refusal refusal = {
		.status = err_http_status(ERR_UNAVAIL),
		.code = err_code(ERR_UNAVAIL),
		.message = err_text(ERR_UNAVAIL),
		/* spread, or all would come back in the same second */
		.retry_after_s = crypt_random_between(RETRY_MIN_S, RETRY_MAX_S),
		.why = why,
	};

	refuse(session, &refusal);
}

/* The client has left before the 101. */
static void
leave(struct session *session)
{
	if (intake_has_begun(session->intake))
		log_info("tunnel.client_gone", "route=%s", route_name(session));
	end_grant(session, CAUSE_CLIENT_GONE, SIDE_CLIENT);
	drop_all(session);
	finish(session);
}

/* ---- relaying ---------------------------------------------------------- */

static void
on_relay_usage(void *arg)
{
	struct session *session = arg;

	if (session->report != NULL)
		report_totals(session->report);
}

static void
on_relay_event(void *arg, json_t *event)
{
	struct session *session = arg;

	if (session->report != NULL)
		report_event(session->report, event);
	else
		json_decref(event);
}

static void
on_relay_message(void *arg, struct message_log_entry *entry, const void *text,
    size_t len)
{
	struct session *session = arg;

	if (session->report != NULL)
		report_message(session->report, entry, text, len);
}

static void
on_relay_ask(void *arg, int64_t n, bool begun)
{
	struct session *session = arg;

	if (session->report != NULL)
		report_ask(session->report, n, begun);
}

static void
on_relay_ended(void *arg, const struct relay_end *end)
{
	struct session *session = arg;
	const struct wire_grant *grant = &session->grant->grant;
	char reason[WS_REASON_MAX_BYTES * 4 + 8];
	struct wire_totals client, upstream;

	relay_get_totals(session->relay, &client, &upstream);
	log_info("tunnel.close",
	    "session=%s route=%s cause=%s side=%s code=%d reason=%s "
	    "client_messages=%llu client_bytes=%llu upstream_messages=%llu "
	    "upstream_bytes=%llu seconds=%lld",
	    grant->session, grant->route, cause_word(end->cause),
	    cause_side_word(end->side), end->code,
	    str_escape(reason, sizeof(reason), end->reason,
		strlen(end->reason)),
	    (unsigned long long)client.messages,
	    (unsigned long long)client.bytes,
	    (unsigned long long)upstream.messages,
	    (unsigned long long)upstream.bytes,
	    (long long)(clock_ms() - session->opened_ms) / 1000);
	if (end->cause == CAUSE_SESSION_REFUSED)
		log_warning("upstream.session_refused",
		    "session=%s route=%s reason=%s", grant->session,
		    grant->route, reason);
	/* what follows is TCP's farewell */
	end_lease(session, end);
}

static void
on_relay_closed(void *arg)
{
	struct session *session = arg;

	relay_free(session->relay);
	session->relay = NULL;
	finish(session);
}

static const struct relay_events relay_events = {
	.usage = on_relay_usage,
	.event = on_relay_event,
	.message = on_relay_message,
	.ask = on_relay_ask,
	.ended = on_relay_ended,
	.closed = on_relay_closed,
};

/* The vendor has said 101: so do we, and the WebSocket is open. */
static void
open_relay(struct session *session, const struct dial_upstream *upstream)
{
	struct wire_grant *grant = &session->grant->grant;
	struct relay_streams streams = {
		.upstream = upstream->stream,
		.upstream_watch = upstream->watch,
		.transform = session->transform,
		.keys = session->keys,
	};
	size_t head_len, early_len;
	const uint8_t *early;
	char *head;

	log_info("tunnel.open", "session=%s route=%s", grant->session,
	    grant->route);
	head = reply_accept(session->accept,
	    grant->subprotocol != NULL ? grant->subprotocol
				       : upstream->subprotocol,
	    &head_len);
	early = intake_peek_early(session->intake, &early_len);
	intake_take(session->intake, &streams.client, &streams.client_watch);
	session->phase = SESSION_RELAY;
	session->opened_ms = clock_ms();
	session->transform = NULL;
	session->keys = NULL;
	session->relay = relay_new(session->env->loop, &streams, &grant->limits,
	    &relay_events, session);
	report_set_relay(session->report, session->relay);
	broker_link_note_101(session->link);
	relay_start(session->relay, head, head_len, early, early_len,
	    upstream->early, upstream->early_len);
	free(head);
	free(upstream->subprotocol);
	free(upstream->early);
	intake_free(session->intake);
	session->intake = NULL;
	dial_free(session->dial);
	session->dial = NULL;
	/* the vendor's key has been used */
	wire_headers_done(&grant->upstream.headers);
}

/* ---- dialling ---------------------------------------------------------- */

static void
on_dialled(void *arg, const struct dial_upstream *upstream,
    const struct dial_refusal *refused)
{
	struct session *session = arg;
	struct refusal refusal;

	if (upstream != NULL) {
		open_relay(session, upstream);
		return;
	}
	log_warning("upstream.refused",
	    "session=%s route=%s status=%d reason=\"%s\"",
	    session->grant->grant.session, route_name(session), refused->status,
	    refused->why);
	refusal = (struct refusal){
		.status = refused->status,
		.code = refused->code,
		.message = refused->message,
		.retry_after_s = refused->retry_after_s,
		.why = refused->why,
	};
	refuse(session, &refusal);
}

/* The broker has passed its own end of a WebSocket: nothing is dialled. */
static void
use_passed(struct session *session)
{
	int fd = broker_link_take_upstream(session->link);
	const struct dial_upstream upstream = {
		.stream = stream_new(fd),
		/* the relay says who is called */
		.watch = loop_watch_new(session->env->loop, fd, NULL, NULL),
	};

	open_relay(session, &upstream);
}

/* ---- the broker -------------------------------------------------------- */

static void
on_asked(void *arg, const struct wire_answer *answer)
{
	struct session *session = arg;

	if (session->phase == SESSION_RELAY)
		relay_answer(session->relay, answer);
}

static const struct report_events report_events = {
	.answer = on_asked,
	.delivered = on_delivered,
};

static void
on_answer(void *arg, struct wire_packet *answer, const char *why)
{
	struct session *session = arg;
	struct refusal refusal;
	struct diag diag;
	enum err err;

	if (answer == NULL) {
		log_warning("broker.unavailable", "reason=\"%s\"", why);
		refuse_unavailable(session, why);
		return;
	}
	if (answer->type == WIRE_DENY) {
		refusal = (struct refusal){
			.status = answer->deny.status,
			.code = answer->deny.code,
			.message = answer->deny.message,
			.headers = &answer->deny.headers,
			.body = answer->deny.body,
			.why = "the broker's decision",
		};
		refuse(session, &refusal);
		wire_packet_free(answer);
		return;
	}
	session->grant = answer;
	session->report = report_new(session->env->loop, session->link,
	    &report_events, session);
	err = transform_new(&answer->grant.messages,
	    answer->grant.limits.upstream_message_bytes, &session->transform,
	    &diag);
	if (err != ERR_OK) {
		refuse_err(session, ERR_SYS, NULL, diag.text);
		return;
	}
	if (answer->grant.upstream.passed) {
		use_passed(session);
		return;
	}
	session->phase = SESSION_DIAL;
	/* the headers are cleared as soon as they are sent */
	session->keys = key_mask_new(&answer->grant.upstream.headers);
	session->dial = dial_start(session->env->loop, session->env->trust,
	    &answer->grant, on_dialled, session);
}

static void
set_limits(struct session *session, const struct wire_limits *limits)
{
	session->grant->grant.limits = *limits;
	if (session->phase == SESSION_RELAY)
		relay_set_limits(session->relay, limits);
}

/* The broker wants it to end. */
static void
take_back(struct session *session, const struct wire_close *close)
{
	enum cause cause =
	    close->code == WS_CODE_BUDGET ? CAUSE_BUDGET : CAUSE_BROKER_CLOSE;

	if (session->phase == SESSION_RELAY)
		relay_close(session->relay, cause, SIDE_BROKER, close->code,
		    close->reason);
	else if (session->phase == SESSION_DIAL)
		refuse_err(session, ERR_DENIED, NULL,
		    "the broker took the grant back");
}

/* There is a broker again. */
static void
take_up(struct session *session, const struct wire_limits *limits)
{
	log_notice("broker.resumed", "session=%s route=%s",
	    session->grant->grant.session, route_name(session));
	set_limits(session, limits);
	report_resumed(session->report);
}

static void
on_told(void *arg, const struct wire_packet *packet)
{
	struct session *session = arg;

	if (packet->type == WIRE_CLOSE)
		take_back(session, &packet->close);
	else if (packet->type == WIRE_LIMITS)
		set_limits(session, &packet->limits);
	else if (packet->type == WIRE_RESUMED)
		take_up(session, &packet->limits);
	else
		report_told(session->report, packet);
}

/* No broker will know of this tunnel, so that none could limit or end it. */
static void
end_denied(struct session *session)
{
	if (session->phase == SESSION_RELAY)
		relay_close(session->relay, CAUSE_RESTART, SIDE_BROKER, 0,
		    NULL);
	else if (session->phase == SESSION_DIAL)
		refuse_unavailable(session, "the lease was not taken up again");
}

static void
on_changed(void *arg, enum broker_link_news news, const char *why)
{
	struct session *session = arg;

	/* what has been granted goes on: the broker may be restarting */
	log_warning(news == BROKER_LINK_DENIED ? "broker.denied"
					       : "broker.lost",
	    "session=%s route=%s reason=\"%s\"", session->grant->grant.session,
	    route_name(session), why);
	if (news == BROKER_LINK_AWAY) {
		report_away(session->report);
		return;
	}
	if (news == BROKER_LINK_DENIED)
		end_denied(session);
	if (session->report != NULL)
		report_lost(session->report);
}

static const struct broker_link_events broker_events = {
	.answered = on_answer,
	.told = on_told,
	.changed = on_changed,
};

/* ---- the request ------------------------------------------------------- */

static void
on_request(void *arg, const struct http_head *head)
{
	struct session *session = arg;
	struct wire_packet *question = NULL;
	struct http_span key;
	struct diag diag;
	enum err err;

	err = http_head_check_upgrade(head, &diag);
	if (err == ERR_OK)
		err = http_head_get(head, "sec-websocket-key", &key);
	if (err != ERR_OK) {
		refuse_err(session, err, NULL, diag.text);
		return;
	}
	crypt_ws_accept(key.data, key.len, session->accept);
	err = question_make(head, intake_fd(session->intake), &question);
	session->phase = SESSION_ASK;
	if (err == ERR_OK)
		err = broker_link_open(session->env->loop,
		    session->env->control_path, question, &broker_events,
		    session, &session->link);
	wire_packet_free(question);
	if (err != ERR_OK)
		refuse_err(session, err == ERR_LIMIT ? ERR_HEAD : err, NULL,
		    err == ERR_PROTO ? "a header is not UTF-8"
				     : "too large for the broker");
}

static void
on_no_request(void *arg, enum err err, const char *why)
{
	struct session *session = arg;

	refuse_err(session, err, NULL, why);
}

static void
on_gone(void *arg)
{
	struct session *session = arg;

	leave(session);
}

static const struct intake_events intake_events = {
	.request = on_request,
	.failed = on_no_request,
	.gone = on_gone,
};

/* ---- for the owner ----------------------------------------------------- */

struct session *
session_start(const struct session_env *env, int fd, session_done done,
    void *arg)
{
	struct session *session = xcalloc(1, sizeof(*session));

	session->env = env;
	session->done = done;
	session->arg = arg;
	session->intake = intake_new(env->loop, fd, &intake_events, session);
	return session;
}

void
session_stop(struct session *session)
{
	session->stopping = true;
	if (session->report != NULL)
		report_hurry(session->report);
	if (session->phase == SESSION_RELAY)
		relay_close(session->relay, CAUSE_RESTART, SIDE_TUNNEL, 0,
		    NULL);
	else if (session->phase == SESSION_HEAD &&
	    !intake_has_begun(session->intake))
		leave(session);
	else if (session->phase <= SESSION_DIAL)
		refuse_unavailable(session, "stopping");
}

void
session_free(struct session *session)
{
	if (session == NULL)
		return;
	drop_all(session);
	relay_free(session->relay);
	report_free(session->report);
	broker_link_free(session->link);
	wire_packet_free(session->grant);
	linger_free(session->linger);
	loop_timer_free(session->timer);
	free(session);
}
