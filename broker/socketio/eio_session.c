/* SPDX-License-Identifier: MIT */
#include "broker/socketio/eio_session.h"

#include <stdlib.h>
#include <string.h>

#include "broker/hub/hub.h"
#include "broker/socketio/eio_packet.h"
#include "broker/socketio/eio_queue.h"
#include "broker/socketio/eio_refusal.h"
#include "broker/socketio/eio_ws.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/xalloc.h"

/* As npm engine.io has them. */
#define UPGRADE_MS    10000 /* from an open WebSocket to "5" */
#define NOOP_MS	      100   /* a poll that waits meanwhile is sent home */
#define FIRST_NOOP_MS 30    /* one that came after its WebSocket */
#define LAST_POLL_MS  30000 /* to fetch what was sent before the end */
#define LATE_POLL_MS  1000  /* a poll that its client's end overtook */

#define PACKETS_AT_ONCE 100 /* of one payload */
#define QUEUE_MIN_BYTES (1024 * 1024)
#define TEXT_TYPE	"text/plain; charset=UTF-8"

enum state {
	STATE_OPEN,
	STATE_CLOSING, /* once what waits has been sent */
	STATE_DOOMED,  /* takes nothing: it ends soon */
	STATE_GONE,    /* has ended; a poll may still be on its way */
};

struct eio {
	struct eio_member member; /* first: a member is a session */
	struct eio_server *server;
	const struct eio_rules *rules;
	struct eio_info info;
	void *data;
	enum state state;
	const char *reason;   /* to close for */
	struct eio_ws *ws;    /* the transport; NULL: polling */
	struct parked *poll;  /* waits; NULL: none does */
	bool poll_is_late;    /* it came after `probe' */
	struct eio_ws *probe; /* may become the transport */
	bool probed;	      /* has had its "3probe" */
	int64_t probe_end_ms;
	struct eio_queue queue; /* for polls */
	bool pinged;		/* the pong is awaited ... */
	bool extended; /* ... for longer, because something else came */
	int64_t opened_ms, due_ms; /* due: the timer, for pings */
	struct loop_timer *timer;  /* pings; or the end, while closing */
	struct loop_timer *soon;   /* what has to happen outside of a call */
	struct loop_timer *upgrade_timer;
};

/* NULL where there is none. */
static struct eio *
find(struct eio_server *server, const char *sid)
{
	return (struct eio *)eio_server_get(server, sid);
}

/* ---- refusals ---------------------------------------------------------- */

static void
refuse(struct parked *poll, enum eio_refusal code)
{
	json_t *body = eio_refusal_body(code);
	size_t len;
	char *text = json_text(body, &len);

	parked_reply(poll, 400, "application/json", text, len);
	json_decref(body);
	free(text);
}

/* ---- sending ----------------------------------------------------------- */

static size_t
queue_max(const struct eio_rules *rules)
{
	size_t max = 4 * rules->max_payload;

	return max > QUEUE_MIN_BYTES ? max : QUEUE_MIN_BYTES;
}

static void
answer_poll(struct eio *eio, const char *text, size_t len)
{
	struct parked *poll = eio->poll;

	eio->poll = NULL;
	parked_reply(poll, 200, TEXT_TYPE, text, len);
}

/*
 * Answer the poll that waits with what waits; true where that was the last,
 * and says so.
 */
static bool
flush_to_poll(struct eio *eio)
{
	bool is_last;
	size_t len;
	char *text =
	    eio_queue_take_payload(&eio->queue, eio->rules->max_payload, &len);

	is_last =
	    eio_queue_first(&eio->queue) == NULL && eio->state == STATE_CLOSING;
	if (is_last) {
		if (len > 0)
			text[len++] = EIO_SEPARATOR;
		text[len++] = EIO_CLOSE;
	}
	if (len > 0)
		answer_poll(eio, text, len);
	explicit_bzero(text, len);
	free(text);
	return is_last;
}

/* Not within the caller's call. */
static void
doom(struct eio *eio, const char *reason)
{
	eio->state = STATE_DOOMED;
	eio->reason = reason;
	loop_timer_set(eio->soon, 0);
}

static bool
send_to_websocket(struct eio *eio, const struct eio_packet *packet)
{
	return eio_ws_send(eio->ws, packet->binary,
	    packet->binary ? 0 : (char)packet->type, packet->data, packet->len);
}

static void
send_packet(struct eio *eio, const struct eio_packet *packet)
{
	if (eio->ws != NULL) {
		if (!send_to_websocket(eio, packet))
			doom(eio, "transport error");
		return;
	}
	if (!eio_queue_add(&eio->queue, packet, queue_max(eio->rules))) {
		doom(eio, "transport error");
		return;
	}
	/* what else is sent now goes with it */
	if (eio->poll != NULL)
		loop_timer_set(eio->soon, 0);
}

void
eio_send(struct eio *eio, bool binary, const void *data, size_t len)
{
	const struct eio_packet packet = {
		.type = EIO_MESSAGE,
		.binary = binary,
		.data = data,
		.len = len,
	};

	if (eio->state == STATE_OPEN)
		send_packet(eio, &packet);
}

/* ---- the end ----------------------------------------------------------- */

static void
drop_probe(struct eio *eio)
{
	if (eio->probe != NULL)
		eio_ws_close(eio->probe, 0);
	eio->probe = NULL;
	loop_timer_free(eio->upgrade_timer);
	eio->upgrade_timer = NULL;
}

static void
log_end(const struct eio *eio, const char *reason)
{
	log_info("eio.close",
	    "sid=%.6s path=%s client=%s reason=\"%s\" "
	    "seconds=%lld",
	    eio->info.sid, eio->rules->path, eio->info.address, reason,
	    (long long)(clock_ms() - eio->opened_ms) / 1000);
}

static void
session_free(struct eio *eio)
{
	eio_queue_done(&eio->queue);
	loop_timer_free(eio->timer);
	loop_timer_free(eio->soon);
	eio_info_done(&eio->info);
	explicit_bzero(eio, sizeof(*eio));
	free(eio);
}

/* The one end of a session, whose transport has been dealt with. */
static void
leave(struct eio *eio, const char *reason)
{
	drop_probe(eio);
	loop_timer_stop(eio->soon);
	log_end(eio, reason);
	eio->state = STATE_GONE; /* nothing can be sent in closed() */
	eio->rules->events->closed(eio->rules->arg, eio, reason);
}

static void
forget(struct eio *eio)
{
	eio_server_remove(eio->server, &eio->member);
	session_free(eio);
}

/* Nobody finds it any more when its end is told. */
static void
finish(struct eio *eio, const char *reason)
{
	eio_server_remove(eio->server, &eio->member);
	leave(eio, reason);
	session_free(eio);
}

/* At once: what waits is lost. */
static void
end(struct eio *eio, const char *reason)
{
	static const char text = EIO_CLOSE;

	if (eio->state == STATE_GONE) {
		forget(eio);
		return;
	}
	if (eio->poll != NULL)
		answer_poll(eio, &text, 1);
	if (eio->ws != NULL)
		eio_ws_close(eio->ws, 0);
	finish(eio, reason);
}

void
eio_close(struct eio *eio, const char *reason)
{
	if (eio->state != STATE_OPEN)
		return;
	eio->state = STATE_CLOSING;
	eio->reason = reason;
	drop_probe(eio);
	loop_timer_set(eio->timer, LAST_POLL_MS);
	loop_timer_set(eio->soon, 0);
}

/* Send what waits, and end where that was all. */
static void
flush(void *arg)
{
	struct eio *eio = arg;

	if (eio->state == STATE_DOOMED ||
	    (eio->state == STATE_CLOSING && eio->ws != NULL))
		end(eio, eio->reason); /* a WebSocket has it all already */
	else if (eio->poll != NULL && flush_to_poll(eio))
		finish(eio, eio->reason);
}

/* ---- pings ------------------------------------------------------------- */

static void
set_ping_timer(struct eio *eio, int64_t ms)
{
	int64_t late = clock_ms() - eio->due_ms;

	ms -= late > 0 && late < ms / 4 ? late : 0; /* they do not add up */
	eio->due_ms = clock_ms() + ms;
	loop_timer_set(eio->timer, ms);
}

static void
on_timer(void *arg)
{
	static const struct eio_packet ping = { .type = EIO_PING };
	struct eio *eio = arg;

	if (eio->state != STATE_OPEN) {
		end(eio, eio->reason);
	} else if (eio->pinged) {
		end(eio, "ping timeout");
	} else {
		eio->pinged = true;
		eio->extended = false;
		set_ping_timer(eio, eio->rules->ping_timeout_ms);
		send_packet(eio, &ping);
	}
}

/* Something came: once it is as good as a pong for a while. */
static void
extend(struct eio *eio)
{
	if (!eio->pinged || eio->extended)
		return;
	eio->extended = true;
	set_ping_timer(eio, eio->rules->ping_timeout_ms);
}

/* ---- what comes: false where the session is gone ------------------------- */

static void
release_poll(struct eio *eio)
{
	static const char text = EIO_NOOP;

	if (eio->poll != NULL)
		answer_poll(eio, &text, 1);
}

/* A client's own end, which may overtake its last poll. */
static void
part(struct eio *eio)
{
	static const char reason[] = "transport close";

	if (eio->ws != NULL) {
		end(eio, reason);
	} else if (eio->poll != NULL) {
		release_poll(eio);
		finish(eio, reason);
	} else {
		leave(eio, reason);
		loop_timer_set(eio->timer, LATE_POLL_MS);
	}
}

static bool
take_packet(struct eio *eio, const struct eio_packet *packet)
{
	if (eio->state != STATE_OPEN)
		return true; /* too late */
	if (packet->type != EIO_PONG)
		extend(eio);
	switch (packet->type) {
	case EIO_PING:
		end(eio, "transport error"); /* the server pings */
		return false;
	case EIO_CLOSE:
		part(eio);
		return false;
	case EIO_PONG:
		eio->pinged = false;
		set_ping_timer(eio, eio->rules->ping_interval_ms);
		return true;
	case EIO_MESSAGE:
		eio->rules->events->message(eio->rules->arg, eio,
		    packet->binary, packet->data, packet->len);
		return true;
	case EIO_OPEN:
	case EIO_UPGRADE:
	case EIO_NOOP:
		break;
	}
	return true;
}

/* ---- WebSocket --------------------------------------------------------- */

static void
on_ws_message(void *arg, bool binary, const void *data, size_t len)
{
	struct eio *eio = arg;
	struct eio_packet packet = {
		.type = EIO_MESSAGE,
		.binary = true,
		.data = data,
		.len = len,
	};

	if (!binary && eio_packet_of_text(data, len, &packet) != ERR_OK)
		end(eio, "parse error");
	else
		(void)take_packet(eio, &packet);
}

static void
on_ws_closed(void *arg, bool error)
{
	struct eio *eio = arg;

	eio->ws = NULL;
	if (eio->state != STATE_OPEN)
		finish(eio, eio->reason);
	else
		finish(eio, error ? "transport error" : "transport close");
}

static const struct eio_ws_events ws_events = {
	.message = on_ws_message,
	.closed = on_ws_closed,
};

static struct eio_ws *
new_websocket(const struct eio_rules *rules, int fd,
    const struct eio_ws_events *events, void *arg)
{
	return eio_ws_new(hub_loop(), fd, rules->max_payload, queue_max(rules),
	    events, arg);
}

/* A WebSocket that has no session: open it only to close it, as npm does. */
static void
ignore_message(void *arg, bool binary, const void *data, size_t len)
{
	(void)arg;
	(void)binary;
	(void)data;
	(void)len;
}

static void
ignore_closed(void *arg, bool error)
{
	(void)arg;
	(void)error;
}

static void
refuse_websocket(const struct eio_rules *rules, int fd)
{
	static const struct eio_ws_events events = {
		.message = ignore_message,
		.closed = ignore_closed,
	};

	eio_ws_close(new_websocket(rules, fd, &events, NULL), 0);
}

/* ---- the upgrade --------------------------------------------------------- */

/* What waits goes over the WebSocket; nobody polls any more. */
static void
upgrade(struct eio *eio)
{
	const struct eio_packet *packet;

	eio->ws = eio->probe;
	eio->probe = NULL;
	drop_probe(eio);
	eio_ws_bind(eio->ws, &ws_events, eio);
	eio_server_upgrade(&eio->member);
	if (eio->poll != NULL) {
		refuse(eio->poll, EIO_BAD_REQUEST);
		eio->poll = NULL;
	}
	while ((packet = eio_queue_first(&eio->queue)) != NULL) {
		if (!send_to_websocket(eio, packet))
			doom(eio, "transport error");
		eio_queue_drop_first(&eio->queue);
	}
}

static void
on_probe_message(void *arg, bool binary, const void *data, size_t len)
{
	static const char probe[] = "probe";
	struct eio *eio = arg;
	struct eio_packet packet;

	if (binary || eio_packet_of_text(data, len, &packet) != ERR_OK) {
		drop_probe(eio);
	} else if (packet.type == EIO_PING && packet.len == sizeof(probe) - 1 &&
	    memcmp(packet.data, probe, packet.len) == 0) {
		eio->probed = true;
		(void)!eio_ws_send(eio->probe, false, EIO_PONG, probe,
		    sizeof(probe) - 1);
		if (!eio->poll_is_late)
			release_poll(eio);
		loop_timer_set(eio->upgrade_timer, FIRST_NOOP_MS);
	} else if (packet.type == EIO_UPGRADE && eio->state == STATE_OPEN) {
		upgrade(eio);
	} else {
		drop_probe(eio);
	}
}

static void
on_probe_closed(void *arg, bool error)
{
	struct eio *eio = arg;

	(void)error;
	eio->probe = NULL;
	drop_probe(eio);
}

/* Until the upgrade: the client may not send "5" while a poll waits. */
static void
on_upgrade_timer(void *arg)
{
	struct eio *eio = arg;

	if (clock_ms() >= eio->probe_end_ms) {
		drop_probe(eio);
		return;
	}
	if (eio->probed)
		release_poll(eio);
	loop_timer_set(eio->upgrade_timer, NOOP_MS);
}

void
eio_session_probe(struct eio_server *server, const char *sid, int fd)
{
	static const struct eio_ws_events events = {
		.message = on_probe_message,
		.closed = on_probe_closed,
	};
	struct eio *eio = find(server, sid);

	if (eio == NULL || eio->state != STATE_OPEN || eio->ws != NULL ||
	    eio->probe != NULL) {
		refuse_websocket(eio_server_rules(server), fd);
		return;
	}
	eio->probed = false;
	eio->probe_end_ms = clock_ms() + UPGRADE_MS;
	eio->probe = new_websocket(eio->rules, fd, &events, eio);
	eio->upgrade_timer = loop_timer_new(hub_loop(), on_upgrade_timer, eio);
	loop_timer_set(eio->upgrade_timer, NOOP_MS);
}

/* ---- polling ------------------------------------------------------------- */

static void
on_poll_gone(void *arg)
{
	struct eio *eio = arg;

	parked_drop(eio->poll);
	eio->poll = NULL;
	end(eio, "transport error");
}

static const struct parked_events poll_events = { .gone = on_poll_gone };

void
eio_session_poll(struct eio_server *server, const char *sid,
    struct parked *poll)
{
	struct eio *eio = find(server, sid);

	parked_begin(poll, &poll_events, eio);
	if (eio == NULL) {
		refuse(poll, EIO_UNKNOWN_SID);
	} else if (eio->ws != NULL) {
		refuse(poll, EIO_BAD_REQUEST);
	} else if (eio->poll != NULL) {
		parked_reply(poll, 400, TEXT_TYPE, NULL, 0);
		end(eio, "transport error");
	} else if (eio->state == STATE_OPEN && eio->pinged &&
	    clock_ms() >= eio->due_ms) {
		refuse(poll, EIO_UNKNOWN_SID); /* before the timer comes */
		end(eio, "ping timeout");
	} else {
		eio->poll = poll;
		eio->poll_is_late = eio->probe != NULL;
		if (eio->state != STATE_GONE) {
			flush(eio);
			return;
		}
		release_poll(eio);
		forget(eio);
	}
}

enum err
eio_session_post(struct eio_server *server, const char *sid, char *payload,
    size_t len, size_t *ret_used)
{
	struct eio *eio = find(server, sid);
	struct eio_packet packet;
	size_t done = 0, used;

	if (eio == NULL || eio->state == STATE_GONE || eio->ws != NULL)
		return ERR_NOTFOUND;
	for (int i = 0; i < PACKETS_AT_ONCE && done < len; i++, done += used) {
		if (eio_packet_take(payload + done, len - done, &packet,
			&used) != ERR_OK) {
			end(eio, "parse error");
			return ERR_PROTO;
		}
		if (!take_packet(eio, &packet)) {
			*ret_used = len; /* nobody is there for the rest */
			return packet.type == EIO_CLOSE ? ERR_OK : ERR_PROTO;
		}
	}
	*ret_used = done;
	return ERR_OK;
}

void
eio_session_fail(struct eio_server *server, const char *sid)
{
	struct eio *eio = find(server, sid);

	if (eio != NULL)
		end(eio, "transport error");
}

/* ---- the beginning ---------------------------------------------------------
 */

/* The packet that tells a client its session. */
static char *
open_packet(const struct eio *eio, size_t *ret_len)
{
	const struct eio_rules *rules = eio->rules;
	json_t *upgrades = json_array(), *value;
	char *text;

	if (eio->ws == NULL)
		(void)json_array_append_new(upgrades, json_string("websocket"));
	value = json_made(json_pack("{s:s,s:o,s:I,s:I,s:I}", "sid",
	    eio->member.sid, "upgrades", upgrades, "pingInterval",
	    (json_int_t)rules->ping_interval_ms, "pingTimeout",
	    (json_int_t)rules->ping_timeout_ms, "maxPayload",
	    (json_int_t)rules->max_payload));
	text = json_text(value, ret_len);
	json_decref(value);
	return text;
}

/* Errors as eio_server_admit()'s. */
static enum err
session_new(struct eio_server *server, const struct eio_info *info,
    struct eio **ret)
{
	struct eio *eio = xcalloc(1, sizeof(*eio));
	enum err err;

	eio->server = server;
	eio->rules = eio_server_rules(server);
	eio->info = *info;
	eio_queue_init(&eio->queue);
	err = eio_server_add(server, &eio->member, info->address);
	if (err != ERR_OK) {
		session_free(eio);
		return err;
	}
	(void)strcpy(eio->info.sid, eio->member.sid);
	eio->opened_ms = clock_ms();
	eio->timer = loop_timer_new(hub_loop(), on_timer, eio);
	eio->soon = loop_timer_new(hub_loop(), flush, eio);
	set_ping_timer(eio, eio->rules->ping_interval_ms);
	*ret = eio;
	return ERR_OK;
}

static void
tell_opened(struct eio *eio, const char *transport)
{
	log_info("eio.open", "sid=%.6s path=%s transport=%s client=%s",
	    eio->info.sid, eio->rules->path, transport, eio->info.address);
	eio->rules->events->opened(eio->rules->arg, eio);
}

void
eio_session_open_polling(struct eio_server *server, const struct eio_info *info,
    struct parked *poll)
{
	struct eio *eio;
	char *text, *packet;
	size_t len;
	enum err err = session_new(server, info, &eio);

	parked_begin(poll, NULL, NULL);
	if (err != ERR_OK) {
		parked_reply_error(poll, err, NULL);
		return;
	}
	text = open_packet(eio, &len);
	packet = xasprintf("%c%s", EIO_OPEN, text);
	parked_reply(poll, 200, TEXT_TYPE, packet, len + 1);
	free(packet);
	free(text);
	tell_opened(eio, "polling");
}

void
eio_session_open_websocket(struct eio_server *server,
    const struct eio_info *info, int fd)
{
	struct eio_packet packet = { .type = EIO_OPEN };
	struct eio *eio;
	char *text;

	if (session_new(server, info, &eio) != ERR_OK) {
		refuse_websocket(eio_server_rules(server), fd);
		return;
	}
	eio->ws = new_websocket(eio->rules, fd, &ws_events, eio);
	eio_server_upgrade(&eio->member);
	packet.data = text = open_packet(eio, &packet.len);
	send_packet(eio, &packet);
	free(text);
	tell_opened(eio, "websocket");
}

void
eio_session_end_all(struct eio_server *server)
{
	struct eio_member *member;

	while ((member = eio_server_first(server)) != NULL)
		end((struct eio *)member, "server shutting down");
	eio_ws_drop_all();
}

/* ---- for applications ------------------------------------------------------
 */

const struct eio_info *
eio_info(const struct eio *eio)
{
	return &eio->info;
}

void
eio_set_data(struct eio *eio, void *data)
{
	eio->data = data;
}

void *
eio_data(const struct eio *eio)
{
	return eio->data;
}
