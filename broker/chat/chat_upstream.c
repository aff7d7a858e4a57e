/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_upstream.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/http/http_client.h"
#include "broker/hub/hub.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/http.h"
#include "common/log.h"
#include "common/xalloc.h"

/* What a delta may weigh on the way to us: an event for each token. */
#define BYTES_PER_BYTE 1024
#define HEADERS_MAX    16
/* What is read of a refusal. */
#define REFUSAL_MAX 8192

struct chat_upstream {
	const struct config_chat *config;
	const char *generation;
	const struct chat_upstream_events *events;
	void *arg;
	struct http_stream *stream;
	struct completion *completion;
	struct loop_timer *quiet; /* nothing comes */
	int64_t heard_ms;	  /* when something did */
	int status;		  /* of a refusal; 0: it is none */
	int64_t retry_after_s;
	struct buf *refusal; /* NULL: none yet */
	bool has_begun, over;
};

/* ---- how it can end ----------------------------------------------------- */

static const struct chat_upstream_end complete = { .code = NULL };
static const struct chat_upstream_end failed = {
	.code = "UPSTREAM_ERROR",
	.message = "The AI service failed.  Please try again.",
};
static const struct chat_upstream_end timed_out = {
	.code = "UPSTREAM_TIMEOUT",
	.message = "The AI service did not answer in time.  Please try again.",
};
static const struct chat_upstream_end too_busy = {
	.code = "UPSTREAM_RATE_LIMITED",
	.message = "The AI service is busy.  Please try again later.",
};
const struct chat_upstream_end chat_upstream_too_large = {
	.code = "ANSWER_TOO_LARGE",
	.message = "The answer is longer than this site allows.",
};

static void
end(struct chat_upstream *upstream, const struct chat_upstream_end *how)
{
	if (upstream->over)
		return;
	upstream->over = true;
	loop_timer_stop(upstream->quiet);
	upstream->events->ended(upstream->arg, how);
}

static void
fail(struct chat_upstream *upstream, enum err err, const char *reason)
{
	if (upstream->over)
		return;
	log_warning("chat.upstream_failed", "generation=%s reason=\"%s\"",
	    upstream->generation, reason);
	if (err == ERR_UPSTREAM_TIMEOUT)
		end(upstream, &timed_out);
	else
		end(upstream,
		    err == ERR_LIMIT ? &chat_upstream_too_large : &failed);
}

/* The vendor's key; NULL where it gets none. */
static const char *
key_of(const struct config_chat *config)
{
	return config->header_count == 0 || config->headers[0].secret == NULL
	    ? NULL
	    : secret_peek(config->headers[0].secret, NULL);
}

/* ---- what comes --------------------------------------------------------- */

/* It has refused, and said all that it says of it. */
static void
refuse(struct chat_upstream *upstream)
{
	struct completion_refusal said;
	struct chat_upstream_end how = failed;
	size_t len;
	const void *body = buf_peek(upstream->refusal, &len);
	int status = upstream->status;

	completion_read_refusal(body, len, key_of(upstream->config), &said);
	if (status == 401 || status == 403)
		log_error("chat.key_refused",
		    "generation=%s status=%d code=%s reason=\"the vendor does "
		    "not take our key: see api_key\"",
		    upstream->generation, status, said.code);
	else
		log_warning("chat.upstream_refused",
		    "generation=%s status=%d code=%s param=%s",
		    upstream->generation, status, said.code, said.param);
	if (status == 429) {
		how = too_busy;
		how.retry_after_s = upstream->retry_after_s;
	}
	end(upstream, &how);
}

static bool
is_event_stream(const char *content_type)
{
	static const char type[] = "text/event-stream";
	char after = '\0';

	if (strncasecmp(content_type, type, sizeof(type) - 1) != 0)
		return false;
	after = content_type[sizeof(type) - 1];
	return after == '\0' || after == ';' || after == ' ';
}

static void
on_head(void *arg, int status, const char *content_type,
    const char *retry_after)
{
	struct chat_upstream *upstream = arg;

	upstream->heard_ms = clock_ms();
	if (status != 200) {
		upstream->status = status;
		if (retry_after != NULL)
			upstream->retry_after_s =
			    http_retry_after_s(retry_after,
				strlen(retry_after));
		upstream->refusal = buf_new(REFUSAL_MAX);
	} else if (!is_event_stream(content_type)) {
		fail(upstream, ERR_UPSTREAM,
		    "the vendor's answer is no event stream");
	} else {
		upstream->has_begun = true;
	}
}

static void
on_data(void *arg, const void *data, size_t len)
{
	struct chat_upstream *upstream = arg;
	struct diag diag = { "" };
	enum err err;

	if (upstream->over)
		return;
	upstream->heard_ms = clock_ms();
	if (upstream->status != 0) {
		if (buf_add(upstream->refusal, data, len) != ERR_OK)
			refuse(upstream);
		return;
	}
	err = completion_feed(upstream->completion, data, len, &diag);
	if (err != ERR_OK)
		fail(upstream, err, diag.text);
	else if (completion_is_done(upstream->completion))
		end(upstream, &complete);
}

static void
on_ended(void *arg, enum err err, const struct diag *diag)
{
	struct chat_upstream *upstream = arg;
	struct diag why = { "" };

	if (upstream->over)
		return;
	if (upstream->status != 0) {
		refuse(upstream);
		return;
	}
	if (err == ERR_OK)
		err = completion_end(upstream->completion, &why);
	else
		why = *diag;
	if (err == ERR_OK)
		end(upstream, &complete);
	else
		fail(upstream, err, why.text);
}

static void
on_delta(void *arg, const char *text, size_t len)
{
	struct chat_upstream *upstream = arg;

	if (!upstream->over)
		upstream->events->delta(upstream->arg, text, len);
}

/* Set at the start alone: a delta does not cost a timer. */
static void
on_quiet(void *arg)
{
	struct chat_upstream *upstream = arg;
	int64_t max_ms = upstream->has_begun ? upstream->config->idle_ms
					     : upstream->config->first_ms;
	int64_t left_ms = upstream->heard_ms + max_ms - clock_ms();

	if (left_ms > 0)
		loop_timer_set(upstream->quiet, left_ms);
	else if (upstream->status != 0)
		refuse(upstream);
	else
		fail(upstream, ERR_UPSTREAM_TIMEOUT,
		    upstream->has_begun ? "the vendor has fallen silent"
					: "the vendor does not begin");
}

/* ---- the call ----------------------------------------------------------- */

static struct http_stream *
start(struct chat_upstream *upstream, const char *body, size_t len)
{
	static const struct http_stream_events events = {
		.head = on_head,
		.data = on_data,
		.ended = on_ended,
	};
	const struct config_chat *config = upstream->config;
	struct http_client_header headers[HEADERS_MAX] = {
		{ .name = "Content-Type", .value = "application/json" },
		{ .name = "Accept", .value = "text/event-stream" },
	};
	struct http_client_request request = {
		.method = "POST",
		.url = config->url,
		.headers = headers,
		.header_count = 2,
		.body = body,
		.body_len = len,
		.ca_file = config->ca_file,
		.allow_private = config->allow_private,
		.deadline_ms = clock_ms() + config->total_ms,
		.max_bytes = config->answer_bytes * BYTES_PER_BYTE,
	};

	for (size_t i = 0;
	     i < config->header_count && request.header_count < HEADERS_MAX;
	     i++)
		headers[request.header_count++] = (struct http_client_header){
			.name = config->headers[i].name,
			.value = config->headers[i].prefix,
			.secret = config->headers[i].secret,
		};
	return http_stream_start(&request, &events, upstream);
}

struct chat_upstream *
chat_upstream_start(const struct config_chat *config, const char *generation,
    const char *body, size_t len, const struct chat_upstream_events *events,
    void *arg)
{
	static const struct completion_events deltas = { .delta = on_delta };
	struct chat_upstream *upstream = xcalloc(1, sizeof(*upstream));

	upstream->config = config;
	upstream->generation = generation;
	upstream->events = events;
	upstream->arg = arg;
	upstream->heard_ms = clock_ms();
	upstream->completion =
	    completion_new(&deltas, upstream, key_of(config));
	upstream->quiet = loop_timer_new(hub_loop(), on_quiet, upstream);
	loop_timer_set(upstream->quiet,
	    config->first_ms < config->idle_ms ? config->first_ms
					       : config->idle_ms);
	upstream->stream = start(upstream, body, len);
	return upstream;
}

void
chat_upstream_stop(struct chat_upstream *upstream)
{
	upstream->over = true;
	loop_timer_stop(upstream->quiet);
	http_stream_free(upstream->stream);
	upstream->stream = NULL;
}

void
chat_upstream_free(struct chat_upstream *upstream)
{
	if (upstream == NULL)
		return;
	http_stream_free(upstream->stream);
	loop_timer_free(upstream->quiet);
	completion_free(upstream->completion);
	buf_free(upstream->refusal);
	free(upstream);
}

bool
chat_upstream_has_begun(const struct chat_upstream *upstream)
{
	return upstream->has_begun;
}

const struct completion *
chat_upstream_completion(const struct chat_upstream *upstream)
{
	return upstream->completion;
}
