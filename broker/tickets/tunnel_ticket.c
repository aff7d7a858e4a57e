/* SPDX-License-Identifier: MIT */
#include "broker/tickets/tunnel_ticket.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "broker/signing_key.h"
#include "broker/tickets/ticket.h"
#include "common/clock.h"

#define API_KEY	    "openai-insecure-api-key."
#define TICKET_NAME "ticket" /* of the query parameter */

/* What of a request has the form of a ticket; borrowed. */
struct credential {
	const char *text;
	size_t len;
};

/* The same ticket may be given in two ways, two tickets may not. */
static enum err
consider(struct credential *found, const char *text, size_t len,
    struct diag *diag)
{
	if (!ticket_has_form(text, len))
		return ERR_OK;
	if (found->text != NULL &&
	    (found->len != len || memcmp(found->text, text, len) != 0)) {
		diag_set(diag, "the request has two short-lived keys");
		return ERR_PROTO;
	}
	*found = (struct credential){ text, len };
	return ERR_OK;
}

/* The items of Sec-WebSocket-Protocol that carry a key. */
static enum err
consider_list(struct credential *found, const char *list, struct diag *diag)
{
	size_t skip = strlen(API_KEY);
	enum err err = ERR_OK;

	while (err == ERR_OK && *list != '\0') {
		size_t len = strcspn(list, ", \t");

		if (len > skip && strncmp(list, API_KEY, skip) == 0)
			err = consider(found, list + skip, len - skip, diag);
		list += len;
		list += strspn(list, ", \t");
	}
	return err;
}

static enum err
find_ticket(const struct wire_headers *headers, const struct target *target,
    struct credential *found, struct diag *diag)
{
	const char *text = target_find(target, TICKET_NAME);
	enum err err = ERR_OK;

	*found = (struct credential){ NULL, 0 };
	if (text != NULL)
		err = consider(found, text, strlen(text), diag);
	for (size_t i = 0; err == ERR_OK && i < headers->count; i++) {
		const struct wire_header *header = &headers->items[i];

		if (strcasecmp(header->name, "sec-websocket-protocol") == 0)
			err = consider_list(found, header->value, diag);
		else if (strcasecmp(header->name, "authorization") == 0 &&
		    (text = ticket_of_bearer(header->value)) != NULL)
			err = consider(found, text, strlen(text), diag);
	}
	return err;
}

static enum err
check(const struct config_relay *relay, const struct wire_headers *headers,
    const struct target *target, struct store_ticket *ret, struct diag *diag)
{
	struct credential found;
	enum err err = find_ticket(headers, target, &found, diag);

	*ret = (struct store_ticket){ .id = NULL };
	if (err != ERR_OK)
		return err;
	if (found.text == NULL && relay->require_ticket) {
		diag_set(diag, "a short-lived key is needed here");
		return ERR_UNAUTH;
	}
	/* where nobody makes tickets, it is somebody else's key */
	if (found.text == NULL ||
	    (!relay->client_secrets && signing_key_current() == NULL))
		return ERR_OK;
	return ticket_check(found.text, found.len, relay->name, clock_unix(),
	    ret, diag);
}

/* The model and the kind of session are the ticket's. */
static enum err
apply(const struct store_ticket *ticket, struct target *target,
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

enum err
tunnel_ticket_take(const struct config_relay *relay,
    const struct wire_headers *headers, struct target *target,
    struct store_ticket *ret, struct diag *diag)
{
	struct store_ticket ticket;
	enum err err = check(relay, headers, target, &ticket, diag);

	if (err != ERR_OK)
		return err;
	err = apply(&ticket, target, diag);
	if (err == ERR_OK)
		*ret = ticket;
	else
		store_ticket_done(&ticket);
	return err;
}
