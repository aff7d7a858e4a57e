/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/chat/chat_request.h"
#include "common/json.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char *models[] = { (char[]){ "small" }, (char[]){ "large" } };
static char system_text[] = "Be brief.";
static char url[] = "http://localhost/v1/chat/completions";
static char openai_url[] = "https://api.openai.com/v1/chat/completions";

static struct config_chat
config(void)
{
	return (struct config_chat){
		.url = url,
		.models = { .items = models, .count = 2 },
		.system = system_text,
		.content_bytes = 20,
		.max_output_tokens = 100,
	};
}

static enum err
parse(enum chat_request_kind kind, const char *text, struct chat_request *ret,
    json_t **ret_body)
{
	struct config_chat chat = config();
	struct diag diag = { "" };
	enum err err;

	assert_int_equal(json_parse(text, strlen(text), ret_body, &diag),
	    ERR_OK);
	err = chat_request_parse(&chat, kind, *ret_body, ret, &diag);
	assert_int_equal(err == ERR_OK, diag.text[0] == '\0');
	return err;
}

static void
takes_what_a_message_may_have(void **state)
{
	struct chat_request request;
	json_t *body;

	(void)state;
	assert_int_equal(
	    parse(CHAT_SEND,
		"{\"chat_id\":\"c-1_A\",\"content\":\"Hi\",\"model\":"
		"\"large\",\"temperature\":2,\"top_p\":0.5,"
		"\"presence_penalty\":-2,\"frequency_penalty\":0,"
		"\"max_tokens\":7,\"seed\":-1,\"stop\":[\"a\",\"b\"]}",
		&request, &body),
	    ERR_OK);
	assert_string_equal(request.chat_id, "c-1_A");
	assert_string_equal(request.content, "Hi");
	assert_ptr_equal(request.model, models[1]);
	assert_int_equal(request.output_tokens, 7);
	assert_int_equal(json_object_size(request.parameters), 6);
	chat_request_done(&request);
	json_decref(body);
}

static void
takes_an_empty_chat_as_a_new_one(void **state)
{
	struct chat_request request;
	json_t *body;

	(void)state;
	assert_int_equal(parse(CHAT_SEND,
			     "{\"content\":\"Hi\",\"chat_id\":\"\"}", &request,
			     &body),
	    ERR_OK);
	assert_null(request.chat_id);
	chat_request_done(&request);
	json_decref(body);
}

static void
fills_in_what_is_absent_or_null(void **state)
{
	struct chat_request request;
	json_t *body;

	(void)state;
	assert_int_equal(parse(CHAT_SEND,
			     "{\"content\":\"Hi\",\"chat_id\":null,"
			     "\"model\":null,\"temperature\":null}",
			     &request, &body),
	    ERR_OK);
	assert_null(request.chat_id);
	assert_ptr_equal(request.model, models[0]);
	assert_int_equal(request.output_tokens, 100);
	assert_int_equal(json_object_size(request.parameters), 0);
	chat_request_done(&request);
	json_decref(body);
	/* more than the site gives is no mistake */
	assert_int_equal(parse(CHAT_SEND,
			     "{\"content\":\"Hi\",\"max_tokens\":1000000}",
			     &request, &body),
	    ERR_OK);
	assert_int_equal(request.output_tokens, 100);
	chat_request_done(&request);
	json_decref(body);
}

#define C "\"content\":\"x\""

static void
refuses_what_it_must_not_have(void **state)
{
	static const struct {
		enum chat_request_kind kind;
		const char *text;
		enum err err;
	} table[] = {
		{ CHAT_SEND, "{}", ERR_PROTO },
		{ CHAT_SEND, "{\"content\":\"\"}", ERR_PROTO },
		{ CHAT_SEND, "{\"content\":\" \\n\\t\"}", ERR_PROTO },
		{ CHAT_SEND, "{\"content\":[]}", ERR_PROTO },
		{ CHAT_SEND, "{\"content\":\"123456789012345678901\"}",
		    ERR_LIMIT },
		{ CHAT_SEND, "{" C ",\"chat_id\":1}", ERR_PROTO },
		{ CHAT_REGENERATE, "{\"chat_id\":\"\"}", ERR_NOTFOUND },
		{ CHAT_SEND, "{" C ",\"chat_id\":\"a b\"}", ERR_NOTFOUND },
		{ CHAT_SEND,
		    "{" C ",\"chat_id\":\"123456789012345678901234567890123\"}",
		    ERR_NOTFOUND },
		{ CHAT_SEND, "{" C ",\"model\":\"other\"}", ERR_DENIED },
		{ CHAT_SEND, "{" C ",\"model\":\"small*\"}", ERR_DENIED },
		{ CHAT_SEND, "{" C ",\"model\":{}}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"message_id\":\"m\"}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"temperature\":2.01}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"temperature\":true}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"top_p\":-0.1}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"seed\":0.5}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"max_tokens\":0}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"max_tokens\":1.0}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"stop\":\"\"}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"stop\":[1]}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}",
		    ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"messages\":[]}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"tools\":[]}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"n\":2}", ERR_PROTO },
		{ CHAT_SEND, "{" C ",\"base_url\":\"http://x\"}", ERR_PROTO },
		{ CHAT_REGENERATE, "{}", ERR_PROTO },
		{ CHAT_REGENERATE, "{\"chat_id\":\"c\"," C "}", ERR_PROTO },
		{ CHAT_STOP, "{\"model\":\"small\"}", ERR_PROTO },
		{ CHAT_STOP, "{\"temperature\":1}", ERR_PROTO },
	};
	struct chat_request request;
	json_t *body;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		assert_int_equal(parse(table[i].kind, table[i].text, &request,
				     &body),
		    table[i].err);
		json_decref(body);
	}
	assert_int_equal(parse(CHAT_STOP, "{}", &request, &body), ERR_OK);
	chat_request_done(&request);
	json_decref(body);
}

static char *
vendor_body(char *to, const char *more)
{
	struct config_chat chat = config();
	struct store_message items[] = {
		{ .content = (char[]){ "One" } },
		{ .content = (char[]){ "Uno" }, .is_assistant = true },
		{ .content = (char[]){ "" }, .is_assistant = true },
		{ .content = (char[]){ "\"Two\"\n" } },
	};
	struct store_messages history = { .items = items, .count = 4 };
	struct chat_request request;
	json_t *body;
	size_t len;
	char *text;

	assert_int_equal(parse(CHAT_SEND, more, &request, &body), ERR_OK);
	chat.url = to;
	text = chat_request_body(&chat, &request, &history, &len);
	assert_int_equal(strlen(text), len);
	assert_int_equal(chat_request_bytes(&chat, &history),
	    9 + 3 + 3 + 6 + 5 * 16);
	chat_request_done(&request);
	json_decref(body);
	return text;
}

static void
asks_the_vendor_with_all_that_was_said(void **state)
{
	char *text =
	    vendor_body(url, "{" C ",\"temperature\":0.5,\"max_tokens\":7}");

	(void)state;
	assert_string_equal(text,
	    "{\"model\":\"small\",\"messages\":["
	    "{\"role\":\"system\",\"content\":\"Be brief.\"},"
	    "{\"role\":\"user\",\"content\":\"One\"},"
	    "{\"role\":\"assistant\",\"content\":\"Uno\"},"
	    "{\"role\":\"user\",\"content\":\"\\\"Two\\\"\\n\"}],"
	    "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
	    "\"max_tokens\":7,\"temperature\":0.5}");
	free(text);
	text = vendor_body(openai_url, "{" C "}");
	assert_non_null(strstr(text, "\"max_completion_tokens\":100"));
	assert_null(strstr(text, "\"max_tokens\""));
	free(text);
}

#define TEN "123456789 "

static void
names_a_chat_by_its_first_words(void **state)
{
	static const char *const table[][2] = {
		{ "Hello", "Hello" },
		{ "  Hello,\r\n\tworld \n", "Hello, world" },
		{ "", "" },
		{ TEN TEN TEN TEN TEN TEN,
		    "123456789 123456789 123456789 "
		    "123456789 123456789 123456789" },
		{ TEN TEN TEN TEN TEN "12345678901234",
		    "123456789 123456789 123456789 123456789 123456789" },
		{ "1234567890123456789012345678901234567890"
		  "123456789012345678901234567890",
		    "1234567890123456789012345678901234567890"
		    "12345678901234567890" },
		{ "a\x01\x7f"
		  "b",
		    "a b" },
	};
	char wide[4 * 100 + 1] = "", *title;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		title = chat_request_title(table[i][0]);
		assert_string_equal(title, table[i][1]);
		free(title);
	}
	for (int i = 0; i < 100; i++)
		strcat(wide, "\xf0\x9f\x98\x80");
	title = chat_request_title(wide);
	assert_int_equal(strlen(title), 240); /* no half character */
	free(title);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_what_a_message_may_have),
		cmocka_unit_test(takes_an_empty_chat_as_a_new_one),
		cmocka_unit_test(fills_in_what_is_absent_or_null),
		cmocka_unit_test(refuses_what_it_must_not_have),
		cmocka_unit_test(asks_the_vendor_with_all_that_was_said),
		cmocka_unit_test(names_a_chat_by_its_first_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
