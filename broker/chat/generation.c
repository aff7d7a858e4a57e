/* SPDX-License-Identifier: MIT */
#include "broker/chat/generation.h"

#include <stdlib.h>
#include <string.h>

#include "broker/chat/chat_cost.h"
#include "broker/chat/chat_json.h"
#include "broker/chat/chat_news.h"
#include "broker/chat/chat_reader.h"
#include "broker/chat/chat_upstream.h"
#include "broker/chat/scribe.h"
#include "broker/chat/stream_log.h"
#include "broker/hub/hub.h"
#include "broker/limits/budget.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/xalloc.h"

/* What a log may weigh: an event for every few bytes, and at least so many. */
#define LOG_PER_BYTE  8
#define LOG_BYTES_MIN (4 * 1024 * 1024)
#define CONTENT_FIRST 1024
#define FLUSH_MS      250   /* between pieces for the store */
#define PATIENCE_MS   10000 /* readers wait for the end to be written */

struct waiter { /* for the end to be written */
	LIST_ENTRY(waiter) next;
	struct parked *parked;
};

struct generation {
	struct scribe_end end; /* comes back as this */
	struct generation_spec spec;
	void (*over)(void *arg);
	void *arg;

	struct chat_upstream *upstream;
	enum store_state state;
	bool is_ending, is_pumping;
	struct chat_upstream_end how; /* where it has failed */
	struct chat_bill bill;
	struct store_usage row;

	struct chat_feed feed;
	char *content; /* NUL-terminated */
	size_t content_len, content_size;
	int64_t published;     /* events that readers may have */
	int64_t stored;	       /* ... and that the scribe has */
	size_t stored_content; /* and bytes */

	LIST_HEAD(, chat_reader) readers;
	unsigned reader_count;
	LIST_HEAD(, waiter) waiters;
	struct loop_timer *flush, *heartbeat, *absent, *patience;

	/* from the scribe's thread, when the end has been written */
	bool is_stored; /* or it could not be */
	json_t *usage;
	bool is_settled; /* the scribe has let go */
};

static const struct config_chat *
chat_of(const struct generation *generation)
{
	return generation->spec.config->chat;
}

const struct generation_spec *
generation_spec(const struct generation *generation)
{
	return &generation->spec;
}

/* ---- memory ------------------------------------------------------------- */

static void
clear_and_free(char *text, size_t len)
{
	if (text != NULL)
		explicit_bzero(text, len);
	free(text);
}

void
generation_spec_done(struct generation_spec *spec)
{
	config_unref(spec->config);
	caller_done(&spec->caller);
	free(spec->id);
	free(spec->chat);
	free(spec->answer);
	free(spec->model);
	free(spec->question);
	free(spec->replaces);
	clear_and_free(spec->body, spec->body_len);
	*spec = (struct generation_spec){ .config = NULL };
}

static void
free_last_piece(struct generation *generation)
{
	char *events = (char *)(uintptr_t)generation->end.finish.last.events;

	clear_and_free(events, events == NULL ? 0 : strlen(events));
	generation->end.finish.last.events = NULL;
}

static void
free_timers(struct generation *generation)
{
	loop_timer_free(generation->flush);
	loop_timer_free(generation->heartbeat);
	loop_timer_free(generation->absent);
	loop_timer_free(generation->patience);
}

/* Where nothing needs it any more: neither the scribe nor a reader. */
static void
free_if_done(struct generation *generation)
{
	if (!generation->is_settled || generation->is_pumping ||
	    !LIST_EMPTY(&generation->readers))
		return;
	free_timers(generation);
	chat_upstream_free(generation->upstream);
	stream_log_free(generation->feed.log);
	sse_text_done(&generation->feed.last);
	free_last_piece(generation);
	store_usage_done(&generation->row);
	clear_and_free(generation->content, generation->content_size);
	json_decref(generation->usage);
	generation_spec_done(&generation->spec);
	free(generation);
}

/* ---- readers ------------------------------------------------------------ */

static void
on_left(struct chat_reader *reader)
{
	struct generation *generation = reader->owner;

	LIST_REMOVE(reader, next);
	generation->reader_count--;
	chat_reader_free(reader);
	if (generation->reader_count == 0 && !generation->is_ending)
		loop_timer_set(generation->absent,
		    chat_of(generation)->detach_ms);
	free_if_done(generation);
}

/* Give all readers what may be sent.  It may free the generation. */
static void
pump(struct generation *generation)
{
	struct chat_reader *reader, *next;

	generation->is_pumping = true;
	for (reader = LIST_FIRST(&generation->readers); reader != NULL;
	     reader = next) {
		next = LIST_NEXT(reader, next);
		chat_reader_pump(reader);
	}
	generation->is_pumping = false;
	free_if_done(generation);
}

static void
on_heartbeat(void *arg)
{
	struct generation *generation = arg;
	struct chat_reader *reader, *next;

	loop_timer_set(generation->heartbeat,
	    chat_of(generation)->heartbeat_ms);
	for (reader = LIST_FIRST(&generation->readers); reader != NULL;
	     reader = next) {
		next = LIST_NEXT(reader, next);
		chat_reader_heartbeat(reader);
	}
}

enum err
generation_attach(struct generation *generation, struct parked *parked,
    int64_t after)
{
	struct chat_reader *reader;

	if (generation->reader_count >= chat_of(generation)->max_readers)
		return ERR_UNAVAIL;
	loop_timer_stop(generation->absent);
	reader = chat_reader_new(parked, &generation->feed, after, on_left,
	    generation);
	LIST_INSERT_HEAD(&generation->readers, reader, next);
	generation->reader_count++;
	chat_reader_pump(reader);
	return ERR_OK;
}

/* ---- what becomes of the deltas ----------------------------------------- */

static void
add_content(struct generation *generation, const char *text, size_t len)
{
	size_t size = generation->content_size, need;
	char *content;

	need = generation->content_len + len + 1;
	if (need > size) {
		while (size < need)
			size = size == 0 ? CONTENT_FIRST : size * 2;
		content = xcalloc(1, size);
		if (generation->content_len > 0)
			memcpy(content, generation->content,
			    generation->content_len);
		clear_and_free(generation->content, generation->content_size);
		generation->content = content;
		generation->content_size = size;
	}
	memcpy(generation->content + generation->content_len, text, len);
	generation->content_len += len;
}

static const char *
content_of(const struct generation *generation)
{
	return generation->content == NULL ? "" : generation->content;
}

/* The events that the scribe has not got, as one text. */
static char *
unstored_events(const struct generation *generation)
{
	const struct stream_log *log = generation->feed.log;
	size_t from = stream_log_offset(log, generation->stored);

	return xstrndup(stream_log_peek(log, from),
	    stream_log_size(log) - from);
}

static void
on_flush(void *arg)
{
	struct generation *generation = arg;
	int64_t last = stream_log_last(generation->feed.log);

	if (scribe_add(generation->spec.id, generation->stored + 1, last,
		unstored_events(generation),
		xstrdup(content_of(generation) + generation->stored_content))) {
		generation->stored = last;
		generation->stored_content = generation->content_len;
	} else {
		loop_timer_set(generation->flush, FLUSH_MS);
	}
}

/* An event is in the log: everybody may have it. */
static void
publish(struct generation *generation)
{
	generation->published = stream_log_last(generation->feed.log);
	generation->feed.visible = stream_log_size(generation->feed.log);
	pump(generation);
}

/* ---- the end ------------------------------------------------------------ */

static struct store_message
message_of(const struct generation *generation)
{
	const struct generation_spec *spec = &generation->spec;

	return (struct store_message){
		.id = spec->answer,
		.version = spec->version,
		.versions = spec->version,
		.is_assistant = true,
		.state = generation->state,
		.content = (char *)(uintptr_t)content_of(generation),
		.model = spec->model,
		.generation = spec->id,
		.created_ms = spec->created_ms,
		.input_tokens = generation->bill.input_tokens,
		.output_tokens = generation->bill.output_tokens,
	};
}

static const char *
finish_reason_of(const struct generation *generation)
{
	const char *reason;

	if (generation->state == STORE_STOPPED)
		return "stopped";
	reason = completion_finish_reason(
	    chat_upstream_completion(generation->upstream));
	return reason == NULL ? "stop" : reason;
}

static void
add_complete(struct generation *generation)
{
	struct store_message message = message_of(generation);
	const char *chat = generation->spec.chat;
	json_t *shown = chat_json_message(chat, &message);
	json_t *usage = json_object_get(shown, "usage");

	stream_log_add(generation->feed.log, "assistant_complete",
	    json_made(json_pack("{s:s, s:O, s:O?, s:s}", "chat_id", chat,
		"message", shown, "usage", usage, "finish_reason",
		finish_reason_of(generation))));
	if (generation->spec.replaces != NULL)
		stream_log_add(generation->feed.log, "assistant_regenerated",
		    json_made(json_pack("{s:s, s:O}", "chat_id", chat,
			"message", shown)));
	json_decref(shown);
}

static void
add_error(struct generation *generation)
{
	const struct chat_upstream_end *how = &generation->how;
	json_t *data = json_made(json_pack("{s:s, s:s, s:s, s:s}", "code",
	    how->code, "error", how->message, "chat_id", generation->spec.chat,
	    "message_id", generation->spec.answer));

	if (how->retry_after_s > 0)
		json_object_set_new(data, "retry_after",
		    json_integer(how->retry_after_s));
	stream_log_add(generation->feed.log, "assistant_error", data);
}

/* Nothing was asked of a vendor that refused, or could not be reached. */
static bool
is_charged(const struct generation *generation)
{
	return generation->state != STORE_FAILED ||
	    chat_upstream_has_begun(generation->upstream);
}

static void
make_bill(struct generation *generation)
{
	const struct generation_spec *spec = &generation->spec;
	const struct completion_usage *said =
	    completion_usage(chat_upstream_completion(generation->upstream));
	const struct price *price = NULL;

	if (!is_charged(generation))
		return;
	if (chat_of(generation)->balance && spec->caller.is_user)
		price = config_find_price(spec->config, spec->model);
	generation->bill = chat_cost_bill(price, said, spec->input_bytes,
	    generation->content_len);
}

static void
make_row(struct generation *generation)
{
	const struct generation_spec *spec = &generation->spec;
	const struct chat_bill *bill = &generation->bill;
	const struct completion_usage *said =
	    completion_usage(chat_upstream_completion(generation->upstream));
	struct store_usage *row = &generation->row;
	struct subjects subjects;

	*row = (struct store_usage){
		.lease = xstrdup(spec->id),
		.n = 1,
		.session = xstrdup(spec->chat),
		.route = xstrdup("chat"),
		.user = spec->caller.is_user ? xstrdup(spec->caller.id) : NULL,
		.model = xstrdup(spec->model),
		.event = xstrdup("chat.completion"),
		.status = xstrdup(bill->estimated
			? "estimated"
			: store_state_names[generation->state]),
		.at = clock_unix(),
		.total_tokens = bill->total_tokens,
		.raw = bill->estimated ? xstrdup("{}")
				       : json_text(said->raw, &(size_t){ 0 }),
	};
	memcpy(row->tokens, bill->tokens, sizeof(row->tokens));
	caller_subjects(&spec->caller, spec->config, &subjects);
	budget_fill_usage(spec->config, &subjects, spec->id, row);
}

/* ---- the end has been written ------------------------------------------- */

static void
reply_waiters(struct generation *generation, bool written)
{
	bool stopped = generation->state == STORE_STOPPED ||
	    generation->state == STORE_INTERRUPTED;
	json_t *body = json_made(json_pack("{s:b, s:s}", "stopped", stopped,
	    "message_id", generation->spec.answer));
	size_t len;
	char *text = json_text(body, &len);
	struct waiter *waiter;

	while ((waiter = LIST_FIRST(&generation->waiters)) != NULL) {
		LIST_REMOVE(waiter, next);
		if (written)
			parked_reply(waiter->parked, 200, "application/json",
			    text, len);
		else
			parked_reply_error(waiter->parked, ERR_UNAVAIL, NULL);
		free(waiter);
	}
	free(text);
	json_decref(body);
}

/*
 * The end cannot be written, for now.  Whoever asks again with the last id
 * gets it when it is.
 */
static void
give_up(struct generation *generation)
{
	struct sse_id id = {
		.stream = generation->spec.id,
		.n = generation->published,
	};

	if (generation->feed.over)
		return;
	sse_text_add(&generation->feed.last, id, "assistant_error",
	    json_made(json_pack("{s:s, s:s, s:s}", "code", "STORE_UNAVAILABLE",
		"error", "The answer could not be saved yet.", "message_id",
		generation->spec.answer)));
	generation->feed.over = true;
	reply_waiters(generation, false);
}

static void
on_patience(void *arg)
{
	struct generation *generation = arg;

	give_up(generation);
	pump(generation);
}

/* In the hub: all that was to be done for the store is. */
static void
settle(void *arg)
{
	struct generation *generation = arg;
	struct sse_id id = {
		.stream = generation->spec.id,
		.n = stream_log_last(generation->feed.log) + 1,
	};

	loop_timer_stop(generation->patience);
	loop_timer_stop(generation->heartbeat);
	if (!generation->is_stored) {
		give_up(generation);
	} else if (!generation->feed.over) {
		generation->feed.visible =
		    stream_log_size(generation->feed.log);
		if (generation->usage != NULL)
			sse_text_add(&generation->feed.last, id, "usage_info",
			    json_incref(generation->usage));
		generation->feed.over = true;
	}
	/* of those who came after it was given up, too */
	reply_waiters(generation, generation->is_stored);
	generation->is_settled = true;
	chat_upstream_free(generation->upstream);
	generation->upstream = NULL;
	generation->over(generation->arg);
	pump(generation);
}

static void
log_end(const struct generation *generation, int64_t charged)
{
	const struct chat_bill *bill = &generation->bill;

	log_info("chat.end",
	    "generation=%s state=%s code=%s model=%s bytes=%zu "
	    "input_tokens=%llu output_tokens=%llu estimated=%s charge=%lld",
	    generation->spec.id, store_state_names[generation->state],
	    generation->how.code == NULL ? "-" : generation->how.code,
	    generation->spec.model, generation->content_len,
	    (unsigned long long)bill->input_tokens,
	    (unsigned long long)bill->output_tokens,
	    bill->estimated ? "yes" : "no", (long long)charged);
}

/* In the scribe's thread, which may wait for the store. */
static void
on_written(struct scribe_end *end, const struct store_finished *finished)
{
	/* it is the first member */
	struct generation *generation = (struct generation *)end;
	const struct generation_spec *spec = &generation->spec;
	struct store_message message = message_of(generation);

	if (finished != NULL) {
		log_end(generation, finished->charged);
		chat_news_answer(spec->caller.owner, spec->chat, &message);
		generation->usage =
		    chat_news_usage(spec->config, &spec->caller);
		generation->is_stored = true;
	}
	/* without a hub the process ends, and its memory with it */
	if (!hub_post(settle, generation))
		return;
}

/* ---- ending ------------------------------------------------------------- */

static void
hand_to_scribe(struct generation *generation)
{
	struct store_finish *finish = &generation->end.finish;
	int64_t last = stream_log_last(generation->feed.log);

	*finish = (struct store_finish){
		.generation = generation->spec.id,
		.state = generation->state,
		.content = content_of(generation),
		.last = {
			.generation = generation->spec.id,
			.first = generation->stored + 1,
			.last = last,
			.events = unstored_events(generation),
			.content = content_of(generation) +
			    generation->stored_content,
		},
		.usage = is_charged(generation) ? &generation->row : NULL,
		.input_tokens = generation->bill.input_tokens,
		.output_tokens = generation->bill.output_tokens,
		.charge = generation->bill.charge,
		.now_ms = clock_unix_ms(),
		.replay_s = chat_of(generation)->replay_s,
	};
	generation->end.written = on_written;
	scribe_end(&generation->end);
}

/* Readers see the end when it is written, so that it is true. */
static void
finish(struct generation *generation, enum store_state state,
    const struct chat_upstream_end *how)
{
	if (generation->is_ending)
		return;
	generation->is_ending = true;
	generation->state = state;
	generation->how = *how;
	loop_timer_stop(generation->flush);
	loop_timer_stop(generation->absent);
	loop_timer_set(generation->patience, PATIENCE_MS);
	make_bill(generation);
	if (is_charged(generation))
		make_row(generation);
	if (how->code == NULL)
		add_complete(generation);
	else
		add_error(generation);
	if (state != STORE_COMPLETE)
		chat_upstream_stop(generation->upstream);
	hand_to_scribe(generation);
}

static void
on_ended(void *arg, const struct chat_upstream_end *how)
{
	finish(arg, how->code == NULL ? STORE_COMPLETE : STORE_FAILED, how);
}

static void
on_delta(void *arg, const char *text, size_t len)
{
	struct generation *generation = arg;

	if (generation->is_ending)
		return;
	if (len > chat_of(generation)->answer_bytes - generation->content_len ||
	    stream_log_add_delta(generation->feed.log, text, len) != ERR_OK) {
		finish(generation, STORE_FAILED, &chat_upstream_too_large);
		return;
	}
	add_content(generation, text, len);
	if (stream_log_last(generation->feed.log) == generation->stored + 1)
		loop_timer_set(generation->flush, FLUSH_MS);
	publish(generation);
}

void
generation_stop(struct generation *generation, enum store_state state)
{
	static const struct chat_upstream_end stopped = { .code = NULL };
	static const struct chat_upstream_end restarting = {
		.code = "RESTARTING",
		.message = "The service restarts.  Please try again.",
	};

	finish(generation, state,
	    state == STORE_INTERRUPTED ? &restarting : &stopped);
}

static void
on_absent(void *arg)
{
	struct generation *generation = arg;

	log_info("chat.nobody_came_back", "generation=%s", generation->spec.id);
	generation_stop(generation, STORE_STOPPED);
}

/* ---- who waits for the end ---------------------------------------------- */

static void
on_waiter_gone(void *arg)
{
	struct waiter *waiter = arg;

	LIST_REMOVE(waiter, next);
	parked_drop(waiter->parked);
	free(waiter);
}

void
generation_reply_stopped(struct generation *generation, struct parked *parked)
{
	static const struct parked_events events = { .gone = on_waiter_gone };
	struct waiter *waiter = xcalloc(1, sizeof(*waiter));

	waiter->parked = parked;
	LIST_INSERT_HEAD(&generation->waiters, waiter, next);
	parked_begin(parked, &events, waiter);
}

/* ---- the beginning ------------------------------------------------------ */

static void
add_first_events(struct generation *generation)
{
	const struct generation_spec *spec = &generation->spec;
	struct stream_log *log = generation->feed.log;

	if (spec->replaces != NULL)
		stream_log_add(log, "assistant_regenerating",
		    json_made(json_pack("{s:s, s:s, s:s}", "chat_id",
			spec->chat, "message_id", spec->answer, "replaces",
			spec->replaces)));
	stream_log_add(log, "assistant_typing",
	    json_made(json_pack("{s:s, s:s, s:s?, s:s, s:b, s:s}", "chat_id",
		spec->chat, "message_id", spec->answer, "user_message_id",
		spec->question, "generation_id", spec->id, "new_chat",
		spec->new_chat, "model", spec->model)));
	publish(generation);
}

static void
make_timers(struct generation *generation)
{
	struct loop *loop = hub_loop();

	generation->flush = loop_timer_new(loop, on_flush, generation);
	generation->heartbeat = loop_timer_new(loop, on_heartbeat, generation);
	generation->absent = loop_timer_new(loop, on_absent, generation);
	generation->patience = loop_timer_new(loop, on_patience, generation);
	loop_timer_set(generation->flush, FLUSH_MS);
	loop_timer_set(generation->heartbeat,
	    chat_of(generation)->heartbeat_ms);
	loop_timer_set(generation->absent, chat_of(generation)->detach_ms);
}

static size_t
max_log_bytes(const struct config_chat *chat)
{
	size_t bytes = chat->answer_bytes * LOG_PER_BYTE;

	return bytes < LOG_BYTES_MIN ? LOG_BYTES_MIN : bytes;
}

struct generation *
generation_start(const struct generation_spec *spec, void (*over)(void *arg),
    void *arg)
{
	static const struct chat_upstream_events events = {
		.delta = on_delta,
		.ended = on_ended,
	};
	struct generation *generation = xcalloc(1, sizeof(*generation));

	generation->spec = *spec;
	generation->over = over;
	generation->arg = arg;
	generation->feed.log = stream_log_new(spec->id, spec->answer,
	    max_log_bytes(chat_of(generation)));
	LIST_INIT(&generation->readers);
	LIST_INIT(&generation->waiters);
	make_timers(generation);
	add_first_events(generation);
	generation->upstream = chat_upstream_start(chat_of(generation),
	    spec->id, spec->body, spec->body_len, &events, generation);
	/* the vendor's call has a copy */
	clear_and_free(generation->spec.body, spec->body_len);
	generation->spec.body = NULL;
	generation->spec.body_len = 0;
	return generation;
}
