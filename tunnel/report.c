/* SPDX-License-Identifier: MIT */
#include "tunnel/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/wire.h"
#include "common/xalloc.h"

#define EVENTS_MS      200		/* that events are gathered for */
#define RETRY_MS       1000		/* where the broker takes nothing */
#define ANSWER_MS      15000		/* for the answer to an ask */
#define AWAY_MS	       10000		/* the same, while there is no broker */
#define END_MS	       (10 * 60 * 1000) /* for the end to be delivered */
#define HURRY_MS       3000 /* the same, where the process has to end */
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
	size_t sent;	/* of the first, to this broker; kept for the next */
	int64_t due_ms; /* or NEVER */
	uint64_t lost;	/* that there was no room for */
};

/* A question without an answer. */
struct ask {
	int64_t n;
	bool begun; /* the vendor makes it already */
	uint64_t input_bytes;
	bool sent;	/* to this broker */
	int64_t due_ms; /* when it is refused */
};

struct report {
	struct broker_link *link;
	const struct report_events *owner;
	void *arg;
	bool keeps; /* until it is confirmed; else until it is sent */
	const struct relay *relay;
	struct wire_usage last; /* totals and asks, of the last report */
	struct loop_timer *timer;
	struct queue events, records;
	int64_t records_ms; /* when the last of them went */
	struct ask asks[WIRE_ASKS_MAX];
	size_t ask_count;
	bool ended, end_sent, end_taken;
	struct relay_end end;
	int64_t give_up_ms; /* once it has ended */
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

/*
 * As many of the first ones that have not been sent as a packet takes; NULL
 * where there is none.
 */
static json_t *
queue_first(const struct queue *queue, size_t count_max)
{
	size_t total = json_array_size(queue->items), bytes = 0;
	json_t *some;

	if (total == queue->sent)
		return NULL;
	some = json_array();
	for (size_t i = queue->sent;
	     i < total && json_array_size(some) < count_max; i++) {
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

/* A usage event's member; 0 where it is not there. */
static int64_t
number_of(const json_t *event, const char *name)
{
	return json_integer_value(json_object_get(event, name));
}

/*
 * Say of no ask that it is over before the event of its response has gone out:
 * it would be over without usage.
 */
static void
leave_out_asks(struct wire_usage *usage, const struct queue *events,
    size_t from)
{
	size_t count = 0;

	for (size_t i = from; i < json_array_size(events->items); i++) {
		int64_t n = number_of(json_array_get(events->items, i), "ask");

		if (n > 0 && n <= usage->asked)
			usage->asked = n - 1;
	}
	for (size_t i = 0; i < usage->open_count; i++)
		if (usage->open[i] <= usage->asked)
			usage->open[count++] = usage->open[i];
	usage->open_count = count;
}

static void
look_at_relay(struct report *report)
{
	struct wire_usage *last = &report->last;

	if (report->relay == NULL)
		return;
	relay_get_totals(report->relay, &last->client, &last->upstream);
	relay_get_asks(report->relay, last);
}

static void
add_end(const struct report *report, struct wire_usage *usage)
{
	usage->side = xstrdup(cause_side_word(report->end.side));
	usage->cause = xstrdup(cause_word(report->end.cause));
	usage->code = report->end.code;
	if (report->end.reason[0] != '\0')
		usage->reason = xstrdup(report->end.reason);
}

/* Whether these, of which there may be none, went out. */
static bool
send_usage(struct report *report, enum wire_type type, json_t *events)
{
	struct wire_packet *packet = wire_packet_new(type);
	struct queue *queue = &report->events;
	size_t count = json_array_size(events);
	bool sent;

	look_at_relay(report);
	packet->usage = report->last;
	packet->usage.events = events;
	leave_out_asks(&packet->usage, queue, queue->sent + count);
	if (type == WIRE_END)
		add_end(report, &packet->usage);
	sent = broker_link_send(report->link, packet);
	wire_packet_free(packet);
	if (sent && report->keeps)
		queue->sent += count;
	else if (sent)
		queue_drop(queue, count);
	return sent;
}

/* The totals and all events that have not been sent, and with them the end. */
static void
send_events(struct report *report)
{
	struct queue *queue = &report->events;
	bool sent, last;

	if (report->end_sent)
		return;
	do {
		json_t *some = queue_first(queue, WIRE_EVENTS_MAX);

		last = queue->sent + json_array_size(some) ==
		    json_array_size(queue->items);
		sent = send_usage(report,
		    last && report->ended ? WIRE_END : WIRE_USAGE, some);
	} while (sent && !last);
	report->end_sent = sent && report->ended;
	queue->due_ms = sent ? NEVER : clock_ms() + RETRY_MS;
}

static void
send_ask(struct report *report, struct ask *ask)
{
	struct wire_packet *packet = wire_packet_new(WIRE_ASK);

	packet->ask.n = ask->n;
	packet->ask.begun = ask->begun;
	packet->ask.input_bytes = ask->input_bytes;
	ask->sent = broker_link_send(report->link, packet);
	if (ask->sent)
		ask->due_ms = clock_ms() + ANSWER_MS;
	wire_packet_free(packet);
}

static void
send_asks(struct report *report)
{
	for (size_t i = 0; i < report->ask_count; i++)
		if (!report->asks[i].sent)
			send_ask(report, &report->asks[i]);
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

/* ---- time -------------------------------------------------------------- */

static void
earliest(int64_t *at, int64_t due_ms)
{
	if (due_ms < *at)
		*at = due_ms;
}

static void
arm(struct report *report)
{
	int64_t due = report->events.due_ms, now = clock_ms();

	earliest(&due, report->records.due_ms);
	for (size_t i = 0; i < report->ask_count; i++) {
		earliest(&due, report->asks[i].due_ms);
		if (!report->asks[i].sent)
			earliest(&due, now + RETRY_MS);
	}
	if (report->ended)
		earliest(&due, report->give_up_ms);
	if (due == NEVER)
		loop_timer_stop(report->timer);
	else
		loop_timer_set(report->timer, due > now ? due - now : 0);
}

static bool
is_delivered(const struct report *report)
{
	return report->end_taken && queue_is_empty(&report->events);
}

/* The end of every event that comes after the end; its last act. */
static void
check_end(struct report *report)
{
	if (report->ended &&
	    (is_delivered(report) || !report->keeps ||
		clock_ms() >= report->give_up_ms)) {
		report->give_up_ms = NEVER; /* it is told once */
		loop_timer_stop(report->timer);
		report->owner->delivered(report->arg);
		return;
	}
	arm(report);
}

/* False where it is not waited for. */
static bool
drop_ask(struct report *report, int64_t n)
{
	for (size_t i = 0; i < report->ask_count; i++) {
		if (report->asks[i].n != n)
			continue;
		report->asks[i] = report->asks[--report->ask_count];
		return true;
	}
	return false;
}

/* Nobody has answered: the tunnel goes on without this response. */
static void
refuse_late_asks(struct report *report, int64_t now)
{
	char code[32], message[128];
	struct wire_answer answer = { .code = code, .message = message };
	size_t i = 0;

	(void)snprintf(code, sizeof(code), "%s", err_code(ERR_UNAVAIL));
	(void)snprintf(message, sizeof(message), "%s", err_text(ERR_UNAVAIL));
	while (i < report->ask_count) {
		answer.n = report->asks[i].n;
		if (now < report->asks[i].due_ms) {
			i++;
			continue;
		}
		(void)drop_ask(report, answer.n);
		report_ask(report, 0, false);
		report->owner->answer(report->arg, &answer);
		i = 0; /* it may have asked again */
	}
}

static void
on_timer(void *arg)
{
	struct report *report = arg;
	int64_t now = clock_ms();

	if (now >= report->events.due_ms)
		send_events(report);
	if (now >= report->records.due_ms)
		send_records(report);
	send_asks(report);
	refuse_late_asks(report, now);
	check_end(report);
}

/* ---- for the session --------------------------------------------------- */

struct report *
report_new(struct loop *loop, struct broker_link *link,
    const struct report_events *events, void *arg)
{
	struct report *report = xcalloc(1, sizeof(*report));

	report->link = link;
	report->owner = events;
	report->arg = arg;
	report->keeps = broker_link_resumes(link);
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

/* Events are gathered for a moment. */
static void
send_soon(struct report *report)
{
	if (report->events.due_ms != NEVER)
		return;
	report->events.due_ms = clock_ms() + EVENTS_MS;
	arm(report);
}

void
report_event(struct report *report, json_t *event)
{
	if (queue_add(&report->events, event, EVENTS_BYTES))
		send_soon(report);
}

void
report_ask(struct report *report, int64_t n, bool begun)
{
	struct ask *ask = &report->asks[report->ask_count];

	if (n == 0) {
		send_soon(report);
		return;
	}
	/* a gate has no more of them open; one that had is not answered */
	if (report->ask_count == WIRE_ASKS_MAX)
		return;
	report->ask_count++;
	*ask = (struct ask){
		.n = n,
		.begun = begun,
		.due_ms = clock_ms() + AWAY_MS,
	};
	if (report->relay != NULL)
		ask->input_bytes = relay_input_bytes(report->relay);
	send_ask(report, ask);
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
	send_events(report);
	arm(report);
}

/* The ledger has the events up to this one. */
static void
drop_events(struct report *report, int64_t n)
{
	struct queue *queue = &report->events;

	while (queue->sent > 0 &&
	    number_of(json_array_get(queue->items, 0), "n") <= n) {
		queue_drop(queue, 1);
		queue->sent--;
	}
}

void
report_told(struct report *report, const struct wire_packet *packet)
{
	if (packet->type == WIRE_ACK) {
		drop_events(report, packet->ack.n);
		report->end_taken |= report->end_sent && packet->ack.ended;
		check_end(report);
	} else if (packet->type == WIRE_ANSWER &&
	    drop_ask(report, packet->answer.n)) {
		report->owner->answer(report->arg, &packet->answer);
		arm(report);
	}
}

void
report_away(struct report *report)
{
	report->events.sent = 0;
	report->end_sent = false;
	report->events.due_ms = clock_ms() + RETRY_MS;
	for (size_t i = 0; i < report->ask_count; i++) {
		report->asks[i].sent = false;
		report->asks[i].due_ms = clock_ms() + AWAY_MS;
	}
	arm(report);
}

void
report_resumed(struct report *report)
{
	send_events(report);
	send_asks(report);
	check_end(report);
}

void
report_lost(struct report *report)
{
	report->keeps = false;
	check_end(report);
}

bool
report_end(struct report *report, const struct relay_end *end)
{
	send_records(report);
	look_at_relay(report);
	report->relay = NULL;
	report->ended = true;
	report->end = *end;
	report->ask_count = 0;
	report->give_up_ms = clock_ms() + END_MS;
	send_events(report);
	arm(report);
	return is_delivered(report) || !report->keeps;
}

void
report_hurry(struct report *report)
{
	if (!report->ended)
		return;
	broker_link_hurry(report->link);
	earliest(&report->give_up_ms, clock_ms() + HURRY_MS);
	arm(report);
}

uint64_t
report_lost_events(const struct report *report)
{
	return report->events.lost + json_array_size(report->events.items);
}
