/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_socket.h"

#include <stdlib.h>
#include <string.h>

#include "broker/chat/caller.h"
#include "broker/chat/chat_json.h"
#include "broker/chat/chat_ops.h"
#include "broker/chat/notify.h"
#include "broker/hub/hub.h"
#include "broker/hub/jobs.h"
#include "broker/limits/buckets.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/xalloc.h"

#define NAMESPACE "/chats"

/* What one socket may ask: so many events, and then so many in a second. */
#define REFUSALS_MAX 100 /* one after another; then it is a flood */
#define PENDING_MAX  100

/* Half of what engineio lets wait for one client. */
#define ANSWER_MIN_BYTES (512 * 1024)

#define EXPIRY_CHECK_S 3600 /* the clock may be set meanwhile */

/* An accepted socket.  It is the hub's, but for what a task may read. */
struct client {
	struct sio_socket *socket; /* referenced */
	unsigned refs;		   /* the socket's, and one of each task */
	struct caller caller;	   /* never changed: tasks read it */
	unsigned long lane;
	struct loop_timer *expiry; /* NULL: is good for ever */
	int64_t credit;		   /* in thousandths of an event */
	int64_t credit_ms;	   /* when it was counted */
	unsigned refusals;
	unsigned pending; /* tasks */
	bool usage_waits; /* such a task is pending ... */
	bool usage_again; /* ... and has to be done once more */
};

/* An operation that is done in another thread. */
struct task {
	struct client *client;
	const struct chat_op *op;
	json_t *args; /* NULL: none */
	int64_t id;   /* of the ack; SIO_NO_ID */
	bool pushed;  /* nobody has asked: it is told as it has changed */
	enum err err;
	struct diag diag;
	json_t *result;
};

static unsigned long last_lane;
static size_t answer_max_bytes;
static int64_t events_per_s, burst; /* of the configuration, at the start */

static void
client_unref(struct client *client)
{
	if (--client->refs > 0)
		return;
	caller_done(&client->caller);
	sio_unref(client->socket);
	free(client);
}

/* ---- what is sent ------------------------------------------------------ */

/* Takes data. */
static void
emit(struct client *client, const char *name, json_t *data)
{
	json_t *list = json_made(json_pack("[o]", data));
	const struct sio_message message = { .data = list };

	sio_emit(client->socket, name, &message);
	json_decref(list);
}

/* Takes data. */
static void
ack(struct client *client, int64_t id, json_t *data)
{
	json_t *list = json_made(json_pack("[o]", data));
	const struct sio_message message = { .data = list };

	sio_ack(client->socket, id, &message);
	json_decref(list);
}

/*
 * event NULL: nobody has asked for what failed.  who NULL: it is not what the
 * caller may that has failed.
 */
static void
emit_error(struct client *client, enum err err, const struct caller *who,
    const char *text, const char *event, int64_t id)
{
	json_t *error = chat_json_error(err, who, text);

	if (id != SIO_NO_ID)
		ack(client, id,
		    json_made(json_pack("{s:{s:O, s:O}}", "error", "code",
			json_object_get(error, "code"), "message",
			json_object_get(error, "error"))));
	if (event != NULL)
		(void)json_object_set_new(error, "event", json_string(event));
	emit(client, "assistant_error", error);
}

/* ---- tasks ------------------------------------------------------------- */

static void
work(void *arg)
{
	struct task *task = arg;
	struct config *config = config_current();

	if (config == NULL || config->chat == NULL)
		task->err = ERR_UNAVAIL;
	else
		task->err =
		    chat_ops_run(task->op, config, &task->client->caller,
			task->args, &task->result, &task->diag);
	config_unref(config);
}

static void
task_free(struct task *task)
{
	json_decref(task->args);
	json_decref(task->result);
	client_unref(task->client);
	free(task);
}

/* Our own failures are for the log, not for the client. */
static void
report(struct task *task)
{
	bool ours = err_http_status(task->err) >= 500;

	if (ours)
		log_error("chat.failed", "event=%s reason=\"%s\"",
		    task->op->name, task->diag.text);
	if (!task->pushed)
		emit_error(task->client, task->err, &task->client->caller,
		    ours ? NULL : task->diag.text, task->op->name, task->id);
}

/* Who reads slowly would be closed for what it has asked for. */
static void
check_size(struct task *task)
{
	size_t size = json_dumpb(task->result, NULL, 0, JSON_COMPACT);

	if (size <= answer_max_bytes)
		return;
	task->err = ERR_LIMIT;
	diag_set(&task->diag,
	    "the answer is larger than %zu bytes: ask with a smaller limit",
	    answer_max_bytes);
}

static void add_usage(struct client *client);

static void
done(void *arg)
{
	struct task *task = arg;
	struct client *client = task->client;
	bool is_usage = task->pushed;

	client->pending--;
	if (task->err == ERR_OK)
		check_size(task);
	if (task->err != ERR_OK) {
		report(task);
	} else {
		/* what tells all sockets has told this one, too */
		if (!task->op->tells)
			emit(client, task->op->answer,
			    json_incref(task->result));
		if (task->id != SIO_NO_ID)
			ack(client, task->id, json_incref(task->result));
	}
	if (is_usage) {
		client->usage_waits = false;
		if (client->usage_again)
			add_usage(client);
	}
	task_free(task);
}

/* Takes args. */
static enum err
add_task(struct client *client, const struct chat_op *op, json_t *args,
    int64_t id, bool pushed)
{
	struct task *task = xcalloc(1, sizeof(*task));
	enum err err;

	task->client = client;
	client->refs++;
	task->op = op;
	task->args = args;
	task->id = id;
	task->pushed = pushed;
	err = jobs_add(client->lane, work, done, task);
	if (err == ERR_OK)
		client->pending++;
	else
		task_free(task);
	return err;
}

/* Tell what is left; where that is on its way, once more after it. */
static void
add_usage(struct client *client)
{
	client->usage_again = client->usage_waits;
	if (client->usage_waits)
		return;
	client->usage_waits = add_task(client, chat_ops_find("usage_info"),
				  NULL, SIO_NO_ID, true) == ERR_OK;
}

/* ---- what clients say -------------------------------------------------- */

static void
expired(void *arg)
{
	struct client *client = arg;
	int64_t left_s = client->caller.expires - clock_unix();

	if (left_s > 0) {
		loop_timer_set(client->expiry,
		    (left_s < EXPIRY_CHECK_S ? left_s : EXPIRY_CHECK_S) * 1000);
		return;
	}
	emit_error(client, ERR_UNAUTH, NULL, "the token has expired", NULL,
	    SIO_NO_ID);
	sio_disconnect(client->socket, false);
}

static struct client *
client_new(struct sio_socket *socket, const struct caller *caller,
    unsigned long lane)
{
	struct client *client = xcalloc(1, sizeof(*client));

	client->socket = sio_ref(socket);
	client->refs = 1;
	client->caller = *caller;
	client->lane = lane;
	client->credit = burst * 1000;
	client->credit_ms = clock_ms();
	if (caller->expires != 0) {
		client->expiry = loop_timer_new(hub_loop(), expired, client);
		loop_timer_set(client->expiry, 0);
	}
	return client;
}

static bool
names_somebody(const json_t *auth)
{
	static const char *const members[] = { "token", "anon_id" };

	for (size_t i = 0; i < 2; i++) {
		const json_t *value = json_object_get(auth, members[i]);

		if (value != NULL && !json_is_null(value) &&
		    !(json_is_string(value) && json_string_length(value) == 0))
			return true;
	}
	return false;
}

/* Who asks to connect, which is found out in another thread. */
struct guest {
	struct sio_socket *socket; /* referenced */
	unsigned long lane;
	struct eio_info info;
	json_t *auth; /* NULL: none */
	struct caller caller;
	enum err err;
	struct diag diag;
};

static struct guest *
guest_new(struct sio_socket *socket, const json_t *auth)
{
	struct guest *guest = xcalloc(1, sizeof(*guest));

	guest->socket = sio_ref(socket);
	guest->lane = ++last_lane;
	guest->info = eio_info_copy(sio_info(socket));
	guest->auth = json_deep_copy(auth);
	return guest;
}

/* In the hub's thread. */
static void
guest_free(struct guest *guest)
{
	sio_unref(guest->socket);
	eio_info_done(&guest->info);
	json_decref(guest->auth);
	caller_done(&guest->caller);
	free(guest);
}

/* The keys of an issuer, or the store, may be waited for. */
static void
identify(void *arg)
{
	struct guest *guest = arg;
	const struct caller_headers headers = {
		.address = guest->info.address,
		.authorization = guest->info.authorization,
		.cookie = guest->info.cookie,
		.anon_id = guest->info.anon_id,
		.origin = guest->info.origin,
		.host = guest->info.host,
		.fetch_site = guest->info.fetch_site,
	};
	struct config *config = config_current();

	if (config == NULL || config->chat == NULL)
		guest->err = ERR_UNAVAIL;
	else if (names_somebody(guest->auth))
		guest->err = caller_of_auth(config, guest->auth,
		    headers.address, &guest->caller, &guest->diag);
	else
		guest->err = caller_of_headers(config, &headers, &guest->caller,
		    &guest->diag);
	config_unref(config);
}

/* An event is a request, whatever it came by. */
static bool
is_within_limits(const struct caller *caller, struct diag *diag)
{
	struct config *config = config_current();
	struct buckets_state state;
	struct subjects subjects;
	enum err err;

	caller_subjects(caller, config, &subjects);
	err = buckets_take(&subjects, clock_ms(), &state, diag);
	config_unref(config);
	return err == ERR_OK;
}

static void
refuse(struct sio_socket *socket, enum err err, const struct diag *diag)
{
	sio_refuse(socket, chat_json_code(err, NULL),
	    diag->text[0] == '\0' ? err_text(err) : diag->text);
}

static void
let_in(struct guest *guest)
{
	struct client *client =
	    client_new(guest->socket, &guest->caller, guest->lane);

	guest->caller = (struct caller){ .id = NULL };
	sio_set_data(guest->socket, client);
	sio_accept(guest->socket, client->caller.owner);
	add_usage(client);
}

/* Back in the hub's thread. */
static void
identified(void *arg)
{
	struct guest *guest = arg;

	if (guest->err == ERR_OK && caller_is_revoked(&guest->caller)) {
		guest->err = ERR_UNAUTH;
		diag_set(&guest->diag, "what is shown has been revoked");
	}
	if (guest->err == ERR_OK &&
	    !is_within_limits(&guest->caller, &guest->diag))
		guest->err = ERR_RATE;
	/* of one that has left, neither does anything */
	if (guest->err != ERR_OK)
		refuse(guest->socket, guest->err, &guest->diag);
	else if (sio_info(guest->socket) != NULL)
		let_in(guest);
	guest_free(guest);
}

static void
on_connect(struct sio_socket *socket, const json_t *auth)
{
	struct guest *guest = guest_new(socket, auth);
	struct diag diag = { "" };
	enum err err = jobs_add(guest->lane, identify, identified, guest);

	if (err == ERR_OK)
		return;
	guest_free(guest);
	refuse(socket, err, &diag);
}

/* Whether it may ask now; where not, diag may say why. */
static bool
take_credit(struct client *client, struct diag *diag)
{
	int64_t now = clock_ms();

	client->credit += (now - client->credit_ms) * events_per_s;
	client->credit_ms = now;
	if (client->credit > burst * 1000)
		client->credit = burst * 1000;
	if (client->credit < 1000 || !is_within_limits(&client->caller, diag))
		return false;
	client->credit -= 1000;
	client->refusals = 0;
	return true;
}

static void
refuse_event(struct client *client, enum err err, const struct diag *diag,
    const char *name, int64_t id)
{
	if (++client->refusals > REFUSALS_MAX)
		sio_disconnect(client->socket, true);
	else
		emit_error(client, err, NULL, diag->text, name, id);
}

static void
on_event(struct sio_socket *socket, const char *name,
    const struct sio_message *message, int64_t id)
{
	struct client *client = sio_data(socket);
	const struct chat_op *op = chat_ops_find(name);
	const json_t *first = json_array_get(message->data, 0);
	struct diag diag = { "" };
	json_t *args = NULL;
	enum err err;

	if (!take_credit(client, &diag) || client->pending >= PENDING_MAX) {
		refuse_event(client, ERR_RATE, &diag,
		    op == NULL ? NULL : op->name, id);
		return;
	}
	if (op == NULL)
		return;
	if (first != NULL && !json_is_null(first))
		args = json_made(json_deep_copy(first));
	err = add_task(client, op, args, id, false);
	if (err != ERR_OK)
		refuse_event(client, err, &diag, op->name, id);
}

static void
on_disconnected(struct sio_socket *socket, const char *reason)
{
	struct client *client = sio_data(socket);

	(void)reason;
	if (client == NULL)
		return; /* it was refused */
	sio_set_data(socket, NULL);
	loop_timer_free(client->expiry);
	client->expiry = NULL;
	client->usage_again = false;
	client_unref(client);
}

const struct sio_app chat_socket_app = {
	.recovers = true,
	.namespace = NAMESPACE,
	.connect = on_connect,
	.event = on_event,
	.disconnected = on_disconnected,
};

/* ---- news -------------------------------------------------------------- */

/* On its way to the hub. */
struct news {
	char *owner;
	char *event; /* NULL: what is left has changed */
	json_t *data;
};

static void
news_free(struct news *news)
{
	free(news->owner);
	free(news->event);
	json_decref(news->data);
	free(news);
}

static void
visit_usage(struct sio_socket *socket, void *arg)
{
	(void)arg;
	add_usage(sio_data(socket));
}

static void
bring(void *arg)
{
	struct news *news = arg;
	struct sio_message message = { .data = NULL };
	json_t *list;

	if (news->event == NULL) {
		sio_each(NAMESPACE, news->owner, visit_usage, NULL);
	} else {
		list = json_made(json_pack("[O]", news->data));
		message.data = list;
		sio_emit_room(NAMESPACE, news->owner, news->event, &message);
		json_decref(list);
	}
	news_free(news);
}

static void
post(const char *owner, const char *event, json_t *data)
{
	struct news *news = xcalloc(1, sizeof(*news));

	news->owner = xstrdup(owner);
	news->event = event == NULL ? NULL : xstrdup(event);
	news->data = data;
	if (!hub_post(bring, news))
		news_free(news);
}

static void
post_usage(const char *owner)
{
	post(owner, NULL, NULL);
}

static void
disconnect(struct sio_socket *socket, void *arg)
{
	(void)arg;
	sio_disconnect(socket, true);
}

static void
disconnect_all(void *arg)
{
	char *owner = arg;

	sio_each(NAMESPACE, owner, disconnect, NULL);
	free(owner);
}

static void
post_revoked(const char *owner)
{
	char *copy = xstrdup(owner);

	if (!hub_post(disconnect_all, copy))
		free(copy);
}

void
chat_socket_start(const struct config_socketio *config)
{
	static const struct notify_sink sink = { .event = post,
		.usage = post_usage,
		.revoked = post_revoked };
	size_t half = (size_t)config->max_payload * 2;

	events_per_s = config->events_per_s;
	burst = config->event_burst;
	answer_max_bytes = half > ANSWER_MIN_BYTES ? half : ANSWER_MIN_BYTES;
	notify_set_sink(&sink);
}

void
chat_socket_stop(void)
{
	notify_set_sink(NULL);
}
