/* SPDX-License-Identifier: MIT */
#include "broker/http/request.h"

#include <errno.h>
#include <fastcgi.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "broker/http/accept_pool.h"
#include "broker/http/request_parse.h"
#include "broker/tunnels/target.h"
#include "common/clock.h"
#include "common/http.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

extern char **environ;

/* Enough for our own frames and for libraries that recurse a little. */
#ifdef WITH_SANITIZERS
#define THREAD_STACK_BYTES (1024 * 1024)
#else
#define THREAD_STACK_BYTES (256 * 1024)
#endif

/* How long, and how much, of a body that nobody read is thrown away. */
#define LINGER_MS	 2000
#define LINGER_MAX_BYTES (16 * 1024 * 1024)

struct header {
	char *name, *value;
	struct header *next;
};

/* How the two kinds of request are read and written. */
struct request_io {
	/* ERR_OK and *ret_len, 0 at the end of input; ERR_TIMEOUT. */
	enum err (*read)(struct request *req, char *buf, size_t size,
	    size_t *ret_len);
	/* Write all; ERR_TIMEOUT, ERR_SYS where the client is gone. */
	enum err (*write)(struct request *req, const char *data, size_t len);
	/* End the answer; errors as of write. */
	enum err (*end)(struct request *req);
};

struct request {
	const struct request_io *io;
	FCGX_Request *fcgi; /* NULL in plain CGI */
	char *const *envp;
	const struct config *config;
	int64_t started_ms;
	int64_t deadline_ms;   /* of reading; then, of writing */
	char *path;	       /* NULL until it has been checked */
	struct target *target; /* of the query; NULL until it is asked for */
	json_t *body;
	char *raw; /* the body as it came */
	size_t raw_len;
	request_error_form *error_form; /* NULL: ours */
	bool answered;
	int status;
	char *answer; /* NULL for an answer without a body */
	size_t answer_len;
	char *answer_type; /* NULL: JSON */
	struct header *headers, **headers_end;
};

/* ---- what handlers ask ---------------------------------------------- */

/* A CGI meta-variable (RFC 3875 4.1) or NULL. */
static const char *
param(const struct request *req, const char *name)
{
	return request_parse_param(req->envp, name);
}

const char *
request_header(const struct request *req, const char *name)
{
	return request_parse_header(req->envp, name);
}

const char *
request_method(const struct request *req)
{
	return param(req, "REQUEST_METHOD");
}

const char *
request_path(const struct request *req)
{
	return req->path;
}

const char *
request_client(const struct request *req)
{
	return param(req, "REMOTE_ADDR");
}

const char *
request_remote_user(const struct request *req)
{
	const char *user = param(req, "REMOTE_USER");

	return user == NULL || *user == '\0' ? NULL : user;
}

const char *
request_scheme(const struct request *req)
{
	return request_parse_scheme(req->envp);
}

/* Parsed as a tunnel's; the path has been checked on its own. */
static enum err
parse_query(struct request *req, struct diag *diag)
{
	char *text = xasprintf("/?%s", request_parse_query(req->envp));
	enum err err = target_parse(text, &req->target, diag);

	explicit_bzero(text, strlen(text));
	free(text);
	return err;
}

enum err
request_query(struct request *req, const char *name, const char **ret,
    struct diag *diag)
{
	enum err err = ERR_OK;

	if (req->target == NULL)
		err = parse_query(req, diag);
	if (err == ERR_OK)
		*ret = target_find(req->target, name);
	return err;
}

const struct config *
request_config(const struct request *req)
{
	return req->config;
}

/* Read exactly len bytes; an end before that is ERR_PROTO. */
static enum err
read_body(struct request *req, char *buf, size_t len, struct diag *diag)
{
	size_t done = 0, n;
	enum err err;

	while (done < len) {
		err = req->io->read(req, buf + done, len - done, &n);
		if (err != ERR_OK) {
			diag_set(diag, "the body did not come in time");
			return err;
		}
		if (n == 0) {
			diag_set(diag, "the body is shorter than announced");
			return ERR_PROTO;
		}
		done += n;
	}
	return ERR_OK;
}

/* Check the announced length before a byte is read. */
static enum err
body_length(const struct request *req, uint64_t max, uint64_t *ret,
    struct diag *diag)
{
	if (request_parse_length(param(req, "CONTENT_LENGTH"), ret) != ERR_OK ||
	    *ret == 0) {
		diag_set(diag, "there is no body");
		return ERR_PROTO;
	}
	if (*ret > max) {
		diag_set(diag, "the body is larger than %llu bytes",
		    (unsigned long long)max);
		return ERR_LIMIT;
	}
	return ERR_OK;
}

/* Read all of the body into memory of its own; the caller frees it. */
static enum err
take_body(struct request *req, uint64_t max, char **ret, size_t *ret_len,
    struct diag *diag)
{
	uint64_t len;
	enum err err = body_length(req, max, &len, diag);
	char *data;

	if (err != ERR_OK)
		return err;
	data = xcalloc(1, (size_t)len + 1);
	err = read_body(req, data, (size_t)len, diag);
	if (err != ERR_OK) {
		explicit_bzero(data, (size_t)len);
		free(data);
		return err;
	}
	*ret = data;
	*ret_len = (size_t)len;
	return ERR_OK;
}

enum err
request_body(struct request *req, const char *const types[], size_t max_bytes,
    const char **ret_data, size_t *ret_len, const char **ret_type,
    struct diag *diag)
{
	const char *type = param(req, "CONTENT_TYPE");
	const char *const *known = types;
	enum err err = ERR_OK;

	while (type != NULL && *known != NULL &&
	    !request_parse_is_type(type, *known))
		known++;
	if (type == NULL || *known == NULL) {
		diag_set(diag, "the body has to be %s", types[0]);
		return ERR_TYPE;
	}
	if (req->raw == NULL)
		err = take_body(req, max_bytes, &req->raw, &req->raw_len, diag);
	if (err != ERR_OK)
		return err;
	*ret_data = req->raw;
	*ret_len = req->raw_len;
	*ret_type = type;
	return ERR_OK;
}

enum err
request_json(struct request *req, const json_t **ret, struct diag *diag)
{
	const char *type = param(req, "CONTENT_TYPE");
	size_t len;
	enum err err;
	char *text;

	if (req->body != NULL) {
		*ret = req->body;
		return ERR_OK;
	}
	if (type == NULL || !request_parse_is_type(type, "application/json")) {
		diag_set(diag, "%s", err_text(ERR_TYPE));
		return ERR_TYPE;
	}
	err =
	    take_body(req, req->config->requests.body_bytes, &text, &len, diag);
	if (err != ERR_OK)
		return err;
	err = json_parse(text, len, &req->body, diag);
	explicit_bzero(text, len);
	free(text);
	if (err == ERR_OK && !json_is_object(req->body)) {
		diag_set(diag, "the body is not a JSON object");
		json_decref(req->body);
		req->body = NULL;
		err = ERR_PROTO;
	}
	if (err == ERR_OK)
		*ret = req->body;
	return err;
}

/* ---- what handlers answer ------------------------------------------- */

void
request_add_header(struct request *req, const char *name, const char *value)
{
	struct header *header;

	if (!str_is_token(name, strlen(name)) ||
	    !str_is_field_value(value, strlen(value)))
		return;
	header = xcalloc(1, sizeof(*header));
	header->name = xstrdup(name);
	header->value = xstrdup(value);
	*req->headers_end = header;
	req->headers_end = &header->next;
}

static void
set_answer(struct request *req, int status, char *answer, size_t len)
{
	if (req->answered) {
		free(answer);
		log_error("request.answered_twice", "status=%d", status);
		return;
	}
	req->answered = true;
	req->status = status;
	req->answer = answer;
	req->answer_len = len;
}

void
request_reply_json(struct request *req, int status, json_t *body)
{
	size_t len;
	char *text = json_text(body, &len);

	json_decref(body);
	set_answer(req, status, text, len);
}

void
request_reply_empty(struct request *req, int status)
{
	set_answer(req, status, NULL, 0);
}

void
request_reply(struct request *req, int status, const char *content_type,
    const void *body, size_t len)
{
	char *copy = xcalloc(1, len + 1);

	memcpy(copy, body, len);
	if (!req->answered &&
	    str_is_field_value(content_type, strlen(content_type)))
		req->answer_type = xstrdup(content_type);
	set_answer(req, status, copy, len);
}

void
request_set_error_form(struct request *req, request_error_form *form)
{
	req->error_form = form;
}

void
request_reply_status(struct request *req, int status, const char *code,
    const char *message)
{
	/* it may have been cut within a character */
	if (!str_is_utf8(message, strlen(message)))
		message = code;
	request_reply_json(req, status,
	    req->error_form == NULL ? http_error(code, message)
				    : req->error_form(code, message));
}

void
request_reply_error(struct request *req, enum err err, const char *message)
{
	request_reply_status(req, err_http_status(err), err_code(err),
	    message == NULL ? err_text(err) : message);
}

/* What every answer has, unless its handler says something else. */
static const struct {
	const char *name, *value;
} standard_headers[] = {
	{ "Cache-Control", "no-store" },
	{ "X-Content-Type-Options", "nosniff" },
};

static void
put_standard_headers(const struct request *req, FILE *out)
{
	for (size_t i = 0;
	     i < sizeof(standard_headers) / sizeof(standard_headers[0]); i++) {
		const struct header *h = req->headers;

		while (h != NULL &&
		    strcasecmp(h->name, standard_headers[i].name) != 0)
			h = h->next;
		if (h == NULL)
			(void)fprintf(out, "%s: %s\r\n",
			    standard_headers[i].name,
			    standard_headers[i].value);
	}
}

/* The head of the answer (RFC 3875 6.3); the caller frees it. */
static char *
format_head(const struct request *req, size_t *ret_len)
{
	char *text;
	FILE *out = open_memstream(&text, ret_len);

	if (out == NULL)
		abort(); /* out of memory */
	(void)fprintf(out, "Status: %d %s\r\n", req->status,
	    http_phrase(req->status));
	if (req->answer != NULL)
		(void)fprintf(out,
		    "Content-Type: %s\r\n"
		    "Content-Length: %zu\r\n",
		    req->answer_type == NULL ? "application/json"
					     : req->answer_type,
		    req->answer_len);
	put_standard_headers(req, out);
	for (const struct header *h = req->headers; h != NULL; h = h->next)
		(void)fprintf(out, "%s: %s\r\n", h->name, h->value);
	(void)fputs("\r\n", out);
	if (fclose(out) != 0)
		abort();
	return text;
}

static enum err
send_answer(struct request *req)
{
	const char *method = request_method(req);
	size_t head_len;
	char *head = format_head(req, &head_len);
	enum err err = req->io->write(req, head, head_len);

	free(head);
	if (err == ERR_OK && req->answer != NULL &&
	    (method == NULL || strcmp(method, "HEAD") != 0))
		err = req->io->write(req, req->answer, req->answer_len);
	if (err == ERR_OK)
		err = req->io->end(req);
	return err;
}

/* ---- the life of a request ------------------------------------------ */

static void
log_end(const struct request *req, enum err err)
{
	const char *method = request_method(req), *client = request_client(req);
	char method_word[40], path_word[200], client_word[64];
	long long ms = (long long)(clock_ms() - req->started_ms);

	(void)str_escape(method_word, sizeof(method_word),
	    method == NULL ? "-" : method, method == NULL ? 1 : strlen(method));
	target_describe(req->path == NULL ? "-" : req->path, path_word,
	    sizeof(path_word));
	(void)str_escape(client_word, sizeof(client_word),
	    client == NULL ? "-" : client, client == NULL ? 1 : strlen(client));
	if (err != ERR_OK)
		log_info("request.unanswered",
		    "method=%s path=%s client=%s "
		    "status=%d ms=%lld",
		    method_word, path_word, client_word, req->status, ms);
	else
		log_debug("request.end",
		    "method=%s path=%s client=%s "
		    "status=%d ms=%lld",
		    method_word, path_word, client_word, req->status, ms);
}

/* Check it, have it handled, answer. */
static void
request_run(struct request *req, request_handler *handler)
{
	struct diag diag = { "" };
	enum err err = request_parse_check(req->envp, &diag);

	req->headers_end = &req->headers;
	if (err == ERR_OK) {
		err = request_parse_path(req->envp,
		    req->config->requests.base_path, &req->path);
		diag_set(&diag,
		    err == ERR_NOTFOUND ? "the path is not under `base_path'"
					: "the path is not acceptable");
	}
	if (err == ERR_OK)
		handler(req);
	else
		request_reply_error(req, err, diag.text);
	if (!req->answered) {
		log_error("request.not_answered", "ms=%lld",
		    (long long)(clock_ms() - req->started_ms));
		request_reply_error(req, ERR_SYS, NULL);
	}
	req->deadline_ms = clock_ms() + req->config->requests.timeout_ms;
	log_end(req, send_answer(req));
}

static void
request_done(struct request *req)
{
	struct header *header;

	while ((header = req->headers) != NULL) {
		req->headers = header->next;
		free(header->name);
		free(header->value);
		free(header);
	}
	json_decref(req->body);
	if (req->answer != NULL)
		explicit_bzero(req->answer, req->answer_len);
	free(req->answer);
	free(req->answer_type);
	if (req->raw != NULL)
		explicit_bzero(req->raw, req->raw_len);
	free(req->raw);
	target_free(req->target);
	free(req->path);
}

/* ---- FastCGI --------------------------------------------------------- */

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
fcgi_read(struct request *req, char *buf, size_t size, size_t *ret_len)
{
	FCGX_Stream *in = req->fcgi->in;
	size_t ready = (size_t)(in->stop - in->rdNext);
	int64_t left_ms;
	int c;

	if (ready > 0) {
		*ret_len = (size_t)FCGX_GetStr(buf,
		    (int)(size < ready ? size : ready), in);
		return ERR_OK;
	}
	left_ms = req->deadline_ms - clock_ms();
	if (left_ms <= 0)
		return ERR_TIMEOUT;
	set_timeout(req->fcgi->ipcFd, SO_RCVTIMEO, left_ms);
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
fcgi_write(struct request *req, const char *data, size_t len)
{
	int n = FCGX_PutStr(data, (int)len, req->fcgi->out);

	return n == (int)len ? ERR_OK : ERR_SYS;
}

/* Without an error stream, the end of the answer ends the request. */
static enum err
fcgi_end(struct request *req)
{
	int rc = FCGX_FClose(req->fcgi->err);

	return FCGX_FClose(req->fcgi->out) == 0 && rc == 0 ? ERR_OK : ERR_SYS;
}

static const struct request_io fcgi_io = {
	.read = fcgi_read,
	.write = fcgi_write,
	.end = fcgi_end,
};

/*
 * Take what the web server still sends, after the answer, up to the end of
 * input.  A socket that is closed before that fails the server's next write:
 * Apache then answers 503, though it has our answer.
 */
static void
drain_input(struct request *req)
{
	int fd = req->fcgi->ipcFd;
	int64_t left_ms;
	size_t bytes = 0, n;
	ssize_t got;
	char trash[4096];

	req->deadline_ms = clock_ms() + LINGER_MS;
	while (bytes < LINGER_MAX_BYTES &&
	    fcgi_read(req, trash, sizeof(trash), &n) == ERR_OK && n > 0)
		bytes += n;
	/* libfcgi reads no more of a stream on which a wait was too long */
	while (FCGX_GetError(req->fcgi->in) != 0 && bytes < LINGER_MAX_BYTES &&
	    (left_ms = req->deadline_ms - clock_ms()) > 0) {
		set_timeout(fd, SO_RCVTIMEO, left_ms);
		got = recv(fd, trash, sizeof(trash), 0);
		if (got <= 0)
			break;
		bytes += (size_t)got;
	}
}

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
	struct request req = {
		.io = &fcgi_io,
		.fcgi = fcgi,
		.envp = fcgi->envp,
		.config = config,
		.started_ms = started_ms,
		.deadline_ms = started_ms + config->requests.timeout_ms,
	};

	request_run(&req, fcgi->role == FCGI_RESPONDER ? handler : refuse_role);
	drain_input(&req);
	request_done(&req);
	FCGX_Free(fcgi, 1);
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
request_serve_fcgi(int listen_fd, request_handler *handler, struct diag *diag)
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
request_stop(void)
{
	accept_pool_stop();
}

/* ---- plain CGI -------------------------------------------------------- */

/* Wait for a descriptor until the deadline. */
static bool
is_ready(int fd, short events, int64_t deadline_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int64_t left_ms;

	do {
		left_ms = deadline_ms - clock_ms();
		if (left_ms <= 0)
			return false;
	} while (poll(&pfd, 1, (int)left_ms) != 1);
	return true;
}

static enum err
cgi_read(struct request *req, char *buf, size_t size, size_t *ret_len)
{
	ssize_t n;

	do {
		if (!is_ready(STDIN_FILENO, POLLIN, req->deadline_ms))
			return ERR_TIMEOUT;
		n = read(STDIN_FILENO, buf, size);
	} while (n == -1 && (errno == EINTR || errno == EAGAIN));
	*ret_len = n < 0 ? 0 : (size_t)n;
	return ERR_OK;
}

static enum err
cgi_write(struct request *req, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n;

		if (!is_ready(STDOUT_FILENO, POLLOUT, req->deadline_ms))
			return ERR_TIMEOUT;
		n = write(STDOUT_FILENO, data, len);
		if (n == -1 && errno != EINTR && errno != EAGAIN)
			return ERR_SYS;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return ERR_OK;
}

/* The process ends next. */
static enum err
cgi_end(struct request *req)
{
	(void)req;
	return ERR_OK;
}

static const struct request_io cgi_io = {
	.read = cgi_read,
	.write = cgi_write,
	.end = cgi_end,
};

bool
request_is_cgi(void)
{
	return getenv("GATEWAY_INTERFACE") != NULL;
}

enum err
request_serve_cgi(request_handler *handler, struct diag *diag)
{
	struct config *config = config_current();
	struct request req = {
		.io = &cgi_io,
		.envp = environ,
		.config = config,
		.started_ms = clock_ms(),
	};
	int flags = fcntl(STDOUT_FILENO, F_GETFL);

	/* a client's header, which libraries take for their proxy */
	(void)unsetenv("HTTP_PROXY");
	req.envp = environ;
	req.deadline_ms = req.started_ms + config->requests.timeout_ms;
	/* a pipe that has room for less than all of it must not block */
	if (flags == -1 ||
	    fcntl(STDOUT_FILENO, F_SETFL, flags | O_NONBLOCK) == -1) {
		diag_set(diag, "standard output: %s", strerror(errno));
		config_unref(config);
		return ERR_SYS;
	}
	request_run(&req, handler);
	request_done(&req);
	config_unref(config);
	return ERR_OK;
}
