/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_VENDOR_EVENT_H
#define TUNNEL_VENDOR_EVENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * vendor_event: what a tunnel reads of the vendor's events (OpenAI Realtime)
 * while they pass.  Pure.
 *
 * An event is fed in pieces and not kept.  Of most events the type alone is of
 * interest; of those that end a response or a transcription their usage, of
 * errors what they are about, of those that begin a response its name, of those
 * of the session until when the vendor lets it last.
 */
struct vendor_event;

#define VENDOR_EVENT_TYPE_BYTES 128 /* with the NUL; longer is no type */
#define VENDOR_EVENT_ID_BYTES	256

struct vendor_event *vendor_event_new(void);
void vendor_event_free(struct vendor_event *event); /* NULL is allowed */

void vendor_event_begin(struct vendor_event *event);

/* Go on.  What is not JSON, or not of interest, is passed over. */
void vendor_event_feed(struct vendor_event *event, const void *data,
    size_t len);

/* Whether feeding it more would tell more. */
bool vendor_event_wants_more(const struct vendor_event *event);

/* As soon as it is known; "" before. */
const char *vendor_event_type(const struct vendor_event *event);

/* Of an error that has been fed whole: what it is about, or "". */
void vendor_event_error(const struct vendor_event *event,
    char event_id[VENDOR_EVENT_ID_BYTES], char param[VENDOR_EVENT_ID_BYTES]);

/* Of a response.created or response.done that has been fed whole, or "". */
void vendor_event_response_id(const struct vendor_event *event,
    char id[VENDOR_EVENT_ID_BYTES]);

/*
 * Of a session.created or session.updated that has been fed whole: when the
 * vendor ends the session, in seconds since 1970; 0 where it does not say so
 * with a whole number.
 */
int64_t vendor_event_expires_at(const struct vendor_event *event);

/*
 * The usage in an event that has been fed whole, as struct wire_usage has it,
 * without its number: {"type","id","status"?,"usage"}; or NULL.  The caller's.
 */
json_t *vendor_event_usage(const struct vendor_event *event);

#endif
