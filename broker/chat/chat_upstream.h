/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_UPSTREAM_H
#define BROKER_CHAT_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/chat/completion.h"
#include "broker/config/config.h"

/*
 * chat_upstream: one call to the vendor of the chat, in the hub's thread.
 *
 * Of what a vendor says when something fails, nothing is handed on: it becomes
 * a code of ours, and a line of the log.  Not tried again here: a second call
 * could cost twice.
 */
struct chat_upstream;

struct chat_upstream_end {
	const char *code;      /* static; NULL: it has come to its end */
	const char *message;   /* static, for people; NULL: none */
	int64_t retry_after_s; /* 0: the vendor did not say */
};

/* It is larger than `answer_bytes', in whatever form. */
extern const struct chat_upstream_end chat_upstream_too_large;

struct chat_upstream_events {
	/* Text, UTF-8, not empty. */
	void (*delta)(void *arg, const char *text, size_t len);
	/* Once, last, but for a connection that is still to be let go. */
	void (*ended)(void *arg, const struct chat_upstream_end *end);
};

/*
 * Begin; no event comes in this call.  body is copied; config and generation
 * (its id, for the log) are borrowed until it is freed.
 */
struct chat_upstream *chat_upstream_start(const struct config_chat *config,
    const char *generation, const char *body, size_t len,
    const struct chat_upstream_events *events, void *arg);

/*
 * End the call at once, its connection too; no event comes any more.  Allowed
 * in its events.
 */
void chat_upstream_stop(struct chat_upstream *upstream);

/* Free it, whatever it is doing; not in its events.  NULL is allowed. */
void chat_upstream_free(struct chat_upstream *upstream);

/* Whether the vendor has begun to answer, and so will charge something. */
bool chat_upstream_has_begun(const struct chat_upstream *upstream);

/* What it has said of usage, and why it ended. */
const struct completion *chat_upstream_completion(
    const struct chat_upstream *upstream);

#endif
