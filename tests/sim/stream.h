/* SPDX-License-Identifier: MIT */
#ifndef SIM_STREAM_H
#define SIM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"

/*
 * stream: one accepted connection, plain or TLS, used by one thread that may
 * wait.  The only user of OpenSSL's TLS here.
 */
struct stream_tls;
struct stream;

/* A server's certificate chain and key (PEM). */
enum err stream_tls_new(const char *cert, const char *key,
    struct stream_tls **ret, struct diag *diag) MUST_CHECK;
void stream_tls_free(struct stream_tls *tls);

/*
 * Take a connected socket over; does the TLS handshake where tls is not NULL.
 * The socket is closed where it fails (ERR_UPSTREAM).
 */
enum err stream_new(int fd, struct stream_tls *tls,
    struct stream **ret) MUST_CHECK;

/* Ends the connection in order; NULL is allowed. */
void stream_free(struct stream *stream);

/* Send RST instead of an orderly end; may be called by another thread. */
void stream_reset(struct stream *stream);

/* Stop for good: the descriptor is the caller's.  Plain streams only. */
int stream_take_fd(struct stream *stream);

bool stream_is_tls(const struct stream *stream);

/* > 0 bytes; 0 at the end; -1 on failure or after timeout_ms. */
ssize_t stream_read(struct stream *stream, void *data, size_t size,
    int timeout_ms);

/* All of it, or false. */
bool stream_write(struct stream *stream, const void *data, size_t len);

/*
 * The request head into data: with what follows it where the stream is TLS;
 * left unread in the socket where it is plain.  Returns what is in data, 0
 * where there is no whole head.
 */
size_t stream_peek_head(struct stream *stream, char *data, size_t size,
    int timeout_ms);

/* Wait, but not longer than the peer stays; false where it went. */
bool stream_wait(struct stream *stream, int ms);

/* Copy both ways between a TLS stream and a local socket until both ended. */
void stream_pump(struct stream *stream, int fd);

#endif
