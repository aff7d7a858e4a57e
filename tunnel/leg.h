/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_LEG_H
#define TUNNEL_LEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/wire.h"
#include "tunnel/cause.h"
#include "tunnel/flow.h"
#include "tunnel/key_mask.h"
#include "tunnel/stream.h"
#include "tunnel/transform.h"

/*
 * leg: one of the two connections of a relay.  What it reads is checked by
 * its flow and sent to the other leg, through the transform where there is one.
 * Deciding when to end is the relay's.
 */
enum leg_out {
	LEG_OPEN,   /* frames go out */
	LEG_ENDING, /* our close frame waits for the end of a frame */
	LEG_CLOSED, /* a close frame has been sent or queued: nothing follows */
};

/* What is read of messages, for the relay's owner. */
struct leg_news {
	/* as sink's */
	void (*usage)(void *arg, json_t *event);
	void (*message)(void *arg, struct message_log_entry *entry,
	    const void *text, size_t len);
	void (*ask)(void *arg, int64_t n, bool begun);
	void *arg;
};

/* What may wait to be put in between two messages, of answers of our own. */
#define LEG_INSERT_BYTES (64 * 1024)

#define LEG_MASKS 16

struct leg {
	/* set by the relay, once */
	struct loop *loop;
	struct leg *other;
	enum cause_side side;  /* SIDE_CLIENT, SIDE_UPSTREAM */
	struct stream *stream; /* NULL once it is done */
	struct loop_watch *watch;
	struct transform *transform; /* of both legs; NULL: none */
	enum transform_mode mode;    /* of what this peer sends */
	const struct leg_news *news;
	const struct key_mask *keys; /* not for the other peer; NULL: none */

	/* set by the relay */
	bool paused; /* it is not to be read yet */

	/* read-only for the relay */
	struct flow in;	   /* what this peer sends */
	enum leg_out out;  /* how far we are with this peer */
	bool in_ended;	   /* nothing that comes is understood any more */
	bool lost;	   /* the connection is of no use any more */
	bool deaf;	   /* nothing can be sent to it; it is read on */
	bool hung_up;	   /* it is known to have left; more may be unread */
	bool reading;	   /* its silence counts */
	size_t queued;	   /* bytes that wait for this peer */
	int64_t moved_ms;  /* since when none of them has gone */
	int64_t heard_ms;  /* when it was heard last, or could be */
	int64_t pinged_ms; /* since when an answer is due; 0: none is */
	int64_t resume_ms; /* it is not read before */
	int64_t data_ms;   /* when it sent data last */
	int close_code;	   /* of the close frame it sent */
	/* without keys */
	char close_reason[WS_REASON_MAX_BYTES + 1];

	/* private */
	struct buf *queue; /* NULL while none is needed */
	/* messages of ours that wait for the end of one, NULL while none do */
	struct buf *inserts;
	struct buf *rest; /* came behind what the gate holds; NULL: nothing */
	bool masked;	  /* the frame that it sends now, and how */
	uint8_t mask[4];
	uint64_t mask_offset;
	bool ping_out; /* a pong with this payload is ours */
	uint8_t ping[8];
	uint8_t masks[LEG_MASKS][4]; /* for frames to it, in stock */
	size_t masks_left;
	int end_code; /* of the close frame that waits */
	char end_reason[WS_REASON_MAX_BYTES + 1];
};

/* Once, before anything else: what the transform wants the vendor to get. */
void leg_start_transform(struct leg *client, int64_t now_ms);

/* Check and pass on bytes of this peer, which lie in the loop's scratch. */
void leg_feed(struct leg *leg, uint8_t *data, size_t len, int64_t now_ms);

/* Read once and pass on.  True if the connection is still readable. */
void leg_read(struct leg *leg, int64_t now_ms);

/*
 * Hand an answer of the broker to the client's gate, and go on with what waited
 * behind it.  True where the budget is spent: gate_answer(); *ret_why is why
 * the client has to be closed (1008), a static text, or NULL.
 */
bool leg_answer(struct leg *client, const struct wire_answer *answer,
    int64_t now_ms, const char **ret_why) MUST_CHECK;

/* Go on with what waited behind the client's gate, if that is open. */
void leg_release(struct leg *client, int64_t now_ms);

/* Tell the client as sink_expiring(), if it takes what it is told. */
void leg_tell_expiry(struct leg *client, int64_t expires_at,
    int64_t remaining_s, const char *reason, int64_t now_ms);

/* Send to this peer, or queue. */
void leg_send(struct leg *leg, const void *data, size_t len, int64_t now_ms);

/* Send what is queued. */
void leg_flush(struct leg *leg, int64_t now_ms);

/*
 * How long it can be said of a peer that has hung up that nothing more of it
 * has come, or, if it is the client, could be passed on.
 */
int64_t leg_gone_ms(const struct leg *leg, int64_t now_ms);

/* Free the queue's memory if it is empty; true if there is none left. */
bool leg_trim(struct leg *leg);

/* Send a close frame of our own as soon as a frame may begin. */
void leg_end(struct leg *leg, int code, const char *reason, int64_t now_ms);

/* Send the close frame that waits, if that can be now. */
void leg_try_end(struct leg *leg, int64_t now_ms);

/* Ping, if a frame may begin and nothing is queued; true if it was sent. */
bool leg_ping(struct leg *leg, int64_t now_ms);

/* Wait for what this leg needs now: the one place that decides it. */
void leg_update_interest(struct leg *leg, int64_t now_ms);

/* Whether close frames have gone both ways, or cannot go any more. */
bool leg_is_done(const struct leg *leg);

/* Close and free what it owns; it is lost then.  More than once is allowed. */
void leg_done(struct leg *leg);

#endif
