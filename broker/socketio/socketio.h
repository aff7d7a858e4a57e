/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SOCKETIO_H
#define BROKER_SOCKETIO_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "broker/socketio/engineio.h"
#include "broker/socketio/sio_packet.h"
#include "common/err.h"

/*
 * socketio: namespaces of Socket.IO 5 over Engine.IO, for applications within
 * the broker.  All of it is in the hub's thread, but for the start and stop.
 */
struct sio_socket; /* a client in a namespace */

/* An event or an ack: sio_packet's data and attachments, borrowed. */
struct sio_message {
	const json_t *data; /* an array; of an event, without its name */
	const struct sio_attachment *attachments;
	size_t attachment_count;
};

struct sio_app {
	const char *namespace; /* "/chats" */
	/*
	 * Longest JSON that a client may say, which takes the hub's time to
	 * read; attachments do not count.  0: 16 KiB.
	 */
	size_t max_text_bytes;
	/* Whether connections can be taken up again, as recovery_ms says. */
	bool recovers;
	/*
	 * A client asks to connect, with auth (an object, or NULL): the answer
	 * is sio_accept() or sio_refuse(), then or later.
	 */
	void (*connect)(struct sio_socket *socket, const json_t *auth);
	/* id: of the ack that is wanted; SIO_NO_ID: none */
	void (*event)(struct sio_socket *socket, const char *name,
	    const struct sio_message *message, int64_t id);
	/*
	 * Once, last, for every socket that asked to connect: of one that is
	 * refused, within sio_refuse().
	 */
	void (*disconnected)(struct sio_socket *socket, const char *reason);
};

/*
 * Serve at config's path.  Applications are static; more than a few are not
 * meant.  The hub runs.
 */
enum err socketio_start(const struct config_socketio *config,
    const struct sio_app *const apps[], size_t count,
    struct diag *diag) MUST_CHECK;
void socketio_stop(void); /* harmless where nothing was started */

/* ---- sockets ---------------------------------------------------------------
 */

/*
 * A socket is there until its disconnected() has returned and nobody holds a
 * reference; calls on one that is not connected do nothing.
 */
struct sio_socket *sio_ref(struct sio_socket *socket);
void sio_unref(struct sio_socket *socket);

/* NULL after disconnected() has returned. */
const struct eio_info *sio_info(const struct sio_socket *socket);
void sio_set_data(struct sio_socket *socket, void *data);
void *sio_data(const struct sio_socket *socket);

/* Whether a lost connection was taken up again (connection state recovery). */
bool sio_is_recovered(const struct sio_socket *socket);

/*
 * Connected, as a member of a room (NULL: of none): who may recover a
 * connection is who would be accepted into the same room.  Another socket of
 * this client, whose connection is broken without our knowing, may be
 * disconnected within this call.
 */
void sio_accept(struct sio_socket *socket, const char *room);

/* CONNECT_ERROR {"message","data":{"code"}}. */
void sio_refuse(struct sio_socket *socket, const char *code,
    const char *message);

/* message: NULL is one without arguments, here and below. */
void sio_emit(struct sio_socket *socket, const char *name,
    const struct sio_message *message);
void sio_ack(struct sio_socket *socket, int64_t id,
    const struct sio_message *message);

/* To every socket of a room, and to what may be recovered. */
void sio_emit_room(const char *namespace, const char *room, const char *name,
    const struct sio_message *message);

/* Visit the sockets of a room. */
void sio_each(const char *namespace, const char *room,
    void (*visit)(struct sio_socket *socket, void *arg), void *arg);

/* The server disconnects it: DISCONNECT, and, with close, the connection. */
void sio_disconnect(struct sio_socket *socket, bool close);

#endif
