/* SPDX-License-Identifier: MIT */
#include "http.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "chat_api.h"
#include "common/buf.h"
#include "common/xalloc.h"
#include "pacer.h"

#define TIMEOUT_S   60
#define HEAD_MAX    (64 * 1024)
#define BLOCK_BYTES (16 * 1024)

/* One for what came in the clear, one for what came over TLS. */
enum side {
	CLEAR,
	TLS,
	SIDES,
};

struct server {
	struct MHD_Daemon *daemon;
	bool tls;
};

/* One request: the head again as text, as the journal reads it. */
struct exchange {
	struct http *http;
	struct MHD_Connection *connection;
	struct waiter waiter;
	char *target;
	struct request *request;
	struct record *record;
	struct buf *body;
	bool too_long;
	struct reply *reply;
	const char *text; /* of the chat, and what is left of it */
	size_t text_len;
	bool broken;
};

struct http {
	const struct routes *routes;
	struct server servers[SIDES];
	struct pacer *pacer;
};

/* ---- answers that are late ---- */

static void
resume(void *arg)
{
	struct exchange *x = arg;

	MHD_resume_connection(x->connection);
}

static int
socket_of(struct MHD_Connection *connection)
{
	return MHD_get_connection_info(connection,
	    MHD_CONNECTION_INFO_CONNECTION_FD)
	    ->connect_fd;
}

/* False once the server stops: it may then be sent at once. */
static bool
hold(struct exchange *x, int64_t ms)
{
	MHD_suspend_connection(x->connection);
	if (pacer_wait(x->http->pacer, &x->waiter, socket_of(x->connection), ms,
		x))
		return true;
	MHD_resume_connection(x->connection);
	return false;
}

/* ---- answers in pieces ---- */

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Unlike a close of the socket, not preceded by the end of TCP. */
static void
reset(int fd)
{
	struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	(void)connect(fd, &nobody, sizeof(nobody));
}

/* The next text of the chat; false where *ret is to be said instead. */
static bool
next_text(struct exchange *x, ssize_t *ret)
{
	uint64_t deltas = chat_deltas(x->reply->chat);
	int64_t wait_ms = 0;

	*ret = MHD_CONTENT_READER_END_WITH_ERROR;
	if (x->waiter.gone)
		return false;
	switch (chat_step(x->reply->chat, now_ns(), &x->text, &x->text_len,
	    &wait_ms)) {
	case CHAT_SEND:
		if (chat_deltas(x->reply->chat) > deltas)
			record_delta(x->record);
		return true;
	case CHAT_WAIT:
		if (hold(x, wait_ms))
			*ret = 0;
		return false;
	case CHAT_END:
		*ret = MHD_CONTENT_READER_END_OF_STREAM;
		return false;
	case CHAT_RESET:
		reset(socket_of(x->connection));
		break;
	case CHAT_CUT:
		break;
	}
	x->broken = true;
	return false;
}

static ssize_t
read_chat(void *arg, uint64_t pos, char *data, size_t max)
{
	struct exchange *x = arg;
	uint64_t piece = chat_peek_knobs(x->reply->chat)->piece;
	ssize_t other;
	size_t n;

	(void)pos;
	if (x->text_len == 0 && !next_text(x, &other))
		return other;
	n = x->text_len < max ? x->text_len : max;
	if (piece > 0 && n > piece)
		n = (size_t)piece;
	memcpy(data, x->text, n);
	x->text += n;
	x->text_len -= n;
	return (ssize_t)n;
}

/* ---- requests ---- */

static enum MHD_Result
send_reply(struct MHD_Connection *connection, struct exchange *x)
{
	struct reply *reply = x->reply;
	struct MHD_Response *response;
	enum MHD_Result result;

	x->broken = reply->drop;
	if (reply->drop || x->waiter.gone)
		return MHD_NO;
	response = reply->chat != NULL
	    ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES,
		  read_chat, x, NULL)
	    : MHD_create_response_from_buffer(reply->len, reply->text,
		  MHD_RESPMEM_MUST_COPY);
	MHD_add_response_header(response, "Content-Type", reply->type);
	MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
	MHD_add_response_header(response, "Access-Control-Allow-Headers",
	    "authorization, content-type");
	if (reply->location != NULL)
		MHD_add_response_header(response, "Location", reply->location);
	if (reply->retry_after != NULL)
		MHD_add_response_header(response, "Retry-After",
		    reply->retry_after);
	if (x->record != NULL)
		record_status(x->record, reply->status);
	result =
	    MHD_queue_response(connection, (unsigned)reply->status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
add_header(void *arg, enum MHD_ValueKind kind, const char *name,
    const char *value)
{
	(void)kind;
	fprintf(arg, "%s: %s\r\n", name, value == NULL ? "" : value);
	return MHD_YES;
}

static enum err
read_head(struct MHD_Connection *connection, const char *method,
    struct exchange *x)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	enum err err;

	if (f == NULL)
		return ERR_SYS;
	fprintf(f, "%s %s HTTP/1.1\r\n", method, x->target);
	MHD_get_connection_values(connection, MHD_HEADER_KIND, add_header, f);
	fclose(f);
	err = request_parse(text, len, &x->request);
	free(text);
	return err;
}

static void *
on_target(void *arg, const char *target, struct MHD_Connection *connection)
{
	struct exchange *x = xcalloc(1, sizeof(*x));

	x->http = arg;
	x->connection = connection;
	x->target = xstrdup(target);
	return x;
}

static void
take_body(struct exchange *x, const char *data, size_t len)
{
	if (!x->too_long && buf_add(x->body, data, len) != ERR_OK)
		x->too_long = true;
}

static enum MHD_Result
answer(struct server *server, struct MHD_Connection *connection,
    struct exchange *x)
{
	size_t len = 0;
	const uint8_t *body = buf_peek(x->body, &len);

	if (x->reply == NULL) {
		if (x->record != NULL)
			record_body(x->record, body, len);
		x->reply = x->too_long
		    ? reply_text(413, "text/plain", "The body is too long.")
		    : routes_answer(x->http->routes, x->request, body, len,
			  server->tls);
	}
	if (x->reply->delay_ms > 0) {
		int ms = x->reply->delay_ms;

		x->reply->delay_ms = 0;
		if (hold(x, ms))
			return MHD_YES;
	}
	return send_reply(connection, x);
}

static enum MHD_Result
on_request(void *arg, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *upload,
    size_t *upload_len, void **state)
{
	struct server *server = arg;
	struct exchange *x = *state;

	(void)version;
	if (x->request == NULL) {
		if (read_head(connection, method, x) != ERR_OK)
			return MHD_NO;
		x->body = buf_new(HTTP_BODY_MAX);
		if (strncmp(url, "/sim/", 5) != 0)
			x->record = journal_note(x->http->routes->journal,
			    x->request, server->tls);
		if (strcmp(url, CHAT_PATH) == 0)
			record_chat(x->record);
		return MHD_YES;
	}
	if (*upload_len > 0) {
		take_body(x, upload, *upload_len);
		*upload_len = 0;
		return MHD_YES;
	}
	return answer(server, connection, x);
}

static void
on_done(void *arg, struct MHD_Connection *connection, void **state,
    enum MHD_RequestTerminationCode why)
{
	struct exchange *x = *state;

	(void)arg, (void)connection;
	if (x == NULL)
		return;
	pacer_forget(x->http->pacer, &x->waiter);
	if (x->record != NULL)
		record_outcome(x->record,
		    why == MHD_REQUEST_TERMINATED_COMPLETED_OK
			? OUTCOME_COMPLETE
			: x->broken ||
			    why == MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN
			? OUTCOME_BROKEN
			: OUTCOME_GONE);
	record_end(x->record);
	request_free(x->request);
	buf_free(x->body);
	reply_free(x->reply);
	free(x->target);
	free(x);
	*state = NULL;
}

/* ---- the server ---- */

static bool
start_server(struct http *http, enum side side)
{
	struct server *server = &http->servers[side];

	server->tls = side == TLS;
	server->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD |
		MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME,
	    0, NULL, NULL, on_request, server, MHD_OPTION_CONNECTION_TIMEOUT,
	    (unsigned)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)HEAD_MAX, MHD_OPTION_URI_LOG_CALLBACK, on_target, http,
	    MHD_OPTION_NOTIFY_COMPLETED, on_done, NULL, MHD_OPTION_END);
	return server->daemon != NULL;
}

enum err
http_new(const struct routes *routes, struct http **ret, struct diag *diag)
{
	struct http *http = xcalloc(1, sizeof(*http));

	http->routes = routes;
	if (pacer_new(resume, &http->pacer) != ERR_OK ||
	    !start_server(http, CLEAR) || !start_server(http, TLS)) {
		diag_set(diag, "libmicrohttpd does not start");
		http_free(http);
		return ERR_SYS;
	}
	*ret = http;
	return ERR_OK;
}

void
http_free(struct http *http)
{
	if (http == NULL)
		return;
	pacer_stop(http->pacer); /* what is suspended cannot be stopped */
	for (int i = 0; i < SIDES; i++)
		if (http->servers[i].daemon != NULL)
			MHD_stop_daemon(http->servers[i].daemon);
	pacer_free(http->pacer);
	free(http);
}

void
http_adopt(struct http *http, int fd, bool tls)
{
	struct sockaddr_storage addr = { 0 };
	socklen_t len = sizeof(addr);
	struct MHD_Daemon *daemon = http->servers[tls ? TLS : CLEAR].daemon;

	/* It closes the socket itself where it cannot take it. */
	if (getpeername(fd, (struct sockaddr *)&addr, &len) != 0)
		close(fd);
	else
		(void)MHD_add_connection(daemon, fd, (struct sockaddr *)&addr,
		    len);
}
