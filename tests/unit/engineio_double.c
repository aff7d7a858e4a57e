/* SPDX-License-Identifier: MIT */
#include "engineio_double.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/xalloc.h"

#define SENT_MAX 64

struct eio {
	struct eio_info info;
	void *data;
	char *sent[SENT_MAX];
	size_t sent_count, seen;
	const char *closing;
	bool open;
};

struct eio_server {
	const struct eio_events *events;
	void *arg;
};

static struct eio_server server;
static struct loop *loop;
static struct eio eios[DOUBLE_CLIENTS];
static const struct eio *awaited;

void
double_init(void)
{
	memset(eios, 0, sizeof(eios));
	assert_int_equal(loop_new(&loop, NULL), ERR_OK);
	assert_int_equal(loop_begin(loop), ERR_OK);
}

void
double_done(void)
{
	for (size_t i = 0; i < DOUBLE_CLIENTS; i++)
		eio_renew(&eios[i]);
	loop_free(loop);
}

/* ---- the hub ----------------------------------------------------------- */

struct loop *
hub_loop(void)
{
	return loop;
}

bool
hub_call(hub_run *run, void *arg)
{
	run(arg);
	return true;
}

/* ---- Engine.IO --------------------------------------------------------- */

struct eio_server *
eio_server_new(const char *path, const struct config_socketio *config,
    const struct eio_events *events, void *arg)
{
	assert_int_equal(path[0], '/');
	assert_non_null(config);
	server = (struct eio_server){ events, arg };
	return &server;
}

void
eio_server_free(struct eio_server *which)
{
	assert_ptr_equal(which, &server);
	for (size_t i = 0; i < DOUBLE_CLIENTS; i++)
		if (eios[i].open)
			end_client(&eios[i], "server shutting down");
}

const struct eio_info *
eio_info(const struct eio *eio)
{
	return &eio->info;
}

void
eio_set_data(struct eio *eio, void *data)
{
	eio->data = data;
}

void *
eio_data(const struct eio *eio)
{
	return eio->data;
}

void
eio_send(struct eio *eio, bool binary, const void *data, size_t len)
{
	assert_true(eio->open);
	assert_null(eio->closing);
	assert_true(eio->sent_count < SENT_MAX);
	eio->sent[eio->sent_count++] = xasprintf("%s%.*s", binary ? "b" : "",
	    (int)len, (const char *)data);
	if (eio == awaited)
		loop_stop(loop);
}

void
eio_close(struct eio *eio, const char *reason)
{
	assert_true(eio->open);
	assert_null(eio->closing);
	eio->closing = reason;
	loop_stop(loop);
}

/* ---- clients ----------------------------------------------------------- */

struct eio *
open_client(size_t i)
{
	assert_true(i < DOUBLE_CLIENTS && !eios[i].open);
	eios[i].open = true;
	server.events->opened(server.arg, &eios[i]);
	return &eios[i];
}

void
say(struct eio *eio, const char *text)
{
	server.events->message(server.arg, eio, false, text, strlen(text));
}

void
say_binary(struct eio *eio, const char *data)
{
	server.events->message(server.arg, eio, true, data, strlen(data));
}

void
end_client(struct eio *eio, const char *reason)
{
	assert_true(eio->open);
	server.events->closed(server.arg, eio, reason);
	eio->open = false;
}

const char *
eio_closing(const struct eio *eio)
{
	return eio->closing;
}

const char *
next(struct eio *eio)
{
	return eio->seen < eio->sent_count ? eio->sent[eio->seen++] : NULL;
}

void
expect(struct eio *eio, const char *text)
{
	const char *sent = next(eio);

	assert_non_null(sent);
	assert_string_equal(sent, text);
}

void
await(struct eio *eio)
{
	awaited = eio;
	assert_int_equal(loop_run(loop), ERR_OK);
	awaited = NULL;
}

void
eio_renew(struct eio *eio)
{
	assert_false(eio->open);
	for (size_t i = 0; i < eio->sent_count; i++)
		free(eio->sent[i]);
	*eio = (struct eio){ .data = NULL };
}
