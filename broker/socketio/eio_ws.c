/* SPDX-License-Identifier: MIT */
#include "broker/socketio/eio_ws.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/socketio/eio_queue.h"
#include "common/buf.h"
#include "common/str.h"
#include "common/ws_frame.h"
#include "common/xalloc.h"

#define READ_BYTES   (8 * 1024) /* at a time: the others wait */
#define KEEP_BYTES   4096	/* of a message's memory, for the next one */
#define FAREWELL_MS  5000
#define QUEUE_SPARE  (2 * WS_CONTROL_FRAME_MAX) /* a pong, a close frame */
#define PONGS_IN_ROW 16 /* that may wait: who pings on is not reading */

enum state {
	STATE_OPEN,
	STATE_CLOSING, /* nothing of the peer counts any more */
};

struct eio_ws {
	struct loop *loop;
	int fd;
	struct loop_watch *watch;
	struct loop_timer *timer; /* the farewell */
	const struct eio_ws_events *events;
	void *arg;
	enum state state;
	size_t max_message, max_queue;
	struct buf *out; /* NULL: nothing waits */
	/* the frame that is being read */
	uint8_t head[WS_HEADER_MAX_BYTES];
	size_t head_len;
	struct ws_header header;
	bool in_payload;
	uint64_t done; /* bytes of its payload that have been read */
	uint8_t control[WS_CONTROL_MAX_BYTES];
	/* the message that its fragments make */
	bool in_message, binary;
	uint8_t *message;
	size_t message_len, message_size;
	LIST_ENTRY(eio_ws) entry;
};

/* All there are, in the one thread that has them. */
static LIST_HEAD(, eio_ws) all = LIST_HEAD_INITIALIZER(all);

static size_t
queued(const struct eio_ws *ws)
{
	size_t len = 0;

	if (ws->out != NULL)
		(void)buf_peek(ws->out, &len);
	return len;
}

static void
ws_free(struct eio_ws *ws)
{
	LIST_REMOVE(ws, entry);
	loop_watch_free(ws->watch);
	loop_timer_free(ws->timer);
	(void)close(ws->fd);
	eio_queue_count(0, queued(ws));
	buf_free(ws->out);
	if (ws->message != NULL)
		explicit_bzero(ws->message, ws->message_size);
	free(ws->message);
	explicit_bzero(ws, sizeof(*ws));
	free(ws);
}

/* ---- writing ----------------------------------------------------------- */

static void
set_interest(struct eio_ws *ws)
{
	loop_watch_set(ws->watch, true, ws->out != NULL);
}

/* False where the connection is broken. */
static bool
flush(struct eio_ws *ws)
{
	while (ws->out != NULL) {
		size_t len;
		const uint8_t *data = buf_peek(ws->out, &len);
		ssize_t n = send(ws->fd, data, len, MSG_NOSIGNAL);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return errno == EAGAIN;
		buf_drain(ws->out, (size_t)n);
		eio_queue_count(0, (size_t)n);
		if ((size_t)n == len) {
			buf_free(ws->out); /* an idle one owns no memory */
			ws->out = NULL;
		}
	}
	if (ws->state == STATE_CLOSING)
		(void)shutdown(ws->fd, SHUT_WR);
	return true;
}

/* There is room, which the caller knows. */
static void
put(struct eio_ws *ws, const void *data, size_t len)
{
	if (ws->out == NULL)
		ws->out = buf_new(ws->max_queue + QUEUE_SPARE);
	(void)!buf_add(ws->out, data, len);
	eio_queue_count(len, 0);
}

/* A connection that is broken is found so by reading, too: the loop tells. */
static void
send_soon(struct eio_ws *ws)
{
	(void)flush(ws);
	set_interest(ws);
}

bool
eio_ws_send(struct eio_ws *ws, bool binary, char prefix, const void *data,
    size_t len)
{
	size_t max = eio_queue_share(ws->max_queue);
	size_t prefix_len = prefix != 0, head_len;
	uint8_t head[WS_HEADER_MAX_BYTES];

	if (ws->state != STATE_OPEN)
		return true; /* nobody is there to take it */
	head_len = ws_header_put(head, binary ? WS_BINARY : WS_TEXT, true, NULL,
	    prefix_len + len);
	if (len > max || queued(ws) + head_len + prefix_len + len > max)
		return false;
	put(ws, head, head_len);
	put(ws, &prefix, prefix_len);
	put(ws, data, len);
	send_soon(ws);
	return true;
}

/* ---- the end ----------------------------------------------------------- */

static void
on_farewell_over(void *arg)
{
	ws_free(arg);
}

void
eio_ws_close(struct eio_ws *ws, int code)
{
	uint8_t frame[WS_CONTROL_FRAME_MAX];

	if (ws->state == STATE_CLOSING)
		return;
	put(ws, frame, ws_close_put(frame, NULL, code, ""));
	ws->state = STATE_CLOSING;
	loop_timer_set(ws->timer, FAREWELL_MS);
	send_soon(ws);
}

/* It goes, and its owner is told. */
static void
end(struct eio_ws *ws, int code, bool error)
{
	const struct eio_ws_events *events = ws->events;
	void *arg = ws->arg;

	eio_ws_close(ws, code);
	events->closed(arg, error);
}

/* The connection is broken, or over. */
static void
lose(struct eio_ws *ws)
{
	const struct eio_ws_events *events = ws->events;
	bool tell = ws->state == STATE_OPEN;
	void *arg = ws->arg;

	ws_free(ws);
	if (tell)
		events->closed(arg, false);
}

/* ---- reading: each of these says whether to go on ----------------------- */

static bool
refuse(struct eio_ws *ws, int code)
{
	end(ws, code, true);
	return false;
}

static bool
check_data_frame(struct eio_ws *ws)
{
	bool is_first = ws->header.opcode != WS_CONTINUATION;

	if (is_first == ws->in_message)
		return refuse(ws, WS_CODE_PROTOCOL);
	if (ws->header.payload_len > ws->max_message - ws->message_len)
		return refuse(ws, WS_CODE_TOO_BIG);
	if (is_first)
		ws->binary = ws->header.opcode == WS_BINARY;
	ws->in_message = true;
	return true;
}

/* Take what is missing of the header from the front of the data. */
static bool
read_header(struct eio_ws *ws, const uint8_t **data, size_t *len)
{
	size_t before = ws->head_len, n = sizeof(ws->head) - before;
	const char *why;
	enum err err;

	if (n > *len)
		n = *len;
	memcpy(ws->head + before, *data, n);
	err = ws_header_parse(ws->head, before + n, WS_FROM_CLIENT, &ws->header,
	    &why);
	if (err == ERR_AGAIN) {
		ws->head_len += n;
		*len = 0;
		return true;
	}
	if (err != ERR_OK)
		return refuse(ws, WS_CODE_PROTOCOL);
	*data += ws->header.header_len - before;
	*len -= ws->header.header_len - before;
	ws->head_len = 0;
	ws->in_payload = true;
	ws->done = 0;
	return (ws->header.opcode & 0x8) != 0 || check_data_frame(ws);
}

/* It grows as the bytes come, whatever is announced. */
static void
add_to_message(struct eio_ws *ws, const uint8_t *data, size_t len)
{
	size_t need = ws->message_len + len;

	if (need > ws->message_size) {
		ws->message_size =
		    2 * ws->message_size > need ? 2 * ws->message_size : need;
		ws->message = xreallocarray(ws->message, ws->message_size, 1);
	}
	memcpy(ws->message + ws->message_len, data, len);
	ws_mask(ws->message + ws->message_len, len, ws->header.mask, ws->done);
	ws->message_len = need;
}

static bool
finish_message(struct eio_ws *ws)
{
	size_t len = ws->message_len;

	ws->in_message = false;
	ws->message_len = 0;
	if (!ws->binary && !str_is_utf8(ws->message, len))
		return refuse(ws, WS_CODE_BAD_DATA);
	ws->events->message(ws->arg, ws->binary,
	    ws->message == NULL ? (const uint8_t *)"" : ws->message, len);
	if (ws->message_size > KEEP_BYTES) {
		free(ws->message);
		ws->message = NULL;
		ws->message_size = 0;
	}
	return ws->state == STATE_OPEN;
}

static bool
answer_close(struct eio_ws *ws, size_t len)
{
	size_t reason_len;
	const char *reason;
	int code;
	enum err err =
	    ws_close_parse(ws->control, len, &code, &reason, &reason_len);

	if (err != ERR_OK)
		return refuse(ws,
		    err == ERR_TYPE ? WS_CODE_BAD_DATA : WS_CODE_PROTOCOL);
	end(ws, code, false);
	return false;
}

static bool
finish_control(struct eio_ws *ws)
{
	size_t len = (size_t)ws->header.payload_len;
	uint8_t frame[WS_CONTROL_FRAME_MAX];

	ws_mask(ws->control, len, ws->header.mask, 0);
	if (ws->header.opcode == WS_CLOSE)
		return answer_close(ws, len);
	if (ws->header.opcode == WS_PONG)
		return true;
	/* who pings and does not read gets no more of them */
	if (queued(ws) < PONGS_IN_ROW * WS_CONTROL_FRAME_MAX) {
		put(ws, frame,
		    ws_control_put(frame, WS_PONG, NULL, ws->control, len));
		send_soon(ws);
	}
	return true;
}

static bool
read_payload(struct eio_ws *ws, const uint8_t **data, size_t *len)
{
	bool is_control = (ws->header.opcode & 0x8) != 0;
	uint64_t left = ws->header.payload_len - ws->done;
	size_t n = left < *len ? (size_t)left : *len;

	if (is_control)
		memcpy(ws->control + ws->done, *data, n);
	else if (n > 0)
		add_to_message(ws, *data, n);
	*data += n;
	*len -= n;
	ws->done += n;
	if (ws->done < ws->header.payload_len)
		return true;
	ws->in_payload = false;
	if (is_control)
		return finish_control(ws);
	return !ws->header.fin || finish_message(ws);
}

static void
on_ready(void *arg, bool readable, bool writable)
{
	struct eio_ws *ws = arg;
	uint8_t bytes[READ_BYTES];
	const uint8_t *data = bytes;
	bool go_on = ws->state == STATE_OPEN;
	size_t len;
	ssize_t n;

	if (writable && !flush(ws)) {
		lose(ws);
		return;
	}
	set_interest(ws);
	if (!readable)
		return;
	n = recv(ws->fd, bytes, sizeof(bytes), 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		lose(ws);
		return;
	}
	len = (size_t)n;
	/* a frame without payload is whole with its header */
	while (go_on &&
	    (len > 0 || (ws->in_payload && ws->done == ws->header.payload_len)))
		go_on = ws->in_payload ? read_payload(ws, &data, &len)
				       : read_header(ws, &data, &len);
	explicit_bzero(bytes, (size_t)n);
}

/* ---- for the owner ----------------------------------------------------- */

struct eio_ws *
eio_ws_new(struct loop *loop, int fd, size_t max_message, size_t max_queue,
    const struct eio_ws_events *events, void *arg)
{
	struct eio_ws *ws = xcalloc(1, sizeof(*ws));

	ws->loop = loop;
	ws->fd = fd;
	ws->max_message = max_message;
	ws->max_queue = max_queue;
	ws->events = events;
	ws->arg = arg;
	ws->watch = loop_watch_new(loop, fd, on_ready, ws);
	ws->timer = loop_timer_new(loop, on_farewell_over, ws);
	LIST_INSERT_HEAD(&all, ws, entry);
	set_interest(ws);
	return ws;
}

void
eio_ws_bind(struct eio_ws *ws, const struct eio_ws_events *events, void *arg)
{
	ws->events = events;
	ws->arg = arg;
}

void
eio_ws_drop_all(void)
{
	struct eio_ws *ws, *next;

	for (ws = LIST_FIRST(&all); ws != NULL; ws = next) {
		next = LIST_NEXT(ws, entry);
		if (ws->state == STATE_CLOSING)
			ws_free(ws);
	}
}
