/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_DIAL_H
#define TUNNEL_DIAL_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire.h"
#include "common/loop.h"
#include "tunnel/stream.h"

/*
 * dial: from a grant to an open WebSocket at the vendor.
 *
 * Connects to the grant's addresses one after another, starts TLS, sends the
 * upgrade request with the vendor's key, and checks the answer.  All of it
 * takes no longer than the grant's connect_ms.
 */
struct dial;

/* An open upstream; what is in it belongs to the callee. */
struct dial_upstream {
	struct stream *stream;
	struct loop_watch *watch; /* of the stream; bind it anew */
	char *subprotocol;	  /* the vendor's choice, or NULL */
	uint8_t *early;		  /* bytes behind the vendor's head, or NULL */
	size_t early_len;
};

/* How the client is to be refused; the texts are the dial's. */
struct dial_refusal {
	int status;
	const char *code;	/* of the error body */
	const char *message;	/* of the error body: no secrets, no content */
	unsigned retry_after_s; /* 0: none */
	const char *why;	/* for the log */
};

/* Exactly one of the two is not NULL.  Comes once, never in dial_start(). */
typedef void (*dial_done)(void *arg, const struct dial_upstream *upstream,
    const struct dial_refusal *refusal);

/*
 * Start; the system's trust is used where the grant names no file.  The grant
 * is borrowed until the dial is freed, and its secret headers are cleared as
 * soon as they have been sent.
 */
struct dial *dial_start(struct loop *loop, const struct stream_trust *system,
    struct wire_grant *grant, dial_done done, void *arg);

/* Stop, if it has not ended, and free; NULL is allowed. */
void dial_free(struct dial *dial);

/*
 * What a vendor's answer other than 101 is to the client: status, code and
 * message.  Pure; retry_after is that header's value or NULL.
 */
void dial_refusal_from_status(int status, const char *retry_after,
    size_t retry_after_len, struct dial_refusal *ret);

#endif
