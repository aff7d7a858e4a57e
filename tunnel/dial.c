/* SPDX-License-Identifier: MIT */
#include "tunnel/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crypt.h"
#include "common/http.h"
#include "common/xalloc.h"
#include "tunnel/http_head.h"

#define FIRST_ANSWER_BYTES 2048 /* enough for nearly all */
#define INTERIM_MAX	   8	/* answers before the real one */

enum dial_phase {
	DIAL_CONNECT,
	DIAL_TLS,
	DIAL_SEND,
	DIAL_ANSWER,
	DIAL_ENDED,
};

struct dial {
	struct loop *loop;
	struct wire_grant *grant;
	const struct stream_trust *system;
	struct stream_trust *own_trust; /* from the grant's file */
	dial_done done;
	void *arg;
	enum dial_phase phase;
	size_t next_address;
	int64_t deadline_ms;
	struct loop_timer *timer;
	struct stream *stream;
	struct loop_watch *watch;
	char *request; /* has the vendor's key: cleared once it has been sent */
	size_t request_len, request_sent;
	char accept[29];
	char *answer; /* of at most HTTP_HEAD_MAX_BYTES */
	size_t answer_len;
	size_t answer_size;
	unsigned interim; /* answers that came before it */
	struct dial_upstream upstream; /* once it is open */
	struct dial_refusal refusal;   /* the last failure */
	struct diag why;
};

static void
hang_up(struct dial *dial)
{
	loop_watch_free(dial->watch);
	dial->watch = NULL;
	stream_free(dial->stream);
	dial->stream = NULL;
}

static void
drop_request(struct dial *dial)
{
	if (dial->request != NULL)
		explicit_bzero(dial->request, dial->request_len);
	free(dial->request);
	dial->request = NULL;
}

static void
drop_answer(struct dial *dial)
{
	free(dial->answer);
	dial->answer = NULL;
	dial->answer_len = 0;
}

static void
drop_grant_headers(struct wire_grant *grant)
{
	struct wire_headers *headers = &grant->upstream.headers;

	for (size_t i = 0; i < headers->count; i++)
		if (headers->items[i].value != NULL)
			explicit_bzero(headers->items[i].value,
			    strlen(headers->items[i].value));
}

static void
note_failure(struct dial *dial, enum err err, const char *message)
{
	dial->refusal = (struct dial_refusal){
		.status = err_http_status(err),
		.code = err_code(err),
		.message = message,
		.why = dial->why.text,
	};
}

/* It is over: conclude() tells. */
static void
refuse(struct dial *dial)
{
	dial->phase = DIAL_ENDED;
	hang_up(dial);
	drop_request(dial);
}

/* ---- the request ------------------------------------------------------- */

static void PRINTF_LIKE(4, 5)
    put(char *out, size_t size, size_t *len, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out == NULL ? NULL : out + *len,
	    out == NULL ? 0 : size - *len, fmt, ap);
	va_end(ap);
	*len += n > 0 ? (size_t)n : 0;
}

/* Length of the request; with out NULL it is not written. */
static size_t
write_request(const struct wire_grant *grant, const char *key, char *out,
    size_t size)
{
	const struct wire_headers *headers = &grant->upstream.headers;
	size_t len = 0;

	put(out, size, &len,
	    "GET %s HTTP/1.1\r\n"
	    "Host: %s\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Key: %s\r\n"
	    "Sec-WebSocket-Version: 13\r\n",
	    grant->upstream.target, grant->upstream.host, key);
	for (size_t i = 0; i < grant->upstream.subprotocol_count; i++)
		put(out, size, &len, "%s%s",
		    i == 0 ? "Sec-WebSocket-Protocol: " : ", ",
		    grant->upstream.subprotocols[i]);
	if (grant->upstream.subprotocol_count > 0)
		put(out, size, &len, "\r\n");
	for (size_t i = 0; i < headers->count; i++)
		put(out, size, &len, "%s: %s\r\n", headers->items[i].name,
		    headers->items[i].value);
	put(out, size, &len, "\r\n");
	return len;
}

static void
make_request(struct dial *dial)
{
	uint8_t nonce[16];
	char *key;

	crypt_random(nonce, sizeof(nonce));
	key = crypt_base64(nonce, sizeof(nonce));
	crypt_ws_accept(key, strlen(key), dial->accept);
	/* measured first: a buffer that grows leaves copies of the secret */
	dial->request_len = write_request(dial->grant, key, NULL, 0);
	dial->request = xcalloc(1, dial->request_len + 1);
	(void)write_request(dial->grant, key, dial->request,
	    dial->request_len + 1);
	free(key);
}

/* ---- the answer -------------------------------------------------------- */

void
dial_refusal_from_status(int status, const char *retry_after,
    size_t retry_after_len, struct dial_refusal *ret)
{
	enum err err = status == 429 ? ERR_RATE : ERR_UPSTREAM;

	*ret = (struct dial_refusal){
		.status = err_http_status(err),
		.code = err_code(err),
	};
	if (status == 401 || status == 403) {
		ret->message = "the vendor refused the server's credentials";
		ret->why = "our key was refused";
	} else if (status == 429) {
		ret->message = "the vendor's rate limit is exceeded";
		ret->why = "rate limit of the vendor";
		ret->retry_after_s =
		    (unsigned)http_retry_after_s(retry_after, retry_after_len);
	} else if (status >= 500) {
		ret->message = "the vendor failed";
		ret->why = "server error of the vendor";
	} else if (status >= 400) {
		ret->message = "the vendor refused the request";
		ret->why = "request refused";
	} else if (status >= 300) {
		ret->message = "the vendor answered with a redirect";
		ret->why = "redirects are not followed";
	} else {
		ret->message = "the vendor did not open a WebSocket";
		ret->why = "not a WebSocket answer";
	}
}

/* Until when to stay away where nobody says it: not all the same time. */
static unsigned
some_seconds(void)
{
	return crypt_random_between(1, 5);
}

static void
refuse_bad_answer(struct dial *dial)
{
	note_failure(dial, ERR_UPSTREAM,
	    "the vendor's handshake answer is not valid");
	refuse(dial);
}

static void
refuse_status(struct dial *dial, const struct http_head *head)
{
	struct http_span retry = { NULL, 0 };

	if (http_head_get(head, "retry-after", &retry) != ERR_OK)
		retry.data = NULL;
	dial_refusal_from_status(head->status, retry.data, retry.len,
	    &dial->refusal);
	if (dial->refusal.status == 429 && dial->refusal.retry_after_s == 0)
		dial->refusal.retry_after_s = some_seconds();
	diag_set(&dial->why, "status %d: %s", head->status, dial->refusal.why);
	dial->refusal.why = dial->why.text;
	refuse(dial);
}

static void
succeed(struct dial *dial, const struct http_head *head,
    const struct http_span *subprotocol)
{
	struct dial_upstream *upstream = &dial->upstream;

	upstream->stream = dial->stream;
	upstream->watch = dial->watch;
	upstream->early_len = dial->answer_len - head->head_len;
	if (subprotocol->len > 0)
		upstream->subprotocol =
		    xstrndup(subprotocol->data, subprotocol->len);
	if (upstream->early_len > 0) {
		upstream->early = xcalloc(1, upstream->early_len);
		memcpy(upstream->early, dial->answer + head->head_len,
		    upstream->early_len);
	}
	dial->stream = NULL;
	dial->watch = NULL;
	dial->phase = DIAL_ENDED;
}

/* ERR_AGAIN: more must be read.  With anything else the dial has ended. */
static enum err
take_answer(struct dial *dial)
{
	struct http_span subprotocol;
	struct http_head head;
	enum err err;

	for (;;) {
		err = http_head_parse_response(dial->answer, dial->answer_len,
		    &head, &dial->why);
		if (err == ERR_AGAIN)
			return ERR_AGAIN;
		if (err != ERR_OK || head.status < 100 || head.status == 101 ||
		    head.status > 199)
			break;
		/* an interim answer (RFC 9110 15.2): the real one follows */
		if (++dial->interim > INTERIM_MAX) {
			diag_set(&dial->why, "interim answers without end");
			err = ERR_PROTO;
			break;
		}
		dial->answer_len -= head.head_len;
		memmove(dial->answer, dial->answer + head.head_len,
		    dial->answer_len);
	}
	if (err != ERR_OK)
		refuse_bad_answer(dial);
	else if (head.status != 101)
		refuse_status(dial, &head);
	else if (http_head_check_accept(&head, dial->accept,
		     dial->grant->upstream.subprotocols,
		     dial->grant->upstream.subprotocol_count, &subprotocol,
		     &dial->why) != ERR_OK)
		refuse_bad_answer(dial);
	else
		succeed(dial, &head, &subprotocol);
	return ERR_OK;
}

/* The parser refuses a head that fills the maximum: there is always room. */
static void
make_room(struct dial *dial)
{
	if (dial->answer_len < dial->answer_size)
		return;
	dial->answer_size = dial->answer_size == 0 ? FIRST_ANSWER_BYTES
						   : HTTP_HEAD_MAX_BYTES + 1;
	dial->answer = xreallocarray(dial->answer, dial->answer_size, 1);
}

static void
step_answer(struct dial *dial)
{
	enum stream_result result;
	size_t n;

	do {
		make_room(dial);
		result =
		    stream_read(dial->stream, dial->answer + dial->answer_len,
			dial->answer_size - dial->answer_len, &n);
		if (result == STREAM_WAIT)
			return;
		if (result != STREAM_OK) {
			diag_set(&dial->why,
			    "the vendor closed the "
			    "connection before it answered");
			note_failure(dial, ERR_UPSTREAM,
			    "the vendor closed the connection");
			refuse(dial);
			return;
		}
		dial->answer_len += n;
	} while (take_answer(dial) == ERR_AGAIN);
}

/* ---- the steps before -------------------------------------------------- */

static void try_next(struct dial *dial);

/* This address failed; the failure is noted. */
static void
give_up_address(struct dial *dial)
{
	hang_up(dial);
	try_next(dial);
}

/* Whether the step is done; else it waits, or this address has failed. */
static bool
step_connect(struct dial *dial)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(stream_fd(dial->stream), SOL_SOCKET, SO_ERROR, &error,
		&len) == -1)
		error = errno;
	if (error != 0) {
		diag_set(&dial->why, "cannot connect to %s: %s",
		    dial->grant->upstream.addresses[dial->next_address - 1],
		    strerror(error));
		note_failure(dial, ERR_UPSTREAM,
		    "cannot connect to the vendor");
		give_up_address(dial);
		return false;
	}
	return true;
}

static bool
start_tls(struct dial *dial)
{
	const struct wire_grant *grant = dial->grant;
	const struct stream_trust *trust = dial->system;
	enum err err = ERR_OK;

	if (grant->upstream.ca_file != NULL && dial->own_trust == NULL)
		err = stream_trust_new(grant->upstream.ca_file,
		    &dial->own_trust, &dial->why);
	if (dial->own_trust != NULL)
		trust = dial->own_trust;
	if (err == ERR_OK)
		err = stream_start_tls(dial->stream, trust,
		    grant->upstream.name, &dial->why);
	if (err == ERR_OK)
		return true;
	note_failure(dial, ERR_UPSTREAM, "cannot start TLS to the vendor");
	refuse(dial);
	return false;
}

static bool
step_tls(struct dial *dial)
{
	enum stream_result result = stream_handshake(dial->stream, &dial->why);

	if (result == STREAM_OK)
		return true;
	if (result == STREAM_WAIT)
		return false;
	note_failure(dial, ERR_UPSTREAM,
	    stream_cert_refused(dial->stream)
		? "the vendor's certificate is not trusted"
		: "TLS with the vendor failed");
	/* a certificate is a matter of the name, not of the address */
	if (stream_cert_refused(dial->stream))
		refuse(dial);
	else
		give_up_address(dial);
	return false;
}

static bool
step_send(struct dial *dial)
{
	enum stream_result result;
	size_t n;

	result = stream_write(dial->stream, dial->request + dial->request_sent,
	    dial->request_len - dial->request_sent, &n);
	dial->request_sent += n;
	if (result == STREAM_OK) {
		drop_request(dial);
		drop_grant_headers(dial->grant);
		return true;
	}
	if (result == STREAM_LOST) {
		diag_set(&dial->why,
		    "the connection broke while the request "
		    "was being sent");
		note_failure(dial, ERR_UPSTREAM,
		    "the vendor closed the connection");
		refuse(dial);
	}
	return false;
}

/* The address is good and trusted: from here on there is no other. */
static void
begin_request(struct dial *dial)
{
	make_request(dial);
	dial->phase = DIAL_SEND;
	loop_timer_set(dial->timer, dial->deadline_ms - clock_ms());
}

/*
 * The end of every event: wait for what the phase needs, or, where the dial
 * has ended, tell; the callee may free it.
 */
static void
conclude(struct dial *dial)
{
	bool read = dial->phase == DIAL_TLS || dial->phase == DIAL_ANSWER;
	bool write = dial->phase == DIAL_CONNECT || dial->phase == DIAL_SEND;
	bool wants_read, wants_write;

	if (dial->phase != DIAL_ENDED) {
		stream_interest(dial->stream, read, write, &wants_read,
		    &wants_write);
		loop_watch_set(dial->watch, wants_read, wants_write);
		return;
	}
	loop_timer_stop(dial->timer);
	if (dial->upstream.stream != NULL) {
		struct dial_upstream upstream = dial->upstream;

		dial->upstream = (struct dial_upstream){ .stream = NULL };
		dial->done(dial->arg, &upstream, NULL);
	} else {
		dial->done(dial->arg, NULL, &dial->refusal);
	}
}

static void
step(struct dial *dial)
{
	if (dial->phase == DIAL_CONNECT) {
		if (!step_connect(dial))
			return;
		if (dial->grant->upstream.tls) {
			if (!start_tls(dial))
				return;
			dial->phase = DIAL_TLS;
		} else {
			begin_request(dial);
		}
	}
	if (dial->phase == DIAL_TLS) {
		if (!step_tls(dial))
			return;
		begin_request(dial);
	}
	if (dial->phase == DIAL_SEND) {
		if (!step_send(dial))
			return;
		dial->phase = DIAL_ANSWER;
	}
	step_answer(dial);
}

static void
on_ready(void *arg, bool readable, bool writable)
{
	struct dial *dial = arg;

	(void)readable;
	(void)writable;
	step(dial);
	conclude(dial);
}

static socklen_t
make_address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *in6 = (void *)ret;
	struct sockaddr_in *in = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		return sizeof(*in);
	}
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		return sizeof(*in6);
	}
	return 0;
}

/* Start to connect: the descriptor, or -1 with errno. */
static int
start_connect(const char *text, uint16_t port)
{
	struct sockaddr_storage addr;
	socklen_t len = make_address(text, port, &addr);
	int fd, one = 1, saved;

	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd == -1)
		return -1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const void *)&addr, len) == 0 || errno == EINPROGRESS)
		return fd;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return -1;
}

/* Whether it is this machine that lacks something, and no fault of a vendor. */
static bool
is_ours(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM ||
	    error == ENOBUFS || error == EADDRNOTAVAIL;
}

static bool
open_address(struct dial *dial, const char *address)
{
	int fd = start_connect(address, dial->grant->upstream.port);
	enum err err;

	if (fd == -1) {
		err = is_ours(errno) ? ERR_UNAVAIL : ERR_UPSTREAM;
		diag_set(&dial->why, "cannot connect to %s: %s", address,
		    strerror(errno));
		note_failure(dial, err, "cannot connect to the vendor");
		if (err == ERR_UNAVAIL)
			dial->refusal.retry_after_s = some_seconds();
		return false;
	}
	dial->stream = stream_new(fd);
	dial->watch = loop_watch_new(dial->loop, fd, on_ready, dial);
	return true;
}

/* Begin with the next address that takes the attempt; else it is over. */
static void
try_next(struct dial *dial)
{
	const size_t count = dial->grant->upstream.address_count;
	int64_t left = dial->deadline_ms - clock_ms();

	while (dial->next_address < count && left > 0) {
		const char *address =
		    dial->grant->upstream.addresses[dial->next_address++];

		if (!open_address(dial, address))
			continue;
		dial->phase = DIAL_CONNECT;
		loop_timer_set(dial->timer,
		    left / (int64_t)(count - dial->next_address + 1));
		return;
	}
	refuse(dial);
}

static void
on_timer(void *arg)
{
	static const char *const waits[] = {
		[DIAL_CONNECT] = "connect",
		[DIAL_TLS] = "the TLS handshake",
		[DIAL_SEND] = "the request",
		[DIAL_ANSWER] = "the answer",
	};
	struct dial *dial = arg;

	if (dial->phase == DIAL_ENDED) { /* in dial_start() already */
		conclude(dial);
		return;
	}
	diag_set(&dial->why, "timed out at %s", waits[dial->phase]);
	note_failure(dial, ERR_UPSTREAM_TIMEOUT,
	    err_text(ERR_UPSTREAM_TIMEOUT));
	if (dial->phase == DIAL_CONNECT || dial->phase == DIAL_TLS)
		give_up_address(dial);
	else
		refuse(dial);
	conclude(dial);
}

struct dial *
dial_start(struct loop *loop, const struct stream_trust *system,
    struct wire_grant *grant, dial_done done, void *arg)
{
	struct dial *dial = xcalloc(1, sizeof(*dial));

	dial->loop = loop;
	dial->system = system;
	dial->grant = grant;
	dial->done = done;
	dial->arg = arg;
	dial->deadline_ms = clock_ms() + grant->limits.connect_ms;
	dial->timer = loop_timer_new(loop, on_timer, dial);
	note_failure(dial, ERR_UPSTREAM, "the vendor has no address");
	try_next(dial);
	if (dial->phase == DIAL_ENDED)
		loop_timer_set(dial->timer, 0);
	else
		conclude(dial);
	return dial;
}

void
dial_free(struct dial *dial)
{
	if (dial == NULL)
		return;
	hang_up(dial);
	drop_request(dial);
	drop_answer(dial);
	drop_grant_headers(dial->grant);
	stream_trust_free(dial->own_trust);
	loop_timer_free(dial->timer);
	free(dial);
}
