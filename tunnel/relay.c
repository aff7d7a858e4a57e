/* SPDX-License-Identifier: MIT */
#include "tunnel/relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/xalloc.h"
#include "tunnel/key_mask.h"
#include "tunnel/leg.h"
#include "tunnel/linger.h"
#include "tunnel/message_log.h"

#define CLOSE_MS      5000 /* for a peer's answer to a close frame */
#define GONE_MS	      5000 /* for the last words of a peer that has left */
#define CLOSE_DEAD_MS 1000 /* the same, where a peer is known not to answer */
#define PING_RETRY_MS 1000 /* where a ping could not be put in */
#define TRIM_MS	      1000 /* how long an empty queue keeps its memory */
#define REST_MS	      5000 /* without data, before memory is given back */
#define SAID_MAX_MS   (24 * 3600 * 1000) /* that a vendor's end is ahead */
#define NEVER	      INT64_MAX

enum relay_state {
	RELAY_OPEN,
	RELAY_CLOSING, /* the cause is known, close frames go round */
	RELAY_ENDED,   /* the streams have been handed to lingers */
};

struct relay {
	struct loop *loop;
	const struct relay_events *events;
	void *arg;
	struct wire_limits limits;
	struct leg client, upstream;
	struct transform *transform;
	struct key_mask *keys;
	struct leg_news news;
	struct buf *early; /* of a client that is not heard yet */
	enum relay_state state;
	struct relay_end end;
	struct loop_timer *timer;
	int64_t timer_ms; /* when it expires, or NEVER */
	int64_t started_ms;
	int64_t close_ms;  /* when RELAY_CLOSING is over at the latest */
	int64_t usage_ms;  /* when the next usage is due, or NEVER */
	int64_t trim_ms;   /* when queues are looked at, or NEVER */
	int64_t said_at;   /* seconds since 1970: the vendor's word ... */
	int64_t said_ms;   /* ... and when that is, if it will do; or NEVER */
	int64_t warned_ms; /* of which end the client has been told */
	int64_t rested_ms; /* when memory was given back last */
	uint64_t reported; /* bytes and messages in the last usage */
	struct linger *lingers[2];
	int lingering;
};

/* ---- the end ----------------------------------------------------------- */

/* The one exit: whatever ends a relay comes here; the first cause counts. */
static void
close_relay(struct relay *relay, const struct relay_end *end)
{
	if (relay->state != RELAY_OPEN)
		return;
	relay->state = RELAY_CLOSING;
	relay->end = *end;
	gate_end(transform_gate(relay->transform));
	relay->close_ms = clock_ms() +
	    (end->cause == CAUSE_TOO_SLOW || end->cause == CAUSE_NO_PONG
		    ? CLOSE_DEAD_MS
		    : CLOSE_MS);
}

/* A cause of ours: both peers get our close frame. */
static void
close_both(struct relay *relay, enum cause cause, enum cause_side side,
    int code, const char *reason)
{
	struct relay_end end = { .cause = cause, .side = side };
	int64_t now = clock_ms();

	if (relay->state != RELAY_OPEN)
		return;
	end.code = code != 0 ? code : cause_code(cause);
	(void)snprintf(end.reason, sizeof(end.reason), "%s",
	    reason != NULL ? reason : cause_text(cause));
	close_relay(relay, &end);
	leg_end(&relay->client, end.code, end.reason, now);
	if (end.code == WS_CODE_BUDGET) /* that is no matter of the vendor's */
		leg_end(&relay->upstream, WS_CODE_NORMAL, "", now);
	else
		leg_end(&relay->upstream, end.code, end.reason, now);
}

static bool
is_client(const struct leg *leg)
{
	return leg->side == SIDE_CLIENT;
}

/* Whether what this leg has met ends the relay. */
static void
check_leg(struct relay *relay, struct leg *leg)
{
	struct relay_end end = { .side = leg->side };
	char *plain;

	if (leg->in.closed) {
		end.cause = is_client(leg) ? CAUSE_CLIENT_CLOSED
					   : CAUSE_UPSTREAM_CLOSED;
		end.code = leg->close_code;
		/* a vendor may say in it which key it does not take */
		plain = message_log_mask(leg->close_reason);
		(void)snprintf(end.reason, sizeof(end.reason), "%s", plain);
		free(plain);
		close_relay(relay, &end);
	} else if (leg->in.violation != 0) {
		close_both(relay, CAUSE_VIOLATION, leg->side, leg->in.violation,
		    leg->in.why);
	} else if (leg->lost) {
		close_both(relay,
		    is_client(leg) ? CAUSE_CLIENT_LOST : CAUSE_UPSTREAM_LOST,
		    leg->side, 0, NULL);
	}
}

/*
 * A peer that closed gets an answer from us where the other one can give
 * none any more.
 */
static void
answer_for(struct relay *relay, struct leg *leg, int64_t now)
{
	const struct leg *other = leg->other;

	if ((other->in_ended || other->lost) && !other->in.closed)
		leg_end(leg, relay->end.code, "", now);
	leg_try_end(leg, now);
}

static void
on_lingered(struct relay *relay, int which)
{
	relay->lingers[which] = NULL;
	if (--relay->lingering == 0 && relay->state == RELAY_ENDED)
		relay->events->closed(relay->arg);
}

static void
on_client_lingered(void *arg)
{
	on_lingered(arg, 0);
}

static void
on_upstream_lingered(void *arg)
{
	on_lingered(arg, 1);
}

/* This leg has nothing more to do: say farewell, or, if that cannot be, go. */
static void
linger_leg(struct relay *relay, struct leg *leg)
{
	int which = is_client(leg) ? 0 : 1;

	if (leg->stream == NULL)
		return;
	if (!leg->lost && !leg->deaf && leg->queued == 0) {
		relay->lingers[which] =
		    linger_start(relay->loop, leg->stream, leg->watch,
			which == 0 ? LINGER_SERVER : LINGER_CLIENT, NULL, 0,
			which == 0 ? on_client_lingered : on_upstream_lingered,
			relay);
		relay->lingering++;
		leg->stream = NULL;
		leg->watch = NULL;
	}
	leg_done(leg);
}

static void
finish(struct relay *relay)
{
	relay->state = RELAY_ENDED;
	loop_timer_stop(relay->timer);
	linger_leg(relay, &relay->client);
	linger_leg(relay, &relay->upstream);
	relay->events->ended(relay->arg, &relay->end);
	if (relay->lingering == 0)
		relay->events->closed(relay->arg);
}

/* ---- the session that the vendor has to take first --------------------- */

/* Through the scratch memory, where pieces can be joined as after a read. */
static void
feed_early(struct leg *leg, const void *data, size_t len, int64_t now)
{
	uint8_t *scratch;
	size_t size;

	scratch = loop_scratch(leg->loop, &size);
	if (len == 0)
		return;
	memcpy(scratch, data, len < size ? len : size);
	leg_feed(leg, scratch, len < size ? len : size, now);
}

/* The client is heard from now on, beginning with what it has said. */
static void
hear_client(struct relay *relay, int64_t now)
{
	struct buf *early = relay->early;
	const uint8_t *data;
	size_t len;

	relay->client.paused = false;
	relay->early = NULL;
	if (early == NULL)
		return;
	data = buf_peek(early, &len);
	feed_early(&relay->client, data, len, now);
	buf_free(early);
}

/* It ends before the client was heard, and nothing it says may pass. */
static void
hear_in_vain(struct relay *relay, int64_t now)
{
	leg_end(&relay->upstream, relay->end.code, "", now);
	hear_client(relay, now);
}

static void
check_session(struct relay *relay, int64_t now)
{
	enum transform_state state = transform_state(relay->transform);
	char reason[WS_REASON_MAX_BYTES + 1];
	const char *param;

	if (!relay->client.paused)
		return;
	if (state == TRANSFORM_OPEN) {
		hear_client(relay, now);
	} else if (state == TRANSFORM_REFUSED) {
		param = transform_refused_param(relay->transform);
		(void)snprintf(reason, sizeof(reason), "%s%s%s",
		    cause_text(CAUSE_SESSION_REFUSED),
		    param[0] != '\0' ? ": " : "", param);
		(void)key_mask_apply(relay->keys, reason);
		close_both(relay, CAUSE_SESSION_REFUSED, SIDE_UPSTREAM, 0,
		    reason);
	}
}

/* ---- time -------------------------------------------------------------- */

static void
earliest(int64_t *at, int64_t from_ms, int64_t interval_ms)
{
	if (interval_ms > 0 && from_ms + interval_ms < *at)
		*at = from_ms + interval_ms;
}

static void
earliest_of_leg(const struct relay *relay, const struct leg *leg, int64_t now,
    int64_t *at)
{
	if (leg->resume_ms > now)
		earliest(at, leg->resume_ms - 1, 1);
	if (leg->queued > 0)
		earliest(at, leg->moved_ms, relay->limits.stall_ms);
	if (leg->hung_up)
		earliest(at, now - leg_gone_ms(leg, now), GONE_MS);
	if (!leg->reading)
		return;
	if (leg->pinged_ms != 0)
		earliest(at, leg->pinged_ms, relay->limits.pong_ms);
	else if (leg->heard_ms + relay->limits.ping_ms > now)
		earliest(at, leg->heard_ms, relay->limits.ping_ms);
	else
		earliest(at, now,
		    relay->limits.ping_ms > 0 ? PING_RETRY_MS : 0);
}

static int64_t
last_data_ms(const struct relay *relay)
{
	return relay->client.data_ms > relay->upstream.data_ms
	    ? relay->client.data_ms
	    : relay->upstream.data_ms;
}

/* The vendor says itself when it ends a session, and may say it anew. */
static void
hear_of_end(struct relay *relay, int64_t now)
{
	int64_t at = transform_expires_at(relay->transform), left_ms;

	if (at == relay->said_at)
		return;
	relay->said_at = at;
	left_ms = at * 1000 - clock_unix_ms();
	if (left_ms > 0 && left_ms <= SAID_MAX_MS)
		relay->said_ms = now + left_ms;
}

/* When its time is over, and by whose limit; NEVER where there is none. */
static int64_t
expiry_ms(const struct relay *relay, const char **ret_reason)
{
	const struct wire_limits *limits = &relay->limits;
	int64_t at = NEVER, of_site;

	earliest(&at, relay->started_ms, limits->lifetime_ms);
	of_site = at;
	if (relay->said_ms == NEVER)
		earliest(&at, relay->started_ms, limits->vendor_ms);
	else if (relay->said_ms < at)
		at = relay->said_ms;
	*ret_reason = at < of_site ? "vendor" : "site";
	return at;
}

/* When the client is to be told of that; of a short time, in its middle. */
static int64_t
warning_ms(const struct relay *relay)
{
	const char *reason;
	int64_t at, ahead;

	if (relay->limits.warn_ms == 0 ||
	    !transform_speaks_events(relay->transform))
		return NEVER;
	at = expiry_ms(relay, &reason);
	if (at == NEVER || at == relay->warned_ms)
		return NEVER;
	ahead = (at - relay->started_ms) / 2;
	return at -
	    (relay->limits.warn_ms < ahead ? relay->limits.warn_ms : ahead);
}

static int64_t
next_deadline(const struct relay *relay, int64_t now)
{
	int64_t at = NEVER;

	if (relay->state == RELAY_CLOSING)
		return relay->close_ms;
	earliest(&at, last_data_ms(relay), relay->limits.idle_ms);
	earliest(&at, relay->started_ms, relay->limits.lifetime_ms);
	if (relay->client.paused)
		earliest(&at, relay->started_ms, relay->limits.connect_ms);
	if (last_data_ms(relay) > relay->rested_ms)
		earliest(&at, last_data_ms(relay), REST_MS);
	earliest_of_leg(relay, &relay->client, now, &at);
	earliest_of_leg(relay, &relay->upstream, now, &at);
	if (warning_ms(relay) < at)
		at = warning_ms(relay);
	if (relay->usage_ms < at)
		at = relay->usage_ms;
	return relay->trim_ms < at ? relay->trim_ms : at;
}

/*
 * Keep the timer no later than what is due next.  Deadlines mostly move away
 * (with every byte heard): the timer stays as it is then, comes early and is
 * set anew, instead of being moved at every read.
 */
static void
arm(struct relay *relay, int64_t now)
{
	int64_t at;

	if (relay->trim_ms == NEVER &&
	    (relay->client.queue != NULL || relay->upstream.queue != NULL))
		relay->trim_ms = now + TRIM_MS;
	at = next_deadline(relay, now);
	if (at >= relay->timer_ms)
		return;
	relay->timer_ms = at;
	loop_timer_set(relay->timer, at - now);
}

static bool
is_over(int64_t now, int64_t from_ms, int64_t interval_ms)
{
	return interval_ms > 0 && now - from_ms >= interval_ms;
}

static void
check_leg_time(struct relay *relay, struct leg *leg, int64_t now)
{
	if (leg->queued > 0 &&
	    is_over(now, leg->moved_ms, relay->limits.stall_ms)) {
		close_both(relay, CAUSE_TOO_SLOW, leg->side, 0, NULL);
		return;
	}
	if (is_over(now, now - leg_gone_ms(leg, now), GONE_MS)) {
		leg->lost = true;
		return;
	}
	if (!leg->reading)
		return;
	if (leg->pinged_ms != 0) {
		if (is_over(now, leg->pinged_ms, relay->limits.pong_ms))
			close_both(relay, CAUSE_NO_PONG, leg->side, 0, NULL);
	} else if (is_over(now, leg->heard_ms, relay->limits.ping_ms)) {
		(void)leg_ping(leg, now);
	}
}

static void
report_usage(struct relay *relay, int64_t now)
{
	const struct wire_totals *client = &relay->client.in.totals;
	const struct wire_totals *upstream = &relay->upstream.in.totals;
	uint64_t sum = client->bytes + client->messages + upstream->bytes +
	    upstream->messages;

	relay->usage_ms = now + relay->limits.usage_ms;
	if (sum == relay->reported)
		return;
	relay->reported = sum;
	relay->events->usage(relay->arg);
}

static void
warn(struct relay *relay, int64_t now)
{
	const char *reason;
	int64_t at = expiry_ms(relay, &reason), left_s;

	left_s = at > now ? (at - now + 999) / 1000 : 0;
	relay->warned_ms = at;
	leg_tell_expiry(&relay->client, clock_unix() + left_s, left_s, reason,
	    now);
}

static void
check_time(struct relay *relay, int64_t now)
{
	const struct wire_limits *limits = &relay->limits;

	if (is_over(now, relay->started_ms, limits->lifetime_ms))
		close_both(relay, CAUSE_LIFETIME, SIDE_TUNNEL, 0, NULL);
	if (is_over(now, last_data_ms(relay), limits->idle_ms))
		close_both(relay, CAUSE_IDLE, SIDE_TUNNEL, 0, NULL);
	if (relay->client.paused &&
	    is_over(now, relay->started_ms, limits->connect_ms))
		close_both(relay, CAUSE_SESSION_REFUSED, SIDE_UPSTREAM, 0,
		    "the vendor has not taken the session in time");
	check_leg_time(relay, &relay->client, now);
	check_leg_time(relay, &relay->upstream, now);
	if (now >= warning_ms(relay))
		warn(relay, now);
	if (now >= relay->usage_ms)
		report_usage(relay, now);
	if (last_data_ms(relay) > relay->rested_ms &&
	    is_over(now, last_data_ms(relay), REST_MS)) {
		relay->rested_ms = now;
		loop_rest(relay->loop);
	}
	if (now >= relay->trim_ms) {
		bool none = leg_trim(&relay->client);

		none = leg_trim(&relay->upstream) && none;
		relay->trim_ms = none ? NEVER : now + TRIM_MS;
	}
}

/* ---- events ------------------------------------------------------------ */

/* The end of every event, and its last act: the relay may be freed by it. */
static void
advance(struct relay *relay, int64_t now)
{
	struct leg *client = &relay->client, *upstream = &relay->upstream;

	if (relay->state == RELAY_OPEN) {
		check_session(relay, now);
		hear_of_end(relay, now);
	}
	if (relay->state == RELAY_OPEN)
		check_leg(relay, client);
	if (relay->state == RELAY_OPEN)
		check_leg(relay, upstream);
	if (relay->state == RELAY_CLOSING) {
		if (client->paused)
			hear_in_vain(relay, now);
		leg_release(client, now);
		answer_for(relay, client, now);
		answer_for(relay, upstream, now);
		if (leg_is_done(client))
			linger_leg(relay, client);
		if (leg_is_done(upstream))
			linger_leg(relay, upstream);
		if ((client->stream == NULL && upstream->stream == NULL) ||
		    now >= relay->close_ms) {
			finish(relay);
			return;
		}
	}
	leg_update_interest(client, now);
	leg_update_interest(upstream, now);
	arm(relay, now);
}

static void
on_leg_ready(struct relay *relay, struct leg *leg, bool readable, bool writable)
{
	int64_t now = clock_ms();

	if (!readable && !writable)
		leg->hung_up = true;
	stream_readiness(leg->stream, readable, writable, &readable, &writable);
	if (writable)
		leg_flush(leg, now);
	/* an earlier event of this round may have filled the other's queue */
	if (readable && leg->reading)
		leg_read(leg, now);
	advance(relay, now);
}

static void
on_client_ready(void *arg, bool readable, bool writable)
{
	struct relay *relay = arg;

	on_leg_ready(relay, &relay->client, readable, writable);
}

static void
on_upstream_ready(void *arg, bool readable, bool writable)
{
	struct relay *relay = arg;

	on_leg_ready(relay, &relay->upstream, readable, writable);
}

/* Last words of ours where a peer does not answer a close in time. */
static void
close_is_late(struct relay *relay, int64_t now)
{
	if (relay->client.in.closed)
		leg_end(&relay->client, relay->end.code, "", now);
	if (relay->upstream.in.closed)
		leg_end(&relay->upstream, relay->end.code, "", now);
}

static void
on_timer(void *arg)
{
	struct relay *relay = arg;
	int64_t now = clock_ms();

	relay->timer_ms = NEVER;
	if (relay->state == RELAY_OPEN)
		check_time(relay, now);
	else if (now >= relay->close_ms)
		close_is_late(relay, now);
	advance(relay, now);
}

/* ---- for the session --------------------------------------------------- */

static void
set_rates(struct relay *relay, int64_t now)
{
	flow_set_rates(&relay->client.in, relay->limits.client_messages_per_s,
	    relay->limits.client_bytes_per_s, now);
}

static void
init_leg(struct relay *relay, struct leg *leg, struct leg *other,
    enum cause_side side, int64_t now)
{
	leg->loop = relay->loop;
	leg->other = other;
	leg->side = side;
	leg->transform = relay->transform;
	leg->mode = transform_mode(relay->transform, side);
	leg->news = &relay->news;
	leg->heard_ms = leg->data_ms = leg->moved_ms = now;
}

struct relay *
relay_new(struct loop *loop, const struct relay_streams *streams,
    const struct wire_limits *limits, const struct relay_events *events,
    void *arg)
{
	struct relay *relay = xcalloc(1, sizeof(*relay));
	int64_t now = clock_ms();

	relay->loop = loop;
	relay->events = events;
	relay->arg = arg;
	relay->limits = *limits;
	relay->transform = streams->transform;
	relay->keys = streams->keys;
	relay->news = (struct leg_news){ events->event, events->message,
		events->ask, arg };
	relay->timer = loop_timer_new(loop, on_timer, relay);
	relay->timer_ms = relay->trim_ms = relay->said_ms = NEVER;
	relay->started_ms = now;
	relay->usage_ms = limits->usage_ms > 0 ? now + limits->usage_ms : NEVER;
	init_leg(relay, &relay->client, &relay->upstream, SIDE_CLIENT, now);
	init_leg(relay, &relay->upstream, &relay->client, SIDE_UPSTREAM, now);
	flow_init(&relay->client.in, WS_FROM_CLIENT,
	    limits->client_message_bytes);
	flow_init(&relay->upstream.in, WS_FROM_SERVER,
	    limits->upstream_message_bytes);
	set_rates(relay, now);
	relay->client.stream = streams->client;
	relay->client.watch = streams->client_watch;
	relay->upstream.keys = streams->keys;
	relay->upstream.stream = streams->upstream;
	relay->upstream.watch = streams->upstream_watch;
	loop_watch_bind(relay->client.watch, on_client_ready, relay);
	loop_watch_bind(relay->upstream.watch, on_upstream_ready, relay);
	/* a vendor's last words are worth stall_timeout: it needs no telling */
	loop_watch_tell_hangup(relay->client.watch);
	return relay;
}

void
relay_start(struct relay *relay, const void *head, size_t head_len,
    const void *from_client, size_t from_client_len, const void *from_upstream,
    size_t from_upstream_len)
{
	int64_t now = clock_ms();

	leg_send(&relay->client, head, head_len, now);
	if (relay->transform != NULL)
		leg_start_transform(&relay->client, now);
	feed_early(&relay->upstream, from_upstream, from_upstream_len, now);
	if (transform_state(relay->transform) == TRANSFORM_OPEN) {
		feed_early(&relay->client, from_client, from_client_len, now);
	} else {
		relay->client.paused = true;
		relay->early = buf_new(from_client_len);
		/* it is as large as that */
		if (buf_add(relay->early, from_client, from_client_len) !=
		    ERR_OK)
			relay->client.lost = true;
	}
	/* what follows from it may end the relay: not in this call */
	relay->timer_ms = now;
	loop_timer_set(relay->timer, 0);
}

void
relay_close(struct relay *relay, enum cause cause, enum cause_side side,
    int code, const char *reason)
{
	if (relay->state != RELAY_OPEN)
		return;
	close_both(relay, cause, side, code, reason);
	relay->timer_ms = clock_ms();
	loop_timer_set(relay->timer, 0);
}

void
relay_answer(struct relay *relay, const struct wire_answer *answer)
{
	int64_t now = clock_ms();
	const char *why = NULL;

	if (relay->state != RELAY_OPEN)
		return;
	if (leg_answer(&relay->client, answer, now, &why))
		close_both(relay, CAUSE_BUDGET, SIDE_BROKER, 0,
		    answer->message);
	else if (why != NULL)
		close_both(relay, CAUSE_VIOLATION, SIDE_CLIENT, WS_CODE_POLICY,
		    why);
	/* what follows from it comes from the loop */
	relay->timer_ms = now;
	loop_timer_set(relay->timer, 0);
}

void
relay_get_asks(const struct relay *relay, struct wire_usage *usage)
{
	gate_get_asks(transform_gate(relay->transform), usage);
}

uint64_t
relay_input_bytes(const struct relay *relay)
{
	return transform_input_bytes(relay->transform);
}

void
relay_set_limits(struct relay *relay, const struct wire_limits *limits)
{
	int64_t now = clock_ms();

	relay->limits = *limits;
	flow_set_message_max(&relay->client.in, limits->client_message_bytes);
	flow_set_message_max(&relay->upstream.in,
	    limits->upstream_message_bytes);
	set_rates(relay, now);
	relay->usage_ms = limits->usage_ms > 0 ? now + limits->usage_ms : NEVER;
	/* what the old rate asked to wait for is over */
	relay->client.resume_ms = now;
	if (relay->state != RELAY_OPEN)
		return;
	leg_update_interest(&relay->client, now);
	arm(relay, now);
}

void
relay_get_totals(const struct relay *relay, struct wire_totals *client,
    struct wire_totals *upstream)
{
	*client = relay->client.in.totals;
	*upstream = relay->upstream.in.totals;
}

void
relay_free(struct relay *relay)
{
	if (relay == NULL)
		return;
	leg_done(&relay->client);
	leg_done(&relay->upstream);
	transform_free(relay->transform);
	key_mask_free(relay->keys);
	buf_free(relay->early);
	linger_free(relay->lingers[0]);
	linger_free(relay->lingers[1]);
	loop_timer_free(relay->timer);
	free(relay);
}
