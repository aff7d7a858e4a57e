/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/anam_session.h"
#include "common/json.h"

#define S(text) ((char[]){ text })

#define ID "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"

static char *hosts[] = { S("*.anam.ai"), S("127.0.0.1") };
static const struct config_anam anam = { .hosts = { hosts, 2 } };
static const struct config_anam lax = { .hosts = { hosts, 2 },
	.allow_http = true };
static const struct anam_front front = { .protocol = "https",
	.host = "chat.example:8443",
	.base_path = "" };
static const struct anam_front gateway = { .protocol = "https",
	.base_path = "",
	.gateway = true };

static json_t *
session(const char *protocol, const char *host, const char *endpoint)
{
	return json_pack("{s:s, s:n, s:s, s:s, s:s, s:s, s:{s:[]}}",
	    "sessionId", ID, "region", "engineHost", host, "engineProtocol",
	    protocol, "signallingEndpoint", endpoint, "sessionToken",
	    "the vendor's", "clientConfig", "iceServers");
}

#define ENGINE "/v1/webrtc/engines/anam-engine-1"

static void
finds_the_engines_addresses(void **state)
{
	static const struct {
		const char *protocol, *host, *endpoint;
		const char *name, *authority, *path, *talk;
		unsigned port;
		bool tls;
	} cases[] = {
		{ "https", "connect-eu.anam.ai" ENGINE, ENGINE "/ws",
		    "connect-eu.anam.ai", "connect-eu.anam.ai", ENGINE "/ws",
		    "https://connect-eu.anam.ai" ENGINE "/talk", 443, true },
		{ "https", "engine-0.engine.anam.ai", "/ws",
		    "engine-0.engine.anam.ai", "engine-0.engine.anam.ai", "/ws",
		    "https://engine-0.engine.anam.ai/talk", 443, true },
		{ "https", "Engine.Anam.AI:8443/e/", "/ws", "Engine.Anam.AI",
		    "Engine.Anam.AI:8443", "/ws",
		    "https://Engine.Anam.AI:8443/e/talk", 8443, true },
		{ "http", "127.0.0.1:9000/e", "/e/ws", "127.0.0.1",
		    "127.0.0.1:9000", "/e/ws", "http://127.0.0.1:9000/e/talk",
		    9000, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *answer = session(cases[i].protocol, cases[i].host,
		    cases[i].endpoint);
		struct anam_engine engine;

		assert_int_equal(anam_session_check(&lax, answer, &engine,
				     NULL),
		    ERR_OK);
		assert_string_equal(engine.signalling.host, cases[i].name);
		assert_string_equal(engine.signalling.authority,
		    cases[i].authority);
		assert_string_equal(engine.signalling.path, cases[i].path);
		assert_int_equal(engine.signalling.port, cases[i].port);
		assert_int_equal(engine.signalling.tls, cases[i].tls);
		assert_string_equal(engine.talk, cases[i].talk);
		anam_engine_done(&engine);
		json_decref(answer);
	}
}

static void
refuses_engines_elsewhere_or_malformed(void **state)
{
	static const struct {
		const char *protocol, *host, *endpoint;
	} cases[] = {
		{ "https", "169.254.169.254", "/ws" },
		{ "https", "169.254.169.254/latest/meta-data", "/ws" },
		{ "https", "10.0.0.1:8080/e", "/ws" },
		{ "https", "localhost", "/ws" },
		{ "https", "anam.ai", "/ws" },
		{ "https", "evilanam.ai", "/ws" },
		{ "https", "x.anam.ai.evil.example", "/ws" },
		{ "https", "evil.example/x.anam.ai", "/ws" },
		{ "https", "evil.example:443/.anam.ai", "/ws" },
		{ "https", "x.anam.ai@evil.example", "/ws" },
		{ "https", "evil.example@x.anam.ai", "/ws" },
		{ "https", "evil.example#.anam.ai", "/ws" },
		{ "https", "evil.example?.anam.ai", "/ws" },
		{ "https", "evil.example\\.anam.ai", "/ws" },
		{ "https", "evil.example%2f.anam.ai", "/ws" },
		{ "https", "evil.example\r\n.anam.ai", "/ws" },
		{ "https", "[::1]", "/ws" },
		{ "https", "2852039166", "/ws" },
		{ "https", "x.anam.ai:0", "/ws" },
		{ "https", "x.anam.ai:65536", "/ws" },
		{ "https", "x.anam.ai:", "/ws/../x" },
		{ "https", "", "/ws" },
		{ "https", "/ws", "/ws" },
		{ "https", "x.anam.ai", "" },
		{ "https", "x.anam.ai", "ws" },
		{ "https", "x.anam.ai", "@evil.example/ws" },
		{ "https", "x.anam.ai", ".evil.example/ws" },
		{ "https", "x.anam.ai", ":80/ws" },
		{ "https", "x.anam.ai", "//evil.example/ws" },
		{ "https", "x.anam.ai", "/ws?a=b" },
		{ "https", "x.anam.ai", "/ws#a" },
		{ "https", "x.anam.ai", "/a/../ws" },
		{ "https", "x.anam.ai", "/ws%0d%0aX: y" },
		{ "https", "x.anam.ai/a/../b", "/ws" },
		{ "https", "x.anam.ai/a?b", "/ws" },
		{ "http", "x.anam.ai", "/ws" },
		{ "ftp", "x.anam.ai", "/ws" },
		{ "", "x.anam.ai", "/ws" },
		{ "https://evil.example/", "x.anam.ai", "/ws" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *answer = session(cases[i].protocol, cases[i].host,
		    cases[i].endpoint);
		struct anam_engine engine;
		struct diag diag = { "" };

		if (anam_session_check(&anam, answer, &engine, &diag) !=
			ERR_UPSTREAM ||
		    diag.text[0] == '\0')
			fail_msg("%s %s %s", cases[i].protocol, cases[i].host,
			    cases[i].endpoint);
		json_decref(answer);
	}
}

static void
refuses_an_answer_without_its_parts(void **state)
{
	static const char *const names[] = { "sessionId", "engineHost",
		"engineProtocol", "signallingEndpoint", "clientConfig" };
	struct anam_engine engine;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (int kind = 0; kind < 3; kind++) {
			json_t *answer = session("https", "x.anam.ai", "/ws");

			if (kind == 0)
				(void)json_object_del(answer, names[i]);
			else
				(void)json_object_set_new(answer, names[i],
				    kind == 1 ? json_integer(1) : json_null());
			assert_int_equal(anam_session_check(&anam, answer,
					     &engine, NULL),
			    ERR_UPSTREAM);
			json_decref(answer);
		}
	assert_int_equal(anam_session_check(&anam, NULL, &engine, NULL),
	    ERR_UPSTREAM);
}

static void
takes_ids_that_can_stand_anywhere(void **state)
{
	static const char *const bad[] = { "", "short", "../../../etc",
		"a/b/c/d/e", "aaaaaaaa?b", "aaaa aaaa", "aaaaaaaa%2f",
		"aaaaaaaa\n", "........", "aaaaaaaa&x=y" };
	char hash[ANAM_HASH_BYTES], text[200];

	(void)state;
	assert_true(anam_session_is_id(ID));
	assert_true(anam_session_is_id("A_b-12345"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(anam_session_is_id(bad[i]));
	memset(text, 'a', 129);
	text[129] = '\0';
	assert_false(anam_session_is_id(text));
	text[128] = '\0';
	assert_true(anam_session_is_id(text));
	anam_session_hash("abc", hash);
	assert_string_equal(hash, "a9993e364706816a");
}

static const char *
text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	assert_non_null(text);
	return text;
}

static void
tells_a_client_our_address(void **state)
{
	json_t *vendor =
	    session("https", "connect-eu.anam.ai" ENGINE, ENGINE "/ws");
	json_t *record = anam_session_record(vendor, &front), *answer;
	char *text;
	size_t len;

	(void)state;
	(void)json_object_set_new(vendor, "more", json_integer(7));
	answer = anam_session_answer(record, NULL);
	assert_string_equal(text_of(answer, "engineHost"),
	    "chat.example:8443/b/" ID);
	assert_string_equal(text_of(answer, "engineProtocol"), "https");
	assert_string_equal(text_of(answer, "signallingEndpoint"),
	    "/b/" ID "/ws");
	assert_null(json_object_get(answer, "sessionToken"));
	assert_true(json_is_null(json_object_get(answer, "region")));
	assert_true(json_equal(json_object_get(answer, "clientConfig"),
	    json_object_get(vendor, "clientConfig")));
	text = json_text(answer, &len);
	assert_null(strstr(text, "anam.ai"));
	assert_null(strstr(text, "vendor"));
	assert_null(strstr(text, "culvert"));
	free(text);
	json_decref(answer);
	answer = anam_session_answer(record, "ours");
	assert_string_equal(text_of(answer, "sessionToken"), "ours");
	json_decref(answer);
	json_decref(record);
	json_decref(vendor);
}

static void
tells_a_gateways_client_a_host_that_does_not_exist(void **state)
{
	json_t *vendor = session("https", "x.anam.ai", "/ws");
	json_t *record = anam_session_record(vendor, &gateway), *answer;

	(void)state;
	answer = anam_session_answer(record, NULL);
	assert_string_equal(text_of(answer, "engineHost"), "engine.invalid");
	assert_string_equal(text_of(answer, "signallingEndpoint"), "/ws");
	json_decref(answer);
	json_decref(record);
	json_decref(vendor);
}

static void
knows_what_a_client_may_send_back(void **state)
{
	static const struct {
		const char *url;
		bool gateway, is;
	} urls[] = {
		{ "wss://engine.invalid/ws?session_id=" ID, true, true },
		{ "https://engine.invalid/talk?session_id=" ID, true, true },
		{ "wss://engine.invalid/ws?session_id=" ID, false, false },
		{ "wss://chat.example:8443/b/" ID "/ws?session_id=" ID, false,
		    true },
		{ "https://chat.example:8443/b/" ID "/talk?session_id=" ID,
		    false, true },
		{ "wss://connect-eu.anam.ai" ENGINE "/ws?session_id=" ID, true,
		    true },
		{ "https://connect-eu.anam.ai" ENGINE "/talk?session_id=" ID,
		    true, true },
		{ "wss://connect-eu.anam.ai/ws?session_id=" ID, true, false },
		{ "wss://169.254.169.254/ws?session_id=" ID, true, false },
		{ "wss://engine.invalid@169.254.169.254/ws?session_id=" ID,
		    true, false },
		{ "wss://engine.invalid:80/ws?session_id=" ID, true, false },
		{ "wss://engine.invalid/ws?session_id=" ID "x", true, false },
		{ "wss://engine.invalid/ws?session_id=" ID "&a=b", true,
		    false },
		{ "wss://engine.invalid/ws?a=b", true, false },
		{ "wss://engine.invalid/ws", true, false },
		{ "wss://engine.invalid/ws#?session_id=" ID, true, false },
		{ "file://engine.invalid/ws?session_id=" ID, true, false },
		{ "engine.invalid/ws?session_id=" ID, true, false },
		{ "//engine.invalid/ws?session_id=" ID, true, false },
		{ "", true, false },
	};
	json_t *vendor =
	    session("https", "connect-eu.anam.ai" ENGINE, ENGINE "/ws");
	json_t *records[2] = { anam_session_record(vendor, &front),
		anam_session_record(vendor, &gateway) };

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
		if (anam_session_has_url(records[urls[i].gateway],
			urls[i].url) != urls[i].is)
			fail_msg("%s", urls[i].url);
	assert_true(
	    anam_session_has_host(records[0], "connect-eu.anam.ai" ENGINE));
	assert_true(
	    anam_session_has_host(records[0], "chat.example:8443/b/" ID));
	assert_true(anam_session_has_host(records[1], "engine.invalid"));
	assert_false(anam_session_has_host(records[0], "connect-eu.anam.ai"));
	assert_false(anam_session_has_host(records[0], "engine.invalid"));
	assert_false(anam_session_has_host(records[0], ""));
	assert_true(anam_session_has_endpoint(records[0], ENGINE "/ws"));
	assert_true(anam_session_has_endpoint(records[0], "/b/" ID "/ws"));
	assert_false(anam_session_has_endpoint(records[0], "/ws"));
	assert_false(anam_session_has_endpoint(records[0], ""));
	for (size_t i = 0; i < 2; i++)
		json_decref(records[i]);
	json_decref(vendor);
}

static void
finds_the_id_in_a_path_or_url(void **state)
{
	static const char *const bad[] = { "", "x", "wss://h/ws",
		"wss://h/ws?session_id=", "wss://h/ws?session_id=../../etc/x",
		("wss://h/ws?session_id=" ID "&session_id=" ID),
		("wss://h/ws?session_id=" ID "#x"),
		("gopher://h/?session_id=" ID) };
	char *id = anam_session_id_in("wss://h/ws?session_id=" ID);

	(void)state;
	assert_string_equal(id, ID);
	free(id);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_null(anam_session_id_in(bad[i]));
	id = anam_session_id_in_path("/b/" ID "/ws", "/ws");
	assert_string_equal(id, ID);
	free(id);
	assert_null(anam_session_id_in_path("/b/" ID "/ws/x", "/ws"));
	assert_null(anam_session_id_in_path("/b/" ID, "/ws"));
	assert_null(anam_session_id_in_path("/c/" ID "/ws", "/ws"));
}

static void
asks_for_no_more_than_a_client_may_say(void **state)
{
	static const struct {
		const char *body, *request;
	} cases[] = {
		{ "{}", "{}" },
		{ "{\"personaId\":\"x\",\"personaConfig\":{\"name\":\"y\"}}",
		    "{}" },
		{ "{\"clientMetadata\":{\"client\":\"js-sdk\","
		  "\"version\":\"4.27.0\",\"x\":1}}",
		    "{\"clientMetadata\":{\"client\":\"js-sdk\","
		    "\"version\":\"4.27.0\"}}" },
		{ "{\"clientMetadata\":\"x\",\"sessionOptions\":[]}", "{}" },
		{ "{\"sessionOptions\":{\"voiceDetection\":"
		  "{\"endOfSpeechSensitivity\":0.5,\"x\":1},\"y\":2}}",
		    "{\"sessionOptions\":{\"voiceDetection\":"
		    "{\"endOfSpeechSensitivity\":0.5}}}" },
		{ "{\"sessionOptions\":{\"voiceDetection\":"
		  "{\"endOfSpeechSensitivity\":2}}}",
		    "{}" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *body, *request;
		char *text;
		size_t len;

		assert_int_equal(json_parse(cases[i].body,
				     strlen(cases[i].body), &body, NULL),
		    ERR_OK);
		request = anam_session_request(body);
		text = json_text(request, &len);
		assert_string_equal(text, cases[i].request);
		free(text);
		json_decref(request);
		json_decref(body);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_engines_addresses),
		cmocka_unit_test(refuses_engines_elsewhere_or_malformed),
		cmocka_unit_test(refuses_an_answer_without_its_parts),
		cmocka_unit_test(takes_ids_that_can_stand_anywhere),
		cmocka_unit_test(tells_a_client_our_address),
		cmocka_unit_test(
		    tells_a_gateways_client_a_host_that_does_not_exist),
		cmocka_unit_test(knows_what_a_client_may_send_back),
		cmocka_unit_test(finds_the_id_in_a_path_or_url),
		cmocka_unit_test(asks_for_no_more_than_a_client_may_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
