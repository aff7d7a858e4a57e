/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_json.h"

#include <string.h>
#include <time.h>

#include "broker/store/price.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/str.h"

static json_t *
format_time(int64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	char text[48];
	struct tm tm;
	size_t len;

	if (gmtime_r(&s, &tm) == NULL)
		return json_null();
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	return json_made(
	    json_sprintf("%.*s.%03dZ", (int)len, text, (int)(ms % 1000)));
}

json_t *
chat_json_chat(const struct store_chat *chat)
{
	return json_made(json_pack("{s:s, s:s, s:o, s:o, s:I}", "id", chat->id,
	    "title", chat->title, "created_at", format_time(chat->created_ms),
	    "updated_at", format_time(chat->updated_ms), "message_count",
	    (json_int_t)chat->messages));
}

static json_t *
format_tokens(const struct store_message *message)
{
	json_int_t input = (json_int_t)message->input_tokens;
	json_int_t output = (json_int_t)message->output_tokens;

	if (input == 0 && output == 0)
		return json_null();
	return json_made(json_pack("{s:I, s:I, s:I}", "prompt_tokens", input,
	    "completion_tokens", output, "total_tokens", input + output));
}

json_t *
chat_json_message(const char *chat, const struct store_message *message)
{
	return json_made(
	    json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s, s:I, s:I, s:o, s:o}",
		"id", message->id, "chat_id", chat, "role",
		message->is_assistant ? "assistant" : "user", "content",
		message->content, "model", message->model, "status",
		store_state_names[message->state], "version",
		(json_int_t)message->version, "versions",
		(json_int_t)message->versions, "created_at",
		format_time(message->created_ms), "usage",
		format_tokens(message)));
}

/* ---- what is left ---- */

static enum err
visitor_usage(const struct config *config, const struct caller *caller,
    struct store *store, json_t **ret, struct diag *diag)
{
	const struct store_allowance allowance =
	    caller_allowance(caller, config->chat);
	struct store_allowance_state state;
	int64_t left;
	enum err err = store->ops->get_allowance(store, &allowance,
	    clock_unix(), &state, diag);

	if (err != ERR_OK)
		return err;
	/* it may have been more, before a reload */
	left = state.used < allowance.max ? allowance.max - state.used : 0;
	*ret = json_made(json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o}",
	    "kind", "anonymous", "anon_id", caller->id, "used",
	    (json_int_t)state.used, "limit", (json_int_t)allowance.max,
	    "remaining", (json_int_t)left, "window_s",
	    (json_int_t)allowance.window_s, "resets_at",
	    state.resets == 0 ? json_null()
			      : format_time(state.resets * 1000)));
	return ERR_OK;
}

static enum err
user_usage(const struct config *config, const struct caller *caller,
    struct store *store, json_t **ret, struct diag *diag)
{
	struct store_account account;
	char text[PRICE_TEXT_BYTES];
	enum err err;

	if (!config->chat->balance) {
		*ret = json_made(json_pack("{s:s, s:s}", "kind", "user", "user",
		    caller->id));
		return ERR_OK;
	}
	err = store->ops->get_account(store, caller->id, &account, diag);
	if (err != ERR_OK)
		return err;
	*ret = json_made(json_pack("{s:s, s:s, s:s, s:I, s:I, s:s?}", "kind",
	    "user", "user", caller->id, "balance",
	    price_format_micro((uint64_t)account.balance, text),
	    "balance_micro", (json_int_t)account.balance, "reserved_micro",
	    (json_int_t)account.reserved, "currency",
	    config_chat_currency(config)));
	return ERR_OK;
}

enum err
chat_json_usage(const struct config *config, const struct caller *caller,
    json_t **ret, struct diag *diag)
{
	struct store *store = store_current();

	if (store == NULL) {
		diag_set(diag, "there is no store");
		return ERR_UNAVAIL;
	}
	return caller->is_user
	    ? user_usage(config, caller, store, ret, diag)
	    : visitor_usage(config, caller, store, ret, diag);
}

/* ---- errors ---- */

const char *
chat_json_code(enum err err, const struct caller *caller)
{
	if (err == ERR_RATE && caller != NULL && !caller->is_user)
		return "ANON_LIMIT_REACHED";
	if (err == ERR_PAYMENT)
		return "INSUFFICIENT_BALANCE";
	return err_code(err);
}

json_t *
chat_json_error(enum err err, const struct caller *caller, const char *message)
{
	/* it may have been cut within a character */
	if (message == NULL || *message == '\0' ||
	    !str_is_utf8(message, strlen(message)))
		message = err_text(err);
	return json_made(json_pack("{s:s, s:s}", "code",
	    chat_json_code(err, caller), "error", message));
}
