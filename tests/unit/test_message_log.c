/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/xalloc.h"
#include "tunnel/message_log.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct message_log_entry from_client = { .at_ms = 1700000000123,
	.from_client = true,
	.bytes = 77 };

/* Single quotes stand for double ones, so that the tables can be read. */
static char *
unquote(const char *text)
{
	char *copy = xstrdup(text);

	for (char *p = copy; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	return copy;
}

static char *
dump(json_t *record)
{
	char *text;

	assert_non_null(record);
	text = json_text(record, NULL);
	json_decref(record);
	return text;
}

/* A member of the record of such a message. */
static json_t *
member(const char *text, size_t len, const char *name)
{
	struct message_log_entry entry = from_client;
	json_t *record, *value;

	entry.bytes = len;
	record = message_log_record(&entry, text, len);
	value = json_incref(json_object_get(record, name));
	json_decref(record);
	return value;
}

static void
says_who_sent_what_and_when(void **state)
{
	static const struct {
		struct message_log_entry entry;
		const char *record;
	} cases[] = {
		{ { 1700000000123, true, false, 12, "response.create" },
		    "{'at':1700000000123,'from':'client','kind':'text',"
		    "'bytes':12,'type':'response.create'}" },
		{ { 1, false, true, 0, NULL },
		    "{'at':1,'from':'upstream','kind':'binary','bytes':0}" },
		{ { 1, true, false, 3, "x sk-0123456789 y" },
		    "{'at':1,'from':'client','kind':'text','bytes':3,"
		    "'type':'x <masked> y'}" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *text = dump(message_log_record(&cases[i].entry, NULL, 0));
		char *expected = unquote(cases[i].record);

		assert_string_equal(text, expected);
		free(text);
		free(expected);
	}
}

static void
keeps_no_content_of_a_binary_message(void **state)
{
	struct message_log_entry entry = { .binary = true, .bytes = 2 };
	char *text = dump(message_log_record(&entry, "{}", 2));

	(void)state;
	assert_string_equal(text,
	    "{\"at\":0,\"from\":\"upstream\",\"kind\":\"binary\","
	    "\"bytes\":2}");
	free(text);
}

static void
takes_the_type_from_the_content(void **state)
{
	json_t *type = member("{\"type\":\"a\"}", 12, "type");

	(void)state;
	assert_string_equal(json_string_value(type), "a");
	json_decref(type);
	assert_null(member("{\"type\":1}", 10, "type"));
	assert_null(member("[]", 2, "type"));
}

static void
masks_secrets_sound_and_pictures(void **state)
{
	static const struct {
		const char *message, *content;
	} cases[] = {
		{ "{}", "{}" },
		{ "[1,-2.5,true,null,'a',{'b':[]}]",
		    "[1,-2.5,true,null,'a',{'b':[]}]" },
		{ "{'type':'input_audio_buffer.append','audio':'AAAA'}",
		    "{'type':'input_audio_buffer.append',"
		    "'audio':'<4 bytes>'}" },
		{ "{'type':'response.output_audio.delta','delta':'AAAAA'}",
		    "{'type':'response.output_audio.delta',"
		    "'delta':'<5 bytes>'}" },
		{ "{'delta':'AAAAA','type':'response.audio.delta'}",
		    "{'delta':'<5 bytes>','type':'response.audio.delta'}" },
		{ "{'type':'response.output_audio_transcript.delta',"
		  "'delta':'Hello'}",
		    "{'type':'response.output_audio_transcript.delta',"
		    "'delta':'Hello'}" },
		{ "{'item':{'content':[{'type':'input_audio','audio':'AAA'},"
		  "{'type':'input_image','image_url':'data:image/png;base64,"
		  "AAAA'}]}}",
		    "{'item':{'content':[{'type':'input_audio',"
		    "'audio':'<3 bytes>'},{'type':'input_image',"
		    "'image_url':'<26 bytes>'}]}}" },
		{ "{'session':{'audio':{'output':{'voice':'marin'}}}}",
		    "{'session':{'audio':{'output':{'voice':'marin'}}}}" },
		{ "{'authorization':'a','Authorization':'b','x-api-key':'c',"
		  "'apiKey':'d','API_KEYS':['e'],'token':'f',"
		  "'accessToken':'g','client_secret':{'value':'h'},"
		  "'password':1234,'Set-Cookie':'i','PASSWORDS':[]}",
		    "{'authorization':'<masked>','Authorization':'<masked>',"
		    "'x-api-key':'<masked>','apiKey':'<masked>',"
		    "'API_KEYS':'<masked>','token':'<masked>',"
		    "'accessToken':'<masked>','client_secret':'<masked>',"
		    "'password':'<masked>','Set-Cookie':'<masked>',"
		    "'PASSWORDS':'<masked>'}" },
		{ "{'tools':[{'type':'mcp','authorization':'x',"
		  "'headers':{'X-Api-Key':'y'}}]}",
		    "{'tools':[{'type':'mcp','authorization':'<masked>',"
		    "'headers':{'X-Api-Key':'<masked>'}}]}" },
		/* what a response has cost is no secret */
		{ "{'usage':{'total_tokens':7,'input_token_details':"
		  "{'cached_tokens':1}},'max_output_tokens':9}",
		    "{'usage':{'total_tokens':7,'input_token_details':"
		    "{'cached_tokens':1}},'max_output_tokens':9}" },
		{ "{'token':null}", "{'token':null}" },
		{ "{'a_name_that_is_longer_than_any_vendor_or_client_has_ever_"
		  "given_password':'x'}",
		    "{'a_name_that_is_longer_than_any_vendor_or_client_has_"
		    "ever_given_password':'<masked>'}" },
		{ "{'text':'my key is sk-proj-0123456789, ok?'}",
		    "{'text':'my key is <masked>, ok?'}" },
		{ "{'a':'ek_0123456789','b':['sk_0123456789'],"
		  "'c':'AIza0123456789'}",
		    "{'a':'<masked>','b':['<masked>'],'c':'<masked>'}" },
		{ "{'a':'bearer abcdefgh.ijk'}", "{'a':'<masked>'}" },
		{ "{'a':'eyJhbGciOiJI.eyJzdWIi.c2ln and more'}",
		    "{'a':'<masked> and more'}" },
		{ "{'sk-0123456789':1}", "{'<masked>':1}" },
		{ "{'a':'a task-0123456789 and risk-0123456789'}",
		    "{'a':'a task-0123456789 and risk-0123456789'}" },
		{ "{'a':'sk-short'}", "{'a':'sk-short'}" },
		{ "'sk-0123456789'", "'<masked>'" },
		/* JSON in a text */
		{ "{'arguments':'{\\\"password\\\":\\\"x\\\",\\\"a\\\":1}'}",
		    "{'arguments':'{\\\"password\\\":\\\"<masked>\\\","
		    "\\\"a\\\":1}'}" },
		{ "{'output':' [{\\\"t\\\":\\\"sk-0123456789\\\"}]'}",
		    "{'output':'[{\\\"t\\\":\\\"<masked>\\\"}]'}" },
		{ "{'text':'[laughs] Hello {you}'}",
		    "{'text':'[laughs] Hello {you}'}" },
		{ "{'type':'response.function_call_arguments.delta',"
		  "'delta':'hunter2'}",
		    "{'type':'response.function_call_arguments.delta',"
		    "'delta':'<7 bytes>'}" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *message = unquote(cases[i].message);
		char *expected = unquote(cases[i].content);
		json_t *content = member(message, strlen(message), "content");
		char *text = json_text(content, NULL);

		assert_string_equal(text, expected);
		assert_null(member(message, strlen(message), "truncated"));
		json_decref(content);
		free(text);
		free(message);
		free(expected);
	}
}

static void
takes_long_base64_for_data_wherever_it_is(void **state)
{
	char text[256], word[129] = { 0 };
	json_t *content;

	(void)state;
	memset(word, 'A', 128);
	snprintf(text, sizeof(text), "{\"x\":{\"chunk\":\"%s\"}}", word);
	content = member(text, strlen(text), "content");
	assert_string_equal(json_string_value(
				json_object_get(json_object_get(content, "x"),
				    "chunk")),
	    "<128 bytes>");
	json_decref(content);
}

static void
keeps_text_that_is_no_json(void **state)
{
	static const struct {
		const char *message;
		size_t len;
		const char *text;
	} cases[] = {
#define TEXT(text) text, sizeof(text) - 1
		{ TEXT(""), "" },
		{ TEXT("Hello, \"you\""), "Hello, \"you\"" },
		{ TEXT("use sk-0123456789!"), "use <masked>!" },
		/* it was meant to be JSON: who knows what is in it */
		{ TEXT("{\"password\":\"x\""), "<15 bytes>" },
		{ TEXT("\n [\"x\",]"), "<8 bytes>" },
		{ TEXT("\xff\xfe"), "<2 bytes>" },
		{ TEXT("a\0b"), "<3 bytes>" },
#undef TEXT
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		json_t *text = member(cases[i].message, cases[i].len, "text");

		assert_string_equal(json_string_value(text), cases[i].text);
		assert_null(member(cases[i].message, cases[i].len, "content"));
		json_decref(text);
	}
}

static void
says_how_long_a_message_is_of_which_it_has_the_beginning(void **state)
{
	static const char begun[] = "{\"audio\":\"AAAA";
	struct message_log_entry entry = from_client;
	json_t *record;

	(void)state;
	entry.bytes = 1000000;
	record = message_log_record(&entry, begun, strlen(begun));
	assert_string_equal(json_string_value(json_object_get(record, "text")),
	    "<1000000 bytes>");
	json_decref(record);
}

/* A record has to go through the control socket. */
static void
check_bounds(const char *text, size_t len)
{
	char *record = dump(message_log_record(&from_client, text, len));
	json_t *again = NULL;

	assert_true(strlen(record) < MESSAGE_LOG_MAX_BYTES + 512);
	assert_int_equal(json_parse(record, strlen(record), &again, NULL),
	    ERR_OK);
	assert_true(json_is_true(json_object_get(again, "truncated")));
	json_decref(again);
	free(record);
}

static void
is_bounded_whatever_was_sent(void **state)
{
	static const char *const units[] = { "a ", "\\\"", "\\u0001", "\\n",
		"\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xc3\xa9" };
	size_t size = 8 * MESSAGE_LOG_MAX_BYTES;
	char *text = xcalloc(1, size + 16);

	(void)state;
	for (size_t i = 0; i < COUNT(units); i++) {
		size_t len = (size_t)sprintf(text, "{\"a\":\"");

		while (len < size - 16)
			len += (size_t)sprintf(text + len, "%s", units[i]);
		len += (size_t)sprintf(text + len, "\"}");
		check_bounds(text, len);
		/* and as plain text */
		check_bounds(text + 6, len - 8);
	}
	/* a name is not cut */
	memset(text, 'n', size);
	memcpy(text, "{\"", 2);
	memcpy(text + size - 4, "\":1}", 4);
	check_bounds(text, size);
	for (size_t kind = 0; kind < 3; kind++) {
		size_t len = (size_t)sprintf(text, kind == 0 ? "{" : "[");

		for (int i = 0; len < size - 64; i++)
			len += kind == 0 ? (size_t)sprintf(text + len,
					       "\"m%d\":1.5e-300,", i)
			    : kind == 1	 ? (size_t)sprintf(text + len, "[],")
					 : (size_t)sprintf(text + len, "\"\",");
		text[len - 1] = kind == 0 ? '}' : ']';
		check_bounds(text, len);
	}
	free(text);
}

static void
keeps_as_much_as_there_is_room_for(void **state)
{
	size_t size = MESSAGE_LOG_MAX_BYTES + 1000;
	char *text = xcalloc(1, size + 1);
	json_t *value;

	(void)state;
	memset(text, ' ', size);
	value = member(text, size, "text");
	assert_true(json_string_length(value) > MESSAGE_LOG_MAX_BYTES - 16);
	json_decref(value);
	free(text);
}

static void
leaves_out_what_is_nested_too_deeply(void **state)
{
	char text[2 * JSON_DEPTH_MAX];
	json_t *content;
	char *shown;

	(void)state;
	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	content = member(text, sizeof(text), "content");
	shown = json_text(content, NULL);
	assert_non_null(strstr(shown, "[\"<deeper>\"]"));
	assert_int_equal(strcspn(shown, "\""), MESSAGE_LOG_MAX_DEPTH);
	free(shown);
	json_decref(content);
	check_bounds(text, sizeof(text));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_who_sent_what_and_when),
		cmocka_unit_test(keeps_no_content_of_a_binary_message),
		cmocka_unit_test(takes_the_type_from_the_content),
		cmocka_unit_test(masks_secrets_sound_and_pictures),
		cmocka_unit_test(takes_long_base64_for_data_wherever_it_is),
		cmocka_unit_test(keeps_text_that_is_no_json),
		cmocka_unit_test(
		    says_how_long_a_message_is_of_which_it_has_the_beginning),
		cmocka_unit_test(is_bounded_whatever_was_sent),
		cmocka_unit_test(keeps_as_much_as_there_is_room_for),
		cmocka_unit_test(leaves_out_what_is_nested_too_deeply),
	};

	return cmocka_run_group_tests_name("message_log", tests, NULL, NULL);
}
