/* SPDX-License-Identifier: MIT */
#ifndef SIM_OPENAI_H
#define SIM_OPENAI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * openai: one conversation of the OpenAI Realtime API (GA shapes).
 *
 * Client events go in as text; server events come out one by one.  Pure: no
 * sockets and no clock; whoever drives it waits before events that are paced.
 */
struct openai;

enum openai_kind {
	OPENAI_REALTIME,      /* ?model= or ?call_id= */
	OPENAI_TRANSCRIPTION, /* ?intent=transcription */
};

#define OPENAI_SESSION_S 3600 /* the vendor ends a session after 60 minutes */

/*
 * A new conversation, session.created is due, and says that it ends then, in
 * seconds since 1970.
 */
struct openai *openai_new(enum openai_kind kind, const char *model,
    int64_t expires_at);
void openai_free(struct openai *o);

/* A text message of the client, or a binary one. */
void openai_receive(struct openai *o, const void *data, size_t len);
void openai_receive_binary(struct openai *o);

enum openai_due {
	OPENAI_NOTHING, /* the client has to speak */
	OPENAI_NOW,	/* openai_next() may be called */
	OPENAI_PACED,	/* it may be called after the pace */
};

enum openai_due openai_due(const struct openai *o);

/* The next event, which has to be due; the caller decrefs it. */
json_t *openai_next(struct openai *o);

/*
 * An error event that stands alone, as before the close of a refused
 * connection; the caller decrefs it.
 */
json_t *openai_error_event(const char *type, const char *code,
    const char *message, const char *param);

/*
 * The session that these settings make, as the HTTP interface answers it:
 * new; wanted is NULL for the defaults.  NULL where the vendor would not have
 * it: *ret_error is the error's object then, which the caller decrefs.
 */
json_t *openai_session_make(const json_t *wanted, int64_t now,
    json_t **ret_error);

/* "PREFIX_" and 21 characters; the caller frees it. */
char *openai_id(const char *prefix);

#endif
