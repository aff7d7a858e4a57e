/* SPDX-License-Identifier: MIT */
#include "front.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/crypt.h"
#include "common/str.h"
#include "common/xalloc.h"
#include "raw.h"

#define HEAD_TIMEOUT_MS 30000
#define THREADS_MAX	2048
#define STACK_BYTES	(256 * 1024)
#define STOP_TIMEOUT_S	5

/* A connection as long as a thread of ours serves it. */
struct guest {
	LIST_ENTRY(guest) entry;
	struct front *front;
	int fd;	     /* -1 once it is somebody else's */
	int pair_fd; /* our end of a pair, or -1 */
	bool tls;
};

struct front {
	const struct routes *routes;
	struct ws *ws;
	struct http *http;
	struct stream_tls *tls;
	int listeners[PORT_COUNT], ports[PORT_COUNT];
	int stop_fd;
	pthread_t thread;
	bool started, stopping;
	pthread_mutex_t mutex;
	pthread_cond_t gone;
	LIST_HEAD(, guest) guests;
	unsigned guest_count;
};

/* ---- one connection ---- */

static void
set_nonblocking(int fd)
{
	int one = 1;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/*
 * A pair of connected TCP sockets: unlike a Unix pair, it can carry a reset
 * from libwebsockets' side to ours.
 */
static bool
tcp_pair(int fds[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct sockaddr_in us, them;
	socklen_t len = sizeof(addr), us_len = sizeof(us);
	socklen_t them_len = sizeof(them);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fds[1] = -1;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&addr, len) == 0 &&
	    listen(listener, 1) == 0 &&
	    getsockname(listener, (struct sockaddr *)&addr, &len) == 0 &&
	    connect(fds[0], (struct sockaddr *)&addr, len) == 0 &&
	    getsockname(fds[0], (struct sockaddr *)&us, &us_len) == 0)
		fds[1] = accept(listener, (struct sockaddr *)&them, &them_len);
	close(listener);
	if (fds[1] >= 0 && us.sin_port == them.sin_port) {
		set_nonblocking(fds[0]);
		set_nonblocking(fds[1]);
		return true;
	}
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	return false;
}

static const char *
status_text(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 429:
		return "Too Many Requests";
	case 500:
		return "Internal Server Error";
	case 503:
		return "Service Unavailable";
	default:
		return "Simulated";
	}
}

static void
refuse(struct stream *stream, int status, const char *header, const char *body)
{
	char *text = xasprintf("HTTP/1.1 %d %s\r\n"
			       "Content-Type: application/json\r\n"
			       "X-Sim-Marker: SIM-MARKER\r\n"
			       "Content-Length: %zu\r\n%sConnection: close\r\n"
			       "\r\n%s",
	    status, status_text(status), strlen(body), header, body);
	char rest[4096];

	/* Read what was sent: closing over unread bytes would reset. */
	if (stream_write(stream, text, strlen(text)))
		while (stream_read(stream, rest, sizeof(rest), 1000) > 0)
			continue;
	free(text);
}

static void
refuse_as_asked(struct stream *stream, const struct request *r,
    struct record *record)
{
	int status = (int)request_number(r, "status", 503) % 1000;
	const char *after = request_query(r, "retry_after");
	char *header = after == NULL ? xstrdup("")
				     : xasprintf("Retry-After: %s\r\n", after);

	record_status(record, status);
	refuse(stream, status, header,
	    "{\"error\":{\"message\":\"SIM-MARKER refused on request\","
	    "\"type\":\"server_error\",\"param\":null,\"code\":null}}");
	free(header);
}

static void
refuse_key(struct stream *stream, struct record *record)
{
	record_status(record, 401);
	refuse(stream, 401, "",
	    "{\"error\":{\"message\":\"Incorrect API key provided. "
	    "SIM-MARKER\",\"type\":\"invalid_request_error\","
	    "\"param\":null,\"code\":\"invalid_api_key\"}}");
}

/* Can libwebsockets select one of the subprotocols that are offered? */
static bool
is_known_subprotocol(const struct options *o, const char *offered)
{
	size_t len = strlen(offered);

	if (str_list_has(offered, len, "realtime") ||
	    str_list_has(offered, len, "openai-beta.realtime-v1"))
		return true;
	for (size_t i = 0; i < o->subprotocols.count; i++)
		if (str_list_has(offered, len, o->subprotocols.items[i]))
			return true;
	return false;
}

/*
 * What is wrong with a handshake, or NULL: libwebsockets would let some of it
 * pass, or hang up without a word.
 */
static const char *
find_fault(const struct options *o, const struct request *r)
{
	const char *connection = request_header(r, "Connection");
	const char *version = request_header(r, "Sec-WebSocket-Version");
	const char *key = request_header(r, "Sec-WebSocket-Key");
	const char *offered = request_header(r, "Sec-WebSocket-Protocol");
	uint8_t nonce[16];
	size_t len = 0;

	if (strcmp(request_method(r), "GET") != 0)
		return "SIM-MARKER the method is not GET";
	if (connection == NULL ||
	    !str_list_has(connection, strlen(connection), "upgrade"))
		return "SIM-MARKER Connection has no upgrade";
	if (version == NULL || strcmp(version, "13") != 0)
		return "SIM-MARKER Sec-WebSocket-Version is not 13";
	if (key == NULL ||
	    crypt_unbase64(key, strlen(key), nonce, sizeof(nonce), &len) !=
		ERR_OK ||
	    len != sizeof(nonce))
		return "SIM-MARKER Sec-WebSocket-Key is no 16 bytes";
	if (offered != NULL && !is_known_subprotocol(o, offered) &&
	    strncmp(request_path(r), "/raw/", 5) != 0)
		return "SIM-MARKER no subprotocol of those is known";
	return NULL;
}

static void
refuse_bad(struct stream *stream, struct record *record, const char *why)
{
	char *body = xasprintf("{\"error\":{\"message\":\"%s\","
			       "\"type\":\"invalid_request_error\","
			       "\"param\":null,\"code\":null}}",
	    why);

	record_status(record, 400);
	refuse(stream, 400, "", body);
	free(body);
}

static void
refuse_signalling(struct stream *stream, struct record *record, int status)
{
	record_status(record, status);
	refuse(stream, status, "",
	    status == 404
		? "{\"error\":\"Not Found\",\"message\":\"SIM-MARKER There "
		  "is no such engine\"}"
		: "{\"error\":\"Forbidden\",\"message\":\"SIM-MARKER Not a "
		  "session of this engine\"}");
}

/*
 * Who makes the URL of an engine puts no knobs into it: they come from the
 * script.
 */
static void
add_knobs(const struct routes *routes, struct request *request)
{
	char *query = anam_api_is_signalling(request)
	    ? script_take_query(routes->script, request_path(request))
	    : NULL;

	if (query != NULL)
		request_add_query(request, query);
	free(query);
}

/* The connection is no longer ours to shut down. */
static void
disown(struct guest *guest)
{
	pthread_mutex_lock(&guest->front->mutex);
	guest->fd = -1;
	pthread_mutex_unlock(&guest->front->mutex);
}

/* The other thing that a stop has to shut down. */
static void
set_pair(struct guest *guest, int fd)
{
	pthread_mutex_lock(&guest->front->mutex);
	guest->pair_fd = fd;
	if (fd >= 0 && guest->front->stopping)
		shutdown(fd, SHUT_RDWR);
	pthread_mutex_unlock(&guest->front->mutex);
}

/* Where the rest is served: the socket itself, or the end of a pair. */
static void
hand_over(struct guest *guest, struct stream *stream, struct request *request,
    struct record *record, const char *seen, size_t seen_len)
{
	struct front *front = guest->front;
	int fds[2] = { -1, -1 }, fd;

	if (stream_is_tls(stream)) {
		if (!tcp_pair(fds)) {
			record_end(record);
			request_free(request);
			return;
		}
		fd = fds[0];
		/* Into an empty socket buffer: it fits. */
		if (send(fds[1], seen, seen_len, MSG_NOSIGNAL) < 0)
			shutdown(fds[1], SHUT_RDWR);
	} else {
		disown(guest);
		fd = stream_take_fd(stream);
	}
	if (record != NULL) {
		ws_adopt(front->ws, fd, request, record);
	} else {
		request_free(request);
		http_adopt(front->http, fd, guest->tls);
	}
	if (stream_is_tls(stream)) {
		set_pair(guest, fds[1]);
		stream_pump(stream, fds[1]);
		set_pair(guest, -1);
		close(fds[1]);
	}
}

static void
serve_upgrade(struct guest *guest, struct stream *stream,
    struct request *request, char *seen, size_t seen_len)
{
	const struct routes *routes = guest->front->routes;
	struct record *record =
	    journal_note(routes->journal, request, guest->tls);
	const char *why = find_fault(routes->options, request);
	bool here = true;

	add_knobs(routes, request);
	if (why != NULL) {
		refuse_bad(stream, record, why);
	} else if (request_wants(request, "delay") &&
	    !stream_wait(stream, (int)request_number(request, "ms", 1000))) {
		record_status(record, 0);
	} else if (request_wants(request, "refuse")) {
		refuse_as_asked(stream, request, record);
	} else if (request_wants(request, "http401")) {
		refuse_key(stream, record);
	} else if (anam_api_is_signalling(request) &&
	    anam_api_check(routes->anam, request) != 0) {
		refuse_signalling(stream, record,
		    anam_api_check(routes->anam, request));
	} else if (strncmp(request_path(request), "/raw/", 5) == 0) {
		size_t head = request_head_len(seen, seen_len);

		if (!stream_is_tls(stream)) /* the head is still unread */
			seen_len = (size_t)stream_read(stream, seen, head, 0);
		raw_serve(stream, request, record, seen + head,
		    seen_len - head);
	} else {
		here = false;
		hand_over(guest, stream, request, record, seen, seen_len);
	}
	if (here) {
		record_end(record);
		request_free(request);
	}
}

static void
serve(struct guest *guest)
{
	struct stream *stream = NULL;
	struct request *request = NULL;
	char *seen;
	size_t len;

	if (stream_new(guest->fd, guest->tls ? guest->front->tls : NULL,
		&stream) != ERR_OK) {
		disown(guest);
		return;
	}
	seen = xcalloc(REQUEST_HEAD_MAX, 1);
	len = stream_peek_head(stream, seen, REQUEST_HEAD_MAX, HEAD_TIMEOUT_MS);
	if (len > 0 && request_parse(seen, len, &request) != ERR_OK)
		refuse(stream, 400, "", "{}");
	else if (len > 0 && request_is_upgrade(request))
		serve_upgrade(guest, stream, request, seen, len);
	else if (len > 0)
		hand_over(guest, stream, request, NULL, seen, len);
	free(seen);
	disown(guest);
	stream_free(stream);
}

static void *
guest_main(void *arg)
{
	struct guest *guest = arg;
	struct front *front = guest->front;

	serve(guest);
	pthread_mutex_lock(&front->mutex);
	LIST_REMOVE(guest, entry);
	front->guest_count--;
	pthread_cond_signal(&front->gone);
	pthread_mutex_unlock(&front->mutex);
	free(guest);
	return NULL;
}

/* ---- the ports ---- */

static void
welcome(struct front *front, int fd, bool tls)
{
	struct guest *guest;
	pthread_attr_t attr;
	pthread_t thread;
	bool ok;

	set_nonblocking(fd);
	pthread_mutex_lock(&front->mutex);
	ok = front->guest_count < THREADS_MAX;
	if (ok) {
		guest = xcalloc(1, sizeof(*guest));
		guest->front = front;
		guest->fd = fd;
		guest->pair_fd = -1;
		guest->tls = tls;
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, STACK_BYTES);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		ok = pthread_create(&thread, &attr, guest_main, guest) == 0;
		pthread_attr_destroy(&attr);
		if (ok) {
			LIST_INSERT_HEAD(&front->guests, guest, entry);
			front->guest_count++;
		} else {
			free(guest);
		}
	}
	pthread_mutex_unlock(&front->mutex);
	if (!ok)
		close(fd);
}

static void *
front_main(void *arg)
{
	struct front *front = arg;
	struct pollfd pfds[PORT_COUNT + 1];

	for (int i = 0; i < PORT_COUNT; i++)
		pfds[i] = (struct pollfd){ .fd = front->listeners[i],
			.events = POLLIN };
	pfds[PORT_COUNT] =
	    (struct pollfd){ .fd = front->stop_fd, .events = POLLIN };
	for (;;) {
		if (poll(pfds, PORT_COUNT + 1, -1) < 0 && errno != EINTR)
			break;
		if (pfds[PORT_COUNT].revents != 0)
			break;
		for (int i = 0; i < PORT_COUNT; i++) {
			int fd;

			if (pfds[i].revents == 0)
				continue;
			fd = accept(pfds[i].fd, NULL, NULL);
			if (fd >= 0)
				welcome(front, fd,
				    i == PORT_WSS || i == PORT_HTTPS);
			else if (errno == EMFILE || errno == ENFILE)
				poll(NULL, 0, 50);
		}
	}
	return NULL;
}

static enum err
listen_on(struct front *front, enum port port, int number, struct diag *diag)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *ai = NULL;
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char service[16];
	int fd = -1, one = 1, gai;

	snprintf(service, sizeof(service), "%d", number);
	gai = getaddrinfo(front->routes->options->bind, service, &hints, &ai);
	if (gai == 0)
		fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 ||
	    listen(fd, 1024) != 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
		diag_set(diag, "cannot listen on %s port %d: %s",
		    front->routes->options->bind, number,
		    gai != 0 ? gai_strerror(gai) : strerror(errno));
		if (fd >= 0)
			close(fd);
		if (ai != NULL)
			freeaddrinfo(ai);
		return ERR_SYS;
	}
	freeaddrinfo(ai);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	front->listeners[port] = fd;
	front->ports[port] = addr.ss_family == AF_INET6
	    ? ntohs(((struct sockaddr_in6 *)&addr)->sin6_port)
	    : ntohs(((struct sockaddr_in *)&addr)->sin_port);
	return ERR_OK;
}

static enum err
listen_all(struct front *front, struct diag *diag)
{
	const struct options *o = front->routes->options;
	const int numbers[PORT_COUNT] = {
		[PORT_WS] = o->ws_port,
		[PORT_HTTP] = o->http_port,
		[PORT_RAW] = o->raw_port,
		[PORT_WSS] = o->wss_port,
		[PORT_HTTPS] = o->https_port,
	};
	enum err err = ERR_OK;

	if (o->cert != NULL)
		err = stream_tls_new(o->cert, o->key, &front->tls, diag);
	for (int i = 0; i < PORT_COUNT && err == ERR_OK; i++)
		if (numbers[i] >= 0)
			err = listen_on(front, (enum port)i, numbers[i], diag);
	return err;
}

enum err
front_new(const struct routes *routes, struct ws *ws, struct http *http,
    struct front **ret, struct diag *diag)
{
	struct front *front = xcalloc(1, sizeof(*front));
	enum err err;

	front->routes = routes;
	front->ws = ws;
	front->http = http;
	front->stop_fd = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&front->mutex, NULL);
	pthread_cond_init(&front->gone, NULL);
	LIST_INIT(&front->guests);
	for (int i = 0; i < PORT_COUNT; i++)
		front->listeners[i] = -1;
	err = listen_all(front, diag);
	if (err == ERR_OK) {
		front->started = pthread_create(&front->thread, NULL,
				     front_main, front) == 0;
		err = front->started ? ERR_OK : ERR_SYS;
	}
	if (err != ERR_OK) {
		front_free(front);
		return err;
	}
	*ret = front;
	return ERR_OK;
}

int
front_port(const struct front *front, enum port port)
{
	return front->ports[port];
}

/* End the connections that are still ours, and wait for their threads. */
static bool
dismiss_guests(struct front *front)
{
	struct timespec until;
	struct guest *guest;
	bool all;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_TIMEOUT_S;
	pthread_mutex_lock(&front->mutex);
	front->stopping = true;
	LIST_FOREACH (guest, &front->guests, entry) {
		if (guest->fd >= 0)
			shutdown(guest->fd, SHUT_RDWR);
		if (guest->pair_fd >= 0)
			shutdown(guest->pair_fd, SHUT_RDWR);
	}
	while (front->guest_count > 0 &&
	    pthread_cond_timedwait(&front->gone, &front->mutex, &until) == 0)
		continue;
	all = front->guest_count == 0;
	pthread_mutex_unlock(&front->mutex);
	return all;
}

void
front_free(struct front *front)
{
	uint64_t one = 1;

	if (front == NULL)
		return;
	if (front->started) {
		if (write(front->stop_fd, &one, sizeof(one)) > 0)
			pthread_join(front->thread, NULL);
		/* What they use would be freed under their feet. */
		if (!dismiss_guests(front))
			_exit(1);
	}
	for (int i = 0; i < PORT_COUNT; i++)
		if (front->listeners[i] >= 0)
			close(front->listeners[i]);
	close(front->stop_fd);
	stream_tls_free(front->tls);
	pthread_cond_destroy(&front->gone);
	pthread_mutex_destroy(&front->mutex);
	free(front);
}
