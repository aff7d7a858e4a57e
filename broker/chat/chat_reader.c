/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_reader.h"

#include <stdlib.h>

#include "broker/hub/hub.h"
#include "common/xalloc.h"

static const char comment[] = ": \n\n";
#define COMMENT_LEN (sizeof(comment) - 1)

/* The hub's. */
static LIST_HEAD(, chat_reader) all = LIST_HEAD_INITIALIZER(all);

static size_t
write_some(struct chat_reader *reader, const void *data, size_t len)
{
	size_t n = len == 0 ? 0 : parked_write(reader->parked, data, len);

	reader->wrote = reader->wrote || n > 0;
	return n;
}

/* Whether all that may be sent has been. */
static bool
send_log(struct chat_reader *reader)
{
	const struct chat_feed *feed = reader->feed;

	if (reader->comment_left > 0)
		reader->comment_left -= write_some(reader,
		    comment + COMMENT_LEN - reader->comment_left,
		    reader->comment_left);
	if (reader->comment_left > 0)
		return false;
	if (reader->offset < feed->visible)
		reader->offset += write_some(reader,
		    stream_log_peek(feed->log, reader->offset),
		    feed->visible - reader->offset);
	return reader->offset == feed->visible;
}

static bool
send_last(struct chat_reader *reader)
{
	const struct sse_text *last = &reader->feed->last;

	if (reader->last_offset < last->len)
		reader->last_offset +=
		    write_some(reader, last->data + reader->last_offset,
			last->len - reader->last_offset);
	return reader->last_offset == last->len;
}

void
chat_reader_pump(struct chat_reader *reader)
{
	if (!send_log(reader) || !reader->feed->over || !send_last(reader))
		return;
	parked_end(reader->parked);
	reader->parked = NULL;
	reader->left(reader);
}

void
chat_reader_heartbeat(struct chat_reader *reader)
{
	bool idle = !reader->wrote && reader->comment_left == 0 &&
	    reader->offset == reader->feed->visible && !reader->feed->over;

	reader->wrote = false;
	if (!idle)
		return;
	reader->comment_left = COMMENT_LEN;
	chat_reader_pump(reader);
	reader->wrote = false;
}

static void
on_gone(void *arg)
{
	struct chat_reader *reader = arg;

	reader->left(reader);
}

static void
on_writable(void *arg)
{
	chat_reader_pump(arg);
}

struct chat_reader *
chat_reader_new(struct parked *parked, const struct chat_feed *feed,
    int64_t after, void (*left)(struct chat_reader *reader), void *owner)
{
	static const struct parked_events events = {
		.gone = on_gone,
		.writable = on_writable,
	};
	struct chat_reader *reader = xcalloc(1, sizeof(*reader));

	LIST_INSERT_HEAD(&all, reader, all);
	reader->parked = parked;
	reader->feed = feed;
	reader->left = left;
	reader->owner = owner;
	reader->offset = stream_log_offset(feed->log, after);
	if (reader->offset > feed->visible)
		reader->offset = feed->visible;
	parked_begin(parked, &events, reader);
	parked_start(parked, 200, SSE_TEXT_TYPE);
	return reader;
}

void
chat_reader_free(struct chat_reader *reader)
{
	LIST_REMOVE(reader, all);
	parked_drop(reader->parked);
	free(reader);
}

static void
stop_all(void *arg)
{
	struct chat_reader *reader;

	(void)arg;
	while ((reader = LIST_FIRST(&all)) != NULL)
		reader->left(reader);
}

void
chat_reader_stop_all(void)
{
	(void)!hub_call(stop_all, NULL);
}
