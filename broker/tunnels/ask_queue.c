/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/ask_queue.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "broker/config/config.h"
#include "broker/store/store.h"
#include "broker/tunnels/control_log.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xalloc.h"

#define WAITING_MAX 4096 /* asks of all leases that wait for a budget */
#define PARTS	    16	 /* of all leases, looked at one after another */

/* ---- members ----------------------------------------------------------- */

void
ask_queue_unref(struct ask_queue_member *member)
{
	if (--member->refs > 0)
		return;
	free(member->info.session);
	free(member->info.route);
	free(member->info.client);
	free(member->info.user);
	free(member->info.model);
	config_unref(member->info.config);
	free(member);
}

void
ask_queue_forget(struct control_asks *asks, struct ask_queue_member *member)
{
	LIST_REMOVE(member, entry);
	asks->member_count--;
	ask_queue_unref(member);
}

struct ask_queue_open *
ask_queue_find_open(struct ask_queue_member *member, int64_t n)
{
	for (size_t i = 0; i < member->open_count; i++)
		if (member->open[i].n == n)
			return &member->open[i];
	return NULL;
}

void
ask_queue_remove_open(struct ask_queue_member *member,
    struct ask_queue_open *open)
{
	*open = member->open[--member->open_count];
}

/* Most that a response of it is expected to come to. */
struct budget_ask
ask_queue_make_ask(const struct ask_queue_member *member, int64_t input_bytes,
    const char *id)
{
	int64_t known = member->known_bytes;

	return (struct budget_ask){
		.id = id,
		.subjects = &member->info.subjects,
		.config = member->info.config,
		.model = member->info.model,
		.seen_tokens = member->largest.tokens,
		.seen_money = member->largest.money,
		.input_bytes =
		    input_bytes > known ? (uint64_t)(input_bytes - known) : 0,
		.now = clock_unix(),
	};
}

/* ---- queues ------------------------------------------------------------ */

static struct ask_queue_work *
work_new(const struct control_asks *asks, struct ask_queue_member *member,
    int64_t n)
{
	struct ask_queue_work *work = xcalloc(1, sizeof(*work));

	member->refs++;
	member->works++;
	work->member = member;
	work->n = n;
	work->deadline_ms = clock_ms() + asks->options.wait_ms;
	return work;
}

void
ask_queue_drop(struct control_asks *asks, struct ask_queue_work *work)
{
	work->member->works--;
	ask_queue_check_end(asks, work->member);
	ask_queue_unref(work->member);
	free(work);
}

static void
queue(struct control_asks *asks, struct ask_queue_work *work)
{
	TAILQ_INSERT_TAIL(&asks->queue, work, entry);
	asks->queue_count++;
	(void)pthread_cond_signal(&asks->wake);
}

void
ask_queue_release(struct control_asks *asks, struct ask_queue_member *member,
    int64_t n)
{
	struct ask_queue_work *work;

	if (asks->queue_count >= (size_t)2 * ASK_QUEUE_MAX)
		return;
	work = work_new(asks, member, n);
	work->release = true;
	queue(asks, work);
}

void
ask_queue_reserve(struct control_asks *asks, struct ask_queue_member *member,
    const struct wire_ask *ask)
{
	struct ask_queue_work *work = work_new(asks, member, ask->n);

	work->input_bytes = (int64_t)ask->input_bytes;
	if (ask->begun)
		work->deadline_ms = 0;
	queue(asks, work);
}

struct ask_queue_result *
ask_queue_post(struct control_asks *asks, struct ask_queue_member *member,
    struct wire_packet *packet)
{
	struct ask_queue_result *result = xcalloc(1, sizeof(*result));

	member->refs++;
	result->member = member;
	result->packet = packet;
	TAILQ_INSERT_TAIL(&asks->results, result, entry);
	(void)eventfd_write(asks->fd, 1);
	return result;
}

void
ask_queue_check_end(struct control_asks *asks, struct ask_queue_member *member)
{
	struct wire_packet *packet;

	if (!member->ended || member->owner == NULL || member->works > 0 ||
	    member->lost > 0)
		return;
	member->ended = false;
	packet = wire_packet_new(WIRE_ACK);
	packet->ack.ended = true;
	(void)ask_queue_post(asks, member, packet);
}

/* ---- waiting ----------------------------------------------------------- */

static bool
has_subject(const struct subjects *subjects, const char *name)
{
	for (size_t i = 0; i < subjects->count; i++)
		if (strcmp(subjects->items[i].name, name) == 0)
			return true;
	return false;
}

/* Something of theirs has ended: who waits for one of them may go on. */
void
ask_queue_wake(struct control_asks *asks, const struct subjects *subjects)
{
	struct ask_queue_work *work;

	asks->ends++;
	TAILQ_FOREACH (work, &asks->waiting, entry)
		if (has_subject(subjects, work->subject)) {
			work->due = asks->due = true;
			(void)pthread_cond_signal(&asks->wake);
		}
}

/* Whoever waits for the same one came before. */
static const char *
find_queue(const struct control_asks *asks, const struct subjects *subjects)
{
	const struct ask_queue_work *work;

	TAILQ_FOREACH (work, &asks->waiting, entry)
		if (!work->release && has_subject(subjects, work->subject))
			return work->subject;
	return NULL;
}

/*
 * again: it was tried, at the head of those that wait, and keeps its place.
 * stale: something has ended since the store said so.
 */
static void
make_wait(struct control_asks *asks, struct ask_queue_work *work,
    const char *subject, bool again, bool stale)
{
	struct ask_queue_work *other;

	(void)memccpy(work->subject, subject, '\0', sizeof(work->subject));
	work->due = stale;
	asks->due |= stale;
	/* nor is there enough for those behind it */
	if (again && !stale)
		TAILQ_FOREACH (other, &asks->waiting, entry)
			if (strcmp(other->subject, subject) == 0)
				other->due = false;
	if (again)
		TAILQ_INSERT_HEAD(&asks->waiting, work, entry);
	else
		TAILQ_INSERT_TAIL(&asks->waiting, work, entry);
	if (asks->waiting_count++ == 0)
		asks->retry_ms = clock_ms() + asks->options.retry_ms;
}

/* ---- the thread -------------------------------------------------------- */

static void
answer(struct control_asks *asks, const struct ask_queue_work *work,
    enum err err, const struct store_budget_state *state)
{
	struct wire_packet *packet = wire_packet_new(WIRE_ANSWER);
	struct wire_answer *out = &packet->answer;

	out->n = work->n;
	out->allowed = err == ERR_OK;
	if (err == ERR_BUDGET) {
		out->code = xstrdup(err_code(err));
		out->message = xstrdup(err_text(err));
		out->retry_after_s = budget_resets_in_s(state, clock_unix());
	} else if (err == ERR_AGAIN) {
		out->code = xstrdup("busy");
		out->message = xstrdup("what is left of the budget of this "
				       "day is in use: try again");
		out->retry_after_s = 1;
	} else if (err != ERR_OK) {
		out->code = xstrdup(err_code(ERR_UNAVAIL));
		out->message = xstrdup(err_text(ERR_UNAVAIL));
		out->retry_after_s = 1;
	}
	(void)ask_queue_post(asks, work->member, packet);
}

static const struct config_plan *
plan_of(const struct subjects *subjects, const char *name)
{
	for (size_t i = 0; i < subjects->count; i++)
		if (strcmp(subjects->items[i].name, name) == 0)
			return subjects->items[i].plan;
	return NULL;
}

/*
 * Of whose budget, its kind says: "u", "a", "n", "r".  Once a day is enough: a
 * conversation that goes on without its budget may ask and ask.
 */
void
ask_queue_log_spent(struct ask_queue_member *member,
    const struct store_budget_state *state)
{
	const struct lease_info *info = &member->info;
	char who[CONTROL_LOG_WHO_SIZE];

	if (member->spent_until == state->resets)
		return;
	member->spent_until = state->resets;
	log_info("budget.spent",
	    "lease=%s session=%s route=%s client=%s of=%.1s%s tokens=%lld "
	    "money=%lld.%06lld seconds=%lld",
	    info->id, info->session, info->route, info->client, state->subject,
	    control_log_who(info, plan_of(&info->subjects, state->subject),
		who),
	    (long long)state->tokens, (long long)state->money / 1000000,
	    (long long)state->money % 1000000, (long long)state->seconds);
}

/* In the store, unlocked. */
static enum err
release(struct control_asks *asks, const struct ask_queue_work *work)
{
	char id[LEDGER_RESERVATION_BYTES];
	struct store *store = store_current();
	struct diag diag;
	enum err err = ERR_OK;

	ledger_reservation(work->member->info.id, work->n, id);
	(void)pthread_mutex_unlock(&asks->lock);
	if (store != NULL)
		err = store->ops->release(store, id, &diag);
	(void)pthread_mutex_lock(&asks->lock);
	if (err == ERR_OK)
		ask_queue_wake(asks, &work->member->info.subjects);
	return err;
}

/* The store is away: the reservation would stand in others' way until it
   expires. */
static void
do_release(struct control_asks *asks, struct ask_queue_work *work)
{
	if (release(asks, work) == ERR_UNAVAIL && !asks->stopping)
		make_wait(asks, work, "", false, false);
	else
		ask_queue_drop(asks, work);
}

static enum err
reserve(struct control_asks *asks, const struct ask_queue_work *work,
    struct store_budget_state *state, struct ask_queue_open *ret)
{
	char id[LEDGER_RESERVATION_BYTES];
	struct budget_ask ask =
	    ask_queue_make_ask(work->member, work->input_bytes, id);
	const struct lease_info *info = &work->member->info;
	const struct store_lost lost = {
		.lease = info->id,
		.session = info->session,
		.route = info->route,
		.user = info->user,
		.model = info->model,
		.ask = work->n,
	};
	const struct subjects subjects = *ask.subjects;
	struct config *config;
	struct diag diag = { "" };
	enum err err;

	*ret = (struct ask_queue_open){
		.n = work->n,
		.stage = ASK_QUEUE_ALLOWED,
		.input_bytes = work->input_bytes,
	};
	if (!subjects_have_budget(ask.subjects))
		return ERR_OK;
	if (clock_ms() < asks->away_ms)
		return ERR_UNAVAIL;
	ask.lost = &lost;
	ledger_reservation(info->id, work->n, id);
	budget_estimate(&ask, &ret->tokens, &ret->money);
	/* a reload may give it other plans meanwhile */
	ask.subjects = &subjects;
	config = work->member->info.config;
	if (config != NULL)
		config = config_ref(config);
	(void)pthread_mutex_unlock(&asks->lock);
	err = budget_reserve(&ask, state, &diag);
	config_unref(config);
	if (err != ERR_OK && err != ERR_AGAIN && err != ERR_BUDGET)
		log_warning("budget.unavailable", "lease=%s reason=\"%s\"",
		    info->id, diag.text);
	(void)pthread_mutex_lock(&asks->lock);
	/* each try waits for long, and others wait behind it */
	if (err == ERR_UNAVAIL)
		asks->away_ms = clock_ms() + asks->options.retry_ms;
	return err;
}

/* retried: it has waited already, at the head of those that do. */
static void
do_reserve(struct control_asks *asks, struct ask_queue_work *work, bool retried)
{
	struct ask_queue_member *member = work->member;
	struct store_budget_state state = { .subject = "" };
	uint64_t ends = asks->ends;
	struct ask_queue_open done, *open;
	enum err err = reserve(asks, work, &state, &done);

	open = ask_queue_find_open(member, work->n);
	if (open == NULL) { /* nobody wants to know any more */
		work->release = true;
		if (err == ERR_OK)
			do_release(asks, work);
		else
			ask_queue_drop(asks, work);
		return;
	}
	if (err == ERR_AGAIN && clock_ms() < work->deadline_ms &&
	    asks->waiting_count < WAITING_MAX) {
		make_wait(asks, work, state.subject, retried,
		    asks->ends != ends);
		return;
	}
	if (err == ERR_OK)
		*open = done;
	else
		ask_queue_remove_open(member, open);
	answer(asks, work, err, &state);
	if (err == ERR_BUDGET)
		ask_queue_log_spent(member, &state);
	ask_queue_drop(asks, work);
}

/* One that waits is out of the list while it is tried. */
static struct ask_queue_work *
take_due(struct control_asks *asks)
{
	struct ask_queue_work *work;
	int64_t now_ms = clock_ms();
	bool all = now_ms >= asks->retry_ms;

	if (all)
		asks->retry_ms = now_ms + asks->options.retry_ms;
	TAILQ_FOREACH (work, &asks->waiting, entry)
		work->due |= all;
	TAILQ_FOREACH (work, &asks->waiting, entry)
		if (work->due) {
			TAILQ_REMOVE(&asks->waiting, work, entry);
			asks->waiting_count--;
			return work;
		}
	asks->due = false;
	return NULL;
}

/* An ask that is new does not overtake those that wait, if it can wait. */
static void
do_new(struct control_asks *asks, struct ask_queue_work *work)
{
	const char *subject = find_queue(asks, &work->member->info.subjects);

	if (work->release)
		do_release(asks, work);
	else if (subject != NULL && work->deadline_ms > 0 &&
	    asks->waiting_count < WAITING_MAX)
		make_wait(asks, work, subject, false, false);
	else
		do_reserve(asks, work, false);
}

static bool
do_next(struct control_asks *asks)
{
	struct ask_queue_work *work = NULL;

	if (asks->waiting_count > 0 &&
	    (asks->due || clock_ms() >= asks->retry_ms))
		work = take_due(asks);
	if (work != NULL) {
		if (work->release)
			do_release(asks, work);
		else
			do_reserve(asks, work, true);
		return true;
	}
	work = TAILQ_FIRST(&asks->queue);
	if (work == NULL)
		return false;
	TAILQ_REMOVE(&asks->queue, work, entry);
	asks->queue_count--;
	do_new(asks, work);
	return true;
}

void
ask_queue_book_open(struct ask_queue_member *member)
{
	for (size_t i = 0; i < member->open_count; i++)
		member->lost +=
		    ledger_add_lost(&member->info, member->open[i].n,
			member->open[i].tokens, member->open[i].money);
	member->open_count = 0;
}

static void
look_at(struct control_asks *asks, struct ask_queue_member *member,
    int64_t now_ms)
{
	if (member->owner != NULL) {
		/* it may have nothing to report, and still has a budget */
		if (member->counted)
			ledger_add_seconds(&member->info, false);
	} else if (now_ms >= member->lost_ms) {
		/* it did not come back */
		asks->lost_count--;
		ask_queue_book_open(member);
		ask_queue_forget(asks, member);
	}
}

/* Some of the leases at a time, so that asks never wait for all. */
static void
visit(struct control_asks *asks, int64_t now_ms)
{
	int64_t pause_ms = asks->options.round_ms / PARTS;
	struct ask_queue_member *member, *next;

	for (size_t i = asks->part; i < ASK_QUEUE_BUCKETS; i += PARTS)
		for (member = LIST_FIRST(&asks->members[i]); member != NULL;
		     member = next) {
			next = LIST_NEXT(member, entry);
			look_at(asks, member, now_ms);
		}
	asks->part = (asks->part + 1) % PARTS;
	asks->visit_ms = now_ms + (pause_ms > 0 ? pause_ms : 1);
}

/* Locked; until there is something new, or something is due. */
static void
wait_for_work(struct control_asks *asks)
{
	int64_t time_ms = INT64_MAX;
	struct timespec time;

	if (asks->member_count > 0)
		time_ms = asks->visit_ms;
	if (asks->waiting_count > 0 && asks->retry_ms < time_ms)
		time_ms = asks->retry_ms;
	if (time_ms == INT64_MAX) {
		(void)pthread_cond_wait(&asks->wake, &asks->lock);
		return;
	}
	time.tv_sec = time_ms / 1000;
	time.tv_nsec = time_ms % 1000 * 1000000;
	(void)pthread_cond_timedwait(&asks->wake, &asks->lock, &time);
}

void *
ask_queue_run(void *arg)
{
	struct control_asks *asks = arg;

	(void)pthread_mutex_lock(&asks->lock);
	while (!asks->stopping) {
		int64_t now_ms = clock_ms();

		if (asks->member_count > 0 && now_ms >= asks->visit_ms)
			visit(asks, now_ms);
		if (!do_next(asks))
			wait_for_work(asks);
	}
	(void)pthread_mutex_unlock(&asks->lock);
	return NULL;
}
