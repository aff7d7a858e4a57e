/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_BROKER_LINK_H
#define TUNNEL_BROKER_LINK_H

#include <stdbool.h>

#include "common/err.h"
#include "common/wire.h"
#include "common/loop.h"

/*
 * broker_link: one connection to the broker's control socket.
 *
 * It is the lease of one tunnel: it asks, gets an answer, and stays open for
 * as long as the tunnel does.
 */
struct broker_link;

struct broker_link_events {
	/*
	 * The answer to the question: a WIRE_GRANT or WIRE_DENY, which is the
	 * callee's from now on; or NULL and why there is none (ERR_UNAVAIL).
	 * Comes exactly once, never inside broker_link_open().
	 */
	void (
	    *answered)(void *arg, struct wire_packet *answer, const char *why);
	/* After a grant: a WIRE_CLOSE or WIRE_LIMITS, borrowed. */
	void (*told)(void *arg, const struct wire_packet *packet);
	/* After a grant, once: the broker is gone, or has sent rubbish. */
	void (*lost)(void *arg, const char *why);
};

/*
 * Connect to the socket at path and ask; events go to arg.  The question is
 * formatted before this returns: ERR_PROTO, ERR_LIMIT where it cannot be put
 * into a packet; what fails later is an event.  Any call is allowed inside
 * the callbacks; their texts are valid until the link is freed.
 */
enum err broker_link_open(struct loop *loop, const char *path,
    const struct wire_packet *question, const struct broker_link_events *events,
    void *arg, struct broker_link **ret) MUST_CHECK;

/*
 * The socket that came with a grant whose upstream is passed: the caller's from
 * now on, non-blocking.  -1 with every other.
 */
int broker_link_take_upstream(struct broker_link *link);

/*
 * Send a WIRE_USAGE, WIRE_LOG or WIRE_END; false where it cannot be sent at
 * once.  Totals need no second attempt: they are sums, and the next packet has
 * them again.
 */
bool broker_link_send(struct broker_link *link,
    const struct wire_packet *packet);

/* Close: this ends the lease.  NULL is allowed. */
void broker_link_free(struct broker_link *link);

#endif
