/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/secret.h"
#include "common/xalloc.h"
#include "tests/sim/anam.h"
#include "tests/sim/anam_api.h"
#include "tests/sim/ephemeral.h"
#include "tests/sim/multipart.h"
#include "tests/sim/sdp.h"

#define NOW 1700000000

static const char offer[] = "v=0\r\n"
			    "o=- 4611733 2 IN IP4 127.0.0.1\r\n"
			    "s=-\r\n"
			    "t=0 0\r\n"
			    "a=group:BUNDLE 0 1\r\n"
			    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
			    "a=ice-ufrag:mine\r\n"
			    "a=ice-pwd:minemineminemineminemine\r\n"
			    "a=fingerprint:sha-256 AA:BB\r\n"
			    "a=setup:actpass\r\n"
			    "a=recvonly\r\n"
			    "a=rtpmap:96 VP8/90000\r\n"
			    "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n"
			    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
			    "a=sendrecv\r\n"
			    "a=msid:s t\r\n"
			    "a=ssrc:1 cname:x\r\n";

/* ---- the vendor ---- */

struct vendor_of_test {
	struct secret *key;
	struct script *script;
	struct anam_api *api;
};

static int
begin(void **state)
{
	struct vendor_of_test *v = xcalloc(1, sizeof(*v));

	v->key = secret_new("right", 5, "test");
	v->script = script_new();
	v->api = anam_api_new(v->key, v->script);
	*state = v;
	return 0;
}

static int
end(void **state)
{
	struct vendor_of_test *v = *state;

	anam_api_free(v->api);
	script_free(v->script);
	secret_free(v->key);
	free(v);
	return 0;
}

static struct request *
make_request(const char *target, const char *key)
{
	char *head = xasprintf("POST %s HTTP/1.1\r\nHost: sim:80\r\n"
			       "Authorization: Bearer %s\r\n\r\n",
	    target, key);
	struct request *r = NULL;

	assert_int_equal(request_parse(head, strlen(head), &r), ERR_OK);
	free(head);
	return r;
}

/* The status; *ret_body, if wanted, is decref'd by the caller. */
static int
post_at(struct vendor_of_test *v, const char *target, const char *key,
    const char *body, int64_t now, json_t **ret_body)
{
	struct request *r = make_request(target, key);
	struct reply *reply =
	    anam_api_answer(v->api, r, body, strlen(body), false, now);
	int status;

	assert_non_null(reply);
	status = reply->status;
	if (ret_body != NULL)
		assert_int_equal(json_parse(reply->text, reply->len, ret_body,
				     NULL),
		    ERR_OK);
	reply_free(reply);
	request_free(r);
	return status;
}

static int
post(struct vendor_of_test *v, const char *target, const char *key,
    const char *body)
{
	return post_at(v, target, key, body, NOW, NULL);
}

static char *
text_of(json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	assert_non_null(text);
	return xstrdup(text);
}

static char *
get_token(struct vendor_of_test *v, const char *persona)
{
	json_t *answer = NULL;
	char *body =
	    xasprintf("{\"personaConfig\":{\"personaId\":\"%s\"}}", persona);
	char *token;

	assert_int_equal(post_at(v, "/v1/auth/session-token", "right", body,
			     NOW, &answer),
	    200);
	token = text_of(answer, "sessionToken");
	json_decref(answer);
	free(body);
	return token;
}

static json_t *
get_session(struct vendor_of_test *v, const char *persona)
{
	char *token = get_token(v, persona);
	json_t *session = NULL;

	assert_int_equal(post_at(v, "/v1/engine/session", token, "{}", NOW,
			     &session),
	    201);
	free(token);
	return session;
}

static void
gives_a_token_for_the_key_and_a_persona(void **state)
{
	static const struct {
		const char *key, *body;
		int status;
	} cases[] = {
		{ "wrong", "{\"personaConfig\":{\"personaId\":\"p\"}}", 401 },
		{ "righ", "{\"personaConfig\":{\"personaId\":\"p\"}}", 401 },
		{ "right", "{\"personaConfig\":{\"personaId\":\"p\"}}", 200 },
		{ "right",
		    "{\"personaConfig\":{\"name\":\"n\",\"avatarId\":\"a\","
		    "\"voiceId\":\"v\"}}",
		    200 },
		{ "right", "{\"personaConfig\":{\"name\":\"n\"}}", 400 },
		{ "right", "{\"personaConfig\":{\"personaId\":\"\"}}", 400 },
		{ "right", "{\"personaConfig\":{\"personaId\":1}}", 400 },
		{ "right", "{\"personaConfig\":\"p\"}", 400 },
		{ "right", "{}", 400 },
		{ "right", "", 400 },
		{ "right", "{", 400 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(post(*state, "/v1/auth/session-token",
				     cases[i].key, cases[i].body),
		    cases[i].status);
}

static void
takes_a_token_once_and_in_time(void **state)
{
	char *token = get_token(*state, "p"), *late = get_token(*state, "p");

	assert_int_equal(post(*state, "/v1/engine/session", "no", "{}"), 401);
	assert_int_equal(post(*state, "/v1/engine/session", token, "{}"), 201);
	assert_int_equal(post(*state, "/v1/engine/session", token, "{}"), 401);
	assert_int_equal(post_at(*state, "/v1/engine/session", late, "{}",
			     NOW + 3600, NULL),
	    401);
	free(token);
	free(late);
}

static int
check(struct vendor_of_test *v, const char *path, const char *id)
{
	char *target = xasprintf("%s?session_id=%s", path, id);
	struct request *r = make_request(target, "none");
	int status = anam_api_check(v->api, r);

	assert_true(anam_api_is_signalling(r));
	request_free(r);
	free(target);
	return status;
}

static void
knows_engines_and_their_sessions(void **state)
{
	json_t *one = get_session(*state, "p"), *two = get_session(*state, "p");
	char *path = text_of(one, "signallingEndpoint");
	char *host = text_of(one, "engineHost");
	char *id = text_of(one, "sessionId"),
	     *other = text_of(two, "sessionId");
	char *talk = xasprintf("%s/talk?session_id=%s", strchr(host, '/'), id);

	assert_memory_equal(host, "sim:80/v1/webrtc/engines/", 25);
	assert_int_equal(check(*state, path, id), 0);
	assert_int_equal(check(*state, path, other), 403);
	assert_int_equal(check(*state, path, "none"), 403);
	assert_int_equal(check(*state, "/v1/webrtc/engines/x/ws", id), 404);
	assert_int_equal(check(*state, "/ws", id), 404);
	assert_int_equal(post(*state, talk, "-", "{\"content\":\"x\"}"), 200);
	assert_int_equal(post(*state, talk, "-", "{\"content\":1}"), 400);
	assert_int_equal(post(*state, "/talk", "-", "{\"content\":\"x\"}"),
	    404);
	free(talk);
	free(other);
	free(id);
	free(host);
	free(path);
	json_decref(one);
	json_decref(two);
}

static void
has_the_older_form_of_a_host(void **state)
{
	json_t *session = get_session(*state, "sim-plain");
	char *id = text_of(session, "sessionId");
	char *host = text_of(session, "engineHost");

	assert_string_equal(host, "sim:80");
	assert_int_equal(check(*state, "/ws", id), 0);
	free(host);
	free(id);
	json_decref(session);
}

/* ---- the script ---- */

static void
add(struct vendor_of_test *v, const char *text, enum err expected)
{
	json_t *entry = NULL;

	assert_int_equal(json_parse(text, strlen(text), &entry, NULL), ERR_OK);
	assert_int_equal(script_add(v->script, VENDOR_ANAM, entry, NULL),
	    expected);
	json_decref(entry);
}

static void
answers_as_the_script_says(void **state)
{
	static const char *const path = "/v1/auth/session-token";
	json_t *session;
	char *host, *query;

	add(*state, "{\"mode\":\"503\",\"count\":2,\"path\":\"/v1/auth/*\"}",
	    ERR_OK);
	add(*state, "{\"status\":418,\"body\":{\"a\":1}}", ERR_OK);
	assert_int_equal(post(*state, path, "right", "{}"), 503);
	assert_int_equal(post(*state, "/v1/metrics/client", "-", "{}"), 418);
	assert_int_equal(post(*state, path, "right", "{}"), 503);
	assert_int_equal(post(*state, path, "right", "{}"), 400);
	add(*state,
	    "{\"mode\":\"fields\",\"path\":\"/v1/engine/*\","
	    "\"fields\":{\"engineHost\":\"evil\",\"region\":null}}",
	    ERR_OK);
	session = get_session(*state, "p");
	host = text_of(session, "engineHost");
	assert_string_equal(host, "evil");
	assert_null(json_object_get(session, "region"));
	free(host);
	json_decref(session);
	add(*state, "{\"mode\":\"signalling\",\"query\":\"sim=close\"}",
	    ERR_OK);
	assert_int_equal(post(*state, path, "wrong", "{}"), 401);
	query =
	    script_take_query(((struct vendor_of_test *)*state)->script, "/ws");
	assert_string_equal(query, "sim=close");
	free(query);
	assert_null(script_take_query(((struct vendor_of_test *)*state)->script,
	    "/ws"));
}

static void
refuses_a_script_that_is_none(void **state)
{
	static const char *const bad[] = { "[]", "{\"mode\":\"no-such\"}",
		"{\"mode\":1}", "{\"count\":0}", "{\"ms\":-1}",
		"{\"status\":99}", "{\"path\":1}" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		add(*state, bad[i], ERR_PROTO);
	for (size_t i = 0; i < SCRIPT_MAX; i++)
		add(*state, "{\"mode\":\"drop\"}", ERR_OK);
	add(*state, "{\"mode\":\"drop\"}", ERR_LIMIT);
}

static void
lets_a_persona_choose_the_answer(void **state)
{
	char *token = get_token(*state, "sim-429-spend");
	json_t *answer = NULL;
	char *error;

	assert_int_equal(post_at(*state, "/v1/engine/session", token, "{}", NOW,
			     &answer),
	    429);
	error = text_of(answer, "error");
	assert_string_equal(error, "Spend cap reached");
	free(error);
	json_decref(answer);
	free(token);
	assert_int_equal(post(*state, "/v1/auth/session-token", "right",
			     "{\"personaConfig\":"
			     "{\"personaId\":\"sim-token-402\"}}"),
	    402);
}

/* ---- an engine ---- */

static void
expect(struct anam *a, const char *action)
{
	json_t *frame = anam_next(a);

	if (action == NULL) {
		assert_null(frame);
		return;
	}
	assert_string_equal(json_string_value(
				json_object_get(frame, "actionType")),
	    action);
	assert_string_equal(json_string_value(
				json_object_get(frame, "sessionId")),
	    "id");
	json_decref(frame);
}

static void
answers_an_offer(void **state)
{
	struct anam *a = anam_new("id");
	json_t *frame = json_pack("{s:s, s:s, s:{s:{s:s, s:s}, s:s}}",
	    "actionType", "offer", "sessionId", "other", "payload",
	    "connectionDescription", "type", "offer", "sdp", offer, "userUid",
	    "other");
	size_t len = 0;
	char *text = json_text(frame, &len);

	(void)state;
	anam_receive(a, text, len);
	expect(a, "sessionready");
	expect(a, "answer");
	expect(a, NULL);
	anam_say(a, "heartbeat", json_string(""));
	expect(a, "heartbeat");
	anam_receive(a, "{\"actionType\":\"icecandidate\"}", 29);
	expect(a, NULL);
	free(text);
	json_decref(frame);
	anam_free(a);
}

static void
warns_of_what_is_no_frame(void **state)
{
	static const char *const bad[] = { "", "x", "[]", "{}",
		"{\"actionType\":1}", "{\"actionType\":\"offer\"}",
		"{\"actionType\":\"offer\",\"payload\":"
		"{\"connectionDescription\":{\"type\":\"offer\","
		"\"sdp\":\"v=1\"}}}" };
	struct anam *a = anam_new("id");

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		anam_receive(a, bad[i], strlen(bad[i]));
		expect(a, "warning");
		expect(a, NULL);
	}
	anam_free(a);
}

/* ---- its parts ---- */

static void
turns_an_offer_into_an_answer(void **state)
{
	static const char *const kept[] = { "v=0\r\n", "a=group:BUNDLE 0 1\r\n",
		"a=setup:active\r\n", "a=sendonly\r\n", "a=sendrecv\r\n",
		"a=rtpmap:96 VP8/90000\r\n", "a=fingerprint:sha-256 " };
	static const char *const gone[] = { "candidate", "ssrc", "msid", "mine",
		"AA:BB", "recvonly", "actpass" };
	char *answer = sdp_answer(offer, sizeof(offer) - 1);

	(void)state;
	assert_non_null(answer);
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		assert_non_null(strstr(answer, kept[i]));
	for (size_t i = 0; i < sizeof(gone) / sizeof(*gone); i++)
		assert_null(strstr(answer, gone[i]));
	free(answer);
	assert_null(sdp_answer("", 0));
	assert_null(sdp_answer("v=0\r\n", 5));
	assert_null(sdp_answer(offer, 90));
}

static void
finds_the_parts_of_a_form(void **state)
{
	static const char type[] = "multipart/form-data; boundary=\"b\"";
	static const char form[] =
	    "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\n"
	    "v=0\r\n--c\r\n--b\r\nContent-Disposition: form-data; "
	    "name=\"session\"\r\nContent-Type: application/json\r\n\r\n{}"
	    "\r\n--b--\r\n";
	size_t len = 0;
	const char *part =
	    multipart_find(type, form, sizeof(form) - 1, "sdp", &len);

	(void)state;
	assert_int_equal(len, 8);
	assert_memory_equal(part, "v=0\r\n--c", len);
	part = multipart_find(type, form, sizeof(form) - 1, "session", &len);
	assert_int_equal(len, 2);
	assert_memory_equal(part, "{}", len);
	for (size_t cut = 0; cut < sizeof(form) - 1; cut++) {
		char *copy = xcalloc(cut + 1, 1);

		memcpy(copy, form, cut);
		part = multipart_find(type, copy, cut, "session", &len);
		assert_true(part == NULL || cut >= sizeof(form) - 1 - 4);
		free(copy);
	}
	assert_null(multipart_find("multipart/form-data", form,
	    sizeof(form) - 1, "sdp", &len));
	assert_null(multipart_find(type, form, sizeof(form) - 1, "none", &len));
}

static void
knows_its_own_short_lived_keys(void **state)
{
	struct ephemeral *ours = ephemeral_new(), *theirs = ephemeral_new();
	char *key = ephemeral_issue(ours, NOW + 10);
	size_t len = strlen(key);

	(void)state;
	assert_memory_equal(key, "ek_", 3);
	assert_true(ephemeral_is_good(ours, key, len, NOW));
	assert_false(ephemeral_is_good(ours, key, len, NOW + 10));
	assert_false(ephemeral_is_good(theirs, key, len, NOW));
	assert_false(ephemeral_is_good(ours, key + 3, len - 3, NOW));
	assert_false(ephemeral_is_good(ours, key, len - 1, NOW));
	assert_false(ephemeral_is_good(ours, key, 3, NOW));
	free(key);
	ephemeral_free(ours);
	ephemeral_free(theirs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    gives_a_token_for_the_key_and_a_persona, begin, end),
		cmocka_unit_test_setup_teardown(takes_a_token_once_and_in_time,
		    begin, end),
		cmocka_unit_test_setup_teardown(
		    knows_engines_and_their_sessions, begin, end),
		cmocka_unit_test_setup_teardown(has_the_older_form_of_a_host,
		    begin, end),
		cmocka_unit_test_setup_teardown(answers_as_the_script_says,
		    begin, end),
		cmocka_unit_test_setup_teardown(refuses_a_script_that_is_none,
		    begin, end),
		cmocka_unit_test_setup_teardown(
		    lets_a_persona_choose_the_answer, begin, end),
		cmocka_unit_test(answers_an_offer),
		cmocka_unit_test(warns_of_what_is_no_frame),
		cmocka_unit_test(turns_an_offer_into_an_answer),
		cmocka_unit_test(finds_the_parts_of_a_form),
		cmocka_unit_test(knows_its_own_short_lived_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
