/* SPDX-License-Identifier: MIT */
#include "broker/limits/budget_report.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/address.h"
#include "broker/limits/subjects.h"
#include "broker/store/price.h"

#define DAY_S	     86400
#define NETWORK_MARK "/64" /* behind an address, as it is shown */

static const struct {
	const char *word;
	char letter;
} kinds[] = {
	{ "user", 'u' },
	{ "visitor", 'a' },
	{ "address", 'n' },
	{ "route", 'r' },
};

#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static const char *
word_of(char letter)
{
	for (size_t i = 0; i < KIND_COUNT; i++)
		if (kinds[i].letter == letter)
			return kinds[i].word;
	return "";
}

/* ---- which plan -------------------------------------------------------- */

static const char *
plan_of_route(const struct config *config, const char *name)
{
	const struct config_relay *relay =
	    config_find_relay_by_name(config, name);

	if (relay != NULL)
		return relay->plan;
	if (strcmp(name, "anam") == 0 && config->anam != NULL)
		return config->anam->plan;
	if (strcmp(name, "chat") == 0 && config->chat != NULL)
		return config->chat->plan;
	if (strcmp(name, "livekit") == 0 && config->livekit != NULL)
		return config->livekit->plan;
	return NULL;
}

/* NULL: there is none.  *ret_assumed: a token that is not here may say another.
 */
static const struct config_plan *
plan_of(const struct config *config, const json_t *users, const char *subject,
    bool *ret_assumed)
{
	const char *name;

	*ret_assumed = false;
	switch (subject[0]) {
	case 'u':
		name = json_string_value(json_object_get(users, subject));
		*ret_assumed = name == NULL && config->users != NULL &&
		    config->users->plan_claim != NULL;
		name = name == NULL ? config->limits.user : name;
		break;
	case 'a':
		name = config->limits.anonymous;
		break;
	case 'n':
		name = config->limits.address;
		break;
	default:
		name = plan_of_route(config, subject + 2);
	}
	return config_find_plan(config, name);
}

/* ---- as JSON ----------------------------------------------------------- */

static json_t *
describe_tokens(const struct store_budget_state *state, int64_t max)
{
	json_t *row = json_pack("{sI sI}", "used", (json_int_t)state->tokens,
	    "reserved", (json_int_t)state->reserved_tokens);

	if (max > 0)
		(void)json_object_set_new(row, "limit", json_integer(max));
	return row;
}

static json_t *
describe_money(const struct store_budget_state *state, int64_t max)
{
	char used[PRICE_TEXT_BYTES], reserved[PRICE_TEXT_BYTES];
	char limit[PRICE_TEXT_BYTES];
	json_t *row = json_pack("{ss ss}", "used",
	    price_format_micro((uint64_t)state->money, used), "reserved",
	    price_format_micro((uint64_t)state->reserved_money, reserved));

	if (max > 0)
		(void)json_object_set_new(row, "limit",
		    json_string(price_format_micro((uint64_t)max, limit)));
	return row;
}

static json_t *
describe(const struct config *config, const json_t *users,
    const struct store_budget_state *state)
{
	json_t *seconds = json_pack("{sI}", "used", (json_int_t)state->seconds);
	const struct config_plan *plan;
	bool assumed;

	plan = plan_of(config, users, state->subject, &assumed);
	if (plan != NULL && plan->day_s > 0)
		(void)json_object_set_new(seconds, "limit",
		    json_integer(plan->day_s));
	return json_pack("{ss ss ss? so* so so so}", "kind",
	    word_of(state->subject[0]), "name", state->subject + 2, "plan",
	    plan == NULL ? NULL : plan->name, "assumed",
	    assumed ? json_true() : NULL, "tokens",
	    describe_tokens(state, plan == NULL ? 0 : plan->day_tokens),
	    "money", describe_money(state, plan == NULL ? 0 : plan->day_money),
	    "seconds", seconds);
}

/* ---- the report -------------------------------------------------------- */

/* What the store has it under. */
static enum err
name_subject(const struct wire_budgets *of, char out[STORE_SUBJECT_MAX + 1],
    struct diag *diag)
{
	char address[INET6_ADDRSTRLEN], bare[INET6_ADDRSTRLEN];
	const char *mark = strstr(of->value, NETWORK_MARK);
	char kind = 'u';

	for (size_t i = 0; i < KIND_COUNT; i++)
		if (strcmp(of->kind, kinds[i].word) == 0)
			kind = kinds[i].letter;
	if (mark != NULL && strcmp(mark, NETWORK_MARK) != 0)
		mark = NULL; /* another network's, which is no subject */
	if (kind != 'n') {
		subjects_write_name(kind, of->value, out);
		return ERR_OK;
	}
	(void)snprintf(bare, sizeof(bare), "%.*s",
	    (int)(mark == NULL ? strlen(of->value)
			       : (size_t)(mark - of->value)),
	    of->value);
	if (address_normalize(bare, address) != ERR_OK) {
		diag_set(diag, "this is not an address");
		return ERR_PROTO;
	}
	subjects_write_name(kind, address, out);
	return ERR_OK;
}

static json_t *
describe_all(const struct config *config, const struct store_budget_list *list,
    const json_t *users, size_t max_bytes)
{
	json_t *rows = json_array();
	size_t bytes = 0;

	for (size_t i = 0; i < list->count; i++) {
		const struct store_budget_state *state = &list->items[i];
		json_t *row = describe(config, users, state);

		bytes += json_dumpb(row, NULL, 0, JSON_COMPACT) + 1;
		if (bytes > max_bytes) {
			json_decref(row);
			break;
		}
		(void)json_array_append_new(rows, row);
	}
	return rows;
}

enum err
budget_report_make(struct store *store, const struct config *config,
    const struct wire_budgets *of, const json_t *users, int64_t now,
    size_t max_bytes, json_t **ret, struct diag *diag)
{
	struct store_budget_state nothing = { .subject = "" };
	struct store_budget_list list = { .items = NULL };
	bool is_one = of->kind != NULL;
	enum err err = ERR_OK;
	json_t *rows;

	if (is_one)
		err = name_subject(of, nothing.subject, diag);
	if (err == ERR_OK)
		err = store->ops->list_budgets(store,
		    is_one ? nothing.subject : NULL, now, &list, diag);
	if (err != ERR_OK)
		return err;
	rows = describe_all(config, &list, users, max_bytes);
	if (is_one && list.count == 0)
		(void)json_array_append_new(rows,
		    describe(config, users, &nothing));
	*ret = json_pack("{sI sO sI}", "resets",
	    (json_int_t)((now / DAY_S + 1) * DAY_S), "budgets", rows, "omitted",
	    (json_int_t)(list.count == 0
		    ? 0
		    : list.total - (int64_t)json_array_size(rows)));
	json_decref(rows);
	free(list.items);
	return ERR_OK;
}
