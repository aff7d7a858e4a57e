/* SPDX-License-Identifier: MIT */
#include "tunnel/text_chat.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

enum turn {
	TURN_NONE,    /* nobody speaks */
	TURN_ASK,     /* the item has gone out, response.create is next */
	TURN_ASKED,   /* the vendor has not begun yet */
	TURN_STARTED, /* the vendor answers */
};

struct message {
	char *text;
	size_t len;
};

struct text_chat {
	enum turn turn;
	uint64_t turns; /* numbers our events, so that errors name them */
	struct message waiting[TEXT_CHAT_WAITING_MAX];
	size_t first, count, bytes, max_bytes;
};

struct text_chat *
text_chat_new(size_t max_bytes)
{
	struct text_chat *chat = xcalloc(1, sizeof(*chat));

	chat->max_bytes = max_bytes;
	return chat;
}

static void
drop_first(struct text_chat *chat)
{
	struct message *message = &chat->waiting[chat->first];

	chat->bytes -= message->len;
	explicit_bzero(message->text, message->len);
	free(message->text);
	chat->first = (chat->first + 1) % TEXT_CHAT_WAITING_MAX;
	chat->count--;
}

void
text_chat_free(struct text_chat *chat)
{
	if (chat == NULL)
		return;
	while (chat->count > 0)
		drop_first(chat);
	free(chat);
}

enum err
text_chat_say(struct text_chat *chat, const void *text, size_t len)
{
	struct message *message;

	if (len == 0)
		return ERR_NOTFOUND;
	if (!str_is_utf8(text, len))
		return ERR_TYPE;
	if (chat->count == TEXT_CHAT_WAITING_MAX ||
	    len > chat->max_bytes - chat->bytes)
		return ERR_LIMIT;
	message =
	    &chat->waiting[(chat->first + chat->count) % TEXT_CHAT_WAITING_MAX];
	message->text = xcalloc(1, len);
	memcpy(message->text, text, len);
	message->len = len;
	chat->bytes += len;
	chat->count++;
	return ERR_OK;
}

/* The name of this turn's response.create. */
static void
name_response(const struct text_chat *chat, char out[48])
{
	(void)snprintf(out, 48, "culvert_response_%llu",
	    (unsigned long long)chat->turns);
}

static json_t *
make_item(const struct text_chat *chat, const struct message *message)
{
	return json_pack("{s:s, s:o, s:{s:s, s:s, s:[{s:s, s:o}]}}", "type",
	    "conversation.item.create", "event_id",
	    json_sprintf("culvert_item_%llu", (unsigned long long)chat->turns),
	    "item", "type", "message", "role", "user", "content", "type",
	    "input_text", "text", json_stringn(message->text, message->len));
}

bool
text_chat_has_turn(const struct text_chat *chat)
{
	return chat->turn == TURN_NONE && chat->count > 0;
}

void
text_chat_skip_turn(struct text_chat *chat)
{
	drop_first(chat);
}

char *
text_chat_next(struct text_chat *chat, size_t *ret_len)
{
	char name[48], *text;
	json_t *event;

	if (text_chat_has_turn(chat)) {
		chat->turns++;
		event = make_item(chat, &chat->waiting[chat->first]);
		drop_first(chat);
		chat->turn = TURN_ASK;
	} else if (chat->turn == TURN_ASK) {
		name_response(chat, name);
		event = json_pack("{s:s, s:s}", "type", "response.create",
		    "event_id", name);
		chat->turn = TURN_ASKED;
	} else {
		return NULL;
	}
	text = json_text(event, ret_len);
	json_decref(event);
	return text;
}

/* Whether this error says that the response we asked for will not come. */
static bool
is_refusal(const struct text_chat *chat, const char *event_id)
{
	char name[48];

	if (chat->turn != TURN_ASKED)
		return false;
	name_response(chat, name);
	/*
	 * An error that names nothing may be about our event, and waiting for
	 * ever would be worse than asking once too often.
	 */
	return event_id[0] == '\0' || strcmp(event_id, name) == 0;
}

bool
text_chat_hear(struct text_chat *chat, const char *type,
    const char *error_event_id)
{
	if (strcmp(type, "response.created") == 0) {
		if (chat->turn == TURN_ASKED)
			chat->turn = TURN_STARTED;
	} else if (strcmp(type, "response.done") == 0 ||
	    strcmp(type, "response.cancelled") == 0) {
		if (chat->turn == TURN_ASKED || chat->turn == TURN_STARTED)
			chat->turn = TURN_NONE;
	} else if (strcmp(type, "error") == 0 &&
	    is_refusal(chat, error_event_id)) {
		chat->turn = TURN_NONE;
		return true;
	}
	return false;
}
