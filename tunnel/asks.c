/* SPDX-License-Identifier: MIT */
#include "tunnel/asks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"

enum state {
	ASK_CREATE, /* not answered, and nothing has gone out */
	ASK_OUT,    /* allowed: the create has gone out */
	ASK_BEGUN,  /* not answered, and the vendor makes it by itself */
	ASK_ENDED,  /* not answered, and the vendor has made it */
	ASK_RUNS,   /* allowed, and the vendor makes it */
};

struct ask {
	int64_t n;
	enum state state;
	/* the event's up to ASK_OUT, the response's from there */
	char id[VENDOR_EVENT_ID_BYTES];
};

struct asks {
	int64_t last;
	struct ask items[WIRE_ASKS_MAX]; /* in order of n */
	size_t count;
};

struct asks *
asks_new(void)
{
	return xcalloc(1, sizeof(struct asks));
}

void
asks_free(struct asks *asks)
{
	free(asks);
}

static void
set_id(struct ask *ask, const char *id)
{
	(void)snprintf(ask->id, sizeof(ask->id), "%s", id);
}

static int64_t
add(struct asks *asks, enum state state, const char *id)
{
	struct ask *ask = &asks->items[asks->count];

	if (asks->count == WIRE_ASKS_MAX)
		return 0;
	asks->count++;
	ask->n = ++asks->last;
	ask->state = state;
	set_id(ask, id);
	return ask->n;
}

static void
drop(struct asks *asks, struct ask *ask)
{
	size_t after = (size_t)(asks->items + --asks->count - ask);

	memmove(ask, ask + 1, after * sizeof(*ask));
}

/* The oldest in this state, with this id, or with any where that is NULL. */
static struct ask *
find(struct asks *asks, enum state state, const char *id)
{
	for (size_t i = 0; i < asks->count; i++) {
		struct ask *ask = &asks->items[i];

		if (ask->state == state &&
		    (id == NULL || strcmp(ask->id, id) == 0))
			return ask;
	}
	return NULL;
}

int64_t
asks_create(struct asks *asks, const char *event_id)
{
	return add(asks, ASK_CREATE, event_id);
}

int64_t
asks_created(struct asks *asks, const char *response_id)
{
	struct ask *ask = find(asks, ASK_OUT, NULL);
	int64_t n;

	if (ask != NULL) {
		ask->state = ASK_RUNS;
		set_id(ask, response_id);
		return 0;
	}
	n = add(asks, ASK_BEGUN, response_id);
	return n > 0 ? n : -1;
}

int64_t
asks_done(struct asks *asks, const char *response_id)
{
	struct ask *ask = find(asks, ASK_RUNS, response_id);
	int64_t n;

	if (ask == NULL) {
		ask = find(asks, ASK_BEGUN, response_id);
		if (ask != NULL) {
			ask->state = ASK_ENDED; /* its answer is on its way */
			return ask->n;
		}
		/* not every vendor says that a response has begun */
		ask = find(asks, ASK_OUT, NULL);
	}
	if (ask == NULL)
		return 0;
	n = ask->n;
	drop(asks, ask);
	return n;
}

bool
asks_error(struct asks *asks, const char *event_id)
{
	struct ask *ask = find(asks, ASK_OUT, event_id);

	if (ask != NULL)
		drop(asks, ask);
	return ask != NULL;
}

enum asks_kind
asks_answer(struct asks *asks, int64_t n, bool allowed,
    char response_id[VENDOR_EVENT_ID_BYTES])
{
	struct ask *ask = NULL;
	enum asks_kind kind;

	for (size_t i = 0; i < asks->count; i++)
		if (asks->items[i].n == n)
			ask = &asks->items[i];
	response_id[0] = '\0';
	if (ask == NULL || ask->state == ASK_OUT || ask->state == ASK_RUNS)
		return ASKS_NONE;
	kind = ask->state == ASK_CREATE ? ASKS_CREATE
	    : ask->state == ASK_BEGUN	? ASKS_BEGUN
					: ASKS_ENDED;
	if (kind == ASKS_BEGUN)
		memcpy(response_id, ask->id, VENDOR_EVENT_ID_BYTES);
	if (!allowed || kind == ASKS_ENDED)
		drop(asks, ask);
	else
		ask->state = kind == ASKS_CREATE ? ASK_OUT : ASK_RUNS;
	return kind;
}

void
asks_end(struct asks *asks)
{
	struct ask *ask;

	while ((ask = find(asks, ASK_CREATE, NULL)) != NULL)
		drop(asks, ask);
}

void
asks_get(const struct asks *asks, struct wire_usage *usage)
{
	usage->asked = asks->last;
	usage->open_count = 0;
	for (size_t i = 0; i < asks->count; i++)
		if (asks->items[i].state != ASK_ENDED)
			usage->open[usage->open_count++] = asks->items[i].n;
}
