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

#include <openssl/hmac.h>

#include "broker/chat/caller.h"
#include "broker/limits/revocations.h"
#include "broker/tickets/ticket.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"
#include "config_text.h"
#include "request_double.h"
#include "test_keys.h"
#include "ticket_store.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define USERS	 "users { secret = \"env:T_SECRET\" "

/* ---- configurations ---- */

static char public_path[] = "/tmp/culvert-test.XXXXXX";
static char *public_pem, *private_pem;

static struct config *by_secret, *by_key, *no_users, *no_visitors, *strict;

static struct config *
configure(const char *before, const char *chat)
{
	char *text = xasprintf("store { path = \"/x/y.db\" }\n%schat { url = "
			       "\"http://localhost\" models = {m}\n%s }\n",
	    before, chat);
	struct config *config = config_text(text);

	free(text);
	return config;
}

static struct request
ask(const struct config *config)
{
	return (struct request){ .method = "GET", .config = config };
}

/* ---- tokens ---- */

static const char user_secret[] = "0123456789 the secret of the users";

/* A token of the site's; members that are NULL or 0 are left out. */
struct claims {
	const char *sub, *iss, *aud;
	int64_t exp_in_s;
};

static char *
sign(const struct claims *in, const struct crypt_key *key, const char *alg)
{
	json_t *claims = json_made(json_pack("{s:s*, s:s*, s:s*}", "sub",
	    in->sub, "iss", in->iss, "aud", in->aud));
	char *text;

	if (in->exp_in_s != 0)
		(void)json_object_set_new(claims, "exp",
		    json_integer(clock_unix() + in->exp_in_s));
	assert_int_equal(jwt_sign(claims, key, alg, "JWT", NULL, &text),
	    ERR_OK);
	json_decref(claims);
	return text;
}

static struct crypt_key *
secret_key(const char *text, size_t len)
{
	struct secret *secret = secret_new(text, len, "test");
	struct crypt_key *key;

	assert_int_equal(crypt_key_from_secret(secret, &key, NULL), ERR_OK);
	secret_free(secret);
	return key;
}

static char *
user_token(const struct claims *in)
{
	struct crypt_key *key = secret_key(user_secret, strlen(user_secret));
	char *text = sign(in, key, "HS256");

	crypt_key_free(key);
	return text;
}

/* Who sends this as a Bearer token; the header is freed. */
static enum err
bearer(const struct config *config, const char *token, struct caller *ret)
{
	struct request req = ask(config);
	struct diag diag = { "" };
	char *header = xasprintf("Bearer %s", token);
	enum err err;

	req.authorization = header;
	err = caller_of_request(&req, false, ret, &diag);
	if (err != ERR_OK)
		assert_true(diag.text[0] != '\0');
	free(header);
	return err;
}

/* ---- users ---- */

static void
knows_a_user_by_a_token_that_the_site_signed(void **state)
{
	const struct claims claims = { .sub = "alice", .exp_in_s = 100 };
	int64_t now = clock_unix();
	char *token = user_token(&claims);
	struct caller caller;

	(void)state;
	assert_int_equal(bearer(by_secret, token, &caller), ERR_OK);
	assert_true(caller.is_user);
	assert_false(caller.is_new);
	assert_string_equal(caller.id, "alice");
	assert_string_equal(caller.owner, "u:alice");
	assert_string_equal(caller.address, "192.0.2.1");
	/* the leeway is in it */
	assert_in_range(caller.expires, now + 160, now + 220);
	assert_null(caller.allowance_id);
	caller_done(&caller);
	free(token);
}

/* HS256 with what everybody may have as the secret; by hand, as we refuse to.
 */
static char *
sign_with_public_key(void)
{
	static const char head[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
	static const char body[] = "{\"sub\":\"alice\",\"exp\":9999999999}";
	char *a = crypt_base64url(head, sizeof(head) - 1);
	char *b = crypt_base64url(body, sizeof(body) - 1);
	char *input = xasprintf("%s.%s", a, b), *signature, *token;
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned int len;

	assert_non_null(HMAC(EVP_sha256(), public_pem, (int)strlen(public_pem),
	    (const unsigned char *)input, strlen(input), mac, &len));
	signature = crypt_base64url(mac, len);
	token = xasprintf("%s.%s", input, signature);
	free(signature);
	free(input);
	free(a);
	free(b);
	return token;
}

static void
knows_a_user_by_a_public_key_alone(void **state)
{
	const struct claims claims = { .sub = "alice", .exp_in_s = 100 };
	struct crypt_key *key;
	struct caller caller;
	char *token, *confused;

	(void)state;
	assert_int_equal(crypt_key_from_pem(private_pem, strlen(private_pem),
			     &key, NULL),
	    ERR_OK);
	token = sign(&claims, key, "RS256");
	crypt_key_free(key);
	assert_int_equal(bearer(by_key, token, &caller), ERR_OK);
	assert_string_equal(caller.owner, "u:alice");
	caller_done(&caller);
	confused = sign_with_public_key();
	assert_int_equal(bearer(by_key, confused, &caller), ERR_UNAUTH);
	assert_int_equal(bearer(by_secret, token, &caller), ERR_UNAUTH);
	free(confused);
	free(token);
}

static void
refuses_a_token_that_is_not_good_and_takes_nobody_for_anonymous(void **state)
{
	static const struct {
		const char *what;
		struct claims claims;
	} rows[] = {
		{ "no exp", { .sub = "a" } },
		{ "expired", { .sub = "a", .exp_in_s = -61 } },
		{ "no sub", { .exp_in_s = 100 } },
		{ "empty sub", { .sub = "", .exp_in_s = 100 } },
		{ "a control", { .sub = "a\nb", .exp_in_s = 100 } },
		{ "DEL", { .sub = "a\x7f", .exp_in_s = 100 } },
		{ "129 bytes",
		    { .sub = "123456789012345678901234567890123456789012345678"
			     "901234567890123456789012345678901234567890123456"
			     "789012345678901234567890123456789",
			.exp_in_s = 100 } },
	};
	static const char *const texts[] = { "", "null", "undefined", "a.b.c",
		"your-token",
		/* {"alg":"none"}.{"sub":"a","exp":9999999999}. */
		"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.",
		("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ."
		 "AA") };
	struct caller caller;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *token = user_token(&rows[i].claims);

		if (bearer(by_secret, token, &caller) != ERR_UNAUTH)
			fail_msg("%s", rows[i].what);
		free(token);
	}
	for (size_t i = 0; i < COUNT(texts); i++)
		if (bearer(by_secret, texts[i], &caller) != ERR_UNAUTH)
			fail_msg("%s", texts[i]);
}

static void
takes_names_to_128_bytes_and_clocks_a_minute_apart(void **state)
{
	char name[129] = "";
	struct claims claims = { .sub = name, .exp_in_s = -50 };
	struct caller caller;
	char *token;

	(void)state;
	for (size_t i = 0; i < 64; i++)
		(void)strcat(name, "\xc3\xa9");
	token = user_token(&claims);
	assert_int_equal(bearer(by_secret, token, &caller), ERR_OK);
	assert_string_equal(caller.id, name);
	caller_done(&caller);
	free(token);
}

static void
asks_for_issuer_and_audience_where_they_are_configured(void **state)
{
	static const struct {
		struct claims claims;
		enum err err;
	} rows[] = {
		{ { "a", "us", "chat", 100 }, ERR_OK },
		{ { "a", "them", "chat", 100 }, ERR_UNAUTH },
		{ { "a", "us", "shop", 100 }, ERR_UNAUTH },
		{ { "a", NULL, "chat", 100 }, ERR_UNAUTH },
		{ { "a", "us", NULL, 100 }, ERR_UNAUTH },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char *token = user_token(&rows[i].claims);
		struct caller caller = { .id = NULL };

		if (bearer(strict, token, &caller) != rows[i].err)
			fail_msg("row %zu", i);
		caller_done(&caller);
		free(token);
	}
}

static void
signs_nobody_in_with_a_ticket_or_where_there_are_no_users(void **state)
{
	const struct claims claims = { .sub = "alice", .exp_in_s = 100 };
	struct store_ticket in = { .route = xstrdup("openai"),
		.user = xstrdup("alice"),
		.created = clock_unix(),
		.expires = clock_unix() + 60 };
	char id[TICKET_ID_BYTES + 1], *ticket, *token = user_token(&claims);
	struct caller caller;
	struct diag diag;

	(void)state;
	assert_int_equal(ticket_make(&in, id, &ticket, &diag), ERR_OK);
	assert_int_equal(bearer(by_secret, ticket, &caller), ERR_UNAUTH);
	assert_int_equal(bearer(by_secret, ticket + 3, &caller), ERR_UNAUTH);
	assert_int_equal(bearer(no_users, token, &caller), ERR_UNAUTH);
	free(ticket);
	free(token);
	free(in.route);
	free(in.user);
}

/* ---- visitors ---- */

static bool
has_header(const struct request *req, const char *name, const char *value)
{
	char *line = xasprintf("%s: %s\n", name, value);
	bool has = strstr(req->headers, line) != NULL;

	free(line);
	return has;
}

static void
knows_a_visitor_by_its_id_and_counts_it_by_its_address_too(void **state)
{
	static const struct {
		const char *client, *address, *counted;
	} rows[] = {
		{ "192.0.2.1", "192.0.2.1", "n:192.0.2.1" },
		{ "::ffff:192.0.2.1", "192.0.2.1", "n:192.0.2.1" },
		{ "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6",
		    "n:2001:db8:1:2::/64" },
		{ "2001:db8:1:2::9", "2001:db8:1:2::9", "n:2001:db8:1:2::/64" },
		{ "fe80::1%eth0", "fe80::1", "n:fe80::/64" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct request req = ask(by_secret);
		struct store_allowance allowance;
		struct caller caller;
		struct diag diag = { "" };

		req.anon_id = "anonymous-id";
		req.client = rows[i].client;
		assert_int_equal(caller_of_request(&req, false, &caller, &diag),
		    ERR_OK);
		assert_false(caller.is_user);
		assert_false(caller.is_new);
		assert_string_equal(caller.id, "anonymous-id");
		assert_string_equal(caller.owner, "a:anonymous-id");
		assert_int_equal(caller.expires, 0);
		assert_string_equal(caller.address, rows[i].address);
		allowance = caller_allowance(&caller, by_secret->chat);
		assert_string_equal(allowance.id, "i:anonymous-id");
		assert_string_equal(allowance.address, rows[i].counted);
		assert_int_equal(allowance.max, 20);
		assert_int_equal(allowance.window_s, 86400);
		caller_done(&caller);
	}
}

static void
gives_an_id_to_who_has_none(void **state)
{
	static const char *const other_schemes[] = { NULL, "", "Basic YTpi",
		"Bearers x" };
	char *last = xstrdup("");

	(void)state;
	for (size_t i = 0; i < COUNT(other_schemes); i++) {
		struct request req = ask(by_secret);
		struct caller caller;
		struct diag diag;

		req.authorization = other_schemes[i];
		req.anon_id = i % 2 == 0 ? NULL : "";
		assert_int_equal(caller_of_request(&req, false, &caller, &diag),
		    ERR_OK);
		assert_true(caller.is_new);
		assert_int_equal(strlen(caller.id), 32);
		assert_string_not_equal(caller.id, last);
		caller_set_cookie(&req, &caller);
		assert_true(has_header(&req, "X-Anon-Id", caller.id));
		free(last);
		last = xstrdup(caller.id);
		caller_done(&caller);
	}
	free(last);
}

static void
refuses_ids_that_can_be_guessed_or_hide_something(void **state)
{
	static const char *const ids[] = { "1234567", "a b c d e", "abcdefg\n",
		"abcdefg/", "abcdefgh\xc3\xa9", "<script>", "u:alice:x",
		("1234567890123456789012345678901234567890123456789012345678901"
		 "2"
		 "345") };

	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++) {
		struct request req = ask(by_secret);
		struct caller caller;
		struct diag diag = { "" };

		req.anon_id = ids[i];
		if (caller_of_request(&req, false, &caller, &diag) !=
			ERR_PROTO ||
		    strstr(diag.text, ids[i]) != NULL)
			fail_msg("%s: %s", ids[i], diag.text);
	}
}

static void
has_no_visitors_where_none_are_allowed(void **state)
{
	struct request req = ask(no_visitors);
	struct caller caller;
	struct diag diag;

	(void)state;
	assert_int_equal(caller_of_request(&req, true, &caller, &diag),
	    ERR_UNAUTH);
	req.anon_id = "anonymous-id";
	assert_int_equal(caller_of_request(&req, false, &caller, &diag),
	    ERR_UNAUTH);
}

static void
needs_an_address(void **state)
{
	static const char *const addresses[] = { NULL, "", "unknown", "1.2.3",
		"1.2.3.4, 5.6.7.8",
		"1234567890123456789012345678901234567890123456789" };

	(void)state;
	for (size_t i = 0; i < COUNT(addresses); i++) {
		struct request req = ask(by_secret);
		struct caller caller;
		struct diag diag;

		req.client = addresses[i];
		req.no_client = addresses[i] == NULL;
		assert_int_equal(caller_of_request(&req, false, &caller, &diag),
		    ERR_PROTO);
	}
}

/* ---- what an EventSource says ---- */

static void
takes_the_query_where_it_may_attach_alone(void **state)
{
	const struct claims claims = { .sub = "alice", .exp_in_s = 100 };
	char *token = user_token(&claims);
	struct request req = ask(by_secret);
	struct caller caller;
	struct diag diag;

	(void)state;
	req.query[0].name = "token";
	req.query[0].value = token;
	req.query[1].name = "anon_id";
	req.query[1].value = "query-anonymous";
	assert_int_equal(caller_of_request(&req, true, &caller, &diag), ERR_OK);
	assert_string_equal(caller.owner, "u:alice");
	caller_done(&caller);
	assert_int_equal(caller_of_request(&req, false, &caller, &diag),
	    ERR_OK);
	assert_true(caller.is_new);
	caller_done(&caller);
	req.query[0].name = NULL;
	assert_int_equal(caller_of_request(&req, true, &caller, &diag), ERR_OK);
	assert_string_equal(caller.owner, "a:query-anonymous");
	caller_done(&caller);
	/* a header says it more clearly */
	req.anon_id = "header-anonymous";
	assert_int_equal(caller_of_request(&req, true, &caller, &diag), ERR_OK);
	assert_string_equal(caller.owner, "a:header-anonymous");
	caller_done(&caller);
	free(token);
}

/* Set the caller's cookie; "name=value" of it, which the caller frees. */
static char *
cookie_of(struct request *req, const char *id, bool user)
{
	static const char name[] = "Set-Cookie: ";
	const char *at;
	struct caller caller = { .is_user = user,
		.id = xstrdup(id),
		.owner = xasprintf("%s:%s", user ? "u" : "a", id),
		.plan = user ? xstrdup("gold") : NULL,
		.expires = user ? clock_unix() + 100 : 0 };

	req->headers[0] = '\0';
	caller_set_cookie(req, &caller);
	caller_done(&caller);
	at = strstr(req->headers, name);
	assert_non_null(at);
	at += strlen(name);
	return xstrndup(at, strcspn(at, ";"));
}

static void
knows_its_cookie_where_it_may_attach_alone(void **state)
{
	static const char *const owners[] = { "u:alice", "a:anonymous-id" };

	(void)state;
	for (size_t i = 0; i < COUNT(owners); i++) {
		struct request req = ask(by_secret);
		char *pair = cookie_of(&req, owners[i] + 2, i == 0);
		char *header = xasprintf("a=b; %s; c=d", pair);
		struct caller caller;
		struct diag diag = { "" };

		assert_true(strlen(pair) > 20);
		req.cookie = header;
		assert_int_equal(caller_of_request(&req, true, &caller, &diag),
		    ERR_OK);
		assert_string_equal(caller.owner, owners[i]);
		assert_int_equal(caller.is_user, i == 0);
		assert_false(caller.is_new);
		if (i == 0)
			assert_string_equal(caller.plan, "gold");
		else
			assert_null(caller.plan);
		caller_done(&caller);
		/* a page of another site can have it sent, too */
		assert_int_equal(caller_of_request(&req, false, &caller, &diag),
		    ERR_OK);
		assert_true(caller.is_new);
		caller_done(&caller);
		free(header);
		free(pair);
	}
}

static void
refuses_the_cookie_of_a_user_who_is_revoked(void **state)
{
	struct request req = ask(by_secret);
	char *pair = cookie_of(&req, "mallory", true);
	struct caller caller;
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(revocations_add("user", "mallory", clock_unix() + 1,
			     clock_unix() + 60, &diag),
	    ERR_OK);
	req.cookie = pair;
	assert_int_equal(caller_of_request(&req, true, &caller, &diag),
	    ERR_UNAUTH);
	free(pair);
	revocations_done();
}

static void
sets_a_cookie_that_goes_nowhere_else(void **state)
{
	struct request req = ask(by_secret);

	(void)state;
	free(cookie_of(&req, "anonymous-id", false));
	assert_null(strstr(req.headers, "X-Anon-Id"));
	assert_non_null(strstr(req.headers,
	    "; Path=/api/v1/messages; Max-Age=960; HttpOnly; SameSite=Lax; "
	    "Secure"));
	req.scheme = "http";
	req.config = no_users;
	free(cookie_of(&req, "alice", true));
	/* no longer than the token is good */
	assert_non_null(strstr(req.headers,
	    "; Path=/base/api/v1/messages; Max-Age=100; HttpOnly; "
	    "SameSite=Lax"));
	assert_null(strstr(req.headers, "Secure"));
}

static void
takes_no_token_for_a_cookie_and_no_cookie_for_a_token(void **state)
{
	const struct claims claims = { .sub = "u:alice", .exp_in_s = 100 };
	struct request req = ask(by_secret);
	char *pair = cookie_of(&req, "alice", true);
	char *token = user_token(&claims), *ours, *header;
	struct crypt_key *key = ticket_store_key();
	struct caller caller;
	struct diag diag;

	(void)state;
	assert_int_equal(bearer(by_secret, strchr(pair, '=') + 1, &caller),
	    ERR_UNAUTH);
	/* the users' key, and even ours on another kind of token */
	ours = sign(&claims, key, "HS256");
	crypt_key_free(key);
	for (int i = 0; i < 3; i++) {
		const char *text = i == 0 ? token : i == 1 ? ours : "x";

		header = xasprintf("culvert_chat=%s", text);
		req.cookie = header;
		assert_int_equal(caller_of_request(&req, true, &caller, &diag),
		    ERR_UNAUTH);
		free(header);
	}
	free(pair);
	free(token);
	free(ours);
}

/* ---- Socket.IO ---- */

static void
a_socket_may_have_a_ticket(void **state)
{
	static const struct {
		struct store_ticket of;
		enum err err;
	} rows[] = {
#define T(s) ((char *)(uintptr_t)(s))
		{ { .route = T("socket.io"), .user = T("ann") }, ERR_OK },
		{ { .route = T("socket.io"),
		      .user = T("ann"),
		      .address = T("2001:db8::1") },
		    ERR_OK },
		{ { .route = T("socket.io"),
		      .user = T("ann"),
		      .address = T("2001:db8::2") },
		    ERR_UNAUTH },
		{ { .route = T("socket.io") }, ERR_UNAUTH },
		{ { .route = T("chat"), .user = T("ann") }, ERR_UNAUTH },
#undef T
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct store_ticket of = rows[i].of;
		char id[TICKET_ID_BYTES + 1], *text;
		struct caller caller = { .id = NULL };
		struct diag diag = { "" };
		json_t *auth;

		of.created = clock_unix();
		of.expires = of.created + 60;
		assert_int_equal(ticket_make(&of, id, &text, NULL), ERR_OK);
		auth = json_pack("{s:s}", "token", text);
		if (caller_of_auth(by_secret, auth, "2001:db8::1", &caller,
			&diag) != rows[i].err)
			fail_msg("row %zu: %s", i, diag.text);
		if (rows[i].err == ERR_OK) {
			assert_string_equal(caller.owner, "u:ann");
			/* the socket outlives it */
			assert_int_equal(caller.expires, 0);
		}
		caller_done(&caller);
		json_decref(auth);
		free(text);
	}
}

static void
knows_a_sockets_auth(void **state)
{
	const struct claims claims = { .sub = "alice", .exp_in_s = 100 };
	char *token = user_token(&claims);
	struct {
		json_t *auth;
		enum err err;
		const char *owner; /* NULL: a new visitor */
	} rows[] = {
		{ NULL, ERR_OK, NULL },
		{ json_pack("{}"), ERR_OK, NULL },
		{ json_pack("{s:s}", "token", token), ERR_OK, "u:alice" },
		{ json_pack("{s:n, s:s, s:i}", "token", "anon_id",
		      "anonymous-id", "other", 1),
		    ERR_OK, "a:anonymous-id" },
		{ json_pack("{s:s, s:s}", "token", "", "anon_id",
		      "anonymous-id"),
		    ERR_OK, "a:anonymous-id" },
		{ json_pack("{s:s, s:s}", "token", token, "anon_id",
		      "anonymous-id"),
		    ERR_OK, "u:alice" },
		{ json_pack("{s:s}", "token", "your-jwt-token"), ERR_UNAUTH,
		    NULL },
		{ json_pack("{s:i}", "token", 1), ERR_PROTO, NULL },
		{ json_pack("{s:[]}", "anon_id"), ERR_PROTO, NULL },
		{ json_pack("{s:s}", "anon_id", "short"), ERR_PROTO, NULL },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct caller caller = { .id = NULL };
		struct diag diag = { "" };

		if (caller_of_auth(by_secret, rows[i].auth, "2001:db8::1",
			&caller, &diag) != rows[i].err)
			fail_msg("row %zu: %s", i, diag.text);
		if (rows[i].owner != NULL)
			assert_string_equal(caller.owner, rows[i].owner);
		else
			assert_int_equal(caller.is_new, rows[i].err == ERR_OK);
		caller_done(&caller);
		json_decref(rows[i].auth);
	}
	free(token);
}

static void
knows_the_headers_of_a_handshake(void **state)
{
	struct caller caller;
	struct diag diag;

	(void)state;
	assert_int_equal(caller_of_headers(by_secret,
			     &(struct caller_headers){ .authorization = NULL,
				 .anon_id = "anonymous-id",
				 .address = "192.0.2.1" },
			     &caller, &diag),
	    ERR_OK);
	assert_string_equal(caller.owner, "a:anonymous-id");
	caller_done(&caller);
	assert_int_equal(caller_of_headers(by_secret,
			     &(struct caller_headers){ .authorization =
							   "bearer x",
				 .anon_id = "anonymous-id",
				 .address = "192.0.2.1" },
			     &caller, &diag),
	    ERR_UNAUTH);
}

/* ---- the tests ---- */

static int
init(void **state)
{
	EVP_PKEY *pkey = test_key("RSA", NULL, 2048);
	char *text;
	int fd = mkstemp(public_path);

	(void)state;
	public_pem = test_pem(pkey, false, NULL);
	private_pem = test_pem(pkey, true, NULL);
	EVP_PKEY_free(pkey);
	if (write(fd, public_pem, strlen(public_pem)) == -1 ||
	    close(fd) == -1 || setenv("T_SECRET", user_secret, 1) == -1)
		return -1;
	by_secret = configure(USERS "}\n", "balance = false");
	text = xasprintf("users { public_key_file = \"%s\" }\n", public_path);
	by_key = configure(text, "balance = false");
	free(text);
	no_users = configure("requests { base_path = \"/base\" }\n", "");
	no_visitors = configure(USERS "}\n",
	    "anonymous { allow = false } balance = false");
	strict = configure(USERS "issuer = us audience = chat }\n",
	    "balance = false");
	return ticket_store_open();
}

static int
done(void **state)
{
	(void)state;
	config_unref(by_secret);
	config_unref(by_key);
	config_unref(no_users);
	config_unref(no_visitors);
	config_unref(strict);
	free(public_pem);
	free(private_pem);
	return unlink(public_path) | ticket_store_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_a_user_by_a_token_that_the_site_signed),
		cmocka_unit_test(knows_a_user_by_a_public_key_alone),
		cmocka_unit_test(
		    refuses_a_token_that_is_not_good_and_takes_nobody_for_anonymous),
		cmocka_unit_test(
		    takes_names_to_128_bytes_and_clocks_a_minute_apart),
		cmocka_unit_test(
		    asks_for_issuer_and_audience_where_they_are_configured),
		cmocka_unit_test(
		    signs_nobody_in_with_a_ticket_or_where_there_are_no_users),
		cmocka_unit_test(
		    knows_a_visitor_by_its_id_and_counts_it_by_its_address_too),
		cmocka_unit_test(gives_an_id_to_who_has_none),
		cmocka_unit_test(
		    refuses_ids_that_can_be_guessed_or_hide_something),
		cmocka_unit_test(has_no_visitors_where_none_are_allowed),
		cmocka_unit_test(needs_an_address),
		cmocka_unit_test(takes_the_query_where_it_may_attach_alone),
		cmocka_unit_test(knows_its_cookie_where_it_may_attach_alone),
		cmocka_unit_test(refuses_the_cookie_of_a_user_who_is_revoked),
		cmocka_unit_test(sets_a_cookie_that_goes_nowhere_else),
		cmocka_unit_test(
		    takes_no_token_for_a_cookie_and_no_cookie_for_a_token),
		cmocka_unit_test(knows_a_sockets_auth),
		cmocka_unit_test(a_socket_may_have_a_ticket),
		cmocka_unit_test(knows_the_headers_of_a_handshake),
	};

	return cmocka_run_group_tests(tests, init, done);
}
