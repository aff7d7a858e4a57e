/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/store/usage_event.h"
#include "common/json.h"

static json_t *
event_of(const char *usage)
{
	json_t *event = json_pack("{sI ss ss ss}", "n", (json_int_t)7, "type",
	    "response.done", "id", "resp_1", "status", "completed");
	json_t *object;

	assert_int_equal(json_parse(usage, strlen(usage), &object, NULL),
	    ERR_OK);
	(void)json_object_set_new(event, "usage", object);
	return event;
}

struct row {
	const char *usage;
	/* input text, audio, image; cached the same; output text, audio */
	uint64_t tokens[STORE_TOKENS_COUNT];
	uint64_t total;
	double seconds;
	bool odd;
};

static const struct row rows[] = {
	/* response.done as OpenAI's reference has it */
	{ "{\"total_tokens\":253,\"input_tokens\":132,\"output_tokens\":121,"
	  "\"input_token_details\":{\"text_tokens\":119,\"audio_tokens\":13,"
	  "\"image_tokens\":0,\"cached_tokens\":64,\"cached_tokens_details\":"
	  "{\"text_tokens\":64,\"audio_tokens\":0,\"image_tokens\":0}},"
	  "\"output_token_details\":{\"text_tokens\":30,\"audio_tokens\":91}}",
	    { 55, 13, 0, 64, 0, 0, 30, 91 }, 253, 0, false },
	{ "{\"input_tokens\":300,\"output_tokens\":0,\"total_tokens\":300,"
	  "\"input_token_details\":{\"text_tokens\":100,\"audio_tokens\":100,"
	  "\"image_tokens\":100,\"cached_tokens\":60,\"cached_tokens_details\":"
	  "{\"text_tokens\":10,\"audio_tokens\":20,\"image_tokens\":30}}}",
	    { 90, 80, 70, 10, 20, 30, 0, 0 }, 300, 0, false },
	/* without details, or with some of them */
	{ "{\"total_tokens\":5,\"input_tokens\":2,\"output_tokens\":3}",
	    { 2, 0, 0, 0, 0, 0, 3, 0 }, 5, 0, false },
	{ "{\"input_tokens\":2,\"output_tokens\":3}",
	    { 2, 0, 0, 0, 0, 0, 3, 0 }, 5, 0, false },
	{ "{\"input_tokens\":10,\"input_token_details\":{\"audio_tokens\":4}}",
	    { 6, 4, 0, 0, 0, 0, 0, 0 }, 10, 0, false },
	{ "{\"input_tokens\":10,\"input_token_details\":{\"audio_tokens\":4,"
	  "\"cached_tokens\":8}}",
	    { 0, 2, 0, 6, 2, 0, 0, 0 }, 10, 0, false },
	{ "{\"input_tokens\":10,\"input_token_details\":{\"text_tokens\":10,"
	  "\"cached_tokens\":8,\"cached_tokens_details\":"
	  "{\"text_tokens\":5}}}",
	    { 2, 0, 0, 8, 0, 0, 0, 0 }, 10, 0, false },
	/* what a reference calls null is nothing */
	{ "{\"input_tokens\":1,\"input_token_details\":null,"
	  "\"output_token_details\":null,\"total_tokens\":null}",
	    { 1, 0, 0, 0, 0, 0, 0, 0 }, 1, 0, false },
	{ "{}", { 0 }, 0, 0, false },
	/* transcriptions */
	{ "{\"type\":\"tokens\",\"total_tokens\":22,\"input_tokens\":13,"
	  "\"input_token_details\":{\"text_tokens\":0,\"audio_tokens\":13},"
	  "\"output_tokens\":9}",
	    { 0, 13, 0, 0, 0, 0, 9, 0 }, 22, 0, false },
	{ "{\"type\":\"duration\",\"seconds\":3.25}", { 0 }, 0, 3.25, false },
	{ "{\"type\":\"duration\",\"seconds\":3}", { 0 }, 0, 3, false },
	/* what cannot be right */
	{ "{\"input_tokens\":-1,\"output_tokens\":3}",
	    { 0, 0, 0, 0, 0, 0, 3, 0 }, 3, 0, true },
	{ "{\"input_tokens\":\"12\"}", { 0 }, 0, 0, true },
	{ "{\"input_tokens\":1.5}", { 0 }, 0, 0, true },
	{ "{\"input_tokens\":1000000001}", { 0 }, 0, 0, true },
	{ "{\"input_tokens\":9223372036854775807}", { 0 }, 0, 0, true },
	{ "{\"input_tokens\":1000000000,\"output_tokens\":1000000000}",
	    { 1000000000, 0, 0, 0, 0, 0, 1000000000, 0 }, 1000000000, 0, true },
	{ "{\"output_token_details\":{\"text_tokens\":1000000000,"
	  "\"image_tokens\":1000000000}}",
	    { 0, 0, 0, 0, 0, 0, 1000000000, 0 }, 0, 0, true },
	{ "{\"input_tokens\":1,\"input_token_details\":{\"text_tokens\":2}}",
	    { 2, 0, 0, 0, 0, 0, 0, 0 }, 1, 0, true },
	{ "{\"input_tokens\":1,\"input_token_details\":{\"cached_tokens\":2}}",
	    { 0, 0, 0, 1, 0, 0, 0, 0 }, 1, 0, true },
	{ "{\"input_tokens\":1,\"input_token_details\":{\"audio_tokens\":1,"
	  "\"cached_tokens_details\":{\"text_tokens\":5}}}",
	    { 0, 1, 0, 0, 0, 0, 0, 0 }, 1, 0, true },
	{ "{\"seconds\":-1}", { 0 }, 0, 0, true },
	{ "{\"seconds\":\"1\"}", { 0 }, 0, 0, true },
	{ "{\"seconds\":1e308}", { 0 }, 0, 0, true },
	{ "{\"input_token_details\":[1],\"input_tokens\":1}",
	    { 1, 0, 0, 0, 0, 0, 0, 0 }, 1, 0, false },
};

static void
reads_what_vendors_report(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *want = &rows[i];
		json_t *event = event_of(want->usage);
		struct store_usage row;
		bool odd;

		assert_int_equal(usage_event_parse(event, &row, &odd, NULL),
		    ERR_OK);
		for (int k = 0; k < STORE_TOKENS_COUNT; k++)
			if (row.tokens[k] != want->tokens[k])
				fail_msg("row %zu: tokens[%d] is %llu", i, k,
				    (unsigned long long)row.tokens[k]);
		if (row.total_tokens != want->total || odd != want->odd ||
		    row.seconds < want->seconds || row.seconds > want->seconds)
			fail_msg("row %zu: total %llu, seconds %g, odd %d", i,
			    (unsigned long long)row.total_tokens, row.seconds,
			    odd);
		store_usage_done(&row);
		json_decref(event);
	}
}

static void
keeps_the_vendors_object_as_it_came(void **state)
{
	static const char usage[] =
	    "{\"total_tokens\":1,\"new\":{\"a\":[1,2.5,null]},\"b\":\"\\n\"}";
	json_t *event = event_of(usage);
	struct store_usage row;
	bool odd;

	(void)state;
	assert_int_equal(usage_event_parse(event, &row, &odd, NULL), ERR_OK);
	assert_int_equal(row.n, 7);
	assert_string_equal(row.event, "response.done");
	assert_string_equal(row.vendor_id, "resp_1");
	assert_string_equal(row.status, "completed");
	assert_string_equal(row.raw, usage);
	assert_null(row.lease);
	store_usage_done(&row);
	json_decref(event);
}

static void
refuses_what_is_no_event(void **state)
{
	static const char *const texts[] = {
		"{}",
		"{\"n\":1,\"type\":\"a\"}",
		"{\"n\":1,\"type\":\"a\",\"usage\":null}",
		"{\"n\":1,\"type\":\"a\",\"usage\":[]}",
		"{\"n\":1,\"usage\":{}}",
		"{\"n\":1,\"type\":1,\"usage\":{}}",
		"{\"type\":\"a\",\"usage\":{}}",
		"{\"n\":0,\"type\":\"a\",\"usage\":{}}",
		"{\"n\":-1,\"type\":\"a\",\"usage\":{}}",
		"{\"n\":1.0,\"type\":\"a\",\"usage\":{}}",
		"{\"n\":\"1\",\"type\":\"a\",\"usage\":{}}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct diag diag = { "" };
		struct store_usage row;
		json_t *event;
		bool odd;

		assert_int_equal(json_parse(texts[i], strlen(texts[i]), &event,
				     NULL),
		    ERR_OK);
		assert_int_equal(usage_event_parse(event, &row, &odd, &diag),
		    ERR_PROTO);
		assert_string_not_equal(diag.text, "");
		json_decref(event);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_vendors_report),
		cmocka_unit_test(keeps_the_vendors_object_as_it_came),
		cmocka_unit_test(refuses_what_is_no_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
