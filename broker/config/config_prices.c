/* SPDX-License-Identifier: MIT */
#include "broker/config/config_prices.h"

#include <stdlib.h>
#include <string.h>

#include "broker/config/config_value.h"
#include "common/xalloc.h"

#define CURRENCY "USD"

static const char *
check_currency(const char *text)
{
	return strlen(text) == 3 &&
		strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3
	    ? NULL
	    : "write the three letters of a currency, as USD";
}

static enum err
get_price(struct conf_section *section, const char *key, uint64_t *ret,
    bool *ret_given, struct diag *diag)
{
	const char *text = conf_string(section, key, 0);

	*ret_given = text != NULL;
	if (text != NULL && price_parse(text, ret) != ERR_OK)
		return conf_fail(section, key, diag,
		    "\"%.40s\": write a price as \"4.00\", with at most six "
		    "decimals",
		    text);
	return ERR_OK;
}

/* What a cached token costs is not guessed to be less than another. */
static void
complete(struct price *price)
{
	static const enum store_tokens pairs[][2] = {
		{ STORE_CACHED_TEXT, STORE_INPUT_TEXT },
		{ STORE_CACHED_AUDIO, STORE_INPUT_AUDIO },
		{ STORE_CACHED_IMAGE, STORE_INPUT_IMAGE },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		enum store_tokens cached = pairs[i][0], input = pairs[i][1];

		if (price->has_tokens[cached])
			continue;
		price->has_tokens[cached] = price->has_tokens[input];
		price->tokens[cached] = price->tokens[input];
	}
}

static enum err
build_prices(struct conf_section *section, struct config_prices *prices,
    struct diag *diag)
{
	struct price *price = &prices->price;
	const char *title = conf_title(section), *wrong;
	char *currency;
	enum err err;

	wrong = value_check_word(title);
	if (wrong != NULL)
		return conf_fail(section, NULL, diag, "\"%.60s\": %s", title,
		    wrong);
	prices->models = xstrdup(title);
	if (value_get_text(section, "currency", check_currency, CURRENCY,
		&currency, diag) != ERR_OK)
		return ERR_PROTO;
	(void)strcpy(price->currency, currency);
	free(currency);
	err = get_price(section, "minute", &price->minute, &price->has_minute,
	    diag);
	for (int i = 0; err == ERR_OK && i < STORE_TOKENS_COUNT; i++)
		err = get_price(section, price_token_names[i],
		    &price->tokens[i], &price->has_tokens[i], diag);
	complete(price);
	return err;
}

enum err
config_prices_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	size_t count = conf_section_count(root, "prices");

	if (count > VALUE_LIST_MAX)
		return conf_fail(root, NULL, diag,
		    "more than %d prices sections", VALUE_LIST_MAX);
	config->prices = xcalloc(count + 1, sizeof(config->prices[0]));
	for (size_t i = 0; i < count; i++) {
		/* config_unref() frees it, come what may */
		config->price_count++;
		if (build_prices(conf_section(root, "prices", i),
			&config->prices[i], diag) != ERR_OK)
			return ERR_PROTO;
	}
	return ERR_OK;
}

void
config_prices_dump(const struct config *config, FILE *out)
{
	for (size_t i = 0; i < config->price_count; i++) {
		const struct price *price = &config->prices[i].price;
		char text[PRICE_TEXT_BYTES];

		(void)fputs("prices ", out);
		value_put_quoted(out, config->prices[i].models);
		(void)fputs(" {\n", out);
		value_put_text(out, 1, "currency", price->currency);
		for (int k = 0; k < STORE_TOKENS_COUNT; k++)
			if (price->has_tokens[k])
				value_put_text(out, 1, price_token_names[k],
				    price_format_micro(price->tokens[k], text));
		if (price->has_minute)
			value_put_text(out, 1, "minute",
			    price_format_micro(price->minute, text));
		(void)fputs("}\n", out);
	}
}
