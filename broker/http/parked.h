/* SPDX-License-Identifier: MIT */
#ifndef BROKER_PARKED_H
#define BROKER_PARKED_H

#include <stddef.h>

#include "broker/http/request.h"
#include "common/err.h"

/*
 * parked: a request that has left its thread, and is answered by the hub: at
 * once, later, or piece by piece.
 *
 * It is a descriptor, the headers that were added so far, and a little state:
 * what a request weighs otherwise is given back.  Only over FastCGI.
 */
struct parked;

struct parked_events {
	/*
	 * The web server has hung up, or took nothing for `requests.timeout'.
	 * Comes once, and nothing after it; the callee has to drop it then.
	 */
	void (*gone)(void *arg);
	/* There is room again, after parked_write() took less than all. */
	void (*writable)(void *arg);
};

/*
 * Park a request: in its handler, which returns without answering it, and
 * after the body, if there is one, has been read.  `req' is not to be used any
 * more, and what it says or holds is gone when the handler returns.
 * ERR_UNAVAIL in plain CGI and where too many are parked, ERR_RATE where a
 * quarter of so many are of this client's address: it is not parked then, and
 * has to be answered as usual.
 */
enum err parked_take(struct request *req, struct parked **ret,
    struct diag *diag) MUST_CHECK;

/* ---- in the hub's thread alone --------------------------------------------
 */

/*
 * Begin to watch it; before anything else but parked_drop() and
 * parked_add_header().  A second time: from now on these are told.  events
 * NULL: it is answered next, with all of its answer.
 */
void parked_begin(struct parked *parked, const struct parked_events *events,
    void *arg);

/*
 * Answer with a copy of len bytes (body NULL: without one) and free it once
 * they are sent, or cannot be.  No event comes any more.
 */
void parked_reply(struct parked *parked, int status, const char *content_type,
    const void *body, size_t len);

/* The same with {"error":{"code","message"}}. */
void parked_reply_error(struct parked *parked, enum err err,
    const char *message);

/* Add a header to an answer that has not begun. */
void parked_add_header(struct parked *parked, const char *name,
    const char *value);

/*
 * Begin an answer that comes in pieces; nothing of it waits for more.  What
 * parked_write() takes, at most all, is sent as one piece as far as the socket
 * has room; 0 where there is none.
 */
void parked_start(struct parked *parked, int status, const char *content_type);
size_t parked_write(struct parked *parked, const void *data, size_t len);

/* End such an answer, as parked_reply() does. */
void parked_end(struct parked *parked);

/*
 * Hang up and free it, whatever it is doing; NULL is allowed.  Before
 * parked_begin() in any thread: where there is no hub any more.
 */
void parked_drop(struct parked *parked);

/* ---- for main.c ---- */

/*
 * Hang up on those whose answer is complete but not yet taken.  Who parked the
 * others has dropped them before; the hub still runs, or none ever did.
 */
void parked_stop(void);

#endif
