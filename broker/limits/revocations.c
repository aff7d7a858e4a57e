/* SPDX-License-Identifier: MIT */
#include "broker/limits/revocations.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "broker/store/store.h"
#include "common/wire_text.h"
#include "common/xalloc.h"

/*
 * Who asks, reads under `lock', which is never held while the store is waited
 * for; who changes them holds `change' from the store to the memory, so that
 * a list that was read before an addition does not take it away again.
 */
static pthread_mutex_t change = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct store_revocations all;   /* sorted */
static revocations_listener *listener; /* under `change' */

static int
compare(const void *a, const void *b)
{
	const struct store_revocation *one = a, *other = b;
	int order = strcmp(one->kind, other->kind);

	return order != 0 ? order : strcmp(one->value, other->value);
}

static struct store_revocation *
find_in(const struct store_revocations *list, const char *kind,
    const char *value)
{
	const struct store_revocation key = {
		.kind = (char *)(uintptr_t)kind,
		.value = (char *)(uintptr_t)value,
	};

	if (list->count == 0)
		return NULL;
	return bsearch(&key, list->items, list->count, sizeof(key), compare);
}

static struct store_revocation *
find(const char *kind, const char *value)
{
	return find_in(&all, kind, value);
}

static void
sort(struct store_revocations *list)
{
	if (list->count > 0)
		qsort(list->items, list->count, sizeof(list->items[0]),
		    compare);
}

/* ---- changing them ------------------------------------------------------ */

/* Without a store, nobody else forgets what has expired; locked. */
static void
forget_expired(int64_t now)
{
	size_t kept = 0;

	for (size_t i = 0; i < all.count; i++) {
		struct store_revocation *item = &all.items[i];

		if (item->expires > now) {
			all.items[kept++] = *item;
			continue;
		}
		free(item->kind);
		free(item->value);
	}
	all.count = kept;
}

void
revocations_listen(revocations_listener *new)
{
	(void)pthread_mutex_lock(&change);
	listener = new;
	(void)pthread_mutex_unlock(&change);
}

/* Of what another process has added; nobody changes `all' meanwhile. */
static void
tell_new(const struct store_revocations *old)
{
	for (size_t i = 0; listener != NULL && i < all.count; i++) {
		const struct store_revocation *item = &all.items[i];
		const struct store_revocation *before =
		    find_in(old, item->kind, item->value);

		if (before == NULL || before->before < item->before)
			listener(item->kind, item->value);
	}
}

enum err
revocations_load(int64_t now, struct diag *diag)
{
	struct store *store = store_current();
	struct store_revocations list = { .items = NULL };
	enum err err = ERR_OK;

	(void)pthread_mutex_lock(&change);
	if (store != NULL)
		err = store->ops->list_revocations(store, now, &list, diag);
	sort(&list);
	(void)pthread_rwlock_wrlock(&lock);
	if (store == NULL) {
		forget_expired(now);
	} else if (err == ERR_OK) {
		struct store_revocations old = all;

		all = list;
		list = old;
	}
	(void)pthread_rwlock_unlock(&lock);
	if (store != NULL && err == ERR_OK)
		tell_new(&list);
	(void)pthread_mutex_unlock(&change);
	store_revocations_done(&list);
	return err;
}

void
revocations_done(void)
{
	(void)pthread_rwlock_wrlock(&lock);
	store_revocations_done(&all);
	(void)pthread_rwlock_unlock(&lock);
}

/* Into memory; locked. */
static enum err
put(const struct store_revocation *in, struct diag *diag)
{
	struct store_revocation *item = find(in->kind, in->value);

	if (item != NULL) {
		if (item->before < in->before)
			item->before = in->before;
		if (item->expires < in->expires)
			item->expires = in->expires;
		return ERR_OK;
	}
	if (all.count >= STORE_REVOCATIONS_MAX) {
		diag_set(diag, "%d revocations are there already",
		    STORE_REVOCATIONS_MAX);
		return ERR_LIMIT;
	}
	all.items =
	    xreallocarray(all.items, all.count + 1, sizeof(all.items[0]));
	all.items[all.count++] = (struct store_revocation){
		.kind = xstrdup(in->kind),
		.value = xstrdup(in->value),
		.before = in->before,
		.expires = in->expires,
	};
	sort(&all);
	return ERR_OK;
}

enum err
revocations_add(const char *kind, const char *value, int64_t before,
    int64_t expires, struct diag *diag)
{
	struct store *store = store_current();
	const struct store_revocation in = {
		.kind = (char *)(uintptr_t)kind,
		.value = (char *)(uintptr_t)value,
		.before = before,
		.expires = expires,
	};
	enum err err = ERR_OK;

	if (!wire_is_revocable(kind, strlen(kind))) {
		diag_set(diag,
		    "only users, sessions, tickets and routes can "
		    "be revoked");
		return ERR_PROTO;
	}
	(void)pthread_mutex_lock(&change);
	if (store != NULL)
		err = store->ops->revoke(store, &in, diag);
	if (err == ERR_OK) {
		(void)pthread_rwlock_wrlock(&lock);
		err = put(&in, diag);
		(void)pthread_rwlock_unlock(&lock);
	}
	if (err == ERR_OK && listener != NULL)
		listener(kind, value);
	(void)pthread_mutex_unlock(&change);
	return err;
}

/* ---- asking ------------------------------------------------------------- */

bool
revocations_have(const struct revocations_subject *subject)
{
	const struct {
		const char *kind, *value;
	} names[] = {
		{ "user", subject->user },
		{ "session", subject->session },
		{ "ticket", subject->ticket },
		{ "route", subject->route },
	};
	bool have = false;

	(void)pthread_rwlock_rdlock(&lock);
	for (size_t i = 0; !have && i < sizeof(names) / sizeof(names[0]); i++) {
		const struct store_revocation *item = names[i].value == NULL
		    ? NULL
		    : find(names[i].kind, names[i].value);

		have = item != NULL && subject->issued <= item->before;
	}
	(void)pthread_rwlock_unlock(&lock);
	return have;
}

json_t *
revocations_list(size_t max_bytes)
{
	json_t *list = json_array();
	size_t bytes = 2;

	(void)pthread_rwlock_rdlock(&lock);
	for (size_t i = 0; i < all.count; i++) {
		const struct store_revocation *item = &all.items[i];
		json_t *row = json_pack("{ss ss sI sI}", "kind", item->kind,
		    "value", item->value, "before", (json_int_t)item->before,
		    "expires", (json_int_t)item->expires);

		bytes += json_dumpb(row, NULL, 0, JSON_COMPACT) + 1;
		if (bytes > max_bytes) {
			json_decref(row);
			break;
		}
		(void)json_array_append_new(list, row);
	}
	(void)pthread_rwlock_unlock(&lock);
	return list;
}
