/* SPDX-License-Identifier: MIT */
#include "tunnel/leg.h"

#include <stdio.h>
#include <string.h>

#include "common/crypt.h"

/* control frames, and our own head, beside one read's worth of bytes */
#define QUEUE_EXTRA_BYTES (32 * 1024)

#define FLOODED "too many refused messages"

/* ---- towards the peer -------------------------------------------------- */

static void
enqueue(struct leg *leg, const uint8_t *data, size_t len, int64_t now_ms)
{
	size_t scratch_size;

	(void)loop_scratch(leg->loop, &scratch_size);
	if (leg->queue == NULL)
		leg->queue = buf_new(scratch_size + QUEUE_EXTRA_BYTES +
		    transform_extra_bytes(leg->transform, leg->side));
	if (leg->queued == 0)
		leg->moved_ms = now_ms;
	/* it cannot overflow, for the other side is not read meanwhile */
	if (buf_add(leg->queue, data, len) == ERR_OK)
		leg->queued += len;
	else
		leg->lost = true;
}

/*
 * The peer takes no more.  What it sent before that, its close frame perhaps,
 * is still to be read: the end of that makes the connection lost.
 */
static void
go_deaf(struct leg *leg)
{
	leg->deaf = leg->hung_up = true;
	buf_free(leg->queue);
	leg->queue = NULL;
	leg->queued = 0;
}

void
leg_send(struct leg *leg, const void *data, size_t len, int64_t now_ms)
{
	const uint8_t *p = data;
	size_t n = 0;

	if (leg->lost || leg->deaf)
		return;
	if (leg->queued == 0 &&
	    stream_write(leg->stream, p, len, &n) == STREAM_LOST)
		go_deaf(leg);
	else if (n < len)
		enqueue(leg, p + n, len - n, now_ms);
}

/* Whether a message of our own may be put in between what passes now. */
static bool
is_between_messages(const struct leg *source)
{
	if (source->mode != TRANSFORM_REPLACE)
		return flow_at_boundary(&source->in) && !source->in.in_message;
	/* of the vendor's they are whole */
	return source->side == SIDE_UPSTREAM ||
	    !transform_in_message(source->transform);
}

/* Whether a frame of our own may be: what is replaced is in whole frames. */
static bool
is_between_frames(const struct leg *source)
{
	return source->mode == TRANSFORM_REPLACE ||
	    flow_at_boundary(&source->in);
}

/* Send the messages of ours that wait, if that can be now. */
static void
try_inserts(struct leg *leg, int64_t now_ms)
{
	struct buf *inserts = leg->inserts;
	const uint8_t *data;
	size_t len;

	if (inserts == NULL || leg->queued > 0 || leg->out != LEG_OPEN ||
	    !is_between_messages(leg->other))
		return;
	data = buf_peek(inserts, &len);
	leg_send(leg, data, len, now_ms);
	leg->inserts = NULL;
	buf_free(inserts);
}

/*
 * A message of ours, beside what the other peer sends.  ERR_LIMIT where this
 * peer makes more of them than it takes.
 */
static enum err
insert(struct leg *leg, const uint8_t *frame, size_t len, int64_t now_ms)
{
	enum err err;

	if (leg->out != LEG_OPEN)
		return ERR_OK;
	if (leg->inserts == NULL)
		leg->inserts = buf_new(LEG_INSERT_BYTES +
		    transform_insert_bytes(leg->transform, leg->side));
	err = buf_add(leg->inserts, frame, len);
	if (err == ERR_OK)
		try_inserts(leg, now_ms);
	return err;
}

void
leg_flush(struct leg *leg, int64_t now_ms)
{
	const uint8_t *data;
	size_t len, n;

	if (leg->queued == 0 || leg->lost)
		return;
	data = buf_peek(leg->queue, &len);
	if (stream_write(leg->stream, data, len, &n) == STREAM_LOST) {
		go_deaf(leg);
		return;
	}
	if (n == 0)
		return;
	buf_drain(leg->queue, n);
	leg->queued -= n;
	leg->moved_ms = now_ms;
	try_inserts(leg, now_ms);
}

bool
leg_trim(struct leg *leg)
{
	if (leg->queue != NULL && leg->queued == 0) {
		buf_free(leg->queue);
		leg->queue = NULL;
	}
	return leg->queue == NULL;
}

/* Frames to the vendor are a client's: masked. */
static const uint8_t *
make_mask(struct leg *leg)
{
	if (leg->side == SIDE_CLIENT)
		return NULL;
	/* many at once: a system call costs as much as unmasking 8 KiB */
	if (leg->masks_left == 0) {
		crypt_random(leg->masks, sizeof(leg->masks));
		leg->masks_left = LEG_MASKS;
	}
	return leg->masks[--leg->masks_left];
}

void
leg_end(struct leg *leg, int code, const char *reason, int64_t now_ms)
{
	if (leg->out != LEG_OPEN)
		return;
	leg->out = LEG_ENDING;
	leg->end_code = code;
	(void)snprintf(leg->end_reason, sizeof(leg->end_reason), "%s", reason);
	leg_try_end(leg, now_ms);
}

void
leg_try_end(struct leg *leg, int64_t now_ms)
{
	const struct leg *source = leg->other;
	uint8_t frame[WS_CONTROL_FRAME_MAX];
	size_t len;

	if (leg->out != LEG_ENDING)
		return;
	if (is_between_frames(source)) {
		len = ws_close_put(frame, make_mask(leg), leg->end_code,
		    leg->end_reason);
		leg_send(leg, frame, len, now_ms);
		leg->out = LEG_CLOSED;
	} else if (source->in_ended || source->lost) {
		/* the frame is cut for good: no other can follow it */
		leg->out = LEG_CLOSED;
		leg->in_ended = true;
	}
}

bool
leg_ping(struct leg *leg, int64_t now_ms)
{
	uint8_t frame[WS_CONTROL_FRAME_MAX];
	size_t len;

	if (leg->out != LEG_OPEN || leg->deaf || leg->queued > 0 ||
	    !is_between_frames(leg->other))
		return false;
	crypt_random(leg->ping, sizeof(leg->ping));
	len = ws_control_put(frame, WS_PING, make_mask(leg), leg->ping,
	    sizeof(leg->ping));
	leg_send(leg, frame, len, now_ms);
	leg->ping_out = true;
	leg->pinged_ms = now_ms;
	return true;
}

/* ---- from the peer ----------------------------------------------------- */

/*
 * What a flow has passed on, gathered into one run of bytes so that one read
 * becomes one write: pieces that follow each other in memory are joined, and a
 * short piece from elsewhere (a header that was cut between two reads, or
 * what stood before a swallowed frame) is moved to just before the next.
 */
struct run {
	struct leg *from;
	int64_t now_ms;
	uint8_t *base; /* what is being fed */
	bool aside;    /* of nothing that is being fed: what it makes waits */
	bool flooded;  /* with answers of ours that the peer does not take */
	const uint8_t *data;
	size_t len;
	uint8_t *low, *high; /* the memory that pieces may be moved in */
	uint8_t held[WS_CONTROL_FRAME_MAX];
};

static void
run_send(struct run *run)
{
	if (run->len > 0)
		leg_send(run->from->other, run->data, run->len, run->now_ms);
	run->len = 0;
}

static void
run_add(struct run *run, const uint8_t *data, size_t len)
{
	bool movable = data >= run->low && data < run->high;

	if (run->len > 0 && run->data + run->len == data) {
		run->len += len;
		return;
	}
	if (movable && run->len > 0 && run->len <= LOOP_HEADROOM &&
	    (size_t)(data - run->low) >= run->len) {
		uint8_t *to = run->low + (data - run->low) - run->len;

		/* what stands there has been handed on already */
		memmove(to, run->data, run->len);
		run->data = to;
		run->len += len;
		return;
	}
	run_send(run);
	if (!movable && len <= sizeof(run->held)) {
		memcpy(run->held, data, len); /* it may not be kept */
		data = run->held;
	}
	run->data = data;
	run->len = len;
	if (!movable && data != run->held)
		run_send(run);
}

static void
on_pass(void *arg, const uint8_t *data, size_t len)
{
	struct run *run = arg;

	run->from->data_ms = run->now_ms;
	if (run->from->other->out != LEG_CLOSED)
		run_add(run, data, len);
}

/* True where the reason has a key in it: it is not to pass as it is. */
static bool
note_close(struct leg *leg, const uint8_t *payload, size_t len)
{
	const char *reason = "";
	size_t reason_len = 0;

	if (ws_close_parse(payload, len, &leg->close_code, &reason,
		&reason_len) == ERR_OK)
		(void)snprintf(leg->close_reason, sizeof(leg->close_reason),
		    "%.*s", (int)reason_len, reason);
	return key_mask_apply(leg->keys, leg->close_reason);
}

static void
on_control(void *arg, enum ws_opcode opcode, const uint8_t *raw, size_t raw_len,
    const uint8_t *payload, size_t payload_len)
{
	struct run *run = arg;
	struct leg *from = run->from, *to = from->other;
	uint8_t own[WS_CONTROL_FRAME_MAX];

	if (opcode == WS_PONG && from->ping_out &&
	    payload_len == sizeof(from->ping) &&
	    memcmp(payload, from->ping, payload_len) == 0) {
		from->ping_out = false;
		return;
	}
	if (opcode == WS_CLOSE && note_close(from, payload, payload_len)) {
		raw_len = ws_close_put(own, make_mask(to), from->close_code,
		    from->close_reason);
		raw = own;
	}
	if (to->out != LEG_OPEN)
		return;
	run_add(run, raw, raw_len);
	if (opcode == WS_CLOSE) {
		run_send(run);
		to->out = LEG_CLOSED;
	}
}

/* ---- from the peer, where messages are read ---------------------------- */

/* A frame that the transform has made. */
static void
on_frame(void *arg, enum cause_side to, enum ws_opcode opcode, bool fin,
    uint8_t *data, size_t len)
{
	struct run *run = arg;
	struct leg *from = run->from;
	struct leg *dest = to == from->side ? from : from->other;
	uint8_t header[WS_HEADER_MAX_BYTES];
	const uint8_t *mask = make_mask(dest);
	size_t header_len = ws_header_put(header, opcode, fin, mask, len);
	uint8_t *frame = len > 0 ? data - header_len : header;

	if (len > 0)
		memcpy(frame, header, header_len);
	if (mask != NULL)
		ws_mask(data, len, mask, 0);
	if (dest == from ||
	    (run->aside && transform_in_message(from->transform))) {
		if (insert(dest, frame, header_len + len, run->now_ms) !=
		    ERR_OK)
			run->flooded = true;
	} else if (dest->out == LEG_OPEN) {
		run_add(run, frame, header_len + len);
	}
}

static void
on_usage(void *arg, json_t *event)
{
	const struct leg_news *news = ((struct run *)arg)->from->news;

	news->usage(news->arg, event);
}

static void
on_message(void *arg, struct message_log_entry *entry, const void *text,
    size_t len)
{
	const struct leg_news *news = ((struct run *)arg)->from->news;

	news->message(news->arg, entry, text, len);
}

static void
on_ask(void *arg, int64_t n, bool begun)
{
	const struct leg_news *news = ((struct run *)arg)->from->news;

	news->ask(news->arg, n, begun);
}

static struct sink
sink_of(struct run *run)
{
	return (struct sink){ .frame = on_frame,
		.usage = on_usage,
		.message = on_message,
		.ask = on_ask,
		.arg = run };
}

/* While something waits at the gate, no other message may begin. */
static void
hold_client(struct leg *leg)
{
	struct leg *client = leg->side == SIDE_CLIENT ? leg : leg->other;

	if (gate_is_closed(transform_gate(leg->transform)))
		flow_hold(&client->in, true);
}

static const char *
feed_transform(struct run *run, uint8_t *data, size_t len, bool last)
{
	const struct sink sink = sink_of(run);
	struct leg *from = run->from;
	const char *why =
	    transform_feed(from->transform, from->side, data, len, last, &sink);

	hold_client(from);
	return why == NULL && run->flooded ? FLOODED : why;
}

static void
on_header(void *arg, const struct ws_header *header, const uint8_t *raw)
{
	struct run *run = arg;
	struct leg *from = run->from;

	from->data_ms = run->now_ms;
	from->masked = header->masked;
	memcpy(from->mask, header->mask, sizeof(from->mask));
	from->mask_offset = 0;
	if (header->opcode != WS_CONTINUATION)
		transform_begin(from->transform, from->side,
		    (enum ws_opcode)header->opcode);
	if (from->mode == TRANSFORM_READ)
		on_pass(run, raw, header->header_len);
}

/* What must pass as it came is unmasked elsewhere to be read. */
static const char *
read_masked(struct run *run, const uint8_t *data, size_t len, bool last)
{
	struct leg *from = run->from;
	uint8_t some[4096];
	const char *why;

	do {
		size_t n = len < sizeof(some) ? len : sizeof(some);

		if (n > 0)
			memcpy(some, data, n);
		ws_mask(some, n, from->mask, from->mask_offset);
		from->mask_offset += n;
		data += n;
		len -= n;
		why = feed_transform(run, some, n, last && len == 0);
	} while (why == NULL && len > 0);
	return why;
}

/* A message has ended. */
static void
put_inserts(struct run *run)
{
	struct leg *to = run->from->other;

	if (to->inserts == NULL)
		return;
	run_send(run);
	try_inserts(to, run->now_ms);
}

/* Payload passes, and is read on the side. */
static const char *
on_payload_read(void *arg, const uint8_t *data, size_t len, bool last)
{
	struct run *run = arg;
	struct leg *from = run->from;
	const char *why = NULL;

	if (len > 0)
		on_pass(run, data, len);
	if (from->masked)
		why = read_masked(run, data, len, last);
	else if (last || transform_wants_more(from->transform, from->side))
		why = feed_transform(run,
		    len > 0 ? run->base + (data - run->base) : NULL, len, last);
	if (last)
		put_inserts(run);
	return why;
}

/* Payload is taken over: what the other peer gets is the transform's. */
static const char *
on_payload_replaced(void *arg, const uint8_t *data, size_t len, bool last)
{
	struct run *run = arg;
	struct leg *from = run->from;
	const char *why;
	uint8_t *own = NULL;

	from->data_ms = run->now_ms;
	if (len > 0) {
		own = run->base + (data - run->base);
		if (from->masked)
			ws_mask(own, len, from->mask, from->mask_offset);
		from->mask_offset += len;
	}
	why = feed_transform(run, own, len, last);
	if (last)
		put_inserts(run);
	return why;
}

static void
begin_run(struct run *run, struct leg *leg, uint8_t *data, int64_t now_ms)
{
	size_t size;

	*run = (struct run){ .from = leg, .now_ms = now_ms, .base = data };
	run->low = loop_scratch(leg->loop, &size);
	run->high = run->low + size;
	run->low -= LOOP_HEADROOM;
}

void
leg_start_transform(struct leg *client, int64_t now_ms)
{
	struct run run;
	const struct sink sink = sink_of(&run);

	begin_run(&run, client, NULL, now_ms);
	transform_start(client->transform, &sink);
	run_send(&run);
}

/* ---- beside what passes ------------------------------------------------ */

bool
leg_answer(struct leg *client, const struct wire_answer *answer, int64_t now_ms,
    const char **ret_why)
{
	struct run run;
	const struct sink sink = sink_of(&run);
	bool spent;

	begin_run(&run, client, NULL, now_ms);
	run.aside = true;
	spent = gate_answer(transform_gate(client->transform), answer, &sink);
	run_send(&run);
	*ret_why = run.flooded ? FLOODED : NULL;
	if (!spent)
		leg_release(client, now_ms);
	return spent;
}

void
leg_tell_expiry(struct leg *client, int64_t expires_at, int64_t remaining_s,
    const char *reason, int64_t now_ms)
{
	struct run run;
	const struct sink sink = sink_of(&run);

	begin_run(&run, client, NULL, now_ms);
	sink_expiring(&sink, expires_at, remaining_s, reason);
	run_send(&run);
}

/* What is behind a message that waits at the gate waits, too. */
static void
keep_rest(struct leg *leg, const uint8_t *data, size_t len)
{
	size_t size;

	(void)loop_scratch(leg->loop, &size);
	leg->rest = buf_new(size);
	/* it is of one read, and nothing is read while it is there */
	if (buf_add(leg->rest, data, len) != ERR_OK)
		leg->lost = true;
}

void
leg_release(struct leg *client, int64_t now_ms)
{
	struct buf *rest = client->rest;
	const uint8_t *data;
	uint8_t *scratch;
	size_t size, len = 0;

	if (!client->in.on_hold ||
	    gate_is_closed(transform_gate(client->transform)))
		return;
	flow_hold(&client->in, false);
	client->rest = NULL;
	scratch = loop_scratch(client->loop, &size);
	if (rest != NULL) {
		data = buf_peek(rest, &len);
		memcpy(scratch, data, len);
		buf_free(rest);
	}
	/* a header that is whole may be all that there is */
	leg_feed(client, scratch, len, now_ms);
}

/* ---- reading ----------------------------------------------------------- */

/* Feed what may be fed at once; ERR_PROTO as flow_feed(). */
static enum err
feed_piece(struct leg *leg, uint8_t *data, size_t len, int64_t now_ms)
{
	struct run run;
	struct flow_sink sink = { on_pass, on_control, &run, NULL, NULL };
	enum err err;

	begin_run(&run, leg, data, now_ms);
	if (leg->mode != TRANSFORM_PASS) {
		sink.header = on_header;
		sink.payload = leg->mode == TRANSFORM_READ
		    ? on_payload_read
		    : on_payload_replaced;
	}
	err = flow_feed(&leg->in, data, len, now_ms, &sink);
	run_send(&run);
	return err;
}

void
leg_feed(struct leg *leg, uint8_t *data, size_t len, int64_t now_ms)
{
	int64_t wait_ms;

	while (!leg->in_ended) {
		size_t n = len;

		/* our close frame goes between this frame and the next */
		leg_try_end(leg->other, now_ms);
		if (leg->other->out == LEG_ENDING &&
		    flow_frame_left(&leg->in) < n)
			n = (size_t)flow_frame_left(&leg->in);
		if (feed_piece(leg, data, n, now_ms) != ERR_OK)
			leg->in_ended = true;
		data += n;
		len -= n;
		if (leg->in.left > 0)
			keep_rest(leg, data - leg->in.left, len + leg->in.left);
		if (leg->in.left > 0 || len == 0)
			break;
	}
	leg_try_end(leg->other, now_ms);
	wait_ms = flow_wait_ms(&leg->in, now_ms);
	if (wait_ms > 0)
		leg->resume_ms = now_ms + wait_ms;
}

void
leg_read(struct leg *leg, int64_t now_ms)
{
	enum stream_result result;
	uint8_t *scratch;
	size_t size, n;

	scratch = loop_scratch(leg->loop, &size);
	result = stream_read(leg->stream, scratch, size, &n);
	if (result == STREAM_WAIT)
		return;
	if (result == STREAM_OK) {
		leg->heard_ms = now_ms;
		leg->pinged_ms = 0;
		leg_feed(leg, scratch, n, now_ms);
		return;
	}
	leg->in_ended = true;
	/* after its close frame a peer may stop sending and still listen */
	if (result == STREAM_LOST || !leg->in.closed)
		leg->lost = true;
}

/* ---- both -------------------------------------------------------------- */

static bool
may_read(const struct leg *leg, int64_t now_ms)
{
	const struct leg *other = leg->other;

	if (leg->in_ended || leg->lost || leg->rest != NULL)
		return false;
	/* what it sends goes nowhere: only its close frame is waited for */
	if (other->out == LEG_CLOSED || other->lost || other->deaf)
		return true;
	return !leg->paused && other->queued == 0 && now_ms >= leg->resume_ms;
}

void
leg_update_interest(struct leg *leg, int64_t now_ms)
{
	bool read = may_read(leg, now_ms);
	bool wants_read, wants_write;

	if (leg->stream == NULL)
		return;
	if (read && !leg->reading) {
		/* it may have spoken while we did not listen */
		leg->heard_ms = now_ms;
		if (leg->pinged_ms != 0)
			leg->pinged_ms = now_ms;
	}
	leg->reading = read;
	stream_interest(leg->stream, read, leg->queued > 0 && !leg->lost,
	    &wants_read, &wants_write);
	loop_watch_set(leg->watch, wants_read, wants_write);
	if (read && stream_has_more(leg->stream))
		loop_watch_kick(leg->watch);
}

int64_t
leg_gone_ms(const struct leg *leg, int64_t now_ms)
{
	if (!leg->hung_up)
		return 0;
	if (leg->reading)
		return now_ms - leg->heard_ms;
	/* who is left may be slow to take what the vendor said last */
	if (leg->side == SIDE_UPSTREAM)
		return 0;
	/* else it waits for its rate, and is read again by itself */
	return leg->other->queued > 0 ? now_ms - leg->other->moved_ms : 0;
}

bool
leg_is_done(const struct leg *leg)
{
	return leg->lost ||
	    ((leg->in.closed || leg->in_ended) && leg->out == LEG_CLOSED &&
		leg->queued == 0);
}

void
leg_done(struct leg *leg)
{
	loop_watch_free(leg->watch);
	stream_free(leg->stream);
	buf_free(leg->queue);
	buf_free(leg->inserts);
	buf_free(leg->rest);
	leg->watch = NULL;
	leg->stream = NULL;
	leg->queue = leg->inserts = leg->rest = NULL;
	leg->queued = 0;
	leg->lost = true;
}
