/* SPDX-License-Identifier: MIT */
#include "broker/chat/messages_test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/chat/sse_text.h"
#include "broker/http/parked.h"
#include "broker/hub/hub.h"
#include "common/json.h"
#include "common/xalloc.h"

#define MESSAGES    5
#define INTERVAL_MS 200
#define TESTS_MAX   64

struct test {
	struct parked *parked;
	struct loop_timer *timer;
	int64_t counter;
};

static atomic_uint count;

static void
test_free(struct test *test)
{
	loop_timer_free(test->timer);
	free(test);
	atomic_fetch_sub(&count, 1);
}

/* So little that it is taken at once, or the client gets no more of it. */
static void
send_event(struct test *test, const char *event, json_t *data)
{
	static const char stream[] = "test";
	struct sse_text text = { .data = NULL };
	struct sse_id id = { .stream = stream, .n = test->counter };

	sse_text_add(&text, id, event, data);
	(void)parked_write(test->parked, text.data, text.len);
	sse_text_done(&text);
}

static void
on_interval(void *arg)
{
	struct test *test = arg;
	char message[64];

	test->counter++;
	if (test->counter <= MESSAGES) {
		(void)snprintf(message, sizeof(message),
		    "This is test message %d of %d", (int)test->counter,
		    MESSAGES);
		send_event(test, "test_message",
		    json_made(json_pack("{s:I, s:s}", "counter",
			(json_int_t)test->counter, "message", message)));
		loop_timer_set(test->timer, INTERVAL_MS);
		return;
	}
	send_event(test, "test_complete",
	    json_made(json_pack("{s:s}", "message", "The test is complete")));
	parked_end(test->parked);
	test_free(test);
}

static void
on_gone(void *arg)
{
	struct test *test = arg;

	parked_drop(test->parked);
	test_free(test);
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
	struct test *test = arg;

	parked_begin(test->parked, &events, test);
	parked_start(test->parked, 200, SSE_TEXT_TYPE);
	test->timer = loop_timer_new(hub_loop(), on_interval, test);
	loop_timer_set(test->timer, 0);
}

void
messages_test_handle(struct request *req)
{
	struct test *test;
	struct parked *parked;
	struct diag diag = { "" };
	enum err err = ERR_OK;

	if (atomic_fetch_add(&count, 1) >= TESTS_MAX)
		err = ERR_UNAVAIL;
	if (err == ERR_OK)
		err = parked_take(req, &parked, &diag);
	if (err != ERR_OK) {
		atomic_fetch_sub(&count, 1);
		request_reply_error(req, err,
		    diag.text[0] == '\0' ? NULL : diag.text);
		return;
	}
	test = xcalloc(1, sizeof(*test));
	test->parked = parked;
	if (hub_post(begin, test))
		return;
	parked_drop(parked);
	test_free(test);
}
