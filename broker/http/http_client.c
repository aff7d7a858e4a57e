/* SPDX-License-Identifier: MIT */
#include "broker/http/http_client.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "broker/hub/hub.h"
#include "broker/tunnels/resolver.h"
#include "common/clock.h"
#include "common/xalloc.h"

/* Of streams: read at a time; connections that wait to be used again. */
#define READ_BYTES	 4096
#define KEPT_CONNECTIONS 64

/* What is checked of an answer, and of where it comes from. */
struct checks {
	size_t max_bytes;
	bool too_large;
	bool allow_private;
	bool refused; /* an address was, because it is not public */
	char address[INET6_ADDRSTRLEN];
	bool has_head; /* whole, and the last one: libcurl takes half of one */
};

/* One call: what the callbacks of libcurl fill in. */
struct call {
	CURL *curl;
	struct checks checks;
	struct http_client_answer *answer;
	size_t size; /* of answer->body */
};

/* ---- callbacks ----------------------------------------------------------- */

/* Double the memory; what was there is cleared, it may be a token. */
static void
grow(struct call *call, size_t needed)
{
	struct http_client_answer *answer = call->answer;
	size_t size = call->size == 0 ? 1024 : call->size;
	char *body;

	while (size < needed)
		size *= 2;
	body = xcalloc(1, size);
	if (answer->body != NULL) {
		memcpy(body, answer->body, answer->body_len);
		explicit_bzero(answer->body, answer->body_len);
		free(answer->body);
	}
	answer->body = body;
	call->size = size;
}

/* A line of a head has come; whether it is the last one of the last head. */
static bool
note_head(CURL *curl, const char *line, struct checks *checks)
{
	long status = 0;

	if (checks->has_head || (*line != '\r' && *line != '\n'))
		return false;
	(void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	checks->has_head = status >= 200;
	return checks->has_head;
}

static size_t
take_head_line(char *line, size_t size, size_t count, void *arg)
{
	struct call *call = arg;

	(void)note_head(call->curl, line, &call->checks);
	return size * count;
}

static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
	struct call *call = arg;
	struct http_client_answer *answer = call->answer;
	size_t len = size * count;

	if (len > call->checks.max_bytes - answer->body_len) {
		call->checks.too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (answer->body_len + len + 1 > call->size)
		grow(call, answer->body_len + len + 1);
	memcpy(answer->body + answer->body_len, data, len);
	answer->body_len += len;
	answer->body[answer->body_len] = '\0';
	return len;
}

static bool
is_public(struct checks *checks, const struct curl_sockaddr *to)
{
	const void *addr = &to->addr, *in = NULL;

	if (to->family == AF_INET)
		in = &((const struct sockaddr_in *)addr)->sin_addr;
	else if (to->family == AF_INET6)
		in = &((const struct sockaddr_in6 *)addr)->sin6_addr;
	return in != NULL &&
	    inet_ntop(to->family, in, checks->address,
		sizeof(checks->address)) != NULL &&
	    resolver_is_public(checks->address);
}

/* The address that is dialled is the one that is checked: no second lookup. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct checks *checks = arg;

	(void)purpose;
	if (!checks->allow_private && !is_public(checks, to)) {
		checks->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ---- one request --------------------------------------------------------- */

/* The caller frees the list, whose texts may be secrets. */
static struct curl_slist *
format_headers(const struct http_client_request *request)
{
	struct curl_slist *list = NULL;

	for (size_t i = 0; i < request->header_count; i++) {
		const struct http_client_header *h = &request->headers[i];
		char *line = xasprintf("%s: %s%s", h->name, h->value,
		    h->secret == NULL ? "" : secret_peek(h->secret, NULL));
		struct curl_slist *longer = curl_slist_append(list, line);

		explicit_bzero(line, strlen(line));
		free(line);
		if (longer == NULL)
			abort(); /* out of memory */
		list = longer;
	}
	return list;
}

static void
free_headers(struct curl_slist *list)
{
	for (struct curl_slist *item = list; item != NULL; item = item->next)
		explicit_bzero(item->data, strlen(item->data));
	curl_slist_free_all(list);
}

static struct checks
checks_of(const struct http_client_request *request)
{
	return (struct checks){ .max_bytes = request->max_bytes,
		.allow_private = request->allow_private };
}

/* A handle with what does not depend on the request. */
static CURL *
new_handle(struct checks *checks)
{
	CURL *curl = curl_easy_init();

	if (curl == NULL)
		abort(); /* out of memory */
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	(void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
	(void)curl_easy_setopt(curl, CURLOPT_SSLVERSION,
	    (long)CURL_SSLVERSION_TLSv1_2);
	(void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION,
	    (long)CURL_HTTP_VERSION_1_1);
	/* a lookup that hangs must not outlast the deadline */
	(void)curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, checks);
	return curl;
}

/* ERR_SYS where this libcurl cannot do what the request asks for. */
static enum err
set_request(CURL *curl, const struct http_client_request *request,
    struct curl_slist *headers, struct diag *diag)
{
	CURLcode rc = curl_easy_setopt(curl, CURLOPT_URL, request->url);

	if (rc == CURLE_OK && strcmp(request->method, "GET") != 0) {
		(void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)request->body_len);
		rc = curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
		    request->body == NULL ? "" : request->body);
	}
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST,
		    request->method);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	if (rc == CURLE_OK && request->ca_file != NULL) {
		(void)curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
		rc = curl_easy_setopt(curl, CURLOPT_CAINFO, request->ca_file);
	}
	if (rc == CURLE_OK)
		return ERR_OK;
	diag_set(diag, "the request cannot be made: %s",
	    curl_easy_strerror(rc));
	return ERR_SYS;
}

static char *
copy_header(CURL *curl, const char *name)
{
	struct curl_header *header;

	if (curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &header) !=
	    CURLHE_OK)
		return NULL;
	return xstrdup(header->value);
}

static void
take_head(struct call *call)
{
	struct http_client_answer *answer = call->answer;
	long status = 0;

	(void)curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int)status;
	answer->content_type = copy_header(call->curl, "Content-Type");
	if (answer->content_type == NULL)
		answer->content_type = xstrdup("");
	answer->location = copy_header(call->curl, "Location");
	answer->retry_after = copy_header(call->curl, "Retry-After");
	if (answer->body == NULL)
		answer->body = xstrdup("");
}

/* What a transfer's end means; libcurl's own words hold no content. */
static enum err
judge(const struct checks *checks, CURLcode rc, const char *text,
    struct diag *diag)
{
	if (rc == CURLE_OK && checks->has_head)
		return ERR_OK;
	if (rc == CURLE_OK)
		text = "the head of the answer was cut";
	if (checks->too_large) {
		diag_set(diag, "the answer is larger than %zu bytes",
		    checks->max_bytes);
		return ERR_LIMIT;
	}
	if (checks->refused) {
		diag_set(diag,
		    "the host has the address %s, which is not public: set "
		    "allow_private to dial it",
		    checks->address);
		return ERR_UPSTREAM;
	}
	diag_set(diag, "%s", *text != '\0' ? text : curl_easy_strerror(rc));
	return rc == CURLE_OPERATION_TIMEDOUT ? ERR_UPSTREAM_TIMEOUT
					      : ERR_UPSTREAM;
}

static const char no_time[] = "there was no time left for the request";

static enum err
perform(struct call *call, int64_t deadline_ms, struct diag *diag)
{
	int64_t left_ms = deadline_ms - clock_ms();
	char text[CURL_ERROR_SIZE] = "";
	enum err err;

	if (left_ms <= 0) {
		diag_set(diag, "%s", no_time);
		return ERR_UPSTREAM_TIMEOUT;
	}
	(void)curl_easy_setopt(call->curl, CURLOPT_TIMEOUT_MS, (long)left_ms);
	(void)curl_easy_setopt(call->curl, CURLOPT_ERRORBUFFER, text);
	(void)curl_easy_setopt(call->curl, CURLOPT_HEADERFUNCTION,
	    take_head_line);
	(void)curl_easy_setopt(call->curl, CURLOPT_HEADERDATA, call);
	(void)curl_easy_setopt(call->curl, CURLOPT_WRITEFUNCTION, take_body);
	(void)curl_easy_setopt(call->curl, CURLOPT_WRITEDATA, call);
	(void)curl_easy_setopt(call->curl, CURLOPT_FORBID_REUSE, 1L);
	err = judge(&call->checks, curl_easy_perform(call->curl), text, diag);
	if (err == ERR_OK)
		take_head(call);
	return err;
}

enum err
http_client_send(const struct http_client_request *request,
    struct http_client_answer *ret, struct diag *diag)
{
	struct http_client_answer answer = { .body = NULL };
	struct call call = { .checks = checks_of(request), .answer = &answer };
	struct curl_slist *headers = format_headers(request);
	enum err err;

	call.curl = new_handle(&call.checks);
	err = set_request(call.curl, request, headers, diag);
	if (err == ERR_OK)
		err = perform(&call, request->deadline_ms, diag);
	curl_easy_cleanup(call.curl);
	free_headers(headers);
	if (err == ERR_OK)
		*ret = answer;
	else
		http_client_answer_done(&answer);
	return err;
}

void
http_client_answer_done(struct http_client_answer *answer)
{
	if (answer->body != NULL)
		explicit_bzero(answer->body, answer->body_len);
	free(answer->body);
	free(answer->content_type);
	free(answer->location);
	free(answer->retry_after);
	*answer = (struct http_client_answer){ .body = NULL };
}

/* ---- an answer that comes piece by piece --------------------------------- */

struct http_stream {
	TAILQ_ENTRY(http_stream) entry; /* in fresh or in dead */
	enum {
		FRESH, /* libcurl has to be given it */
		GIVEN,
		OVER,
	} state;
	bool freed; /* while libcurl was busy */
	struct http_stream_events events;
	void *arg;
	CURL *curl;
	struct curl_slist *headers;
	struct checks checks;
	size_t received;
	struct loop_timer *timer; /* to the deadline; or soon, where unfit */
	enum err unfit; /* the request cannot be made; why is in diag */
	struct diag diag;
	char text[CURL_ERROR_SIZE];
};

TAILQ_HEAD(http_streams, http_stream);

/*
 * The hub's.  libcurl calls back while it is busy, and may not be called then:
 * streams that start or end meanwhile wait for the end of that.
 */
static struct {
	CURLM *multi; /* NULL: nobody has streamed yet */
	struct loop_timer *timer;
	bool busy;
	struct http_streams fresh, dead;
	size_t count;
} hub = {
	.fresh = TAILQ_HEAD_INITIALIZER(hub.fresh),
	.dead = TAILQ_HEAD_INITIALIZER(hub.dead),
};

/* A socket of libcurl's that it wants to be watched. */
struct watched {
	curl_socket_t fd;
	struct loop_watch *watch;
};

static void
destroy(struct http_stream *stream)
{
	if (stream->state == GIVEN)
		(void)curl_multi_remove_handle(hub.multi, stream->curl);
	curl_easy_cleanup(stream->curl);
	free_headers(stream->headers);
	free(stream);
	hub.count--;
}

void
http_stream_free(struct http_stream *stream)
{
	if (stream == NULL)
		return;
	loop_timer_free(stream->timer);
	if (!hub.busy) {
		destroy(stream);
		return;
	}
	if (stream->state == FRESH)
		TAILQ_REMOVE(&hub.fresh, stream, entry);
	stream->freed = true;
	TAILQ_INSERT_TAIL(&hub.dead, stream, entry);
}

/* Its last event; the callee frees it, perhaps in this call. */
static void
tell_end(struct http_stream *stream, enum err err, const struct diag *diag)
{
	if (stream->state == GIVEN)
		(void)curl_multi_remove_handle(hub.multi, stream->curl);
	stream->state = OVER;
	loop_timer_stop(stream->timer);
	stream->events.ended(stream->arg, err, diag);
}

static void
give(struct http_stream *stream)
{
	CURLMcode rc = curl_multi_add_handle(hub.multi, stream->curl);

	if (rc != CURLM_OK)
		abort(); /* out of memory, or a fault of ours */
	stream->state = GIVEN;
}

static void
take_results(void)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(hub.multi, &left)) != NULL) {
		struct http_stream *stream = NULL;
		struct diag diag = { "" };
		enum err err;

		(void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE,
		    (char **)&stream);
		err = judge(&stream->checks, msg->data.result, stream->text,
		    &diag);
		tell_end(stream, err, &diag);
	}
}

/* Have libcurl go on; then do what could not be done meanwhile. */
static void
act(curl_socket_t fd, int what)
{
	struct http_stream *stream;
	int running;

	hub.busy = true;
	(void)curl_multi_socket_action(hub.multi, fd, what, &running);
	hub.busy = false;
	while ((stream = TAILQ_FIRST(&hub.dead)) != NULL) {
		TAILQ_REMOVE(&hub.dead, stream, entry);
		destroy(stream);
	}
	while ((stream = TAILQ_FIRST(&hub.fresh)) != NULL) {
		TAILQ_REMOVE(&hub.fresh, stream, entry);
		give(stream);
	}
	take_results();
}

/* ---- what libcurl calls ---- */

static void
on_ready(void *arg, bool readable, bool writable)
{
	const struct watched *watched = arg;

	act(watched->fd,
	    (readable ? CURL_CSELECT_IN : 0) |
		(writable ? CURL_CSELECT_OUT : 0));
}

static int
watch_socket(CURL *curl, curl_socket_t fd, int what, void *arg, void *socket)
{
	struct watched *watched = socket;

	(void)curl;
	(void)arg;
	if (what == CURL_POLL_REMOVE) {
		if (watched != NULL)
			loop_watch_free(watched->watch);
		free(watched);
		return 0;
	}
	if (watched == NULL) {
		watched = xcalloc(1, sizeof(*watched));
		watched->fd = fd;
		watched->watch =
		    loop_watch_new(hub_loop(), fd, on_ready, watched);
		(void)curl_multi_assign(hub.multi, fd, watched);
	}
	loop_watch_set(watched->watch, (what & CURL_POLL_IN) != 0,
	    (what & CURL_POLL_OUT) != 0);
	return 0;
}

static void
on_multi_timer(void *arg)
{
	(void)arg;
	act(CURL_SOCKET_TIMEOUT, 0);
}

static int
set_multi_timer(CURLM *multi, long ms, void *arg)
{
	(void)multi;
	(void)arg;
	if (ms < 0)
		loop_timer_stop(hub.timer);
	else
		loop_timer_set(hub.timer, ms);
	return 0;
}

/* Whether it may go on. */
static bool
note_received(struct http_stream *stream, size_t len)
{
	stream->checks.too_large =
	    len > stream->checks.max_bytes - stream->received;
	if (!stream->checks.too_large)
		stream->received += len;
	return !stream->checks.too_large && !stream->freed;
}

static void
tell_head(struct http_stream *stream)
{
	char *type = copy_header(stream->curl, "Content-Type");
	char *after = copy_header(stream->curl, "Retry-After");
	long status = 0;

	(void)curl_easy_getinfo(stream->curl, CURLINFO_RESPONSE_CODE, &status);
	stream->events.head(stream->arg, (int)status, type == NULL ? "" : type,
	    after);
	free(type);
	free(after);
}

/* A line of the head; or, behind the body, of the trailer. */
static size_t
take_line(char *line, size_t size, size_t count, void *arg)
{
	struct http_stream *stream = arg;
	size_t len = size * count;

	if (!note_received(stream, len))
		return 0;
	if (note_head(stream->curl, line, &stream->checks))
		tell_head(stream);
	return stream->freed ? 0 : len;
}

static size_t
take_piece(char *data, size_t size, size_t count, void *arg)
{
	struct http_stream *stream = arg;
	size_t len = size * count;

	if (!note_received(stream, len))
		return CURL_WRITEFUNC_ERROR;
	stream->events.data(stream->arg, data, len);
	return stream->freed ? CURL_WRITEFUNC_ERROR : len;
}

/*
 * A connection may be used again that was opened for somebody who may go where
 * this one may not.
 */
static int
check_connection(void *arg, char *to, char *from, int to_port, int from_port)
{
	struct checks *checks = arg;

	(void)from;
	(void)to_port;
	(void)from_port;
	if (checks->allow_private || resolver_is_public(to))
		return CURL_PREREQFUNC_OK;
	checks->refused = true;
	(void)snprintf(checks->address, sizeof(checks->address), "%s", to);
	return CURL_PREREQFUNC_ABORT;
}

/* ---- one stream ---- */

static void
on_stream_timer(void *arg)
{
	struct http_stream *stream = arg;

	if (stream->unfit != ERR_OK) {
		tell_end(stream, stream->unfit, &stream->diag);
		return;
	}
	diag_set(&stream->diag, "%s",
	    stream->state == OVER ? no_time : "the answer took too long");
	tell_end(stream, ERR_UPSTREAM_TIMEOUT, &stream->diag);
}

static void
set_multi_up(void)
{
	hub.multi = curl_multi_init();
	if (hub.multi == NULL)
		abort(); /* out of memory */
	hub.timer = loop_timer_new(hub_loop(), on_multi_timer, NULL);
	(void)curl_multi_setopt(hub.multi, CURLMOPT_SOCKETFUNCTION,
	    watch_socket);
	(void)curl_multi_setopt(hub.multi, CURLMOPT_TIMERFUNCTION,
	    set_multi_timer);
	(void)curl_multi_setopt(hub.multi, CURLMOPT_MAXCONNECTS,
	    (long)KEPT_CONNECTIONS);
}

static void
set_stream(struct http_stream *stream,
    const struct http_client_request *request)
{
	CURL *curl = stream->curl;

	stream->unfit =
	    set_request(curl, request, stream->headers, &stream->diag);
	if (request->body != NULL) /* sized above; copied here */
		(void)curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS,
		    request->body);
	(void)curl_easy_setopt(curl, CURLOPT_PRIVATE, stream);
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, stream->text);
	(void)curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long)READ_BYTES);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_line);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, stream);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_piece);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, stream);
	(void)curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, check_connection);
	(void)curl_easy_setopt(curl, CURLOPT_PREREQDATA, &stream->checks);
}

struct http_stream *
http_stream_start(const struct http_client_request *request,
    const struct http_stream_events *events, void *arg)
{
	struct http_stream *stream = xcalloc(1, sizeof(*stream));
	int64_t now = clock_ms();

	if (hub.multi == NULL)
		set_multi_up();
	hub.count++;
	stream->events = *events;
	stream->arg = arg;
	stream->checks = checks_of(request);
	stream->headers = format_headers(request);
	stream->curl = new_handle(&stream->checks);
	stream->timer = loop_timer_new(hub_loop(), on_stream_timer, stream);
	set_stream(stream, request);
	loop_timer_set(stream->timer, request->deadline_ms - now);
	if (stream->unfit != ERR_OK || now >= request->deadline_ms) {
		stream->state = OVER;
		loop_timer_set(stream->timer, 0);
	} else if (hub.busy) {
		TAILQ_INSERT_TAIL(&hub.fresh, stream, entry);
	} else {
		give(stream);
	}
	return stream;
}

void
http_stream_done(void *unused)
{
	(void)unused;
	assert(hub.count == 0);
	if (hub.multi == NULL)
		return;
	(void)curl_multi_cleanup(hub.multi);
	hub.multi = NULL;
	loop_timer_free(hub.timer);
	hub.timer = NULL;
}

/* ---- once in a process --------------------------------------------------- */

/* libcurl's own copies of keys and tokens do not stay in memory. */
static void
clear_and_free(void *p)
{
	if (p != NULL)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static void *
clear_and_realloc(void *p, size_t size)
{
	size_t old = p == NULL ? 0 : malloc_usable_size(p);
	void *new = malloc(size);

	if (new == NULL)
		return NULL;
	if (p != NULL)
		memcpy(new, p, old < size ? old : size);
	clear_and_free(p);
	return new;
}

enum err
http_client_init(struct diag *diag)
{
	CURLcode rc = curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc,
	    clear_and_free, clear_and_realloc, strdup, calloc);

	if (rc == CURLE_OK)
		return ERR_OK;
	diag_set(diag, "libcurl cannot be initialised: %s",
	    curl_easy_strerror(rc));
	return ERR_SYS;
}

void
http_client_done(void)
{
	curl_global_cleanup();
}
