/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/tickets/ticket.h"
#include "common/clock.h"
#include "common/xalloc.h"
#include "config_text.h"
#include "ticket_store.h"
#include "tunnel_ask.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SP	 "Sec-WebSocket-Protocol: "

/* What is written is only read. */
#define TEXT(s) ((char *)(uintptr_t)(s))

static const char settings[] =
    "access { missing_origin = true }\n"
    "openai { api_key = \"env:T_KEY\" url = \"ws://192.0.2.1/v1/realtime\"\n"
    "client_secrets = true alias \"old\" { model = \"gpt-realtime\" } }\n"
    "relay \"/must\" { inherit = openai require_ticket = true }\n"
    "relay \"/pinned\" { inherit = openai session { voice = marin\n"
    "instructions = \"Be kind.\" } }\n"
    "relay \"/one\" { inherit = openai session { model = gpt-realtime-mini\n"
    "pinned = false } }\n"
    "relay \"/beta\" { inherit = openai dialect = beta }\n"
    "relay \"/text\" { inherit = openai messages = text session {\n"
    "instructions = x } message_log = full message_log_file = \"/l\" }\n"
    "relay \"/named\" { inherit = openai upstream = \"ws://named.example/\" }\n"
    "relay \"/other\" { upstream = \"ws://192.0.2.1/\"\n"
    "query \"ticket\" { } }\n";

static struct tunnel_route_context context;
static struct config *config;

static int
setup(void **state)
{
	(void)state;
	if (setenv("T_KEY", "sk-1", 1) != 0 || ticket_store_open() != 0)
		return -1;
	config = config_text(settings);
	context.config = config;
	context.leases = leases_new();
	return resolver_new(NULL, 60000, &context.resolver, NULL) == ERR_OK
	    ? 0
	    : -1;
}

static int
teardown(void **state)
{
	(void)state;
	resolver_free(context.resolver);
	leases_free(context.leases);
	config_unref(config);
	return ticket_store_close();
}

/* Ask for a target with a header, "Name: value", or none. */
static struct tunnel_answer
ask(const char *target, const char *line)
{
	const char *const lines[] = { "X-Forwarded-For: 127.0.0.1", line,
		NULL };

	return tunnel_ask(&context, "GET", target, lines);
}

/* The caller frees it. */
static char *
make_of(const char *route, const char *model, const char *session, bool once)
{
	int64_t now = clock_unix();
	const struct store_ticket in = {
		.once = once,
		.route = TEXT(route),
		.user = TEXT("ann"),
		.model = TEXT(model),
		.session =
		    session == NULL ? NULL : json_loads(session, 0, NULL),
		.created = now,
		.expires = now + 60,
	};
	char id[TICKET_ID_BYTES + 1], *text;

	assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
	json_decref(in.session);
	return text;
}

static char *
make(const char *route, const char *model, const char *session)
{
	return make_of(route, model, session, false);
}

static char *
make_once(const char *route)
{
	return make_of(route, NULL, NULL, true);
}

/* Ask with "FORMAT" of a ticket in a header. */
static struct tunnel_answer
ask_with(const char *target, const char *before, const char *ticket,
    const char *after)
{
	char *line = xasprintf("%s%s%s", before, ticket, after);
	struct tunnel_answer answer = ask(target, line);

	free(line);
	return answer;
}

static void
assert_json(const json_t *json, const char *wanted)
{
	json_t *parsed = json_loads(wanted, 0, NULL);

	if (!json_equal(json, parsed))
		fail_msg("%s, not %s", json_dumps(json, 0), wanted);
	json_decref(parsed);
}

/* ---- where it may be ---- */

static void
takes_a_ticket_from_every_place(void **state)
{
	char *ticket = make("/must", NULL, NULL);
	char *target =
	    xasprintf("/must?ticket=%s&model=gpt-realtime-x", ticket);
	struct tunnel_answer answers[] = {
		ask_with("/must", "Authorization: Bearer ", ticket, ""),
		ask_with("/must", "authorization: bearer   ", ticket, ""),
		ask_with("/must", SP "realtime, openai-insecure-api-key.",
		    ticket, ""),
		ask_with("/must", SP "openai-insecure-api-key.", ticket,
		    ",realtime,openai-agents-sdk.0.20.0"),
		ask(target, NULL),
		ask_with(target, "Authorization: Bearer ", ticket, ""),
	};

	(void)state;
	for (size_t i = 0; i < COUNT(answers); i++) {
		if (answers[i].err != ERR_OK)
			fail_msg("%zu: %s", i, answers[i].diag.text);
		assert_string_equal(lease_peek(answers[i].lease)->user, "ann");
		assert_null(strstr(answers[i].grant->upstream.target, "ek_"));
		assert_string_equal(
		    wire_headers_find(&answers[i].grant->upstream.headers,
			"Authorization"),
		    "Bearer sk-1");
		assert_int_equal(answers[i].grant->upstream.subprotocol_count,
		    0);
		if (answers[i].grant->subprotocol != NULL)
			assert_string_equal(answers[i].grant->subprotocol,
			    "realtime");
	}
	assert_string_equal(answers[4].grant->upstream.target,
	    "/v1/realtime?model=gpt-realtime-x");
	assert_string_equal(lease_peek(answers[4].lease)->model,
	    "gpt-realtime-x");
	for (size_t i = 0; i < COUNT(answers); i++)
		tunnel_answer_free(&answers[i]);
	free(target);
	free(ticket);
}

static void
a_ticket_that_is_not_good_is_refused_everywhere(void **state)
{
	static const char *const paths[] = { "/must", "/v1/realtime", "/beta",
		"/other" };
	char *ticket = make("/pinned", NULL, NULL);

	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++) {
		struct tunnel_answer answer =
		    ask_with(paths[i], "Authorization: Bearer ", ticket, "");

		assert_int_equal(answer.err, ERR_UNAUTH);
		assert_null(strstr(answer.diag.text, "ek_"));
		answer = ask(paths[i],
		    SP "realtime, openai-insecure-api-key."
		       "ek_a.b.c");
		assert_int_equal(answer.err, ERR_UNAUTH);
		tunnel_answer_free(&answer);
	}
	free(ticket);
}

static void
other_credentials_count_only_where_a_ticket_is_needed(void **state)
{
	static const char *const lines[] = { NULL, "Authorization: Bearer sk-1",
		"Authorization: Bearer ek_68af296e8e408191a1120ab6383263c2",
		SP "realtime,openai-insecure-api-key.anything" };

	(void)state;
	for (size_t i = 0; i < COUNT(lines); i++) {
		struct tunnel_answer answer = ask("/v1/realtime", lines[i]);

		assert_int_equal(answer.err, ERR_OK);
		assert_null(lease_peek(answer.lease)->user);
		tunnel_answer_free(&answer);
		answer = ask("/must", lines[i]);
		assert_int_equal(answer.err, ERR_UNAUTH);
	}
}

static void
two_tickets_are_one_too_many(void **state)
{
	char *one = make("/must", NULL, NULL), *two = make("/must", NULL, NULL);
	char *target = xasprintf("/must?ticket=%s", one);
	struct tunnel_answer answer =
	    ask_with(target, "Authorization: Bearer ", two, "");

	(void)state;
	assert_int_equal(answer.err, ERR_PROTO);
	free(target);
	free(one);
	free(two);
}

static enum err
get_no_ticket(struct store *store, const char *id, int64_t now,
    struct store_ticket *ret, struct diag *diag)
{
	(void)store;
	(void)id;
	(void)now;
	(void)ret;
	diag_set(diag, "the store: away");
	return ERR_UNAVAIL;
}

static void
a_store_that_is_away_is_unavailable_not_unauthorized(void **state)
{
	static const struct store_ops away_ops = { .get_ticket =
						       get_no_ticket };
	static struct store away = { .ops = &away_ops };
	struct store *store = store_current();
	char *ticket = make("/must", NULL, NULL);
	struct tunnel_answer answer;

	(void)state;
	store_set_current(&away);
	answer = ask_with("/must", "Authorization: Bearer ", ticket, "");
	store_set_current(store);
	assert_int_equal(answer.err, ERR_UNAVAIL);
	/* spread, so that not all come at once */
	assert_in_range(strtol(answer.retry_after, NULL, 10), 3, 7);
	free(ticket);
}

static void
a_refusal_says_how_to_authenticate(void **state)
{
	struct tunnel_answer answer = ask("/must", NULL);
	struct wire_packet *deny = tunnel_route_deny(answer.err, &answer.diag);

	(void)state;
	assert_int_equal(deny->deny.status, 401);
	assert_string_equal(wire_headers_find(&deny->deny.headers,
				"WWW-Authenticate"),
	    "Bearer");
	wire_packet_free(deny);
}

/* ---- what it stands for ---- */

static void
its_model_is_the_one_that_is_asked_for(void **state)
{
	char *ticket = make("openai", "old", NULL);
	struct tunnel_answer answer = ask_with(
	    "/v1/realtime?model=gpt-realtime-x&call_id=c&intent=transcription",
	    "Authorization: Bearer ", ticket, "");

	(void)state;
	assert_int_equal(answer.err, ERR_OK);
	assert_string_equal(answer.grant->upstream.target,
	    "/v1/realtime?model=gpt-realtime");
	tunnel_answer_free(&answer);
	free(ticket);
	/* one that is not allowed any more */
	ticket = make("openai", "gpt-4", NULL);
	answer = ask_with("/v1/realtime", "Authorization: Bearer ", ticket, "");
	assert_int_equal(answer.err, ERR_DENIED);
	free(ticket);
}

static void
its_session_stands_below_the_sites(void **state)
{
	char *ticket = make("/pinned", NULL,
	    "{\"type\":\"realtime\",\"output_modalities\":[\"text\"]}");
	struct tunnel_answer answer =
	    ask_with("/pinned", "Authorization: Bearer ", ticket, "");

	(void)state;
	assert_int_equal(answer.err, ERR_OK);
	assert_json(answer.grant->messages.session,
	    "{\"type\":\"realtime\",\"instructions\":\"Be kind.\","
	    "\"audio\":{\"output\":{\"voice\":\"marin\"}},"
	    "\"output_modalities\":[\"text\"]}");
	assert_json(json_object_get(answer.grant->messages.pin, "session"),
	    "{\"type\":\"realtime\",\"instructions\":\"Be kind.\","
	    "\"audio\":{\"output\":{\"voice\":\"marin\"}},"
	    "\"model\":\"gpt-realtime\"}");
	tunnel_answer_free(&answer);
	free(ticket);
	/* made before there was a pin */
	ticket = make("/pinned", NULL,
	    "{\"type\":\"realtime\",\"instructions\":\"Be mean.\"}");
	answer = ask_with("/pinned", "Authorization: Bearer ", ticket, "");
	assert_int_equal(answer.err, ERR_UNAUTH);
	free(ticket);
}

static void
a_ticket_may_be_for_a_transcription(void **state)
{
	char *ticket = make("openai", NULL, "{\"type\":\"transcription\"}");
	struct tunnel_answer answer =
	    ask_with("/v1/realtime?model=gpt-realtime",
		"Authorization: Bearer ", ticket, "");

	(void)state;
	assert_int_equal(answer.err, ERR_OK);
	assert_string_equal(answer.grant->upstream.target,
	    "/v1/realtime?intent=transcription");
	assert_json(answer.grant->messages.session,
	    "{\"type\":\"transcription\"}");
	tunnel_answer_free(&answer);
	free(ticket);
}

/* ---- without one ---- */

static void
grants_say_what_is_read_and_made_of_messages(void **state)
{
	struct tunnel_answer answer = ask("/v1/realtime", NULL);
	const struct wire_messages *messages = &answer.grant->messages;

	(void)state;
	assert_int_equal(answer.err, ERR_OK);
	assert_null(messages->form);
	assert_null(messages->session);
	assert_null(messages->pin);
	assert_null(messages->log);
	assert_true(messages->usage);
	assert_int_equal(messages->inspect_bytes, 262144);
	assert_string_equal(lease_peek(answer.lease)->model, "gpt-realtime");
	tunnel_answer_free(&answer);
	answer = ask("/text", NULL);
	messages = &answer.grant->messages;
	assert_string_equal(messages->form, "text");
	assert_json(messages->session,
	    "{\"type\":\"realtime\",\"instructions\":\"x\","
	    "\"output_modalities\":[\"text\"]}");
	assert_null(messages->pin);
	assert_string_equal(messages->log, "full");
	tunnel_answer_free(&answer);
	answer = ask("/one?model=gpt-realtime", NULL);
	assert_int_equal(answer.err, ERR_DENIED);
	answer = ask("/one?call_id=c", NULL);
	assert_string_equal(answer.grant->upstream.target,
	    "/v1/realtime?model=gpt-realtime-mini");
	assert_non_null(answer.grant->messages.session);
	assert_null(answer.grant->messages.pin);
	tunnel_answer_free(&answer);
	answer = ask("/other", NULL);
	assert_int_equal(answer.grant->messages.inspect_bytes, 0);
	assert_false(answer.grant->messages.usage);
	assert_null(lease_peek(answer.lease)->model);
	tunnel_answer_free(&answer);
}

static void
without_a_store_there_is_no_usage_to_report(void **state)
{
	struct store *store = store_current();
	struct tunnel_answer answer;

	(void)state;
	store_set_current(NULL);
	answer = ask("/v1/realtime", NULL);
	store_set_current(store);
	assert_false(answer.grant->messages.usage);
	assert_int_equal(answer.grant->messages.inspect_bytes, 0);
	tunnel_answer_free(&answer);
}

static void
clients_of_the_beta_are_answered_what_they_offer(void **state)
{
	static const struct {
		const char *target, *line, *subprotocol;
	} taken[] = {
		{ "/beta",
		    SP "realtime, openai-insecure-api-key.k, "
		       "openai-beta.realtime-v1",
		    "realtime" },
		{ "/beta", SP "openai-beta.realtime-v1",
		    "openai-beta.realtime-v1" },
		{ "/beta", "OpenAI-Beta: realtime=v1", NULL },
		{ "/v1/realtime", "OpenAI-Beta: realtime=v1", NULL },
		{ "/v1/realtime", SP "realtime, openai-beta.realtime-v1",
		    "realtime" },
	};
	struct tunnel_answer answer;

	(void)state;
	for (size_t i = 0; i < COUNT(taken); i++) {
		answer = ask(taken[i].target, taken[i].line);
		assert_int_equal(answer.err, ERR_OK);
		if (taken[i].subprotocol == NULL)
			assert_null(answer.grant->subprotocol);
		else
			assert_string_equal(answer.grant->subprotocol,
			    taken[i].subprotocol);
		assert_int_equal(answer.grant->upstream.subprotocol_count, 0);
		assert_null(wire_headers_find(&answer.grant->upstream.headers,
		    "OpenAI-Beta"));
		assert_int_equal(answer.grant->messages.form != NULL, i < 3);
		tunnel_answer_free(&answer);
	}
	answer = ask("/v1/realtime", SP "openai-beta.realtime-v1");
	assert_int_equal(answer.err, ERR_PROTO);
}

/* Of who asked for it, whoever uses it says he is. */
static void
a_ticket_of_a_visitor_has_his_id(void **state)
{
	static const struct {
		const char *user, *anon_id, *wanted;
	} cases[] = {
		{ NULL, "visitor-0001", "visitor-0001" },
		{ NULL, NULL, NULL },
		{ "ann", "visitor-0001", NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int64_t now = clock_unix();
		const struct store_ticket in = {
			.route = TEXT("openai"),
			.user = TEXT(cases[i].user),
			.anon_id = TEXT(cases[i].anon_id),
			.created = now,
			.expires = now + 60,
			.issued = now,
		};
		char id[TICKET_ID_BYTES + 1], *text;
		struct tunnel_answer answer;

		assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
		answer = ask_with("/v1/realtime?anon_id=visitor-0002",
		    "Authorization: Bearer ", text, "");
		assert_int_equal(answer.err, ERR_OK);
		if (cases[i].wanted == NULL)
			assert_null(lease_peek(answer.lease)->anon_id);
		else
			assert_string_equal(lease_peek(answer.lease)->anon_id,
			    cases[i].wanted);
		tunnel_answer_free(&answer);
		free(text);
	}
}

/* ---- a name that does not resolve ---- */

#define SESSION "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"

static bool is_away;

static enum err
lookup(const char *name, struct resolver_answer *ret, struct diag *diag)
{
	(void)name;
	if (is_away) {
		diag_set(diag, "there is no such name");
		return ERR_UPSTREAM;
	}
	*ret = (struct resolver_answer){ .addresses = { "192.0.2.7" },
		.count = 1 };
	return ERR_OK;
}

static void
put_session(void)
{
	int64_t now = clock_unix();
	struct store_anam session = {
		.id = TEXT(SESSION),
		.session = json_pack("{s:s, s:s, s:s, s:s, s:{}}", "sessionId",
		    SESSION, "engineHost", "eu.anam.ai/e", "engineProtocol",
		    "https", "signallingEndpoint", "/e/ws", "clientConfig"),
		.created = now,
		.expires = now + 60,
	};

	assert_int_equal(store_current()->ops->put_anam(store_current(),
			     &session, NULL),
	    ERR_OK);
	json_decref(session.session);
}

/* Ask with a ticket that is good once, and a resolver that knows nothing. */
static struct tunnel_answer
ask_once(const char *target, const char *ticket, bool away)
{
	struct resolver *resolver = context.resolver;
	struct tunnel_answer answer;

	is_away = away;
	assert_int_equal(resolver_new(lookup, 60000, &context.resolver, NULL),
	    ERR_OK);
	answer = ask_with(target, "Authorization: Bearer ", ticket, "");
	resolver_free(context.resolver);
	context.resolver = resolver;
	return answer;
}

static void
a_name_that_does_not_resolve_spends_no_ticket(void **state)
{
	static const struct {
		const char *target, *route;
	} cases[] = {
		{ "/named?model=gpt-realtime", "/named" },
		{ "/ws/proxy?session_id=" SESSION, "anam" },
	};
	static char *hosts[] = { TEXT("*.anam.ai") };
	static struct config_anam anam = {
		.hosts = { hosts, 1 },
		.limits = { .connect_ms = 10000, .pong_ms = 20000 },
	};

	(void)state;
	put_session();
	config->anam = &anam;
	context.refusals = refusals_new();
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *ticket = make_once(cases[i].route);
		struct tunnel_answer answer;

		answer = ask_once(cases[i].target, ticket, true);
		assert_int_equal(answer.err, ERR_UPSTREAM);
		answer = ask_once(cases[i].target, ticket, false);
		if (answer.err != ERR_OK)
			fail_msg("%s: %s", cases[i].route, answer.diag.text);
		tunnel_answer_free(&answer);
		answer = ask_once(cases[i].target, ticket, false);
		assert_int_equal(answer.err, ERR_UNAUTH);
		free(ticket);
	}
	refusals_free(context.refusals);
	context.refusals = NULL;
	config->anam = NULL;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_a_ticket_from_every_place),
		cmocka_unit_test(
		    a_ticket_that_is_not_good_is_refused_everywhere),
		cmocka_unit_test(
		    other_credentials_count_only_where_a_ticket_is_needed),
		cmocka_unit_test(two_tickets_are_one_too_many),
		cmocka_unit_test(
		    a_store_that_is_away_is_unavailable_not_unauthorized),
		cmocka_unit_test(a_refusal_says_how_to_authenticate),
		cmocka_unit_test(its_model_is_the_one_that_is_asked_for),
		cmocka_unit_test(its_session_stands_below_the_sites),
		cmocka_unit_test(a_ticket_may_be_for_a_transcription),
		cmocka_unit_test(grants_say_what_is_read_and_made_of_messages),
		cmocka_unit_test(without_a_store_there_is_no_usage_to_report),
		cmocka_unit_test(
		    clients_of_the_beta_are_answered_what_they_offer),
		cmocka_unit_test(a_ticket_of_a_visitor_has_his_id),
		cmocka_unit_test(a_name_that_does_not_resolve_spends_no_ticket),
	};

	return cmocka_run_group_tests_name("tunnel_ticket", tests, setup,
	    teardown);
}
