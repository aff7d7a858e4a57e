/* SPDX-License-Identifier: MIT */
#ifndef BROKER_OPENAI_CALL_H
#define BROKER_OPENAI_CALL_H

#include "broker/http/request.h"

/*
 * openai_call: WebRTC calls of OpenAI's realtime clients, for the section
 * `openai', or with ?route=NAME for the relay of that name.
 *
 * POST /v1/realtime/calls: an SDP offer, as application/sdp (with ?model=) or
 * in the part `sdp' of a form beside `session', is sent on with the relay's key
 * and session.  201 with the vendor's SDP answer.
 */
void openai_calls_handle(struct request *req);

/*
 * POST /v1/realtime/calls/ID/hangup: end a call that was begun here, as
 * OpenAI's API does.  Whoever has its id may: what a page that goes away can
 * send has no token.  200; 404 where it is not known (any more).
 */
void openai_hangup_handle(struct request *req);

#endif
