/* SPDX-License-Identifier: MIT */
#include "broker/store/store.h"

#include <stdlib.h>
#include <string.h>

static struct store *current;

struct store *
store_current(void)
{
	return current;
}

void
store_set_current(struct store *store)
{
	current = store;
}

void
store_anam_done(struct store_anam *session)
{
	if (session->id != NULL)
		explicit_bzero(session->id, strlen(session->id));
	free(session->id);
	free(session->user);
	free(session->persona);
	free(session->token_id);
	json_decref(session->session);
	*session = (struct store_anam){ .id = NULL };
}

void
store_ticket_done(struct store_ticket *ticket)
{
	free(ticket->id);
	free(ticket->route);
	free(ticket->user);
	free(ticket->model);
	json_decref(ticket->session);
	*ticket = (struct store_ticket){ .id = NULL };
}

void
store_usage_done(struct store_usage *usage)
{
	free(usage->lease);
	free(usage->session);
	free(usage->route);
	free(usage->user);
	free(usage->model);
	free(usage->event);
	free(usage->vendor_id);
	free(usage->status);
	free(usage->raw);
	*usage = (struct store_usage){ .lease = NULL };
}

void
store_sums_done(struct store_sums *sums)
{
	for (size_t i = 0; i < sums->count; i++) {
		free(sums->items[i].day);
		free(sums->items[i].route);
		free(sums->items[i].user);
		free(sums->items[i].model);
	}
	free(sums->items);
	*sums = (struct store_sums){ .items = NULL };
}
