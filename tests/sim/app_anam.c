/* SPDX-License-Identifier: MIT */
/*
 * app_anam: an engine's signalling on a WebSocket, and the place where a
 * test's own engine takes its part.
 *
 * A line is what all sockets of a session share.  The engine is the simulated
 * one, or a page that connected to be it: it gets the client's frames as they
 * are, and the client gets what it says.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "anam.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/xalloc.h"
#include "ws.h"

#define MESSAGE_MAX  (1024 * 1024)
#define QUEUE_MAX    (1024 * 1024)
#define HEARTBEAT_MS 5000

struct peer {
	LIST_ENTRY(peer) entry; /* of those that wait for a session */
	struct ws_conn *conn;
	struct line *line; /* NULL while an engine waits for one */
	struct buf *in;	   /* a message that comes in pieces */
	bool is_engine;
	uint64_t messages;
};

struct line {
	LIST_ENTRY(line) entry;
	char *session_id;
	struct anam *anam;
	struct peer *client; /* the last that came, or NULL */
	struct peer *engine; /* a page that plays it, or NULL */
	unsigned peers;
};

/* The WebSocket server has one thread, and it alone comes here. */
static LIST_HEAD(, line) lines = LIST_HEAD_INITIALIZER(lines);
static LIST_HEAD(, peer) idle_engines = LIST_HEAD_INITIALIZER(idle_engines);

/* ---- lines ---- */

static void
join(struct peer *p, const char *session_id)
{
	struct line *line;

	LIST_FOREACH (line, &lines, entry)
		if (strcmp(line->session_id, session_id) == 0)
			break;
	if (line == NULL) {
		line = xcalloc(1, sizeof(*line));
		line->session_id = xstrdup(session_id);
		line->anam = anam_new(session_id);
		LIST_INSERT_HEAD(&lines, line, entry);
	}
	line->peers++;
	p->line = line;
	if (p->is_engine)
		line->engine = p;
	else
		line->client = p;
}

static void
leave(struct peer *p)
{
	struct line *line = p->line;

	if (line == NULL)
		return;
	if (line->engine == p)
		line->engine = NULL;
	if (line->client == p)
		line->client = NULL;
	if (--line->peers > 0)
		return;
	LIST_REMOVE(line, entry);
	anam_free(line->anam);
	free(line->session_id);
	free(line);
}

/* The simulated engine's words, to whoever is the client now. */
static void
speak(struct line *line)
{
	json_t *frame;

	while ((frame = anam_next(line->anam)) != NULL) {
		size_t len = 0;
		char *text = json_text(frame, &len);

		if (line->client != NULL)
			ws_conn_send(line->client->conn, text, len, false, true,
			    true);
		free(text);
		json_decref(frame);
	}
}

/* The other end of a bridged line, or NULL. */
static struct peer *
other_end(const struct peer *p)
{
	if (p->line == NULL)
		return NULL;
	return p->is_engine ? p->line->client : p->line->engine;
}

/* ---- both ---- */

static struct peer *
peer_new(struct ws_conn *conn, bool is_engine)
{
	struct peer *p = xcalloc(1, sizeof(*p));

	p->conn = conn;
	p->in = buf_new(MESSAGE_MAX);
	p->is_engine = is_engine;
	return p;
}

static void
pass_on(struct peer *p, struct peer *to, const void *data, size_t len,
    bool binary)
{
	ws_conn_send(to->conn, data, len, binary, true, true);
	if (ws_conn_queued(to->conn) > QUEUE_MAX)
		ws_conn_pause(p->conn, true);
}

static void
end_when_asked(struct peer *p)
{
	const struct request *r = ws_conn_request(p->conn);
	const char *reason = request_query(r, "reason");

	if (!request_wants(r, "endsession") ||
	    request_number(r, "after", 0) != p->messages)
		return;
	anam_say(p->line->anam, "endsession",
	    json_string(reason == NULL ? "The session ended." : reason));
	speak(p->line);
}

static void
peer_piece(void *app, const void *data, size_t len, bool binary, bool first,
    bool final)
{
	struct peer *p = app, *to = other_end(p);
	const uint8_t *all;

	(void)first;
	if (buf_add(p->in, data, len) != ERR_OK) {
		ws_conn_close(p->conn, 1009, "the message is too big");
		return;
	}
	if (!final)
		return;
	all = buf_peek(p->in, &len);
	if (to != NULL) {
		pass_on(p, to, all, len, binary);
	} else if (!p->is_engine && !binary) {
		anam_receive(p->line->anam, all, len);
		speak(p->line);
	}
	buf_drain(p->in, len);
	p->messages++;
	if (!p->is_engine)
		end_when_asked(p);
}

static void
peer_drained(void *app)
{
	struct peer *from = other_end(app);

	if (from != NULL)
		ws_conn_pause(from->conn, false);
}

static void
peer_close(void *app)
{
	struct peer *p = app, *to = other_end(p);

	if (to != NULL) /* nobody is left to wait for */
		ws_conn_pause(to->conn, false);
	if (p->is_engine && p->line == NULL)
		LIST_REMOVE(p, entry);
	leave(p);
	buf_free(p->in);
	free(p);
}

/* ---- a client ---- */

static void
start_heart(struct peer *p)
{
	uint64_t ms = request_number(ws_conn_request(p->conn), "heartbeat_ms",
	    HEARTBEAT_MS);

	if (ms > 0 && ms < INT32_MAX)
		ws_conn_timer(p->conn, (int)ms);
}

static void *
client_open(struct ws_conn *conn)
{
	struct peer *p = peer_new(conn, false);
	struct peer *engine = LIST_FIRST(&idle_engines);

	/* Who comes here has a session: it was checked before the 101. */
	join(p, request_query(ws_conn_request(conn), "session_id"));
	if (p->line->engine == NULL && engine != NULL) {
		LIST_REMOVE(engine, entry);
		join(engine, p->line->session_id);
	}
	start_heart(p);
	end_when_asked(p);
	return p;
}

static void
client_timer(void *app)
{
	struct peer *p = app;

	if (p->line->client == p) {
		anam_say(p->line->anam, "heartbeat", json_string(""));
		speak(p->line);
	}
	start_heart(p);
}

/* ---- an engine ---- */

static void *
engine_open(struct ws_conn *conn)
{
	struct peer *p = peer_new(conn, true);
	const char *id = request_query(ws_conn_request(conn), "session_id");

	if (id != NULL)
		join(p, id);
	else
		LIST_INSERT_HEAD(&idle_engines, p, entry);
	return p;
}

static void
engine_timer(void *app)
{
	(void)app;
}

const struct ws_app app_anam = {
	.open = client_open,
	.piece = peer_piece,
	.drained = peer_drained,
	.timer = client_timer,
	.close = peer_close,
};

const struct ws_app app_anam_engine = {
	.open = engine_open,
	.piece = peer_piece,
	.drained = peer_drained,
	.timer = engine_timer,
	.close = peer_close,
};
