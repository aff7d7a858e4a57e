/* SPDX-License-Identifier: MIT */
#ifndef SIM_OPENAI_API_H
#define SIM_OPENAI_API_H

#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "reply.h"
#include "request.h"
#include "script.h"

/*
 * openai_api: OpenAI's HTTP interface: GET /v1/models, short-lived keys, and
 * WebRTC calls, whose answers connect to nobody.  No sockets and no clock.
 */

/*
 * Answer a request; now: seconds since 1970.  NULL where the path is none of
 * these.  The caller frees the reply.
 */
struct reply *openai_api_answer(const struct options *options,
    struct script *script, const struct request *request, const void *body,
    size_t len, int64_t now);

#endif
