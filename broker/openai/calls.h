/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CALLS_H
#define BROKER_CALLS_H

#include <stdint.h>

#include "broker/config/config.h"
#include "broker/limits/subjects.h"
#include "common/err.h"

/*
 * calls: WebRTC calls that run.
 *
 * A call's media and events go past us, and nobody tells us of its end.  What
 * we can do is count it, and end it at the vendor, which has POST
 * /v1/realtime/calls/ID/hangup.  So a call has a place among its subjects'
 * tunnels from before it is made until it is hung up: by its client through us;
 * by us, after the time that a tunnel would have, when a day's seconds are
 * spent, or when it is revoked; or to make room for the next call of the same
 * user or visitor, as whose page was reloaded has left one behind.  A vendor
 * that cannot be reached is asked again, five times in all.
 *
 * In memory: after a restart, calls go on, and are known no more.  Thread-safe;
 * a thread of its own looks at them every second.
 */
struct call_place;

/* Before calls_start(), and as CGI, nothing is kept. */
enum err calls_start(struct diag *diag) MUST_CHECK;
/* Books those that run, which go on; one that is being made may still be
   settled.  Harmless where nothing was started. */
void calls_stop(void);

/* Whose call it is; the strings and subjects are copied. */
struct calls_request {
	struct config *config; /* counted; relay and plans are of it */
	const struct config_relay *relay;
	const struct subjects *subjects;
	const char *user;   /* NULL: none */
	const char *ticket; /* id; NULL: none */
	int64_t issued;	    /* of what it was let in by */
};

/*
 * Take a place; ERR_RATE where there is none, ERR_UNAVAIL where there are too
 * many calls.  It may hang another one up, and wait for that.
 */
enum err calls_reserve(const struct calls_request *request,
    struct call_place **ret, struct diag *diag) MUST_CHECK;

/* The call runs, under this id of the vendor's, or there is none: it is kept,
 * or given back.  id NULL: none. */
void calls_settle(struct call_place *place, const char *id);

/*
 * Hang a call up; whoever has its id may.  ERR_NOTFOUND where it is not known
 * (any more); ERR_UPSTREAM and ERR_UPSTREAM_TIMEOUT, where it is tried again,
 * and this one does not count among the five unless it was due.
 */
enum err calls_hang_up(const char *id, struct diag *diag) MUST_CHECK;

#endif
