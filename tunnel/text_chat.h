/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_TEXT_CHAT_H
#define TUNNEL_TEXT_CHAT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/*
 * text_chat: plain text to OpenAI Realtime's events.  Pure.
 *
 * A client's message becomes an item of the conversation and the wish for a
 * response to it.  One response at a time may write to a conversation: what
 * the client says meanwhile waits, bounded, and goes on when the vendor says
 * that the response is done, or that it was refused.
 */
struct text_chat;

#define TEXT_CHAT_WAITING_MAX 16 /* messages */

/* The messages that wait have at most max_bytes together. */
struct text_chat *text_chat_new(size_t max_bytes);
void text_chat_free(struct text_chat *chat); /* NULL is allowed */

/*
 * What the client says.  ERR_TYPE: it is not UTF-8; ERR_NOTFOUND: it is
 * empty; ERR_LIMIT: too much waits already.  Nothing has changed then.
 */
enum err text_chat_say(struct text_chat *chat, const void *text,
    size_t len) MUST_CHECK;

/*
 * The event that the vendor must get now, to be called until it is NULL: a
 * NUL-terminated text that the caller frees.
 */
char *text_chat_next(struct text_chat *chat, size_t *ret_len);

/* Whether text_chat_next() would begin with a message. */
bool text_chat_has_turn(const struct text_chat *chat);

/* There is one, and it comes to nothing: forget it. */
void text_chat_skip_turn(struct text_chat *chat);

/*
 * What the vendor says: the type of an event, and of an error the event that
 * it is about ("" where it names none).  True where it says that the response
 * that we asked for will not come.
 */
bool text_chat_hear(struct text_chat *chat, const char *type,
    const char *error_event_id);

#endif
