/* SPDX-License-Identifier: MIT */
#ifndef SIM_ANAM_H
#define SIM_ANAM_H

#include <jansson.h>
#include <stddef.h>

/*
 * anam: an engine's side of one session's signalling.
 *
 * Frames of the client go in as text, frames of the engine come out one by
 * one; a client may come back on another connection, the conversation goes
 * on.  Pure: no sockets and no clock, whoever drives it says when a heartbeat
 * is due.
 */
struct anam;

struct anam *anam_new(const char *session_id);
void anam_free(struct anam *anam);

/* A text message of the client. */
void anam_receive(struct anam *anam, const void *data, size_t len);

/* Say something of one's own accord: the payload is taken over. */
void anam_say(struct anam *anam, const char *action, json_t *payload);

/* The next frame, which the caller decrefs, or NULL. */
json_t *anam_next(struct anam *anam);

#endif
