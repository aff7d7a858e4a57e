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
	free(ticket->plan);
	free(ticket->model);
	free(ticket->address);
	free(ticket->origin);
	free(ticket->anon_id);
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
	for (int i = 0; i < STORE_SUBJECTS_MAX; i++)
		free(usage->subjects[i]);
	free(usage->reservation);
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

void
store_revocations_done(struct store_revocations *revocations)
{
	for (size_t i = 0; i < revocations->count; i++) {
		free(revocations->items[i].kind);
		free(revocations->items[i].value);
	}
	free(revocations->items);
	*revocations = (struct store_revocations){ .items = NULL };
}

const char *const store_state_names[STORE_STATES_COUNT] = {
	[STORE_RUNNING] = "streaming",
	[STORE_COMPLETE] = "complete",
	[STORE_STOPPED] = "stopped",
	[STORE_INTERRUPTED] = "interrupted",
	[STORE_FAILED] = "failed",
};

void
store_chat_done(struct store_chat *chat)
{
	free(chat->id);
	free(chat->title);
	*chat = (struct store_chat){ .id = NULL };
}

void
store_chats_done(struct store_chats *chats)
{
	for (size_t i = 0; i < chats->count; i++)
		store_chat_done(&chats->items[i]);
	free(chats->items);
	*chats = (struct store_chats){ .items = NULL };
}

void
store_message_done(struct store_message *message)
{
	free(message->id);
	free(message->content);
	free(message->model);
	free(message->generation);
	*message = (struct store_message){ .id = NULL };
}

void
store_messages_done(struct store_messages *messages)
{
	for (size_t i = 0; i < messages->count; i++)
		store_message_done(&messages->items[i]);
	free(messages->items);
	*messages = (struct store_messages){ .items = NULL };
}

void
store_begun_done(struct store_begun *begun)
{
	free(begun->chat);
	free(begun->answer);
	free(begun->generation);
	free(begun->question);
	free(begun->replaces);
	store_messages_done(&begun->history);
	*begun = (struct store_begun){ .chat = NULL };
}

void
store_generation_done(struct store_generation *generation)
{
	free(generation->id);
	free(generation->owner);
	free(generation->user);
	free(generation->chat);
	free(generation->question);
	free(generation->answer);
	free(generation->model);
	free(generation->content);
	*generation = (struct store_generation){ .id = NULL };
}

void
store_generations_done(struct store_generations *generations)
{
	for (size_t i = 0; i < generations->count; i++)
		store_generation_done(&generations->items[i]);
	free(generations->items);
	*generations = (struct store_generations){ .items = NULL };
}
