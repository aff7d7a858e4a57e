/* SPDX-License-Identifier: MIT */
#ifndef SIM_JOURNAL_H
#define SIM_JOURNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "request.h"

/*
 * journal: what the simulator was sent, for the tests to look at.
 *
 * It shows everything, keys too: it is a test's instrument.  At most
 * JOURNAL_MAX records are kept, the oldest go first.  Thread-safe.
 */
#define JOURNAL_MAX 1000

struct journal;
struct record;

struct journal *journal_new(void);
void journal_free(struct journal *journal);

/*
 * Note a request; the caller owns a reference until record_end().  A record
 * that the journal forgot meanwhile may still be written to.
 */
struct record *journal_note(struct journal *journal,
    const struct request *request, bool tls);

/*
 * How many chat completions there were, and how they ended: {"calls","open",
 * "complete","gone","broken","deltas"}.
 */
json_t *journal_chat_json(struct journal *journal);

/* {"handshakes":[...],"requests":[...],"forgotten":n}: upgrades, the rest. */
json_t *journal_json(struct journal *journal);

/* Forget all records; chat completions that are open are counted on. */
void journal_reset(struct journal *journal);

enum direction {
	RECEIVED,
	SENT,
};

void record_status(struct record *record, int status);

/*
 * The body of a request; the first JOURNAL_BODY_MAX bytes are shown, and
 * nothing of one that is no UTF-8.
 */
#define JOURNAL_BODY_MAX (16 * 1024)
void record_body(struct record *record, const void *data, size_t len);

/* How the answer to an HTTP request ended. */
enum outcome {
	OUTCOME_NONE, /* it has not */
	OUTCOME_COMPLETE,
	OUTCOME_GONE,	/* the client left */
	OUTCOME_BROKEN, /* the simulator broke it off */
};

/* It is a chat completion: before its end, if at all. */
void record_chat(struct record *record);
void record_delta(struct record *record);
void record_outcome(struct record *record, enum outcome outcome);

/* A piece of a message; final where the message ends with it. */
void record_data(struct record *record, enum direction direction, bool binary,
    size_t len, bool final);

/* A control frame that is no close: "pings" or "pongs". */
void record_control(struct record *record, enum direction direction, bool pong);

/* A close frame; code 0 where it was empty; reason need not be text. */
void record_close(struct record *record, enum direction direction, int code,
    const void *reason, size_t len);

/* The connection is over; NULL is allowed. */
void record_end(struct record *record);

#endif
