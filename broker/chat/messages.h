/* SPDX-License-Identifier: MIT */
#ifndef BROKER_MESSAGES_H
#define BROKER_MESSAGES_H

#include "broker/http/request.h"
#include "common/err.h"

/*
 * messages: the routes that have the chat answer (server-sent events).
 *
 *   POST /api/v1/messages/send        {chat_id?,model?,content,temperature?,..}
 *   POST /api/v1/messages/regenerate  {chat_id,message_id?,model?,..}
 *
 * docs/chat.md has the events.
 */
void messages_send_handle(struct request *req);
void messages_regenerate_handle(struct request *req);

/*
 * Before anything is served: end in the store what a broker left behind that
 * died, and start to write.  The hub runs, and a store is there.
 */
enum err messages_start(struct diag *diag) MUST_CHECK;

/*
 * Stop what runs, tell the listeners, write all; then return.  The hub still
 * runs.
 */
void messages_stop_all(void);

#endif
