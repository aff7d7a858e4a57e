/* SPDX-License-Identifier: MIT */
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/http/parked.h"
#include "broker/http/request.h"
#include "broker/hub/hub.h"
#include "tests/unit/web_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * What comes in over the broker's FastCGI socket, to a request that reads its
 * body, or is parked, or both.  However it ends, it ends: nobody is kept
 * waiting, and the next one is served.
 *
 * The highest bit of each byte is cleared: libfcgi's parser, which we use as it
 * is, ends the process where a name is to be as long as no memory is.  Who may
 * write to this socket is the web server, and nobody else.
 */
#define PATIENCE_MS	60000
#define INPUT_MAX_BYTES (64 * 1024)

/* libfcgi forgets the list of a request whose names it cannot read. */
const char *__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:libfcgi.so";
}

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
on_gone(void *arg)
{
	(void)arg;
}

static const struct parked_events events = { .gone = on_gone };

static void
answer(void *arg)
{
	struct parked *parked = arg;

	parked_begin(parked, &events, NULL);
	parked_reply(parked, 200, "text/plain", "ok", 2);
}

static void
handle(struct request *req)
{
	struct parked *parked = NULL;
	struct diag diag = { "" };
	const json_t *body;

	if (strcmp(request_method(req), "POST") == 0 &&
	    request_json(req, &body, &diag) != ERR_OK) {
		request_reply_error(req, ERR_PROTO, diag.text);
		return;
	}
	if (parked_take(req, &parked, &diag) != ERR_OK)
		request_reply_error(req, ERR_UNAVAIL, diag.text);
	else if (!hub_post(answer, parked))
		parked_drop(parked);
}

/* Read to the end, which has to come. */
static void
drain(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char bytes[4096];

	do
		require(poll(&pfd, 1, PATIENCE_MS) == 1);
	while (recv(fd, bytes, sizeof(bytes), 0) > 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[INPUT_MAX_BYTES];
	static bool serves;
	int fd;

	if (!serves) {
		(void)signal(SIGPIPE, SIG_IGN);
		require(hub_start(NULL) == ERR_OK);
		web_start("threads = 1 timeout = 5", "", handle);
		serves = true;
	}
	size = size < sizeof(bytes) ? size : sizeof(bytes);
	for (size_t i = 0; i < size; i++)
		bytes[i] = data[i] & 0x7f;
	fd = web_dial();
	(void)send(fd, bytes, size, MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_WR);
	drain(fd);
	(void)close(fd);
	return 0;
}
