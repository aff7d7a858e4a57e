/* SPDX-License-Identifier: MIT */
#include "broker/http/fcgi.h"

#include <errno.h>
#include <fastcgi.h>
#include <fcgiapp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "broker/http/accept_pool.h"
#include "common/clock.h"
#include "common/log.h"

/* Enough for our own frames and for libraries that recurse a little. */
#ifdef WITH_SANITIZERS
#define THREAD_STACK_BYTES (1024 * 1024)
#else
#define THREAD_STACK_BYTES (256 * 1024)
#endif

/* How long, and how much, of a body that nobody read is thrown away. */
#define LINGER_MS	 2000
#define LINGER_MAX_BYTES (16 * 1024 * 1024)

static void
set_timeout(int fd, int option, int64_t ms)
{
	struct timeval tv = {
		.tv_sec = (time_t)(ms / 1000),
		.tv_usec = (suseconds_t)(ms % 1000 * 1000),
	};

	(void)setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

/*
 * FCGX_GetStr() alone would wait until the buffer is full, each time anew: so
 * have what is there, and wait for one byte more only, until the deadline.
 */
static enum err
read_input(void *arg, int64_t deadline_ms, char *buf, size_t size,
    size_t *ret_len)
{
	FCGX_Request *fcgi = arg;
	FCGX_Stream *in = fcgi->in;
	size_t ready = (size_t)(in->stop - in->rdNext);
	int64_t left_ms;
	int c;

	if (ready > 0) {
		*ret_len = (size_t)FCGX_GetStr(buf,
		    (int)(size < ready ? size : ready), in);
		return ERR_OK;
	}
	left_ms = deadline_ms - clock_ms();
	if (left_ms <= 0)
		return ERR_TIMEOUT;
	set_timeout(fcgi->ipcFd, SO_RCVTIMEO, left_ms);
	c = FCGX_GetChar(in);
	if (c == EOF && FCGX_GetError(in) == EAGAIN)
		return ERR_TIMEOUT;
	*ret_len = c == EOF ? 0 : 1;
	if (c != EOF)
		*buf = (char)c;
	return ERR_OK;
}

/* SO_SNDTIMEO bounds it. */
static enum err
write_output(void *arg, int64_t deadline_ms, const char *data, size_t len)
{
	FCGX_Request *fcgi = arg;
	int n = FCGX_PutStr(data, (int)len, fcgi->out);

	(void)deadline_ms;
	return n == (int)len ? ERR_OK : ERR_SYS;
}

/* Without an error stream, the end of the answer ends the request. */
static enum err
end_output(void *arg)
{
	FCGX_Request *fcgi = arg;
	int rc = FCGX_FClose(fcgi->err);

	return FCGX_FClose(fcgi->out) == 0 && rc == 0 ? ERR_OK : ERR_SYS;
}

/*
 * Take what the web server still sends, after the answer, up to the end of
 * input.  A socket that is closed before that fails the server's next write:
 * Apache then answers 503, though it has our answer.
 */
static void
drain_input(FCGX_Request *fcgi)
{
	int64_t deadline_ms = clock_ms() + LINGER_MS, left_ms;
	size_t bytes = 0, n;
	ssize_t got;
	char trash[4096];

	while (bytes < LINGER_MAX_BYTES &&
	    read_input(fcgi, deadline_ms, trash, sizeof(trash), &n) == ERR_OK &&
	    n > 0)
		bytes += n;
	/* libfcgi reads no more of a stream on which a wait was too long */
	while (FCGX_GetError(fcgi->in) != 0 && bytes < LINGER_MAX_BYTES &&
	    (left_ms = deadline_ms - clock_ms()) > 0) {
		set_timeout(fcgi->ipcFd, SO_RCVTIMEO, left_ms);
		got = recv(fcgi->ipcFd, trash, sizeof(trash), 0);
		if (got <= 0)
			break;
		bytes += (size_t)got;
	}
}

/*
 * After the end of input the web server has nothing more to say: what can
 * still be read is the end of the connection.
 */
static int
leave(void *arg, uint16_t *ret_id)
{
	FCGX_Request *fcgi = arg;
	int fd = fcgi->ipcFd;

	drain_input(fcgi);
	*ret_id = (uint16_t)fcgi->requestId;
	fcgi->ipcFd = -1;
	return fd;
}

static const struct request_io fcgi_io = {
	.read = read_input,
	.write = write_output,
	.end = end_output,
	.leave = leave,
};

/* An authorizer's 200 would let everybody in. */
static void
refuse_role(struct request *req)
{
	request_reply_error(req, ERR_SYS,
	    "the web server uses a FastCGI role other than responder");
}

/* Answer one request whose parameters have been read. */
static void
serve_request(FCGX_Request *fcgi, const struct config *config,
    int64_t started_ms, request_handler *handler)
{
	struct request_source source = {
		.io = &fcgi_io,
		.io_arg = fcgi,
		.envp = fcgi->envp,
		.config = config,
		.started_ms = started_ms,
	};

	request_run(&source,
	    fcgi->role == FCGI_RESPONDER ? handler : refuse_role);
	if (fcgi->ipcFd != -1)
		drain_input(fcgi);
	FCGX_Free(fcgi, fcgi->ipcFd != -1);
}

struct fcgi_server {
	request_handler *handler;
};

/*
 * One connection, one request, whatever FCGI_KEEP_CONN says: a worker must
 * not wait for a web server's next request.  The connection is handed to
 * libfcgi as one that it had kept open, so that accepting, with close-on-exec
 * and time limits, and closing remain ours; `detached' has it closed without
 * an unbounded wait where it fails, and without a listener it then gives up.
 */
static void
serve_connection(int fd, void *arg)
{
	const struct fcgi_server *server = arg;
	struct config *config = config_current();
	int64_t started_ms = clock_ms();
	FCGX_Request fcgi;

	set_timeout(fd, SO_RCVTIMEO, config->requests.timeout_ms);
	set_timeout(fd, SO_SNDTIMEO, config->requests.timeout_ms);
	(void)FCGX_InitRequest(&fcgi, -1, FCGI_FAIL_ACCEPT_ON_INTR);
	fcgi.ipcFd = fd;
	fcgi.keepConnection = 1;
	fcgi.detached = 1;
	if (FCGX_Accept_r(&fcgi) == 0)
		serve_request(&fcgi, config, started_ms, server->handler);
	else
		log_info("request.unreadable", "ms=%lld",
		    (long long)(clock_ms() - started_ms));
	config_unref(config);
}

enum err
fcgi_serve(int listen_fd, request_handler *handler, struct diag *diag)
{
	/* its threads may outlive this call, see accept_pool_run() */
	static struct fcgi_server server;
	struct config *config = config_current();
	struct accept_pool_options options = {
		.threads = config->requests.threads,
		.stack_bytes = THREAD_STACK_BYTES,
		.stop_ms = config->requests.stop_ms,
		.serve = serve_connection,
		.arg = &server,
	};

	config_unref(config);
	server.handler = handler;
	if (FCGX_Init() != 0) {
		diag_set(diag, "libfcgi cannot be initialised");
		return ERR_SYS;
	}
	return accept_pool_run(listen_fd, &options, diag);
}

void
fcgi_stop(void)
{
	accept_pool_stop();
}
