/* SPDX-License-Identifier: MIT */
#include "broker/chat/stream_log.h"

#include <stdlib.h>

#include "broker/chat/sse_text.h"
#include "common/xalloc.h"

#define EVENTS_FIRST 64

struct stream_log {
	char *generation, *message_id;
	size_t max_bytes;
	struct sse_text text;
	size_t *ends; /* of each event */
	size_t count, size;
};

struct stream_log *
stream_log_new(const char *generation, const char *message_id, size_t max_bytes)
{
	struct stream_log *log = xcalloc(1, sizeof(*log));

	log->generation = xstrdup(generation);
	log->message_id = xstrdup(message_id);
	log->max_bytes = max_bytes;
	return log;
}

void
stream_log_free(struct stream_log *log)
{
	if (log == NULL)
		return;
	sse_text_done(&log->text);
	free(log->ends);
	free(log->generation);
	free(log->message_id);
	free(log);
}

static struct sse_id
next_id(const struct stream_log *log)
{
	return (struct sse_id){
		.stream = log->generation,
		.n = (int64_t)log->count + 1,
	};
}

static void
count_event(struct stream_log *log)
{
	if (log->count == log->size) {
		log->size = log->size == 0 ? EVENTS_FIRST : log->size * 2;
		log->ends =
		    xreallocarray(log->ends, log->size, sizeof(*log->ends));
	}
	log->ends[log->count++] = log->text.len;
}

void
stream_log_add(struct stream_log *log, const char *event, json_t *data)
{
	sse_text_add(&log->text, next_id(log), event, data);
	count_event(log);
}

enum err
stream_log_add_delta(struct stream_log *log, const char *text, size_t len)
{
	if (log->text.len >= log->max_bytes ||
	    len > log->max_bytes - log->text.len)
		return ERR_LIMIT;
	sse_text_add_delta(&log->text, next_id(log), text, len,
	    log->message_id);
	count_event(log);
	return ERR_OK;
}

int64_t
stream_log_last(const struct stream_log *log)
{
	return (int64_t)log->count;
}

size_t
stream_log_size(const struct stream_log *log)
{
	return log->text.len;
}

size_t
stream_log_offset(const struct stream_log *log, int64_t after)
{
	if (after <= 0 || log->count == 0)
		return 0;
	if (after > (int64_t)log->count)
		after = (int64_t)log->count;
	return log->ends[after - 1];
}

const char *
stream_log_peek(const struct stream_log *log, size_t offset)
{
	return log->text.data + offset;
}
