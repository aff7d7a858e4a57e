/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/limits/revocations.h"
#include "broker/signing_key.h"
#include "broker/tickets/ticket.h"
#include "broker/users/identity.h"
#include "broker/users/user_keys.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"
#include "config_text.h"
#include "request_double.h"
#include "ticket_store.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ALL                                                   \
	(IDENTITY_BEARER | IDENTITY_COOKIE | IDENTITY_QUERY | \
	    IDENTITY_SUBPROTOCOL)

/* ---- the site ---- */

static struct config *config, *strangers, *by_server;
static struct crypt_key *key;
static char *good, *other, *bad, *expired, *of_plan, *numbered;
static char ann[1024], ann_cookie[1024], ann_item[1024], ann_key[1024];

static char *
make(const char *claims)
{
	json_t *value = json_loads(claims, 0, NULL);
	char *token;

	if (json_object_get(value, "exp") == NULL)
		(void)json_object_set_new(value, "exp",
		    json_integer(clock_unix() + 60));
	assert_int_equal(jwt_sign(value, key, "HS256", "JWT", NULL, &token),
	    ERR_OK);
	json_decref(value);
	return token;
}

static char *
make_ticket(const char *user, const char *route)
{
	char id[TICKET_ID_BYTES + 1], *text, *name = NULL;
	char *for_route = xstrdup(route);
	struct store_ticket ticket = { .route = for_route,
		.created = clock_unix(),
		.expires = clock_unix() + 60 };

	if (user != NULL)
		ticket.user = name = xstrdup(user);
	assert_int_equal(ticket_make(&ticket, id, &text, NULL), ERR_OK);
	free(name);
	free(for_route);
	return text;
}

static char challenge[512]; /* of the last answer; "": none */

static void
note_challenge(const struct request *req)
{
	static const char name[] = "WWW-Authenticate: ";
	const char *at = strstr(req->headers, name);

	at = at == NULL ? "" : at + strlen(name);
	(void)snprintf(challenge, sizeof(challenge), "%.*s",
	    (int)strcspn(at, "\n"), at);
}

/* Who it is: a name, "" for nobody, or the error's code. */
static const char *
who(struct request req, unsigned ways)
{
	static char name[256];
	struct identity identity = { .user = NULL };
	struct diag diag = { "" };
	enum err err;

	if (req.config == NULL)
		req.config = config;
	if (req.method == NULL)
		req.method = "GET";
	err = identity_of_request(&req, ways, "openai", &identity, &diag);
	note_challenge(&req);
	if (err != ERR_OK) {
		assert_string_not_equal(diag.text, "");
		assert_null(identity.user);
		return err_code(err);
	}
	(void)snprintf(name, sizeof(name), "%s",
	    identity.user == NULL ? "" : identity.user);
	identity_done(&identity);
	return name;
}

#define TOKEN(t)       .query[0] = { "token", t }
#define TICKET(t)      .query[1] = { "ticket", t }
#define WHO(ways, ...) who((struct request){ __VA_ARGS__ }, ways)

/* ---- requests ---- */

static void
knows_a_user_wherever_the_token_is_shown_and_may_be(void **state)
{
	(void)state;
	assert_string_equal(WHO(ALL, .authorization = ann), "ann");
	assert_string_equal(WHO(ALL, .cookie = ann_cookie), "ann");
	assert_string_equal(WHO(ALL, TOKEN(good)), "ann");
	assert_string_equal(WHO(ALL, .protocol = ann_item), "ann");
	assert_string_equal(WHO(ALL, .protocol = ann_key), "ann");
	assert_string_equal(WHO(IDENTITY_COOKIE, .authorization = ann), "");
	assert_string_equal(WHO(IDENTITY_BEARER, .cookie = ann_cookie), "");
	assert_string_equal(WHO(IDENTITY_BEARER, TOKEN(good)), "");
	assert_string_equal(WHO(IDENTITY_BEARER, .protocol = ann_item), "");
}

static void
tells_all_that_a_token_says(void **state)
{
	struct identity identity;

	(void)state;
	assert_int_equal(identity_of_token(config, of_plan, strlen(of_plan),
			     &identity, NULL),
	    ERR_OK);
	assert_string_equal(identity.user, "bob");
	assert_string_equal(identity.plan, "pro");
	assert_string_equal(identity.token_id, "j1");
	assert_int_equal(identity.issued, 1700000000);
	assert_null(identity.ticket.id);
	/* the leeway is part of its life */
	assert_true(identity.expires > clock_unix() + 60);
	identity_done(&identity);
	assert_null(identity.user);
	assert_int_equal(identity_of_token(config, numbered, strlen(numbered),
			     &identity, NULL),
	    ERR_OK);
	assert_string_equal(identity.user, "42");
	assert_null(identity.plan);
	identity_done(&identity);
}

static void
finds_claims_by_their_path(void **state)
{
	static const struct {
		const char *paths, *claims, *user, *plan;
	} cases[] = {
		{ "user_claim = \"a.b\"", "{\"a\":{\"b\":\"x\"}}", "x", NULL },
		{ "user_claim = \"a.b\"", "{\"a.b\":\"y\",\"a\":{\"b\":\"x\"}}",
		    "y", NULL },
		{ "user_claim = \"https://s.x/id\"",
		    "{\"https://s.x/id\":\"x\"}", "x", NULL },
		{ "user_claim = \"https://s.x/o.id\"",
		    "{\"https://s.x/o\":{\"id\":\"x\"}}", "x", NULL },
		{ "user_claim = \"a.b\"", "{\"a\":\"b\"}", NULL, NULL },
		{ "user_claim = \"a.b\"", "{\"a\":[\"b\"]}", NULL, NULL },
		{ "user_claim = \"a..b\"", "{\"a\":{\"\":{\"b\":\"x\"}}}", "x",
		    NULL },
		{ "plan_claim = \"p.q\"", "{\"sub\":\"x\",\"p\":{\"q\":\"z\"}}",
		    "x", "z" },
		{ "plan_claim = p", "{\"sub\":\"x\",\"p\":[\"z\"]}", "x",
		    NULL },
		{ "plan_claim = p", "{\"sub\":\"x\",\"p\":\"\"}", "x", NULL },
		{ "plan_claim = p", "{\"sub\":\"x\",\"p\":\"a\\nb\"}", "x",
		    NULL },
		{ "", "{}", NULL, NULL },
		{ "", "{\"sub\":\"\"}", NULL, NULL },
		{ "", "{\"sub\":null}", NULL, NULL },
		{ "", "{\"sub\":1.5}", NULL, NULL },
		{ "", "{\"sub\":true}", NULL, NULL },
		{ "", "{\"sub\":\"a\\r\\nb\"}", NULL, NULL },
		{ "", "{\"sub\":\"a\\u007fb\"}", NULL, NULL },
		{ "", "{\"sub\":\"a\\u009bb\"}", NULL, NULL },
		{ "", "{\"sub\":\"a\\u00a0b\"}",
		    "a\xc2\xa0"
		    "b",
		    NULL },
		{ "", "{\"sub\":\"b\xc3\xa4r\"}", "b\xc3\xa4r", NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *text = xasprintf("users { secret = \"env:T_SECRET\" %s }",
		    cases[i].paths);
		struct config *site = config_text(text);
		char *token = make(cases[i].claims);
		struct identity identity = { .user = NULL };
		struct diag diag = { "" };
		enum err err = identity_of_token(site, token, strlen(token),
		    &identity, &diag);

		if (cases[i].user == NULL
			? err != ERR_UNAUTH || diag.text[0] == '\0'
			: err != ERR_OK ||
			    strcmp(identity.user, cases[i].user) != 0 ||
			    (identity.plan == NULL) !=
				(cases[i].plan == NULL) ||
			    (identity.plan != NULL &&
				strcmp(identity.plan, cases[i].plan) != 0))
			fail_msg("%s %s: %s", cases[i].paths, cases[i].claims,
			    diag.text);
		identity_done(&identity);
		free(token);
		config_unref(site);
		free(text);
	}
}

static void
never_makes_nobody_of_who_shows_something_bad(void **state)
{
	char bearer[1024], cookie[1024], item[1024];
	const char *const tokens[] = { bad, expired, "a.b.c" };

	(void)state;
	for (size_t i = 0; i < COUNT(tokens); i++) {
		(void)snprintf(bearer, sizeof(bearer), "Bearer %s", tokens[i]);
		(void)snprintf(cookie, sizeof(cookie), "session=%s", tokens[i]);
		(void)snprintf(item, sizeof(item), "x, %s%s",
		    "base64url.bearer.authorization.", tokens[i]);
		assert_string_equal(WHO(ALL, .authorization = bearer),
		    "unauthorized");
		assert_string_equal(WHO(ALL | IDENTITY_VENDOR_KEYS,
					.authorization = bearer),
		    "unauthorized");
		assert_string_equal(WHO(ALL, .cookie = cookie), "unauthorized");
		assert_string_equal(WHO(ALL, TOKEN(tokens[i])), "unauthorized");
		assert_string_equal(WHO(ALL, .protocol = item), "unauthorized");
	}
	assert_string_equal(WHO(ALL, .authorization = "Bearer nonsense"),
	    "unauthorized");
	assert_string_equal(WHO(ALL, TOKEN("")), "unauthorized");
	assert_string_equal(WHO(ALL, TICKET("nonsense")), "unauthorized");
	assert_string_equal(WHO(ALL, TICKET("ek_a.b.c")), "unauthorized");
}

static void
leaves_alone_what_is_somebody_elses(void **state)
{
	(void)state;
	/* a vendor's key, a password for the web server, other cookies */
	assert_string_equal(WHO(ALL | IDENTITY_VENDOR_KEYS,
				.authorization = "Bearer sk-proj-1_2"),
	    "");
	assert_string_equal(WHO(ALL, .authorization = "Basic YTpi"), "");
	assert_string_equal(
	    WHO(ALL, .protocol = "realtime, openai-insecure-api-key.sk-1"), "");
	assert_string_equal(WHO(ALL, .cookie = "a=b; sessions=x.y.z"), "");
	assert_string_equal(WHO(ALL, .cookie = "session=; a=b"), "");
	/* without users no token is for us */
	assert_string_equal(WHO(ALL, .config = strangers, TOKEN(bad)), "");
	assert_string_equal(WHO(ALL, .config = strangers, .authorization = ann),
	    "");
}

/* What it calls itself, "" for nothing, or the error's code. */
static const char *
calls_itself(struct request req, unsigned ways, const char *route)
{
	static char name[256];
	struct identity identity;
	enum err err;

	req.config = config;
	err = identity_of_request(&req, ways | IDENTITY_ANON_ID, route,
	    &identity, NULL);
	if (err != ERR_OK)
		return err_code(err);
	(void)snprintf(name, sizeof(name), "%s",
	    identity.anon_id == NULL ? "" : identity.anon_id);
	identity_done(&identity);
	return name;
}

#define CALLS(ways, route, ...) \
	calls_itself((struct request){ __VA_ARGS__ }, ways, route)

static void
takes_a_visitors_id_where_it_counts(void **state)
{
	(void)state;
	assert_string_equal(CALLS(0, "openai", .anon_id = "visitor-1"),
	    "visitor-1");
	assert_string_equal(CALLS(ALL, "openai",
				.query = { { "anon_id", "visitor-2" } }),
	    "visitor-2");
	assert_string_equal(CALLS(ALL, "openai", .anon_id = "visitor-1",
				.query = { { "anon_id", "visitor-2" } }),
	    "visitor-1");
	assert_string_equal(CALLS(0, "openai",
				.query = { { "anon_id", "visitor-2" } }),
	    "");
	assert_string_equal(CALLS(ALL, "openai",
				.query = { { "anon_id", "short" } }),
	    err_code(ERR_PROTO));
	assert_string_equal(CALLS(ALL, "openai", .authorization = ann,
				.query = { { "anon_id", "visitor-2" } }),
	    "");
	/* the vendor's */
	assert_string_equal(CALLS(ALL, "/v",
				.query = { { "anon_id", "visitor-2" } }),
	    "");
	assert_string_equal(CALLS(ALL, "/v",
				.query = { { "token", "nonsense" } }),
	    "");
}

static void
takes_the_same_twice_and_two_different_ones_never(void **state)
{
	char pair[1024];
	char *ticket = make_ticket("ann", "openai");

	(void)state;
	assert_string_equal(WHO(ALL, .authorization = ann, TOKEN(good)), "ann");
	assert_string_equal(WHO(ALL, .authorization = ann, TOKEN(other)),
	    "bad_request");
	assert_string_equal(WHO(ALL, .authorization = ann, TICKET(ticket)),
	    "bad_request");
	assert_string_equal(WHO(ALL, .protocol = ann_item, TOKEN(other)),
	    "bad_request");
	/* a browser sends its cookie in any case */
	assert_string_equal(WHO(ALL, TOKEN(other), .cookie = ann_cookie),
	    "bob");
	/* which may be two of one name, one of them a neighbour's */
	(void)snprintf(pair, sizeof(pair), "session=%s; a=b;session=%s", good,
	    other);
	assert_string_equal(WHO(ALL, .cookie = pair), "bad_request");
	(void)snprintf(pair, sizeof(pair), "session=%s; a=b;session=%s", good,
	    good);
	assert_string_equal(WHO(ALL, .cookie = pair), "ann");
	free(ticket);
}

static void
takes_a_ticket_for_its_route_alone(void **state)
{
	char *ticket = make_ticket("ann", "openai");
	char *anonymous = make_ticket(NULL, "openai");
	char *elsewhere = make_ticket("ann", "/other");
	struct request req = { TICKET(ticket), .config = config };
	struct identity identity;
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(identity_of_request(&req, ALL, "openai", &identity,
			     &diag),
	    ERR_OK);
	assert_string_equal(identity.user, "ann");
	assert_string_equal(identity.token_id, identity.ticket.id);
	assert_int_equal(identity_check_required(&identity, true, &diag),
	    ERR_OK);
	identity_done(&identity);
	req.query[1].value = anonymous;
	assert_int_equal(identity_of_request(&req, ALL, "openai", &identity,
			     &diag),
	    ERR_OK);
	assert_null(identity.user);
	assert_int_equal(identity_check_required(&identity, true, &diag),
	    ERR_OK);
	identity_done(&identity);
	assert_int_equal(identity_check_required(&identity, false, &diag),
	    ERR_OK);
	assert_int_equal(identity_check_required(&identity, true, &diag),
	    ERR_UNAUTH);
	assert_string_equal(WHO(ALL, TICKET(elsewhere)), "unauthorized");
	/* ours is no user's */
	assert_string_equal(WHO(ALL, TOKEN(ticket + strlen("ek_"))),
	    "unauthorized");
	free(ticket);
	free(anonymous);
	free(elsewhere);
}

static void
says_in_the_challenge_what_is_wrong_with_what_is_shown(void **state)
{
	char of_text[IDENTITY_CHALLENGE_SIZE];
	struct diag odd = { "a \"b\" \\ \xc3\xa9" }, longest;

	(void)state;
	assert_string_equal(WHO(ALL, TOKEN(good)), "ann");
	assert_string_equal(WHO(ALL, .method = "GET"), "");
	assert_string_equal(challenge, "");
	assert_string_equal(WHO(ALL, TOKEN(expired)), "unauthorized");
	assert_string_equal(challenge,
	    "Bearer error=\"invalid_token\", "
	    "error_description=\"the token has expired\"");
	assert_string_equal(WHO(ALL, TICKET("ek_x.y.z")), "unauthorized");
	assert_non_null(strstr(challenge, "is not good"));
	assert_string_equal(identity_challenge(&odd, of_text),
	    "Bearer error=\"invalid_token\", "
	    "error_description=\"a ?b? ? ??\"");
	memset(longest.text, 'a', sizeof(longest.text));
	longest.text[sizeof(longest.text) - 1] = '\0';
	assert_true(
	    strlen(identity_challenge(&longest, of_text)) < sizeof(of_text));
}

static void
takes_no_cookie_from_another_sites_page(void **state)
{
	static const struct {
		const char *method, *origin, *host, *site, *says;
	} cases[] = {
		{ "GET", "https://evil.example", "us.example", "cross-site",
		    "ann" },
		{ "HEAD", NULL, "us.example", "cross-site", "ann" },
		{ "POST", "https://evil.example", "us.example", "cross-site",
		    "forbidden" },
		{ "POST", "https://us.example.evil.example", "us.example", NULL,
		    "forbidden" },
		{ "POST", "null", "us.example", NULL, "forbidden" },
		{ "POST", "", "us.example", NULL, "forbidden" },
		{ "POST", "https://us.example:444", "us.example", NULL,
		    "forbidden" },
		{ "DELETE", "https://evil.example", "us.example", NULL,
		    "forbidden" },
		{ "get", "https://evil.example", "us.example", NULL,
		    "forbidden" },
		{ "POST", "https://us.example", "us.example", "same-origin",
		    "ann" },
		{ "POST", "http://us.example", "US.example", NULL, "ann" },
		{ "POST", "https://named.example", "us.example", "cross-site",
		    "ann" },
		{ "POST", NULL, "us.example", NULL, "ann" }, /* no browser */
		{ "POST", NULL, "us.example", "none", "ann" },
		{ "POST", NULL, "us.example", "same-origin", "ann" },
		{ "POST", NULL, "us.example", "same-site", "forbidden" },
		{ "POST", NULL, "us.example", "cross-site", "forbidden" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *says = WHO(ALL, .method = cases[i].method,
		    .origin = cases[i].origin, .host = cases[i].host,
		    .fetch_site = cases[i].site, .cookie = ann_cookie);

		if (strcmp(says, cases[i].says) != 0)
			fail_msg("%zu: %s", i, says);
		/* what a page has to know may come from anywhere */
		assert_string_equal(WHO(ALL, .method = cases[i].method,
					.origin = cases[i].origin,
					.authorization = ann),
		    "ann");
	}
}

static void
believes_the_web_server_where_it_is_told_to(void **state)
{
	(void)state;
	assert_string_equal(WHO(ALL, .remote_user = "carl"), "");
	assert_string_equal(WHO(ALL, .config = by_server,
				.remote_user = "carl"),
	    "carl");
	assert_string_equal(WHO(ALL, .config = by_server), "");
	assert_string_equal(WHO(ALL, .config = by_server, .method = "POST",
				.origin = "https://evil.example",
				.remote_user = "carl"),
	    "forbidden");
	assert_string_equal(WHO(ALL, .config = by_server,
				.remote_user = "\xff"),
	    "unauthorized");
	assert_string_equal(WHO(ALL, .config = by_server, .remote_user = "carl",
				.authorization = "Bearer x.y.z"),
	    "carl"); /* no keys, no tokens */
}

/* ---- tunnels ---- */

static const char *
who_tunnels(const char *target_text, struct wire_header *items, size_t count,
    const char *route)
{
	static char name[256];
	const struct wire_headers headers = { items, count };
	struct target *target;
	struct identity identity = { .user = NULL };
	struct diag diag = { "" };
	enum err err;

	assert_int_equal(target_parse(target_text, &target, NULL), ERR_OK);
	err = identity_of_tunnel(config, &headers, target, "192.0.2.1", route,
	    &identity, &diag);
	target_free(target);
	if (err != ERR_OK) {
		assert_string_not_equal(diag.text, "");
		identity_done(&identity);
		return err_code(err);
	}
	(void)snprintf(name, sizeof(name), "%s",
	    identity.user == NULL ? "" : identity.user);
	identity_done(&identity);
	return name;
}

static void
knows_who_wants_a_tunnel(void **state)
{
	static char authorization[] = "Authorization", cookie[] = "cookie",
		    protocol[] = "Sec-WebSocket-Protocol", origin[] = "Origin",
		    host[] = "Host", us[] = "us.example",
		    ours[] = "https://us.example",
		    evil[] = "https://evil.example", key_text[] = "Bearer sk-1",
		    none[] = "a=b", another[] = "session=x.y.z";
	char *target = xasprintf("/v1/realtime?model=m&token=%s", good);
	struct wire_header bearer[] = { { authorization, ann, false } };
	struct wire_header vendors[] = { { authorization, key_text, false } };
	struct wire_header item[] = { { protocol, ann_item, false } };
	struct wire_header two[] = { { authorization, ann, false },
		{ protocol, ann_key, false } };
	struct wire_header own[] = { { host, us, false },
		{ origin, ours, false }, { cookie, ann_cookie, false } };
	struct wire_header foreign[] = { { host, us, false },
		{ origin, evil, false }, { cookie, ann_cookie, false } };
	/* HTTP/2 has cookies one by one, and not every proxy joins them */
	struct wire_header parted[] = { { cookie, none, false },
		{ cookie, ann_cookie, false } };
	struct wire_header both[] = { { cookie, ann_cookie, false },
		{ cookie, another, false } };

	(void)state;
	assert_string_equal(who_tunnels("/", NULL, 0, "openai"), "");
	assert_string_equal(who_tunnels("/", bearer, 1, "openai"), "ann");
	assert_string_equal(who_tunnels("/", vendors, 1, "openai"), "");
	assert_string_equal(who_tunnels("/", item, 1, "openai"), "ann");
	assert_string_equal(who_tunnels("/", two, 2, "openai"), "ann");
	assert_string_equal(who_tunnels(target, NULL, 0, "openai"), "ann");
	assert_string_equal(who_tunnels("/?token=x", NULL, 0, "openai"),
	    "unauthorized");
	/* the vendor of this one has a parameter of that name */
	assert_string_equal(who_tunnels("/?token=x", NULL, 0, "/v"), "");
	/* a WebSocket is opened with GET, and does more than read */
	assert_string_equal(who_tunnels("/", own, 3, "openai"), "ann");
	assert_string_equal(who_tunnels("/", foreign, 3, "openai"),
	    "forbidden");
	assert_string_equal(who_tunnels(target, foreign, 3, "openai"), "ann");
	assert_string_equal(who_tunnels("/", parted, 2, "openai"), "ann");
	assert_string_equal(who_tunnels("/", both, 2, "openai"), "bad_request");
	free(target);
}

/* ---- revocation ---- */

static void
refuses_what_has_been_revoked(void **state)
{
	char *before = make("{\"sub\":\"rev\",\"iat\":1700000000}");
	char *after = make("{\"sub\":\"rev\",\"iat\":1700000002}");
	char *undated = make("{\"sub\":\"rev\"}");
	char *by_id = make("{\"sub\":\"zoe\",\"jti\":\"gone\"}");
	char *ticket = make_ticket("rev2", "openai");
	int64_t later = clock_unix() + 3600;

	(void)state;
	assert_string_equal(WHO(ALL, TOKEN(before)), "rev");
	assert_int_equal(revocations_add("user", "rev", 1700000001, later,
			     NULL),
	    ERR_OK);
	assert_string_equal(WHO(ALL, TOKEN(before)), "unauthorized");
	assert_string_equal(WHO(ALL, TOKEN(undated)), "unauthorized");
	assert_string_equal(WHO(ALL, TOKEN(after)), "rev");
	assert_string_equal(WHO(ALL, TOKEN(by_id)), "zoe");
	assert_int_equal(revocations_add("ticket", "gone", clock_unix(), later,
			     NULL),
	    ERR_OK);
	assert_string_equal(WHO(ALL, TOKEN(by_id)), "unauthorized");
	assert_string_equal(WHO(ALL, TICKET(ticket)), "rev2");
	assert_int_equal(revocations_add("user", "rev2", clock_unix(), later,
			     NULL),
	    ERR_OK);
	assert_string_equal(WHO(ALL, TICKET(ticket)), "unauthorized");
	free(before);
	free(after);
	free(undated);
	free(by_id);
	free(ticket);
}

/* ---- the tests ---- */

static int
init(void **state)
{
	static const char text[] = "0123456789 the secret of the users";
	struct secret *secret = secret_new(text, strlen(text), "test");

	(void)state;
	if (crypt_key_from_secret(secret, &key, NULL) != ERR_OK ||
	    setenv("T_SECRET", text, 1) != 0 || setenv("T_KEY", "k", 1) != 0)
		return -1;
	secret_free(secret);
	config = config_text(
	    "access { origins = {\"*\", \"https://named.example\"} }\n"
	    "openai { api_key = \"env:T_KEY\" }\n"
	    "relay \"/v\" { upstream = \"wss://x\" query \"token\" {} "
	    "query \"anon_id\" {} }\n"
	    "users { secret = \"env:T_SECRET\" cookie = session\n"
	    "plan_claim = \"plan\" }");
	strangers = config_text("");
	by_server = config_text("users { remote_user = true }");
	good = make("{\"sub\":\"ann\"}");
	other = make("{\"sub\":\"bob\"}");
	of_plan = make("{\"sub\":\"bob\",\"plan\":\"pro\",\"jti\":\"j1\","
		       "\"iat\":1700000000}");
	numbered = make("{\"sub\":42,\"plan\":7}");
	expired = make("{\"sub\":\"ann\",\"exp\":1700000000}");
	bad = xstrdup(good);
	bad[strlen(bad) - 2] = bad[strlen(bad) - 2] == 'A' ? 'B' : 'A';
	(void)snprintf(ann, sizeof(ann), "bearer  %s", good);
	(void)snprintf(ann_cookie, sizeof(ann_cookie), "a=b; session=%s; c=d",
	    good);
	(void)snprintf(ann_item, sizeof(ann_item),
	    "realtime, base64url.bearer.authorization.%s", good);
	(void)snprintf(ann_key, sizeof(ann_key),
	    "realtime,openai-insecure-api-key.%s", good);
	return ticket_store_open();
}

static int
done(void **state)
{
	(void)state;
	revocations_done();
	user_keys_done();
	crypt_key_free(key);
	config_unref(config);
	config_unref(strangers);
	config_unref(by_server);
	free(good);
	free(other);
	free(bad);
	free(expired);
	free(of_plan);
	free(numbered);
	return ticket_store_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    knows_a_user_wherever_the_token_is_shown_and_may_be),
		cmocka_unit_test(tells_all_that_a_token_says),
		cmocka_unit_test(finds_claims_by_their_path),
		cmocka_unit_test(never_makes_nobody_of_who_shows_something_bad),
		cmocka_unit_test(leaves_alone_what_is_somebody_elses),
		cmocka_unit_test(
		    takes_the_same_twice_and_two_different_ones_never),
		cmocka_unit_test(takes_a_ticket_for_its_route_alone),
		cmocka_unit_test(
		    says_in_the_challenge_what_is_wrong_with_what_is_shown),
		cmocka_unit_test(takes_a_visitors_id_where_it_counts),
		cmocka_unit_test(takes_no_cookie_from_another_sites_page),
		cmocka_unit_test(believes_the_web_server_where_it_is_told_to),
		cmocka_unit_test(knows_who_wants_a_tunnel),
		cmocka_unit_test(refuses_what_has_been_revoked),
	};

	return cmocka_run_group_tests(tests, init, done);
}
