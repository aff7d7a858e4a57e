/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_recovery.h"

#include <stdlib.h>
#include <string.h>

#include "broker/chat/chat_cost.h"
#include "broker/chat/sse_text.h"
#include "broker/limits/budget.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"

/* Where the chat is not configured any more: for who comes back. */
#define REPLAY_S 300

/*
 * Bytes of what was sent, as near as can be told now: of the chat's newest
 * messages, but what came after.
 */
static uint64_t
input_bytes(struct store *store, const struct config_chat *chat,
    const struct store_generation *generation)
{
	const struct store_message_query query = {
		.owner = generation->owner,
		.chat = generation->chat,
		.limit = (int64_t)chat->history_messages,
	};
	struct store_messages messages;
	uint64_t bytes = chat->system == NULL ? 0 : strlen(chat->system);
	struct diag diag;

	if (store->ops->list_messages(store, &query, &messages, &diag) !=
	    ERR_OK)
		return bytes;
	for (size_t i = messages.count; i-- > 0;) {
		uint64_t more = strlen(messages.items[i].content);

		if (bytes + more > chat->history_bytes)
			break;
		bytes += more;
	}
	store_messages_done(&messages);
	return bytes;
}

static struct chat_bill
make_bill(struct store *store, const struct config *config,
    const struct store_generation *generation)
{
	const struct price *price = NULL;
	uint64_t input = 0;

	if (generation->user != NULL)
		price = config_find_price(config, generation->model);
	if (config->chat != NULL)
		input = input_bytes(store, config->chat, generation);
	return chat_cost_bill(price, NULL, input, strlen(generation->content));
}

/* The last event that whoever comes back will find. */
static char *
make_events(const struct store_generation *generation)
{
	struct sse_text text = { .data = NULL };
	struct sse_id id = {
		.stream = generation->id,
		.n = generation->last + 1,
	};

	sse_text_add(&text, id, "assistant_error",
	    json_made(json_pack("{s:s, s:s, s:s, s:s}", "code", "INTERRUPTED",
		"error", "The answer was interrupted.  Please try again.",
		"chat_id", generation->chat, "message_id",
		generation->answer)));
	return sse_text_take(&text);
}

static enum err
end_one(struct store *store, const struct config *config,
    const struct store_generation *generation, struct diag *diag)
{
	struct chat_bill bill = make_bill(store, config, generation);
	/* of a user alone: an anonymous id is as good as a password */
	bool is_user = strncmp(generation->owner, "u:", 2) == 0;
	struct store_usage row = {
		.lease = generation->id,
		.n = 1,
		.session = generation->chat,
		.route = (char[]){ "chat" },
		.user = is_user ? generation->owner + 2 : NULL,
		.model = generation->model,
		.event = (char[]){ "chat.completion" },
		.status = (char[]){ "estimated" },
		.at = clock_unix(),
		.total_tokens = bill.total_tokens,
		.raw = (char[]){ "{}" },
	};
	char *events = make_events(generation);
	const struct store_finish finish = {
		.generation = generation->id,
		.state = STORE_INTERRUPTED,
		.content = generation->content,
		.last = {
			.generation = generation->id,
			.first = generation->last + 1,
			.last = generation->last + 1,
			.events = events,
			.content = "",
		},
		.usage = &row,
		.input_tokens = bill.input_tokens,
		.output_tokens = bill.output_tokens,
		.charge = bill.charge,
		.now_ms = clock_unix_ms(),
		.replay_s =
		    config->chat == NULL ? REPLAY_S : config->chat->replay_s,
	};
	const struct subjects nobody = { .count = 0 };
	struct store_finished finished;
	enum err err;

	memcpy(row.tokens, bill.tokens, sizeof(row.tokens));
	/* from where it came is not known any more, but its reservation is */
	budget_fill_usage(config, &nobody, generation->id, &row);
	err = store->ops->finish(store, &finish, &finished, diag);
	if (err == ERR_OK)
		log_notice("chat.recovered",
		    "generation=%s bytes=%zu charge=%lld", generation->id,
		    strlen(generation->content), (long long)finished.charged);
	free(row.reservation);
	free(events);
	return err;
}

enum err
chat_recovery_run(struct store *store, const struct config *config,
    struct diag *diag)
{
	struct store_generations running;
	enum err err = store->ops->list_running(store, &running, diag);

	if (err != ERR_OK)
		return err;
	for (size_t i = 0; i < running.count; i++)
		if (end_one(store, config, &running.items[i], diag) != ERR_OK)
			log_error("chat.not_recovered",
			    "generation=%s reason=\"%s\"", running.items[i].id,
			    diag->text);
	store_generations_done(&running);
	return ERR_OK;
}
