/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_SESSION_H
#define BROKER_CONFIG_SESSION_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * config_session: the section `session' of a relay, from its keys to the
 * members of `session' in a session.update of OpenAI Realtime's GA interface.
 */

/*
 * Fill in session, model, the files, pinned and client_may, where text says
 * already what the clients send.  section may be NULL for one without keys.
 */
enum err config_session_build(struct conf_section *section,
    struct config_messages *messages, struct diag *diag) MUST_CHECK;

/* A session for clients that send text is answered in text by default. */
void config_session_answer_text(struct config_messages *messages);

/*
 * As a section of the file.  Instructions that stand in the configuration
 * itself are not told, as a secret is not: only how long they are.
 */
void config_session_dump(const struct config_messages *messages, FILE *out);

#endif
