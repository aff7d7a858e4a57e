/* SPDX-License-Identifier: MIT */
#include "tunnel/linger.h"

#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"

#define LINGER_MS 2000

struct linger {
	struct loop *loop;
	struct stream *stream;
	struct loop_watch *watch;
	struct loop_timer *timer;
	enum linger_kind kind;
	linger_done done;
	void *arg;
	uint8_t *data; /* NULL once all is sent */
	size_t len, sent;
};

static void
finish(struct linger *linger)
{
	linger_done done = linger->done;
	void *arg = linger->arg;

	if (linger->kind == LINGER_CLIENT)
		stream_shut(linger->stream);
	linger_free(linger);
	done(arg);
}

static void
on_timer(void *arg)
{
	finish(arg);
}

/* Whether the connection is still good. */
static bool
send_rest(struct linger *linger)
{
	enum stream_result result = STREAM_OK;
	size_t n;

	if (linger->data != NULL) {
		result =
		    stream_write(linger->stream, linger->data + linger->sent,
			linger->len - linger->sent, &n);
		linger->sent += n;
	}
	if (result == STREAM_OK) {
		free(linger->data);
		linger->data = NULL;
		if (linger->kind == LINGER_SERVER)
			stream_shut(linger->stream);
	}
	return result != STREAM_LOST;
}

/* Whether there may come more. */
static bool
discard(struct linger *linger)
{
	enum stream_result result;
	uint8_t *scratch;
	size_t size, n;

	scratch = loop_scratch(linger->loop, &size);
	result = stream_read(linger->stream, scratch, size, &n);
	if (stream_has_more(linger->stream))
		loop_watch_kick(linger->watch);
	return result == STREAM_OK || result == STREAM_WAIT;
}

static void
set_interest(struct linger *linger)
{
	bool read, write;

	stream_interest(linger->stream, true, linger->data != NULL, &read,
	    &write);
	loop_watch_set(linger->watch, read, write);
}

static void
on_ready(void *arg, bool readable, bool writable)
{
	struct linger *linger = arg;

	stream_readiness(linger->stream, readable, writable, &readable,
	    &writable);
	if ((writable && linger->data != NULL && !send_rest(linger)) ||
	    (readable && !discard(linger)))
		finish(linger);
	else
		set_interest(linger);
}

struct linger *
linger_start(struct loop *loop, struct stream *stream, struct loop_watch *watch,
    enum linger_kind kind, const void *data, size_t len, linger_done done,
    void *arg)
{
	struct linger *linger = xcalloc(1, sizeof(*linger));

	linger->loop = loop;
	linger->stream = stream;
	linger->watch = watch;
	linger->kind = kind;
	linger->done = done;
	linger->arg = arg;
	linger->timer = loop_timer_new(loop, on_timer, linger);
	if (len > 0) {
		linger->data = xcalloc(1, len);
		memcpy(linger->data, data, len);
		linger->len = len;
	}
	loop_watch_bind(watch, on_ready, linger);
	/* most often all goes at once; if it breaks, the timer tells */
	loop_timer_set(linger->timer, send_rest(linger) ? LINGER_MS : 0);
	set_interest(linger);
	if (stream_has_more(stream))
		loop_watch_kick(watch);
	return linger;
}

void
linger_free(struct linger *linger)
{
	if (linger == NULL)
		return;
	loop_watch_free(linger->watch);
	loop_timer_free(linger->timer);
	stream_free(linger->stream);
	free(linger->data);
	free(linger);
}
