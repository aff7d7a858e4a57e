/* SPDX-License-Identifier: MIT */
#ifndef BROKER_LIVEKIT_H
#define BROKER_LIVEKIT_H

#include "broker/http/request.h"

/*
 * livekit: POST /api/livekit/token and /api/livekit/token/NAME.
 *
 * NAME is a `token' section of the configuration; without it, "default".  The
 * body decides the form of the answer, see broker/livekit/livekit_token.h.  404
 * where LiveKit is not configured or the template unknown.
 */
void livekit_token_handle(struct request *req);

#endif
