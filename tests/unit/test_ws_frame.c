/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/ws_frame.h"

struct header_case {
	const char *bytes;
	size_t len;
	enum ws_sender sender;
	enum err err;
	uint64_t payload_len;
	size_t header_len;
};

#define B(s) s, sizeof(s) - 1

static const struct header_case headers[] = {
	/* RFC 6455 5.7 */
	{ B("\x81\x05"), WS_FROM_SERVER, ERR_OK, 5, 2 },
	{ B("\x81\x85\x37\xfa\x21\x3d"), WS_FROM_CLIENT, ERR_OK, 5, 6 },
	{ B("\x01\x03"), WS_FROM_SERVER, ERR_OK, 3, 2 },
	{ B("\x80\x02"), WS_FROM_SERVER, ERR_OK, 2, 2 },
	{ B("\x89\x05"), WS_FROM_SERVER, ERR_OK, 5, 2 },
	{ B("\x82\x7e\x01\x00"), WS_FROM_SERVER, ERR_OK, 256, 4 },
	{ B("\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"), WS_FROM_SERVER, ERR_OK,
	    65536, 10 },
	{ B("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), WS_FROM_SERVER, ERR_OK,
	    INT64_MAX, 10 },
	/* incomplete */
	{ B(""), WS_FROM_CLIENT, ERR_AGAIN, 0, 0 },
	{ B("\x81"), WS_FROM_CLIENT, ERR_AGAIN, 0, 0 },
	{ B("\x81\x85\x37\xfa\x21"), WS_FROM_CLIENT, ERR_AGAIN, 0, 0 },
	{ B("\x82\x7e\x01"), WS_FROM_SERVER, ERR_AGAIN, 0, 0 },
	{ B("\x82\xff\0\0\0\0\0\x01\0\0\1\2\3"), WS_FROM_CLIENT, ERR_AGAIN, 0,
	    0 },
	/* refused with the first byte */
	{ B("\xc1"), WS_FROM_CLIENT, ERR_PROTO, 0, 0 },
	{ B("\xa1"), WS_FROM_CLIENT, ERR_PROTO, 0, 0 },
	{ B("\x91"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	{ B("\x83"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	{ B("\x87"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	{ B("\x8b"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	{ B("\x8f"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	{ B("\x08"), WS_FROM_CLIENT, ERR_PROTO, 0, 0 },
	{ B("\x09"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	/* refused with the second */
	{ B("\x81\x05"), WS_FROM_CLIENT, ERR_PROTO, 0, 0 },
	{ B("\x81\x85"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	{ B("\x89\x7e"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	{ B("\x88\xff"), WS_FROM_CLIENT, ERR_PROTO, 0, 0 },
	/* lengths */
	{ B("\x82\x7e\x00\x7d"), WS_FROM_SERVER, ERR_PROTO, 0, 0 },
	{ B("\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff"), WS_FROM_SERVER,
	    ERR_PROTO, 0, 0 },
	{ B("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"), WS_FROM_SERVER,
	    ERR_PROTO, 0, 0 },
};

static void
reads_headers_and_refuses_illegal_ones(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		const struct header_case *c = &headers[i];
		struct ws_header header = { 0 };
		const char *why = NULL;
		enum err err;

		print_message("# header %zu\n", i);
		err = ws_header_parse((const uint8_t *)c->bytes, c->len,
		    c->sender, &header, &why);
		assert_int_equal(err, c->err);
		assert_int_equal(header.payload_len, c->payload_len);
		assert_int_equal(header.header_len, c->header_len);
		if (err == ERR_PROTO)
			assert_non_null(why);
	}
}

static void
what_it_writes_it_reads(void **state)
{
	static const uint8_t mask[4] = { 0x37, 0xfa, 0x21, 0x3d };
	uint8_t frame[WS_CONTROL_FRAME_MAX], payload[WS_CONTROL_MAX_BYTES];
	struct ws_header header;
	const char *why;

	(void)state;
	for (size_t len = 0; len <= sizeof(payload); len++) {
		size_t n;

		memset(payload, (int)len, sizeof(payload));
		n = ws_control_put(frame, WS_PING, mask, payload, len);
		assert_int_equal(ws_header_parse(frame, n, WS_FROM_CLIENT,
				     &header, &why),
		    ERR_OK);
		assert_int_equal(header.header_len + header.payload_len, n);
		ws_mask(frame + header.header_len, len, header.mask, 0);
		assert_memory_equal(frame + header.header_len, payload, len);
		n = ws_control_put(frame, WS_PONG, NULL, payload, len);
		assert_int_equal(ws_header_parse(frame, n, WS_FROM_SERVER,
				     &header, &why),
		    ERR_OK);
		assert_memory_equal(frame + 2, payload, len);
	}
}

static void
masks_as_the_rfc_example(void **state)
{
	static const uint8_t mask[4] = { 0x37, 0xfa, 0x21, 0x3d };
	uint8_t text[] = { 0x7f, 0x9f, 0x4d, 0x51, 0x58 };

	(void)state;
	ws_mask(text, 2, mask, 0);
	ws_mask(text + 2, 3, mask, 2);
	assert_memory_equal(text, "Hello", 5);
}

static void
reads_close_payloads(void **state)
{
	const char *reason;
	size_t len;
	int code;

	(void)state;
#define CLOSE(s) ws_close_parse((const uint8_t *)B(s), &code, &reason, &len)
	assert_int_equal(CLOSE(""), ERR_OK);
	assert_int_equal(code, 0);
	assert_int_equal(CLOSE("\x03\xe8"), ERR_OK);
	assert_int_equal(code, 1000);
	assert_int_equal(len, 0);
	assert_int_equal(CLOSE("\x0f\xa1gone \xc3\xa9"), ERR_OK);
	assert_int_equal(code, 4001);
	assert_memory_equal(reason, "gone \xc3\xa9", len);
	assert_int_equal(len, 7);
	assert_int_equal(CLOSE("\x03"), ERR_PROTO);
	assert_int_equal(CLOSE("\x03\xed"), ERR_PROTO);
	assert_int_equal(CLOSE("\x03\xe8\xff"), ERR_TYPE);
	assert_int_equal(CLOSE("\x03\xe8\xed\xa0\x80"), ERR_TYPE);
#undef CLOSE
}

static void
a_long_reason_is_cut_between_characters(void **state)
{
	uint8_t frame[WS_CONTROL_FRAME_MAX];
	char reason[200];
	size_t n;

	(void)state;
	memset(reason, 'a', sizeof(reason));
	memcpy(reason + 122, "\xc3\xa9", 2);
	reason[199] = '\0';
	n = ws_close_put(frame, NULL, 1008, reason);
	assert_int_equal(n, 2 + 2 + 122);
	assert_int_equal(ws_close_put(frame, NULL, 0, "x"), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_headers_and_refuses_illegal_ones),
		cmocka_unit_test(what_it_writes_it_reads),
		cmocka_unit_test(masks_as_the_rfc_example),
		cmocka_unit_test(reads_close_payloads),
		cmocka_unit_test(a_long_reason_is_cut_between_characters),
	};

	return cmocka_run_group_tests_name("ws_frame", tests, NULL, NULL);
}
