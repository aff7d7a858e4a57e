/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_HTTP_H
#define BROKER_CHAT_HTTP_H

#include "broker/http/request.h"

/*
 * chat_http: the management of chats as plain JSON, for those without
 * Socket.IO: the operations of broker/chat/chat_ops.h and their answers.
 *
 *   GET    /api/v1/chats              list_chats, ?page=&limit=
 *   POST   /api/v1/chats              create_chat
 *   PATCH  /api/v1/chats/ID           rename_chat
 *   DELETE /api/v1/chats/ID           delete_chat
 *   GET    /api/v1/chats/ID/messages  list_messages,
 *                                     ?page=&limit=&all_versions=
 *   GET    /api/v1/usage              usage_info
 *
 * Who asks says so by headers alone.  A visitor who has no id is given one in
 * the answer's header x-anon-id.
 */
void chat_http_chats_handle(struct request *req); /* /api/v1/chats */
void chat_http_chat_handle(struct request *req);  /* those of an ID */
void chat_http_usage_handle(struct request *req);

#endif
