/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/fault.h"
#include "tests/sim/request.h"
#include "tests/sim/tone.h"

static struct request *
request_of(const char *target, const char *headers)
{
	char head[1024];
	struct request *r = NULL;
	size_t len;

	snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\n%s\r\n", target,
	    headers);
	len = request_head_len(head, strlen(head));
	assert_int_equal(len, strlen(head));
	assert_int_equal(request_parse(head, len, &r), ERR_OK);
	return r;
}

static void
reads_path_query_and_headers(void **state)
{
	struct request *r = request_of("/a?x=1%2B2+3&sim=close,slow&n=%zz",
	    "Host: h\r\nupgrade:  WebSocket \r\n");

	(void)state;
	assert_string_equal(request_method(r), "GET");
	assert_string_equal(request_path(r), "/a");
	assert_string_equal(request_query(r, "x"), "1+2 3");
	assert_string_equal(request_query(r, "n"), "%zz");
	assert_null(request_query(r, "y"));
	assert_true(request_wants(r, "slow"));
	assert_false(request_wants(r, "lo"));
	assert_true(request_is_upgrade(r));
	assert_int_equal(request_number(r, "n", 7), 7);
	request_free(r);
}

static void
waits_for_a_whole_head(void **state)
{
	(void)state;
	assert_int_equal(request_head_len("GET / HTTP/1.1\r\n\r", 17), 0);
	assert_int_equal(request_head_len("a\r\n\r\nbody", 9), 5);
}

static void
refuses_what_is_no_head(void **state)
{
	static const char *const heads[] = { "\r\n\r\n", "GET\r\n\r\n",
		"GET /\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"GET / HTTP/1.1\r\n: x\r\n\r\n" };
	struct request *r = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++)
		assert_int_not_equal(request_parse(heads[i], strlen(heads[i]),
					 &r),
		    ERR_OK);
	assert_int_not_equal(request_parse("GET /\0 HTTP/1.1\r\n\r\n", 20, &r),
	    ERR_OK);
}

static void
finds_the_key_where_clients_put_it(void **state)
{
	static const struct {
		const char *headers, *key;
	} cases[] = {
		{ "Authorization: Bearer sk-1\r\n", "sk-1" },
		{ "Authorization: Basic sk-1\r\n", NULL },
		{ "Sec-WebSocket-Protocol: realtime, "
		  "openai-insecure-api-key.ek_2, x\r\n",
		    "ek_2" },
		{ "Sec-WebSocket-Protocol: realtime\r\n", NULL },
		{ "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct request *r = request_of("/", cases[i].headers);
		size_t len = 0;
		const char *key = request_key(r, &len);

		if (cases[i].key == NULL) {
			assert_null(key);
		} else {
			assert_int_equal(len, strlen(cases[i].key));
			assert_memory_equal(key, cases[i].key, len);
		}
		request_free(r);
	}
}

static void
shows_bytes_that_are_no_text(void **state)
{
	struct request *r = request_of("/", "X-Odd: \xff\r\n");
	json_t *json = request_json(r);
	const json_t *header =
	    json_array_get(json_object_get(json, "headers"), 0);

	(void)state;
	assert_string_equal(json_string_value(json_array_get(header, 1)),
	    "\xc3\xbf");
	json_decref(json);
	request_free(r);
}

static void
does_what_is_due_after_so_many_messages(void **state)
{
	struct request *r =
	    request_of("/?sim=close&after=2&code=4002&reason=go+away", "");
	struct fault *f = fault_new(r);

	(void)state;
	assert_int_equal(fault_due(f, 0), FAULT_NONE);
	assert_int_equal(fault_due(f, 2), FAULT_CLOSE);
	assert_int_equal(fault_code(f), 4002);
	assert_string_equal(fault_reason(f), "go away");
	fault_free(f);
	request_free(r);
}

static void
cuts_what_it_sends_into_messages_and_frames(void **state)
{
	struct request *r = request_of("/?sim=flood&bytes=25&message=10", "");
	struct fault *f = fault_new(r);
	struct fault_piece p;
	size_t lens[] = { 10, 10, 5 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_true(fault_next(f, &p));
		assert_int_equal(p.len, lens[i]);
		assert_true(p.first && p.final && p.binary);
		assert_memory_equal(p.data, "abcdefghij", p.len);
	}
	assert_false(fault_next(f, &p));
	fault_free(f);
	request_free(r);

	r = request_of("/?sim=huge&bytes=30&fragment=20&kind=text", "");
	f = fault_new(r);
	assert_true(fault_next(f, &p));
	assert_true(p.first && !p.final && !p.binary && p.len == 20);
	assert_true(fault_next(f, &p));
	assert_true(!p.first && p.final && p.len == 10);
	assert_memory_equal(p.data, "uvwxyzabcd", 10);
	assert_false(fault_next(f, &p));
	fault_free(f);
	request_free(r);
}

static void
sounds_the_same_length_in_every_format(void **state)
{
	static const enum tone_format formats[] = { TONE_PCM, TONE_PCMU,
		TONE_PCMA };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char *text = tone_base64(formats[i], 0, 100, 1000);
		size_t bytes = tone_bytes(formats[i], 100);

		assert_int_equal(strlen(text), (bytes + 2) / 3 * 4);
		assert_int_equal(tone_ms(formats[i], bytes), 100);
		free(text);
	}
	assert_int_equal(tone_format_parse("audio/pcma"), TONE_PCMA);
	assert_int_equal(tone_format_parse(NULL), TONE_PCM);
}

static void
is_silent_at_its_ends(void **state)
{
	char *text = tone_base64(TONE_PCM, 0, 1, 1000);
	char *law = tone_base64(TONE_PCMU, 0, 1, 1000);

	(void)state;
	assert_memory_equal(text, "AAA", 3); /* the first sample is zero */
	assert_memory_equal(law, "//", 2);   /* 0xff in u-law */
	free(text);
	free(law);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_path_query_and_headers),
		cmocka_unit_test(waits_for_a_whole_head),
		cmocka_unit_test(refuses_what_is_no_head),
		cmocka_unit_test(finds_the_key_where_clients_put_it),
		cmocka_unit_test(shows_bytes_that_are_no_text),
		cmocka_unit_test(does_what_is_due_after_so_many_messages),
		cmocka_unit_test(cuts_what_it_sends_into_messages_and_frames),
		cmocka_unit_test(sounds_the_same_length_in_every_format),
		cmocka_unit_test(is_silent_at_its_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
