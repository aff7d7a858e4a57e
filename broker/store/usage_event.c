/* SPDX-License-Identifier: MIT */
#include "broker/store/usage_event.h"

#include <math.h>
#include <string.h>

#include "common/json.h"
#include "common/xalloc.h"

#define WORD_BYTES 128
#define ID_BYTES   256

enum kind {
	TEXT,
	AUDIO,
	IMAGE,
	KIND_COUNT
};

static const char *const kind_names[] = {
	[TEXT] = "text_tokens",
	[AUDIO] = "audio_tokens",
	[IMAGE] = "image_tokens",
};

/* A count; absent is 0. */
static uint64_t
get_count(const json_t *object, const char *name, bool *odd)
{
	int64_t count = 0;
	enum err err = json_get_int(object, name, 0, STORE_TOKENS_MAX, &count);

	if (err != ERR_OK && err != ERR_NOTFOUND)
		*odd = true;
	return (uint64_t)count;
}

static double
get_seconds(const json_t *usage, bool *odd)
{
	const json_t *value = json_object_get(usage, "seconds");
	double seconds = json_number_value(value);

	if (value == NULL)
		return 0;
	if (!json_is_number(value) || !isfinite(seconds) || seconds < 0 ||
	    seconds > STORE_TOKENS_MAX) {
		*odd = true;
		return 0;
	}
	return seconds;
}

/* By kind; what is left of the total is text. */
static void
get_kinds(const json_t *details, uint64_t total, uint64_t kinds[KIND_COUNT],
    bool *odd)
{
	uint64_t sum = 0;

	for (int i = 0; i < KIND_COUNT; i++) {
		kinds[i] = get_count(details, kind_names[i], odd);
		sum += kinds[i];
	}
	if (sum < total)
		kinds[TEXT] += total - sum;
	else if (sum > total && total > 0)
		*odd = true;
}

/* Take at most so many of what there are; returns how many. */
static uint64_t
take(uint64_t *from, uint64_t count)
{
	uint64_t taken = count < *from ? count : *from;

	*from -= taken;
	return taken;
}

/* Cached ones go from what they were counted in; those of no kind, anywhere. */
static void
split_cached(const json_t *details, uint64_t kinds[KIND_COUNT],
    uint64_t cached[KIND_COUNT], bool *odd)
{
	const json_t *more = json_object_get(details, "cached_tokens_details");
	uint64_t total = get_count(details, "cached_tokens", odd), sum = 0;

	for (int i = 0; i < KIND_COUNT; i++) {
		uint64_t count = get_count(more, kind_names[i], odd);

		cached[i] = take(&kinds[i], count);
		*odd |= cached[i] < count;
		sum += cached[i];
	}
	for (int i = 0; i < KIND_COUNT && sum < total; i++) {
		uint64_t count = take(&kinds[i], total - sum);

		cached[i] += count;
		sum += count;
	}
	*odd |= sum < total;
}

static void
read_tokens(const json_t *usage, struct store_usage *row, bool *odd)
{
	uint64_t input = get_count(usage, "input_tokens", odd);
	uint64_t output = get_count(usage, "output_tokens", odd);
	const json_t *details = json_object_get(usage, "input_token_details");
	uint64_t kinds[KIND_COUNT], cached[KIND_COUNT];

	get_kinds(details, input, kinds, odd);
	split_cached(details, kinds, cached, odd);
	row->tokens[STORE_INPUT_TEXT] = kinds[TEXT];
	row->tokens[STORE_INPUT_AUDIO] = kinds[AUDIO];
	row->tokens[STORE_INPUT_IMAGE] = kinds[IMAGE];
	row->tokens[STORE_CACHED_TEXT] = cached[TEXT];
	row->tokens[STORE_CACHED_AUDIO] = cached[AUDIO];
	row->tokens[STORE_CACHED_IMAGE] = cached[IMAGE];

	get_kinds(json_object_get(usage, "output_token_details"), output, kinds,
	    odd);
	/* no vendor answers with images that are counted apart */
	row->tokens[STORE_OUTPUT_TEXT] = kinds[TEXT] + kinds[IMAGE];
	row->tokens[STORE_OUTPUT_AUDIO] = kinds[AUDIO];

	row->total_tokens = get_count(usage, "total_tokens", odd);
	if (row->total_tokens == 0)
		row->total_tokens = input + output;
}

/* Each count is at most the maximum, but a sum of some may be more. */
static void
bound(struct store_usage *row, bool *odd)
{
	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		if (row->tokens[i] > STORE_TOKENS_MAX) {
			row->tokens[i] = STORE_TOKENS_MAX;
			*odd = true;
		}
	if (row->total_tokens > STORE_TOKENS_MAX) {
		row->total_tokens = STORE_TOKENS_MAX;
		*odd = true;
	}
}

static enum err
get_word(const json_t *event, const char *name, size_t max_bytes, char **ret)
{
	const char *text;
	enum err err = json_get_string(event, name, max_bytes, &text);

	if (err == ERR_OK)
		*ret = xstrdup(text);
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
usage_event_parse(const json_t *event, struct store_usage *ret, bool *ret_odd,
    struct diag *diag)
{
	const json_t *usage = json_object_get(event, "usage");
	struct store_usage row = { .lease = NULL };
	bool odd = false;
	const char *type;
	size_t len;

	if (json_get_int(event, "n", 1, INT64_MAX, &row.n) != ERR_OK ||
	    json_get_string(event, "type", WORD_BYTES, &type) != ERR_OK ||
	    !json_is_object(usage)) {
		diag_set(diag, "an event without its n, type or usage");
		return ERR_PROTO;
	}
	row.event = xstrdup(type);
	if (get_word(event, "id", ID_BYTES, &row.vendor_id) != ERR_OK ||
	    get_word(event, "status", WORD_BYTES, &row.status) != ERR_OK)
		odd = true;
	read_tokens(usage, &row, &odd);
	row.seconds = get_seconds(usage, &odd);
	bound(&row, &odd);
	row.raw = json_text(usage, &len);
	*ret = row;
	*ret_odd = odd;
	return ERR_OK;
}
