/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_STREAM_H
#define TUNNEL_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/*
 * stream: a non-blocking byte stream over a connected socket, plain or TLS.
 *
 * The only user of OpenSSL's TLS.  It never waits and knows no loop: who
 * owns a stream asks stream_interest() what to wait for, and
 * stream_readiness() what an event allows.
 */
struct stream;

/* Whom a TLS stream trusts; shared by streams, made before fork(). */
struct stream_trust;

/*
 * Trust the certificates of this file alone, or, where it is NULL, the
 * system's store (as a hashed directory: it is read when it is needed).
 * ERR_SYS with the reason.
 */
enum err stream_trust_new(const char *ca_file, struct stream_trust **ret,
    struct diag *diag) MUST_CHECK;
void stream_trust_free(struct stream_trust *trust); /* NULL is allowed */

enum stream_result {
	STREAM_OK,
	STREAM_WAIT, /* nothing for now; see stream_interest() */
	STREAM_EOF,  /* the peer sends no more */
	STREAM_LOST, /* the connection is broken: no more this way */
};

/* A plain stream; it owns the descriptor from now on, non-blocking. */
struct stream *stream_new(int fd);

/* Close and free; NULL is allowed. */
void stream_free(struct stream *stream);

/* Borrowed. */
int stream_fd(const struct stream *stream);

/*
 * Make it a TLS 1.2 or 1.3 client: its certificate must be for name (a host
 * name, which is sent as SNI, or a numeric address).  ERR_SYS.
 */
enum err stream_start_tls(struct stream *stream,
    const struct stream_trust *trust, const char *name,
    struct diag *diag) MUST_CHECK;

/*
 * Go on with the handshake until it is STREAM_OK; STREAM_LOST fills diag,
 * "certificate verify failed: ..." where that was the reason.
 */
enum stream_result stream_handshake(struct stream *stream, struct diag *diag);

/* Whether the last handshake failed because of the peer's certificate. */
bool stream_cert_refused(const struct stream *stream);

/*
 * Read what there is, up to size bytes.  STREAM_OK with *ret_len > 0; it is 0
 * with every other result.  Over TLS as many records are read as fit.
 */
enum stream_result stream_read(struct stream *stream, void *out, size_t size,
    size_t *ret_len);

/*
 * Write as much as can be written now; *ret_len bytes of it went.  STREAM_OK
 * where that is all; STREAM_WAIT where it is less: the rest must come first
 * in the next call, which may add to it but not take from it.  STREAM_LOST:
 * what the peer has sent before can still be read.
 */
enum stream_result stream_write(struct stream *stream, const void *data,
    size_t len, size_t *ret_len);

/* Whether reading may give bytes although the socket has none. */
bool stream_has_more(const struct stream *stream);

/* What to wait for at the socket in order to read, write or both. */
void stream_interest(const struct stream *stream, bool read, bool write,
    bool *ret_read, bool *ret_write);

/* What the socket's readiness allows to be tried. */
void stream_readiness(const struct stream *stream, bool readable, bool writable,
    bool *ret_read, bool *ret_write);

/* Nothing will be written any more: tell the peer so.  Reading goes on. */
void stream_shut(struct stream *stream);

#endif
