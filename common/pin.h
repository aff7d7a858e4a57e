/* SPDX-License-Identifier: MIT */
#ifndef COMMON_PIN_H
#define COMMON_PIN_H

#include <jansson.h>
#include <stdbool.h>

#include "common/err.h"

/*
 * pin: what a client may still change of a session that the site has fixed
 * (OpenAI Realtime, client events of the GA interface).  Pure.
 *
 * Rules are JSON, {"session":{...},"allow":["output_modalities",
 * "audio.input",...]}: the members of `session' that the site fixes, as they
 * stand in a session.update, and the members that a client may set, as dotted
 * paths; a path allows what is below it.  The broker makes them of the
 * configuration, and both programs check with them: the broker a session that
 * a client asks a short-lived key for, the tunnel every event.
 */
struct pin;

#define PIN_PARAM_BYTES 127 /* longest name of a member in an answer */

/* Why an event does not pass, for an error event in OpenAI's shape. */
struct pin_refusal {
	char param[PIN_PARAM_BYTES + 1]; /* "session.instructions"; or "" */
	const char *code;    /* static: "pinned", "unknown_event", ... */
	const char *message; /* static text, without content */
};

/* ERR_PROTO for rules that are none, with the reason. */
enum err pin_new(const json_t *rules, struct pin **ret,
    struct diag *diag) MUST_CHECK;
void pin_free(struct pin *pin); /* NULL is allowed */

/* What has to be known of an event before it passes. */
enum pin_need {
	PIN_TYPE, /* its type alone: the rest may stream past */
	PIN_ALL,  /* pin_check() has to see it whole */
	PIN_NONE, /* it never passes, whatever it holds */
};

/* By the event's type; one that is not known is PIN_NONE. */
enum pin_need pin_needs(const struct pin *pin, const char *type);

/*
 * Check a whole event that json_parse() has read, so that nothing is in it
 * twice.  Allowed in session.update and response.create are a fixed member
 * with exactly the fixed value, of numbers (max_output_tokens) less, too, and
 * the members on the allow-list as far as they are not fixed.  audio,
 * audio.input and audio.output are looked at member by member, as the vendor
 * takes them; any other object is one value.  A session's type may be
 * "realtime".
 *
 * Where instructions, a prompt or tools are fixed, items are checked as well,
 * in conversation.item.create and in a response's own input: they are
 * messages, function calls, their outputs, and references; where instructions
 * or a prompt are fixed, of the roles user and assistant.  ERR_DENIED.
 */
enum err pin_check(const struct pin *pin, const json_t *event,
    struct pin_refusal *ret) MUST_CHECK;

/*
 * The same for the members of a session, as POST client_secrets and calls
 * have them.
 */
enum err pin_check_session(const struct pin *pin, const json_t *session,
    struct pin_refusal *ret) MUST_CHECK;

#endif
