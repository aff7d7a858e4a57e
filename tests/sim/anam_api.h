/* SPDX-License-Identifier: MIT */
#ifndef SIM_ANAM_API_H
#define SIM_ANAM_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/secret.h"
#include "reply.h"
#include "request.h"
#include "script.h"

/*
 * anam_api: Anam's HTTP interface: session tokens, each for one session, and
 * sessions, each with an engine of its own.  The oldest of either go first,
 * of ANAM_MAX.  Thread-safe, no sockets and no clock.
 */
#define ANAM_MAX 1000

struct anam_api;

/* The key that is right, or NULL for any; key and script are borrowed. */
struct anam_api *anam_api_new(const struct secret *key, struct script *script);
void anam_api_free(struct anam_api *api);

/*
 * Answer a request that came over TLS or not; now: seconds since 1970.  NULL
 * where the path is none of Anam's.  The caller frees the reply.
 */
struct reply *anam_api_answer(struct anam_api *api,
    const struct request *request, const void *body, size_t len, bool tls,
    int64_t now);

/* Is this a handshake of an engine's signalling? */
bool anam_api_is_signalling(const struct request *request);

/* May it be: 0, or 404 (no such engine) or 403 (not this session's). */
int anam_api_check(struct anam_api *api, const struct request *request);

/* The sessions there are, as an array of {"id","engine","personaId"}: new. */
json_t *anam_api_json(struct anam_api *api);

#endif
