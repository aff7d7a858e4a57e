/* SPDX-License-Identifier: MIT */
#include "broker/socketio/echo.h"

#include <string.h>

#include "common/json.h"

/* as much as Engine.IO takes */
#define ANY_LENGTH SIZE_MAX

static void
greet(struct sio_socket *socket, const json_t *auth)
{
	struct sio_message message = { .data = NULL };
	json_t *data;

	sio_accept(socket, NULL);
	data = json_made(json_array());
	(void)json_array_append_new(data,
	    json_made(auth == NULL ? json_object() : json_deep_copy(auth)));
	message.data = data;
	sio_emit(socket, "auth", &message);
	json_decref(data);
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
	(void)socket;
	(void)reason;
}

const struct sio_app echo_main = { .namespace = "/",
	.max_text_bytes = ANY_LENGTH,
	.connect = greet,
	.event = answer,
	.disconnected = disconnected };

const struct sio_app echo_custom = { .namespace = "/custom",
	.max_text_bytes = ANY_LENGTH,
	.connect = greet,
	.event = ignore,
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
