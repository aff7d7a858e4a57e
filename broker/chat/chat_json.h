/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_JSON_H
#define BROKER_CHAT_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "broker/chat/caller.h"
#include "broker/config/config.h"
#include "broker/store/store.h"
#include "common/err.h"

/*
 * chat_json: what clients see of the store.  Pure but for chat_json_usage().
 * The caller decrefs what these make.  Times are "2026-01-31T12:00:00.000Z".
 */

/* {"id","title","created_at","updated_at","message_count"} */
json_t *chat_json_chat(const struct store_chat *chat);

/*
 * {"id","chat_id","role","content","model","status","version","versions",
 * "created_at","usage":{"prompt_tokens","completion_tokens","total_tokens"}};
 * model and usage are null where there is none
 */
json_t *chat_json_message(const char *chat,
    const struct store_message *message);

/*
 * What is left, from the store (it blocks): of an anonymous caller
 * {"kind":"anonymous","anon_id","used","limit","remaining","window_s",
 * "resets_at"}, of a user {"kind":"user","user","balance":"4.000000",
 * "balance_micro","reserved_micro","currency"}, without money where users do
 * not pay.
 */
enum err chat_json_usage(const struct config *config,
    const struct caller *caller, json_t **ret, struct diag *diag) MUST_CHECK;

/* {"code","error"}: what `assistant_error' carries. */
json_t *chat_json_error(enum err err, const struct caller *caller,
    const char *message);

/*
 * The code of chat_json_error(): ANON_LIMIT_REACHED, INSUFFICIENT_BALANCE, or
 * err_code().  caller may be NULL: then ERR_RATE is no visitor's allowance, but
 * too much at once.
 */
const char *chat_json_code(enum err err, const struct caller *caller);

#endif
