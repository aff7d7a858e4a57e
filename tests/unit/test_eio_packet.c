/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/socketio/eio_packet.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TEXT(s)	 (s), sizeof(s) - 1

/* Take from a heap object of its own. */
static enum err
take(const char *text, size_t len, char **ret_payload, struct eio_packet *ret,
    size_t *ret_used)
{
	*ret_payload = xcalloc(1, len > 0 ? len : 1);
	memcpy(*ret_payload, text, len);
	return eio_packet_take(*ret_payload, len, ret, ret_used);
}

static void
takes_packet_after_packet(void **state)
{
	static const struct {
		enum eio_type type;
		bool binary;
		const char *data;
		size_t len;
	} expected[] = {
		{ EIO_MESSAGE, false, TEXT("0/chats,{\"token\":\"T\"}") },
		{ EIO_MESSAGE, true, TEXT("\x01\x02\x03\x04") },
		{ EIO_MESSAGE, true, TEXT("") },
		{ EIO_PONG, false, TEXT("") },
		{ EIO_MESSAGE, false, TEXT("\xe2\x82\xac") },
		{ EIO_CLOSE, false, TEXT("") },
	};
	char payload[] = "40/chats,{\"token\":\"T\"}\x1e"
			 "bAQIDBA==\x1e"
			 "b\x1e"
			 "3\x1e"
			 "4\xe2\x82\xac\x1e"
			 "1";
	size_t at = 0, used = 0, len = sizeof(payload) - 1;
	struct eio_packet packet;

	(void)state;
	for (size_t i = 0; i < COUNT(expected); i++) {
		assert_int_equal(eio_packet_take(payload + at, len - at,
				     &packet, &used),
		    ERR_OK);
		assert_int_equal(packet.type, expected[i].type);
		assert_int_equal(packet.binary, expected[i].binary);
		assert_int_equal(packet.len, expected[i].len);
		assert_memory_equal(packet.data, expected[i].data, packet.len);
		at += used;
	}
	assert_int_equal(at, len);
}

static void
refuses_malformed_payloads(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} bad[] = {
		{ TEXT("") }, { TEXT("\x1e") },
		{ TEXT("\x1e"
		       "4a") },	    /* nothing before it */
		{ TEXT("4a\x1e") }, /* nothing behind it */
		{ TEXT("7") },	    /* no such type */
		{ TEXT("a") }, { TEXT("/") }, { TEXT("\0") }, { TEXT("\xff") },
		{ TEXT("11:4hello") }, /* protocol 3's payload */
		{ TEXT("4\xff") },     /* no UTF-8 */
		{ TEXT("4\xc0\x80") }, { TEXT("4\xed\xa0\x80") },
		{ TEXT("1bye") }, /* types that say all */
		{ TEXT("5probe") }, { TEXT("6 ") }, { TEXT("bA") }, /* base64 */
		{ TEXT("bAQ") }, { TEXT("bAQ=") }, { TEXT("bAR==") },
		{ TEXT("bAQ==AQ==") }, { TEXT("b====") }, { TEXT("b-_-_") },
		{ TEXT("bAQ\n==") }, { TEXT("bAAA\0") },
		{ TEXT("b4AQIDBA==") }, /* protocol 3's */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct eio_packet packet;
		size_t used;
		char *payload;

		assert_int_equal(take(bad[i].text, bad[i].len, &payload,
				     &packet, &used),
		    ERR_PROTO);
		free(payload);
	}
}

static void
takes_a_text_frame(void **state)
{
	struct eio_packet packet;

	(void)state;
	assert_int_equal(eio_packet_of_text(TEXT("2probe"), &packet), ERR_OK);
	assert_int_equal(packet.type, EIO_PING);
	assert_int_equal(packet.len, 5);
	assert_memory_equal(packet.data, "probe", 5);
	/* what separates in a payload, does not in a frame */
	assert_int_equal(eio_packet_of_text(TEXT("4a\x1e"
						 "b"),
			     &packet),
	    ERR_OK);
	assert_int_equal(packet.len, 3);
	/* a binary one is a binary frame */
	assert_int_equal(eio_packet_of_text(TEXT("bAQ=="), &packet), ERR_PROTO);
	assert_int_equal(eio_packet_of_text(TEXT(""), &packet), ERR_PROTO);
	assert_int_equal(eio_packet_of_text(TEXT("4\xff"), &packet), ERR_PROTO);
}

static void
takes_what_it_puts(void **state)
{
	static const struct eio_packet packets[] = {
		{ EIO_OPEN, false, TEXT("{\"sid\":\"x\"}") },
		{ EIO_PING, false, NULL, 0 },
		{ EIO_MESSAGE, false, TEXT("2[\"a\"]") },
		{ EIO_MESSAGE, true, NULL, 0 },
		{ EIO_MESSAGE, true, TEXT("\x1e") },
		{ EIO_MESSAGE, true, TEXT("\0\xff") },
		{ EIO_MESSAGE, true, TEXT("\x1e\0\xff") },
		{ EIO_MESSAGE, true, TEXT("0123456789abcdef") },
		{ EIO_NOOP, false, NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(packets); i++) {
		const struct eio_packet *put = &packets[i];
		size_t used, size = eio_packet_size(put);
		char *out = xcalloc(1, size);
		struct eio_packet got;

		eio_packet_put(put, out);
		assert_int_equal(eio_packet_take(out, size, &got, &used),
		    ERR_OK);
		assert_int_equal(used, size);
		assert_int_equal(got.type, put->type);
		assert_int_equal(got.binary, put->binary);
		assert_int_equal(got.len, put->len);
		if (put->len > 0)
			assert_memory_equal(got.data, put->data, put->len);
		free(out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_packet_after_packet),
		cmocka_unit_test(refuses_malformed_payloads),
		cmocka_unit_test(takes_a_text_frame),
		cmocka_unit_test(takes_what_it_puts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
