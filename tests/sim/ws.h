/* SPDX-License-Identifier: MIT */
#ifndef SIM_WS_H
#define SIM_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal.h"
#include "options.h"
#include "request.h"
#include "stream.h"

/*
 * ws: the WebSocket server, on libwebsockets' own server role: an
 * implementation that the relay's authors did not write.  The only user of
 * libwebsockets here.  One thread serves all connections.
 */
struct ws;
struct ws_conn;

/* What serves a path.  Every function runs in the server's thread. */
struct ws_app {
	/* A connection is open; returns what the others are given. */
	void *(*open)(struct ws_conn *conn);
	/* A piece of a message: the first, the last, both or neither. */
	void (*piece)(void *app, const void *data, size_t len, bool binary,
	    bool first, bool final);
	/* All that was sent is on its way. */
	void (*drained)(void *app);
	/* ws_conn_timer() ran out. */
	void (*timer)(void *app);
	void (*close)(void *app);
};

enum err ws_new(const struct options *options, struct ws **ret,
    struct diag *diag) MUST_CHECK;
void ws_free(struct ws *ws);

/* Serve until ws_stop(), which a signal handler may call. */
void ws_run(struct ws *ws);
void ws_stop(struct ws *ws);

/*
 * Serve a connection whose head is still unread; any thread.  It takes the
 * socket, the request and the record over.
 */
void ws_adopt(struct ws *ws, int fd, struct request *request,
    struct record *record);

const struct request *ws_conn_request(const struct ws_conn *conn);
const struct options *ws_conn_options(const struct ws_conn *conn);

/* Queue a piece of a message. */
void ws_conn_send(struct ws_conn *conn, const void *data, size_t len,
    bool binary, bool first, bool final);

/* Bytes that are queued: over 1 MiB the sender should wait for drained. */
size_t ws_conn_queued(const struct ws_conn *conn);

/* Close in order once the queue is empty; code 0 sends an empty close. */
void ws_conn_close(struct ws_conn *conn, int code, const char *reason);

/* Stop or go on reading. */
void ws_conn_pause(struct ws_conn *conn, bool pause);

/* Call timer in so many milliseconds; -1 for not at all. */
void ws_conn_timer(struct ws_conn *conn, int ms);

/* Application: /echo and whatever has no other. */
extern const struct ws_app app_echo;
/* Application: OpenAI Realtime. */
extern const struct ws_app app_openai;
/* Application: an Anam engine's signalling. */
extern const struct ws_app app_anam;
/* Application: a page that plays the engine, /sim/anam/engine. */
extern const struct ws_app app_anam_engine;
/* Application: sends nothing but what the knobs say. */
extern const struct ws_app app_silent;

#endif
