/* SPDX-License-Identifier: MIT */
#include "broker/chat/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/chat/caller.h"
#include "broker/chat/chat_cost.h"
#include "broker/chat/chat_json.h"
#include "broker/chat/chat_news.h"
#include "broker/chat/chat_recovery.h"
#include "broker/chat/chat_refusal.h"
#include "broker/chat/chat_request.h"
#include "broker/chat/generations.h"
#include "broker/chat/messages_resume.h"
#include "broker/chat/notify.h"
#include "broker/chat/scribe.h"
#include "broker/http/parked.h"
#include "broker/hub/hub.h"
#include "broker/limits/admission.h"
#include "broker/limits/budget.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

#define KEY_MAX_BYTES 255
#define ID_BYTES      12
#define ID_SIZE	      (2 * ID_BYTES + 1)
#define DIGEST_SIZE   (2 * 20 + 1)
#define RETRY_S	      5		     /* for what is full or away now */
#define KEY_S	      (24 * 60 * 60) /* a key is known for a day */

/* A message on its way from its request to the hub. */
struct ask {
	struct parked *parked;
	struct generation_slot *slot;
	struct chat_refusal refusal; /* of ERR_OK: it is not refused */
	bool repeated;
	struct generation_spec spec;
};

/* What is only there while the handler is. */
struct question {
	struct request *req;
	enum chat_request_kind kind;
	const struct config *config;
	struct chat_request body;
	struct subjects subjects;
	const char *key; /* NULL: none */
	char digest[DIGEST_SIZE];
	char *title;
	char chat[ID_SIZE], question[ID_SIZE], answer[ID_SIZE],
	    generation[ID_SIZE];
};

/* ---- in the hub --------------------------------------------------------- */

static void
arrive(void *arg)
{
	struct ask *ask = arg;

	if (ask->refusal.err != ERR_OK) {
		chat_refusal_reply_parked(ask->parked, &ask->refusal);
		generations_release(ask->slot);
	} else if (ask->repeated) {
		generations_release(ask->slot);
		parked_add_header(ask->parked, "Idempotent-Replayed", "true");
		messages_resume_from_start(ask->parked, ask->spec.caller.owner,
		    ask->spec.id);
	} else {
		/* a copy: attach finds what begin has taken */
		char *owner = xstrdup(ask->spec.caller.owner);
		char *id = xstrdup(ask->spec.id);

		generations_begin(ask->slot, &ask->spec);
		ask->spec = (struct generation_spec){ .config = NULL };
		messages_resume_from_start(ask->parked, owner, id);
		free(owner);
		free(id);
	}
	generation_spec_done(&ask->spec);
	free(ask);
}

/* ---- what is asked ------------------------------------------------------ */

static enum err
take_key(struct question *question, struct diag *diag)
{
	const char *key = request_header(question->req, "idempotency-key");
	size_t len = key == NULL ? 0 : strlen(key);

	question->key = key;
	if (key == NULL)
		return ERR_OK;
	for (size_t i = 0; i < len; i++)
		if (key[i] < ' ' || key[i] > '~')
			len = 0;
	if (len > 0 && len <= KEY_MAX_BYTES)
		return ERR_OK;
	diag_set(diag,
	    "Idempotency-Key has to have 1 to %d printable characters",
	    KEY_MAX_BYTES);
	return ERR_PROTO;
}

/* What a repetition has to be equal in: all that decides the answer. */
static void
make_digest(struct question *question, const char *owner, const json_t *body)
{
	char *canonical = json_dumps(body, JSON_SORT_KEYS | JSON_COMPACT);
	char *text;
	uint8_t digest[20];

	if (canonical == NULL)
		abort();
	text = xasprintf("%s\n%s\n%s\n%s", request_method(question->req),
	    request_path(question->req), owner, canonical);
	crypt_sha1(text, strlen(text), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(question->digest + 2 * i, 3, "%02x", digest[i]);
	explicit_bzero(canonical, strlen(canonical));
	free(canonical);
	explicit_bzero(text, strlen(text));
	free(text);
}

static enum err
read_question(struct question *question, struct ask *ask, struct diag *diag)
{
	const struct config_chat *chat = question->config->chat;
	const json_t *body;
	enum err err;

	if (chat == NULL || store_current() == NULL)
		return ERR_NOTFOUND;
	err = caller_of_request(question->req, false, &ask->spec.caller, diag);
	if (err == ERR_OK) {
		caller_subjects(&ask->spec.caller, question->config,
		    &question->subjects);
		err = admission_ask(question->req, &question->subjects,
		    &ask->refusal.retry_after_s, diag);
	}
	if (err == ERR_OK)
		err = take_key(question, diag);
	if (err == ERR_OK)
		err = request_json(question->req, &body, diag);
	if (err == ERR_OK)
		err = chat_request_parse(chat, question->kind, body,
		    &question->body, diag);
	if (err != ERR_OK)
		return err;
	if (question->body.content != NULL)
		question->title = chat_request_title(question->body.content);
	make_digest(question, ask->spec.caller.owner, body);
	crypt_random_hex(question->chat, ID_BYTES);
	crypt_random_hex(question->question, ID_BYTES);
	crypt_random_hex(question->answer, ID_BYTES);
	crypt_random_hex(question->generation, ID_BYTES);
	return ERR_OK;
}

/* ---- the store ---------------------------------------------------------- */

struct payment {
	const struct question *question;
	const struct price *price;    /* NULL: nobody pays of a balance */
	struct store_reserve *budget; /* to be filled */
};

/* Forgotten so long after the longest answer, if nobody ends it. */
#define BUDGET_SPARE_S 900

static void
reserve_budget(const struct payment *payment, uint64_t input_bytes)
{
	const struct question *question = payment->question;
	const struct config *config = question->config;
	const char *model = question->body.model;
	uint64_t output = question->body.output_tokens;
	const struct budget_ask ask = {
		.id = question->generation,
		.subjects = &question->subjects,
		.config = config,
		.model = model,
		.max_tokens = (int64_t)(input_bytes + output),
		.max_money = chat_cost_bound(config_find_price(config, model),
		    input_bytes, output),
		.now = clock_unix(),
	};

	budget_fill_reserve(&ask,
	    config->chat->total_ms / 1000 + BUDGET_SPARE_S, payment->budget);
}

static int64_t
reserve(const struct store_messages *history, void *arg)
{
	const struct payment *payment = arg;
	const struct question *question = payment->question;
	uint64_t input_bytes =
	    chat_request_bytes(question->config->chat, history);

	reserve_budget(payment, input_bytes);
	return chat_cost_bound(payment->price, input_bytes,
	    question->body.output_tokens);
}

static enum err
begin_in_store(const struct question *question, const struct caller *caller,
    int64_t now_ms, struct store_begun *ret, struct diag *diag)
{
	const struct config_chat *chat = question->config->chat;
	struct store *store = store_current();
	struct store_allowance allowance = caller_allowance(caller, chat);
	bool pays = chat->balance && caller->is_user;
	struct store_reserve budget = { .id = question->generation };
	struct payment payment = {
		.question = question,
		.budget = &budget,
		.price = pays
		    ? config_find_price(question->config, question->body.model)
		    : NULL,
	};
	const struct store_begin in = {
		.owner = caller->owner,
		.user = pays ? caller->id : NULL,
		.chat = question->body.chat_id,
		.title = question->title,
		.new_chat = question->chat,
		.new_question = question->question,
		.new_answer = question->answer,
		.generation = question->generation,
		.content = question->body.content,
		.regenerate = question->body.message_id,
		.model = question->body.model,
		.key = question->key,
		.digest = question->digest,
		.now_ms = now_ms,
		.key_s = KEY_S,
		.max_chats = (int64_t)chat->max_chats,
		.max_turns = (int64_t)chat->max_turns,
		.allowance = caller->is_user ? NULL : &allowance,
		.history_messages = chat->history_messages,
		.history_bytes = chat->history_bytes,
		.reserve = reserve,
		.arg = &payment,
		.budget = &budget,
	};

	return store->ops->begin(store, &in, ret, diag);
}

static void
tell_question(const struct question *question, const struct ask *ask)
{
	const struct generation_spec *spec = &ask->spec;
	const struct store_message message = {
		.id = spec->question,
		.version = 1,
		.versions = 1,
		.state = STORE_COMPLETE,
		.content = (char *)(uintptr_t)question->body.content,
		.created_ms = spec->created_ms,
	};

	if (spec->question != NULL)
		chat_news_question(spec->caller.owner, spec->chat,
		    spec->new_chat, &message);
	notify_usage(spec->caller.owner);
}

static char *
take(char **text)
{
	char *taken = *text;

	*text = NULL;
	return taken;
}

static void
take_begun(const struct question *question, struct store_begun *begun,
    int64_t now_ms, struct ask *ask)
{
	const struct config_chat *chat = question->config->chat;
	struct generation_spec *spec = &ask->spec;

	ask->repeated = begun->repeated;
	spec->id = take(&begun->generation);
	if (ask->repeated)
		return;
	spec->config = config_ref((struct config *)(uintptr_t)question->config);
	spec->chat = take(&begun->chat);
	spec->answer = take(&begun->answer);
	spec->question = take(&begun->question);
	spec->replaces = take(&begun->replaces);
	spec->model = xstrdup(question->body.model);
	spec->new_chat = begun->new_chat;
	spec->version = begun->version;
	spec->created_ms = now_ms;
	spec->input_bytes = chat_request_bytes(chat, &begun->history);
	spec->body = chat_request_body(chat, &question->body, &begun->history,
	    &spec->body_len);
	tell_question(question, ask);
}

/* ---- refusing ----------------------------------------------------------- */

static void
refuse(struct ask *ask, enum err err, const char *code, const struct diag *diag)
{
	struct chat_refusal *refusal = &ask->refusal;

	refusal->err = err;
	refusal->code = code;
	refusal->why = *diag;
	if (refusal->retry_after_s == 0 &&
	    (err == ERR_UNAVAIL || err == ERR_RATE))
		refusal->retry_after_s = RETRY_S;
}

/* Seconds until it may be tried again; 0 or less: not said. */
static int64_t
wait_of(enum err err, const struct store_begun *begun)
{
	if (err == ERR_RATE)
		return begun->allowance.resets - clock_unix();
	if (err == ERR_BUDGET)
		return budget_resets_in_s(&begun->budget, clock_unix());
	return err == ERR_AGAIN ? RETRY_S : 0;
}

/* What the store said: its reason is for the log where it is its own. */
static void
refuse_for_store(struct ask *ask, enum err err, const struct store_begun *begun,
    const struct diag *diag)
{
	static const struct diag none = { "" };
	const struct caller *caller = &ask->spec.caller;
	int64_t wait_s = wait_of(err, begun);

	if (err == ERR_UNAVAIL || err == ERR_SYS)
		log_warning("chat.not_begun", "reason=\"%s\"", diag->text);
	if (err == ERR_AGAIN) /* it is a limit's, and no fault of ours */
		refuse(ask, ERR_RATE, "BUDGET_IN_USE", diag);
	else
		refuse(ask, err, chat_json_code(err, caller),
		    err == ERR_UNAVAIL || err == ERR_SYS ? &none : diag);
	if (wait_s > 0)
		ask->refusal.retry_after_s = wait_s;
	if (err == ERR_RATE || err == ERR_PAYMENT || err == ERR_BUDGET)
		notify_event(caller->owner, "assistant_error",
		    chat_json_error(err, caller,
			diag->text[0] == '\0' ? NULL : diag->text));
}

/* ---- the way from the request to the hub -------------------------------- */

static void
begin(const struct question *question, struct ask *ask)
{
	struct store_begun begun = { .repeated = false };
	struct diag diag = { "" };
	int64_t now_ms = clock_unix_ms();
	enum err err = generations_reserve(question->config->chat,
	    ask->spec.caller.owner, question->generation, question->key,
	    &question->subjects, &ask->slot, &diag);

	if (err != ERR_OK) {
		refuse(ask, err, err == ERR_RATE ? "TOO_MANY_STREAMS" : NULL,
		    &diag);
		return;
	}
	err =
	    begin_in_store(question, &ask->spec.caller, now_ms, &begun, &diag);
	if (err == ERR_OK)
		take_begun(question, &begun, now_ms, ask);
	else
		refuse_for_store(ask, err, &begun, &diag);
	store_begun_done(&begun);
}

static void
ask_free(struct ask *ask)
{
	generation_spec_done(&ask->spec);
	free(ask);
}

static void
handle(struct request *req, enum chat_request_kind kind)
{
	struct ask *ask = xcalloc(1, sizeof(*ask));
	struct question question = {
		.req = req,
		.kind = kind,
		.config = request_config(req),
	};
	struct diag diag = { "" };
	enum err err;

	ask->refusal.as_events = chat_refusal_as_events(req);
	err = read_question(&question, ask, &diag);
	if (err == ERR_OK) {
		/* before it leaves: its headers go with it */
		caller_set_cookie(req, &ask->spec.caller);
		err = parked_take(req, &ask->parked, &diag);
	}
	if (err != ERR_OK) {
		refuse(ask, err, NULL, &diag);
		chat_refusal_reply(req, &ask->refusal);
		ask_free(ask);
	} else {
		begin(&question, ask);
		/* without a hub the process ends: the next one cleans up */
		if (!hub_post(arrive, ask)) {
			parked_drop(ask->parked);
			ask_free(ask);
		}
	}
	chat_request_done(&question.body);
	free(question.title);
}

void
messages_send_handle(struct request *req)
{
	handle(req, CHAT_SEND);
}

void
messages_regenerate_handle(struct request *req)
{
	handle(req, CHAT_REGENERATE);
}

/* ---- the beginning and the end ------------------------------------------ */

enum err
messages_start(struct diag *diag)
{
	struct store *store = store_current();
	struct config *config = config_current();
	enum err err;

	err = chat_recovery_run(store, config, diag);
	config_unref(config);
	if (err == ERR_OK)
		err = scribe_start(store, &scribe_defaults, diag);
	return err;
}

static void
stop_all(void *arg)
{
	(void)arg;
	generations_stop_all();
}

static void
nothing(void *arg)
{
	(void)arg;
}

void
messages_stop_all(void)
{
	(void)!hub_call(stop_all, NULL);
	scribe_stop();
	/* after what the scribe has posted: the readers have the end */
	(void)!hub_call(nothing, NULL);
}
