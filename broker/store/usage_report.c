/* SPDX-License-Identifier: MIT */
#include "broker/store/usage_report.h"

#include <stdlib.h>
#include <string.h>

#include "broker/store/price.h"
#include "common/xalloc.h"

/* What is added up of sums; one of their members is the key. */
struct line {
	struct store_sum sum; /* of its texts only what the line is for */
	uint64_t unpriced;    /* events */
	json_t *costs;	      /* currency: pico-units */
};

static const struct {
	const char *name;
	size_t offset; /* of a text in struct store_sum */
} keys[] = {
	{ "day", offsetof(struct store_sum, day) },
	{ "route", offsetof(struct store_sum, route) },
	{ "user", offsetof(struct store_sum, user) },
	{ "model", offsetof(struct store_sum, model) },
};

#define KEY_COUNT (sizeof(keys) / sizeof(keys[0]))

static char **
text_of(const struct store_sum *sum, size_t key)
{
	return (char **)(uintptr_t)((const char *)sum + keys[key].offset);
}

/* ---- adding up --------------------------------------------------------- */

static uint64_t
add(uint64_t a, uint64_t b)
{
	return b > INT64_MAX - a ? INT64_MAX : a + b; /* JSON's largest */
}

static void
add_cost(struct line *line, const struct config *config,
    const struct store_sum *sum)
{
	const struct price *price = config_find_price(config, sum->model);
	uint64_t pico, before;

	if (price == NULL || price_of(price, sum, &pico) != ERR_OK) {
		line->unpriced = add(line->unpriced, sum->events);
		return;
	}
	if (pico > INT64_MAX)
		pico = INT64_MAX;
	before = (uint64_t)json_integer_value(
	    json_object_get(line->costs, price->currency));
	(void)json_object_set_new(line->costs, price->currency,
	    json_integer((json_int_t)add(before, pico)));
}

static void
add_sum(struct line *line, const struct config *config,
    const struct store_sum *sum)
{
	struct store_sum *to = &line->sum;

	to->events = add(to->events, sum->events);
	to->total_tokens = add(to->total_tokens, sum->total_tokens);
	to->seconds += sum->seconds;
	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		to->tokens[i] = add(to->tokens[i], sum->tokens[i]);
	add_cost(line, config, sum);
}

/* ---- as JSON ----------------------------------------------------------- */

static json_t *
describe(const struct line *line)
{
	json_t *row = json_object(), *tokens = json_object();
	json_t *costs = json_object(), *cost;
	char text[PRICE_TEXT_BYTES];
	const char *currency;

	for (size_t i = 0; i < KEY_COUNT; i++)
		if (*text_of(&line->sum, i) != NULL)
			(void)json_object_set_new(row, keys[i].name,
			    json_string(*text_of(&line->sum, i)));
	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		if (line->sum.tokens[i] > 0)
			(void)json_object_set_new(tokens, price_token_names[i],
			    json_integer((json_int_t)line->sum.tokens[i]));
	json_object_foreach(line->costs, currency, cost)
	{
		(void)price_format_pico((uint64_t)json_integer_value(cost),
		    text);
		(void)json_object_set_new(costs, currency, json_string(text));
	}
	(void)json_object_set_new(row, "events",
	    json_integer((json_int_t)line->sum.events));
	(void)json_object_set_new(row, "tokens", tokens);
	(void)json_object_set_new(row, "total_tokens",
	    json_integer((json_int_t)line->sum.total_tokens));
	(void)json_object_set_new(row, "seconds", json_real(line->sum.seconds));
	(void)json_object_set_new(row, "cost", costs);
	(void)json_object_set_new(row, "unpriced",
	    json_integer((json_int_t)line->unpriced));
	return row;
}

/* ---- the lines --------------------------------------------------------- */

/* Sums of one key next to each other; those of one key stay in order. */
struct sorted {
	const struct store_sum *sum;
	size_t key; /* KEY_COUNT: each stands alone */
};

static int
compare(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;
	int order = 0;

	if (x->key < KEY_COUNT)
		order =
		    strcmp(*text_of(x->sum, x->key), *text_of(y->sum, y->key));
	if (order == 0)
		order = x->sum < y->sum ? -1 : x->sum > y->sum;
	return order;
}

static bool
is_same_line(const struct sorted *a, const struct sorted *b)
{
	return a->key < KEY_COUNT &&
	    strcmp(*text_of(a->sum, a->key), *text_of(b->sum, b->key)) == 0;
}

static struct sorted *
sort(const struct store_sums *sums, size_t key)
{
	struct sorted *sorted = xcalloc(sums->count + 1, sizeof(*sorted));

	for (size_t i = 0; i < sums->count; i++) {
		sorted[i].sum = &sums->items[i];
		sorted[i].key = key;
	}
	qsort(sorted, sums->count, sizeof(*sorted), compare);
	return sorted;
}

/* One line of those from the first on; returns how many it took. */
static size_t
make_line(const struct config *config, const struct sorted *first, size_t count,
    json_t **ret)
{
	struct line line = { .costs = json_object() };
	size_t n = 0;

	for (size_t i = 0; i < KEY_COUNT; i++)
		if (first->key == KEY_COUNT || first->key == i)
			*text_of(&line.sum, i) = *text_of(first->sum, i);
	do
		add_sum(&line, config, first[n].sum);
	while (++n < count && is_same_line(first, &first[n]));
	*ret = describe(&line);
	json_decref(line.costs);
	return n;
}

static json_t *
make_total(const struct config *config, const struct store_sums *sums)
{
	struct line line = { .costs = json_object() };
	json_t *total;

	for (size_t i = 0; i < sums->count; i++)
		add_sum(&line, config, &sums->items[i]);
	total = describe(&line);
	json_decref(line.costs);
	return total;
}

static size_t
find_key(const char *by)
{
	size_t key = 0;

	while (key < KEY_COUNT && (by == NULL || strcmp(by, keys[key].name)))
		key++;
	return key;
}

json_t *
usage_report_make(const struct config *config, const struct store_sums *sums,
    const char *by, size_t max_bytes)
{
	struct sorted *sorted = sort(sums, find_key(by));
	json_t *rows = json_array(), *row;
	json_int_t omitted = 0;
	size_t bytes = 0;

	for (size_t i = 0; i < sums->count;) {
		i += make_line(config, &sorted[i], sums->count - i, &row);
		bytes += json_dumpb(row, NULL, 0, JSON_COMPACT) + 1;
		if (omitted == 0 && bytes <= max_bytes) {
			(void)json_array_append_new(rows, row);
		} else {
			omitted++;
			json_decref(row);
		}
	}
	free(sorted);
	return json_pack("{so so sI}", "rows", rows, "total",
	    make_total(config, sums), "omitted", omitted);
}
