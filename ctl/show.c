/* SPDX-License-Identifier: MIT */
#include "ctl/show.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/str.h"
#include "common/xalloc.h"
#include "ctl/table.h"

#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))
#define TIME_BYTES 32

static const char *
text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static uint64_t
number_of(const json_t *object, const char *name)
{
	json_int_t number = json_integer_value(json_object_get(object, name));

	return number < 0 ? 0 : (uint64_t)number;
}

/* ---- sessions ---------------------------------------------------------- */

static const struct table_column session_columns[] = {
	{ "LEASE", false },
	{ "ROUTE", false },
	{ "CLIENT", false },
	{ "USER", false },
	{ "MODEL", false },
	{ "SINCE", false },
	{ "SENT", true },
	{ "RECEIVED", true },
};

static const char *
time_text(uint64_t seconds, char out[TIME_BYTES])
{
	time_t time = (time_t)seconds;
	struct tm tm;

	out[0] = '\0';
	if (gmtime_r(&time, &tm) != NULL)
		(void)strftime(out, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return out;
}

static void
put_time(struct table *table, size_t column, uint64_t seconds)
{
	char text[TIME_BYTES];

	table_put(table, column, time_text(seconds, text));
}

static void
add_session(struct table *table, const json_t *lease)
{
	static const char *const names[] = { "id", "route", "client", "user",
		"model" };

	table_add_row(table);
	for (size_t i = 0; i < COUNT(names); i++)
		table_put(table, i, text_of(lease, names[i]));
	put_time(table, COUNT(names), number_of(lease, "started"));
	table_put_number(table, COUNT(names) + 1,
	    number_of(json_object_get(lease, "from_client"), "bytes"));
	table_put_number(table, COUNT(names) + 2,
	    number_of(json_object_get(lease, "from_upstream"), "bytes"));
}

void
show_sessions(const json_t *answer, FILE *out)
{
	const json_t *leases = json_object_get(answer, "leases");
	uint64_t omitted = number_of(answer, "omitted");
	struct table *table;

	if (json_array_size(leases) > 0) {
		table = table_new(session_columns, COUNT(session_columns));
		for (size_t i = 0; i < json_array_size(leases); i++)
			add_session(table, json_array_get(leases, i));
		table_print(table, out);
		table_free(table);
	}
	(void)fprintf(out, "%llu open",
	    (unsigned long long)number_of(answer, "total"));
	if (omitted > 0)
		(void)fprintf(out, ", of which %llu are not shown",
		    (unsigned long long)omitted);
	(void)fputc('\n', out);
}

/* ---- usage ------------------------------------------------------------- */

static const struct table_column usage_columns[] = {
	{ "DAY", false },
	{ "ROUTE", false },
	{ "USER", false },
	{ "MODEL", false },
	{ "EVENTS", true },
	{ "TEXT IN", true },
	{ "AUDIO IN", true },
	{ "IMAGE IN", true },
	{ "CACHED", true },
	{ "TEXT OUT", true },
	{ "AUDIO OUT", true },
	{ "SECONDS", true },
	{ "COST", true },
	{ "UNPRICED", true },
};

enum {
	DAY,
	ROUTE,
	USER,
	MODEL,
	EVENTS,
	TEXT_IN,
	AUDIO_IN,
	IMAGE_IN,
	CACHED,
	TEXT_OUT,
	AUDIO_OUT,
	SECONDS,
	COST,
	UNPRICED,
};

/* What rows are for, in the order of these columns. */
static const char *const usage_keys[] = { "day", "route", "user", "model" };

/* A column of zeros alone is not shown. */
static void
put_count(struct table *table, size_t column, uint64_t number)
{
	if (number > 0)
		table_put_number(table, column, number);
}

/* "1.25 USD + 3.00 EUR" */
static void
put_cost(struct table *table, const json_t *costs)
{
	char *text = NULL, *longer, amount[64], name[16];
	const char *currency, *cost;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)costs, currency, value)
	{
		cost = json_is_string(value) ? json_string_value(value) : "?";
		str_escape(amount, sizeof(amount), cost, strlen(cost));
		str_escape(name, sizeof(name), currency, strlen(currency));
		longer = xasprintf("%s%s%s %s", text == NULL ? "" : text,
		    text == NULL ? "" : " + ", amount, name);
		free(text);
		text = longer;
	}
	table_put_words(table, COST, text);
	free(text);
}

/* Of the columns from DAY to MODEL, the first that the rows have. */
static size_t
first_column(const json_t *row)
{
	for (size_t i = 0; i < COUNT(usage_keys); i++)
		if (json_object_get(row, usage_keys[i]) != NULL)
			return i;
	return DAY;
}

static void
add_usage(struct table *table, const json_t *row)
{
	const json_t *tokens = json_object_get(row, "tokens");
	double seconds = json_number_value(json_object_get(row, "seconds"));
	char text[32];

	table_add_row(table);
	for (size_t i = 0; i < COUNT(usage_keys); i++) {
		const char *key = text_of(row, usage_keys[i]);

		/* "" is a user or model that is not known */
		table_put(table, i, key != NULL && *key == '\0' ? "-" : key);
	}
	table_put_number(table, EVENTS, number_of(row, "events"));
	put_count(table, TEXT_IN, number_of(tokens, "input_text"));
	put_count(table, AUDIO_IN, number_of(tokens, "input_audio"));
	put_count(table, IMAGE_IN, number_of(tokens, "input_image"));
	put_count(table, CACHED,
	    number_of(tokens, "cached_text") +
		number_of(tokens, "cached_audio") +
		number_of(tokens, "cached_image"));
	put_count(table, TEXT_OUT, number_of(tokens, "output_text"));
	put_count(table, AUDIO_OUT, number_of(tokens, "output_audio"));
	(void)snprintf(text, sizeof(text), "%.1f", seconds);
	table_put(table, SECONDS, seconds > 0 ? text : NULL);
	put_cost(table, json_object_get(row, "cost"));
	put_count(table, UNPRICED, number_of(row, "unpriced"));
}

void
show_usage(const json_t *answer, FILE *out)
{
	const json_t *rows = json_object_get(answer, "rows");
	const json_t *total = json_object_get(answer, "total");
	uint64_t omitted = number_of(answer, "omitted");
	struct table *table;

	if (number_of(total, "events") == 0) {
		(void)fputs("nothing was used\n", out);
		return;
	}
	table = table_new(usage_columns, COUNT(usage_columns));
	for (size_t i = 0; i < json_array_size(rows); i++)
		add_usage(table, json_array_get(rows, i));
	add_usage(table, total);
	table_put(table, first_column(json_array_get(rows, 0)), "total");
	table_print(table, out);
	table_free(table);
	if (omitted > 0)
		(void)fprintf(out,
		    "%llu rows are not shown, but in the total: ask for a "
		    "shorter time\n",
		    (unsigned long long)omitted);
	if (number_of(total, "unpriced") > 0)
		(void)fprintf(out,
		    "%llu events have no price: see `prices' in "
		    "culvert.conf(5)\n",
		    (unsigned long long)number_of(total, "unpriced"));
}

/* ---- accounts ---------------------------------------------------------- */

static const struct table_column account_columns[] = {
	{ "USER", false },
	{ "BALANCE", true },
	{ "RESERVED", true },
	{ "CURRENCY", false },
	{ "ID", false },
};

void
show_account(const json_t *answer, FILE *out)
{
	static const char *const names[] = { "user", "balance", "reserved",
		"currency", "id" };
	struct table *table =
	    table_new(account_columns, COUNT(account_columns));

	table_add_row(table);
	for (size_t i = 0; i < COUNT(names); i++)
		table_put(table, i, text_of(answer, names[i]));
	table_print(table, out);
	table_free(table);
}

/* ---- budgets ----------------------------------------------------------- */

static const struct table_column budget_columns[] = {
	{ "KIND", false },
	{ "NAME", false },
	{ "PLAN", false },
	{ "TOKENS", true },
	{ "RESERVED", true },
	{ "LIMIT", true },
	{ "MONEY", true },
	{ "RESERVED", true },
	{ "LIMIT", true },
	{ "SECONDS", true },
	{ "LIMIT", true },
};

/* What was used is said where it says something: not a 0 without a limit. */
static void
put_numbers(struct table *table, size_t column, const json_t *value,
    bool reserved)
{
	const json_t *limit = json_object_get(value, "limit");
	uint64_t used = number_of(value, "used");

	if (used > 0 || limit != NULL)
		table_put_number(table, column, used);
	if (reserved)
		put_count(table, ++column, number_of(value, "reserved"));
	if (limit != NULL)
		table_put_number(table, column + 1, number_of(value, "limit"));
}

static void
put_money(struct table *table, size_t column, const json_t *value)
{
	static const char *const names[] = { "used", "reserved", "limit" };
	const char *limit = text_of(value, "limit");

	for (size_t i = 0; i < COUNT(names); i++) {
		const char *text = text_of(value, names[i]);

		if (text != NULL &&
		    (strpbrk(text, "123456789") != NULL ||
			(i == 0 && limit != NULL)))
			table_put(table, column + i, text);
	}
}

void
show_budgets(const json_t *answer, FILE *out)
{
	const json_t *list = json_object_get(answer, "budgets");
	uint64_t omitted = number_of(answer, "omitted");
	char resets[TIME_BYTES];
	struct table *table;
	bool assumed = false;

	if (json_array_size(list) == 0) {
		(void)fputs("nothing was used of today's budgets\n", out);
		return;
	}
	table = table_new(budget_columns, COUNT(budget_columns));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *row = json_array_get(list, i);
		const char *plan = text_of(row, "plan");

		bool is_assumed = json_is_true(json_object_get(row, "assumed"));
		char text[128];

		(void)snprintf(text, sizeof(text), "%s%s",
		    plan == NULL ? "-" : plan, is_assumed ? "?" : "");
		assumed = assumed || is_assumed;
		table_add_row(table);
		table_put(table, 0, text_of(row, "kind"));
		table_put(table, 1, text_of(row, "name"));
		table_put(table, 2, text);
		put_numbers(table, 3, json_object_get(row, "tokens"), true);
		put_money(table, 6, json_object_get(row, "money"));
		put_numbers(table, 9, json_object_get(row, "seconds"), false);
	}
	table_print(table, out);
	table_free(table);
	if (omitted > 0)
		(void)fprintf(out, "%llu are not shown\n",
		    (unsigned long long)omitted);
	if (assumed)
		(void)fputs("?: unless the user's token names another plan, "
			    "which is known while a tunnel is open\n",
		    out);
	(void)fprintf(out, "all begin anew at %s\n",
	    time_text(number_of(answer, "resets"), resets));
}

/* ---- revocations ------------------------------------------------------- */

void
show_revoked(const json_t *answer, FILE *out)
{
	(void)fprintf(out, "tunnels closed: %llu\n",
	    (unsigned long long)number_of(answer, "closed"));
	if (json_is_false(json_object_get(answer, "known")))
		(void)fputs("no route of this name is configured now\n", out);
}

static const struct table_column revocation_columns[] = {
	{ "KIND", false },
	{ "VALUE", false },
	{ "BEFORE", false },
	{ "KEPT UNTIL", false },
};

void
show_revocations(const json_t *answer, FILE *out)
{
	const json_t *list = json_object_get(answer, "revocations");
	struct table *table;

	if (json_array_size(list) == 0) {
		(void)fputs("nothing is revoked\n", out);
		return;
	}
	table = table_new(revocation_columns, COUNT(revocation_columns));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *row = json_array_get(list, i);

		table_add_row(table);
		table_put(table, 0, text_of(row, "kind"));
		table_put(table, 1, text_of(row, "value"));
		put_time(table, 2, number_of(row, "before"));
		put_time(table, 3, number_of(row, "expires"));
	}
	table_print(table, out);
	table_free(table);
}
