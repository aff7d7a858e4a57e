/* SPDX-License-Identifier: MIT */
#include "broker/http/probe.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/parked.h"
#include "broker/http/probes.h"
#include "broker/hub/hub.h"
#include "common/probe.h"
#include "common/xalloc.h"

#define STREAMS_MAX 8

struct stream {
	struct parked *parked;
	struct loop_timer *timer;
	unsigned sent;
};

static atomic_uint count;

static void
stream_free(struct stream *stream)
{
	loop_timer_free(stream->timer);
	free(stream);
	atomic_fetch_sub(&count, 1);
}

/* So little that it is taken at once, or there is nobody. */
static void
on_interval(void *arg)
{
	struct stream *stream = arg;
	char event[32];
	int len =
	    snprintf(event, sizeof(event), "data: %u\n\n", ++stream->sent);

	(void)parked_write(stream->parked, event, (size_t)len);
	if (stream->sent < PROBE_EVENTS) {
		loop_timer_set(stream->timer, PROBE_INTERVAL_MS);
		return;
	}
	parked_end(stream->parked);
	stream_free(stream);
}

static void
on_gone(void *arg)
{
	struct stream *stream = arg;

	parked_drop(stream->parked);
	stream_free(stream);
}

static void
on_writable(void *arg)
{
	(void)arg; /* the next event is the next try */
}

static void
begin(void *arg)
{
	static const struct parked_events events = {
		.gone = on_gone,
		.writable = on_writable,
	};
	struct stream *stream = arg;

	parked_begin(stream->parked, &events, stream);
	parked_start(stream->parked, 200, PROBE_STREAM_TYPE);
	stream->timer = loop_timer_new(hub_loop(), on_interval, stream);
	loop_timer_set(stream->timer, 0);
}

static void
handle_stream(struct request *req)
{
	struct stream *stream;
	struct parked *parked;
	struct diag diag = { "" };
	enum err err = ERR_OK;

	if (atomic_fetch_add(&count, 1) >= STREAMS_MAX) {
		err = ERR_UNAVAIL;
		diag_set(&diag, "too many probes at once");
	}
	if (err == ERR_OK)
		err = parked_take(req, &parked, &diag);
	if (err != ERR_OK) {
		atomic_fetch_sub(&count, 1);
		request_reply_error(req, err, diag.text);
		return;
	}
	stream = xcalloc(1, sizeof(*stream));
	stream->parked = parked;
	if (hub_post(begin, stream))
		return;
	parked_drop(parked);
	stream_free(stream);
}

bool
probe_takes(const struct request *req)
{
	return probes_is_good(request_header(req, PROBE_HEADER));
}

void
probe_handle(struct request *req)
{
	const char *accept = request_header(req, "accept"), *value;
	struct diag diag;
	struct probes_request seen = {
		.at = "broker",
		.client = request_client(req),
		.scheme = request_scheme(req),
		.host = request_header(req, "host"),
		.authorization = request_header(req, "authorization"),
		.origin = request_header(req, "origin"),
		.cookie = request_header(req, "cookie"),
		.subprotocol = request_header(req, "sec-websocket-protocol"),
	};

	if (accept != NULL && strcmp(accept, PROBE_STREAM_TYPE) == 0) {
		handle_stream(req);
		return;
	}
	seen.query =
	    request_query(req, PROBE_QUERY_NAME, &value, &diag) == ERR_OK &&
	    value != NULL && strcmp(value, PROBE_QUERY_VALUE) == 0;
	request_reply_json(req, 200, probes_report(&seen));
}
