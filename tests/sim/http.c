/* SPDX-License-Identifier: MIT */
#include "http.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/xalloc.h"

#define TIMEOUT_S 60
#define HEAD_MAX  (64 * 1024)

/* One for what came in the clear, one for what came over TLS. */
enum side {
	CLEAR,
	TLS,
	SIDES,
};

struct server {
	struct http *http;
	struct MHD_Daemon *daemon;
	bool tls;
};

/* One request: the head again as text, as the journal reads it. */
struct exchange {
	TAILQ_ENTRY(exchange) held_entry;
	struct MHD_Connection *connection;
	struct timespec until;
	char *target;
	struct request *request;
	struct record *record;
	struct buf *body;
	bool too_long;
	struct reply *reply;
};

struct http {
	const struct routes *routes;
	struct server servers[SIDES];
	/* Who waits before the answer is sent, and the thread that waits. */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	pthread_t thread;
	bool started, stopping;
	TAILQ_HEAD(, exchange) held;
};

/* ---- answers that are late ---- */

static bool
is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec
				      : a->tv_nsec < b->tv_nsec;
}

/* The one that is due first, or NULL; with the mutex held. */
static struct exchange *
first_held(const struct http *http)
{
	struct exchange *x, *first = NULL;

	TAILQ_FOREACH (x, &http->held, held_entry)
		if (first == NULL || is_before(&x->until, &first->until))
			first = x;
	return first;
}

/* Once the server stops, nobody has to wait any longer. */
static void *
release_main(void *arg)
{
	struct http *http = arg;
	struct exchange *x;

	pthread_mutex_lock(&http->mutex);
	while ((x = first_held(http)) != NULL || !http->stopping) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		if (x == NULL) {
			pthread_cond_wait(&http->changed, &http->mutex);
		} else if (http->stopping || !is_before(&now, &x->until)) {
			TAILQ_REMOVE(&http->held, x, held_entry);
			MHD_resume_connection(x->connection);
		} else {
			struct timespec until = x->until;

			pthread_cond_timedwait(&http->changed, &http->mutex,
			    &until);
		}
	}
	pthread_mutex_unlock(&http->mutex);
	return NULL;
}

/* False once the server stops: it may then be sent at once. */
static bool
hold(struct http *http, struct MHD_Connection *connection, struct exchange *x)
{
	int ms = x->reply->delay_ms;
	bool ok;

	x->reply->delay_ms = 0;
	x->connection = connection;
	clock_gettime(CLOCK_REALTIME, &x->until);
	x->until.tv_sec += ms / 1000;
	x->until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (x->until.tv_nsec >= 1000000000) {
		x->until.tv_sec++;
		x->until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&http->mutex);
	ok = !http->stopping;
	if (ok) {
		MHD_suspend_connection(connection);
		TAILQ_INSERT_TAIL(&http->held, x, held_entry);
		pthread_cond_signal(&http->changed);
	}
	pthread_mutex_unlock(&http->mutex);
	return ok;
}

/* ---- requests ---- */

static enum MHD_Result
send_reply(struct MHD_Connection *connection, struct exchange *x)
{
	struct reply *reply = x->reply;
	struct MHD_Response *response;
	enum MHD_Result result;

	if (reply->drop)
		return MHD_NO;
	response = MHD_create_response_from_buffer(reply->len, reply->text,
	    MHD_RESPMEM_MUST_COPY);
	MHD_add_response_header(response, "Content-Type", reply->type);
	MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
	MHD_add_response_header(response, "Access-Control-Allow-Headers",
	    "authorization, content-type");
	if (reply->location != NULL)
		MHD_add_response_header(response, "Location", reply->location);
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

	(void)arg, (void)connection;
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
		    : routes_answer(server->http->routes, x->request, body, len,
			  server->tls);
	}
	if (x->reply->delay_ms > 0 && hold(server->http, connection, x))
		return MHD_YES;
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
			x->record = journal_note(server->http->routes->journal,
			    x->request, server->tls);
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

	(void)arg, (void)connection, (void)why;
	if (x == NULL)
		return;
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

	server->http = http;
	server->tls = side == TLS;
	server->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD |
		MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME,
	    0, NULL, NULL, on_request, server, MHD_OPTION_CONNECTION_TIMEOUT,
	    (unsigned)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)HEAD_MAX, MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
	    MHD_OPTION_NOTIFY_COMPLETED, on_done, NULL, MHD_OPTION_END);
	return server->daemon != NULL;
}

enum err
http_new(const struct routes *routes, struct http **ret, struct diag *diag)
{
	struct http *http = xcalloc(1, sizeof(*http));

	http->routes = routes;
	pthread_mutex_init(&http->mutex, NULL);
	pthread_cond_init(&http->changed, NULL);
	TAILQ_INIT(&http->held);
	http->started =
	    pthread_create(&http->thread, NULL, release_main, http) == 0;
	if (!http->started || !start_server(http, CLEAR) ||
	    !start_server(http, TLS)) {
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
	if (http->started) {
		pthread_mutex_lock(&http->mutex);
		http->stopping = true;
		pthread_cond_signal(&http->changed);
		pthread_mutex_unlock(&http->mutex);
		pthread_join(http->thread, NULL);
	}
	for (int i = 0; i < SIDES; i++)
		if (http->servers[i].daemon != NULL)
			MHD_stop_daemon(http->servers[i].daemon);
	pthread_cond_destroy(&http->changed);
	pthread_mutex_destroy(&http->mutex);
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
