/* SPDX-License-Identifier: MIT */
#include "ws.h"

#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "anam_api.h"
#include "common/xalloc.h"
#include "fault.h"

#define RESET_AFTER_US 30000
#define RX_BYTES       (64 * 1024)
#define FDS_MAX	       20000

enum pause_reason {
	PAUSE_APP = 1,
	PAUSE_SLOW = 2,
	PAUSE_STALL = 4,
};

struct chunk {
	STAILQ_ENTRY(chunk) entry;
	size_t len;
	bool binary, first, final;
	uint8_t data[]; /* LWS_PRE, then len bytes */
};

struct ws_conn {
	STAILQ_ENTRY(ws_conn) waiting;
	struct ws *ws;
	struct lws *wsi;
	int fd;
	struct request *request;
	struct record *record;
	struct fault *fault;
	const struct ws_app *app;
	void *data; /* the application's */
	STAILQ_HEAD(, chunk) queue;
	size_t queued;
	uint64_t messages;
	unsigned paused; /* enum pause_reason */
	bool open, closing, dropped;
	int code;
	char reason[124];
	lws_sorted_usec_list_t timer, slow, reset;
};

struct ws {
	const struct options *options;
	struct lws_context *context;
	struct lws_vhost *vhost;
	struct lws_protocols *protocols;
	pthread_mutex_t mutex;
	STAILQ_HEAD(, ws_conn) waiting; /* to be adopted */
	atomic_bool stop;
};

/* ---- what applications use ---- */

const struct request *
ws_conn_request(const struct ws_conn *c)
{
	return c->request;
}

const struct options *
ws_conn_options(const struct ws_conn *c)
{
	return c->ws->options;
}

size_t
ws_conn_queued(const struct ws_conn *c)
{
	return c->queued;
}

void
ws_conn_send(struct ws_conn *c, const void *data, size_t len, bool binary,
    bool first, bool final)
{
	struct chunk *chunk;

	if (c->closing)
		return;
	chunk = xcalloc(1, sizeof(*chunk) + LWS_PRE + len);
	chunk->len = len;
	chunk->binary = binary;
	chunk->first = first;
	chunk->final = final;
	if (len > 0)
		memcpy(chunk->data + LWS_PRE, data, len);
	STAILQ_INSERT_TAIL(&c->queue, chunk, entry);
	c->queued += len;
	lws_callback_on_writable(c->wsi);
}

void
ws_conn_close(struct ws_conn *c, int code, const char *reason)
{
	if (c->closing)
		return;
	c->closing = true;
	c->code = code;
	strncpy(c->reason, reason, sizeof(c->reason) - 1);
	lws_callback_on_writable(c->wsi);
}

static void
set_pause(struct ws_conn *c, enum pause_reason reason, bool pause)
{
	unsigned before = c->paused;

	c->paused = pause ? before | reason : before & ~(unsigned)reason;
	if ((before == 0) != (c->paused == 0))
		lws_rx_flow_control(c->wsi, c->paused == 0);
}

void
ws_conn_pause(struct ws_conn *c, bool pause)
{
	set_pause(c, PAUSE_APP, pause);
}

static void
on_timer(lws_sorted_usec_list_t *sul)
{
	struct ws_conn *c = lws_container_of(sul, struct ws_conn, timer);

	if (c->open)
		c->app->timer(c->data);
}

void
ws_conn_timer(struct ws_conn *c, int ms)
{
	lws_sul_schedule(c->ws->context, 0, &c->timer, on_timer,
	    ms < 0 ? LWS_SET_TIMER_USEC_CANCEL : (lws_usec_t)ms * 1000);
}

/* ---- faults ---- */

static void
on_slow(lws_sorted_usec_list_t *sul)
{
	struct ws_conn *c = lws_container_of(sul, struct ws_conn, slow);

	if (c->open)
		set_pause(c, PAUSE_SLOW, false);
}

static void
reset(struct ws_conn *c)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	/* Disconnects a TCP socket at once, with RST. */
	(void)connect(lws_get_socket_fd(c->wsi), &none, sizeof(none));
	c->dropped = true;
}

static void
on_reset(lws_sorted_usec_list_t *sul)
{
	struct ws_conn *c = lws_container_of(sul, struct ws_conn, reset);

	if (!c->open)
		return;
	reset(c);
	lws_callback_on_writable(c->wsi);
}

/*
 * Do what is due.  The connection ends from the next callback for writing:
 * libwebsockets keeps the socket of one that is refused in ESTABLISHED.
 */
static void
do_fault(struct ws_conn *c)
{
	switch (fault_due(c->fault, c->messages)) {
	case FAULT_NONE:
		break;
	case FAULT_CLOSE:
		ws_conn_close(c, fault_code(c->fault), fault_reason(c->fault));
		break;
	case FAULT_DROP:
		c->dropped = true;
		lws_callback_on_writable(c->wsi);
		break;
	case FAULT_RESET:
		/* It could overtake what was sent: that has time to arrive. */
		lws_sul_schedule(c->ws->context, 0, &c->reset, on_reset,
		    RESET_AFTER_US);
		break;
	case FAULT_STALL:
		set_pause(c, PAUSE_STALL, true);
		break;
	}
}

/* ---- a connection's life ---- */

static const struct ws_app *
find_app(const struct request *r)
{
	static const char realtime[] = "/v1/realtime";
	const char *path = request_path(r);

	if (request_wants(r, "silence") || request_wants(r, "huge") ||
	    request_wants(r, "flood"))
		return &app_silent;
	if (strncmp(path, realtime, sizeof(realtime) - 1) == 0)
		return &app_openai;
	if (strcmp(path, "/sim/anam/engine") == 0)
		return &app_anam_engine;
	if (anam_api_is_signalling(r))
		return &app_anam;
	return &app_echo;
}

static void
conn_free(struct ws_conn *c)
{
	struct chunk *chunk;

	while ((chunk = STAILQ_FIRST(&c->queue)) != NULL) {
		STAILQ_REMOVE_HEAD(&c->queue, entry);
		free(chunk);
	}
	record_end(c->record);
	fault_free(c->fault);
	request_free(c->request);
	free(c);
}

static void
on_open(struct ws_conn *c)
{
	c->open = true;
	record_status(c->record, 101);
	c->app = find_app(c->request);
	c->data = c->app->open(c);
	/* Whatever the knobs want to send is generated when it can go. */
	lws_callback_on_writable(c->wsi);
	do_fault(c);
}

static void
on_receive(struct ws_conn *c, const void *data, size_t len)
{
	bool binary = lws_frame_is_binary(c->wsi);
	bool first = lws_is_first_fragment(c->wsi);
	bool final = lws_is_final_fragment(c->wsi) &&
	    lws_remaining_packet_payload(c->wsi) == 0;
	int ms = fault_pause_ms(c->fault, len);

	record_data(c->record, RECEIVED, binary, len, final);
	if (ms > 0) {
		set_pause(c, PAUSE_SLOW, true);
		lws_sul_schedule(c->ws->context, 0, &c->slow, on_slow,
		    (lws_usec_t)ms * 1000);
	}
	if (!c->closing)
		c->app->piece(c->data, data, len, binary, first, final);
	if (final) {
		c->messages++;
		do_fault(c);
	}
}

static int
write_chunk(struct ws_conn *c)
{
	struct chunk *chunk = STAILQ_FIRST(&c->queue);
	int flags = lws_write_ws_flags(chunk->binary ? LWS_WRITE_BINARY
						     : LWS_WRITE_TEXT,
	    chunk->first, chunk->final);
	int n = lws_write(c->wsi, chunk->data + LWS_PRE, chunk->len,
	    (enum lws_write_protocol)flags);

	STAILQ_REMOVE_HEAD(&c->queue, entry);
	c->queued -= chunk->len;
	if (n >= 0)
		record_data(c->record, SENT, chunk->binary, chunk->len,
		    chunk->final);
	free(chunk);
	return n < 0 ? -1 : 0;
}

static int
on_writable(struct ws_conn *c)
{
	struct fault_piece p;

	if (c->dropped)
		return -1;
	if (!STAILQ_EMPTY(&c->queue) && write_chunk(c) < 0)
		return -1;
	if (STAILQ_EMPTY(&c->queue)) {
		if (c->closing) {
			record_close(c->record, SENT, c->code, c->reason,
			    strlen(c->reason));
			lws_close_reason(c->wsi, (enum lws_close_status)c->code,
			    (unsigned char *)c->reason, strlen(c->reason));
			return -1;
		}
		if (fault_next(c->fault, &p))
			ws_conn_send(c, p.data, p.len, p.binary, p.first,
			    p.final);
		else
			c->app->drained(c->data);
	}
	if (!STAILQ_EMPTY(&c->queue) || c->closing)
		lws_callback_on_writable(c->wsi);
	return 0;
}

static void
on_peer_close(struct ws_conn *c, const uint8_t *data, size_t len)
{
	if (len >= 2)
		record_close(c->record, RECEIVED, data[0] << 8 | data[1],
		    data + 2, len - 2);
	else
		record_close(c->record, RECEIVED, 0, NULL, 0);
}

static void
on_closed(struct ws_conn *c)
{
	if (!c->open)
		return;
	c->open = false;
	ws_conn_timer(c, -1);
	lws_sul_schedule(c->ws->context, 0, &c->slow, on_slow,
	    LWS_SET_TIMER_USEC_CANCEL);
	lws_sul_schedule(c->ws->context, 0, &c->reset, on_reset,
	    LWS_SET_TIMER_USEC_CANCEL);
	c->app->close(c->data);
}

static void
adopt_waiting(struct ws *ws)
{
	struct ws_conn *c;

	for (;;) {
		pthread_mutex_lock(&ws->mutex);
		c = STAILQ_FIRST(&ws->waiting);
		if (c != NULL)
			STAILQ_REMOVE_HEAD(&ws->waiting, waiting);
		pthread_mutex_unlock(&ws->mutex);
		if (c == NULL)
			return;
		c->wsi = lws_adopt_socket_vhost(ws->vhost, c->fd);
		if (c->wsi == NULL)
			conn_free(c);
		else
			lws_set_opaque_user_data(c->wsi, c);
	}
}

static int
callback(struct lws *wsi, enum lws_callback_reasons why, void *user, void *in,
    size_t len)
{
	struct ws_conn *c = wsi == NULL ? NULL : lws_get_opaque_user_data(wsi);

	(void)user;
	if (why == LWS_CALLBACK_EVENT_WAIT_CANCELLED) {
		adopt_waiting(lws_context_user(lws_get_context(wsi)));
		return 0;
	}
	if (c == NULL)
		return 0;
	switch ((int)why) {
	case LWS_CALLBACK_ESTABLISHED:
		on_open(c);
		return 0;
	case LWS_CALLBACK_RECEIVE:
		if (c->open)
			on_receive(c, in, len);
		return 0;
	case LWS_CALLBACK_RECEIVE_PONG:
		record_control(c->record, RECEIVED, true);
		return 0;
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return c->open ? on_writable(c) : 0;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		on_peer_close(c, in, len);
		return 0;
	case LWS_CALLBACK_CLOSED:
		on_closed(c);
		return 0;
	case LWS_CALLBACK_WSI_DESTROY:
		on_closed(c);
		lws_set_opaque_user_data(wsi, NULL);
		conn_free(c);
		return 0;
	default:
		return 0;
	}
}

/* ---- the server ---- */

/* The first serves who offers no subprotocol; the list ends with a NULL. */
static struct lws_protocols *
make_protocols(const struct options *o)
{
	static const char *const fixed[] = { "culvert-sim", "realtime",
		"openai-beta.realtime-v1" };
	size_t n = sizeof(fixed) / sizeof(*fixed), i;
	struct lws_protocols *p;

	p = xcalloc(n + o->subprotocols.count + 1, sizeof(*p));
	for (i = 0; i < n + o->subprotocols.count; i++) {
		p[i].name = i < n ? fixed[i] : o->subprotocols.items[i - n];
		p[i].callback = callback;
		p[i].rx_buffer_size = RX_BYTES;
	}
	return p;
}

enum err
ws_new(const struct options *options, struct ws **ret, struct diag *diag)
{
	struct lws_context_creation_info info = { 0 };
	struct ws *ws = xcalloc(1, sizeof(*ws));

	lws_set_log_level(LLL_ERR, NULL);
	pthread_mutex_init(&ws->mutex, NULL);
	STAILQ_INIT(&ws->waiting);
	ws->options = options;
	ws->protocols = make_protocols(options);
	info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
	info.pt_serv_buf_size = RX_BYTES + 4096;
	info.max_http_header_data2 = REQUEST_HEAD_MAX;
	info.fd_limit_per_thread = FDS_MAX;
	info.user = ws;
	ws->context = lws_create_context(&info);
	if (ws->context != NULL) {
		info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
		info.vhost_name = "sim";
		info.protocols = ws->protocols;
		ws->vhost = lws_create_vhost(ws->context, &info);
	}
	if (ws->vhost == NULL) {
		diag_set(diag, "libwebsockets does not start");
		ws_free(ws);
		return ERR_SYS;
	}
	*ret = ws;
	return ERR_OK;
}

void
ws_free(struct ws *ws)
{
	struct ws_conn *c;

	if (ws == NULL)
		return;
	if (ws->context != NULL)
		lws_context_destroy(ws->context);
	while ((c = STAILQ_FIRST(&ws->waiting)) != NULL) {
		STAILQ_REMOVE_HEAD(&ws->waiting, waiting);
		close(c->fd);
		conn_free(c);
	}
	pthread_mutex_destroy(&ws->mutex);
	free(ws->protocols);
	free(ws);
}

void
ws_run(struct ws *ws)
{
	while (!ws->stop && lws_service(ws->context, 0) >= 0)
		continue;
}

void
ws_stop(struct ws *ws)
{
	ws->stop = true;
	lws_cancel_service(ws->context);
}

void
ws_adopt(struct ws *ws, int fd, struct request *request, struct record *record)
{
	struct ws_conn *c = xcalloc(1, sizeof(*c));

	c->ws = ws;
	c->fd = fd;
	c->request = request;
	c->record = record;
	c->fault = fault_new(request);
	STAILQ_INIT(&c->queue);
	pthread_mutex_lock(&ws->mutex);
	STAILQ_INSERT_TAIL(&ws->waiting, c, waiting);
	pthread_mutex_unlock(&ws->mutex);
	lws_cancel_service(ws->context);
}
