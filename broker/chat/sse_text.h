/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SSE_TEXT_H
#define BROKER_SSE_TEXT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/*
 * sse_text: server-sent events as text.  Pure.
 * https://html.spec.whatwg.org/#parsing-an-event-stream
 *
 * An event is three lines, `id:', `event:', `data:' with JSON on one line, and
 * a blank one: what a text has in it can neither end an event nor begin one.
 */

#define SSE_TEXT_TYPE "text/event-stream"

/* Grows as it is filled; its filler keeps it bounded.  Begin with { 0 }. */
struct sse_text {
	char *data; /* not NUL-terminated */
	size_t len, size;
};
void sse_text_done(struct sse_text *text);

/* All of it, with a NUL behind: the caller clears and frees it. */
char *sse_text_take(struct sse_text *text);

/* An event's id is STREAM.N, or, with n 0, STREAM; NULL: it has none. */
struct sse_id {
	const char *stream;
	int64_t n;
};

/* Add an event.  Takes data. */
void sse_text_add(struct sse_text *text, struct sse_id id, const char *event,
    json_t *data);

/*
 * Add {"delta":DELTA,"message_id":MESSAGE} as `assistant_delta', without JSON
 * being built.  The delta is UTF-8, the message's id needs no escapes.
 */
void sse_text_add_delta(struct sse_text *text, struct sse_id id,
    const char *delta, size_t len, const char *message_id);

/*
 * Read an id: the stream's part goes to `stream', of `size' bytes.  0 where
 * it is none: 1 to size - 1 letters and digits, a dot, a number from 1 on.
 */
int64_t sse_id_parse(const char *text, char *stream, size_t size);

#endif
