/* SPDX-License-Identifier: MIT */
#ifndef SIM_SCRIPT_H
#define SIM_SCRIPT_H

#include <jansson.h>

#include "common/err.h"
#include "reply.h"

/*
 * script: what a test asked the next requests to get.  Thread-safe, no
 * sockets and no clock.
 *
 * An entry is an object:
 *   mode   a word of script_list(); default "answer"
 *   count  how many requests; default 1
 *   path   of which, a glob; default any
 *   ms     wait so long before the answer
 *   status, type, body   mode "answer"; a body that is no string is JSON
 *   fields   merged into a session's answer; null takes a member away
 *   query    mode "signalling": knobs, as in the URL of any WebSocket
 */
#define SCRIPT_MAX 100

struct script;

struct script *script_new(void);
void script_free(struct script *script);

/* Add an entry, which is copied.  ERR_PROTO, ERR_LIMIT. */
enum err script_add(struct script *script, enum vendor vendor,
    const json_t *entry, struct diag *diag) MUST_CHECK;

/*
 * The oldest entry for this request, which counts as done once; the caller
 * decrefs it.  NULL where there is none.
 */
json_t *script_take(struct script *script, enum vendor vendor,
    const char *path);

/* The knobs for the next handshake; the caller frees them.  Or NULL. */
char *script_take_query(struct script *script, const char *path);

/* All that is left, as an array: new. */
json_t *script_json(struct script *script);
void script_reset(struct script *script);

/* ---- what an entry asks for; NULL asks for nothing ---- */

/* The reply instead of the vendor's own, or NULL. */
struct reply *script_reply(const json_t *entry, enum vendor vendor);

/* Put the delay on a reply. */
void script_delay(const json_t *entry, struct reply *reply);

/* Change a session's answer; host is the simulator's own HOST:PORT. */
void script_change(const json_t *entry, const char *host, json_t *session);

/* Is this a word that mode may be? */
bool script_knows(const char *mode);

#endif
