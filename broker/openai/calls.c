/* SPDX-License-Identifier: MIT */
#include "broker/openai/calls.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "broker/http/http_client.h"
#include "broker/limits/revocations.h"
#include "broker/limits/slots.h"
#include "broker/store/store.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/log.h"
#include "common/str.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define CALLS_MAX	 4096
#define TICK_MS		 1000
#define BOOK_MS		 10000 /* the seconds of a day */
#define HANGUP_MS	 5000
#define HANGUP_TRIES	 5
#define ANSWER_MAX_BYTES (64 * 1024)
#define LEASE_BYTES	 16

struct call_place {
	char *id; /* the vendor's; NULL: it is being made */
	char lease[2 * LEASE_BYTES + 1]; /* what its seconds are booked for */
	char *user, *ticket;
	int64_t issued;
	struct config *config;
	const struct config_relay *relay;
	struct subjects subjects;
	struct slots *slots;
	int64_t started, end_ms, book_ms, retry_ms;
	unsigned tries;
	const char *why; /* it is to end; NULL: it runs */
	bool claimed;	 /* it makes room for one of the next */
	unsigned refs;	 /* of the list, and of who works on it */
	bool listed;
	TAILQ_ENTRY(call_place) entry;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	bool runs, stops;
	size_t count; /* of the list */
	TAILQ_HEAD(, call_place) list;
} calls = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.list = TAILQ_HEAD_INITIALIZER(calls.list),
};

static void
place_free(struct call_place *place)
{
	slots_release(place->slots);
	config_unref(place->config);
	free(place->id);
	free(place->user);
	free(place->ticket);
	free(place);
}

/* Locked.  The last one that has it frees it. */
static void
unref(struct call_place *place)
{
	if (--place->refs == 0)
		place_free(place);
}

/* Locked.  It is counted no more. */
static void
leave(struct call_place *place)
{
	TAILQ_REMOVE(&calls.list, place, entry);
	calls.count--;
	place->listed = false;
	slots_release(place->slots);
	place->slots = NULL;
	unref(place);
}

static void
give_up(struct call_place *place)
{
	(void)pthread_mutex_lock(&calls.lock);
	unref(place);
	(void)pthread_mutex_unlock(&calls.lock);
}

/* ---- the vendor ---------------------------------------------------------- */

/* A call that is over, or was never there, is as good as hung up. */
static enum err
ask_vendor(const struct call_place *place, struct diag *diag)
{
	const struct config_relay *relay = place->relay;
	const struct config_url *url = &relay->upstream;
	struct http_client_header *headers =
	    xcalloc(relay->header_count + 1, sizeof(*headers));
	char *text = xasprintf("%s://%s%s/calls/%s/hangup",
	    url->tls ? "https" : "http", url->authority, url->path, place->id);
	const struct http_client_request request = {
		.method = "POST",
		.url = text,
		.headers = headers,
		.header_count = relay->header_count,
		.body = "",
		.ca_file = relay->ca_file,
		.allow_private =
		    relay->allow_private || str_is_address(url->host),
		.deadline_ms = clock_ms() + HANGUP_MS,
		.max_bytes = ANSWER_MAX_BYTES,
	};
	struct http_client_answer answer;
	enum err err;

	for (size_t i = 0; i < relay->header_count; i++)
		headers[i] = (struct http_client_header){
			relay->headers[i].name,
			relay->headers[i].prefix,
			relay->headers[i].secret,
		};
	err = http_client_send(&request, &answer, diag);
	free(headers);
	free(text);
	if (err != ERR_OK)
		return err == ERR_LIMIT ? ERR_UPSTREAM : err;
	if (answer.status / 100 != 2 && answer.status != 404) {
		diag_set(diag, "the vendor answered a hangup with %d",
		    answer.status);
		err = ERR_UPSTREAM;
	}
	http_client_answer_done(&answer);
	return err;
}

/* ---- the day ------------------------------------------------------------- */

/* Book how long it has lasted; whether something of the day is spent. */
static bool
book(const struct call_place *place)
{
	struct store *store = store_current();
	struct store_seconds row = {
		.lease = place->lease,
		.now = clock_unix(),
	};
	struct store_budget_state state;
	struct store_budgets budgets;
	struct diag diag = { "" };
	enum err err;

	subjects_budgets(&place->subjects, &budgets);
	if (store == NULL || budgets.count == 0)
		return false;
	for (size_t i = 0; i < place->subjects.count; i++)
		row.subjects[i] = place->subjects.items[i].name;
	row.total = row.now - place->started;
	err = store->ops->add_seconds(store, &row, 1, &diag);
	if (err == ERR_OK)
		err = store->ops->check_budgets(store, &budgets, row.now,
		    &state, &diag);
	/* a store that is away ends nothing */
	return err == ERR_BUDGET;
}

/* ---- the end of one ------------------------------------------------------ */

/*
 * Ask the vendor, and let it go where that has done it, or cannot be done; by
 * who has a reference to it, without the lock.
 */
static enum err
hang_up(struct call_place *place, const char *why, struct diag *diag)
{
	int64_t begun_ms = clock_ms();
	enum err err = ask_vendor(place, diag);
	bool is_last;

	(void)pthread_mutex_lock(&calls.lock);
	/* a client that asks and asks does not use the tries up */
	if (err != ERR_OK && begun_ms >= place->retry_ms) {
		place->tries++;
		place->retry_ms = clock_ms() + HANGUP_MS;
	}
	/* another one may have been faster */
	is_last =
	    place->listed && (err == ERR_OK || place->tries >= HANGUP_TRIES);
	if (place->why == NULL)
		place->why = why;
	if (is_last)
		leave(place);
	(void)pthread_mutex_unlock(&calls.lock);
	if (err != ERR_OK)
		log_error("openai.hangup_failed",
		    "route=%s call=%s reason=\"%s\"", place->relay->name,
		    place->id, diag->text);
	if (is_last) {
		(void)book(place);
		log_info("openai.hangup", "route=%s call=%s cause=%s",
		    place->relay->name, place->id, place->why);
	}
	return err;
}

/* ---- the thread ---------------------------------------------------------- */

static const char *
why_to_end(const struct call_place *place, int64_t now_ms)
{
	const struct revocations_subject subject = {
		.user = place->user,
		.session = place->id,
		.ticket = place->ticket,
		.route = place->relay->name,
		.issued = place->issued,
	};

	if (place->why != NULL)
		return place->retry_ms <= now_ms ? place->why : NULL;
	if (revocations_have(&subject))
		return "revoked";
	return place->end_ms <= now_ms ? "lifetime" : NULL;
}

/* Locked, but not while it works on one; false where there was none to do. */
static bool
do_one(int64_t now_ms)
{
	struct diag diag = { "" };
	struct call_place *place;
	const char *why = NULL;

	TAILQ_FOREACH (place, &calls.list, entry) {
		why = place->id == NULL ? NULL : why_to_end(place, now_ms);
		if (why != NULL ||
		    (place->id != NULL && place->book_ms <= now_ms))
			break;
	}
	if (place == NULL)
		return false;
	place->refs++;
	place->book_ms = now_ms + BOOK_MS;
	/* behind those whose turn comes sooner */
	TAILQ_REMOVE(&calls.list, place, entry);
	TAILQ_INSERT_TAIL(&calls.list, place, entry);
	(void)pthread_mutex_unlock(&calls.lock);
	if (why == NULL && book(place))
		why = "budget";
	if (why != NULL)
		(void)!hang_up(place, why, &diag);
	(void)pthread_mutex_lock(&calls.lock);
	unref(place);
	return true;
}

static void *
run(void *unused)
{
	struct timespec at;
	int64_t until_ms;

	(void)unused;
	(void)pthread_mutex_lock(&calls.lock);
	while (!calls.stops) {
		if (calls.count == 0) {
			(void)pthread_cond_wait(&calls.wake, &calls.lock);
			continue;
		}
		until_ms = clock_ms() + TICK_MS;
		at.tv_sec = until_ms / 1000;
		at.tv_nsec = until_ms % 1000 * 1000000;
		(void)pthread_cond_timedwait(&calls.wake, &calls.lock, &at);
		while (!calls.stops && do_one(clock_ms()))
			;
	}
	(void)pthread_mutex_unlock(&calls.lock);
	return NULL;
}

enum err
calls_start(struct diag *diag)
{
	pthread_condattr_t attr;
	enum err err;

	/* as clock_ms() is */
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&calls.wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	calls.stops = false;
	err = thread_start(&calls.thread, "calls", run, NULL, diag);
	calls.runs = err == ERR_OK;
	return err;
}

/* One that runs, out of the list, referenced; NULL: no more. */
static struct call_place *
take_running(void)
{
	struct call_place *place;

	(void)pthread_mutex_lock(&calls.lock);
	/* calls_settle() ends one that is still being made */
	TAILQ_FOREACH (place, &calls.list, entry)
		if (place->id != NULL)
			break;
	if (place != NULL) {
		place->refs++;
		leave(place);
	}
	(void)pthread_mutex_unlock(&calls.lock);
	return place;
}

void
calls_stop(void)
{
	struct call_place *place;

	if (!calls.runs)
		return;
	(void)pthread_mutex_lock(&calls.lock);
	calls.stops = true;
	(void)pthread_cond_signal(&calls.wake);
	(void)pthread_mutex_unlock(&calls.lock);
	(void)pthread_join(calls.thread, NULL);
	(void)pthread_mutex_lock(&calls.lock);
	calls.runs = false;
	(void)pthread_mutex_unlock(&calls.lock);
	while ((place = take_running()) != NULL) {
		(void)book(place);
		give_up(place);
	}
	(void)pthread_cond_destroy(&calls.wake);
}

/* ---- the beginning of one ------------------------------------------------ */

static int64_t
end_of(const struct call_place *place)
{
	struct wire_limits limits = place->relay->limits;

	subjects_limit_tunnel(&place->subjects, &limits);
	if (limits.vendor_ms > 0 &&
	    (limits.lifetime_ms == 0 || limits.vendor_ms < limits.lifetime_ms))
		limits.lifetime_ms = limits.vendor_ms;
	return limits.lifetime_ms == 0 ? INT64_MAX
				       : clock_ms() + limits.lifetime_ms;
}

/*
 * The oldest call of the same user or visitor, referenced, which is for nobody
 * else then; NULL: none.
 */
static struct call_place *
claim_own(const struct subjects *subjects)
{
	struct call_place *place, *oldest = NULL;

	(void)pthread_mutex_lock(&calls.lock);
	TAILQ_FOREACH (place, &calls.list, entry)
		if (place->id != NULL && place->why == NULL &&
		    !place->claimed &&
		    strcmp(place->subjects.items[0].name,
			subjects->items[0].name) == 0 &&
		    (oldest == NULL || place->started < oldest->started))
			oldest = place;
	if (oldest != NULL) {
		oldest->claimed = true;
		oldest->refs++;
	}
	(void)pthread_mutex_unlock(&calls.lock);
	return oldest;
}

/* A place for each of them, if need be that of another call. */
static enum err
take_slots(const struct subjects *subjects, struct slots **ret,
    struct diag *diag)
{
	uint64_t max;
	enum err err =
	    slots_take(SLOTS_TUNNELS, subjects, false, ret, &max, diag);
	struct call_place *own;
	struct diag why = { "" };

	if (err != ERR_RATE || (own = claim_own(subjects)) == NULL)
		return err;
	if (hang_up(own, "superseded", &why) == ERR_OK) {
		give_up(own);
		return slots_take(SLOTS_TUNNELS, subjects, false, ret, &max,
		    diag);
	}
	give_up(own);
	return err;
}

enum err
calls_reserve(const struct calls_request *request, struct call_place **ret,
    struct diag *diag)
{
	struct call_place *place;
	struct slots *slots;
	enum err err = take_slots(request->subjects, &slots, diag);

	if (err != ERR_OK)
		return err;
	place = xcalloc(1, sizeof(*place));
	*place = (struct call_place){
		.user = request->user == NULL ? NULL : xstrdup(request->user),
		.ticket =
		    request->ticket == NULL ? NULL : xstrdup(request->ticket),
		.issued = request->issued,
		.config = config_ref(request->config),
		.relay = request->relay,
		.subjects = *request->subjects,
		.slots = slots,
		.refs = 1,
	};
	crypt_random_hex(place->lease, LEASE_BYTES);
	(void)pthread_mutex_lock(&calls.lock);
	if (calls.count >= CALLS_MAX) {
		diag_set(diag, "too many calls run at once");
		err = ERR_UNAVAIL;
	} else {
		TAILQ_INSERT_TAIL(&calls.list, place, entry);
		place->listed = true;
		calls.count++;
	}
	(void)pthread_mutex_unlock(&calls.lock);
	if (err == ERR_OK)
		*ret = place;
	else
		place_free(place);
	return err;
}

void
calls_settle(struct call_place *place, const char *id)
{
	(void)pthread_mutex_lock(&calls.lock);
	if (id == NULL || !calls.runs) {
		leave(place);
	} else {
		place->id = xstrdup(id);
		place->started = clock_unix();
		place->end_ms = end_of(place);
		place->book_ms = clock_ms() + BOOK_MS;
		(void)pthread_cond_signal(&calls.wake);
	}
	(void)pthread_mutex_unlock(&calls.lock);
}

enum err
calls_hang_up(const char *id, struct diag *diag)
{
	struct call_place *place;
	enum err err;

	(void)pthread_mutex_lock(&calls.lock);
	TAILQ_FOREACH (place, &calls.list, entry)
		if (place->id != NULL && strcmp(place->id, id) == 0)
			break;
	if (place != NULL)
		place->refs++;
	(void)pthread_mutex_unlock(&calls.lock);
	if (place == NULL) {
		diag_set(diag, "there is no such call");
		return ERR_NOTFOUND;
	}
	err = hang_up(place, "client", diag);
	give_up(place);
	return err;
}
