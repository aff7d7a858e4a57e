/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_H
#define BROKER_ANAM_H

#include "broker/http/request.h"

/*
 * anam: the part of Anam's HTTP interface that its SDKs call, served by us.
 *
 *   POST /v1/auth/session-token  {"personaConfig":{"personaId"}} or
 *        {"personaId"}: a token of ours, for one session of that persona
 *   POST /v1/engine/session      a session: with such a token as Bearer (JS),
 *        or without any, for {"personaId"} (Flutter).  Asked again with a
 *        token, the same session.
 *   POST /v1/metrics/client      taken, and dropped
 *
 * Of what a client says of a persona its id alone counts, and that has to be
 * allowed; of the engine nothing does: it has to be what the client was told,
 * and the store says where the session is.  404 where Anam is not configured.
 * Errors are {"error","message"}, both texts: see broker/anam/anam_vendor.h.
 * Talk commands are anam_talk's.
 */
void anam_token_handle(struct request *req);
void anam_session_handle(struct request *req);
void anam_metrics_handle(struct request *req);

#endif
