/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_SOCKET_H
#define BROKER_CHAT_SOCKET_H

#include "broker/config/config.h"
#include "broker/socketio/socketio.h"

/*
 * chat_socket: the chat's namespace of Socket.IO, /chats.
 *
 * A socket is of the caller whom its auth or its handshake names
 * (broker/chat/caller.h), and in the room of that owner.  It is told
 * `usage_info' at once and whenever that changes, and what
 * broker/chat/notify.h has for its owner.  The operations of
 * broker/chat/chat_ops.h are events; their answer is an event, and an ack
 * where one was asked for.  What fails is `assistant_error'
 * {"code","error","event"}, and an ack {"error":{"code","message"}}.  Other
 * events are passed over, as npm socket.io does.
 */
extern const struct sio_app chat_socket_app;

/* Bring the news of notify to the sockets; after socketio_start(). */
void chat_socket_start(const struct config_socketio *config);

/* No more; before socketio_stop(). */
void chat_socket_stop(void);

#endif
