/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_FLOW_H
#define TUNNEL_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire.h"
#include "common/ws_frame.h"

/*
 * What a reader of texts has against a message, and says in these words, for
 * it to be closed with 1003 and with 1007.
 */
extern const char FLOW_NO_TEXT[], FLOW_NO_UTF8[];

/*
 * flow: one direction of a relay, as a pure state machine.
 *
 * It is fed the bytes that were read from one peer and hands on what the
 * other peer must get.  Data frames pass verbatim, header and masked payload
 * alike, as they come (a message is never gathered), or, to a sink that reads
 * them, header by header and piece by piece.  Control frames are
 * gathered (they have at most 139 bytes) and handed over whole and decoded.  A
 * header that is cut between two reads is held back until it is whole, so
 * nothing passes before it has been checked.
 */
struct flow {
	/* read-only for others */
	struct wire_totals totals; /* data messages begun; payload bytes */
	bool closed;	 /* a close frame has passed: what follows is dropped */
	int violation;	 /* close code of the violation, or 0 */
	const char *why; /* static text of the violation */
	size_t left; /* bytes that flow_feed() did not take: see flow_hold() */

	/* private */
	bool on_hold;
	enum ws_sender sender;
	uint64_t message_max;	/* bytes, 0 for no limit */
	uint64_t message_bytes; /* of the message under way */
	bool in_message;	/* between the first and the FIN frame */
	uint64_t payload_left;	/* of the data frame under way */
	uint8_t held[WS_CONTROL_FRAME_MAX]; /* a cut header, a control frame */
	size_t held_len;
	/* token buckets; see flow_set_rates() */
	uint64_t messages_per_s, bytes_per_s;
	int64_t message_credit, byte_credit; /* thousandths */
	int64_t credit_ms;
};

/* Where a flow puts what it has checked; calls come in wire order. */
struct flow_sink {
	/* Pass these bytes on as they are; they are not kept after the call. */
	void (*pass)(void *arg, const uint8_t *data, size_t len);
	/*
	 * A control frame: raw is its bytes as sent (mask included), payload
	 * is unmasked.  A close frame has been checked already.
	 */
	void (*control)(void *arg, enum ws_opcode opcode, const uint8_t *raw,
	    size_t raw_len, const uint8_t *payload, size_t payload_len);
	void *arg;
	/*
	 * Both or none.  Where they are set they are called for data frames,
	 * and pass() is not: with each header, decoded and raw (header_len
	 * bytes; it may lie elsewhere in memory than what follows it), and
	 * with each piece of payload as it came, masked or not.  At the end of
	 * a message there is a piece, if need be an empty one, with last.
	 * payload() answers why the message must not go on, a static text,
	 * which is a violation (1008); or NULL.
	 */
	void (*header)(void *arg, const struct ws_header *header,
	    const uint8_t *raw);
	const char *(
	    *payload)(void *arg, const uint8_t *data, size_t len, bool last);
};

/*
 * While it is on hold a flow takes no new data message, but what is before
 * one: the rest of a message that has begun, and control frames.  flow_feed()
 * stops in front of it then, and left says how many of the bytes have to be
 * fed again, first of all, when it is no longer on hold.
 */
void flow_hold(struct flow *flow, bool on_hold);

void flow_init(struct flow *flow, enum ws_sender sender, uint64_t message_max);

/*
 * Token buckets over one second's worth each: messages over the rate are a
 * violation (1008), bytes over the rate make flow_wait_ms() positive.  0 is no
 * limit.  Pings count as messages.
 */
void flow_set_rates(struct flow *flow, uint64_t messages_per_s,
    uint64_t bytes_per_s, int64_t now_ms);

/*
 * Check len bytes and hand them on through sink.  ERR_PROTO on a violation:
 * violation and why are set, everything before the offending frame has been
 * handed on, nothing of it or after it, and the flow must not be fed again.
 * Violations: ws_header_parse()'s, a continuation without a message, a new
 * message inside one (1002), a message over its maximum (1009: as soon as a
 * header says so), message rate (1008), a bad close payload (1002, 1007), and
 * what the sink's payload() refuses (1008).
 */
enum err flow_feed(struct flow *flow, const uint8_t *data, size_t len,
    int64_t now_ms, const struct flow_sink *sink) MUST_CHECK;

/* Milliseconds that reading has to wait to keep the byte rate; 0: none. */
int64_t flow_wait_ms(const struct flow *flow, int64_t now_ms);

/* Set another maximum; it counts from the next frame on. */
void flow_set_message_max(struct flow *flow, uint64_t message_max);

/* Payload bytes that the data frame under way still has to pass; or 0. */
uint64_t flow_frame_left(const struct flow *flow);

/*
 * Whether what has been passed on so far ends between two frames, so that a
 * frame of our own (ping, close) may be put in here.
 */
bool flow_at_boundary(const struct flow *flow);

#endif
