/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_TALK_H
#define BROKER_ANAM_TALK_H

#include "broker/http/request.h"

/*
 * anam_talk: a talk command, for the engine of a session.
 *
 *   POST /b/ID/talk, /talk?session_id=ID
 *
 * The session's id alone says where it goes, and stands in for a token: 404
 * where there is none, 401 where it is over or revoked, 403 where the request
 * names another place.  The body, an object, goes to the engine as it is.
 */
void anam_talk_handle(struct request *req);

#endif
