/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/socketio/sio_packet.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TEXT(s)	 (s), sizeof(s) - 1
#define HOLE(n)	 "{\"_placeholder\":true,\"num\":" #n "}"
#define TEN	 "aaaaaaaaaa"

static void
takes_packets_as_clients_write_them(void **state)
{
	static const struct {
		const char *text;
		enum sio_type type;
		const char *namespace;
		int64_t id;
		const char *data;
		size_t expected;
	} good[] = {
		{ "0", SIO_CONNECT, "/", SIO_NO_ID, NULL, 0 },
		{ "0{}", SIO_CONNECT, "/", SIO_NO_ID, "{}", 0 },
		{ "0/chats", SIO_CONNECT, "/chats", SIO_NO_ID, NULL, 0 },
		{ "0/chats,", SIO_CONNECT, "/chats", SIO_NO_ID, NULL, 0 },
		{ "0/,{\"a\":1}", SIO_CONNECT, "/", SIO_NO_ID, "{\"a\":1}", 0 },
		{ "0/chats,{\"token\":\"T\"}", SIO_CONNECT, "/chats", SIO_NO_ID,
		    "{\"token\":\"T\"}", 0 },
		{ "0/\xe6\x97\xa5,", SIO_CONNECT, "/\xe6\x97\xa5", SIO_NO_ID,
		    NULL, 0 },
		{ "0/a?b=1,{}", SIO_CONNECT, "/a?b=1", SIO_NO_ID, "{}", 0 },
		{ "1", SIO_DISCONNECT, "/", SIO_NO_ID, NULL, 0 },
		{ "1/chats,", SIO_DISCONNECT, "/chats", SIO_NO_ID, NULL, 0 },
		{ "2[\"a\"]", SIO_EVENT, "/", SIO_NO_ID, "[\"a\"]", 0 },
		{ "20[\"a\",1]", SIO_EVENT, "/", 0, "[\"a\",1]", 0 },
		{ "2/chats,2147483647[\"\"]", SIO_EVENT, "/chats", SIO_ID_MAX,
		    "[\"\"]", 0 },
		{ "2[\"a\"," HOLE(7) "]", SIO_EVENT, "/", SIO_NO_ID,
		    "[\"a\"," HOLE(7) "]", 0 },
		/* cut within a character; and what only looks like that */
		{ "2[\"a\",\"\\ud83d\",\"\\uDE00\\ud83d\\ud83d\\ude00\"]",
		    SIO_EVENT, "/", SIO_NO_ID,
		    "[\"a\",\"\\ufffd\","
		    "\"\\ufffd\\ufffd\\ud83d\\ude00\"]",
		    0 },
		{ "2[\"a\",\"\\\\ud83d\\ud83d\"]", SIO_EVENT, "/", SIO_NO_ID,
		    "[\"a\",\"\\\\ud83d\\ufffd\"]", 0 },
		{ "30[]", SIO_ACK, "/", 0, "[]", 0 },
		{ "3/chats,12[null]", SIO_ACK, "/chats", 12, "[null]", 0 },
		{ "4\"no\"", SIO_CONNECT_ERROR, "/", SIO_NO_ID, "\"no\"", 0 },
		{ "4/x,{\"message\":\"no\"}", SIO_CONNECT_ERROR, "/x",
		    SIO_NO_ID, "{\"message\":\"no\"}", 0 },
		{ "51-[\"a\"," HOLE(0) "]", SIO_BINARY_EVENT, "/", SIO_NO_ID,
		    "[\"a\"," HOLE(0) "]", 1 },
		{ "52-/chats,7[\"a\",{\"b\":[" HOLE(1) "]}," HOLE(0) "]",
		    SIO_BINARY_EVENT, "/chats", 7,
		    "[\"a\",{\"b\":[" HOLE(1) "]}," HOLE(0) "]", 2 },
		{ "51-[\"a\",{\"_placeholder\":false}," HOLE(0) "]",
		    SIO_BINARY_EVENT, "/", SIO_NO_ID,
		    "[\"a\",{\"_placeholder\":false}," HOLE(0) "]", 1 },
		{ "61-/chats,3[" HOLE(0) "]", SIO_BINARY_ACK, "/chats", 3,
		    "[" HOLE(0) "]", 1 },
		{ "510-[\"a\"," HOLE(0) "," HOLE(1) "," HOLE(2) "," HOLE(3) "," HOLE(
		      4) "," HOLE(5) "," HOLE(6) "," HOLE(7) "," HOLE(8) "," HOLE(9) "]",
		    SIO_BINARY_EVENT, "/", SIO_NO_ID, NULL, 10 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct sio_packet packet;
		json_t *data;

		assert_int_equal(sio_packet_parse(good[i].text,
				     strlen(good[i].text), &packet, NULL),
		    ERR_OK);
		assert_int_equal(packet.type, good[i].type);
		assert_string_equal(packet.namespace, good[i].namespace);
		assert_int_equal(packet.id, good[i].id);
		assert_int_equal(packet.attachment_expected, good[i].expected);
		assert_int_equal(packet.attachment_count, 0);
		if (good[i].data == NULL) {
			assert_int_equal(packet.data == NULL,
			    good[i].expected == 0);
		} else {
			data = json_loads(good[i].data, JSON_DECODE_ANY, NULL);
			assert_true(json_equal(packet.data, data));
			json_decref(data);
		}
		sio_packet_done(&packet);
	}
}

static void
refuses_malformed_packets(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		enum err err;
	} bad[] = {
		/* types */
		{ TEXT(""), ERR_PROTO },
		{ TEXT("7"), ERR_PROTO },
		{ TEXT("-"), ERR_PROTO },
		{ TEXT("\0"), ERR_PROTO },
		{ TEXT("[\"a\"]"), ERR_PROTO },
		/* attachments */
		{ TEXT("5"), ERR_PROTO },
		{ TEXT("5[\"a\"]"), ERR_PROTO },
		{ TEXT("5-[\"a\"]"), ERR_PROTO },
		{ TEXT("51[\"a\"," HOLE(0) "]"), ERR_PROTO },
		{ TEXT("50-[\"a\"]"), ERR_PROTO },
		{ TEXT("501-[\"a\"," HOLE(0) "]"), ERR_PROTO },
		{ TEXT("5+1-[\"a\"," HOLE(0) "]"), ERR_PROTO },
		{ TEXT("51.0-[\"a\"," HOLE(0) "]"), ERR_PROTO },
		{ TEXT("5x-[\"a\"," HOLE(0) "]"), ERR_PROTO },
		{ TEXT("511-[\"a\"," HOLE(0) "]"), ERR_LIMIT },
		{ TEXT("599999999999999999999-[\"a\"]"), ERR_LIMIT },
		/* namespaces */
		{ TEXT("2/a b,[\"a\"]"), ERR_PROTO },
		{ TEXT("0/\n"), ERR_PROTO },
		{ TEXT("0/\x7f"), ERR_PROTO },
		{ TEXT("0/a\0b,{}"), ERR_PROTO },
		{ TEXT("0/\xff,{}"), ERR_PROTO },
		{ TEXT("2chats,[\"a\"]"), ERR_PROTO },
		{ TEXT("0/" TEN TEN TEN TEN TEN TEN "aaaa,{}"), ERR_LIMIT },
		/* ids */
		{ TEXT("2x[\"a\"]"), ERR_PROTO },
		{ TEXT("2-1[\"a\"]"), ERR_PROTO },
		{ TEXT("2+1[\"a\"]"), ERR_PROTO },
		{ TEXT("21.5[\"a\"]"), ERR_PROTO },
		{ TEXT("21e1[\"a\"]"), ERR_PROTO },
		{ TEXT("200[\"a\"]"), ERR_PROTO },
		{ TEXT("2007[\"a\"]"), ERR_PROTO },
		{ TEXT("2/chats,1 [\"a\""), ERR_PROTO },
		{ TEXT("22147483648[\"a\"]"), ERR_LIMIT },
		{ TEXT("299999999999999999999[\"a\"]"), ERR_LIMIT },
		{ TEXT("3[\"a\"]"), ERR_PROTO },
		{ TEXT("3-1[]"), ERR_PROTO },
		{ TEXT("01{}"), ERR_PROTO },
		{ TEXT("11"), ERR_PROTO },
		{ TEXT("41{}"), ERR_PROTO },
		/* payloads of events */
		{ TEXT("2"), ERR_PROTO },
		{ TEXT("2/chats,"), ERR_PROTO },
		{ TEXT("2{}"), ERR_PROTO },
		{ TEXT("2\"a\""), ERR_PROTO },
		{ TEXT("2null"), ERR_PROTO },
		{ TEXT("2true"), ERR_PROTO },
		{ TEXT("2[]"), ERR_PROTO },
		{ TEXT("2[1]"), ERR_PROTO },
		{ TEXT("2[null]"), ERR_PROTO },
		{ TEXT("2[{}]"), ERR_PROTO },
		{ TEXT("2[[\"a\"]]"), ERR_PROTO },
		{ TEXT("2[\"a\""), ERR_PROTO },
		{ TEXT("2[\"a\"]x"), ERR_PROTO },
		{ TEXT("2[\"a\",]"), ERR_PROTO },
		{ TEXT("2[\"a\"]\0"), ERR_PROTO },
		{ TEXT("2[\"a\",\"\0\"]"), ERR_PROTO },
		{ TEXT("2[\"a\",\"\\u0000\"]"), ERR_PROTO },
		{ TEXT("2[\"a\",\"\xff\"]"), ERR_PROTO },
		{ TEXT("2[\"a\",{\"b\":1,\"b\":2}]"), ERR_PROTO },
		{ TEXT("2[\"a\",1e400]"), ERR_PROTO },
		{ TEXT("2[\"connect\"]"), ERR_PROTO },
		{ TEXT("2[\"connect_error\"]"), ERR_PROTO },
		{ TEXT("2[\"disconnect\"]"), ERR_PROTO },
		{ TEXT("2[\"disconnecting\"]"), ERR_PROTO },
		{ TEXT("2[\"newListener\"]"), ERR_PROTO },
		{ TEXT("2[\"removeListener\"]"), ERR_PROTO },
		{ TEXT("2[\"conne\\u0063t\"]"), ERR_PROTO },
		{ TEXT("51-[\"disconnect\"," HOLE(0) "]"), ERR_PROTO },
		/* of others */
		{ TEXT("0[]"), ERR_PROTO },
		{ TEXT("0\"a\""), ERR_PROTO },
		{ TEXT("0null"), ERR_PROTO },
		{ TEXT("0/chats,[]"), ERR_PROTO },
		{ TEXT("1{}"), ERR_PROTO },
		{ TEXT("1/chats,null"), ERR_PROTO },
		{ TEXT("31"), ERR_PROTO },
		{ TEXT("31{}"), ERR_PROTO },
		{ TEXT("61-1" HOLE(0)), ERR_PROTO },
		{ TEXT("4"), ERR_PROTO },
		{ TEXT("4[]"), ERR_PROTO },
		{ TEXT("4null"), ERR_PROTO },
		/* placeholders */
		{ TEXT("51-[\"a\"]"), ERR_PROTO },
		{ TEXT("52-[\"a\"," HOLE(0) "]"), ERR_PROTO },
		{ TEXT("51-[\"a\"," HOLE(1) "]"), ERR_PROTO },
		{ TEXT("51-[\"a\"," HOLE(-1) "]"), ERR_PROTO },
		{ TEXT("51-[\"a\"," HOLE(0) "," HOLE(0) "]"), ERR_PROTO },
		{ TEXT("52-[\"a\"," HOLE(0) "," HOLE(0) "]"), ERR_PROTO },
		{ TEXT("51-[\"a\"," HOLE(0) "," HOLE(1) "]"), ERR_PROTO },
		{ TEXT("51-[\"a\"," HOLE(0.0) "]"), ERR_PROTO },
		{ TEXT("51-[\"a\"," HOLE("0") "]"), ERR_PROTO },
		{ TEXT("51-[\"a\"," HOLE(null) "]"), ERR_PROTO },
		{ TEXT("51-[\"a\"," HOLE(9223372036854775807) "]"), ERR_PROTO },
		{ TEXT("51-[\"a\",{\"_placeholder\":true}]"), ERR_PROTO },
		{ TEXT("51-[\"a\",{\"_placeholder\":1,\"num\":0}]"),
		    ERR_PROTO },
		{ TEXT("51-[\"a\",{\"_placeholder\":true,\"num\":0,"
		       "\"x\":1}]"),
		    ERR_PROTO },
		{ TEXT("51-[" HOLE(0) "]"), ERR_PROTO },
		{ TEXT("51-[" HOLE(0) ",\"a\"]"), ERR_PROTO },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct sio_packet packet;
		struct diag diag = { "" };
		char *text = xcalloc(1, bad[i].len > 0 ? bad[i].len : 1);
		enum err err;

		memcpy(text, bad[i].text, bad[i].len);
		err = sio_packet_parse(text, bad[i].len, &packet, &diag);
		if (err != bad[i].err)
			print_message("# %s\n", bad[i].text);
		assert_int_equal(err, bad[i].err);
		assert_string_not_equal(diag.text, "");
		free(text);
	}
}

static void
refuses_what_is_nested_too_deeply(void **state)
{
	struct sio_packet packet;
	char text[200002] = "2[\"a\",";

	(void)state;
	memset(text + 6, '[', 100000);
	memset(text + 100006, ']', 99994);
	assert_int_equal(sio_packet_parse(text, strlen(text), &packet, NULL),
	    ERR_PROTO);
}

static void
tells_the_head_before_the_payload_is_read(void **state)
{
	struct sio_packet packet;
	size_t at;

	(void)state;
	assert_int_equal(sio_packet_peek(TEXT("52-/chats,7[not JSON"), &packet,
			     &at, NULL),
	    ERR_OK);
	assert_int_equal(packet.type, SIO_BINARY_EVENT);
	assert_int_equal(packet.attachment_expected, 2);
	assert_string_equal(packet.namespace, "/chats");
	assert_int_equal(packet.id, 7);
	assert_int_equal(at, 11);
	assert_int_equal(sio_packet_peek(TEXT("0"), &packet, &at, NULL),
	    ERR_OK);
	assert_int_equal(at, 1);
	assert_int_equal(sio_packet_peek(TEXT("9"), &packet, &at, NULL),
	    ERR_PROTO);
}

static void
takes_as_many_attachments_as_were_said(void **state)
{
	struct sio_packet packet;

	(void)state;
	assert_int_equal(sio_packet_parse(TEXT("52-[\"a\"," HOLE(1) "," HOLE(
					      0) "]"),
			     &packet, NULL),
	    ERR_OK);
	assert_int_equal(sio_packet_attach(&packet, TEXT("one")), ERR_OK);
	assert_int_equal(sio_packet_attach(&packet, NULL, 0), ERR_OK);
	assert_int_equal(sio_packet_attach(&packet, TEXT("x")), ERR_PROTO);
	assert_int_equal(packet.attachment_count, 2);
	assert_int_equal(packet.attachments[0].len, 3);
	assert_memory_equal(packet.attachments[0].data, "one", 3);
	assert_int_equal(packet.attachments[1].len, 0);
	sio_packet_done(&packet);
	/* a text has none */
	assert_int_equal(sio_packet_parse(TEXT("2[\"a\"]"), &packet, NULL),
	    ERR_OK);
	assert_int_equal(sio_packet_attach(&packet, TEXT("x")), ERR_PROTO);
	sio_packet_done(&packet);
}

static void
says_what_it_was_told(void **state)
{
	static const char *const texts[] = { "0", "0/chats,",
		"0/chats,{\"sid\":\"x\"}", "1", "1/chats,", "2[\"a\",1.5]",
		"2/chats,17[\"a\",{\"b\":\"\xe2\x82\xac\"}]", "30[]",
		"3/chats,0[null]", "4{\"message\":\"Invalid namespace\"}",
		"4/x,{\"message\":\"Invalid namespace\"}",
		"51-[\"a\"," HOLE(0) "]",
		"62-/chats,1[" HOLE(0) "," HOLE(1) "]" };

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct sio_packet packet;
		size_t len;
		char *text;

		assert_int_equal(sio_packet_parse(texts[i], strlen(texts[i]),
				     &packet, NULL),
		    ERR_OK);
		for (size_t k = 0; k < packet.attachment_expected; k++)
			assert_int_equal(sio_packet_attach(&packet, "x", 1),
			    ERR_OK);
		text = sio_packet_text(&packet, &len);
		assert_string_equal(text, texts[i]);
		assert_int_equal(len, strlen(text));
		free(text);
		sio_packet_done(&packet);
	}
}

static void
is_binary_only_with_attachments(void **state)
{
	struct sio_attachment one = { (char[]){ "x" }, 1 };
	struct sio_packet packet = { .type = SIO_EVENT,
		.namespace = "/chats",
		.id = SIO_NO_ID };
	size_t len;
	char *text;

	(void)state;
	packet.data = json_pack("[s]", "a");
	packet.attachments[packet.attachment_count++] = one;
	text = sio_packet_text(&packet, &len);
	assert_string_equal(text, "51-/chats,[\"a\"]");
	free(text);
	packet.type = SIO_BINARY_ACK;
	packet.id = 3;
	packet.attachment_count = 0;
	text = sio_packet_text(&packet, &len);
	assert_string_equal(text, "3/chats,3[\"a\"]");
	free(text);
	json_decref(packet.data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_packets_as_clients_write_them),
		cmocka_unit_test(refuses_malformed_packets),
		cmocka_unit_test(refuses_what_is_nested_too_deeply),
		cmocka_unit_test(tells_the_head_before_the_payload_is_read),
		cmocka_unit_test(takes_as_many_attachments_as_were_said),
		cmocka_unit_test(says_what_it_was_told),
		cmocka_unit_test(is_binary_only_with_attachments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
