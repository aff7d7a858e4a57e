/* SPDX-License-Identifier: MIT */
#include "broker/store/ledger.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/config/config.h"
#include "broker/store/usage_event.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define BATCH	  256 /* rows of a transaction */
#define EXPIRE_MS 60000

const struct ledger_options ledger_defaults = {
	.max_rows = 20000,
	.max_bytes = 32 * 1024 * 1024,
	.retry_ms = 200,
	.max_retry_ms = 10000,
	.flush_ms = 2000,
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
	uint64_t lost;		   /* since the log was told */
	int64_t pause_ms, next_ms; /* while the store is away */
	bool stopping;
};

/* Whoever reports holds it while it does. */
static pthread_rwlock_t current_lock = PTHREAD_RWLOCK_INITIALIZER;
static struct ledger *current;

/* ---- reporting --------------------------------------------------------- */

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

static void
complete(struct store_usage *row, const struct lease_info *lease)
{
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
}

/* Queue a row, which is this function's. */
static void
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
		return;
	if (first_lost)
		log_error("usage.queue_full",
		    "rows=%zu reason=\"the store has been away for too long: "
		    "usage is lost\"",
		    ledger->options.max_rows);
	store_usage_done(row);
}

/* How many of a report's events were not as they should be. */
struct faults {
	unsigned refused, odd;
	struct diag why;
};

static void
add(struct ledger *ledger, const struct lease_info *lease, const json_t *event,
    struct faults *faults)
{
	struct store_usage row;
	bool odd;

	if (usage_event_parse(event, &row, &odd, &faults->why) != ERR_OK) {
		faults->refused++;
		return;
	}
	faults->odd += odd;
	complete(&row, lease);
	push(ledger, &row);
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
ledger_add(const struct lease_info *lease, const json_t *events)
{
	struct faults faults = { .refused = 0 };

	(void)pthread_rwlock_rdlock(&current_lock);
	for (size_t i = 0; current != NULL && i < json_array_size(events); i++)
		add(current, lease, json_array_get(events, i), &faults);
	(void)pthread_rwlock_unlock(&current_lock);
	log_faults(lease, &faults);
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

	if (write_all(ledger, &diag) == ERR_OK) {
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
	while (ledger->count > 0 && clock_ms() < limit_ms) {
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
		if (ledger->count > 0 && clock_ms() >= ledger->next_ms)
			attempt(ledger);
		if (clock_ms() >= expire_ms) {
			bool more = expire(ledger);

			expire_ms = clock_ms() + (more ? 0 : EXPIRE_MS);
		}
		/* what came while it was unlocked is not signalled again */
		if (ledger->stopping)
			break;
		if (ledger->count > 0 && ledger->next_ms < expire_ms)
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
	(void)pthread_cond_destroy(&ledger->wake);
	(void)pthread_mutex_destroy(&ledger->lock);
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
