/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/xalloc.h"
#include "request.h"

#define WRITE_TIMEOUT_MS 30000

struct stream_tls {
	SSL_CTX *ctx;
};

struct stream {
	int fd;
	SSL *ssl;
};

enum err
stream_tls_new(const char *cert, const char *key, struct stream_tls **ret,
    struct diag *diag)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
		const char *why =
		    ERR_reason_error_string(ERR_peek_last_error());

		diag_set(diag, "cannot use %s with %s: %s", cert, key,
		    why == NULL ? "it cannot be read" : why);
		ERR_clear_error();
		SSL_CTX_free(ctx);
		return ERR_SYS;
	}
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
	*ret = xcalloc(1, sizeof(**ret));
	(*ret)->ctx = ctx;
	return ERR_OK;
}

void
stream_tls_free(struct stream_tls *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->ctx);
	free(tls);
}

/* Wait for poll events; false after the timeout. */
static bool
wait_for(int fd, short events, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int n;

	do
		n = poll(&pfd, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

/* After an SSL call that did not work: wait if waiting can help. */
static bool
ssl_wait(struct stream *s, int result, int timeout_ms)
{
	switch (SSL_get_error(s->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(s->fd, POLLIN, timeout_ms);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(s->fd, POLLOUT, timeout_ms);
	default:
		ERR_clear_error();
		return false;
	}
}

enum err
stream_new(int fd, struct stream_tls *tls, struct stream **ret)
{
	struct stream *s = xcalloc(1, sizeof(*s));
	int n;

	s->fd = fd;
	if (tls != NULL) {
		s->ssl = SSL_new(tls->ctx);
		SSL_set_fd(s->ssl, fd);
		while ((n = SSL_accept(s->ssl)) != 1) {
			if (ssl_wait(s, n, 10000))
				continue;
			SSL_free(s->ssl);
			s->ssl = NULL;
			stream_free(s);
			return ERR_UPSTREAM;
		}
	}
	*ret = s;
	return ERR_OK;
}

void
stream_free(struct stream *s)
{
	if (s == NULL)
		return;
	if (s->ssl != NULL) {
		if (SSL_is_init_finished(s->ssl))
			SSL_shutdown(s->ssl);
		SSL_free(s->ssl);
		ERR_clear_error();
	}
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

void
stream_reset(struct stream *s)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	/* Disconnects a TCP socket at once, with RST; it stays open. */
	(void)connect(s->fd, &none, sizeof(none));
}

int
stream_take_fd(struct stream *s)
{
	int fd = s->fd;

	s->fd = -1;
	return fd;
}

bool
stream_is_tls(const struct stream *s)
{
	return s->ssl != NULL;
}

ssize_t
stream_read(struct stream *s, void *data, size_t size, int timeout_ms)
{
	for (;;) {
		ssize_t n;

		if (s->ssl != NULL) {
			size_t got = 0;
			int result = SSL_read_ex(s->ssl, data, size, &got);

			if (result == 1)
				return (ssize_t)got;
			if (SSL_get_error(s->ssl, result) ==
			    SSL_ERROR_ZERO_RETURN)
				return 0;
			if (!ssl_wait(s, result, timeout_ms))
				return -1;
			continue;
		}
		n = recv(s->fd, data, size, 0);
		if (n >= 0)
			return n;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN || !wait_for(s->fd, POLLIN, timeout_ms))
			return -1;
	}
}

bool
stream_write(struct stream *s, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		size_t done = 0;

		if (s->ssl != NULL) {
			int result = SSL_write_ex(s->ssl, p, len, &done);

			if (result != 1 &&
			    !ssl_wait(s, result, WRITE_TIMEOUT_MS))
				return false;
			done = result == 1 ? done : 0;
		} else {
			ssize_t n = send(s->fd, p, len, MSG_NOSIGNAL);

			if (n < 0 && errno != EAGAIN && errno != EINTR)
				return false;
			if (n < 0 &&
			    !wait_for(s->fd, POLLOUT, WRITE_TIMEOUT_MS))
				return false;
			done = n < 0 ? 0 : (size_t)n;
		}
		p += done;
		len -= done;
	}
	return true;
}

/*
 * Plain: the head stays in the socket, for whoever the connection is handed
 * to.  poll() must not report again what was seen: the low-water mark rises.
 */
static size_t
peek_plain(struct stream *s, char *data, size_t size, int64_t deadline)
{
	size_t seen = 0, head = 0;
	int mark = 1;

	while (head == 0 && seen < size) {
		int64_t left = deadline - clock_ms();
		ssize_t n;

		mark = (int)seen + 1;
		setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark));
		if (left <= 0 || !wait_for(s->fd, POLLIN, (int)left))
			break;
		n = recv(s->fd, data, size, MSG_PEEK);
		if (n <= 0 || (size_t)n <= seen)
			break;
		seen = (size_t)n;
		head = request_head_len(data, seen);
	}
	mark = 1;
	setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark));
	return head;
}

size_t
stream_peek_head(struct stream *s, char *data, size_t size, int timeout_ms)
{
	int64_t deadline = clock_ms() + timeout_ms;
	size_t seen = 0;

	if (s->ssl == NULL)
		return peek_plain(s, data, size, deadline);
	while (seen < size) {
		int64_t left = deadline - clock_ms();
		ssize_t n;

		if (left <= 0)
			break;
		n = stream_read(s, data + seen, size - seen, (int)left);
		if (n <= 0)
			break;
		seen += (size_t)n;
		if (request_head_len(data, seen) > 0)
			return seen;
	}
	return 0;
}

bool
stream_wait(struct stream *s, int ms)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLRDHUP };

	return poll(&pfd, 1, ms) == 0;
}

/* One direction of the pump: bytes that were read and not yet written. */
struct lane {
	char data[64 * 1024];
	size_t start, end;
	bool eof;  /* nothing more will be read */
	bool shut; /* and the other side was told */
};

static bool
lane_wants(const struct lane *lane)
{
	return !lane->eof && lane->start == lane->end;
}

/* TLS to local; false where the connection is lost. */
static bool
pump_in(struct stream *s, struct lane *lane, int fd)
{
	if (lane_wants(lane)) {
		size_t n = 0;
		int result =
		    SSL_read_ex(s->ssl, lane->data, sizeof(lane->data), &n);
		int why = result == 1 ? 0 : SSL_get_error(s->ssl, result);

		lane->start = 0;
		lane->end = n;
		if (why == SSL_ERROR_ZERO_RETURN)
			lane->eof = true;
		else if (why != 0 && why != SSL_ERROR_WANT_READ &&
		    why != SSL_ERROR_WANT_WRITE)
			return false;
	}
	if (lane->start < lane->end) {
		ssize_t n = send(fd, lane->data + lane->start,
		    lane->end - lane->start, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		lane->start += n < 0 ? 0 : (size_t)n;
	}
	if (lane->eof && lane->start == lane->end && !lane->shut) {
		shutdown(fd, SHUT_WR);
		lane->shut = true;
	}
	return true;
}

/* Local to TLS; false where either is lost. */
static bool
pump_out(struct stream *s, struct lane *lane, int fd)
{
	if (lane_wants(lane)) {
		ssize_t n = recv(fd, lane->data, sizeof(lane->data), 0);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		lane->start = 0;
		lane->end = n < 0 ? 0 : (size_t)n;
		lane->eof = n == 0;
	}
	if (lane->start < lane->end) {
		size_t n = 0;
		int result = SSL_write_ex(s->ssl, lane->data + lane->start,
		    lane->end - lane->start, &n);
		int why = result == 1 ? 0 : SSL_get_error(s->ssl, result);

		if (why != 0 && why != SSL_ERROR_WANT_READ &&
		    why != SSL_ERROR_WANT_WRITE)
			return false;
		lane->start += n;
	}
	return !(lane->eof && lane->start == lane->end);
}

void
stream_pump(struct stream *s, int fd)
{
	struct lane *in = xcalloc(1, sizeof(*in));
	struct lane *out = xcalloc(1, sizeof(*out));

	for (;;) {
		struct pollfd pfds[2] = { { .fd = s->fd }, { .fd = fd } };

		if (!pump_in(s, in, fd) || !pump_out(s, out, fd))
			break;
		if (lane_wants(in) && SSL_pending(s->ssl) > 0)
			continue;
		if (lane_wants(in))
			pfds[0].events |= POLLIN;
		if (out->start < out->end)
			pfds[0].events |= POLLOUT;
		if (in->start < in->end)
			pfds[1].events |= POLLOUT;
		if (lane_wants(out))
			pfds[1].events |= POLLIN;
		/* A side that is not asked anything would only report HUP. */
		for (int i = 0; i < 2; i++)
			if (pfds[i].events == 0)
				pfds[i].fd = -1;
		if (poll(pfds, 2, -1) < 0 && errno != EINTR)
			break;
	}
	ERR_clear_error();
	free(in);
	free(out);
}
