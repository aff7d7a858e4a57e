/* SPDX-License-Identifier: MIT */
#include "journal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/clock.h"
#include "common/xalloc.h"

struct traffic {
	json_int_t messages[2], bytes[2]; /* text, binary */
	json_int_t pieces, pings, pongs;
};

struct record {
	TAILQ_ENTRY(record) entry;
	struct journal *journal;
	json_t *request;
	json_t *closes[2];
	json_t *body; /* or NULL */
	size_t body_bytes;
	struct traffic traffic[2];
	int64_t start_ms, end_ms;
	json_int_t id;
	int status;
	bool upgrade, tls, open, kept, chat;
	enum outcome outcome;
	json_int_t deltas;
};

TAILQ_HEAD(records, record);

struct journal {
	pthread_mutex_t mutex;
	struct records records;
	size_t count;
	json_int_t next_id, forgotten;
	/* of chat completions */
	json_int_t open, outcomes[OUTCOME_BROKEN + 1], deltas;
};

static const char *const outcome_names[] = {
	[OUTCOME_COMPLETE] = "complete",
	[OUTCOME_GONE] = "gone",
	[OUTCOME_BROKEN] = "broken",
};

struct journal *
journal_new(void)
{
	struct journal *j = xcalloc(1, sizeof(*j));

	pthread_mutex_init(&j->mutex, NULL);
	TAILQ_INIT(&j->records);
	return j;
}

static void
record_free(struct record *r)
{
	json_decref(r->request);
	json_decref(r->closes[RECEIVED]);
	json_decref(r->closes[SENT]);
	json_decref(r->body);
	free(r);
}

/* With the mutex held. */
static void
forget(struct journal *j, struct record *r)
{
	TAILQ_REMOVE(&j->records, r, entry);
	j->count--;
	r->kept = false;
	if (!r->open)
		record_free(r);
}

void
journal_reset(struct journal *j)
{
	pthread_mutex_lock(&j->mutex);
	while (!TAILQ_EMPTY(&j->records))
		forget(j, TAILQ_FIRST(&j->records));
	j->forgotten = j->deltas = 0;
	memset(j->outcomes, 0, sizeof(j->outcomes));
	pthread_mutex_unlock(&j->mutex);
}

void
journal_free(struct journal *j)
{
	if (j == NULL)
		return;
	journal_reset(j);
	pthread_mutex_destroy(&j->mutex);
	free(j);
}

struct record *
journal_note(struct journal *j, const struct request *request, bool tls)
{
	struct record *r = xcalloc(1, sizeof(*r));

	r->journal = j;
	r->request = request_json(request);
	r->upgrade = request_is_upgrade(request);
	r->tls = tls;
	r->open = r->kept = true;
	r->start_ms = clock_ms();
	pthread_mutex_lock(&j->mutex);
	r->id = ++j->next_id;
	if (j->count == JOURNAL_MAX) {
		forget(j, TAILQ_FIRST(&j->records));
		j->forgotten++;
	}
	TAILQ_INSERT_TAIL(&j->records, r, entry);
	j->count++;
	pthread_mutex_unlock(&j->mutex);
	return r;
}

static json_t *
traffic_json(const struct traffic *t)
{
	return json_pack("{s:{s:I, s:I}, s:{s:I, s:I}, s:I, s:I, s:I}", "text",
	    "messages", t->messages[0], "bytes", t->bytes[0], "binary",
	    "messages", t->messages[1], "bytes", t->bytes[1], "pieces",
	    t->pieces, "pings", t->pings, "pongs", t->pongs);
}

static json_t *
record_json(const struct record *r)
{
	json_t *out = json_pack("{s:I, s:b, s:b, s:i, s:I}", "id", r->id, "tls",
	    r->tls, "open", r->open, "status", r->status, "ms",
	    (json_int_t)((r->open ? clock_ms() : r->end_ms) - r->start_ms));

	json_object_update(out, r->request);
	if (!r->upgrade) {
		json_object_set_new(out, "body_bytes",
		    json_integer((json_int_t)r->body_bytes));
		json_object_set(out, "body",
		    r->body == NULL ? json_null() : r->body);
		json_object_set_new(out, "ended",
		    r->outcome == OUTCOME_NONE
			? json_null()
			: json_string(outcome_names[r->outcome]));
		if (r->chat)
			json_object_set_new(out, "deltas",
			    json_integer(r->deltas));
		return out;
	}
	json_object_set_new(out, "received",
	    traffic_json(&r->traffic[RECEIVED]));
	json_object_set_new(out, "sent", traffic_json(&r->traffic[SENT]));
	json_object_set_new(out, "close_received",
	    r->closes[RECEIVED] == NULL ? json_null()
					: json_deep_copy(r->closes[RECEIVED]));
	json_object_set_new(out, "close_sent",
	    r->closes[SENT] == NULL ? json_null()
				    : json_deep_copy(r->closes[SENT]));
	return out;
}

json_t *
journal_json(struct journal *j)
{
	json_t *handshakes = json_array(), *requests = json_array();
	json_int_t forgotten;
	struct record *r;

	pthread_mutex_lock(&j->mutex);
	TAILQ_FOREACH (r, &j->records, entry)
		json_array_append_new(r->upgrade ? handshakes : requests,
		    record_json(r));
	forgotten = j->forgotten;
	pthread_mutex_unlock(&j->mutex);
	return json_pack("{s:o, s:o, s:I}", "handshakes", handshakes,
	    "requests", requests, "forgotten", forgotten);
}

json_t *
journal_chat_json(struct journal *j)
{
	json_t *out;
	json_int_t calls;

	pthread_mutex_lock(&j->mutex);
	calls = j->open;
	for (int i = OUTCOME_COMPLETE; i <= OUTCOME_BROKEN; i++)
		calls += j->outcomes[i];
	out = json_pack("{s:I, s:I, s:I}", "calls", calls, "open", j->open,
	    "deltas", j->deltas);
	for (int i = OUTCOME_COMPLETE; i <= OUTCOME_BROKEN; i++)
		json_object_set_new(out, outcome_names[i],
		    json_integer(j->outcomes[i]));
	pthread_mutex_unlock(&j->mutex);
	return out;
}

void
record_chat(struct record *r)
{
	pthread_mutex_lock(&r->journal->mutex);
	r->chat = true;
	r->journal->open++;
	pthread_mutex_unlock(&r->journal->mutex);
}

void
record_delta(struct record *r)
{
	pthread_mutex_lock(&r->journal->mutex);
	r->deltas++;
	r->journal->deltas++;
	pthread_mutex_unlock(&r->journal->mutex);
}

void
record_outcome(struct record *r, enum outcome outcome)
{
	struct journal *j = r->journal;

	pthread_mutex_lock(&j->mutex);
	r->outcome = outcome;
	if (r->chat) {
		j->open--;
		j->outcomes[outcome]++;
	}
	pthread_mutex_unlock(&j->mutex);
}

void
record_status(struct record *r, int status)
{
	pthread_mutex_lock(&r->journal->mutex);
	r->status = status;
	pthread_mutex_unlock(&r->journal->mutex);
}

void
record_body(struct record *r, const void *data, size_t len)
{
	const char *bytes = data == NULL ? "" : data;
	size_t n = len > JOURNAL_BODY_MAX ? JOURNAL_BODY_MAX : len;
	json_t *text;

	/* Not cut inside of a character: that would be no text. */
	while (n < len && n > 0 && ((unsigned char)bytes[n] & 0xc0) == 0x80)
		n--;
	text = json_stringn(bytes, n);
	pthread_mutex_lock(&r->journal->mutex);
	json_decref(r->body);
	r->body = text;
	r->body_bytes = len;
	pthread_mutex_unlock(&r->journal->mutex);
}

void
record_data(struct record *r, enum direction direction, bool binary, size_t len,
    bool final)
{
	struct traffic *t = &r->traffic[direction];

	pthread_mutex_lock(&r->journal->mutex);
	t->pieces++;
	t->bytes[binary] += (json_int_t)len;
	t->messages[binary] += final;
	pthread_mutex_unlock(&r->journal->mutex);
}

void
record_control(struct record *r, enum direction direction, bool pong)
{
	struct traffic *t = &r->traffic[direction];

	pthread_mutex_lock(&r->journal->mutex);
	if (pong)
		t->pongs++;
	else
		t->pings++;
	pthread_mutex_unlock(&r->journal->mutex);
}

void
record_close(struct record *r, enum direction direction, int code,
    const void *reason, size_t len)
{
	json_t *text = json_stringn(reason == NULL ? "" : reason, len);
	json_t *close = json_pack("{s:i, s:o}", "code", code, "reason",
	    text == NULL ? json_null() : text);

	pthread_mutex_lock(&r->journal->mutex);
	if (r->closes[direction] == NULL)
		r->closes[direction] = json_incref(close);
	pthread_mutex_unlock(&r->journal->mutex);
	json_decref(close);
}

void
record_end(struct record *r)
{
	struct journal *j;

	if (r == NULL)
		return;
	j = r->journal;
	pthread_mutex_lock(&j->mutex);
	r->open = false;
	r->end_ms = clock_ms();
	if (!r->kept)
		record_free(r);
	pthread_mutex_unlock(&j->mutex);
}
