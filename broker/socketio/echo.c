/* SPDX-License-Identifier: MIT */
#include "broker/socketio/echo.h"

#include <stdlib.h>
#include <string.h>

#include "broker/hub/hub.h"
#include "common/json.h"
#include "common/xalloc.h"

/* as much as Engine.IO takes */
#define ANY_LENGTH SIZE_MAX

/*
 * The official suite awaits one message after the other, and loses one that its
 * WebSocket reads together with the one before.
 */
#define GREET_MS 20

/* What is to be said to a socket. */
struct greeting {
	struct sio_socket *socket;
	struct loop_timer *timer;
	json_t *data;
};

static void
greet(void *arg)
{
	const struct greeting *greeting = arg;
	const struct sio_message message = { .data = greeting->data };

	sio_emit(greeting->socket, "auth", &message);
}

static void
connect(struct sio_socket *socket, const json_t *auth)
{
	struct greeting *greeting = xcalloc(1, sizeof(*greeting));

	greeting->socket = socket;
	greeting->timer = loop_timer_new(hub_loop(), greet, greeting);
	greeting->data = json_made(json_array());
	(void)json_array_append_new(greeting->data,
	    json_made(auth == NULL ? json_object() : json_deep_copy(auth)));
	sio_set_data(socket, greeting);
	sio_accept(socket, NULL);
	loop_timer_set(greeting->timer, GREET_MS);
}

static void
answer(struct sio_socket *socket, const char *name,
    const struct sio_message *message, int64_t id)
{
	if (strcmp(name, "message") == 0)
		sio_emit(socket, "message-back", message);
	else if (strcmp(name, "message-with-ack") == 0)
		sio_ack(socket, id, message);
}

static void
ignore(struct sio_socket *socket, const char *name,
    const struct sio_message *message, int64_t id)
{
	(void)socket;
	(void)name;
	(void)message;
	(void)id;
}

static void
disconnected(struct sio_socket *socket, const char *reason)
{
	struct greeting *greeting = sio_data(socket);

	(void)reason;
	loop_timer_free(greeting->timer);
	json_decref(greeting->data);
	free(greeting);
}

const struct sio_app echo_main = { .namespace = "/",
	.max_text_bytes = ANY_LENGTH,
	.connect = connect,
	.event = answer,
	.disconnected = disconnected };

const struct sio_app echo_custom = { .namespace = "/custom",
	.max_text_bytes = ANY_LENGTH,
	.connect = connect,
	.event = ignore,
	.disconnected = disconnected };

const struct sio_app echo_recovery = { .namespace = "/recovery",
	.max_text_bytes = ANY_LENGTH,
	.recovers = true,
	.connect = connect,
	.event = answer,
	.disconnected = disconnected };

/* ---- Engine.IO --------------------------------------------------------- */

static struct eio_server *server;

static void
opened(void *arg, struct eio *eio)
{
	(void)arg;
	(void)eio;
}

static void
send_back(void *arg, struct eio *eio, bool binary, const void *data, size_t len)
{
	(void)arg;
	eio_send(eio, binary, data, len);
}

static void
closed(void *arg, struct eio *eio, const char *reason)
{
	(void)arg;
	(void)eio;
	(void)reason;
}

enum err
echo_start(const struct config_socketio *config, struct diag *diag)
{
	static const struct eio_events events = { .opened = opened,
		.message = send_back,
		.closed = closed };

	server = eio_server_new(config->engine_path, config, &events, NULL);
	if (server == NULL) {
		diag_set(diag, "there are too many servers of Engine.IO");
		return ERR_LIMIT;
	}
	return ERR_OK;
}

void
echo_stop(void)
{
	if (server != NULL)
		eio_server_free(server);
	server = NULL;
}
