/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_OPS_H
#define BROKER_CHAT_OPS_H

#include <jansson.h>
#include <stdbool.h>

#include "broker/chat/caller.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * chat_ops: the management of chats, once for HTTP and once for Socket.IO.
 *
 * An operation is a name, as of the Socket.IO event that asks for it, and an
 * object of arguments.  It blocks (the store), and tells the owner's sockets
 * what it changed (broker/chat/notify.h).
 *
 *   list_chats {page?,limit?}             chats_list {chats,page,limit,total}
 *   list_messages {chat_id,page?,limit?,all_versions?}
 *                       messages_list {chat_id,messages,page,limit,total}
 *   create_chat {title?}                  chat_created {chat}
 *   rename_chat {chat_id,title}           chat_updated {chat}
 *   delete_chat {chat_id}                 chat_deleted {chat_id}
 *   usage_info {}                         usage_info: chat_json_usage()
 */
struct chat_op {
	const char *name;   /* "list_chats" */
	const char *answer; /* "chats_list" */
	bool tells; /* all of the owner's sockets, by an event of this name */
};

/* NULL: there is no such operation. */
const struct chat_op *chat_ops_find(const char *name);

/*
 * Do it.  ERR_PROTO with the reason for arguments that will not do (unknown
 * ones, too); else as the store says.  The caller decrefs *ret.
 */
enum err chat_ops_run(const struct chat_op *op, const struct config *config,
    const struct caller *caller, const json_t *args, json_t **ret,
    struct diag *diag) MUST_CHECK;

#endif
