/* SPDX-License-Identifier: MIT */
#include "broker/chat/notify.h"

#include <stdatomic.h>
#include <stddef.h>

/* A sink is static, so that one may be in use while it is taken away. */
static _Atomic(const struct notify_sink *) current;

void
notify_set_sink(const struct notify_sink *sink)
{
	atomic_store(&current, sink);
}

void
notify_event(const char *owner, const char *event, json_t *data)
{
	const struct notify_sink *sink = atomic_load(&current);

	if (sink != NULL)
		sink->event(owner, event, data);
	else
		json_decref(data);
}

void
notify_usage(const char *owner)
{
	const struct notify_sink *sink = atomic_load(&current);

	if (sink != NULL)
		sink->usage(owner);
}

void
notify_revoked(const char *owner)
{
	const struct notify_sink *sink = atomic_load(&current);

	if (sink != NULL)
		sink->revoked(owner);
}
