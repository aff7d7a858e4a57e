/* SPDX-License-Identifier: MIT */
#include "tunnel/flow.h"

#include <string.h>

/* Credits count thousandths, so that a millisecond adds a whole number. */
#define CREDIT 1000

/* Keeps the product of a rate and a second in range. */
#define RATE_MAX ((uint64_t)1 << 40)

void
flow_init(struct flow *flow, enum ws_sender sender, uint64_t message_max)
{
	*flow = (struct flow){ .sender = sender, .message_max = message_max };
}

void
flow_set_rates(struct flow *flow, uint64_t messages_per_s, uint64_t bytes_per_s,
    int64_t now_ms)
{
	flow->messages_per_s =
	    messages_per_s < RATE_MAX ? messages_per_s : RATE_MAX;
	flow->bytes_per_s = bytes_per_s < RATE_MAX ? bytes_per_s : RATE_MAX;
	flow->message_credit = (int64_t)flow->messages_per_s * CREDIT;
	flow->byte_credit = (int64_t)flow->bytes_per_s * CREDIT;
	flow->credit_ms = now_ms;
}

/* Credit of a bucket after some time: at most one second's worth. */
static int64_t
refilled(int64_t credit, uint64_t per_s, int64_t elapsed_ms)
{
	int64_t full = (int64_t)per_s * CREDIT;

	/* byte credit may be far below zero: no cut of the time there */
	if (elapsed_ms >= (full - credit) / (int64_t)per_s)
		return full;
	return credit + elapsed_ms * (int64_t)per_s;
}

static void
refill(struct flow *flow, int64_t now_ms)
{
	int64_t elapsed = now_ms - flow->credit_ms;

	if (elapsed <= 0)
		return;
	flow->credit_ms = now_ms;
	if (flow->messages_per_s > 0)
		flow->message_credit = refilled(flow->message_credit,
		    flow->messages_per_s, elapsed);
	if (flow->bytes_per_s > 0)
		flow->byte_credit =
		    refilled(flow->byte_credit, flow->bytes_per_s, elapsed);
}

int64_t
flow_wait_ms(const struct flow *flow, int64_t now_ms)
{
	int64_t rate = (int64_t)flow->bytes_per_s, wait;

	if (rate == 0 || flow->byte_credit >= 0)
		return 0;
	wait =
	    (-flow->byte_credit + rate - 1) / rate - (now_ms - flow->credit_ms);
	return wait > 0 ? wait : 0;
}

const char FLOW_NO_TEXT[] = "binary messages are not taken here";
const char FLOW_NO_UTF8[] = "a message is not valid UTF-8";

/* For what the reader of a message has against it. */
static int
code_of(const char *why)
{
	if (why == FLOW_NO_TEXT)
		return WS_CODE_UNSUPPORTED;
	return why == FLOW_NO_UTF8 ? WS_CODE_BAD_DATA : WS_CODE_POLICY;
}

static enum err
violate(struct flow *flow, int code, const char *why)
{
	flow->violation = code;
	flow->why = why;
	return ERR_PROTO;
}

/* Whether a message (or control frame) more is within the rate. */
static bool
spend_message(struct flow *flow)
{
	if (flow->messages_per_s == 0)
		return true;
	if (flow->message_credit < CREDIT)
		return false;
	flow->message_credit -= CREDIT;
	return true;
}

/* Check a data frame's header against the message under way, and begin it. */
static enum err
begin_data(struct flow *flow, const struct ws_header *header)
{
	bool first = header->opcode != WS_CONTINUATION;

	if (first && flow->in_message)
		return violate(flow, WS_CODE_PROTOCOL,
		    "new message inside a fragmented one");
	if (!first && !flow->in_message)
		return violate(flow, WS_CODE_PROTOCOL,
		    "continuation without a message");
	if (first)
		flow->message_bytes = 0;
	/*
	 * 63-bit lengths: compare by difference, the sum could wrap; the
	 * maximum may have become less than what has come already.
	 */
	if (flow->message_max > 0 &&
	    (flow->message_bytes > flow->message_max ||
		header->payload_len > flow->message_max - flow->message_bytes))
		return violate(flow, WS_CODE_TOO_BIG, "message too big");
	if (first && !spend_message(flow))
		return violate(flow, WS_CODE_POLICY, "too many messages");
	flow->message_bytes += header->payload_len;
	flow->in_message = !header->fin;
	flow->payload_left = header->payload_len;
	if (first)
		flow->totals.messages++;
	return ERR_OK;
}

/* A whole control frame: check it, decode it, hand it over. */
static enum err
take_control(struct flow *flow, const struct ws_header *header,
    const uint8_t *raw, const struct flow_sink *sink)
{
	uint8_t payload[WS_CONTROL_MAX_BYTES];
	size_t len = (size_t)header->payload_len, reason_len;
	const char *reason;
	enum err err;
	int code;

	if (!spend_message(flow))
		return violate(flow, WS_CODE_POLICY, "too many messages");
	memcpy(payload, raw + header->header_len, len);
	if (header->masked)
		ws_mask(payload, len, header->mask, 0);
	if (header->opcode == WS_CLOSE) {
		err = ws_close_parse(payload, len, &code, &reason, &reason_len);
		if (err == ERR_TYPE)
			return violate(flow, WS_CODE_BAD_DATA,
			    "close reason is not UTF-8");
		if (err != ERR_OK)
			return violate(flow, WS_CODE_PROTOCOL,
			    "illegal close payload");
		flow->closed = true;
	}
	sink->control(sink->arg, (enum ws_opcode)header->opcode, raw,
	    header->header_len + len, payload, len);
	return ERR_OK;
}

/* To a sink that reads: what there is of the frame under way. */
static enum err
hand_payload(struct flow *flow, const struct flow_sink *sink,
    const uint8_t *data, size_t len)
{
	bool last = flow->payload_left == 0 && !flow->in_message;
	const char *why = NULL;

	if (len > 0 || last)
		why = sink->payload(sink->arg, data, len, last);
	return why != NULL ? violate(flow, code_of(why), why) : ERR_OK;
}

/*
 * Handle the frame header that starts at data.  *ret_used is how many bytes
 * are done with; *ret_pass how many of them go to the peer as they are.
 * ERR_AGAIN where more must come first, ERR_CONFLICT where it may not be taken
 * now.
 */
static enum err
take_header(struct flow *flow, const uint8_t *data, size_t len,
    const struct flow_sink *sink, size_t *ret_used, size_t *ret_pass)
{
	struct ws_header header;
	const char *why = NULL;
	enum err err;

	err = ws_header_parse(data, len, flow->sender, &header, &why);
	if (err == ERR_PROTO)
		return violate(flow, WS_CODE_PROTOCOL, why);
	if (err != ERR_OK)
		return err;
	*ret_used = *ret_pass = header.header_len;
	if (header.opcode < WS_CLOSE) {
		if (flow->on_hold && header.opcode != WS_CONTINUATION)
			return ERR_CONFLICT;
		err = begin_data(flow, &header);
		if (err != ERR_OK || sink->header == NULL)
			return err;
		sink->header(sink->arg, &header, data);
		/* the end of a message may be a frame with nothing in it */
		return hand_payload(flow, sink, data + header.header_len, 0);
	}
	*ret_used += (size_t)header.payload_len;
	*ret_pass = 0;
	if (len < *ret_used)
		return ERR_AGAIN;
	return take_control(flow, &header, data, sink);
}

/*
 * Continue a header or control frame of which a part is held: move bytes in,
 * one by one (there are at most 139), until it is whole.
 */
static enum err
feed_held(struct flow *flow, const uint8_t *data, size_t len,
    const struct flow_sink *sink, size_t *ret_used)
{
	size_t used, pass, i = 0;
	enum err err;

	for (;;) {
		/* it may be whole: it was on hold */
		err = take_header(flow, flow->held, flow->held_len, sink, &used,
		    &pass);
		if (err != ERR_AGAIN || i == len)
			break;
		flow->held[flow->held_len++] = data[i++];
	}
	*ret_used = i;
	if (err == ERR_AGAIN)
		return ERR_OK;
	if (err == ERR_CONFLICT)
		return err;
	if (err == ERR_OK && pass > 0 && sink->header == NULL)
		sink->pass(sink->arg, flow->held, pass);
	flow->held_len = 0;
	return err;
}

static void
pass_run(const struct flow_sink *sink, const uint8_t *from, const uint8_t *to)
{
	if (to > from && sink->header == NULL)
		sink->pass(sink->arg, from, (size_t)(to - from));
}

/* Skip what belongs to the data frame under way; it passes with the run. */
static const uint8_t *
skip_payload(struct flow *flow, const uint8_t *p, const uint8_t *end)
{
	size_t n = (size_t)(end - p);

	if (n > flow->payload_left)
		n = (size_t)flow->payload_left;
	flow->payload_left -= n;
	flow->totals.bytes += n;
	return p + n;
}

static enum err
take_payload(struct flow *flow, const struct flow_sink *sink, const uint8_t **p,
    const uint8_t *end)
{
	const uint8_t *from = *p;

	*p = skip_payload(flow, from, end);
	if (sink->header == NULL)
		return ERR_OK;
	return hand_payload(flow, sink, from, (size_t)(*p - from));
}

/* What is not taken has not been paid for either. */
static enum err
leave(struct flow *flow, size_t len)
{
	flow->left = len;
	flow->byte_credit += flow->bytes_per_s > 0 ? (int64_t)len * CREDIT : 0;
	return ERR_OK;
}

enum err
flow_feed(struct flow *flow, const uint8_t *data, size_t len, int64_t now_ms,
    const struct flow_sink *sink)
{
	const uint8_t *p = data, *end = data + len;
	const uint8_t *run = data; /* checked, and not yet passed on */
	size_t used, pass;
	enum err err;

	refill(flow, now_ms);
	flow->left = 0;
	flow->byte_credit -= flow->bytes_per_s > 0 ? (int64_t)len * CREDIT : 0;
	if (flow->held_len > 0) {
		err = feed_held(flow, p, len, sink, &used);
		if (err == ERR_CONFLICT)
			return leave(flow, len - used);
		if (err != ERR_OK)
			return err;
		run = p += used;
	}
	while (!flow->closed && p < end) {
		if (flow->payload_left > 0) {
			err = take_payload(flow, sink, &p, end);
			if (err != ERR_OK)
				return err;
			continue;
		}
		/*
		 * A control frame is handed over inside take_header(), and
		 * what came before it has to go first.
		 */
		if ((*p & 0x8) != 0) {
			pass_run(sink, run, p);
			run = p;
		}
		err =
		    take_header(flow, p, (size_t)(end - p), sink, &used, &pass);
		if (err != ERR_OK)
			pass_run(sink, run, p);
		if (err == ERR_AGAIN) {
			flow->held_len = (size_t)(end - p);
			memcpy(flow->held, p, flow->held_len);
			return ERR_OK;
		}
		if (err == ERR_CONFLICT)
			return leave(flow, (size_t)(end - p));
		if (err != ERR_OK)
			return err;
		p += used;
		if (pass == 0)
			run = p;
	}
	if (!flow->closed)
		pass_run(sink, run, p);
	return ERR_OK;
}

void
flow_hold(struct flow *flow, bool on_hold)
{
	flow->on_hold = on_hold;
}

void
flow_set_message_max(struct flow *flow, uint64_t message_max)
{
	flow->message_max = message_max;
}

uint64_t
flow_frame_left(const struct flow *flow)
{
	return flow->payload_left;
}

bool
flow_at_boundary(const struct flow *flow)
{
	return flow->payload_left == 0;
}
