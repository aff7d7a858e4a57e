/* SPDX-License-Identifier: MIT */
#include "broker/chat/messages_resume.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "broker/chat/caller.h"
#include "broker/chat/chat_json.h"
#include "broker/chat/chat_reader.h"
#include "broker/chat/chat_request.h"
#include "broker/chat/generations.h"
#include "broker/chat/sse_text.h"
#include "broker/hub/hub.h"
#include "broker/hub/jobs.h"
#include "broker/limits/admission.h"
#include "broker/store/store.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/xalloc.h"

#define LOST_ID "lost" /* no event's: who shows it has nothing to get */
#define ID_SIZE (STORE_ID_MAX + 1)

/* Of one owner at once: each keeps a whole answer, for as long as it is read.
 */
#define REPLAYS_MAX 8

/* A client that comes back, on its way to what it wants. */
struct resume {
	struct parked *parked;
	char *owner;
	char *chat;		  /* NULL: any */
	char *message;		  /* NULL: any */
	char generation[ID_SIZE]; /* "": none is named */
	int64_t after;
	bool must; /* it is there: it was said to be */
	/* what the store has */
	enum err err;
	struct diag why;
	char *events; /* NULL: they are kept no longer */
	/* in the hub, from then until it has been read */
	bool is_listed;
	LIST_ENTRY(resume) next;
	struct chat_feed feed;
};

static LIST_HEAD(, resume) replays = LIST_HEAD_INITIALIZER(replays);

static void
resume_free(struct resume *resume)
{
	if (resume->is_listed)
		LIST_REMOVE(resume, next);
	sse_text_done(&resume->feed.last);
	free(resume->owner);
	free(resume->chat);
	free(resume->message);
	if (resume->events != NULL)
		explicit_bzero(resume->events, strlen(resume->events));
	free(resume->events);
	free(resume);
}

/* ---- an answer that is over: from the store ----------------------------- */

static void
reply_empty(struct parked *parked)
{
	parked_begin(parked, NULL, NULL);
	parked_reply(parked, 204, NULL, NULL, 0);
}

static void
reply_error(struct parked *parked, enum err err)
{
	parked_begin(parked, NULL, NULL);
	parked_reply_error(parked, err, NULL);
}

static void
reply_lost(struct parked *parked)
{
	struct sse_text text = { .data = NULL };
	struct sse_id id = { .stream = LOST_ID };

	sse_text_add(&text, id, "session_lost", json_made(json_object()));
	parked_begin(parked, NULL, NULL);
	parked_reply(parked, 200, SSE_TEXT_TYPE, text.data, text.len);
	sse_text_done(&text);
}

static void
on_left(struct chat_reader *reader)
{
	struct resume *resume = reader->owner;

	chat_reader_free(reader);
	resume_free(resume);
}

/* Send what the store had, and be done with it then. */
static void
send_events(struct resume *resume)
{
	size_t len = strlen(resume->events);

	resume->feed.last = (struct sse_text){
		.data = resume->events,
		.len = len,
		.size = len + 1,
	};
	resume->events = NULL;
	resume->feed.over = true;
	chat_reader_pump(
	    chat_reader_new(resume->parked, &resume->feed, 0, on_left, resume));
}

/* How it has ended, which is known for longer than the events are kept. */
static char *
make_end(const struct store_generation *generation)
{
	static const struct sse_id none = { .stream = NULL };
	const struct store_message message = {
		.id = generation->answer,
		.version = generation->version,
		.versions = generation->versions,
		.is_assistant = true,
		.state = generation->state,
		.content = generation->content,
		.model = generation->model,
		.created_ms = generation->begun_ms,
		.input_tokens = generation->input_tokens,
		.output_tokens = generation->output_tokens,
	};
	const char *chat = generation->chat, *id = generation->answer;
	bool interrupted = generation->state == STORE_INTERRUPTED;
	struct sse_text text = { .data = NULL };
	json_t *shown;

	if (interrupted || generation->state == STORE_FAILED) {
		sse_text_add(&text, none, "assistant_error",
		    json_made(json_pack("{s:s, s:s, s:s, s:s}", "code",
			interrupted ? "INTERRUPTED" : "FAILED", "error",
			"The answer was not finished.  Please try again.",
			"chat_id", chat, "message_id", id)));
		return sse_text_take(&text);
	}
	shown = chat_json_message(chat, &message);
	sse_text_add(&text, none, "assistant_complete",
	    json_made(json_pack("{s:s, s:o, s:O, s:s?}", "chat_id", chat,
		"message", shown, "usage", json_object_get(shown, "usage"),
		"finish_reason",
		generation->state == STORE_STOPPED ? "stopped" : NULL)));
	return sse_text_take(&text);
}

static bool
is_kept(const struct store_generation *generation)
{
	return generation->has_events &&
	    (generation->events_until == 0 ||
		generation->events_until > clock_unix());
}

/* A job: it waits for the store. */
static void
look_up(void *arg)
{
	struct resume *resume = arg;
	struct store *store = store_current();
	struct store_generation found;

	resume->err = store->ops->get_generation(store, resume->owner,
	    resume->generation, &found, &resume->why);
	if (resume->err != ERR_OK)
		return;
	if (is_kept(&found))
		resume->err = store->ops->get_events(store, resume->generation,
		    resume->after, &resume->events, &resume->why);
	if (resume->err == ERR_NOTFOUND) /* since just now */
		resume->err = ERR_OK;
	if (resume->err == ERR_OK && resume->events == NULL && resume->must &&
	    found.state != STORE_RUNNING)
		resume->events = make_end(&found);
	store_generation_done(&found);
}

static void
found(void *arg)
{
	struct resume *resume = arg;

	if (resume->err == ERR_OK && resume->events != NULL &&
	    *resume->events != '\0') {
		send_events(resume);
		return;
	}
	if (resume->err == ERR_NOTFOUND && !resume->must)
		reply_empty(resume->parked); /* as if none had been named */
	else if (resume->err != ERR_OK) {
		log_warning("chat.not_resumed", "reason=\"%s\"",
		    resume->why.text);
		reply_error(resume->parked, resume->err);
	} else if (resume->events == NULL)
		reply_lost(resume->parked);
	else
		reply_empty(resume->parked);
	resume_free(resume);
}

/* Jobs of one owner come one after another. */
static unsigned long
lane_of(const char *owner)
{
	unsigned long lane = 5381;

	for (; *owner != '\0'; owner++)
		lane = lane * 33 + (unsigned char)*owner;
	return lane;
}

static unsigned
count_replays(const char *owner)
{
	const struct resume *resume;
	unsigned count = 0;

	LIST_FOREACH (resume, &replays, next)
		if (strcmp(resume->owner, owner) == 0)
			count++;
	return count;
}

static void
ask_store(struct resume *resume)
{
	if (count_replays(resume->owner) < REPLAYS_MAX &&
	    jobs_add(lane_of(resume->owner), look_up, found, resume) ==
		ERR_OK) {
		LIST_INSERT_HEAD(&replays, resume, next);
		resume->is_listed = true;
		return;
	}
	reply_error(resume->parked, ERR_UNAVAIL);
	resume_free(resume);
}

/* ---- an answer that is being made --------------------------------------- */

/* What it names, if it runs; else what runs in the chat, from its start. */
static enum err
attach(struct resume *resume)
{
	struct generation *running;
	enum err err = ERR_NOTFOUND;

	if (resume->generation[0] != '\0')
		err = generations_attach(resume->owner, resume->generation,
		    resume->parked, resume->after);
	if (err != ERR_NOTFOUND || resume->must)
		return err;
	running = generations_find(resume->owner, resume->chat, NULL);
	return running == NULL ? ERR_NOTFOUND
			       : generation_attach(running, resume->parked, 0);
}

static void
resume_in_hub(void *arg)
{
	struct resume *resume = arg;
	enum err err = attach(resume);

	if (err == ERR_NOTFOUND && resume->generation[0] != '\0') {
		ask_store(resume);
		return;
	}
	if (err == ERR_NOTFOUND)
		reply_empty(resume->parked);
	else if (err != ERR_OK)
		reply_error(resume->parked, err);
	resume_free(resume);
}

void
messages_resume_from_start(struct parked *parked, const char *owner,
    const char *generation)
{
	struct resume *resume = xcalloc(1, sizeof(*resume));

	resume->parked = parked;
	resume->owner = xstrdup(owner);
	(void)strncpy(resume->generation, generation, ID_SIZE - 1);
	resume->must = true;
	resume_in_hub(resume);
}

/* ---- the requests ------------------------------------------------------- */

/* What is no id of ours says nothing. */
static void
take_event_id(const char *text, struct resume *resume)
{
	if (text != NULL)
		resume->after = sse_id_parse(text, resume->generation, ID_SIZE);
	if (resume->after == 0)
		resume->generation[0] = '\0';
}

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

/* Who asks for what is its own, within the limits. */
static enum err
take_owner(struct request *req, bool may_attach, struct resume *resume,
    struct diag *diag)
{
	struct subjects subjects;
	struct caller caller;
	enum err err = caller_of_request(req, may_attach, &caller, diag);

	if (err != ERR_OK)
		return err;
	resume->owner = xstrdup(caller.owner);
	caller_subjects(&caller, request_config(req), &subjects);
	caller_done(&caller);
	return admission_check(req, &subjects, diag);
}

static enum err
read_resume(struct request *req, struct resume *resume, struct diag *diag)
{
	const char *chat, *id;
	enum err err;

	if (request_config(req)->chat == NULL || store_current() == NULL)
		return ERR_NOTFOUND;
	err = take_owner(req, true, resume, diag);
	if (err == ERR_OK)
		err = request_query(req, "chat_id", &chat, diag);
	if (err == ERR_OK)
		err = request_query(req, "last_event_id", &id, diag);
	if (err != ERR_OK)
		return err;
	resume->chat = copy(chat);
	/* a browser that reconnects knows better than the page's address */
	if (request_header(req, "last-event-id") != NULL)
		id = request_header(req, "last-event-id");
	take_event_id(id, resume);
	return ERR_OK;
}

static enum err
read_stop(struct request *req, struct resume *resume, struct diag *diag)
{
	const struct config_chat *chat = request_config(req)->chat;
	struct chat_request body;
	const json_t *json;
	enum err err;

	if (chat == NULL || store_current() == NULL)
		return ERR_NOTFOUND;
	err = take_owner(req, false, resume, diag);
	if (err != ERR_OK)
		return err;
	if (!request_has_body(req))
		return ERR_OK; /* whatever runs */
	err = request_json(req, &json, diag);
	if (err == ERR_OK)
		err = chat_request_parse(chat, CHAT_STOP, json, &body, diag);
	if (err != ERR_OK)
		return err;
	resume->chat = copy(body.chat_id);
	resume->message = copy(body.message_id);
	chat_request_done(&body);
	return ERR_OK;
}

static void
stop_in_hub(void *arg)
{
	static const char nothing[] = "{\"stopped\":false,\"message_id\":null}";
	struct resume *resume = arg;
	struct generation *running =
	    generations_find(resume->owner, resume->chat, resume->message);

	if (running == NULL) {
		parked_begin(resume->parked, NULL, NULL);
		parked_reply(resume->parked, 200, "application/json", nothing,
		    sizeof(nothing) - 1);
	} else {
		generation_stop(running, STORE_STOPPED);
		generation_reply_stopped(running, resume->parked);
	}
	resume_free(resume);
}

static void
handle(struct request *req,
    enum err (
	*read)(struct request *req, struct resume *resume, struct diag *diag),
    hub_run *run)
{
	struct resume *resume = xcalloc(1, sizeof(*resume));
	struct diag diag = { "" };
	enum err err = read(req, resume, &diag);

	if (err == ERR_OK)
		err = parked_take(req, &resume->parked, &diag);
	if (err != ERR_OK) {
		request_reply_error(req, err,
		    diag.text[0] == '\0' ? NULL : diag.text);
		resume_free(resume);
	} else if (!hub_post(run, resume)) {
		parked_drop(resume->parked);
		resume_free(resume);
	}
}

void
messages_stream_handle(struct request *req)
{
	handle(req, read_resume, resume_in_hub);
}

void
messages_stop_handle(struct request *req)
{
	handle(req, read_stop, stop_in_hub);
}
