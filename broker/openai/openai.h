/* SPDX-License-Identifier: MIT */
#ifndef BROKER_OPENAI_H
#define BROKER_OPENAI_H

#include "broker/http/request.h"

/*
 * openai: short-lived keys for OpenAI's realtime clients, for the section
 * `openai', or with ?route=NAME for the relay of that name.
 *
 * POST /v1/realtime/client_secrets: {"expires_after"?:{"anchor":"created_at",
 * "seconds"},"session"?:{...}} is answered with a ticket
 * (broker/tickets/ticket.h):
 * {"value":"ek_...","expires_at","session":{...}}.  The session is what the
 * client asked for; what the site adds stays unseen.
 */
void openai_client_secrets_handle(struct request *req);

#endif
