/* SPDX-License-Identifier: MIT */
#include "tunnel/report.h"

#include <stdlib.h>
#include <time.h>

#include "common/clock.h"
#include "common/wire.h"
#include "common/xalloc.h"

#define EVENTS_MS      200  /* that events are gathered for */
#define RETRY_MS       1000 /* where the broker takes nothing */
#define EVENTS_BYTES   (256 * 1024)
#define RECORDS_MS     500
#define RECORDS_GAP_MS 100 /* between two packets at least */
#define RECORDS_BYTES  (128 * 1024)
/* of one packet, which has other members, too */
#define PACKET_BYTES (WIRE_MAX_BYTES - 8 * 1024)
#define RECORDS_DUE  (32 * 1024) /* not worth waiting for more */
#define NEVER	     INT64_MAX

/* JSON objects that wait, and how long each is as text. */
struct queue {
	json_t *items;
	size_t bytes;	/* of all */
	int64_t due_ms; /* or NEVER */
	uint64_t lost;	/* that there was no room for */
};

struct report {
	struct broker_link *link;
	const struct relay *relay;
	struct loop_timer *timer;
	struct queue events, records;
	int64_t records_ms; /* when the last of them went */
};

/* ---- queues ------------------------------------------------------------ */

static size_t
text_bytes(const json_t *item)
{
	return json_dumpb(item, NULL, 0, JSON_COMPACT) + 1; /* a comma */
}

/* Whether there was room. */
static bool
queue_add(struct queue *queue, json_t *item, size_t max)
{
	size_t bytes = text_bytes(item);

	if (bytes > PACKET_BYTES || queue->bytes + bytes > max) {
		json_decref(item);
		queue->lost++;
		return false;
	}
	json_array_append_new(queue->items, item);
	queue->bytes += bytes;
	return true;
}

/* As many of the first ones as a packet takes; NULL where there is none. */
static json_t *
queue_first(const struct queue *queue, size_t count_max)
{
	size_t total = json_array_size(queue->items), bytes = 0;
	json_t *some;

	if (total == 0)
		return NULL;
	some = json_array();
	for (size_t i = 0; i < total && i < count_max; i++) {
		json_t *item = json_array_get(queue->items, i);

		bytes += text_bytes(item);
		if (bytes > PACKET_BYTES)
			break;
		json_array_append(some, item);
	}
	return some;
}

static void
queue_drop(struct queue *queue, size_t count)
{
	for (; count > 0; count--) {
		queue->bytes -= text_bytes(json_array_get(queue->items, 0));
		json_array_remove(queue->items, 0);
	}
}

static bool
queue_is_empty(const struct queue *queue)
{
	return json_array_size(queue->items) == 0;
}

/* ---- packets ----------------------------------------------------------- */

/* With as many events as fit; whether it went. */
static bool
send_usage(struct report *report, struct wire_packet *packet)
{
	struct wire_usage *usage = &packet->usage;
	bool sent;

	if (report->relay != NULL)
		relay_get_totals(report->relay, &usage->client,
		    &usage->upstream);
	usage->events = queue_first(&report->events, WIRE_EVENTS_MAX);
	sent = broker_link_send(report->link, packet);
	if (sent)
		queue_drop(&report->events, json_array_size(usage->events));
	wire_packet_free(packet);
	return sent;
}

/* All events, the last of them with the end, if there is one. */
static void
send_events(struct report *report, struct wire_packet *end)
{
	bool sent = true;
	json_t *some;

	for (;;) {
		some = queue_first(&report->events, WIRE_EVENTS_MAX);
		if (json_array_size(some) ==
		    json_array_size(report->events.items)) {
			json_decref(some);
			break;
		}
		json_decref(some);
		sent = send_usage(report, wire_packet_new(WIRE_USAGE));
		if (!sent)
			break;
	}
	if (end != NULL)
		sent = send_usage(report, end);
	else if (sent)
		sent = send_usage(report, wire_packet_new(WIRE_USAGE));
	report->events.due_ms = sent ? NEVER : clock_ms() + RETRY_MS;
}

static void
send_records(struct report *report)
{
	struct queue *queue = &report->records;
	struct wire_packet *packet;

	report->records_ms = clock_ms();
	queue->due_ms = NEVER;
	while (!queue_is_empty(queue)) {
		packet = wire_packet_new(WIRE_LOG);
		packet->log.records = queue_first(queue, WIRE_RECORDS_MAX);
		packet->log.dropped = queue->lost;
		queue->lost = 0;
		queue_drop(queue, json_array_size(packet->log.records));
		if (!broker_link_send(report->link, packet))
			queue->lost += packet->log.dropped +
			    json_array_size(packet->log.records);
		wire_packet_free(packet);
	}
}

static void
arm(struct report *report)
{
	int64_t due = report->events.due_ms, now = clock_ms();

	if (report->records.due_ms < due)
		due = report->records.due_ms;
	if (due == NEVER)
		loop_timer_stop(report->timer);
	else
		loop_timer_set(report->timer, due > now ? due - now : 0);
}

static void
on_timer(void *arg)
{
	struct report *report = arg;
	int64_t now = clock_ms();

	if (now >= report->events.due_ms)
		send_events(report, NULL);
	if (now >= report->records.due_ms)
		send_records(report);
	arm(report);
}

/* ---- for the session --------------------------------------------------- */

struct report *
report_new(struct loop *loop, struct broker_link *link)
{
	struct report *report = xcalloc(1, sizeof(*report));

	report->link = link;
	report->timer = loop_timer_new(loop, on_timer, report);
	report->events.items = json_array();
	report->records.items = json_array();
	report->events.due_ms = report->records.due_ms = NEVER;
	return report;
}

void
report_free(struct report *report)
{
	if (report == NULL)
		return;
	loop_timer_free(report->timer);
	json_decref(report->events.items);
	json_decref(report->records.items);
	free(report);
}

void
report_set_relay(struct report *report, const struct relay *relay)
{
	report->relay = relay;
}

void
report_event(struct report *report, json_t *event)
{
	if (!queue_add(&report->events, event, EVENTS_BYTES) ||
	    report->events.due_ms != NEVER)
		return;
	report->events.due_ms = clock_ms() + EVENTS_MS;
	arm(report);
}

static int64_t
unix_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
report_message(struct report *report, struct message_log_entry *entry,
    const void *text, size_t len)
{
	struct queue *queue = &report->records;
	int64_t due = clock_ms() + RECORDS_MS;

	entry->at_ms = unix_ms();
	if (!queue_add(queue, message_log_record(entry, text, len),
		RECORDS_BYTES))
		return;
	if (queue->bytes >= RECORDS_DUE)
		due = report->records_ms + RECORDS_GAP_MS;
	if (due >= queue->due_ms)
		return;
	queue->due_ms = due;
	arm(report);
}

void
report_totals(struct report *report)
{
	send_events(report, NULL);
	arm(report);
}

void
report_end(struct report *report, const struct relay_end *end)
{
	struct wire_packet *packet = wire_packet_new(WIRE_END);
	struct wire_usage *usage = &packet->usage;

	send_records(report);
	usage->side = xstrdup(cause_side_word(end->side));
	usage->cause = xstrdup(cause_word(end->cause));
	usage->code = end->code;
	if (end->reason[0] != '\0')
		usage->reason = xstrdup(end->reason);
	send_events(report, packet);
	report->events.due_ms = NEVER;
	arm(report);
}

uint64_t
report_lost_events(const struct report *report)
{
	return report->events.lost + json_array_size(report->events.items);
}
