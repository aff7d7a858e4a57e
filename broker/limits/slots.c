/* SPDX-License-Identifier: MIT */
#include "broker/limits/slots.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "broker/limits/subject_key.h"
#include "common/xalloc.h"

#define KINDS  3
#define CHAINS 4096

/* A subject that has something; exists as long as it has. */
struct holder {
	struct subject_key key;
	uint64_t counts[KINDS];
	LIST_ENTRY(holder) entry;
};

struct slots {
	enum slots_kind kind;
	struct holder *holders[STORE_SUBJECTS_MAX];
	size_t count;
};

static struct {
	pthread_mutex_t lock; /* over all of it */
	LIST_HEAD(chain, holder) chains[CHAINS];
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Made where it is the first; locked. */
static struct holder *
get_holder(const struct subject_key *key)
{
	struct chain *chain = &table.chains[key->words[0] % CHAINS];
	struct holder *holder;

	LIST_FOREACH (holder, chain, entry)
		if (holder->key.words[0] == key->words[0] &&
		    holder->key.words[1] == key->words[1])
			return holder;
	holder = xcalloc(1, sizeof(*holder));
	holder->key = *key;
	LIST_INSERT_HEAD(chain, holder, entry);
	return holder;
}

/* Drop one that has nothing; locked. */
static void
put_holder(struct holder *holder)
{
	for (size_t i = 0; i < KINDS; i++)
		if (holder->counts[i] > 0)
			return;
	LIST_REMOVE(holder, entry);
	free(holder);
}

static uint64_t
max_of(enum slots_kind kind, const struct subject *subject)
{
	if (subject->plan == NULL)
		return 0;
	return kind == SLOTS_TUNNELS ? subject->plan->max_tunnels
	    : kind == SLOTS_STREAMS  ? subject->plan->max_streams
				     : subject->plan->max_parked;
}

static void
explain(enum slots_kind kind, const struct subject *subject, uint64_t max,
    struct diag *diag)
{
	static const char *const words[KINDS][2][2] = {
		[SLOTS_TUNNELS] = { { "connections", "are in use" },
		    { "connection", "is in use" } },
		[SLOTS_STREAMS] = { { "answers", "are being made" },
		    { "answer", "is being made" } },
		[SLOTS_PARKED] = { { "requests", "wait already" },
		    { "request", "waits already" } },
	};
	const char *const *word = words[kind][max == 1];
	char whose = subject->name[0];
	const char *name = subject->plan->name;
	char all[32] = "the only";

	if (max != 1)
		(void)snprintf(all, sizeof(all), "all %" PRIu64, max);
	diag_set(diag, "%s %s %s %s%s%s", all, word[0],
	    whose == 'r'       ? "of this route"
		: whose == 'n' ? "from this address"
			       : "of yours",
	    word[1], name != NULL ? ", by plan " : "",
	    name != NULL ? name : "");
}

/* Count one more of it, unless it has as many as it may; locked. */
static enum err
take_one(struct slots *slots, const struct subject *subject,
    const struct subject_key *key, bool force, uint64_t *ret_max,
    struct diag *diag)
{
	struct holder *holder = get_holder(key);
	uint64_t *count = &holder->counts[slots->kind];
	uint64_t max = max_of(slots->kind, subject);

	if (!force && max > 0 && *count >= max) {
		explain(slots->kind, subject, max, diag);
		*ret_max = max;
		return ERR_RATE;
	}
	(*count)++;
	slots->holders[slots->count++] = holder;
	return ERR_OK;
}

/* Locked. */
static void
give_back(struct slots *slots)
{
	for (size_t i = 0; i < slots->count; i++) {
		slots->holders[i]->counts[slots->kind]--;
		put_holder(slots->holders[i]);
	}
}

enum err
slots_take(enum slots_kind kind, const struct subjects *subjects, bool force,
    struct slots **ret, uint64_t *ret_max, struct diag *diag)
{
	struct slots *slots = xcalloc(1, sizeof(*slots));
	struct subject_key keys[STORE_SUBJECTS_MAX];
	enum err err = ERR_OK;

	slots->kind = kind;
	for (size_t i = 0; i < subjects->count; i++)
		keys[i] = subject_key_of(subjects->items[i].name);
	(void)pthread_mutex_lock(&table.lock);
	for (size_t i = 0; err == ERR_OK && i < subjects->count; i++)
		err = take_one(slots, &subjects->items[i], &keys[i], force,
		    ret_max, diag);
	if (err != ERR_OK)
		give_back(slots);
	(void)pthread_mutex_unlock(&table.lock);
	if (err == ERR_OK)
		*ret = slots;
	else
		free(slots);
	return err;
}

void
slots_release(struct slots *slots)
{
	if (slots == NULL)
		return;
	(void)pthread_mutex_lock(&table.lock);
	give_back(slots);
	(void)pthread_mutex_unlock(&table.lock);
	free(slots);
}
