/* SPDX-License-Identifier: MIT */
#include "broker/config/config_plan.h"

#include <math.h>
#include <string.h>

#include "broker/config/config_value.h"
#include "broker/store/price.h"
#include "common/str.h"
#include "common/xalloc.h"

#define NAME_MAX_BYTES 64
#define DAY_S	       86400
#define MICRO	       1000000
#define RATE_MAX       100000 /* a second */
#define BURST_MAX      1000000

/* Ten years: longer than any token is good. */
#define KEEP_MAX_S 315360000
#define KEEP_S	   2592000

/* Some seconds of speech, a prompt, and half a minute of answer. */
#define RESPONSE_TOKENS 4000

/* ---- a plan ---- */

static const struct number {
	const char *key;
	size_t offset; /* in struct config_plan; all are 64 bits wide */
	uint64_t min, max, fallback;
} numbers[] = {
#define NUMBER(key, member, min, max, fallback)                               \
	{                                                                     \
		key, offsetof(struct config_plan, member), min, max, fallback \
	}
	NUMBER("tunnels", max_tunnels, 0, 1000000, 0),
	NUMBER("streams", max_streams, 0, 1000000, 0),
	NUMBER("session_seconds", session_s, 0, 604800, 0),
	NUMBER("day_seconds", day_s, 0, 1000000000, 0),
	NUMBER("messages_per_second", client_messages_per_s, 0, 1000000, 0),
	NUMBER("bytes_per_second", client_bytes_per_s, 0, 1 << 30, 0),
	NUMBER("day_tokens", day_tokens, 0, 1000000000000, 0),
	NUMBER("response_tokens", response_tokens, 1, 10000000,
	    RESPONSE_TOKENS),
#undef NUMBER
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

/* The name goes into headers, in quotes. */
static const char *
check_name(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > NAME_MAX_BYTES || !str_is_token(text, len))
		return "a plan's name has 1 to 64 letters, digits and -_.";
	return NULL;
}

/* A decimal number in micro-units; 0 where there is none. */
static enum err
get_decimal(struct conf_section *section, const char *key, uint64_t max,
    uint64_t *ret_micro, struct diag *diag)
{
	const char *text = conf_string(section, key, 0);

	*ret_micro = 0;
	if (text != NULL &&
	    (price_parse(text, ret_micro) != ERR_OK ||
		*ret_micro > max * MICRO))
		return conf_fail(section, key, diag,
		    "\"%.40s\": write a number from 0 to %llu, as \"2.50\", "
		    "with at most six decimals",
		    text, (unsigned long long)max);
	return ERR_OK;
}

static enum err
build_requests(struct conf_section *section, struct config_plan *plan,
    struct diag *diag)
{
	uint64_t rate_micro;

	if (get_decimal(section, "requests_per_second", RATE_MAX, &rate_micro,
		diag) != ERR_OK)
		return ERR_PROTO;
	if (rate_micro == 0 && conf_given(section, "burst"))
		return conf_fail(section, "burst", diag,
		    "means nothing without requests_per_second");
	plan->requests_per_s = (double)rate_micro / MICRO;
	return value_get_number(section, "burst", rate_micro == 0 ? 0 : 1,
	    BURST_MAX, (uint64_t)ceil(plan->requests_per_s), &plan->burst,
	    diag);
}

/* Whether something of a day is counted, which has to be kept. */
static const char *
day_key(const struct config_plan *plan)
{
	return plan->day_s > 0	   ? "day_seconds"
	    : plan->day_tokens > 0 ? "day_tokens"
	    : plan->day_money > 0  ? "day_money"
				   : NULL;
}

static enum err
build_plan(struct conf_section *section, const struct config *config,
    struct config_plan *plan, struct diag *diag)
{
	const char *title = conf_title(section), *wrong = check_name(title);
	uint64_t money = 0;
	enum err err;

	if (wrong != NULL)
		return conf_fail(section, NULL, diag, "\"%.60s\": %s", title,
		    wrong);
	plan->name = xstrdup(title);
	err = build_requests(section, plan, diag);
	for (size_t i = 0; err == ERR_OK && i < NUMBERS; i++) {
		const struct number *number = &numbers[i];
		uint64_t value = 0;

		err = value_get_number(section, number->key, number->min,
		    number->max, number->fallback, &value, diag);
		memcpy((char *)plan + number->offset, &value, sizeof(value));
	}
	if (err == ERR_OK)
		err = get_decimal(section, "day_money", MICRO, &money, diag);
	plan->day_money = (int64_t)money;
	if (err == ERR_OK && day_key(plan) != NULL &&
	    config->store.path == NULL)
		err = conf_fail(section, day_key(plan), diag,
		    "what a day has used has to be kept: write store { path = "
		    "\"/var/lib/culvert/culvert.db\" }");
	return err;
}

static enum err
build_plans(struct conf_section *root, struct config *config, struct diag *diag)
{
	size_t count = conf_section_count(root, "plan");

	if (count > VALUE_LIST_MAX)
		return conf_fail(root, NULL, diag, "more than %d plan sections",
		    VALUE_LIST_MAX);
	config->plans = xcalloc(count + 1, sizeof(config->plans[0]));
	for (size_t i = 0; i < count; i++) {
		/* config_unref() frees it, come what may */
		config->plan_count++;
		if (build_plan(conf_section(root, "plan", i), config,
			&config->plans[i], diag) != ERR_OK)
			return ERR_PROTO;
	}
	return ERR_OK;
}

/* ---- who has which ---- */

/* A key that names a plan; "" is as good as absent. */
static enum err
get_name(struct conf_section *section, const struct config *config,
    const char *key, char **ret, struct diag *diag)
{
	if (value_get_optional(section, key, NULL, ret, diag) != ERR_OK)
		return ERR_PROTO;
	if (*ret != NULL && config_find_plan(config, *ret) == NULL)
		return conf_fail(section, key, diag,
		    "there is no plan \"%.60s\": write plan \"%.60s\" { ... }",
		    *ret, *ret);
	return ERR_OK;
}

enum err
config_plan_get(struct conf_section *section, const struct config *config,
    const char *fallback, char **ret, struct diag *diag)
{
	if (conf_given(section, "plan"))
		return get_name(section, config, "plan", ret, diag);
	*ret = fallback == NULL ? NULL : xstrdup(fallback);
	return ERR_OK;
}

enum err
config_plan_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	struct conf_section *section = conf_section(root, "limits", 0);
	uint64_t keep = 0;
	enum err err = build_plans(root, config, diag);

	if (err == ERR_OK)
		err = get_name(section, config, "user", &config->limits.user,
		    diag);
	if (err == ERR_OK)
		err = get_name(section, config, "anonymous",
		    &config->limits.anonymous, diag);
	if (err == ERR_OK)
		err = get_name(section, config, "address",
		    &config->limits.address, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "revocation_keep", DAY_S,
		    KEEP_MAX_S, KEEP_S, &keep, diag);
	config->limits.revocation_s = (int64_t)keep;
	return err;
}

/* ---- money ---- */

/*
 * Whether every model of a name or pattern has a price: a star in it can only
 * be within what a star of a price's pattern stands for.
 */
static bool
is_priced(const struct config *config, const char *pattern)
{
	return config_find_price(config, pattern) != NULL;
}

/* The first of them without one, NULL where there is none. */
static const char *
find_unpriced(const struct config *config, const struct config_strings *models,
    bool patterns)
{
	for (size_t i = 0; i < models->count; i++)
		if ((strchr(models->items[i], '*') != NULL) == patterns &&
		    !is_priced(config, models->items[i]))
			return models->items[i];
	return NULL;
}

/* What a relay whose usage is counted may be asked for; NULL: not known. */
static const struct config_strings *
models_of(const struct config_relay *relay)
{
	if (!relay->messages.usage)
		return NULL;
	for (size_t i = 0; i < relay->query_count; i++)
		if (strcmp(relay->queries[i].name, "model") == 0)
			return &relay->queries[i].values;
	return NULL;
}

const char *
config_plan_unpriced(const struct config *config,
    const struct config_relay *relay)
{
	const struct config_strings *models = models_of(relay);

	if (!relay->messages.usage)
		return NULL;
	return models == NULL || models->count == 0
	    ? is_priced(config, "*") ? NULL : "*"
	    : find_unpriced(config, models, true);
}

/* A model that the file names and that has no price; NULL: there is none. */
static const char *
find_named_unpriced(const struct config *config)
{
	const char *found = config->chat == NULL
	    ? NULL
	    : find_unpriced(config, &config->chat->models, false);

	for (size_t i = 0; found == NULL && i < config->relay_count; i++) {
		const struct config_strings *models =
		    models_of(&config->relays[i]);

		if (models != NULL)
			found = find_unpriced(config, models, false);
	}
	return found;
}

/* Sums of two currencies would be nonsense. */
static const char *
find_second_currency(const struct config *config)
{
	for (size_t i = 1; i < config->price_count; i++)
		if (strcmp(config->prices[i].price.currency,
			config->prices[0].price.currency) != 0)
			return config->prices[i].price.currency;
	return NULL;
}

static enum err
check_money(struct conf_section *section, const struct config *config,
    struct diag *diag)
{
	const char *model = find_named_unpriced(config);
	const char *currency = find_second_currency(config);

	if (config->price_count == 0)
		return conf_fail(section, "day_money", diag,
		    "nothing has a price: write prices \"MODEL\" { ... }");
	if (model != NULL)
		return conf_fail(section, "day_money", diag,
		    "%.60s has no price, and would cost nothing: write prices "
		    "\"%.60s\" { ... }",
		    model, model);
	if (currency != NULL)
		return conf_fail(section, "day_money", diag,
		    "there are prices in %s and in %s: money is counted in one "
		    "currency",
		    config->prices[0].price.currency, currency);
	return ERR_OK;
}

enum err
config_plan_check_money(struct conf_section *root, const struct config *config,
    struct diag *diag)
{
	for (size_t i = 0; i < config->plan_count; i++)
		if (config->plans[i].day_money > 0 &&
		    check_money(conf_section(root, "plan", i), config, diag) !=
			ERR_OK)
			return ERR_PROTO;
	return ERR_OK;
}

/* ---- the way back ---- */

static void
put_decimal(FILE *out, const char *key, uint64_t micro)
{
	char text[PRICE_TEXT_BYTES];

	value_put_text(out, 1, key, price_format_micro(micro, text));
}

static void
dump_plan(const struct config_plan *plan, FILE *out)
{
	(void)fputs("plan ", out);
	value_put_quoted(out, plan->name);
	(void)fputs(" {\n", out);
	if (plan->requests_per_s > 0) {
		put_decimal(out, "requests_per_second",
		    (uint64_t)llround(plan->requests_per_s * MICRO));
		value_put_number(out, 1, "burst", plan->burst);
	}
	for (size_t i = 0; i < NUMBERS; i++) {
		uint64_t value;

		memcpy(&value, (const char *)plan + numbers[i].offset,
		    sizeof(value));
		value_put_number(out, 1, numbers[i].key, value);
	}
	put_decimal(out, "day_money", (uint64_t)plan->day_money);
	(void)fputs("}\n", out);
}

void
config_plan_dump(const struct config *config, FILE *out)
{
	for (size_t i = 0; i < config->plan_count; i++)
		dump_plan(&config->plans[i], out);
	(void)fputs("limits {\n", out);
	value_put_text(out, 1, "user", config->limits.user);
	value_put_text(out, 1, "anonymous", config->limits.anonymous);
	value_put_text(out, 1, "address", config->limits.address);
	value_put_number(out, 1, "revocation_keep",
	    (uint64_t)config->limits.revocation_s);
	(void)fputs("}\n", out);
}
