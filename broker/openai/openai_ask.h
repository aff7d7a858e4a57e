/* SPDX-License-Identifier: MIT */
#ifndef BROKER_OPENAI_ASK_H
#define BROKER_OPENAI_ASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "broker/config/config.h"
#include "broker/http/request.h"
#include "broker/users/identity.h"
#include "common/err.h"

/*
 * openai_ask: what a client of broker/openai/openai.h asks for, and how it is
 * refused.
 */

/* Errors as OpenAI's SDKs read them: {"error":{"message","type",...}}. */
request_error_form openai_ask_error_form;

/*
 * Refuse; what is ours to mend goes to the log, what the site does not allow
 * as well.  The second names the parameter that is wrong.
 */
void openai_ask_refuse(struct request *req, const struct config_relay *relay,
    enum err err, const struct diag *diag);
void openai_ask_refuse_param(struct request *req,
    const struct config_relay *relay, enum err err, const char *code,
    const char *param, const char *message);

/* The client's address for the log; returns out. */
const char *openai_ask_client(const struct request *req, char *out,
    size_t size);

/*
 * The relay that ?route= names, else the section `openai'.  NULL where there
 * is none; the request is answered then.
 */
const struct config_relay *openai_ask_relay(struct request *req);

/*
 * Who asks, where the relay serves him.  False where it does not; the request is
 * answered then.  Free *ret with identity_done().
 */
bool openai_ask_identity(struct request *req, const struct config_relay *relay,
    struct identity *ret);

/* A session that a client may have. */
struct openai_session {
	json_t *members; /* without the model; NULL: it asked for none */
	char *model;	 /* that it asked for; NULL: none */
	char *served;	 /* what the relay makes of it; NULL: none is sent */
};

/*
 * Check the session (NULL: none) and the model beside it (NULL: the session's
 * own).  False where it will not do; the request is answered then.
 */
bool openai_ask_session(struct request *req, const struct config_relay *relay,
    const json_t *session, const char *model, struct openai_session *ret);

/*
 * Would it be taken as a ticket's when that is used?  False where it is too
 * large; the request is answered then.
 */
bool openai_ask_fits(struct request *req, const struct config_relay *relay,
    const struct openai_session *session);

void openai_session_done(struct openai_session *session);

#endif
