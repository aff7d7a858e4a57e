/* SPDX-License-Identifier: MIT */
#include "broker/tickets/tunnel_ticket.h"

#include <stdbool.h>
#include <string.h>

#include <jansson.h>

#define TICKET_NAME "ticket" /* of the query parameter */

enum err
tunnel_ticket_apply(const struct store_ticket *ticket, struct target *target,
    struct diag *diag)
{
	const char *type =
	    json_string_value(json_object_get(ticket->session, "type"));
	bool transcribes = type != NULL && strcmp(type, "transcription") == 0;
	enum err err;

	if (ticket->id == NULL)
		return ERR_OK;
	err = target_set(target, TICKET_NAME, NULL, diag);
	if (err == ERR_OK)
		err = target_set(target, "call_id", NULL, diag);
	if (err == ERR_OK)
		err = target_set(target, "intent",
		    transcribes ? "transcription" : NULL, diag);
	if (err == ERR_OK && (transcribes || ticket->model != NULL))
		err = target_set(target, "model",
		    transcribes ? NULL : ticket->model, diag);
	return err;
}
