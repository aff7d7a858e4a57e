/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_SESSION_H
#define BROKER_ANAM_SESSION_H

#include <jansson.h>
#include <stdbool.h>

#include "broker/config/config.h"
#include "common/err.h"

/*
 * anam_session: what is dialled for a session, and what a client is told.
 *
 * Pure.  A record is the vendor's answer to POST /v1/engine/session, and one
 * member of ours with what its client was told; it is what the store keeps.
 * The vendor's host goes to no client: it is told our own address in its
 * place, or, where it comes through Anam's "API gateway", a name that does
 * not exist.
 *
 * The vendor's engineHost is a host, and a port, and may be followed by a
 * path; the signalling is at the host with signallingEndpoint as its path, and
 * talk commands go to all of engineHost with "/talk" behind it.
 */

/* What a gateway's client is told for a host (RFC 2606 2). */
#define ANAM_GATEWAY_HOST "engine.invalid"

/* An id that may stand in a path, a query and a log's hash: 8 to 128 of
   letters, digits, - and _. */
bool anam_session_is_id(const char *id);

/* 16 hexadecimal digits in place of an id, which is a secret, for the log. */
#define ANAM_HASH_BYTES 17
void anam_session_hash(const char *id, char out[ANAM_HASH_BYTES]);

/* Where a session is, checked. */
struct anam_engine {
	struct config_url signalling; /* without a query */
	char *talk;		      /* URL without the query */
};

/*
 * Check the vendor's answer: a usable sessionId, an engine on one of the hosts
 * that the configuration names, over https unless allow_http.  ERR_UPSTREAM
 * with the reason, for the log.  anam_engine_done() frees what it filled.
 */
enum err anam_session_check(const struct config_anam *anam,
    const json_t *record, struct anam_engine *ret,
    struct diag *diag) MUST_CHECK;

void anam_engine_done(struct anam_engine *engine);

/*
 * The body with which a session is asked for, from a client's: what it says of
 * its SDK and of how it hears when somebody has finished speaking, and nothing
 * else.  The caller decrefs it.
 */
json_t *anam_session_request(const json_t *body);

/* How a client reaches us. */
struct anam_front {
	const char *protocol;  /* "https" or "http" */
	const char *host;      /* with its port; not for a gateway's */
	const char *base_path; /* prefix of every path, or "" */
	bool gateway;
};

/* A record of the vendor's answer for such a client; the caller decrefs it. */
json_t *anam_session_record(const json_t *answer,
    const struct anam_front *front);

/*
 * What the client is answered: all that the vendor said, but what it was told
 * in place of the engine's address, and this sessionToken (NULL: none), never
 * the vendor's.  The caller decrefs it.
 */
json_t *anam_session_answer(const json_t *record, const char *token);

/*
 * Whether what a client sends back is this session's: what it was told, or the
 * vendor's own.
 */
bool anam_session_has_host(const json_t *record, const char *engine_host);
bool anam_session_has_endpoint(const json_t *record, const char *endpoint);

/*
 * The same of an absolute URL (target_url, X-Anam-Target-Url): of its
 * signalling, or of its talk commands.
 */
bool anam_session_has_url(const json_t *record, const char *url);

/* ID of a path "/b/ID" and rest; the caller frees it.  NULL for another. */
char *anam_session_id_in_path(const char *path, const char *rest);

/*
 * The session_id in an absolute URL; the caller frees it.  NULL where there is
 * none, or it could not be one.
 */
char *anam_session_id_in(const char *url);

#endif
