/* SPDX-License-Identifier: MIT */
/*
 * app_echo: every message back: piece by piece as libwebsockets delivers it,
 * so that a message of any size passes, or gathered where gather=1.  And
 * app_silent, which takes everything and says nothing.
 */
#include <stdlib.h>

#include "common/buf.h"
#include "common/xalloc.h"
#include "ws.h"

#define QUEUE_MAX  (1024 * 1024)
#define GATHER_MAX (64 * 1024 * 1024)

struct echo {
	struct ws_conn *conn;
	struct buf *gathered; /* NULL where pieces go back at once */
};

static void *
echo_open(struct ws_conn *conn)
{
	struct echo *e = xcalloc(1, sizeof(*e));

	e->conn = conn;
	if (request_number(ws_conn_request(conn), "gather", 0) != 0)
		e->gathered = buf_new(GATHER_MAX);
	return e;
}

static void
echo_piece(void *app, const void *data, size_t len, bool binary, bool first,
    bool final)
{
	struct echo *e = app;

	if (e->gathered == NULL) {
		ws_conn_send(e->conn, data, len, binary, first, final);
	} else {
		if (buf_add(e->gathered, data, len) != ERR_OK) {
			ws_conn_close(e->conn, 1009, "too much to gather");
			return;
		}
		if (final) {
			const uint8_t *all = buf_peek(e->gathered, &len);

			ws_conn_send(e->conn, all, len, binary, true, true);
			buf_drain(e->gathered, len);
		}
	}
	if (ws_conn_queued(e->conn) > QUEUE_MAX)
		ws_conn_pause(e->conn, true);
}

static void
echo_drained(void *app)
{
	struct echo *e = app;

	ws_conn_pause(e->conn, false);
}

static void
echo_close(void *app)
{
	struct echo *e = app;

	buf_free(e->gathered);
	free(e);
}

static void
ignore(void *app)
{
	(void)app;
}

static void
ignore_piece(void *app, const void *data, size_t len, bool binary, bool first,
    bool final)
{
	(void)app, (void)data, (void)len, (void)binary, (void)first,
	    (void) final;
}

static void *
silent_open(struct ws_conn *conn)
{
	return conn;
}

const struct ws_app app_echo = {
	.open = echo_open,
	.piece = echo_piece,
	.drained = echo_drained,
	.timer = ignore,
	.close = echo_close,
};

const struct ws_app app_silent = {
	.open = silent_open,
	.piece = ignore_piece,
	.drained = ignore,
	.timer = ignore,
	.close = ignore,
};
