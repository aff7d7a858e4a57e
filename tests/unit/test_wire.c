/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/wire.h"
#include "common/xalloc.h"

#define LIMITS                                                            \
	"{\"client_message_bytes\":1,\"upstream_message_bytes\":2,"       \
	"\"client_messages_per_s\":3,\"client_bytes_per_s\":4,"           \
	"\"connect_ms\":5,\"idle_ms\":6,\"lifetime_ms\":7,\"ping_ms\":8," \
	"\"pong_ms\":9,\"stall_ms\":10,\"usage_ms\":2305843009213693951," \
	"\"vendor_ms\":11,\"warn_ms\":12}"
#define UPSTREAM_(addresses, port, headers)                        \
	"{\"tls\":true,\"addresses\":" addresses ",\"port\":" port \
	",\"name\":\"api.example\",\"ca_file\":\"/ca.pem\","       \
	"\"host\":\"api.example\",\"target\":\"/"                  \
	"v1?a=b\",\"headers\":" headers ",\"subprotocols\":[\"one\",\"two\"]}"
#define MESSAGES_(form, session, inspect_bytes)                    \
	"{\"form\":" form ",\"session\":" session                  \
	",\"pin\":{\"allow\":[]},\"usage\":true,\"log\":\"full\"," \
	"\"budget\":\"error\","                                    \
	"\"inspect_bytes\":" inspect_bytes "}"
#define GRANT_RESUME(upstream, messages, resume)                           \
	"{\"v\":1,\"type\":\"grant\",\"lease\":\"l1\",\"session\":\"s1\"," \
	"\"route\":\"/echo\",\"upstream\":" upstream                       \
	",\"subprotocol\":\"realtime\",\"limits\":" LIMITS                 \
	",\"messages\":" messages ",\"resume\":" resume "}"
#define GRANT_WITH(upstream, messages) \
	GRANT_RESUME(upstream, messages, "\"eyJ.eyJ.sig\"")
#define GRANT_(upstream)     \
	GRANT_WITH(upstream, \
	    MESSAGES_("\"beta\"", "{\"voice\":\"x\"}", "65536"))
#define PASSED_(passed, addresses)                                      \
	"{\"passed\":" passed ",\"tls\":false,\"addresses\":" addresses \
	",\"port\":0,\"headers\":[],\"subprotocols\":[]}"
#define UPSTREAM UPSTREAM_("[\"::1\"]", "443", "[]")
#define GRANT \
	GRANT_(UPSTREAM_("[\"192.0.2.1\",\"::1\"]", "443", "[[\"A\",\"k\"]]"))
#define OPEN_(method, target, headers, peer)                                  \
	"{\"v\":1,\"type\":\"open\",\"method\":\"" method                     \
	"\",\"target\":\"" target "\",\"headers\":" headers ",\"peer\":" peer \
	"}"
#define LOCAL "{\"local\":true}"
#define TOTALS                                     \
	"\"client\":{\"messages\":1,\"bytes\":2}," \
	"\"upstream\":{\"messages\":3,\"bytes\":4}"
#define END_(rest) "{\"v\":1,\"type\":\"end\"," TOTALS "," rest "}"
#define CLOSE_(code, reason) \
	"{\"v\":1,\"type\":\"close\",\"code\":" code ",\"reason\":" reason "}"
#define DENY_(status, message)                          \
	"{\"v\":1,\"type\":\"deny\",\"status\":" status \
	",\"code\":\"x\",\"message\":" message ",\"headers\":[]}"

#define REPORT_(from, to, by)                                 \
	"{\"v\":1,\"type\":\"report\",\"from\":\"" from "\"," \
	"\"to\":\"" to "\",\"by\":\"" by "\"}"

#define TOP_UP_(user, amount, id)                             \
	"{\"v\":1,\"type\":\"top_up\",\"user\":\"" user "\"," \
	"\"amount\":\"" amount "\",\"id\":\"" id "\"}"

#define ANSWER_(rest) "{\"v\":1,\"type\":\"answer\",\"n\":1," rest "}"
#define USAGE_(rest)  "{\"v\":1,\"type\":\"usage\"," TOTALS "," rest "}"
#define RESUME_(text, elapsed)                          \
	"{\"v\":1,\"type\":\"resume\",\"resume\":" text \
	",\"elapsed_ms\":" elapsed "}"
#define BUDGETS_(rest) "{\"v\":1,\"type\":\"budgets\"" rest "}"
#define REVOKE_(rest) "{\"v\":1,\"type\":\"revoke\"" rest "}"
#define SIXTEEN	      "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"

static const char *const legal[] = {
	"{\"v\":1,\"type\":\"ask\",\"n\":1}",
	"{\"v\":1,\"type\":\"ask\",\"n\":2,\"begun\":true,"
	"\"input_bytes\":4096}",
	ANSWER_("\"allowed\":true"),
	ANSWER_("\"allowed\":false,\"code\":\"budget_spent\","
		"\"message\":\"no more today\",\"retry_after_s\":3600"),
	ANSWER_("\"allowed\":false,\"code\":\"x\",\"message\":\"y\""),
	"{\"v\":1,\"type\":\"ack\",\"n\":9223372036854775807}",
	"{\"v\":1,\"type\":\"ack\",\"n\":0,\"ended\":true}",
	RESUME_("\"eyJ.eyJ.sig\"", "0"),
	"{\"v\":1,\"type\":\"resumed\",\"limits\":" LIMITS "}",
	"{\"v\":1,\"type\":\"probe\"}",
	BUDGETS_(""),
	BUDGETS_(",\"kind\":\"address\",\"value\":\"2001:db8::1\""),
	REVOKE_(""),
	REVOKE_(",\"kind\":\"user\",\"value\":\"Ann Smith\""),
	REVOKE_(",\"kind\":\"ticket\",\"value\":\"t\",\"before\":1790000000"),
	USAGE_("\"asked\":1"),
	USAGE_("\"asked\":16,\"open\":[" SIXTEEN "]"),
	END_("\"side\":\"tunnel\",\"cause\":\"budget\",\"code\":4003,"
	     "\"asked\":7,\"open\":[3,7]"),
	TOP_UP_("ann", "5", "id-1"),
	TOP_UP_("Ann Smith <ann@example.com>", "-0.000001", "a"),
	TOP_UP_("ann", "1000000.000000", "0123456789abcdef0123456789abcdef"),
	"{\"v\":1,\"type\":\"balance\",\"user\":\"ann\"}",
	OPEN_("GET", "/a?b", "[[\"Host\",\"x\"],[\"X\",\"\"]]", LOCAL),
	OPEN_("GET", "/", "[]", "{\"local\":false,\"address\":\"::1\"}"),
	GRANT_(PASSED_("true", "[]")),
	GRANT,
	GRANT_(UPSTREAM_("[\"::1\"]", "443",
	    "[[\"A\",\"Bearer k\",true],[\"B\",\"c\"]]")),
	DENY_("403", "\"no\""),
	"{\"v\":1,\"type\":\"usage\"," TOTALS "}",
	"{\"v\":1,\"type\":\"usage\"," TOTALS
	",\"events\":[{\"n\":1,\"usage\":{}}]}",
	"{\"v\":1,\"type\":\"log\",\"records\":[{\"type\":\"a\"}],"
	"\"dropped\":3}",
	END_("\"side\":\"client\",\"cause\":\"client_closed\",\"code\":1000,"
	     "\"reason\":\"bye\""),
	END_("\"side\":\"tunnel\",\"cause\":\"idle\",\"code\":0"),
	CLOSE_("4001", "\"\""),
	CLOSE_("4001", "\"\",\"lease\":\"l1\""),
	"{\"v\":1,\"type\":\"limits\",\"limits\":" LIMITS "}",
	"{\"v\":1,\"type\":\"list\"}",
	"{\"v\":1,\"type\":\"report\",\"from\":\"2024-02-29\","
	"\"to\":\"2024-02-29\"}",
	"{\"v\":1,\"type\":\"report\",\"from\":\"1970-01-01\","
	"\"to\":\"2999-12-31\",\"by\":\"model\"}",
	"{\"v\":1,\"type\":\"reply\",\"value\":[1,{\"a\":null}]}",
};

/* The texts above are written as the module writes them. */
static void
gives_back_every_packet_as_it_was(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(legal) / sizeof(legal[0]); i++) {
		struct wire_packet *packet;
		struct diag diag = { "" };
		json_t *before, *after;
		size_t len;
		char *text;

		if (wire_parse(legal[i], strlen(legal[i]), &packet, &diag) !=
		    ERR_OK)
			fail_msg("%s: %s", legal[i], diag.text);
		assert_int_equal(wire_format(packet, &text, &len), ERR_OK);
		assert_int_equal(len, strlen(text));
		before = json_loads(legal[i], 0, NULL);
		after = json_loads(text, 0, NULL);
		if (!json_equal(before, after))
			fail_msg("%s became %s", legal[i], text);
		json_decref(before);
		json_decref(after);
		wire_text_free(text, len);
		wire_packet_free(packet);
	}
}

static void
reads_every_member_of_a_grant(void **state)
{
	struct wire_packet *packet;
	struct wire_grant *grant;

	(void)state;
	assert_int_equal(wire_parse(GRANT, strlen(GRANT), &packet, NULL),
	    ERR_OK);
	assert_int_equal(packet->type, WIRE_GRANT);
	grant = &packet->grant;
	assert_string_equal(grant->lease, "l1");
	assert_string_equal(grant->session, "s1");
	assert_string_equal(grant->route, "/echo");
	assert_true(grant->upstream.tls);
	assert_int_equal(grant->upstream.address_count, 2);
	assert_string_equal(grant->upstream.addresses[1], "::1");
	assert_int_equal(grant->upstream.port, 443);
	assert_string_equal(grant->upstream.name, "api.example");
	assert_string_equal(grant->upstream.ca_file, "/ca.pem");
	assert_string_equal(grant->upstream.host, "api.example");
	assert_string_equal(grant->upstream.target, "/v1?a=b");
	assert_string_equal(wire_headers_find(&grant->upstream.headers, "a"),
	    "k");
	assert_null(wire_headers_find(&grant->upstream.headers, "b"));
	assert_int_equal(grant->upstream.subprotocol_count, 2);
	assert_string_equal(grant->upstream.subprotocols[1], "two");
	assert_string_equal(grant->subprotocol, "realtime");
	assert_int_equal(grant->limits.client_message_bytes, 1);
	assert_int_equal(grant->limits.stall_ms, 10);
	assert_int_equal(grant->limits.usage_ms, INT64_MAX / 4);
	assert_int_equal(grant->limits.vendor_ms, 11);
	assert_int_equal(grant->limits.warn_ms, 12);
	assert_string_equal(grant->messages.budget, "error");
	assert_string_equal(grant->resume, "eyJ.eyJ.sig");
	wire_packet_free(packet);
}

static void
refuses_malformed_packets(void **state)
{
	static const struct {
		const char *text;
		enum err err;
	} cases[] = {
		{ "", ERR_PROTO },
		{ "x", ERR_PROTO },
		{ "[]", ERR_PROTO },
		{ "\"list\"", ERR_PROTO },
		{ "{\"type\":\"list\"}", ERR_PROTO },
		{ "{\"v\":2,\"type\":\"list\"}", ERR_PROTO },
		{ "{\"v\":\"1\",\"type\":\"list\"}", ERR_PROTO },
		{ "{\"v\":1}", ERR_PROTO },
		{ "{\"v\":1,\"type\":\"resumes\"}", ERR_PROTO },
		{ "{\"v\":1,\"type\":\"resume\"}", ERR_PROTO },
		{ RESUME_("\"\"", "0"), ERR_PROTO },
		{ RESUME_("\"a b\"", "0"), ERR_PROTO },
		{ RESUME_("\"a\"", "-1"), ERR_LIMIT },
		{ RESUME_("\"a\"", "2305843009213693952"), ERR_LIMIT },
		{ RESUME_("7", "0"), ERR_PROTO },
		{ "{\"v\":1,\"type\":\"resumed\"}", ERR_PROTO },
		{ "{\"v\":1,\"type\":\"ask\"}", ERR_PROTO },
		{ "{\"v\":1,\"type\":\"ask\",\"n\":0}", ERR_LIMIT },
		{ "{\"v\":1,\"type\":\"ask\",\"n\":1.5}", ERR_PROTO },
		{ "{\"v\":1,\"type\":\"ack\",\"n\":-1}", ERR_LIMIT },
		{ ANSWER_("\"allowed\":false"), ERR_PROTO },
		{ ANSWER_("\"allowed\":false,\"code\":\"x\""), ERR_PROTO },
		{ ANSWER_("\"allowed\":true,\"code\":\"x\","
			  "\"message\":\"y\""),
		    ERR_PROTO },
		{ ANSWER_("\"allowed\":true,\"retry_after_s\":1"), ERR_PROTO },
		{ ANSWER_("\"allowed\":1"), ERR_PROTO },
		{ ANSWER_("\"allowed\":false,\"code\":\"x\","
			  "\"message\":\"y\\nz\""),
		    ERR_PROTO },
		{ BUDGETS_(",\"kind\":\"user\""), ERR_PROTO },
		{ BUDGETS_(",\"value\":\"ann\""), ERR_PROTO },
		{ BUDGETS_(",\"kind\":\"ticket\",\"value\":\"t\""), ERR_PROTO },
		{ BUDGETS_(",\"kind\":\"user\",\"value\":\"a\nb\""), ERR_PROTO },
		{ REVOKE_(",\"kind\":\"user\""), ERR_PROTO },
		{ REVOKE_(",\"value\":\"ann\""), ERR_PROTO },
		{ REVOKE_(",\"kind\":\"lease\",\"value\":\"ann\""), ERR_PROTO },
		{ REVOKE_(",\"kind\":\"user\",\"value\":\"\""), ERR_PROTO },
		{ REVOKE_(",\"kind\":\"user\",\"value\":\"a\\tb\\u007f\""),
		    ERR_PROTO },
		{ REVOKE_(",\"kind\":\"user\",\"value\":\"ann\",\"before\":-1"),
		    ERR_LIMIT },
		{ USAGE_("\"asked\":-1"), ERR_LIMIT },
		/* who counts up to it has to come to an end */
		{ USAGE_("\"asked\":9223372036854775807"), ERR_LIMIT },
		{ USAGE_("\"open\":[1]"), ERR_PROTO },
		{ USAGE_("\"asked\":2,\"open\":[3]"), ERR_PROTO },
		{ USAGE_("\"asked\":2,\"open\":[2,1]"), ERR_PROTO },
		{ USAGE_("\"asked\":2,\"open\":[1,1]"), ERR_PROTO },
		{ USAGE_("\"asked\":2,\"open\":[0]"), ERR_LIMIT },
		{ USAGE_("\"asked\":2,\"open\":[\"1\"]"), ERR_PROTO },
		{ USAGE_("\"asked\":2,\"open\":{}"), ERR_PROTO },
		{ USAGE_("\"asked\":99,\"open\":[" SIXTEEN ",17]"), ERR_LIMIT },
		{ GRANT_WITH(UPSTREAM,
		      "{\"usage\":true,\"budget\":\"deny\","
		      "\"inspect_bytes\":9}"),
		    ERR_PROTO },
		{ GRANT_WITH(UPSTREAM,
		      "{\"usage\":true,\"budget\":\"close\","
		      "\"inspect_bytes\":0}"),
		    ERR_PROTO },
		{ GRANT_RESUME(UPSTREAM, "null", "\"\""), ERR_PROTO },
		{ GRANT_RESUME(UPSTREAM, "null", "\"a b\""), ERR_PROTO },
		{ "{\"v\":1,\"type\":\"list\"} ,", ERR_PROTO },
		{ "{\"v\":1,\"v\":1,\"type\":\"list\"}", ERR_PROTO },
		{ OPEN_("G T", "/", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("", "/", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "*", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "http://a/", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/a b", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/a#b", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/\\u00e9", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/a\\r\\nb", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/\\u0000", "[]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/", "{}", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/", "[[\"A\"]]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/", "[[\"A\",1]]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/", "[[\"A\",\"b\",\"c\"]]", LOCAL),
		    ERR_PROTO },
		{ OPEN_("GET", "/", "[[\"A:\",\"b\"]]", LOCAL), ERR_PROTO },
		{ OPEN_("GET", "/", "[[\"A\",\"b\\r\\nC: d\"]]", LOCAL),
		    ERR_PROTO },
		{ OPEN_("GET", "/", "[]", "{}"), ERR_PROTO },
		{ OPEN_("GET", "/", "[]", "{\"local\":1}"), ERR_PROTO },
		{ OPEN_("GET", "/", "[]", "{\"local\":false}"), ERR_PROTO },
		{ OPEN_("GET", "/", "[]",
		      "{\"local\":true,\"address\":\"::1\"}"),
		    ERR_PROTO },
		{ OPEN_("GET", "/", "[]",
		      "{\"local\":false,\"address\":\"localhost\"}"),
		    ERR_PROTO },
		{ GRANT_(UPSTREAM_("[]", "443", "[]")), ERR_PROTO },
		{ GRANT_(PASSED_("false", "[]")), ERR_PROTO },
		{ GRANT_(PASSED_("1", "[]")), ERR_PROTO },
		{ GRANT_(PASSED_("true", "[\"::1\"]")), ERR_PROTO },
		{ GRANT_(UPSTREAM_("[\"api.example\"]", "443", "[]")),
		    ERR_PROTO },
		{ GRANT_(UPSTREAM_("[\"::\",\"::\",\"::\",\"::\",\"::\","
				   "\"::\",\"::\",\"::\",\"::\"]",
		      "443", "[]")),
		    ERR_LIMIT },
		{ GRANT_(UPSTREAM_("[\"::1\"]", "0", "[]")), ERR_PROTO },
		{ GRANT_(UPSTREAM_("[\"::1\"]", "65536", "[]")), ERR_LIMIT },
		{ GRANT_(UPSTREAM_("[\"::1\"]", "4.0", "[]")), ERR_PROTO },
		{ GRANT_("null"), ERR_PROTO },
		{ GRANT_WITH(UPSTREAM, "[]"), ERR_PROTO },
		{ GRANT_WITH(UPSTREAM, MESSAGES_("\"ga\"", "{}", "9")),
		    ERR_PROTO },
		{ GRANT_WITH(UPSTREAM, MESSAGES_("\"text\"", "[]", "9")),
		    ERR_PROTO },
		{ GRANT_WITH(UPSTREAM, MESSAGES_("\"text\"", "{}", "0")),
		    ERR_PROTO },
		{ DENY_("200", "\"x\""), ERR_LIMIT },
		{ DENY_("403", "\"a\\nb\""), ERR_PROTO },
		{ DENY_("403", "\"\""), ERR_PROTO },
		{ DENY_("403", "\"x\",\"body\":[]"), ERR_PROTO },
		{ "{\"v\":1,\"type\":\"usage\",\"client\":{\"messages\":-1,"
		  "\"bytes\":0}}",
		    ERR_LIMIT },
		{ "{\"v\":1,\"type\":\"usage\"," TOTALS ",\"events\":{}}",
		    ERR_PROTO },
		{ "{\"v\":1,\"type\":\"usage\"," TOTALS ",\"events\":[1]}",
		    ERR_PROTO },
		{ "{\"v\":1,\"type\":\"log\",\"records\":[]}", ERR_PROTO },
		{ "{\"v\":1,\"type\":\"log\",\"records\":[\"a\"],"
		  "\"dropped\":0}",
		    ERR_PROTO },
		{ END_("\"side\":\"me\",\"cause\":\"x\",\"code\":0"),
		    ERR_PROTO },
		{ END_("\"side\":\"client\",\"cause\":\"x\",\"code\":1005"),
		    ERR_PROTO },
		{ END_("\"side\":\"client\",\"cause\":\"x\""), ERR_PROTO },
		{ CLOSE_("1006", "\"\""), ERR_PROTO },
		{ CLOSE_("5000", "\"\""), ERR_LIMIT },
		{ CLOSE_("1000", "null"), ERR_PROTO },
		{ CLOSE_("1000", "\"\xff\""), ERR_PROTO },
		{ "{\"v\":1,\"type\":\"limits\",\"limits\":{}}", ERR_PROTO },
		/* a time that would not fit beside a clock's */
		{ "{\"v\":1,\"type\":\"limits\",\"limits\":"
		  "{\"client_message_bytes\":1,\"upstream_message_bytes\":2,"
		  "\"client_messages_per_s\":3,\"client_bytes_per_s\":4,"
		  "\"connect_ms\":9223372036854775807,\"idle_ms\":6,"
		  "\"lifetime_ms\":7,\"ping_ms\":8,\"pong_ms\":9,"
		  "\"stall_ms\":10,\"usage_ms\":11}}",
		    ERR_LIMIT },
		{ "{\"v\":1,\"type\":\"reply\"}", ERR_PROTO },
		{ REPORT_("2026-01-02", "2026-01-01", "day"), ERR_PROTO },
		{ REPORT_("2025-02-29", "2025-03-01", "day"), ERR_PROTO },
		{ REPORT_("2100-02-29", "2100-03-01", "day"), ERR_PROTO },
		{ REPORT_("2026-04-31", "2026-05-01", "day"), ERR_PROTO },
		{ TOP_UP_("ann", "", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "0", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "-0.000", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "-", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "--5", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "+5", "a"), ERR_PROTO },
		{ TOP_UP_("ann", ".5", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "5.", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "5.0000000", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "12345678", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "5,00", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "5 ", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "1e3", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "5.0.0", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "nan", "a"), ERR_PROTO },
		{ TOP_UP_("ann", "5", ""), ERR_PROTO },
		{ TOP_UP_("ann", "5", "a b"), ERR_PROTO },
		{ TOP_UP_("", "5", "a"), ERR_PROTO },
		{ TOP_UP_("a\\nb", "5", "a"), ERR_PROTO },
		{ "{\"v\":1,\"type\":\"top_up\",\"user\":\"ann\","
		  "\"amount\":5,\"id\":\"a\"}",
		    ERR_PROTO },
		{ "{\"v\":1,\"type\":\"top_up\",\"user\":\"ann\","
		  "\"amount\":\"5\"}",
		    ERR_PROTO },
		{ "{\"v\":1,\"type\":\"balance\"}", ERR_PROTO },
		{ REPORT_("2026-00-01", "2026-05-01", "day"), ERR_PROTO },
		{ REPORT_("2026-13-01", "2027-05-01", "day"), ERR_PROTO },
		{ REPORT_("2026-01-00", "2026-05-01", "day"), ERR_PROTO },
		{ REPORT_("1969-12-31", "2026-05-01", "day"), ERR_PROTO },
		{ REPORT_("2026-01-01", "3000-01-01", "day"), ERR_PROTO },
		{ REPORT_("2026-1-1", "2026-05-01", "day"), ERR_PROTO },
		{ REPORT_("2026/01/01", "2026-05-01", "day"), ERR_PROTO },
		{ REPORT_("2026-01-+1", "2026-05-01", "day"), ERR_PROTO },
		{ REPORT_("", "2026-05-01", "day"), ERR_PROTO },
		{ REPORT_("2026-01-01", "2026-05-01 ", "day"), ERR_LIMIT },
		{ REPORT_("2026-01-01", "2026-05-01", "hour"), ERR_PROTO },
		{ REPORT_("2026-01-01", "2026-05-01", ""), ERR_PROTO },
		{ "{\"v\":1,\"type\":\"report\",\"from\":\"2026-01-01\"}",
		    ERR_PROTO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wire_packet *packet = NULL;
		struct diag diag = { "" };
		enum err err = wire_parse(cases[i].text, strlen(cases[i].text),
		    &packet, &diag);

		if (err != cases[i].err)
			fail_msg("%s: %s", cases[i].text, err_text(err));
		assert_null(packet);
		assert_string_not_equal(diag.text, "");
	}
}

/* A tunnel whose vendor's limit nobody knows, and nobody asks. */
static void
leaves_out_what_is_not_there(void **state)
{
	struct wire_packet *packet = wire_packet_new(WIRE_USAGE);
	char *text;
	size_t len;

	(void)state;
	assert_int_equal(wire_format(packet, &text, &len), ERR_OK);
	assert_null(strstr(text, "asked"));
	assert_null(strstr(text, "open"));
	wire_text_free(text, len);
	packet->usage.open_count = WIRE_ASKS_MAX + 1;
	packet->usage.asked = WIRE_ASKS_MAX + 1;
	for (size_t i = 0; i < WIRE_ASKS_MAX; i++)
		packet->usage.open[i] = (int64_t)i + 1;
	assert_int_equal(wire_format(packet, &text, &len), ERR_PROTO);
	wire_packet_free(packet);
}

/* A grant of before: frames pass verbatim. */
static void
reads_a_grant_without_messages(void **state)
{
	static const char text[] = GRANT_WITH(UPSTREAM, "null");
	struct wire_packet *packet;
	const struct wire_messages *messages;

	(void)state;
	assert_int_equal(wire_parse(text, strlen(text), &packet, NULL), ERR_OK);
	messages = &packet->grant.messages;
	assert_null(messages->form);
	assert_null(messages->session);
	assert_null(messages->pin);
	assert_null(messages->log);
	assert_false(messages->usage);
	wire_packet_free(packet);
}

static void
names_the_member_that_is_wrong(void **state)
{
	static const char text[] = GRANT_(UPSTREAM_("[\"::1\"]", "-1", "[]"));
	struct wire_packet *packet;
	struct diag diag;

	(void)state;
	assert_int_equal(wire_parse(text, strlen(text), &packet, &diag),
	    ERR_LIMIT);
	assert_string_equal(diag.text, "upstream: bad or missing \"port\"");
}

static void
ignores_members_it_does_not_know(void **state)
{
	static const char text[] =
	    "{\"v\":1,\"type\":\"list\",\"filter\":{\"a\":[1]}}";
	struct wire_packet *packet;

	(void)state;
	assert_int_equal(wire_parse(text, strlen(text), &packet, NULL), ERR_OK);
	assert_int_equal(packet->type, WIRE_LIST);
	wire_packet_free(packet);
}

static void
refuses_a_datagram_over_its_size(void **state)
{
	size_t len = WIRE_MAX_BYTES + 1;
	char *text = xcalloc(1, len);
	struct wire_packet *packet;

	(void)state;
	memset(text, ' ', len);
	memcpy(text, "{\"v\":1,\"type\":\"list\"}", 21);
	assert_int_equal(wire_parse(text, len - 1, &packet, NULL), ERR_OK);
	wire_packet_free(packet);
	assert_int_equal(wire_parse(text, len, &packet, NULL), ERR_LIMIT);
	free(text);
}

static void
formats_nothing_that_it_would_not_parse(void **state)
{
	struct wire_packet *packet = wire_packet_new(WIRE_CLOSE);
	char *text = NULL, *large;
	size_t len;

	(void)state;
	packet->close.code = 1000;
	assert_int_equal(wire_format(packet, &text, &len), ERR_PROTO);
	packet->close.reason = xstrdup("\xff");
	assert_int_equal(wire_format(packet, &text, &len), ERR_PROTO);
	packet->close.reason[0] = 'x';
	packet->close.code = 1006;
	assert_int_equal(wire_format(packet, &text, &len), ERR_PROTO);
	wire_packet_free(packet);

	packet = wire_packet_new(WIRE_REPLY);
	large = xcalloc(1, WIRE_MAX_BYTES + 1);
	memset(large, 'x', WIRE_MAX_BYTES);
	packet->reply = json_string(large);
	assert_int_equal(wire_format(packet, &text, &len), ERR_LIMIT);
	assert_null(text);
	free(large);
	wire_packet_free(packet);
}

static void
knows_the_codes_of_close_frames(void **state)
{
	static const int good[] = { 1000, 1001, 1002, 1003, 1007, 1008, 1009,
		1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999 };
	static const int bad[] = { 0, 1, 999, 1004, 1005, 1006, 1015, 1016,
		1100, 2000, 2999, 5000, 65535 };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(wire_is_close_code(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(wire_is_close_code(bad[i]));
}

static void
takes_only_headers_that_can_be_sent(void **state)
{
	struct wire_packet *packet = wire_packet_new(WIRE_DENY);
	struct wire_headers *headers = &packet->deny.headers;

	(void)state;
	assert_int_equal(wire_headers_add(headers, "a b", "x"), ERR_PROTO);
	assert_int_equal(wire_headers_add(headers, "a", "x\ny"), ERR_PROTO);
	assert_int_equal(wire_headers_add(headers, "a", "\xe9"), ERR_PROTO);
	assert_int_equal(headers->count, 0);
	assert_int_equal(wire_headers_add(headers, "A", " \tx y\t "), ERR_OK);
	assert_string_equal(wire_headers_find(headers, "a"), "x y");
	assert_false(headers->items[0].secret);
	for (int i = 1; i < WIRE_HEADERS_MAX; i++)
		assert_int_equal(wire_headers_add(headers, "a", ""), ERR_OK);
	assert_int_equal(wire_headers_add(headers, "a", ""), ERR_LIMIT);
	wire_packet_free(packet);
	wire_packet_free(NULL);
}

#define KEY_BYTES 64

/* Whether the heap holds most of a key, in memory that is in use or not. */
static bool
heap_holds(const char *key)
{
	static char heap[1 << 20];
	unsigned long from = 0, to = 0;
	char line[512];
	ssize_t n;
	int fd;
	FILE *maps = fopen("/proc/self/maps", "r");

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		if (strstr(line, "[heap]") != NULL)
			assert_int_equal(sscanf(line, "%lx-%lx", &from, &to),
			    2);
	(void)fclose(maps);
	assert_true(to - from <= sizeof(heap));
	fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	assert_int_not_equal(fd, -1);
	n = pread(fd, heap, to - from, (off_t)from);
	(void)close(fd);
	assert_int_equal(n, to - from);
	/* its first bytes may be gone with what malloc writes there */
	return memmem(heap, (size_t)n, key + KEY_BYTES / 2, KEY_BYTES / 2) !=
	    NULL;
}

static void
leaves_no_key_in_memory(void **state)
{
	char key[KEY_BYTES + 1] = "", grant[2048];
	struct wire_packet *packet;
	char *text;
	size_t len;

	(void)state;
	for (int i = 0; i < KEY_BYTES; i++)
		key[i] = (char)('a' + i % 7 * 3);
	(void)snprintf(grant, sizeof(grant),
	    GRANT_(UPSTREAM_("[\"::1\"]", "443", "[[\"A\",\"%s\"]]")), key);
	assert_int_equal(wire_parse(grant, strlen(grant), &packet, NULL),
	    ERR_OK);
	assert_int_equal(wire_format(packet, &text, &len), ERR_OK);
	wire_text_free(text, len);
	wire_packet_free(packet);
	assert_false(heap_holds(key));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_every_packet_as_it_was),
		cmocka_unit_test(reads_every_member_of_a_grant),
		cmocka_unit_test(refuses_malformed_packets),
		cmocka_unit_test(leaves_out_what_is_not_there),
		cmocka_unit_test(reads_a_grant_without_messages),
		cmocka_unit_test(names_the_member_that_is_wrong),
		cmocka_unit_test(ignores_members_it_does_not_know),
		cmocka_unit_test(refuses_a_datagram_over_its_size),
		cmocka_unit_test(formats_nothing_that_it_would_not_parse),
		cmocka_unit_test(knows_the_codes_of_close_frames),
		cmocka_unit_test(takes_only_headers_that_can_be_sent),
		cmocka_unit_test(leaves_no_key_in_memory),
	};

	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
