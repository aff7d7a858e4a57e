/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_news.h"

#include "broker/chat/chat_json.h"
#include "broker/chat/notify.h"
#include "common/json.h"
#include "common/log.h"

static void
tell_message(const char *owner, const char *chat,
    const struct store_message *message)
{
	notify_event(owner, "message_created",
	    json_made(json_pack("{s:s, s:o}", "chat_id", chat, "message",
		chat_json_message(chat, message))));
}

static void
tell_chat(const char *owner, const char *chat, const char *event)
{
	struct store *store = store_current();
	struct store_chat found;
	struct diag diag;

	if (store->ops->get_chat(store, owner, chat, &found, &diag) != ERR_OK)
		return;
	notify_event(owner, event,
	    json_made(json_pack("{s:o}", "chat", chat_json_chat(&found))));
	store_chat_done(&found);
}

void
chat_news_question(const char *owner, const char *chat, bool new_chat,
    const struct store_message *question)
{
	if (new_chat)
		tell_chat(owner, chat, "chat_created");
	tell_message(owner, chat, question);
}

void
chat_news_answer(const char *owner, const char *chat,
    const struct store_message *answer)
{
	tell_message(owner, chat, answer);
	tell_chat(owner, chat, "chat_updated");
}

json_t *
chat_news_usage(const struct config *config, const struct caller *caller)
{
	json_t *usage = NULL;
	struct diag diag;

	notify_usage(caller->owner);
	if (chat_json_usage(config, caller, &usage, &diag) != ERR_OK) {
		log_warning("chat.usage_unknown", "reason=\"%s\"", diag.text);
		return NULL;
	}
	return usage;
}
