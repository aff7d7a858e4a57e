/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_quota.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "common/xalloc.h"

struct made {
	int64_t at;
	TAILQ_ENTRY(made) entry;
};

static struct {
	pthread_mutex_t lock;	 /* over all that follows */
	TAILQ_HEAD(, made) made; /* the oldest first */
	uint64_t count;
} table = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.made = TAILQ_HEAD_INITIALIZER(table.made),
};

/* Locked. */
static void
forget(struct made *made)
{
	TAILQ_REMOVE(&table.made, made, entry);
	table.count--;
	free(made);
}

enum err
anam_quota_take(uint64_t max, int64_t ttl_s, int64_t now, struct diag *diag)
{
	struct made *made;
	enum err err = ERR_OK;

	(void)pthread_mutex_lock(&table.lock);
	while ((made = TAILQ_FIRST(&table.made)) != NULL &&
	    (max == 0 || made->at <= now - ttl_s))
		forget(made);
	if (max > 0 && table.count >= max) {
		diag_set(diag, "max_sessions, %llu, were made in %lld s",
		    (unsigned long long)max, (long long)ttl_s);
		err = ERR_RATE;
	} else if (max > 0) {
		made = xcalloc(1, sizeof(*made));
		made->at = now;
		TAILQ_INSERT_TAIL(&table.made, made, entry);
		table.count++;
	}
	(void)pthread_mutex_unlock(&table.lock);
	return err;
}

void
anam_quota_give_back(int64_t now)
{
	struct made *made;

	(void)pthread_mutex_lock(&table.lock);
	TAILQ_FOREACH (made, &table.made, entry)
		if (made->at == now)
			break;
	if (made != NULL)
		forget(made);
	(void)pthread_mutex_unlock(&table.lock);
}
