/* SPDX-License-Identifier: MIT */
#ifndef SIM_OPENAI_INT_H
#define SIM_OPENAI_INT_H

#include "openai.h"
#include "tone.h"

/* openai_int: what the files of the conversation share. */

struct openai {
	enum openai_kind kind;
	char *conversation_id;
	json_t *session;       /* as in session.created */
	json_t *items;	       /* the conversation, oldest first */
	json_t *out;	       /* events that are due now */
	json_t *paced;	       /* the rest of the running response */
	json_t *response;      /* the running one, in its last form; or NULL */
	json_t *response_item; /* its item */
	bool response_joins;   /* it writes to the conversation */
	json_int_t seen_text, seen_audio; /* tokens read before: cached */
	const char *event_id; /* of the client's event, or NULL; borrowed */
	/* The input audio buffer; the sound itself is not kept. */
	size_t audio_bytes;
	size_t audio_ms; /* all that was ever appended */
	size_t silence_ms;
	bool speaking;
	char *speech_item_id;
};

/* Queue an event; members are taken over, type and event_id are added. */
void openai_emit(struct openai *o, const char *type, json_t *members);
void openai_emit_paced(struct openai *o, const char *type, json_t *members);

/* Queue an error of type invalid_request_error; code and param may be NULL. */
void openai_fail(struct openai *o, const char *code, const char *param,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* A string member, or NULL. */
const char *openai_string(const json_t *object, const char *name);

/* session */
json_t *openai_session_new(enum openai_kind kind, const char *model,
    int64_t expires_at);
/*
 * Check the members of a session or of a response's parameters, as the
 * vendor does; false after an error event.
 */
bool openai_session_check(struct openai *o, const json_t *session);
bool openai_params_check(struct openai *o, const json_t *params);
void openai_session_update(struct openai *o, const json_t *event);
/* audio.input or audio.output of the session. */
json_t *openai_session_audio(const struct openai *o, const char *side);
enum tone_format openai_session_format(const struct openai *o,
    const char *side);

/* items */
json_t *openai_item_find(const struct openai *o, const char *id,
    size_t *ret_index);
/* Append to the conversation; queues added, and done where it is whole. */
void openai_item_append(struct openai *o, json_t *item);
void openai_item_create(struct openai *o, const json_t *event);
void openai_item_retrieve(struct openai *o, const json_t *event);
void openai_item_delete(struct openai *o, const json_t *event);
void openai_item_truncate(struct openai *o, const json_t *event);
/* What the answer is about; the caller frees it. */
char *openai_items_answer(const json_t *items);
/* Tokens of text and of audio in a list of items. */
void openai_items_tokens(const json_t *items, json_int_t *text,
    json_int_t *audio);

/* audio */
void openai_audio_append(struct openai *o, const json_t *event);
void openai_audio_commit(struct openai *o, const json_t *event);
void openai_audio_clear(struct openai *o, const json_t *event);

/* response */
void openai_response_create(struct openai *o, const json_t *event);
void openai_response_cancel(struct openai *o, const json_t *event);
/* End the running response, if any: "cancelled" and why. */
void openai_response_end(struct openai *o, const char *reason);
/* An event of the running response was taken; the last one ends it. */
void openai_response_taken(struct openai *o);

#endif
