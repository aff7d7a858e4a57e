/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_BROKER_LINK_H
#define TUNNEL_BROKER_LINK_H

#include <stdbool.h>

#include "common/err.h"
#include "common/loop.h"
#include "common/wire.h"

/*
 * broker_link: one tunnel's connection to the broker's control socket.
 *
 * It is the lease of the tunnel: it asks, gets an answer, and stays for as
 * long as the tunnel does.  Where the grant has a text to resume with, a broker
 * that goes away is looked for, again and again, and the lease is taken up
 * again by the one that is found: whoever has the link sees one.
 */
struct broker_link;

/* What becomes of a link after a grant. */
enum broker_link_news {
	BROKER_LINK_AWAY,   /* the broker is gone, and is looked for */
	BROKER_LINK_LOST,   /* it is gone, and nothing can be taken up again */
	BROKER_LINK_DENIED, /* a broker does not take the lease up again */
};

struct broker_link_events {
	/*
	 * The answer to the question: a WIRE_GRANT or WIRE_DENY, which is the
	 * callee's from now on; or NULL and why there is none (ERR_UNAVAIL).
	 * A grant's resume is not in it any more.  Comes exactly once, never
	 * inside broker_link_open().
	 */
	void (
	    *answered)(void *arg, struct wire_packet *answer, const char *why);
	/*
	 * After a grant, borrowed: a WIRE_CLOSE, WIRE_LIMITS, WIRE_ANSWER or
	 * WIRE_ACK; or a WIRE_RESUMED: the broker is back, and what it has not
	 * confirmed has to be sent again.  A WIRE_CLOSE may come in its place.
	 */
	void (*told)(void *arg, const struct wire_packet *packet);
	/*
	 * After a grant: the broker is away until there is a WIRE_RESUMED or
	 * WIRE_CLOSE; or lost or denied, and there will be nothing more.
	 */
	void (*changed)(void *arg, enum broker_link_news news, const char *why);
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

/* The 101 goes out now: what a broker is told when it takes the lease up. */
void broker_link_note_101(struct broker_link *link);

/* Whether a broker that goes away is looked for. */
bool broker_link_resumes(const struct broker_link *link);

/* There is not much time: look for a broker more often. */
void broker_link_hurry(struct broker_link *link);

/*
 * Send a packet; false where it cannot be sent at once.  Totals need no second
 * attempt: they are sums, and the next packet has them again.
 */
bool broker_link_send(struct broker_link *link,
    const struct wire_packet *packet);

/* Close: this ends the lease.  NULL is allowed. */
void broker_link_free(struct broker_link *link);

#endif
