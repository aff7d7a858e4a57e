/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_NEWS_H
#define BROKER_CHAT_NEWS_H

#include <jansson.h>
#include <stdbool.h>

#include "broker/chat/caller.h"
#include "broker/config/config.h"
#include "broker/store/store.h"

/*
 * chat_news: tells an owner's sockets (broker/chat/notify.h) what an answer
 * changes.  It blocks (the store); what cannot be read there is not told.
 */

/* A question has been stored, perhaps in a new chat. */
void chat_news_question(const char *owner, const char *chat, bool new_chat,
    const struct store_message *question);

/* An answer has come to its end. */
void chat_news_answer(const char *owner, const char *chat,
    const struct store_message *answer);

/*
 * What the caller has left now, or NULL; the same is told.  The caller
 * decrefs it.
 */
json_t *chat_news_usage(const struct config *config,
    const struct caller *caller);

#endif
