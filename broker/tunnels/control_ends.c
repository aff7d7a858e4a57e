/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_ends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "broker/store/store.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/xalloc.h"

#define CHAINS	    4096
#define SAVE_MS	    1000
#define SAVE_MAX    1024 /* in one transaction */
#define LOG_EVERY_S 60

struct end {
	struct store_lease_end row;
	LIST_ENTRY(end) chain;
	TAILQ_ENTRY(end) entry;
};

LIST_HEAD(chain, end);
TAILQ_HEAD(ends, end);

struct control_ends {
	struct chain chains[CHAINS];
	struct ends saved, unsaved; /* the oldest first */
	size_t count;
	int64_t save_ms, failed_ms;
	/* what the job has; saving: it has some */
	bool saving;
	struct store_lease_end rows[SAVE_MAX];
	size_t row_count;
	enum err err;
	struct diag diag;
};

/* Ids are random, in hexadecimal digits. */
static const struct chain *
chain_of(const struct control_ends *ends, const char *lease)
{
	unsigned hash = 0;

	for (; *lease != '\0'; lease++)
		hash = hash * 31 + (unsigned char)*lease;
	return &ends->chains[hash % CHAINS];
}

static struct end *
find(const struct control_ends *ends, const char *lease)
{
	struct end *end;

	LIST_FOREACH (end, chain_of(ends, lease), chain)
		if (strcmp(end->row.lease, lease) == 0)
			return end;
	return NULL;
}

static void
forget(struct control_ends *ends, struct ends *list, struct end *end)
{
	LIST_REMOVE(end, chain);
	TAILQ_REMOVE(list, end, entry);
	ends->count--;
	free(end);
}

/* Whatever has expired from the front on, and one where there are too many. */
static void
make_room(struct control_ends *ends)
{
	struct ends *list = &ends->saved;
	int64_t now = clock_unix();
	struct end *end;

	while ((end = TAILQ_FIRST(list)) != NULL && end->row.expires <= now)
		forget(ends, list, end);
	if (ends->count < CONTROL_ENDS_MAX)
		return;
	if (end == NULL)
		list = &ends->unsaved;
	forget(ends, list, TAILQ_FIRST(list));
}

static void
insert(struct control_ends *ends, struct ends *list, const char *lease,
    int64_t expires)
{
	struct end *end;

	make_room(ends);
	end = xcalloc(1, sizeof(*end));
	(void)snprintf(end->row.lease, sizeof(end->row.lease), "%s", lease);
	end->row.expires = expires;
	LIST_INSERT_HEAD((struct chain *)(uintptr_t)chain_of(ends, lease), end,
	    chain);
	TAILQ_INSERT_TAIL(list, end, entry);
	ends->count++;
}

void
control_ends_add(struct control_ends *ends, const char *lease, int64_t expires)
{
	if (expires > clock_unix() && find(ends, lease) == NULL)
		insert(ends, &ends->unsaved, lease, expires);
}

bool
control_ends_have(const struct control_ends *ends, const char *lease)
{
	return find(ends, lease) != NULL;
}

/* ---- the store --------------------------------------------------------- */

static void
gather(struct control_ends *ends)
{
	const struct end *end;

	ends->row_count = 0;
	TAILQ_FOREACH (end, &ends->unsaved, entry) {
		if (ends->row_count == SAVE_MAX)
			break;
		ends->rows[ends->row_count++] = end->row;
	}
}

/* In a thread that may wait. */
static void
save(void *arg)
{
	struct control_ends *ends = arg;
	struct store *store = store_current();

	ends->err = ERR_OK;
	if (store != NULL && ends->row_count > 0)
		ends->err = store->ops->end_leases(store, ends->rows,
		    ends->row_count, &ends->diag);
}

/* Those that are unsaved still begin with the rows, unless some had to go. */
static void
saved(void *context, void *arg)
{
	struct control_ends *ends = arg;
	int64_t now_ms = clock_ms();

	(void)context;
	ends->saving = false;
	if (ends->err != ERR_OK) {
		if (ends->failed_ms > now_ms)
			return;
		log_warning("leases.not_stored", "reason=\"%s\"",
		    ends->diag.text);
		ends->failed_ms = now_ms + (int64_t)LOG_EVERY_S * 1000;
		return;
	}
	for (size_t i = 0; i < ends->row_count; i++) {
		struct end *end = find(ends, ends->rows[i].lease);

		if (end == NULL)
			continue;
		TAILQ_REMOVE(&ends->unsaved, end, entry);
		TAILQ_INSERT_TAIL(&ends->saved, end, entry);
	}
	ends->row_count = 0;
}

void
control_ends_tick(struct control_ends *ends, struct control_jobs *jobs,
    int64_t now_ms)
{
	if (ends->saving || now_ms < ends->save_ms ||
	    TAILQ_EMPTY(&ends->unsaved))
		return;
	ends->save_ms = now_ms + SAVE_MS;
	gather(ends);
	/* where we end before it is done */
	ends->err = ERR_UNAVAIL;
	ends->diag = (struct diag){ "the service ends" };
	ends->saving = control_jobs_add(jobs, save, saved, ends) == ERR_OK;
}

int64_t
control_ends_next_ms(const struct control_ends *ends)
{
	return ends->saving || TAILQ_EMPTY(&ends->unsaved) ? INT64_MAX
							   : ends->save_ms;
}

static enum err
load(struct control_ends *ends, struct diag *diag)
{
	struct store *store = store_current();
	struct store_lease_ends all = { .items = NULL };
	enum err err;

	if (store == NULL)
		return ERR_OK;
	err = store->ops->list_lease_ends(store, clock_unix(), &all, diag);
	/* the first to expire is the first in the list */
	for (size_t i = all.count; i-- > 0;)
		insert(ends, &ends->saved, all.items[i].lease,
		    all.items[i].expires);
	free(all.items);
	return err;
}

enum err
control_ends_new(struct control_ends **ret, struct diag *diag)
{
	struct control_ends *ends = xcalloc(1, sizeof(*ends));
	enum err err;

	for (size_t i = 0; i < CHAINS; i++)
		LIST_INIT(&ends->chains[i]);
	TAILQ_INIT(&ends->saved);
	TAILQ_INIT(&ends->unsaved);
	err = load(ends, diag);
	if (err == ERR_OK)
		*ret = ends;
	else
		control_ends_free(ends);
	return err;
}

void
control_ends_free(struct control_ends *ends)
{
	struct end *end;

	if (ends == NULL)
		return;
	while (!TAILQ_EMPTY(&ends->unsaved)) {
		gather(ends);
		save(ends);
		saved(NULL, ends);
		if (ends->err != ERR_OK)
			break;
	}
	while ((end = TAILQ_FIRST(&ends->saved)) != NULL)
		forget(ends, &ends->saved, end);
	while ((end = TAILQ_FIRST(&ends->unsaved)) != NULL)
		forget(ends, &ends->unsaved, end);
	free(ends);
}
