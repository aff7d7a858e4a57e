/* SPDX-License-Identifier: MIT */
#include "broker/socketio/socketio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "broker/hub/hub.h"
#include "broker/socketio/eio_queue.h"
#include "broker/socketio/sio_gather.h"
#include "broker/socketio/sio_room.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/xalloc.h"

#define APPS_MAX 8

/* What may be said to a namespace that says nothing of it, or is none. */
#define TEXT_BYTES (16 * 1024)

/* How often a client may ask to connect: so many times, then in a period. */
#define CONNECT_BURST	  20
#define CONNECT_PERIOD_MS 1000

/* For connection state recovery: enough for some minutes of a chat. */
#define ROOM_PACKETS	    256
#define ROOM_BYTES	    (1024 * 1024)
#define ALL_BYTES	    (64 * 1024 * 1024)
#define RECOVERY_TEXT_BYTES 64 /* of a pid or an offset */
#define TIDY_MS		    1000
#define OFFSETS_PER_S	    1000000
#define RECOVERY_SLACK	    1000 /* ms, for timers that come late */

/* A client that is there: a connection of Engine.IO. */
struct client {
	struct eio *eio;
	TAILQ_HEAD(, sio_socket) sockets;
	struct loop_timer *connect_timer; /* while no socket is connected */
	struct sio_gather gather;
	int64_t connects_ms; /* until then, it has used up its CONNECTs */
	bool closing;	     /* what it says counts no more */
};

enum state {
	ASKED, /* to connect */
	CONNECTED,
	GONE,
};

struct sio_socket {
	struct client *client; /* NULL after disconnected() */
	const struct sio_app *app;
	enum state state;
	unsigned refs;
	void *data;
	char *pid, *offset; /* what it wants to recover; NULL */
	bool recovered;
	struct sio_session *session; /* while connected */
	TAILQ_ENTRY(sio_socket) entry;
};

/* All of it is the hub's between start and stop. */
static struct {
	struct eio_server *server;
	const struct sio_app *apps[APPS_MAX];
	size_t app_count;
	int64_t connect_timeout_ms, recovery_ms;
	size_t max_payload;
	struct sio_rooms *rooms;
	struct loop_timer *tidy_timer;
	bool tidying; /* the timer runs */
} socketio;

static const struct sio_message no_arguments;

/* ---- what is sent ------------------------------------------------------ */

static void
send_told(struct client *client, const struct sio_told *told)
{
	if (client->closing)
		return;
	eio_send(client->eio, false, told->text, told->len);
	for (size_t i = 0; i < told->attachment_count; i++)
		eio_send(client->eio, true, told->attachments[i].data,
		    told->attachments[i].len);
}

/* Send a packet without attachments; takes data. */
static void
send_plain(struct client *client, enum sio_type type, const char *namespace,
    json_t *data)
{
	struct sio_packet packet = { .type = type,
		.id = SIO_NO_ID,
		.data = data };
	struct sio_told told = { .attachment_count = 0 };

	(void)snprintf(packet.namespace, sizeof(packet.namespace), "%s",
	    namespace);
	told.text = sio_packet_text(&packet, &told.len);
	send_told(client, &told);
	free(told.text);
	sio_packet_done(&packet);
}

/*
 * An event's or an ack's text, which is the caller's; attachments stay the
 * message's.  Without a name, it is an ack.
 */
static struct sio_told
tell(const struct sio_app *app, const char *name, int64_t id,
    const struct sio_message *message, const char *offset)
{
	struct sio_packet packet = { .type = name != NULL ? SIO_EVENT : SIO_ACK,
		.id = id,
		.data = json_made(json_array()) };
	struct sio_told told = { .attachments = message->attachments,
		.attachment_count = message->attachment_count };

	(void)snprintf(packet.namespace, sizeof(packet.namespace), "%s",
	    app->namespace);
	if (name != NULL)
		(void)json_array_append_new(packet.data,
		    json_made(json_string(name)));
	for (size_t i = 0; i < json_array_size(message->data); i++)
		(void)json_array_append(packet.data,
		    json_array_get(message->data, i));
	if (offset != NULL)
		(void)json_array_append_new(packet.data,
		    json_made(json_string(offset)));
	packet.attachment_count = message->attachment_count;
	told.text = sio_packet_text(&packet, &told.len);
	packet.attachment_count = 0; /* they are the message's */
	sio_packet_done(&packet);
	return told;
}

static void
tidy(void *arg)
{
	(void)arg;
	socketio.tidying = sio_rooms_tidy(socketio.rooms, clock_ms());
	if (socketio.tidying)
		loop_timer_set(socketio.tidy_timer, TIDY_MS);
}

/* Something will be too old some time. */
static void
tidy_later(void)
{
	if (!socketio.tidying)
		loop_timer_set(socketio.tidy_timer, TIDY_MS);
	socketio.tidying = true;
}

static void
send_to_socket(void *arg, void *visited)
{
	const struct sio_socket *socket = visited;

	send_told(socket->client, arg);
}

static bool
recovers(const struct sio_app *app)
{
	return app->recovers && socketio.recovery_ms > 0;
}

/* Tell it to a socket, or to all of a room (NULL). */
static void
emit(struct sio_room *room, struct sio_socket *only, const struct sio_app *app,
    const char *name, const struct sio_message *message)
{
	bool keep = recovers(app);
	char offset[SIO_OFFSET_SIZE];
	struct sio_told told;

	if (message == NULL)
		message = &no_arguments;
	if (keep)
		sio_rooms_offset(socketio.rooms, offset);
	told = tell(app, name, SIO_NO_ID, message, keep ? offset : NULL);
	if (only != NULL)
		send_to_socket(&told, only);
	else
		sio_room_each(room, send_to_socket, &told);
	if (!keep) {
		free(told.text);
		return;
	}
	sio_room_keep(room, only == NULL ? NULL : only->session, &told,
	    clock_ms());
	tidy_later();
}

/* ---- sockets ----------------------------------------------------------- */

static const struct sio_app *
find_app(const char *namespace)
{
	for (size_t i = 0; i < socketio.app_count; i++)
		if (strcmp(socketio.apps[i]->namespace, namespace) == 0)
			return socketio.apps[i];
	return NULL;
}

static struct sio_socket *
find_socket(const struct client *client, const char *namespace)
{
	struct sio_socket *socket;

	TAILQ_FOREACH (socket, &client->sockets, entry)
		if (strcmp(socket->app->namespace, namespace) == 0)
			return socket;
	return NULL;
}

/*
 * What a client says of its last connection.  An offset that is none is kept as
 * one that nobody has; who has none yet, has been told nothing.
 */
static void
read_recovery(struct sio_socket *socket, const json_t *auth)
{
	const char *pid, *offset = "";

	if (json_get_string(auth, "pid", RECOVERY_TEXT_BYTES, &pid) != ERR_OK)
		return;
	socket->pid = xstrdup(pid);
	if (json_get_string(auth, "offset", RECOVERY_TEXT_BYTES, &offset) !=
	    ERR_NOTFOUND)
		socket->offset = xstrdup(offset);
}

static struct sio_socket *
socket_new(struct client *client, const struct sio_app *app, const json_t *auth)
{
	struct sio_socket *socket = xcalloc(1, sizeof(*socket));

	socket->client = client;
	socket->app = app;
	socket->refs = 1; /* the client's */
	if (recovers(app))
		read_recovery(socket, auth);
	TAILQ_INSERT_TAIL(&client->sockets, socket, entry);
	return socket;
}

struct sio_socket *
sio_ref(struct sio_socket *socket)
{
	socket->refs++;
	return socket;
}

void
sio_unref(struct sio_socket *socket)
{
	if (--socket->refs > 0)
		return;
	free(socket->pid);
	free(socket->offset);
	free(socket);
}

static struct sio_socket *
find_connected(const struct client *client)
{
	struct sio_socket *socket;

	TAILQ_FOREACH (socket, &client->sockets, entry)
		if (socket->state == CONNECTED)
			break;
	return socket;
}

/* Somebody who is in no namespace does not stay. */
static void
watch_connect(struct client *client)
{
	if (!client->closing && find_connected(client) == NULL)
		loop_timer_set(client->connect_timer,
		    socketio.connect_timeout_ms);
	else
		loop_timer_stop(client->connect_timer);
}

/* The end of it: for good, or lost with its connection. */
static void
socket_end(struct sio_socket *socket, bool lost, const char *reason)
{
	struct client *client = socket->client;
	bool was_connected = socket->state == CONNECTED;

	TAILQ_REMOVE(&client->sockets, socket, entry);
	socket->state = GONE;
	if (socket->session != NULL && lost && recovers(socket->app)) {
		sio_session_lose(socket->session, clock_ms());
		tidy_later();
	} else if (socket->session != NULL) {
		sio_session_end(socket->session);
	}
	socket->session = NULL;
	socket->app->disconnected(socket, reason);
	socket->client = NULL;
	sio_unref(socket);
	if (was_connected && !lost)
		watch_connect(client);
}

const struct eio_info *
sio_info(const struct sio_socket *socket)
{
	return socket->client == NULL ? NULL : eio_info(socket->client->eio);
}

void
sio_set_data(struct sio_socket *socket, void *data)
{
	socket->data = data;
}

void *
sio_data(const struct sio_socket *socket)
{
	return socket->data;
}

bool
sio_is_recovered(const struct sio_socket *socket)
{
	return socket->recovered;
}

static void
end_sockets(struct client *client, const char *reason)
{
	struct sio_socket *socket;

	while ((socket = TAILQ_FIRST(&client->sockets)) != NULL)
		socket_end(socket, true, reason);
}

/* Its sockets end now, and its connection when all has been sent. */
static void
client_close(struct client *client, const char *reason)
{
	if (client->closing)
		return;
	client->closing = true;
	loop_timer_stop(client->connect_timer);
	eio_close(client->eio, reason);
	end_sockets(client, reason);
}

/* ---- connecting -------------------------------------------------------- */

static struct sio_session *
find_session(const struct sio_socket *socket, const char *room)
{
	if (socket->pid == NULL)
		return NULL;
	return sio_session_find(socketio.rooms, socket->app->namespace, room,
	    socket->pid, socket->offset, clock_ms());
}

/*
 * Take the session that the socket wants; NULL: there is none.  Whoever has it
 * is the same client, whose connection is broken without our knowing it yet.
 */
static struct sio_session *
recover(struct sio_socket *socket, const char *room)
{
	struct sio_session *session = find_session(socket, room);
	struct sio_socket *old;

	old = session == NULL ? NULL : sio_session_socket(session);
	if (old != NULL) {
		client_close(old->client, "transport close");
		session = find_session(socket, room); /* if it is kept */
	}
	if (session != NULL)
		sio_session_take(session, socket);
	return session;
}

static void
send_missed(void *arg, const struct sio_told *told)
{
	struct sio_socket *socket = arg;

	send_told(socket->client, told);
}

/* As npm's server does: first what was missed, then the CONNECT. */
void
sio_accept(struct sio_socket *socket, const char *room)
{
	json_t *data;

	if (socket->state != ASKED)
		return;
	socket->session = recover(socket, room);
	socket->recovered = socket->session != NULL;
	if (socket->recovered)
		sio_session_missed(socket->session, socket->offset, send_missed,
		    socket);
	else
		socket->session = sio_session_new(socketio.rooms,
		    socket->app->namespace, room, socket);
	socket->state = CONNECTED;
	watch_connect(socket->client);
	data = json_pack("{s:s}", "sid", sio_session_sid(socket->session));
	if (recovers(socket->app))
		(void)json_object_set_new(data, "pid",
		    json_string(sio_session_pid(socket->session)));
	send_plain(socket->client, SIO_CONNECT, socket->app->namespace,
	    json_made(data));
}

void
sio_refuse(struct sio_socket *socket, const char *code, const char *message)
{
	if (socket->state != ASKED)
		return;
	send_plain(socket->client, SIO_CONNECT_ERROR, socket->app->namespace,
	    json_made(json_pack("{s:s, s:{s:s}}", "message", message, "data",
		"code", code)));
	socket_end(socket, false, "refused");
}

/* ---- emitting ---------------------------------------------------------- */

void
sio_emit(struct sio_socket *socket, const char *name,
    const struct sio_message *message)
{
	if (socket->state == CONNECTED)
		emit(sio_session_room(socket->session), socket, socket->app,
		    name, message);
}

void
sio_ack(struct sio_socket *socket, int64_t id,
    const struct sio_message *message)
{
	struct sio_told told;

	if (socket->state != CONNECTED || id == SIO_NO_ID)
		return;
	told = tell(socket->app, NULL, id,
	    message == NULL ? &no_arguments : message, NULL);
	send_told(socket->client, &told);
	free(told.text);
}

static struct sio_room *
find_room(const char *namespace, const char *room)
{
	/* after the end there are no rooms */
	return socketio.rooms == NULL
	    ? NULL
	    : sio_room_find(socketio.rooms, namespace, room);
}

void
sio_emit_room(const char *namespace, const char *room, const char *name,
    const struct sio_message *message)
{
	struct sio_room *found = find_room(namespace, room);
	const struct sio_app *app = find_app(namespace);

	if (found != NULL && app != NULL)
		emit(found, NULL, app, name, message);
}

struct visited {
	struct sio_socket **sockets;
	size_t count;
};

static void
collect_socket(void *arg, void *socket)
{
	struct visited *visited = arg;

	visited->sockets = xreallocarray(visited->sockets, visited->count + 1,
	    sizeof(struct sio_socket *));
	visited->sockets[visited->count++] = sio_ref(socket);
}

/* Who visits may disconnect whom it likes. */
void
sio_each(const char *namespace, const char *room,
    void (*visit)(struct sio_socket *socket, void *arg), void *arg)
{
	struct sio_room *found = find_room(namespace, room);
	struct visited visited = { NULL, 0 };

	if (found != NULL)
		sio_room_each(found, collect_socket, &visited);
	for (size_t i = 0; i < visited.count; i++) {
		if (visited.sockets[i]->state == CONNECTED)
			visit(visited.sockets[i], arg);
		sio_unref(visited.sockets[i]);
	}
	free(visited.sockets);
}

static void
leave(struct sio_socket *socket)
{
	send_plain(socket->client, SIO_DISCONNECT, socket->app->namespace,
	    NULL);
	socket_end(socket, false, "server namespace disconnect");
}

void
sio_disconnect(struct sio_socket *socket, bool close)
{
	struct client *client = socket->client;

	if (socket->state != CONNECTED)
		return;
	leave(socket);
	if (!close)
		return;
	while ((socket = find_connected(client)) != NULL)
		leave(socket);
	client_close(client, "forced close");
}

/* ---- what clients say -------------------------------------------------- */

/* An application may have a signature to check, or more, each time. */
static bool
connects_too_often(struct client *client)
{
	int64_t now = clock_ms();

	if (client->connects_ms < now)
		client->connects_ms = now;
	client->connects_ms += CONNECT_PERIOD_MS;
	return client->connects_ms > now + CONNECT_BURST * CONNECT_PERIOD_MS;
}

static void
on_connect(struct client *client, const struct sio_packet *packet)
{
	const struct sio_app *app = find_app(packet->namespace);
	struct sio_socket *socket;

	if (connects_too_often(client)) {
		client_close(client, "forced close");
		return;
	}
	if (app == NULL) {
		send_plain(client, SIO_CONNECT_ERROR, packet->namespace,
		    json_made(
			json_pack("{s:s}", "message", "Invalid namespace")));
		return;
	}
	socket = sio_ref(socket_new(client, app, packet->data));
	app->connect(socket, packet->data);
	sio_unref(socket);
}

static void
on_event(struct sio_socket *socket, struct sio_packet *packet)
{
	json_t *name = json_incref(json_array_get(packet->data, 0));
	struct sio_message message = { .data = packet->data,
		.attachments = packet->attachments,
		.attachment_count = packet->attachment_count };

	(void)json_array_remove(packet->data, 0);
	(void)sio_ref(socket);
	socket->app->event(socket, json_string_value(name), &message,
	    packet->id);
	sio_unref(socket);
	json_decref(name);
}

static void
on_packet(struct client *client, struct sio_packet *packet)
{
	struct sio_socket *socket = find_socket(client, packet->namespace);
	bool connects = packet->type == SIO_CONNECT;

	/* npm's words for a client in the wrong state */
	if (connects != (socket == NULL) ||
	    (socket != NULL && socket->state != CONNECTED) ||
	    packet->type == SIO_CONNECT_ERROR)
		client_close(client, "forced close");
	else if (connects)
		on_connect(client, packet);
	else if (packet->type == SIO_DISCONNECT)
		socket_end(socket, false, "client namespace disconnect");
	else if (packet->type == SIO_EVENT || packet->type == SIO_BINARY_EVENT)
		on_event(socket, packet);
	/* an ack: we have asked for none */
}

/* Longer payloads are not read. */
static size_t
max_text(const char *namespace)
{
	const struct sio_app *app = find_app(namespace);

	return app == NULL || app->max_text_bytes == 0 ? TEXT_BYTES
						       : app->max_text_bytes;
}

/* ---- Engine.IO --------------------------------------------------------- */

static void
connect_expired(void *arg)
{
	client_close(arg, "forced close");
}

static void
opened(void *arg, struct eio *eio)
{
	struct client *client = xcalloc(1, sizeof(*client));

	(void)arg;
	client->eio = eio;
	sio_gather_init(&client->gather);
	TAILQ_INIT(&client->sockets);
	client->connect_timer =
	    loop_timer_new(hub_loop(), connect_expired, client);
	watch_connect(client);
	eio_set_data(eio, client);
}

static void
message(void *arg, struct eio *eio, bool binary, const void *data, size_t len)
{
	struct client *client = eio_data(eio);
	struct sio_packet packet;
	enum err err;

	(void)arg;
	if (client->closing)
		return;
	err = binary
	    ? sio_gather_attachment(&client->gather, data, len,
		  socketio.max_payload, &packet)
	    : sio_gather_text(&client->gather, data, len, max_text, &packet);
	if (err == ERR_OK) {
		on_packet(client, &packet);
		sio_packet_done(&packet);
	} else if (err != ERR_AGAIN) {
		client_close(client, "parse error");
	}
}

static void
closed(void *arg, struct eio *eio, const char *reason)
{
	struct client *client = eio_data(eio);

	(void)arg;
	client->closing = true;
	end_sockets(client, reason);
	loop_timer_free(client->connect_timer);
	sio_gather_done(&client->gather);
	free(client);
}

/* ---- start and stop ---------------------------------------------------- */

static void
begin(void *arg)
{
	const struct config_socketio *config = arg;
	struct sio_room_limits limits = {
		.recovery_ms = config->recovery_ms,
		/* how long it may take to notice a loss comes first */
		.keep_ms = config->ping_interval_ms +
		    2 * config->ping_timeout_ms + config->recovery_ms +
		    RECOVERY_SLACK,
		.lost_max = (size_t)config->max_sessions,
		.room_packets = ROOM_PACKETS,
		.room_bytes = ROOM_BYTES,
		.all_bytes = ALL_BYTES,
	};

	socketio.rooms = sio_rooms_new(&limits, clock_unix() * OFFSETS_PER_S);
	socketio.tidy_timer = loop_timer_new(hub_loop(), tidy, NULL);
	socketio.tidying = false;
}

static void
end(void *arg)
{
	(void)arg;
	loop_timer_free(socketio.tidy_timer);
	sio_rooms_free(socketio.rooms);
	memset(&socketio, 0, sizeof(socketio));
}

enum err
socketio_start(const struct config_socketio *config,
    const struct sio_app *const apps[], size_t count, struct diag *diag)
{
	static const struct eio_events events = { .opened = opened,
		.message = message,
		.closed = closed };
	struct config_socketio copy = *config;

	if (count > APPS_MAX) {
		diag_set(diag, "more than %d applications", APPS_MAX);
		return ERR_LIMIT;
	}
	memset(&socketio, 0, sizeof(socketio));
	if (count > 0)
		memcpy(socketio.apps, apps, count * sizeof(apps[0]));
	socketio.app_count = count;
	socketio.connect_timeout_ms = config->connect_timeout_ms;
	socketio.recovery_ms = config->recovery_ms;
	socketio.max_payload = (size_t)config->max_payload;
	if (!hub_call(begin, &copy)) {
		diag_set(diag, "the hub does not run");
		return ERR_UNAVAIL;
	}
	eio_queue_set_all((size_t)config->queue_bytes);
	socketio.server = eio_server_new(config->path, config, &events, NULL);
	if (socketio.server == NULL) {
		(void)!hub_call(end, NULL);
		diag_set(diag, "there are too many servers of Engine.IO");
		return ERR_LIMIT;
	}
	return ERR_OK;
}

void
socketio_stop(void)
{
	if (socketio.server == NULL)
		return;
	eio_server_free(socketio.server);
	/* references that are left outlive us, and find nothing */
	if (!hub_call(end, NULL))
		end(NULL);
}
