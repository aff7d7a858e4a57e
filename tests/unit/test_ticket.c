/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/tickets/ticket.h"
#include "common/jwt.h"
#include "common/xalloc.h"
#include "ticket_store.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW	 1767225600

/* What is written is only read. */
#define TEXT(s) ((char *)(uintptr_t)(s))

static int
setup(void **state)
{
	(void)state;
	return ticket_store_open();
}

static int
teardown(void **state)
{
	(void)state;
	return ticket_store_close();
}

/* A ticket of this route, good for a minute; the caller frees it. */
static char *
make(const char *route)
{
	const struct store_ticket in = {
		.route = TEXT(route),
		.user = TEXT("ann"),
		.created = NOW,
		.expires = NOW + 60,
	};
	char id[TICKET_ID_BYTES + 1], *text;

	assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
	assert_int_equal(strlen(id), TICKET_ID_BYTES);
	return text;
}

static enum err
check(const char *text, const char *route, int64_t now)
{
	const struct ticket_use use = { .route = route, .now = now };
	struct store_ticket ticket = { .id = NULL };
	struct diag diag = { "" };
	enum err err = ticket_check(text, strlen(text), &use, &ticket, &diag);

	assert_int_equal(err == ERR_OK, diag.text[0] == '\0');
	assert_int_equal(err == ERR_OK, ticket.id != NULL);
	store_ticket_done(&ticket);
	return err;
}

static void
stands_for_what_it_was_made_of(void **state)
{
	const struct store_ticket in = {
		.route = TEXT("openai"),
		.user = TEXT("J\xc3\xbcrgen"),
		.model = TEXT("gpt-realtime"),
		.session = json_pack("{s:s}", "instructions", "Be kind."),
		.created = NOW,
		.expires = NOW + 60,
	};
	const struct ticket_use use = { .route = "openai", .now = NOW + 59 };
	char id[TICKET_ID_BYTES + 1], *text;
	struct store_ticket out;

	(void)state;
	assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
	assert_true(ticket_has_form(text, strlen(text)));
	/* as a header, and as an item of Sec-WebSocket-Protocol */
	assert_true(strlen(text) < 400);
	assert_null(strstr(text, "kind"));
	for (int i = 0; i < 2; i++) { /* until it expires, not once */
		assert_int_equal(ticket_check(text, strlen(text), &use, &out,
				     NULL),
		    ERR_OK);
		assert_int_equal(ticket_spend(&out, NOW + 59, NULL), ERR_OK);
		assert_string_equal(out.id, id);
		assert_string_equal(out.user, in.user);
		assert_string_equal(out.model, in.model);
		assert_true(json_equal(out.session, in.session));
		store_ticket_done(&out);
	}
	json_decref(in.session);
	free(text);
}

static void
is_good_for_one_route_and_for_its_time(void **state)
{
	char *text = make("openai");

	(void)state;
	assert_int_equal(check(text, "openai", NOW), ERR_OK);
	assert_int_equal(check(text, "openai", NOW + 60), ERR_UNAUTH);
	assert_int_equal(check(text, "/b", NOW), ERR_UNAUTH);
	assert_int_equal(check(text, "openai2", NOW), ERR_UNAUTH);
	assert_int_equal(check(text, "", NOW), ERR_UNAUTH);
	free(text);
}

static void
is_good_where_it_is_bound_to(void **state)
{
	static const struct {
		const char *address, *origin; /* of the ticket */
		struct ticket_use use;
		enum err err;
	} cases[] = {
#define O "https://example.com"
		{ NULL, NULL, { .address = "192.0.2.1", .origin = O }, ERR_OK },
		{ "192.0.2.1", NULL, { .address = "192.0.2.1" }, ERR_OK },
		{ "192.0.2.1", NULL, { .address = "::ffff:192.0.2.1" },
		    ERR_OK },
		{ "192.0.2.1", NULL, { .address = "192.0.2.2" }, ERR_UNAUTH },
		{ "192.0.2.1", NULL, { .address = NULL }, ERR_UNAUTH },
		{ "2001:db8::1", NULL, { .address = "2001:DB8:0:0::1" },
		    ERR_OK },
		/* of the same /64, and still another one */
		{ "2001:db8::1", NULL, { .address = "2001:db8::2" },
		    ERR_UNAUTH },
		{ "", NULL, { .address = "" }, ERR_UNAUTH },
		{ NULL, O, { .origin = O }, ERR_OK },
		{ NULL, O, { .origin = "http://example.com" }, ERR_UNAUTH },
		{ NULL, O, { .origin = "https://example.com:8443" },
		    ERR_UNAUTH },
		{ NULL, O, { .origin = "null" }, ERR_UNAUTH },
		{ NULL, O, { .origin = NULL }, ERR_UNAUTH },
		{ NULL, O, { .own_host = "Example.com" }, ERR_OK },
		{ NULL, O, { .own_host = "example.org" }, ERR_UNAUTH },
		{ NULL, O,
		    { .origin = "https://x.y", .own_host = "example.com" },
		    ERR_UNAUTH },
		{ "192.0.2.1", O, { .address = "192.0.2.1", .origin = O },
		    ERR_OK },
		{ "192.0.2.1", O, { .address = "192.0.2.1" }, ERR_UNAUTH },
#undef O
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct store_ticket in = { .route = TEXT("/ws"),
			.address = TEXT(cases[i].address),
			.origin = TEXT(cases[i].origin),
			.created = NOW,
			.expires = NOW + 60 };
		struct ticket_use use = cases[i].use;
		struct store_ticket out = { .id = NULL };
		char id[TICKET_ID_BYTES + 1], *text;

		use.route = "/ws";
		use.now = NOW;
		assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
		if (ticket_check(text, strlen(text), &use, &out, NULL) !=
		    cases[i].err)
			fail_msg("%zu", i);
		store_ticket_done(&out);
		free(text);
	}
}

static void
is_spent_by_its_first_use(void **state)
{
	const struct store_ticket in = { .route = TEXT("/ws"),
		.once = true,
		.created = NOW,
		.expires = NOW + 60 };
	const struct ticket_use use = { .route = "/ws", .now = NOW };
	const struct store_ticket none = { .id = NULL, .once = true };
	struct store_ticket one, other;
	char id[TICKET_ID_BYTES + 1], *text;
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
	/* looking does not spend it */
	assert_int_equal(ticket_check(text, strlen(text), &use, &one, NULL),
	    ERR_OK);
	assert_int_equal(ticket_check(text, strlen(text), &use, &other, NULL),
	    ERR_OK);
	assert_int_equal(ticket_spend(&one, NOW, NULL), ERR_OK);
	assert_int_equal(ticket_spend(&other, NOW, &diag), ERR_UNAUTH);
	assert_non_null(strstr(diag.text, "used already"));
	assert_int_equal(ticket_spend(&other, NOW + 60, NULL), ERR_UNAUTH);
	assert_int_equal(check(text, "/ws", NOW), ERR_UNAUTH);
	assert_int_equal(ticket_spend(&none, NOW, NULL), ERR_OK);
	store_ticket_done(&one);
	store_ticket_done(&other);
	free(text);
}

static void
is_not_good_when_any_byte_of_it_is_another(void **state)
{
	char *text = make("openai");
	size_t len = strlen(text);

	(void)state;
	for (size_t i = 0; i < len; i++) {
		char old = text[i];

		text[i] = old == 'A' ? 'B' : 'A';
		if (check(text, "openai", NOW) != ERR_UNAUTH)
			fail_msg("%zu: %s", i, text);
		text[i] = old;
	}
	text[len - 1] = '\0';
	assert_int_equal(check(text, "openai", NOW), ERR_UNAUTH);
	free(text);
}

/* Claims as a ticket's, signed with our key: but for what a row changes. */
static const struct {
	const char *claims, *alg, *typ;
} forged[] = {
	{ "{\"iss\":\"culvert\",\"aud\":\"route:openai\",\"jti\":\"x\"}",
	    "HS256", "ticket+jwt" },
	{ "{\"iss\":\"culvert\",\"aud\":\"route:openai\",\"jti\":\"x\","
	  "\"exp\":\"1767225660\"}",
	    "HS256", "ticket+jwt" },
	{ "{\"iss\":\"culvert\",\"aud\":\"route:openai\",\"jti\":\"x\","
	  "\"exp\":1767225660}",
	    "HS256", "ticket+jwt" }, /* there is no such row */
	{ "{\"iss\":\"culvert\",\"aud\":\"route:openai\","
	  "\"exp\":1767225660}",
	    "HS256", "ticket+jwt" },
	{ "{\"iss\":\"other\",\"aud\":\"route:openai\",\"jti\":\"ID\","
	  "\"exp\":1767225660}",
	    "HS256", "ticket+jwt" },
	{ "{\"iss\":\"culvert\",\"aud\":\"route:openai\",\"jti\":\"ID\","
	  "\"exp\":1767225660}",
	    "HS256", "JWT" },
	{ "{\"iss\":\"culvert\",\"aud\":\"route:openai\",\"jti\":\"ID\","
	  "\"exp\":1767225660}",
	    "HS512", "ticket+jwt" },
	/* the row is of another route than the claims say */
	{ "{\"iss\":\"culvert\",\"aud\":\"route:/b\",\"jti\":\"ID\","
	  "\"exp\":1767225660}",
	    "HS256", "ticket+jwt" },
};

static void
other_tokens_of_ours_are_none(void **state)
{
	const struct store_ticket in = { .route = TEXT("openai"),
		.created = NOW,
		.expires = NOW + 60 };
	char id[TICKET_ID_BYTES + 1], *text;

	(void)state;
	assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
	free(text);
	for (size_t i = 0; i < COUNT(forged); i++) {
		json_t *claims = json_loads(forged[i].claims, 0, NULL);
		const char *jti =
		    json_string_value(json_object_get(claims, "jti"));
		const char *aud =
		    json_string_value(json_object_get(claims, "aud"));
		struct crypt_key *key = ticket_store_key();
		char *token;

		if (jti != NULL && strcmp(jti, "ID") == 0)
			(void)json_object_set_new(claims, "jti",
			    json_string(id));
		assert_int_equal(jwt_sign(claims, key, forged[i].alg,
				     forged[i].typ, NULL, &token),
		    ERR_OK);
		crypt_key_free(key);
		text = xasprintf("ek_%s", token);
		if (check(text, aud + strlen("route:"), NOW) != ERR_UNAUTH)
			fail_msg("%zu", i);
		free(text);
		free(token);
		json_decref(claims);
	}
}

static void
says_whether_a_credential_has_the_form(void **state)
{
	static const struct {
		const char *text;
		bool has;
	} cases[] = {
		{ "ek_a.b.c", true },
		{ "ek_..", true },
		{ "ek_68af296e8e408191a1120ab6383263c2", false },
		{ "ek_a.b", false },
		{ "ek_a.b.c.d", false },
		{ "ek_a.b.c=", false },
		{ "ek_", false },
		{ "ek", false },
		{ "", false },
		{ "EK_a.b.c", false },
		{ "a.b.c", false },
		{ "sk-a.b.c", false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (ticket_has_form(cases[i].text, strlen(cases[i].text)) !=
		    cases[i].has)
			fail_msg("%s", cases[i].text);
	assert_int_equal(check("ek_a.b.c", "openai", NOW), ERR_UNAUTH);
	assert_int_equal(check("ek_ab", "openai", NOW), ERR_UNAUTH);
}

static void
refuses_a_user_that_will_not_do(void **state)
{
	char user[TICKET_USER_MAX + 2], id[TICKET_ID_BYTES + 1], *text;
	struct store_ticket in = { .route = TEXT("openai"),
		.user = user,
		.created = NOW,
		.expires = NOW + 60 };

	(void)state;
	memset(user, 'u', sizeof(user));
	user[TICKET_USER_MAX + 1] = '\0';
	assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_LIMIT);
	user[TICKET_USER_MAX] = '\0';
	assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
	free(text);
	(void)strcpy(user, "\xff");
	assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_LIMIT);
}

static void
a_store_that_is_away_is_no_refusal(void **state)
{
	const struct store_ticket once = { .id = TEXT("1"), .once = true };
	struct store *store = store_current();
	char *text = make("openai");

	(void)state;
	store_set_current(NULL);
	assert_false(ticket_is_possible());
	assert_int_equal(check(text, "openai", NOW), ERR_UNAVAIL);
	assert_int_equal(ticket_spend(&once, NOW, NULL), ERR_UNAVAIL);
	store_set_current(store);
	assert_int_equal(check(text, "openai", NOW), ERR_OK);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stands_for_what_it_was_made_of),
		cmocka_unit_test(is_good_for_one_route_and_for_its_time),
		cmocka_unit_test(is_good_where_it_is_bound_to),
		cmocka_unit_test(is_spent_by_its_first_use),
		cmocka_unit_test(is_not_good_when_any_byte_of_it_is_another),
		cmocka_unit_test(other_tokens_of_ours_are_none),
		cmocka_unit_test(says_whether_a_credential_has_the_form),
		cmocka_unit_test(refuses_a_user_that_will_not_do),
		cmocka_unit_test(a_store_that_is_away_is_no_refusal),
	};

	return cmocka_run_group_tests_name("ticket", tests, setup, teardown);
}
