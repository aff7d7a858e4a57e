/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STREAM_LOG_H
#define BROKER_STREAM_LOG_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * stream_log: the events of one answer, as they are sent.  Pure.
 *
 * They are numbered from 1 and never change: who reads them is no more than
 * an offset, and may be as slow as it likes.
 */
struct stream_log;

/*
 * Of this generation and message.  Deltas are taken up to max_bytes of text;
 * the other events, which are few, always.
 */
struct stream_log *stream_log_new(const char *generation,
    const char *message_id, size_t max_bytes);
void stream_log_free(struct stream_log *log); /* NULL is allowed */

/* Add an event; takes data. */
void stream_log_add(struct stream_log *log, const char *event, json_t *data);

/* Add a delta.  ERR_LIMIT where it does not fit any more. */
enum err stream_log_add_delta(struct stream_log *log, const char *text,
    size_t len) MUST_CHECK;

/* The number of the last event; 0: there is none. */
int64_t stream_log_last(const struct stream_log *log);

/* Bytes of all of it. */
size_t stream_log_size(const struct stream_log *log);

/* Where the event after this number begins, from 0; the end past the last. */
size_t stream_log_offset(const struct stream_log *log, int64_t after);

/* The text from there on; valid until the log changes. */
const char *stream_log_peek(const struct stream_log *log, size_t offset);

#endif
