/* SPDX-License-Identifier: MIT */
#include "broker/store/ledger.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/config/config.h"
#include "broker/limits/budget.h"
#include "broker/store/usage_event.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define BATCH	    256 /* rows of a transaction */
#define EXPIRE_MS   60000
#define METERS_MAX  4096
#define METER_BATCH 32

const struct ledger_options ledger_defaults = {
	.max_rows = 20000,
	.max_bytes = 32 * 1024 * 1024,
	.retry_ms = 200,
	.max_retry_ms = 10000,
	.flush_ms = 2000,
};

/* How long a lease has lasted, and whose budgets that may have used up. */
struct meter {
	char lease[33];
	struct subjects subjects;
	struct config *config; /* their plans' */
	bool seconds_only;     /* of the budgets: asks see to the others */
	int64_t seconds, now;
};

struct ledger {
	struct store *store;
	struct ledger_options options;
	pthread_t thread;
	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t wake;
	/* A ring of max_rows.  The thread alone removes from its head. */
	struct store_usage *rows;
	size_t head, count, bytes;
	/* The same, of METERS_MAX. */
	struct meter *meters;
	size_t meter_head, meter_count;
	uint64_t lost;		   /* since the log was told */
	int64_t pause_ms, next_ms; /* while the store is away */
	bool stopping;
};

/* Whoever reports holds it while it does. */
static pthread_rwlock_t current_lock = PTHREAD_RWLOCK_INITIALIZER;
static struct ledger *current;

/* Whoever calls it holds the lock while it does. */
static pthread_mutex_t listener_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ledger_listener listener;

void
ledger_listen(const struct ledger_listener *new)
{
	(void)pthread_mutex_lock(&listener_lock);
	listener = (struct ledger_listener){ .arg = NULL };
	if (new != NULL)
		listener = *new;
	(void)pthread_mutex_unlock(&listener_lock);
}

static void
tell_booked(const char *lease, int64_t n)
{
	(void)pthread_mutex_lock(&listener_lock);
	if (listener.booked != NULL)
		listener.booked(listener.arg, lease, n);
	(void)pthread_mutex_unlock(&listener_lock);
}

static void
tell_spent(const char *lease, const struct store_budget_state *state)
{
	(void)pthread_mutex_lock(&listener_lock);
	if (listener.spent != NULL)
		listener.spent(listener.arg, lease, state);
	(void)pthread_mutex_unlock(&listener_lock);
}

/* ---- reporting --------------------------------------------------------- */

void
ledger_reservation(const char *lease, int64_t ask,
    char out[LEDGER_RESERVATION_BYTES])
{
	(void)snprintf(out, LEDGER_RESERVATION_BYTES, "%s:%" PRId64, lease,
	    ask);
}

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

/* ask 0: it was not asked for. */
static void
complete(struct store_usage *row, const struct lease_info *lease, int64_t ask)
{
	char reservation[LEDGER_RESERVATION_BYTES];

	row->lease = xstrdup(lease->id);
	row->session = xstrdup(lease->session);
	row->route = xstrdup(lease->route);
	row->user = copy(lease->user);
	/* a transcription is charged as another model than the session's */
	if (strstr(row->event, "transcription") != NULL)
		row->model = xstrdup(USAGE_EVENT_TRANSCRIPTION);
	else
		row->model = copy(lease->model);
	row->at = clock_unix();
	ledger_reservation(lease->id, ask, reservation);
	if (lease->config != NULL)
		budget_fill_usage(lease->config, &lease->subjects,
		    ask > 0 ? reservation : NULL, row);
}

/* Queue a row, which is this function's; whether there was room. */
static bool
push(struct ledger *ledger, struct store_usage *row)
{
	size_t bytes = strlen(row->raw);
	bool fits, first_lost;

	(void)pthread_mutex_lock(&ledger->lock);
	fits = ledger->count < ledger->options.max_rows &&
	    bytes <= ledger->options.max_bytes - ledger->bytes;
	first_lost = !fits && ledger->lost++ == 0;
	if (fits) {
		ledger->rows[(ledger->head + ledger->count++) %
		    ledger->options.max_rows] = *row;
		ledger->bytes += bytes;
		(void)pthread_cond_signal(&ledger->wake);
	}
	(void)pthread_mutex_unlock(&ledger->lock);
	if (fits)
		return true;
	if (first_lost)
		log_error("usage.queue_full",
		    "rows=%zu reason=\"the store has been away for too long: "
		    "usage is lost\"",
		    ledger->options.max_rows);
	store_usage_done(row);
	return false;
}

/* How many of a report's events were not as they should be. */
struct faults {
	unsigned refused, odd;
	struct diag why;
};

static void
raise(struct ledger_largest *largest, const struct store_usage *row,
    int64_t ask)
{
	if (largest == NULL)
		return;
	largest->unasked |= ask == 0;
	if ((int64_t)row->total_tokens > largest->tokens)
		largest->tokens = (int64_t)row->total_tokens;
	if (row->money > largest->money)
		largest->money = row->money;
}

static void
add(struct ledger *ledger, const struct lease_info *lease, const json_t *event,
    struct ledger_largest *largest, struct faults *faults)
{
	struct store_usage row;
	int64_t ask = 0;
	bool odd;

	if (usage_event_parse(event, &row, &odd, &faults->why) != ERR_OK) {
		faults->refused++;
		return;
	}
	if (json_get_int(event, "ask", 1, INT64_MAX, &ask) != ERR_OK)
		ask = 0;
	faults->odd += odd;
	complete(&row, lease, ask);
	row.lost_n = -ask;
	raise(largest, &row, ask);
	(void)push(ledger, &row);
}

/* Nothing is kept, so nothing needs to be sent again. */
static void
pass_over(const struct lease_info *lease, const json_t *events)
{
	int64_t n, last = 0;

	for (size_t i = 0; i < json_array_size(events); i++)
		if (json_get_int(json_array_get(events, i), "n", 1, INT64_MAX,
			&n) == ERR_OK &&
		    n > last)
			last = n;
	if (last > 0)
		tell_booked(lease->id, last);
}

/* A line for each report: who sends nonsense does not fill the log. */
static void
log_faults(const struct lease_info *lease, const struct faults *faults)
{
	if (faults->refused > 0)
		log_warning("usage.refused",
		    "lease=%s route=%s events=%u reason=\"%s\"", lease->id,
		    lease->route, faults->refused, faults->why.text);
	if (faults->odd > 0)
		log_warning("usage.odd",
		    "lease=%s route=%s events=%u reason=\"some of the "
		    "vendor's numbers cannot be right\"",
		    lease->id, lease->route, faults->odd);
}

void
ledger_add(const struct lease_info *lease, const json_t *events,
    struct ledger_largest *ret)
{
	struct faults faults = { .refused = 0 };
	bool kept;

	(void)pthread_rwlock_rdlock(&current_lock);
	kept = current != NULL;
	for (size_t i = 0; kept && i < json_array_size(events); i++)
		add(current, lease, json_array_get(events, i), ret, &faults);
	(void)pthread_rwlock_unlock(&current_lock);
	if (!kept)
		pass_over(lease, events);
	log_faults(lease, &faults);
}

bool
ledger_add_lost(const struct lease_info *lease, int64_t ask, int64_t tokens,
    int64_t money)
{
	struct store_usage row = {
		.n = -ask,
		.event = xstrdup("response.lost"),
		.status = xstrdup("lost"),
		.total_tokens = (uint64_t)tokens,
		.raw = xasprintf("{\"reserved_tokens\":%" PRId64
				 ",\"reserved_money\":%" PRId64 "}",
		    tokens, money),
	};

	bool queued = false;

	complete(&row, lease, ask);
	row.money = money;
	(void)pthread_rwlock_rdlock(&current_lock);
	if (current != NULL)
		queued = push(current, &row);
	else
		store_usage_done(&row);
	(void)pthread_rwlock_unlock(&current_lock);
	return queued;
}

static bool
is_counted(const struct lease_info *lease)
{
	for (size_t i = 0; i < lease->subjects.count; i++)
		if (lease->subjects.items[i].plan != NULL)
			return lease->config != NULL;
	return false;
}

static void
fill_meter(const struct lease_info *lease, bool unasked, struct meter *meter)
{
	const struct config_relay *relay =
	    config_find_relay_by_name(lease->config, lease->route);

	*meter = (struct meter){
		.subjects = lease->subjects,
		.config = config_ref(lease->config),
		.seconds_only = !unasked && relay != NULL &&
		    relay->over_budget != NULL &&
		    strcmp(relay->over_budget, "error") == 0,
		.now = clock_unix(),
	};
	(void)memcpy(meter->lease, lease->id, sizeof(meter->lease));
	/* not by clock_ms(): the lease may be older than this process */
	meter->seconds = meter->now - lease->started_unix;
}

void
ledger_add_seconds(const struct lease_info *lease, bool unasked)
{
	struct ledger *ledger;

	if (!is_counted(lease))
		return;
	(void)pthread_rwlock_rdlock(&current_lock);
	ledger = current;
	if (ledger != NULL) {
		(void)pthread_mutex_lock(&ledger->lock);
		if (ledger->meter_count < METERS_MAX) {
			fill_meter(lease, unasked,
			    &ledger->meters[(ledger->meter_head +
						ledger->meter_count++) %
				METERS_MAX]);
			(void)pthread_cond_signal(&ledger->wake);
		}
		(void)pthread_mutex_unlock(&ledger->lock);
	}
	(void)pthread_rwlock_unlock(&current_lock);
}

/* ---- writing: the thread ----------------------------------------------- */

/* Rows stay where they are in the ring, and no one else removes any. */
static size_t
peek_batch(struct ledger *ledger, struct store_usage **ret)
{
	size_t to_end = ledger->options.max_rows - ledger->head;
	size_t count = ledger->count;

	count = count < BATCH ? count : BATCH;
	*ret = &ledger->rows[ledger->head];
	return count < to_end ? count : to_end;
}

static void
remove_batch(struct ledger *ledger, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct store_usage *row = &ledger->rows[ledger->head + i];

		ledger->bytes -= strlen(row->raw);
		store_usage_done(row);
	}
	ledger->head = (ledger->head + count) % ledger->options.max_rows;
	ledger->count -= count;
}

/* One that the store refuses for what it is must not hold up the others. */
static enum err
write_rows(struct ledger *ledger, const struct store_usage *rows, size_t count,
    struct diag *diag)
{
	struct store *store = ledger->store;
	enum err err = store->ops->add_usage(store, rows, count, diag);

	if (err == ERR_OK || err == ERR_UNAVAIL)
		return err;
	for (size_t i = 0; i < count; i++) {
		err = store->ops->add_usage(store, &rows[i], 1, diag);
		if (err == ERR_UNAVAIL)
			return err; /* those before come again: harmless */
		if (err != ERR_OK)
			log_error("usage.not_booked",
			    "lease=%s n=%lld reason=\"%s\"", rows[i].lease,
			    (long long)rows[i].n, diag->text);
	}
	return ERR_OK;
}

/* Of rows that were written: each that is "lost", and up to where each lease's
   others are in the store. */
static void
tell_rows(const struct store_usage *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (i + 1 == count || rows[i].n < 0 || rows[i + 1].n < 0 ||
		    strcmp(rows[i].lease, rows[i + 1].lease) != 0)
			tell_booked(rows[i].lease, rows[i].n);
}

/* Write what waits, locked but while writing; stops at the first failure. */
static enum err
write_all(struct ledger *ledger, struct diag *diag)
{
	struct store_usage *rows;
	enum err err = ERR_OK;
	uint64_t lost;
	size_t count;

	while (err == ERR_OK && (count = peek_batch(ledger, &rows)) > 0) {
		(void)pthread_mutex_unlock(&ledger->lock);
		err = write_rows(ledger, rows, count, diag);
		if (err == ERR_OK)
			tell_rows(rows, count);
		(void)pthread_mutex_lock(&ledger->lock);
		if (err != ERR_OK)
			break;
		remove_batch(ledger, count);
		lost = ledger->lost;
		ledger->lost = 0;
		if (lost > 0)
			log_error("usage.lost", "rows=%llu",
			    (unsigned long long)lost);
	}
	return err;
}

static size_t
peek_meters(struct ledger *ledger, struct meter **ret)
{
	size_t to_end = METERS_MAX - ledger->meter_head;
	size_t count = ledger->meter_count;

	count = count < METER_BATCH ? count : METER_BATCH;
	*ret = &ledger->meters[ledger->meter_head];
	return count < to_end ? count : to_end;
}

static void
remove_meters(struct ledger *ledger, size_t count)
{
	for (size_t i = 0; i < count; i++)
		config_unref(ledger->meters[ledger->meter_head + i].config);
	ledger->meter_head = (ledger->meter_head + count) % METERS_MAX;
	ledger->meter_count -= count;
}

static enum err
check_meter(struct store *store, const struct meter *meter, struct diag *diag)
{
	struct store_budget_state state;
	struct store_budgets budgets;
	enum err err;

	subjects_budgets(&meter->subjects, &budgets);
	for (size_t i = 0; meter->seconds_only && i < budgets.count; i++)
		budgets.items[i].max_tokens = budgets.items[i].max_money = 0;
	err = store->ops->check_budgets(store, &budgets, meter->now, &state,
	    diag);
	if (err != ERR_BUDGET)
		return err;
	tell_spent(meter->lease, &state);
	return ERR_OK;
}

static enum err
write_some_meters(struct store *store, const struct meter *meters, size_t count,
    struct diag *diag)
{
	struct store_seconds rows[METER_BATCH];
	enum err err;

	for (size_t i = 0; i < count; i++) {
		const struct subjects *subjects = &meters[i].subjects;
		size_t n = 0;

		rows[i] = (struct store_seconds){
			.lease = meters[i].lease,
			.total = meters[i].seconds,
			.now = meters[i].now,
		};
		for (size_t k = 0; k < subjects->count; k++)
			if (subjects->items[k].plan != NULL)
				rows[i].subjects[n++] = subjects->items[k].name;
	}
	err = store->ops->add_seconds(store, rows, count, diag);
	for (size_t i = 0; err == ERR_OK && i < count; i++)
		err = check_meter(store, &meters[i], diag);
	return err;
}

/* As write_all(): what is booked twice is counted once. */
static enum err
write_meters(struct ledger *ledger, struct diag *diag)
{
	struct meter *meters;
	enum err err = ERR_OK;
	size_t count;

	while (err == ERR_OK && (count = peek_meters(ledger, &meters)) > 0) {
		(void)pthread_mutex_unlock(&ledger->lock);
		err = write_some_meters(ledger->store, meters, count, diag);
		(void)pthread_mutex_lock(&ledger->lock);
		if (err == ERR_OK)
			remove_meters(ledger, count);
	}
	return err;
}

static struct store_expiry
make_expiry(void)
{
	struct config *config = config_current();
	struct store_expiry expiry = { .now = clock_unix() };

	if (config != NULL && config->chat != NULL) {
		expiry.user_keep_s = config->chat->keep_s;
		expiry.anonymous_keep_s = config->chat->anonymous.keep_s;
	}
	config_unref(config);
	return expiry;
}

/* Returns whether there is more to forget: what is to be written is first. */
static bool
expire(struct ledger *ledger)
{
	const struct store_expiry expiry = make_expiry();
	struct store *store = ledger->store;
	struct diag diag;
	bool more = false;
	enum err err;

	(void)pthread_mutex_unlock(&ledger->lock);
	err = store->ops->expire(store, &expiry, &more, &diag);
	if (err != ERR_OK)
		log_warning("store.expire_failed", "reason=\"%s\"", diag.text);
	(void)pthread_mutex_lock(&ledger->lock);
	return err == ERR_OK && more;
}

/* Try to write what waits; where the store is away, the next time is later. */
static void
attempt(struct ledger *ledger)
{
	const struct ledger_options *options = &ledger->options;
	struct diag diag;
	enum err err = write_all(ledger, &diag);

	if (err == ERR_OK)
		err = write_meters(ledger, &diag);
	if (err == ERR_OK) {
		if (ledger->pause_ms > 0)
			log_notice("store.back", "%s", "");
		ledger->pause_ms = 0;
		ledger->next_ms = 0;
		return;
	}
	if (ledger->pause_ms == 0)
		log_warning("store.away", "reason=\"%s\"", diag.text);
	ledger->pause_ms =
	    ledger->pause_ms == 0 ? options->retry_ms : ledger->pause_ms * 2;
	if (ledger->pause_ms > options->max_retry_ms)
		ledger->pause_ms = options->max_retry_ms;
	ledger->next_ms = clock_ms() + ledger->pause_ms;
}

static bool
has_work(const struct ledger *ledger)
{
	return ledger->count > 0 || ledger->meter_count > 0;
}

/* Locked; a new row ends it, too. */
static void
wait_until(struct ledger *ledger, int64_t time_ms)
{
	const struct timespec time = {
		.tv_sec = time_ms / 1000,
		.tv_nsec = time_ms % 1000 * 1000000,
	};

	(void)pthread_cond_timedwait(&ledger->wake, &ledger->lock, &time);
}

/* At the end nobody adds rows any more, and there is not much time. */
static void
flush(struct ledger *ledger)
{
	int64_t limit_ms = clock_ms() + ledger->options.flush_ms;

	attempt(ledger);
	while (has_work(ledger) && clock_ms() < limit_ms) {
		wait_until(ledger, clock_ms() + ledger->options.retry_ms);
		attempt(ledger);
	}
	if (ledger->count > 0)
		log_error("usage.lost", "rows=%llu",
		    (unsigned long long)(ledger->count + ledger->lost));
}

static void *
run(void *arg)
{
	struct ledger *ledger = arg;
	int64_t expire_ms = clock_ms();

	(void)pthread_mutex_lock(&ledger->lock);
	while (!ledger->stopping) {
		if (has_work(ledger) && clock_ms() >= ledger->next_ms)
			attempt(ledger);
		if (clock_ms() >= expire_ms) {
			bool more = expire(ledger);

			expire_ms = clock_ms() + (more ? 0 : EXPIRE_MS);
		}
		/* what came while it was unlocked is not signalled again */
		if (ledger->stopping)
			break;
		if (has_work(ledger) && ledger->next_ms < expire_ms)
			wait_until(ledger, ledger->next_ms);
		else
			wait_until(ledger, expire_ms);
	}
	flush(ledger);
	(void)pthread_mutex_unlock(&ledger->lock);
	return NULL;
}

/* ---- start and stop ---------------------------------------------------- */

static void
ledger_free(struct ledger *ledger)
{
	while (ledger->count > 0) {
		struct store_usage *rows;

		remove_batch(ledger, peek_batch(ledger, &rows));
	}
	while (ledger->meter_count > 0) {
		struct meter *meters;

		remove_meters(ledger, peek_meters(ledger, &meters));
	}
	(void)pthread_cond_destroy(&ledger->wake);
	(void)pthread_mutex_destroy(&ledger->lock);
	free(ledger->meters);
	free(ledger->rows);
	free(ledger);
}

static void
set_current(struct ledger *ledger)
{
	(void)pthread_rwlock_wrlock(&current_lock);
	current = ledger;
	(void)pthread_rwlock_unlock(&current_lock);
}

enum err
ledger_start(struct store *store, const struct ledger_options *options,
    struct diag *diag)
{
	struct ledger *ledger = xcalloc(1, sizeof(*ledger));
	pthread_condattr_t attr;
	enum err err;

	ledger->store = store;
	ledger->options = *options;
	ledger->rows = xcalloc(options->max_rows, sizeof(ledger->rows[0]));
	ledger->meters = xcalloc(METERS_MAX, sizeof(ledger->meters[0]));
	(void)pthread_mutex_init(&ledger->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&ledger->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	err = thread_start(&ledger->thread, "ledger", run, ledger, diag);
	if (err == ERR_OK)
		set_current(ledger);
	else
		ledger_free(ledger);
	return err;
}

void
ledger_stop(void)
{
	struct ledger *ledger = current;

	if (ledger == NULL)
		return;
	set_current(NULL);
	(void)pthread_mutex_lock(&ledger->lock);
	ledger->stopping = true;
	(void)pthread_cond_signal(&ledger->wake);
	(void)pthread_mutex_unlock(&ledger->lock);
	(void)pthread_join(ledger->thread, NULL);
	ledger_free(ledger);
}
