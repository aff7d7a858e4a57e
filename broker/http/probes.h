/* SPDX-License-Identifier: MIT */
#ifndef BROKER_PROBES_H
#define BROKER_PROBES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * probes: the ids that `culvertctl doctor' was given, and what of its request
 * has arrived.  Who shows no id that is good learns nothing from it.
 * Thread-safe.
 */
#define PROBES_ID_BYTES 33 /* with its NUL */
#define PROBES_MAX	8  /* good at once: another one ends the oldest */

/* Make an id that is good for PROBE_S seconds (common/probe.h). */
void probes_make(char out[PROBES_ID_BYTES]);

/* NULL is none. */
bool probes_is_good(const char *id);

/* As it has arrived; NULL: it has not. */
struct probes_request {
	const char *at;	    /* "broker", "tunnel" */
	const char *client; /* address */
	const char *scheme; /* NULL where it is not known */
	const char *host;
	const char *authorization;
	const char *origin;
	const char *cookie;
	const char *subprotocol;
	bool query; /* whether it is what was sent */
};

/*
 * {"probe":{"at","client","scheme","host","origin", and whether they are what
 * was sent: "authorization","cookie","subprotocol","query"}}; the caller
 * decrefs it.
 */
json_t *probes_report(const struct probes_request *request);

#endif
