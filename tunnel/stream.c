/* SPDX-License-Identifier: MIT */
#include "tunnel/stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/str.h"
#include "common/xalloc.h"

/* one read(2) for several records; OpenSSL frees it while it is empty */
#define TLS_READ_BYTES (32 * 1024)

struct stream {
	int fd;
	SSL *ssl;	  /* NULL: plain */
	bool established; /* the handshake is over */
	bool broken;	  /* a call failed for good */
	bool unwritable;  /* a write did; what has come can still be read */
	bool cert_refused;
	bool read_wants_write; /* the last SSL_read() waits to write */
	bool write_wants_read; /* the last SSL_write() waits to read */
	bool filled;	       /* the last read stopped for want of room */
	bool ended; /* the last read found the end behind its bytes */
};

struct stream_trust {
	SSL_CTX *ctx;
};

/* Text of OpenSSL's last error; it never holds content. */
static const char *
ssl_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	return reason != NULL ? reason : "unknown error";
}

static bool
load_trust(SSL_CTX *ctx, const char *ca_file)
{
	return ca_file != NULL ? SSL_CTX_load_verify_file(ctx, ca_file) == 1
			       : SSL_CTX_set_default_verify_dir(ctx) == 1;
}

enum err
stream_trust_new(const char *ca_file, struct stream_trust **ret,
    struct diag *diag)
{
	SSL_CTX *ctx;

	ERR_clear_error();
	ctx = SSL_CTX_new(TLS_client_method());
	if (ctx == NULL ||
	    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    !load_trust(ctx, ca_file)) {
		diag_set(diag, "%s: cannot load trusted certificates: %s",
		    ca_file != NULL ? ca_file : "system store", ssl_reason());
		SSL_CTX_free(ctx);
		ERR_clear_error();
		return ERR_SYS;
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	/* WebSocket has an end of its own, close_notify tells nothing more */
	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
		SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, TLS_READ_BYTES);
	*ret = xcalloc(1, sizeof(**ret));
	(*ret)->ctx = ctx;
	return ERR_OK;
}

void
stream_trust_free(struct stream_trust *trust)
{
	if (trust == NULL)
		return;
	SSL_CTX_free(trust->ctx);
	free(trust);
}

struct stream *
stream_new(int fd)
{
	struct stream *stream = xcalloc(1, sizeof(*stream));

	stream->fd = fd;
	return stream;
}

void
stream_free(struct stream *stream)
{
	if (stream == NULL)
		return;
	SSL_free(stream->ssl);
	(void)close(stream->fd);
	free(stream);
}

int
stream_fd(const struct stream *stream)
{
	return stream->fd;
}

static bool
set_name(SSL *ssl, const char *name)
{
	char *copy; /* OpenSSL's macro casts const away */
	bool ok;

	if (str_is_address(name))
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl),
			   name) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	copy = xstrdup(name);
	ok = SSL_set1_host(ssl, copy) == 1 &&
	    SSL_set_tlsext_host_name(ssl, copy) == 1;
	free(copy);
	return ok;
}

enum err
stream_start_tls(struct stream *stream, const struct stream_trust *trust,
    const char *name, struct diag *diag)
{
	ERR_clear_error();
	stream->ssl = SSL_new(trust->ctx);
	if (stream->ssl == NULL || SSL_set_fd(stream->ssl, stream->fd) != 1 ||
	    !set_name(stream->ssl, name)) {
		diag_set(diag, "cannot start TLS: %s", ssl_reason());
		ERR_clear_error();
		return ERR_SYS;
	}
	SSL_set_connect_state(stream->ssl);
	return ERR_OK;
}

/* What the last call's result means; notes what it waits for. */
static enum stream_result
ssl_result(struct stream *stream, int rc, bool *wants_other, int other)
{
	int error = SSL_get_error(stream->ssl, rc);

	if (error == other) {
		*wants_other = true;
		return STREAM_WAIT;
	}
	switch (error) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return STREAM_WAIT;
	case SSL_ERROR_ZERO_RETURN:
		return STREAM_EOF;
	default:
		return STREAM_LOST;
	}
}

static void
explain_handshake(struct stream *stream, int saved_errno, struct diag *diag)
{
	long verify = SSL_get_verify_result(stream->ssl);

	if (verify != X509_V_OK) {
		stream->cert_refused = true;
		diag_set(diag, "certificate verify failed: %s",
		    X509_verify_cert_error_string(verify));
	} else if (ERR_peek_last_error() != 0) {
		diag_set(diag, "TLS handshake failed: %s", ssl_reason());
	} else {
		diag_set(diag, "TLS handshake failed: %s",
		    saved_errno == 0 ? "the peer closed the connection"
				     : strerror(saved_errno));
	}
}

enum stream_result
stream_handshake(struct stream *stream, struct diag *diag)
{
	enum stream_result result;
	int rc, saved_errno;

	if (stream->ssl == NULL)
		return STREAM_OK;
	ERR_clear_error();
	errno = 0;
	stream->read_wants_write = false;
	rc = SSL_do_handshake(stream->ssl);
	if (rc == 1) {
		stream->established = true;
		return STREAM_OK;
	}
	saved_errno = errno;
	result = ssl_result(stream, rc, &stream->read_wants_write,
	    SSL_ERROR_WANT_WRITE);
	if (result == STREAM_WAIT)
		return STREAM_WAIT;
	stream->broken = true;
	explain_handshake(stream, saved_errno, diag);
	ERR_clear_error();
	return STREAM_LOST;
}

bool
stream_cert_refused(const struct stream *stream)
{
	return stream->cert_refused;
}

static enum stream_result
plain_read(struct stream *stream, void *out, size_t size, size_t *ret_len)
{
	ssize_t n;

	do
		n = recv(stream->fd, out, size, MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n > 0) {
		*ret_len = (size_t)n;
		return STREAM_OK;
	}
	if (n == 0)
		return STREAM_EOF;
	return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_WAIT
						       : STREAM_LOST;
}

static enum stream_result
tls_read(struct stream *stream, uint8_t *out, size_t size, size_t *ret_len)
{
	enum stream_result result;
	size_t n;
	int rc;

	stream->read_wants_write = false;
	stream->filled = stream->ended = false;
	if (stream->broken)
		return STREAM_LOST;
	/* a call gives one record at most */
	while (*ret_len < size) {
		ERR_clear_error();
		rc = SSL_read_ex(stream->ssl, out + *ret_len, size - *ret_len,
		    &n);
		if (rc != 1) {
			result = ssl_result(stream, rc,
			    &stream->read_wants_write, SSL_ERROR_WANT_WRITE);
			ERR_clear_error();
			stream->broken = result == STREAM_LOST;
			/* an end is found again by the next call */
			stream->ended = result != STREAM_WAIT;
			return *ret_len > 0 ? STREAM_OK : result;
		}
		*ret_len += n;
	}
	stream->filled = true;
	return STREAM_OK;
}

enum stream_result
stream_read(struct stream *stream, void *out, size_t size, size_t *ret_len)
{
	*ret_len = 0;
	return stream->ssl == NULL ? plain_read(stream, out, size, ret_len)
				   : tls_read(stream, out, size, ret_len);
}

static enum stream_result
plain_write(struct stream *stream, const void *data, size_t len,
    size_t *ret_len)
{
	ssize_t n;

	do
		n = send(stream->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		return errno == EAGAIN || errno == EWOULDBLOCK ||
			errno == ENOBUFS
		    ? STREAM_WAIT
		    : STREAM_LOST;
	*ret_len = (size_t)n;
	return (size_t)n == len ? STREAM_OK : STREAM_WAIT;
}

static enum stream_result
tls_write(struct stream *stream, const uint8_t *data, size_t len,
    size_t *ret_len)
{
	enum stream_result result;
	size_t n;
	int rc;

	stream->write_wants_read = false;
	if (stream->broken || stream->unwritable)
		return STREAM_LOST;
	/* with partial writes a call sends one record at most */
	while (*ret_len < len) {
		ERR_clear_error();
		rc = SSL_write_ex(stream->ssl, data + *ret_len, len - *ret_len,
		    &n);
		if (rc != 1) {
			result = ssl_result(stream, rc,
			    &stream->write_wants_read, SSL_ERROR_WANT_READ);
			ERR_clear_error();
			if (result == STREAM_WAIT)
				return STREAM_WAIT;
			stream->unwritable = true;
			return STREAM_LOST;
		}
		*ret_len += n;
	}
	return STREAM_OK;
}

enum stream_result
stream_write(struct stream *stream, const void *data, size_t len,
    size_t *ret_len)
{
	*ret_len = 0;
	if (len == 0)
		return STREAM_OK;
	return stream->ssl == NULL ? plain_write(stream, data, len, ret_len)
				   : tls_write(stream, data, len, ret_len);
}

bool
stream_has_more(const struct stream *stream)
{
	/* read ahead: not SSL_pending(), which counts decrypted bytes only */
	return stream->ssl != NULL &&
	    (stream->ended ||
		(stream->filled && SSL_has_pending(stream->ssl) == 1));
}

void
stream_interest(const struct stream *stream, bool read, bool write,
    bool *ret_read, bool *ret_write)
{
	*ret_read = (read && !stream->read_wants_write) ||
	    (write && stream->write_wants_read);
	*ret_write = (write && !stream->write_wants_read) ||
	    (read && stream->read_wants_write);
}

void
stream_readiness(const struct stream *stream, bool readable, bool writable,
    bool *ret_read, bool *ret_write)
{
	*ret_read = stream->read_wants_write ? writable : readable;
	*ret_write = stream->write_wants_read ? readable : writable;
}

void
stream_shut(struct stream *stream)
{
	if (stream->ssl != NULL && stream->established && !stream->broken &&
	    !stream->unwritable) {
		ERR_clear_error();
		(void)SSL_shutdown(stream->ssl);
		ERR_clear_error();
	}
	(void)shutdown(stream->fd, SHUT_WR);
}
