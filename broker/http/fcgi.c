/* SPDX-License-Identifier: MIT */
#include "broker/http/fcgi.h"

#include <errno.h>
#include <fastcgi.h>
#include <fcgiapp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "broker/http/accept_pool.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"

/* Enough for our own frames and for libraries that recurse a little. */
#ifdef WITH_SANITIZERS
#define THREAD_STACK_BYTES (1024 * 1024)
#else
#define THREAD_STACK_BYTES (256 * 1024)
#endif

/* How long, and how much, of a body that nobody read is thrown away. */
#define LINGER_MS	 2000
#define LINGER_MAX_BYTES (16 * 1024 * 1024)

/* A body for which one waits longer than this is a slow one. */
#define PROMPT_MS 500

/* How many threads may wait for slow bodies, and do. */
static unsigned slow_max = 1;
static atomic_uint slow;

static void
set_timeout(int fd, int option, int64_t ms)
{
	struct timeval tv = {
		.tv_sec = (time_t)(ms / 1000),
		.tv_usec = (suseconds_t)(ms % 1000 * 1000),
	};

	(void)setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

struct connection {
	FCGX_Request fcgi;
	int64_t waited_ms; /* for its body */
};

static bool
begin_slow(void)
{
	if (atomic_fetch_add(&slow, 1) < slow_max)
		return true;
	(void)atomic_fetch_sub(&slow, 1);
	return false;
}

static void
end_slow(void)
{
	(void)atomic_fetch_sub(&slow, 1);
}

/* A byte, or EOF, into *ret; false where it takes too long. */
static bool
read_byte(struct connection *conn, int64_t ms, int *ret)
{
	FCGX_Stream *in = conn->fcgi.in;
	int64_t since_ms = clock_ms();

	/* libfcgi does not go on after that by itself */
	if (FCGX_GetError(in) == EAGAIN) {
		FCGX_ClearError(in);
		in->isClosed = 0;
	}
	set_timeout(conn->fcgi.ipcFd, SO_RCVTIMEO, ms);
	*ret = FCGX_GetChar(in);
	conn->waited_ms += clock_ms() - since_ms;
	return *ret != EOF || FCGX_GetError(in) != EAGAIN;
}

/*
 * The same, but for long in some of the threads only: Apache passes a body on
 * as it comes, so clients that are slow wait in them.
 */
static bool
await_byte(struct connection *conn, int64_t ms, int *ret)
{
	int64_t prompt_ms = PROMPT_MS - conn->waited_ms;
	bool there;

	if (prompt_ms > 0) {
		if (read_byte(conn, ms < prompt_ms ? ms : prompt_ms, ret))
			return true;
		ms -= prompt_ms;
	}
	if (ms <= 0 || !begin_slow())
		return false;
	there = read_byte(conn, ms, ret);
	end_slow();
	return there;
}

/*
 * FCGX_GetStr() alone would wait until the buffer is full, each time anew: so
 * have what is there, and wait for one byte more only, until the deadline.
 */
static enum err
read_input(void *arg, int64_t deadline_ms, char *buf, size_t size,
    size_t *ret_len)
{
	struct connection *conn = arg;
	FCGX_Stream *in = conn->fcgi.in;
	size_t ready = (size_t)(in->stop - in->rdNext);
	int64_t left_ms;
	int c;

	if (ready > 0) {
		*ret_len = (size_t)FCGX_GetStr(buf,
		    (int)(size < ready ? size : ready), in);
		return ERR_OK;
	}
	left_ms = deadline_ms - clock_ms();
	if (left_ms <= 0 || !await_byte(conn, left_ms, &c))
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
	FCGX_Request *fcgi = &((struct connection *)arg)->fcgi;
	int n = FCGX_PutStr(data, (int)len, fcgi->out);

	(void)deadline_ms;
	return n == (int)len ? ERR_OK : ERR_SYS;
}

/* Without an error stream, the end of the answer ends the request. */
static enum err
end_output(void *arg)
{
	FCGX_Request *fcgi = &((struct connection *)arg)->fcgi;
	int rc = FCGX_FClose(fcgi->err);

	return FCGX_FClose(fcgi->out) == 0 && rc == 0 ? ERR_OK : ERR_SYS;
}

/*
 * Take what the web server still sends, after the answer, up to the end of
 * input.  A socket that is closed before that fails the server's next write:
 * Apache then answers 503, though it has our answer.
 */
static void
drain_input(struct connection *conn)
{
	FCGX_Request *fcgi = &conn->fcgi;
	int64_t deadline_ms = clock_ms() + LINGER_MS, left_ms;
	size_t bytes = 0, n;
	ssize_t got;
	char trash[4096];

	while (bytes < LINGER_MAX_BYTES &&
	    read_input(conn, deadline_ms, trash, sizeof(trash), &n) == ERR_OK &&
	    n > 0)
		bytes += n;
	/* libfcgi reads no more of a stream on which a wait was too long */
	if (FCGX_GetError(fcgi->in) == 0 || !begin_slow())
		return;
	while (bytes < LINGER_MAX_BYTES &&
	    (left_ms = deadline_ms - clock_ms()) > 0) {
		set_timeout(fcgi->ipcFd, SO_RCVTIMEO, left_ms);
		got = recv(fcgi->ipcFd, trash, sizeof(trash), 0);
		if (got <= 0)
			break;
		bytes += (size_t)got;
	}
	end_slow();
}

/*
 * After the end of input the web server has nothing more to say: what can
 * still be read is the end of the connection.
 */
static int
leave(void *arg, uint16_t *ret_id)
{
	FCGX_Request *fcgi = &((struct connection *)arg)->fcgi;
	int fd = fcgi->ipcFd;

	drain_input(arg);
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
serve_request(struct connection *conn, const struct config *config,
    int64_t started_ms, request_handler *handler)
{
	FCGX_Request *fcgi = &conn->fcgi;
	struct request_source source = {
		.io = &fcgi_io,
		.io_arg = conn,
		.envp = fcgi->envp,
		.config = config,
		.started_ms = started_ms,
	};

	request_run(&source,
	    fcgi->role == FCGI_RESPONDER ? handler : refuse_role);
	if (fcgi->ipcFd != -1)
		drain_input(conn);
	FCGX_Free(fcgi, fcgi->ipcFd != -1);
}

/* ---- parameters in time ------------------------------------------------- */

/*
 * libfcgi reads them within one call, where SO_RCVTIMEO bounds each read alone:
 * so a thread looks after all that are being read, and ends the input of those
 * that take too long in all.
 */
struct reading {
	int fd;
	int64_t until_ms;
	TAILQ_ENTRY(reading) next;
	bool over; /* not in the list any more */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	TAILQ_HEAD(, reading) list; /* in the order of their begin */
	bool stopped;
} watch = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.list = TAILQ_HEAD_INITIALIZER(watch.list) };

static void
begin_reading(struct reading *reading, int fd, int64_t ms)
{
	*reading = (struct reading){ .fd = fd, .until_ms = clock_ms() + ms };
	(void)pthread_mutex_lock(&watch.lock);
	if (TAILQ_EMPTY(&watch.list))
		(void)pthread_cond_signal(&watch.changed);
	TAILQ_INSERT_TAIL(&watch.list, reading, next);
	(void)pthread_mutex_unlock(&watch.lock);
}

static void
end_reading(struct reading *reading)
{
	(void)pthread_mutex_lock(&watch.lock);
	if (!reading->over)
		TAILQ_REMOVE(&watch.list, reading, next);
	(void)pthread_mutex_unlock(&watch.lock);
}

static void *
run_watch(void *arg)
{
	struct reading *first;
	struct timespec until;

	(void)pthread_mutex_lock(&watch.lock);
	while (!watch.stopped) {
		first = TAILQ_FIRST(&watch.list);
		if (first == NULL) {
			(void)pthread_cond_wait(&watch.changed, &watch.lock);
		} else if (first->until_ms > clock_ms()) {
			until.tv_sec = (time_t)(first->until_ms / 1000);
			until.tv_nsec = first->until_ms % 1000 * 1000000;
			(void)pthread_cond_clockwait(&watch.changed,
			    &watch.lock, CLOCK_MONOTONIC, &until);
		} else {
			(void)shutdown(first->fd, SHUT_RD);
			TAILQ_REMOVE(&watch.list, first, next);
			first->over = true;
		}
	}
	(void)pthread_mutex_unlock(&watch.lock);
	return arg;
}

static void
stop_watch(pthread_t thread)
{
	(void)pthread_mutex_lock(&watch.lock);
	watch.stopped = true;
	(void)pthread_cond_signal(&watch.changed);
	(void)pthread_mutex_unlock(&watch.lock);
	(void)pthread_join(thread, NULL);
	watch.stopped = false;
}

/* ---- serving ------------------------------------------------------------ */

struct fcgi_server {
	request_handler *handler;
};

/*
 * Whether there is a request with all its parameters: libfcgi takes an end of
 * input among them, or a read that took too long, for their end.
 */
static bool
read_request(FCGX_Request *fcgi, int64_t timeout_ms)
{
	struct reading reading;
	bool whole;

	begin_reading(&reading, fcgi->ipcFd, timeout_ms);
	whole = FCGX_Accept_r(fcgi) == 0;
	end_reading(&reading);
	if (whole && FCGX_GetError(fcgi->in) != 0) {
		FCGX_Free(fcgi, 1);
		whole = false;
	}
	return whole;
}

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
	struct connection conn = { .waited_ms = 0 };

	set_timeout(fd, SO_RCVTIMEO, config->requests.timeout_ms);
	set_timeout(fd, SO_SNDTIMEO, config->requests.timeout_ms);
	(void)FCGX_InitRequest(&conn.fcgi, -1, FCGI_FAIL_ACCEPT_ON_INTR);
	conn.fcgi.ipcFd = fd;
	conn.fcgi.keepConnection = 1;
	conn.fcgi.detached = 1;
	if (read_request(&conn.fcgi, config->requests.timeout_ms))
		serve_request(&conn, config, started_ms, server->handler);
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
	pthread_t watcher;
	enum err err;
	struct accept_pool_options options = {
		.threads = config->requests.threads,
		.stack_bytes = THREAD_STACK_BYTES,
		.stop_ms = config->requests.stop_ms,
		.serve = serve_connection,
		.arg = &server,
	};

	config_unref(config);
	server.handler = handler;
	if (options.threads > 3)
		slow_max = options.threads / 2;
	if (FCGX_Init() != 0) {
		diag_set(diag, "libfcgi cannot be initialised");
		return ERR_SYS;
	}
	err = thread_start(&watcher, "fcgi-watch", run_watch, NULL, diag);
	if (err != ERR_OK)
		return err;
	err = accept_pool_run(listen_fd, &options, diag);
	stop_watch(watcher);
	return err;
}

void
fcgi_stop(void)
{
	accept_pool_stop();
}
