/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_REPORT_H
#define TUNNEL_REPORT_H

#include <jansson.h>
#include <stdint.h>

#include "tunnel/broker_link.h"
#include "common/loop.h"
#include "tunnel/message_log.h"
#include "tunnel/relay.h"

/*
 * report: what the broker is told of one tunnel: totals, the vendor's usage,
 * records of the message log, and the end.
 *
 * Usage events go out soon after they came, so that a tunnel that is killed
 * has reported what it was told of, and gathered, so that they do not become
 * many packets; what cannot be sent is kept, up to a maximum.  Records are
 * dropped instead, and counted: a log holds nothing up.
 */
struct report;

/* link is borrowed, and has a grant. */
struct report *report_new(struct loop *loop, struct broker_link *link);
void report_free(struct report *report); /* NULL is allowed */

/* Whose totals they are from now on; borrowed.  None before. */
void report_set_relay(struct report *report, const struct relay *relay);

/* An event of struct wire_usage; the report's from now on. */
void report_event(struct report *report, json_t *event);

/* A message of now, for the route's log; text as message_log.h has it. */
void report_message(struct report *report, struct message_log_entry *entry,
    const void *text, size_t len);

/* The totals, now, and all events. */
void report_totals(struct report *report);

/* All that is left, and the end. */
void report_end(struct report *report, const struct relay_end *end);

/* Usage events that there was no room for. */
uint64_t report_lost_events(const struct report *report);

#endif
