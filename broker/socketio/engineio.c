/* SPDX-License-Identifier: MIT */
#include "broker/socketio/engineio.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/hub/hub.h"
#include "broker/limits/admission.h"
#include "broker/socketio/eio_refusal.h"
#include "broker/socketio/eio_server.h"
#include "broker/users/identity.h"
#include "common/xalloc.h"

#define RETRY_AFTER_S "5"

/* A request that is on its way to the hub. */
struct task {
	struct eio_server *server; /* referenced */
	char sid[EIO_SID_BYTES + 1];
	struct eio_info info;
	struct parked *poll;
	int fd;
	/* of a payload; the caller's, who waits for err */
	char *payload;
	size_t len, used;
	enum err err;
};

/* ---- servers ----------------------------------------------------------- */

struct eio_server *
eio_server_new(const char *path, const struct config_socketio *config,
    const struct eio_events *events, void *arg)
{
	const struct eio_rules rules = {
		.path = path,
		.ping_interval_ms = config->ping_interval_ms,
		.ping_timeout_ms = config->ping_timeout_ms,
		.max_payload = (size_t)config->max_payload,
		.max_sessions = config->max_sessions,
		.max_sessions_per_address = config->max_sessions_per_address,
		.events = events,
		.arg = arg,
	};

	return eio_server_enter(&rules);
}

static void
run_end_all(void *arg)
{
	eio_session_end_all(arg);
}

void
eio_server_free(struct eio_server *server)
{
	if (server == NULL)
		return;
	eio_server_retire(server);
	if (hub_is_here())
		eio_session_end_all(server);
	else
		(void)!hub_call(run_end_all, server);
	eio_server_unref(server);
}

bool
eio_takes(const char *path)
{
	struct eio_server *server = eio_server_find(path);
	bool found = server != NULL;

	eio_server_unref(server);
	return found;
}

/* ---- what is asked ------------------------------------------------------- */

/* Of a request or an upgrade; NULL: not given. */
struct ask {
	const char *protocol, *transport, *sid, *jsonp;
	bool upgrade, get;
};

/* As npm engine.io's verify(); true where nothing is wrong. */
static bool
verify(struct eio_server *server, const struct ask *ask, enum eio_refusal *ret)
{
	const char *transport = ask->transport == NULL ? "" : ask->transport;
	bool websocket = strcmp(transport, "websocket") == 0;
	bool version = ask->protocol != NULL && strcmp(ask->protocol, "4") == 0;
	enum eio_standing standing = EIO_UNKNOWN;

	if (ask->sid != NULL)
		standing = eio_server_ask(server, ask->sid);
	if (!websocket && strcmp(transport, "polling") != 0)
		*ret = EIO_UNKNOWN_TRANSPORT;
	else if (ask->sid != NULL && standing == EIO_UNKNOWN)
		*ret = EIO_UNKNOWN_SID;
	else if (ask->sid == NULL && !ask->get)
		*ret = EIO_BAD_HANDSHAKE_METHOD;
	else if (websocket != ask->upgrade || ask->jsonp != NULL ||
	    (ask->sid != NULL && !version) ||
	    (standing == EIO_WEBSOCKET && !ask->upgrade))
		*ret = EIO_BAD_REQUEST;
	else if (!version)
		*ret = EIO_UNSUPPORTED_VERSION;
	else
		return true;
	return false;
}

/* An empty one is none, as there. */
static const char *
or_none(const char *sid)
{
	return sid == NULL || *sid == '\0' ? NULL : sid;
}

static char *
copy_of(const char *s)
{
	return s == NULL ? NULL : xstrdup(s);
}

/* ---- to the hub ------------------------------------------------------------
 */

static struct task *
task_new(struct eio_server *server, const char *sid)
{
	struct task *task = xcalloc(1, sizeof(*task));

	task->server = server;
	task->fd = -1;
	/* one that is longer is no session's, which has been asked */
	if (sid != NULL)
		(void)strncat(task->sid, sid, EIO_SID_BYTES);
	return task;
}

/* What has been handed over is another's. */
static void
task_free(struct task *task)
{
	eio_server_unref(task->server);
	free(task);
}

static void
run_open_polling(void *arg)
{
	struct task *task = arg;

	eio_session_open_polling(task->server, &task->info, task->poll);
	task_free(task);
}

static void
run_poll(void *arg)
{
	struct task *task = arg;

	eio_session_poll(task->server, task->sid, task->poll);
	task_free(task);
}

static void
run_open_websocket(void *arg)
{
	struct task *task = arg;

	if (task->sid[0] == '\0')
		eio_session_open_websocket(task->server, &task->info, task->fd);
	else
		eio_session_probe(task->server, task->sid, task->fd);
	task_free(task);
}

static void
run_post(void *arg)
{
	struct task *task = arg;
	size_t used = 0;

	task->err = eio_session_post(task->server, task->sid,
	    task->payload + task->used, task->len - task->used, &used);
	task->used += used;
}

static void
run_fail(void *arg)
{
	struct task *task = arg;

	eio_session_fail(task->server, task->sid);
}

/* ---- requests --------------------------------------------------------------
 */

static void
refuse(struct request *req, enum eio_refusal code)
{
	request_reply_json(req, 400, eio_refusal_body(code));
}

static void
reply_later(struct request *req, enum err err)
{
	request_add_header(req, "Retry-After", RETRY_AFTER_S);
	request_reply_error(req, err, NULL);
}

typedef const char *find_header(const void *source, const char *name);

/* Of all that a handshake says what is asked for later. */
static struct eio_info
info_of(const struct config *config, const char *address, find_header *find,
    const void *source)
{
	return (struct eio_info){
		.address = copy_of(address),
		.authorization = copy_of(find(source, "authorization")),
		.anon_id = copy_of(find(source, "x-anon-id")),
		.origin = copy_of(find(source, "origin")),
		.host = copy_of(find(source, "host")),
		.fetch_site = copy_of(find(source, "sec-fetch-site")),
		.cookie = identity_keep_cookies(config, find(source, "cookie")),
	};
}

static const char *
of_request(const void *source, const char *name)
{
	return request_header(source, name);
}

static const char *
of_tunnel(const void *source, const char *name)
{
	return wire_headers_find(source, name);
}

/* A handshake, or a poll: the hub answers it. */
static void
park(struct request *req, struct eio_server *server, const char *sid)
{
	struct task *task = task_new(server, sid);
	hub_run *run = sid == NULL ? run_open_polling : run_poll;
	enum err err;

	if (sid == NULL)
		task->info = info_of(request_config(req), request_client(req),
		    of_request, req);
	err = parked_take(req, &task->poll, NULL);
	if (err != ERR_OK) {
		eio_info_done(&task->info);
		reply_later(req, err);
		task_free(task);
	} else if (!hub_post(run, task)) {
		parked_drop(task->poll);
		eio_info_done(&task->info);
		task_free(task);
	}
}

/* The payload of a POST goes to the session, in the hub, and we wait. */
static void
deliver(struct request *req, struct task *task, const char *data, size_t len)
{
	bool called = true;

	task->payload = xstrndup(data, len);
	task->len = len;
	while (called && task->err == ERR_OK && task->used < len)
		called = hub_call(run_post, task);
	if (!called)
		reply_later(req, ERR_UNAVAIL);
	else if (task->err == ERR_OK)
		request_reply(req, 200, "text/html", "ok", 2);
	else if (task->err == ERR_NOTFOUND)
		refuse(req, EIO_UNKNOWN_SID);
	else
		request_reply_empty(req, 400);
	explicit_bzero(task->payload, len);
	free(task->payload);
}

static void
read_and_deliver(struct request *req, struct task *task)
{
	/* what clients say of texts: binary data comes as base64 in them */
	static const char *const types[] = { "text/plain",
		"application/x-www-form-urlencoded", "application/json",
		"text/html", NULL };
	const struct eio_rules *rules = eio_server_rules(task->server);
	const char *data, *type;
	size_t len;
	enum err err = request_body(req, types, rules->max_payload, &data, &len,
	    &type, NULL);

	if (err == ERR_OK) {
		deliver(req, task, data, len);
	} else if (err == ERR_LIMIT) {
		request_reply_empty(req, 413);
	} else {
		(void)!hub_call(run_fail, task);
		request_reply_empty(req, 400);
	}
}

static void
post(struct request *req, struct eio_server *server, const char *sid)
{
	struct task *task = task_new(server, sid);

	if (eio_server_begin_post(server, task->sid)) {
		read_and_deliver(req, task);
		eio_server_end_post(server, task->sid);
	} else {
		/* two at once: their order would be chance */
		(void)!hub_call(run_fail, task);
		request_reply_empty(req, 400);
	}
	task_free(task);
}

static void
open_session(struct request *req, struct eio_server *server)
{
	enum err err = eio_server_admit(server, request_client(req));

	if (err == ERR_OK)
		park(req, eio_server_ref(server), NULL);
	else
		reply_later(req, err);
}

/* ERR_PROTO where the query is malformed. */
static enum err
read_query(struct request *req, struct ask *ret)
{
	const struct {
		const char *name, **value;
	} parameters[] = {
		{ "EIO", &ret->protocol },
		{ "transport", &ret->transport },
		{ "sid", &ret->sid },
		{ "j", &ret->jsonp },
	};
	enum err err = ERR_OK;

	for (size_t i = 0;
	     err == ERR_OK && i < sizeof(parameters) / sizeof(parameters[0]);
	     i++)
		err = request_query(req, parameters[i].name,
		    parameters[i].value, NULL);
	ret->sid = or_none(ret->sid);
	return err;
}

/* Polls of a session are how it is carried; all else is a request. */
static bool
is_carried(struct eio_server *server, const struct ask *ask)
{
	return ask->sid != NULL &&
	    eio_server_ask(server, ask->sid) != EIO_UNKNOWN;
}

void
eio_handle(struct request *req)
{
	struct eio_server *server = eio_server_find(request_path(req));
	const char *method = request_method(req);
	struct ask ask = { .get = strcmp(method, "GET") == 0 };
	struct diag diag = { "" };
	enum eio_refusal code;
	bool malformed;

	if (server == NULL) {
		request_reply_error(req, ERR_NOTFOUND, NULL);
		return;
	}
	malformed = read_query(req, &ask) != ERR_OK;
	if (!is_carried(server, &ask) &&
	    admission_check_address(req, &diag) != ERR_OK)
		request_reply_error(req, ERR_RATE, diag.text);
	else if (malformed)
		refuse(req, EIO_BAD_REQUEST);
	else if (!verify(server, &ask, &code))
		refuse(req, code);
	else if (ask.sid == NULL)
		open_session(req, server);
	else if (ask.get)
		park(req, eio_server_ref(server), ask.sid);
	else if (strcmp(method, "POST") == 0)
		post(req, eio_server_ref(server), ask.sid);
	else
		refuse(req, EIO_BAD_REQUEST);
	eio_server_unref(server);
}

/* ---- for tunnels -----------------------------------------------------------
 */

enum err
eio_may_open(const struct target *target, const char *address,
    json_t **ret_body, struct diag *diag)
{
	struct eio_server *server = eio_server_find(target->path);
	const struct ask ask = {
		.protocol = target_find(target, "EIO"),
		.transport = target_find(target, "transport"),
		.sid = or_none(target_find(target, "sid")),
		.upgrade = true,
		.get = true,
	};
	enum eio_refusal code;
	enum err err = ERR_OK;

	if (server == NULL) {
		diag_set(diag, "Engine.IO is not served here any more");
		return ERR_NOTFOUND;
	}
	if (!verify(server, &ask, &code)) {
		diag_set(diag, "Engine.IO refuses it, with code %d", (int)code);
		*ret_body = eio_refusal_body(code);
		err = ERR_PROTO;
	} else if (ask.sid == NULL) {
		err = eio_server_admit(server, address);
		if (err != ERR_OK)
			diag_set(diag, "there are too many sessions");
	}
	eio_server_unref(server);
	return err;
}

void
eio_open(const struct config *config, const struct target *target,
    const struct wire_headers *headers, const char *address, int fd)
{
	struct eio_server *server = eio_server_find(target->path);
	struct task *task;

	if (server == NULL) {
		(void)close(fd);
		return;
	}
	task = task_new(server, or_none(target_find(target, "sid")));
	task->fd = fd;
	if (task->sid[0] == '\0')
		task->info = info_of(config, address, of_tunnel, headers);
	if (!hub_post(run_open_websocket, task)) {
		(void)close(fd);
		eio_info_done(&task->info);
		task_free(task);
	}
}
