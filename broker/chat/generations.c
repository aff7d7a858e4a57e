/* SPDX-License-Identifier: MIT */
#include "broker/chat/generations.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "broker/limits/slots.h"
#include "common/xalloc.h"

struct early { /* wants to read what has not begun */
	LIST_ENTRY(early) next;
	struct parked *parked;
	int64_t after;
};

struct generation_slot {
	LIST_ENTRY(generation_slot) next;
	char *owner, *id, *key;
	struct slots *slots; /* of whom it is counted for; NULL: a repetition */
	/* the hub's alone */
	struct generation *generation; /* NULL: it has not begun */
	LIST_HEAD(, early) early;
};

static struct {
	pthread_mutex_t lock; /* over the list and what finds a slot in it */
	LIST_HEAD(, generation_slot) slots;
	unsigned count;
	bool closed;
} table = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.slots = LIST_HEAD_INITIALIZER(table.slots),
};

/* ---- slots -------------------------------------------------------------- */

struct counts {
	unsigned own;
	bool repeats;
};

/* Locked. */
static struct counts
count_own(const char *owner, const char *key)
{
	struct counts counts = { .own = 0 };
	const struct generation_slot *slot;

	LIST_FOREACH (slot, &table.slots, next) {
		if (strcmp(slot->owner, owner) != 0)
			continue;
		counts.own++;
		if (key != NULL && slot->key != NULL &&
		    strcmp(slot->key, key) == 0)
			counts.repeats = true;
	}
	return counts;
}

/* Locked. */
static enum err
may_reserve(const struct config_chat *chat, const char *owner, const char *key,
    const struct subjects *subjects, struct slots **ret, struct diag *diag)
{
	struct counts counts;
	uint64_t full;

	if (table.closed) {
		diag_set(diag, "the service restarts");
		return ERR_UNAVAIL;
	}
	counts = count_own(owner, key);
	if (counts.repeats)
		return ERR_OK;
	if (table.count >= chat->max_streams) {
		diag_set(diag, "too many answers are being made");
		return ERR_UNAVAIL;
	}
	if (counts.own >= chat->max_streams_per_owner) {
		diag_set(diag, "too many of your answers are being made");
		return ERR_RATE;
	}
	return slots_take(SLOTS_STREAMS, subjects, false, ret, &full, diag);
}

enum err
generations_reserve(const struct config_chat *chat, const char *owner,
    const char *id, const char *key, const struct subjects *subjects,
    struct generation_slot **ret, struct diag *diag)
{
	struct generation_slot *slot;
	struct slots *slots = NULL;
	enum err err;

	(void)pthread_mutex_lock(&table.lock);
	err = may_reserve(chat, owner, key, subjects, &slots, diag);
	if (err == ERR_OK) {
		slot = xcalloc(1, sizeof(*slot));
		slot->owner = xstrdup(owner);
		slot->id = xstrdup(id);
		slot->key = key == NULL ? NULL : xstrdup(key);
		slot->slots = slots;
		LIST_INIT(&slot->early);
		LIST_INSERT_HEAD(&table.slots, slot, next);
		table.count++;
		*ret = slot;
	}
	(void)pthread_mutex_unlock(&table.lock);
	return err;
}

void
generations_release(struct generation_slot *slot)
{
	struct early *early;

	if (slot == NULL)
		return;
	(void)pthread_mutex_lock(&table.lock);
	LIST_REMOVE(slot, next);
	table.count--;
	(void)pthread_mutex_unlock(&table.lock);
	while ((early = LIST_FIRST(&slot->early)) != NULL) {
		LIST_REMOVE(early, next);
		parked_reply_error(early->parked, ERR_UNAVAIL, NULL);
		free(early);
	}
	slots_release(slot->slots);
	free(slot->owner);
	free(slot->id);
	free(slot->key);
	free(slot);
}

/* ---- what is being made ------------------------------------------------- */

static void
on_over(void *arg)
{
	generations_release(arg);
}

void
generations_begin(struct generation_slot *slot,
    const struct generation_spec *spec)
{
	struct early *early;

	slot->generation = generation_start(spec, on_over, slot);
	while ((early = LIST_FIRST(&slot->early)) != NULL) {
		LIST_REMOVE(early, next);
		if (generation_attach(slot->generation, early->parked,
			early->after) != ERR_OK)
			parked_reply_error(early->parked, ERR_UNAVAIL, NULL);
		free(early);
	}
	if (table.closed)
		generation_stop(slot->generation, STORE_INTERRUPTED);
	/* while it was being let in; who stops all of his has not seen it */
	else if (caller_is_revoked(&generation_spec(slot->generation)->caller))
		generation_stop(slot->generation, STORE_STOPPED);
}

static void
on_early_gone(void *arg)
{
	struct early *early = arg;

	LIST_REMOVE(early, next);
	parked_drop(early->parked);
	free(early);
}

static void
wait_for(struct generation_slot *slot, struct parked *parked, int64_t after)
{
	static const struct parked_events events = { .gone = on_early_gone };
	struct early *early = xcalloc(1, sizeof(*early));

	early->parked = parked;
	early->after = after;
	LIST_INSERT_HEAD(&slot->early, early, next);
	parked_begin(parked, &events, early);
}

/* The hub alone takes a slot away: it stays while it is looked at here. */
static struct generation_slot *
find(const char *owner, const char *id)
{
	struct generation_slot *slot;

	(void)pthread_mutex_lock(&table.lock);
	LIST_FOREACH (slot, &table.slots, next)
		if (strcmp(slot->id, id) == 0 &&
		    strcmp(slot->owner, owner) == 0)
			break;
	(void)pthread_mutex_unlock(&table.lock);
	return slot;
}

enum err
generations_attach(const char *owner, const char *id, struct parked *parked,
    int64_t after)
{
	struct generation_slot *slot = find(owner, id);

	if (slot == NULL)
		return ERR_NOTFOUND;
	if (slot->generation != NULL)
		return generation_attach(slot->generation, parked, after);
	wait_for(slot, parked, after);
	return ERR_OK;
}

static bool
is_it(const struct generation_slot *slot, const char *owner, const char *chat,
    const char *message)
{
	const struct generation_spec *spec;

	if (slot->generation == NULL || strcmp(slot->owner, owner) != 0)
		return false;
	spec = generation_spec(slot->generation);
	return (chat == NULL || strcmp(spec->chat, chat) == 0) &&
	    (message == NULL || strcmp(spec->answer, message) == 0);
}

struct generation *
generations_find(const char *owner, const char *chat, const char *message)
{
	struct generation *found = NULL;
	struct generation_slot *slot;

	(void)pthread_mutex_lock(&table.lock);
	LIST_FOREACH (slot, &table.slots, next)
		if (is_it(slot, owner, chat, message)) {
			found = slot->generation;
			break;
		}
	(void)pthread_mutex_unlock(&table.lock);
	return found;
}

void
generations_stop_owner(const char *owner)
{
	struct generation_slot *slot;

	(void)pthread_mutex_lock(&table.lock);
	LIST_FOREACH (slot, &table.slots, next)
		if (slot->generation != NULL && strcmp(slot->owner, owner) == 0)
			generation_stop(slot->generation, STORE_STOPPED);
	(void)pthread_mutex_unlock(&table.lock);
}

void
generations_stop_all(void)
{
	struct generation_slot *slot;

	(void)pthread_mutex_lock(&table.lock);
	table.closed = true;
	/* which takes none out of the list at once */
	LIST_FOREACH (slot, &table.slots, next)
		if (slot->generation != NULL)
			generation_stop(slot->generation, STORE_INTERRUPTED);
	(void)pthread_mutex_unlock(&table.lock);
}
