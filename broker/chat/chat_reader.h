/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_READER_H
#define BROKER_CHAT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "broker/chat/sse_text.h"
#include "broker/chat/stream_log.h"
#include "broker/http/parked.h"

/*
 * chat_reader: a client that reads a stream of events, in the hub's thread.
 *
 * It is a place in a log that others read, too; where it is slow, its place
 * moves slowly, and that is all.
 */
struct chat_feed {
	struct stream_log *log;
	size_t visible;	      /* bytes of it that may be sent */
	bool over;	      /* no more will */
	struct sse_text last; /* what follows then, and is never replayed */
};

struct chat_reader {
	LIST_ENTRY(chat_reader) next; /* the owner's */
	LIST_ENTRY(chat_reader) all;
	void *owner;
	struct parked *parked;
	const struct chat_feed *feed;
	void (*left)(struct chat_reader *reader);
	size_t offset, last_offset, comment_left;
	bool wrote; /* since the last heartbeat */
};

/*
 * Answer with the events after that number.  left() is called when the client
 * has gone, or has been sent all: the reader is to be freed then.  Never in
 * this call.
 */
struct chat_reader *chat_reader_new(struct parked *parked,
    const struct chat_feed *feed, int64_t after,
    void (*left)(struct chat_reader *reader), void *owner);
void chat_reader_free(struct chat_reader *reader);

/* In any thread, at the stop: all that are left have left. */
void chat_reader_stop_all(void);

/* There may be more to send. */
void chat_reader_pump(struct chat_reader *reader);

/*
 * Send a comment, where there was nothing else to send: it keeps what is
 * between from giving up, and tells whether the client is still there.
 */
void chat_reader_heartbeat(struct chat_reader *reader);

#endif
