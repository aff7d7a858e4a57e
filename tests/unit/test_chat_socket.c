/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <time.h>

#include "broker/chat/chat_socket.h"
#include "broker/chat/notify.h"
#include "broker/hub/hub.h"
#include "broker/hub/jobs.h"
#include "broker/limits/buckets.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"
#include "config_text.h"
#include "ticket_store.h"

#define WAIT_S	 10
#define SENT_MAX 512

/*
 * The hub, the jobs, Socket.IO and the store are the real ones; Engine.IO is
 * what follows: what is sent to a client waits for the test to look.
 */
struct eio {
	struct eio_info info;
	void *data;
	char *sent[SENT_MAX];
	size_t sent_count, seen;
	bool closing;
};

struct eio_server {
	const struct eio_events *events;
	void *arg;
};

static struct eio_server server;
static struct eio eios[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static char token[1024], short_token[1024];
static char address[] = "192.0.2.1", anon_id[] = "of-the-header";

struct eio_server *
eio_server_new(const char *path, const struct config_socketio *config,
    const struct eio_events *events, void *arg)
{
	(void)path;
	(void)config;
	server = (struct eio_server){ events, arg };
	return &server;
}

static void
run_close(void *arg)
{
	struct eio *eio = arg;

	if (eio->data != NULL)
		server.events->closed(server.arg, eio, "transport close");
	eio->data = NULL;
}

void
eio_server_free(struct eio_server *which)
{
	assert_ptr_equal(which, &server);
	for (size_t i = 0; i < 2; i++)
		assert_true(hub_call(run_close, &eios[i]));
}

const struct eio_info *
eio_info(const struct eio *eio)
{
	return &eio->info;
}

void
eio_set_data(struct eio *eio, void *data)
{
	eio->data = data;
}

void *
eio_data(const struct eio *eio)
{
	return eio->data;
}

void
eio_send(struct eio *eio, bool binary, const void *data, size_t len)
{
	(void)binary;
	(void)pthread_mutex_lock(&lock);
	if (eio->sent_count < SENT_MAX)
		eio->sent[eio->sent_count++] = xstrndup(data, len);
	(void)pthread_cond_signal(&wake);
	(void)pthread_mutex_unlock(&lock);
}

void
eio_close(struct eio *eio, const char *reason)
{
	(void)reason;
	(void)pthread_mutex_lock(&lock);
	eio->closing = true;
	(void)pthread_cond_signal(&wake);
	(void)pthread_mutex_unlock(&lock);
}

/* ---- clients ----------------------------------------------------------- */

struct line {
	struct eio *eio;
	const char *text;
};

static void
run_open(void *arg)
{
	server.events->opened(server.arg, arg);
}

static void
run_say(void *arg)
{
	const struct line *line = arg;

	server.events->message(server.arg, line->eio, false, line->text,
	    strlen(line->text));
}

static void
say(struct eio *eio, const char *text)
{
	struct line line = { eio, text };

	assert_true(hub_call(run_say, &line));
}

static void
deadline(struct timespec *ret)
{
	(void)clock_gettime(CLOCK_REALTIME, ret);
	ret->tv_sec += WAIT_S;
}

/* What it is sent next; borrowed. */
static const char *
next(struct eio *eio)
{
	const char *text = NULL;
	struct timespec until;
	int rc = 0;

	deadline(&until);
	(void)pthread_mutex_lock(&lock);
	while (eio->seen == eio->sent_count && rc == 0)
		rc = pthread_cond_timedwait(&wake, &lock, &until);
	if (eio->seen < eio->sent_count)
		text = eio->sent[eio->seen++];
	(void)pthread_mutex_unlock(&lock);
	if (text == NULL)
		fail_msg("nothing came");
	return text;
}

static void
expect_start(struct eio *eio, const char *start)
{
	const char *text = next(eio);

	if (strncmp(text, start, strlen(start)) != 0)
		fail_msg("%s, not %s", text, start);
}

static void
expect(struct eio *eio, const char *whole)
{
	assert_string_equal(next(eio), whole);
}

/* Connected, and told what is left. */
static struct eio *
connect_client(size_t i, const char *auth)
{
	struct eio *eio = &eios[i];
	char *text = xasprintf("0/chats,%s", auth);

	assert_true(hub_call(run_open, eio));
	say(eio, text);
	free(text);
	expect_start(eio, "0/chats,{\"sid\":");
	expect_start(eio, "2/chats,[\"usage_info\",{\"kind\":");
	return eio;
}

static char *
with_token(const char *text)
{
	return xasprintf("{\"token\":\"%s\"}", text);
}

static struct eio *
connect_alice(size_t i)
{
	char *auth = with_token(token);
	struct eio *eio = connect_client(i, auth);

	free(auth);
	return eio;
}

/* ---- tests ------------------------------------------------------------- */

static void
tells_a_visitor_its_new_id(void **state)
{
	struct eio *eio = &eios[0];
	json_t *event, *usage;
	const char *text;

	(void)state;
	assert_true(hub_call(run_open, eio));
	say(eio, "0/chats,");
	expect_start(eio, "0/chats,{\"sid\":");
	text = next(eio) + strlen("2/chats,");
	assert_int_equal(json_parse(text, strlen(text), &event, NULL), ERR_OK);
	usage = json_array_get(event, 1);
	assert_string_equal(json_string_value(json_array_get(event, 0)),
	    "usage_info");
	assert_int_equal(strlen(json_string_value(
			     json_object_get(usage, "anon_id"))),
	    32);
	json_decref(event);
}

static void
knows_a_caller_by_the_handshake_where_auth_names_none(void **state)
{
	struct eio *eio = &eios[0];

	(void)state;
	eio->info.anon_id = anon_id;
	assert_true(hub_call(run_open, eio));
	say(eio, "0/chats,{\"token\":null}");
	expect_start(eio, "0/chats,{\"sid\":");
	expect_start(eio,
	    "2/chats,[\"usage_info\",{\"kind\":\"anonymous\","
	    "\"anon_id\":\"of-the-header\"");
	say(eio, "1/chats,");
	say(eio, "0/chats,{\"anon_id\":\"of-the-auth\"}");
	expect_start(eio, "0/chats,{\"sid\":");
	expect_start(eio,
	    "2/chats,[\"usage_info\",{\"kind\":\"anonymous\","
	    "\"anon_id\":\"of-the-auth\"");
}

static void
refuses_who_shows_a_bad_token(void **state)
{
	struct eio *eio = &eios[0];

	(void)state;
	assert_true(hub_call(run_open, eio));
	say(eio, "0/chats,{\"token\":\"your-jwt-token\"}");
	expect(eio,
	    "4/chats,{\"message\":\"this is not a JSON Web Token\","
	    "\"data\":{\"code\":\"unauthorized\"}}");
	say(eio, "0/chats,{\"anon_id\":\"x\"}");
	expect_start(eio, "4/chats,{\"message\":\"an anonymous id has");
}

static void
answers_events_by_events_and_by_acks(void **state)
{
	struct eio *eio = connect_alice(0);

	(void)state;
	say(eio, "2/chats,[\"list_chats\",{\"page\":0,\"limit\":20}]");
	expect_start(eio, "2/chats,[\"chats_list\",{\"chats\":[");
	say(eio, "2/chats,7[\"list_chats\"]");
	expect_start(eio, "2/chats,[\"chats_list\",{\"chats\":[");
	expect_start(eio, "3/chats,7[{\"chats\":[");
	say(eio, "2/chats,8[\"usage_info\",null]");
	expect_start(eio, "2/chats,[\"usage_info\",{\"kind\":\"user\"");
	expect(eio, "3/chats,8[{\"kind\":\"user\",\"user\":\"alice\"}]");
}

static void
says_what_fails_by_an_event_and_by_an_ack(void **state)
{
	struct eio *eio = connect_alice(0);

	(void)state;
	say(eio, "2/chats,[\"list_chats\",{\"limit\":0}]");
	expect(eio,
	    "2/chats,[\"assistant_error\",{\"code\":\"bad_request\","
	    "\"error\":\"limit has to be a whole number from 1 to 100\","
	    "\"event\":\"list_chats\"}]");
	say(eio, "2/chats,0[\"list_messages\",{\"chat_id\":\"none\"}]");
	expect_start(eio, "3/chats,0[{\"error\":{\"code\":\"not_found\",");
	expect_start(eio,
	    "2/chats,[\"assistant_error\",{\"code\":\"not_found\",");
}

static void
passes_over_what_it_does_not_know(void **state)
{
	struct eio *eio = connect_alice(0);

	(void)state;
	say(eio, "2/chats,[\"no_such_event\",{}]");
	say(eio, "2/chats,5[\"chats_list\"]");
	say(eio, "2/chats,6[\"usage_info\"]");
	expect_start(eio, "2/chats,[\"usage_info\"");
	expect_start(eio, "3/chats,6[");
}

static void
tells_all_sockets_of_an_owner_what_has_changed(void **state)
{
	struct eio *one = connect_alice(0), *other = connect_alice(1);

	(void)state;
	say(one, "2/chats,1[\"create_chat\",{\"title\":\"T\"}]");
	expect_start(one, "2/chats,[\"chat_created\",{\"chat\":{\"id\":");
	expect_start(other, "2/chats,[\"chat_created\",{\"chat\":{\"id\":");
	/* once: the event that told all is the answer, too */
	expect_start(one, "3/chats,1[{\"chat\":{\"id\":");

	notify_event("u:alice", "message_created", json_pack("{s:i}", "n", 1));
	expect(one, "2/chats,[\"message_created\",{\"n\":1}]");
	expect(other, "2/chats,[\"message_created\",{\"n\":1}]");
	notify_event("u:bob", "message_created", json_pack("{}"));
	notify_usage("u:bob");
	notify_usage("u:alice");
	expect_start(one, "2/chats,[\"usage_info\",");
	expect_start(other, "2/chats,[\"usage_info\",");
}

static void
tells_one_of_many_changes_of_what_is_left(void **state)
{
	struct eio *eio = connect_alice(0);
	size_t count = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		notify_usage("u:alice");
	/* the last one is told of, after it */
	notify_event("u:alice", "end", json_pack("{}"));
	say(eio, "2/chats,1[\"list_chats\"]");
	for (;;) {
		const char *text = next(eio);

		count++;
		if (strncmp(text, "3/chats,1", 9) == 0)
			break;
	}
	assert_in_range(count, 4, 900);
}

static void
run_flood(void *arg)
{
	struct line line = { arg, "2/chats,[\"no_such_event\"]" };

	for (int i = 0; i < 100000 && !line.eio->closing; i++)
		run_say(&line);
}

static void
refuses_a_flood_and_then_hangs_up(void **state)
{
	struct eio *eio = connect_alice(0);
	bool refused = false;

	(void)state;
	/*
	 * 100 pass, 100 are told so, and that is it. On a machine that stops
	 * in between, more may pass, and then it takes more.
	 */
	assert_true(hub_call(run_flood, eio));
	while (!refused)
		refused = strstr(next(eio), "too_many_requests") != NULL;
	(void)pthread_mutex_lock(&lock);
	assert_true(eio->closing);
	(void)pthread_mutex_unlock(&lock);
	assert_true(eio->sent_count >= 100);
}

/* The configuration in force, with more sections. */
static void
configure(const char *more)
{
	char *text =
	    xasprintf("store { path = \"/x/y.db\" }\n"
		      "chat { url = \"http://localhost\" models = {m}\n"
		      "balance = false }\n"
		      "users { secret = \"env:T_SECRET\" }\n%s",
		more);

	config_set_current(config_text(text));
	free(text);
}

static void
counts_events_as_requests_of_their_user(void **state)
{
	char *auth = with_token(token), *connect;
	struct eio *eio, *other = &eios[1];

	(void)state;
	configure("plan few { requests_per_second = 0.001 burst = 3 }\n"
		  "limits { user = few }\n");
	eio = connect_alice(0); /* which is the first */
	for (int i = 0; i < 2; i++) {
		say(eio, "2/chats,1[\"usage_info\"]");
		expect_start(eio, "2/chats,[\"usage_info\",{\"kind\":");
		expect_start(eio, "3/chats,1[{\"kind\":");
	}
	say(eio, "2/chats,1[\"usage_info\"]");
	expect_start(eio,
	    "3/chats,1[{\"error\":{\"code\":\"too_many_requests\","
	    "\"message\":\"too many requests: try again in ");
	expect_start(eio,
	    "2/chats,[\"assistant_error\",{\"code\":\"too_many_requests\"");
	/* nor by another connection; but others may */
	assert_true(hub_call(run_open, other));
	connect = xasprintf("0/chats,%s", auth);
	say(other, connect);
	expect_start(other, "4/chats,{\"message\":\"too many requests");
	say(other, "0/chats,{\"anon_id\":\"visitor-0001\"}");
	expect_start(other, "0/chats,{\"sid\":");
	free(connect);
	free(auth);
	configure("");
	buckets_done();
}

static void
lets_a_socket_go_when_its_token_has_expired(void **state)
{
	char *auth = with_token(short_token);
	struct eio *eio;

	(void)state;
	/* its leeway ends in a second or two */
	eio = connect_client(0, auth);
	expect(eio,
	    "2/chats,[\"assistant_error\",{\"code\":\"unauthorized\","
	    "\"error\":\"the token has expired\"}]");
	expect(eio, "1/chats,");
	free(auth);
}

static void
survives_a_client_that_leaves_while_it_is_answered(void **state)
{
	struct eio *eio = connect_alice(0), *other;

	(void)state;
	for (int i = 0; i < 50; i++)
		say(eio, "2/chats,1[\"list_chats\"]");
	assert_true(hub_call(run_close, eio));
	other = connect_alice(1);
	say(other, "2/chats,1[\"usage_info\"]");
	expect_start(other, "2/chats,[\"usage_info\"");
}

/* ---- before and after -------------------------------------------------- */

static void
make_token(char *out, size_t size, int64_t exp_in_s)
{
	static const char text[] = "0123456789 the secret of the users";
	struct secret *secret = secret_new(text, sizeof(text) - 1, "test");
	json_t *claims = json_pack("{s:s, s:I}", "sub", "alice", "exp",
	    (json_int_t)(clock_unix() + exp_in_s));
	struct crypt_key *key;
	char *made;

	assert_int_equal(crypt_key_from_secret(secret, &key, NULL), ERR_OK);
	assert_int_equal(jwt_sign(claims, key, "HS256", "JWT", NULL, &made),
	    ERR_OK);
	(void)snprintf(out, size, "%s", made);
	free(made);
	crypt_key_free(key);
	secret_free(secret);
	json_decref(claims);
	(void)setenv("T_SECRET", text, 1);
}

static int
set_up(void **state)
{
	const struct sio_app *const apps[] = { &chat_socket_app };
	struct config *config = config_current();
	struct config_socketio socketio = *config->socketio;
	struct diag diag = { "" };
	int rc = -1;

	(void)state;
	socketio.recovery_ms = 0; /* or its texts are in every event */
	memset(eios, 0, sizeof(eios));
	for (size_t i = 0; i < 2; i++)
		eios[i].info.address = address;
	make_token(short_token, sizeof(short_token), -58);
	if (hub_start(&diag) == ERR_OK && jobs_start(2, &diag) == ERR_OK &&
	    socketio_start(&socketio, apps, 1, &diag) == ERR_OK) {
		chat_socket_start(&socketio);
		rc = 0;
	}
	config_unref(config);
	return rc;
}

static int
tear_down(void **state)
{
	(void)state;
	chat_socket_stop();
	socketio_stop();
	jobs_stop();
	hub_stop();
	for (size_t i = 0; i < 2; i++)
		for (size_t k = 0; k < eios[i].sent_count; k++)
			free(eios[i].sent[k]);
	return 0;
}

static int
init(void **state)
{
	(void)state;
	make_token(token, sizeof(token), 1000);
	configure("");
	return ticket_store_open();
}

static int
done(void **state)
{
	(void)state;
	config_set_current(NULL);
	return ticket_store_close();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tells_a_visitor_its_new_id),
		TEST(knows_a_caller_by_the_handshake_where_auth_names_none),
		TEST(refuses_who_shows_a_bad_token),
		TEST(answers_events_by_events_and_by_acks),
		TEST(says_what_fails_by_an_event_and_by_an_ack),
		TEST(passes_over_what_it_does_not_know),
		TEST(tells_all_sockets_of_an_owner_what_has_changed),
		TEST(tells_one_of_many_changes_of_what_is_left),
		TEST(refuses_a_flood_and_then_hangs_up),
		TEST(counts_events_as_requests_of_their_user),
		TEST(lets_a_socket_go_when_its_token_has_expired),
		TEST(survives_a_client_that_leaves_while_it_is_answered),
	};

	return cmocka_run_group_tests(tests, init, done);
}
