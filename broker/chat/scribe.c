/* SPDX-License-Identifier: MIT */
#include "broker/chat/scribe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define BATCH 256 /* pieces of a transaction */

const struct scribe_options scribe_defaults = {
	.max_bytes = 64 * 1024 * 1024,
	.gather_ms = 30,
	.retry_ms = 100,
	.max_retry_ms = 2000,
	.flush_ms = 3000,
};

struct piece {
	struct store_piece piece; /* its texts are ours */
	size_t bytes;
	STAILQ_ENTRY(piece) next;
};
STAILQ_HEAD(pieces, piece);
STAILQ_HEAD(ends, scribe_end);

/*
 * A generation adds pieces, and then its end.  So all pieces that wait may be
 * written before all ends that wait.
 */
static struct {
	struct store *store;
	struct scribe_options options;
	pthread_t thread;
	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t wake;
	bool started, stopping;
	struct pieces pieces;
	struct ends ends;
	size_t count, bytes; /* of pieces */
	int64_t pause_ms;    /* while the store is away */
} scribe = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.pieces = STAILQ_HEAD_INITIALIZER(scribe.pieces),
	.ends = STAILQ_HEAD_INITIALIZER(scribe.ends),
};

/* ---- what comes in ------------------------------------------------------ */

static void
drop_text(const char *text)
{
	/* ours, const for whoever reads it */
	char *own = (char *)(uintptr_t)text;

	explicit_bzero(own, strlen(own));
	free(own);
}

static void
piece_free(struct piece *piece)
{
	drop_text(piece->piece.generation);
	drop_text(piece->piece.events);
	drop_text(piece->piece.content);
	free(piece);
}

/* The piece that came first; locked. */
static void
drop_first(void)
{
	struct piece *piece = STAILQ_FIRST(&scribe.pieces);

	STAILQ_REMOVE_HEAD(&scribe.pieces, next);
	scribe.count--;
	scribe.bytes -= piece->bytes;
	piece_free(piece);
}

bool
scribe_add(const char *generation, int64_t first, int64_t last, char *events,
    char *content)
{
	struct piece *piece = xcalloc(1, sizeof(*piece));
	bool fits;

	piece->piece = (struct store_piece){
		.generation = xstrdup(generation),
		.first = first,
		.last = last,
		.events = events,
		.content = content,
	};
	piece->bytes = sizeof(*piece) + strlen(events) + strlen(content);
	(void)pthread_mutex_lock(&scribe.lock);
	fits = scribe.started && !scribe.stopping &&
	    piece->bytes <= scribe.options.max_bytes - scribe.bytes;
	if (fits) {
		STAILQ_INSERT_TAIL(&scribe.pieces, piece, next);
		scribe.count++;
		scribe.bytes += piece->bytes;
		/* those in between find it awake, or gathering */
		if (scribe.count == 1 || scribe.count == BATCH)
			(void)pthread_cond_signal(&scribe.wake);
	}
	(void)pthread_mutex_unlock(&scribe.lock);
	if (!fits)
		piece_free(piece);
	return fits;
}

/* It is the caller's again, and may be gone after this. */
static void
lose_end(struct scribe_end *end, const char *reason)
{
	log_error("chat.end_lost", "generation=%s reason=\"%s\"",
	    end->finish.generation, reason);
	end->written(end, NULL);
}

void
scribe_end(struct scribe_end *end)
{
	bool takes;

	(void)pthread_mutex_lock(&scribe.lock);
	takes = scribe.started;
	if (takes) {
		STAILQ_INSERT_TAIL(&scribe.ends, end, next);
		(void)pthread_cond_signal(&scribe.wake);
	}
	(void)pthread_mutex_unlock(&scribe.lock);
	if (!takes)
		lose_end(end, "the broker stops: the next start ends it");
}

/* ---- writing: the thread ------------------------------------------------ */

/*
 * All of these are locked, and let go of the lock while they write: others
 * add behind what is being written, and nobody else takes away.
 */
static enum err
write_batch(struct piece *pieces[], size_t count, struct diag *diag)
{
	struct store_piece batch[BATCH];
	struct store *store = scribe.store;
	enum err err;

	for (size_t i = 0; i < count; i++)
		batch[i] = pieces[i]->piece;
	(void)pthread_mutex_unlock(&scribe.lock);
	err = store->ops->add_pieces(store, batch, count, diag);
	if (err != ERR_OK && err != ERR_UNAVAIL)
		log_error("chat.piece_lost", "pieces=%zu reason=\"%s\"", count,
		    diag->text);
	(void)pthread_mutex_lock(&scribe.lock);
	return err;
}

static enum err
write_pieces(struct diag *diag)
{
	struct piece *batch[BATCH], *piece;
	size_t count = 0;

	STAILQ_FOREACH(piece, &scribe.pieces, next)
	{
		if (count == BATCH)
			break;
		batch[count++] = piece;
	}
	if (count == 0 || write_batch(batch, count, diag) == ERR_UNAVAIL)
		return count == 0 ? ERR_OK : ERR_UNAVAIL;
	for (size_t i = 0; i < count; i++)
		drop_first();
	return ERR_OK;
}

static enum err
write_end(struct diag *diag)
{
	struct scribe_end *end = STAILQ_FIRST(&scribe.ends);
	struct store *store = scribe.store;
	struct store_finished finished = { .was_running = false };
	enum err err;

	(void)pthread_mutex_unlock(&scribe.lock);
	err = store->ops->finish(store, &end->finish, &finished, diag);
	(void)pthread_mutex_lock(&scribe.lock);
	if (err == ERR_UNAVAIL)
		return err;
	STAILQ_REMOVE_HEAD(&scribe.ends, next);
	(void)pthread_mutex_unlock(&scribe.lock);
	if (err == ERR_OK)
		end->written(end, &finished);
	else
		lose_end(end, diag->text);
	(void)pthread_mutex_lock(&scribe.lock);
	return ERR_OK;
}

static bool
has_work(void)
{
	return !STAILQ_EMPTY(&scribe.pieces) || !STAILQ_EMPTY(&scribe.ends);
}

/* One transaction, or the next one later. */
static void
attempt(void)
{
	struct diag diag = { "" };
	enum err err = STAILQ_EMPTY(&scribe.pieces) ? write_end(&diag)
						    : write_pieces(&diag);

	if (err == ERR_OK) {
		if (scribe.pause_ms > 0)
			log_notice("chat.store_back", "%s", "");
		scribe.pause_ms = 0;
		return;
	}
	if (scribe.pause_ms == 0)
		log_warning("chat.store_away", "reason=\"%s\"", diag.text);
	scribe.pause_ms = scribe.pause_ms == 0 ? scribe.options.retry_ms
					       : scribe.pause_ms * 2;
	if (scribe.pause_ms > scribe.options.max_retry_ms)
		scribe.pause_ms = scribe.options.max_retry_ms;
}

/* Sleep until then, or until it is woken for whatever reason. */
static void
doze_until(int64_t time_ms)
{
	const struct timespec time = {
		.tv_sec = time_ms / 1000,
		.tv_nsec = time_ms % 1000 * 1000000,
	};

	/* the clock of clock_ms() */
	(void)pthread_cond_clockwait(&scribe.wake, &scribe.lock,
	    CLOCK_MONOTONIC, &time);
}

/* Unless it is to stop; new work does not end it. */
static void
pause_until(int64_t time_ms)
{
	while (!scribe.stopping && clock_ms() < time_ms)
		doze_until(time_ms);
}

/*
 * Wait for work.  A transaction costs about as much for one piece as for many,
 * so pieces wait for some more; for an end a reader waits, so it does not.
 */
static void
await_work(void)
{
	int64_t end_ms;

	while (!scribe.stopping && !has_work())
		(void)pthread_cond_wait(&scribe.wake, &scribe.lock);
	end_ms = clock_ms() + scribe.options.gather_ms;
	while (!scribe.stopping && STAILQ_EMPTY(&scribe.ends) &&
	    scribe.count < BATCH && clock_ms() < end_ms)
		doze_until(end_ms);
}

/* The last attempts; short pauses, and never past flush_ms. */
static void
flush(void)
{
	int64_t end_ms = clock_ms() + scribe.options.flush_ms;

	while (has_work() && clock_ms() < end_ms) {
		attempt();
		if (scribe.pause_ms > 0) {
			const struct timespec pause = { .tv_nsec = 50000000 };

			(void)pthread_mutex_unlock(&scribe.lock);
			(void)nanosleep(&pause, NULL);
			(void)pthread_mutex_lock(&scribe.lock);
		}
	}
}

static void *
run(void *arg)
{
	(void)arg;
	(void)pthread_mutex_lock(&scribe.lock);
	while (!scribe.stopping) {
		await_work();
		if (scribe.stopping)
			break;
		attempt();
		if (scribe.pause_ms > 0)
			pause_until(clock_ms() + scribe.pause_ms);
	}
	flush();
	(void)pthread_mutex_unlock(&scribe.lock);
	return NULL;
}

/* ---- the beginning and the end ------------------------------------------ */

enum err
scribe_start(struct store *store, const struct scribe_options *options,
    struct diag *diag)
{
	enum err err;

	scribe.store = store;
	scribe.options = *options;
	scribe.stopping = false;
	scribe.pause_ms = 0;
	err = thread_start(&scribe.thread, "scribe", run, NULL, diag);
	(void)pthread_mutex_lock(&scribe.lock);
	scribe.started = err == ERR_OK;
	(void)pthread_mutex_unlock(&scribe.lock);
	return err;
}

static void
give_back(void)
{
	struct scribe_end *end;

	while (!STAILQ_EMPTY(&scribe.pieces))
		drop_first();
	while ((end = STAILQ_FIRST(&scribe.ends)) != NULL) {
		STAILQ_REMOVE_HEAD(&scribe.ends, next);
		lose_end(end, "the store is away: the next start ends it");
	}
}

void
scribe_stop(void)
{
	bool started;

	(void)pthread_mutex_lock(&scribe.lock);
	started = scribe.started;
	scribe.stopping = true;
	if (started)
		(void)pthread_cond_signal(&scribe.wake);
	(void)pthread_mutex_unlock(&scribe.lock);
	if (!started)
		return;
	(void)pthread_join(scribe.thread, NULL);
	(void)pthread_mutex_lock(&scribe.lock);
	scribe.started = false;
	(void)pthread_mutex_unlock(&scribe.lock);
	give_back();
}
