/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_REPORT_H
#define TUNNEL_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"
#include "tunnel/broker_link.h"
#include "tunnel/message_log.h"
#include "tunnel/relay.h"

/*
 * report: what the broker is told of one tunnel, and asked: totals, the
 * vendor's usage, records of the message log, whether a response may begin, and
 * the end.
 *
 * Usage events go out soon after they came, so that a tunnel that is killed
 * has reported what it was told of, and gathered, so that they do not become
 * many packets.  Where the link resumes, they are kept until the broker says
 * that they are in the ledger, up to a maximum, and are sent again to one that
 * comes after it; and so is the end.  Records are dropped instead, and counted:
 * a log holds nothing up.
 */
struct report;

struct report_events {
	/*
	 * To a question of report_ask(): the broker's answer, or in its place
	 * a refusal, where none came in time.
	 */
	void (*answer)(void *arg, const struct wire_answer *answer);
	/*
	 * After a report_end() that was not delivered at once: it is, or is
	 * given up.  The report may be freed.
	 */
	void (*delivered)(void *arg);
};

/* link is borrowed, and has a grant. */
struct report *report_new(struct loop *loop, struct broker_link *link,
    const struct report_events *events, void *arg);
void report_free(struct report *report); /* NULL is allowed */

/* Whose totals and asks they are until the end; borrowed.  None before. */
void report_set_relay(struct report *report, const struct relay *relay);

/* An event of struct wire_usage; the report's from now on. */
void report_event(struct report *report, json_t *event);

/* As sink's: a response wants to begin, or one is over without usage. */
void report_ask(struct report *report, int64_t n, bool begun);

/* A message of now, for the route's log; text as message_log.h has it. */
void report_message(struct report *report, struct message_log_entry *entry,
    const void *text, size_t len);

/* The totals, now, and all events that have not been sent. */
void report_totals(struct report *report);

/* A WIRE_ANSWER or WIRE_ACK has come. */
void report_told(struct report *report, const struct wire_packet *packet);

/* The broker is away: what it has not confirmed is to be sent again. */
void report_away(struct report *report);

/* It is back: send it. */
void report_resumed(struct report *report);

/* It does not come back: nothing is kept for it any more. */
void report_lost(struct report *report);

/*
 * All that is left, and the end: false where that is not delivered yet; it is
 * tried for some minutes, and the relay is not needed for it.
 */
bool report_end(struct report *report, const struct relay_end *end) MUST_CHECK;

/* The process has to end: try to deliver the end for a few seconds at most. */
void report_hurry(struct report *report);

/* Usage events that there was no room for, or that were not delivered. */
uint64_t report_lost_events(const struct report *report);

#endif
