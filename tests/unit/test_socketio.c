/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/socketio/socketio.h"
#include "common/xalloc.h"
#include "engineio_double.h"

/* ---- an application ----------------------------------------------------- */

static struct {
	struct sio_socket *asked; /* referenced */
	char *auth;
	char *event, *arguments;
	size_t attachments;
	int64_t id;
	const char *reason;
	size_t connects, disconnects;
} app;

static char *
dump(const json_t *value)
{
	return value == NULL ? xstrdup("") : json_dumps(value, JSON_COMPACT);
}

static void
on_connect(struct sio_socket *socket, const json_t *auth)
{
	const char *room = json_string_value(json_object_get(auth, "room"));

	app.connects++;
	free(app.auth);
	app.auth = dump(auth);
	if (app.asked != NULL)
		sio_unref(app.asked);
	app.asked = sio_ref(socket);
	if (json_object_get(auth, "wait") != NULL)
		return;
	if (json_object_get(auth, "bad") != NULL)
		sio_refuse(socket, "UNAUTHORIZED", "no");
	else
		sio_accept(socket, room);
}

static void
on_event(struct sio_socket *socket, const char *name,
    const struct sio_message *message, int64_t id)
{
	free(app.event);
	free(app.arguments);
	app.event = xstrdup(name);
	app.arguments = dump(message->data);
	app.attachments = message->attachment_count;
	app.id = id;
	if (strcmp(name, "echo") == 0)
		sio_emit(socket, "echoed", message);
	if (strcmp(name, "leave") == 0)
		sio_disconnect(socket, false);
	if (strcmp(name, "hang_up") == 0)
		sio_disconnect(socket, true);
	sio_ack(socket, id, message);
}

static void
on_disconnected(struct sio_socket *socket, const char *reason)
{
	assert_non_null(sio_info(socket));
	/* nothing that is said now may reach anybody */
	sio_emit(socket, "late", NULL);
	sio_accept(socket, NULL);
	sio_disconnect(socket, true);
	app.disconnects++;
	app.reason = reason;
}

static const struct sio_app chats = { .namespace = "/chats",
	.recovers = true,
	.connect = on_connect,
	.event = on_event,
	.disconnected = on_disconnected };
static const struct sio_app root = { .namespace = "/",
	.recovers = true,
	.max_text_bytes = 20,
	.connect = on_connect,
	.event = on_event,
	.disconnected = on_disconnected };

static int
start(int64_t recovery_ms, uint64_t max_sessions)
{
	const struct sio_app *const apps[] = { &chats, &root };
	struct config_socketio config = { .path = (char[]){ "/socket.io/" },
		.ping_interval_ms = 25000,
		.ping_timeout_ms = 20000,
		.connect_timeout_ms = 20,
		.recovery_ms = recovery_ms,
		.max_payload = 100,
		.max_sessions = max_sessions,
		.max_sessions_per_address = max_sessions };

	memset(&app, 0, sizeof(app));
	double_init();
	return socketio_start(&config, apps, 2, NULL) == ERR_OK ? 0 : -1;
}

static int
set_up(void **state)
{
	(void)state;
	return start(0, 10);
}

static int
set_up_recovery(void **state)
{
	(void)state;
	return start(60000, 10);
}

/* Where one session alone can be lost. */
static int
set_up_one_recovery(void **state)
{
	(void)state;
	return start(60000, 1);
}

static int
tear_down(void **state)
{
	(void)state;
	socketio_stop();
	if (app.asked != NULL)
		sio_unref(app.asked);
	free(app.auth);
	free(app.event);
	free(app.arguments);
	double_done();
	return 0;
}

/* ---- clients ------------------------------------------------------------ */

/* A member of the CONNECT that was sent next, in memory of the caller's. */
static void
expect_connect(struct eio *eio, const char *prefix, char sid[64], char pid[64])
{
	const char *sent = next(eio), *text;
	json_t *data;

	assert_non_null(sent);
	assert_memory_equal(sent, prefix, strlen(prefix));
	data = json_loads(sent + strlen(prefix), 0, NULL);
	assert_non_null(data);
	text = json_string_value(json_object_get(data, "sid"));
	assert_int_equal(strlen(text), 20);
	(void)snprintf(sid, 64, "%s", text);
	text = json_string_value(json_object_get(data, "pid"));
	if (pid == NULL)
		assert_null(text);
	else
		(void)snprintf(pid, 64, "%s", text);
	json_decref(data);
}

static struct eio *
connect_client(size_t i, const char *packet)
{
	struct eio *eio = open_client(i);
	char sid[64];

	say(eio, packet);
	expect_connect(eio, "0/chats,", sid, NULL);
	return eio;
}

/* ---- namespaces --------------------------------------------------------- */

static void
connects_to_namespaces(void **state)
{
	struct eio *eio = open_client(0);
	char a[64], b[64];

	(void)state;
	say(eio, "0/chats,{\"token\":\"T\"}");
	expect_connect(eio, "0/chats,", a, NULL);
	assert_string_equal(app.auth, "{\"token\":\"T\"}");
	assert_ptr_equal(sio_info(app.asked), eio_info(eio));
	assert_false(sio_is_recovered(app.asked));
	say(eio, "0");
	expect_connect(eio, "0", b, NULL);
	assert_string_equal(app.auth, "");
	assert_string_not_equal(a, b);
	say(eio, "0/nowhere,{}");
	expect(eio, "4/nowhere,{\"message\":\"Invalid namespace\"}");
	assert_null(next(eio));
	assert_null(eio_closing(eio));
}

static void
refuses_in_the_applications_words(void **state)
{
	struct eio *eio = open_client(0);
	char sid[64];

	(void)state;
	say(eio, "0/chats,{\"bad\":1}");
	expect(eio,
	    "4/chats,{\"message\":\"no\",\"data\":"
	    "{\"code\":\"UNAUTHORIZED\"}}");
	assert_int_equal(app.disconnects, 1);
	assert_null(sio_info(app.asked));
	/* it may try again */
	say(eio, "0/chats,{}");
	expect_connect(eio, "0/chats,", sid, NULL);
}

static void
closes_who_says_what_has_no_meaning(void **state)
{
	static const struct {
		const char *texts[3];
		const char *reason;
	} cases[] = {
		{ { "0/chats,", "0/chats,{}" }, "forced close" },
		{ { "0/chats,{\"wait\":1}", "0/chats," }, "forced close" },
		{ { "0/chats,{\"wait\":1}", "2/chats,[\"a\"]" },
		    "forced close" },
		{ { "0/chats,", "2[\"a\"]" }, "forced close" },
		{ { "2/chats,[\"a\"]" }, "forced close" },
		{ { "1/chats," }, "forced close" },
		{ { "30[]" }, "forced close" },
		{ { "0/chats,", "4/chats,{\"message\":\"\"}" },
		    "forced close" },
		{ { "0/chats,", "1/chats,", "2/chats,[\"a\"]" },
		    "forced close" },
		{ { "0/chats,", "2/chats,{}" }, "parse error" },
		{ { "0/chats,", "2/chats,[\"disconnect\"]" }, "parse error" },
		{ { "9" }, "parse error" },
		{ { "" }, "parse error" },
		/* a text where an attachment has to come */
		{ { "0/chats,",
		      "51-/chats,[\"a\",{\"_placeholder\":true,\"num\":0}]",
		      "2/chats,[\"a\"]" },
		    "parse error" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct eio *eio = open_client(0);

		for (size_t k = 0; k < 3 && cases[i].texts[k] != NULL; k++)
			say(eio, cases[i].texts[k]);
		assert_non_null(eio_closing(eio));
		assert_string_equal(eio_closing(eio), cases[i].reason);
		/* what comes then counts no more, and nothing is sent */
		say(eio, "0");
		say(eio, "2/chats,[\"echo\"]");
		end_client(eio, eio_closing(eio));
		assert_int_equal(app.connects, app.disconnects);
		eio_renew(eio);
	}
}

static void
closes_who_does_not_connect_in_time(void **state)
{
	struct eio *eio = open_client(0);

	(void)state;
	say(eio, "0/nowhere,");
	say(eio, "0/chats,{\"bad\":1}");
	assert_int_equal(loop_run(hub_loop()), ERR_OK); /* until it is closed */
	assert_string_equal(eio_closing(eio), "forced close");
}

static void
closes_who_stays_in_no_namespace(void **state)
{
	struct eio *eio = connect_client(0, "0/chats,");

	(void)state;
	say(eio, "1/chats,");
	assert_int_equal(app.disconnects, 1);
	assert_null(eio_closing(eio));
	assert_int_equal(loop_run(hub_loop()), ERR_OK);
	assert_string_equal(eio_closing(eio), "forced close");
}

static void
stop_loop(void *arg)
{
	(void)arg;
	loop_stop(hub_loop());
}

static void
leaves_who_is_connected_alone(void **state)
{
	struct loop_timer *timer = loop_timer_new(hub_loop(), stop_loop, NULL);
	struct eio *eio = connect_client(0, "0/chats,"), *gone;

	(void)state;
	gone = open_client(1);
	end_client(gone, "transport close");
	loop_timer_set(timer, 60); /* thrice the time to connect */
	assert_int_equal(loop_run(hub_loop()), ERR_OK);
	loop_timer_free(timer);
	assert_null(eio_closing(eio));
}

static void
closes_who_connects_too_often(void **state)
{
	static const char *const texts[] = { "0/nowhere,",
		"0/chats,{\"bad\":1}" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct eio *eio = open_client(i);
		int n = 0;

		while (eio_closing(eio) == NULL && n < 1000) {
			say(eio, texts[i]);
			n++;
		}
		/* time goes on meanwhile */
		assert_in_range(n, 21, 999);
		assert_string_equal(eio_closing(eio), "forced close");
	}
}

static void
lets_a_client_leave(void **state)
{
	struct eio *eio = connect_client(0, "0/chats,");
	char sid[64];

	(void)state;
	say(eio, "1/chats,");
	assert_string_equal(app.reason, "client namespace disconnect");
	assert_null(next(eio));
	say(eio, "0/chats,");
	expect_connect(eio, "0/chats,", sid, NULL);
	end_client(eio, "transport close");
	assert_string_equal(app.reason, "transport close");
	assert_int_equal(app.disconnects, 2);
}

static void
makes_a_client_leave(void **state)
{
	struct eio *eio = connect_client(0, "0/chats,");
	char sid[64];

	(void)state;
	say(eio, "2/chats,5[\"leave\"]");
	expect(eio, "1/chats,");
	assert_null(next(eio)); /* no ack either */
	assert_null(eio_closing(eio));
	assert_string_equal(app.reason, "server namespace disconnect");
	say(eio, "0/chats,");
	expect_connect(eio, "0/chats,", sid, NULL);
	say(eio, "0");
	expect_connect(eio, "0", sid, NULL);
	say(eio, "2[\"hang_up\"]");
	expect(eio, "1");
	expect(eio, "1/chats,");
	assert_string_equal(eio_closing(eio), "forced close");
	assert_int_equal(app.disconnects, 3);
	end_client(eio, "forced close");
	assert_int_equal(app.disconnects, 3);
}

static void
accepts_and_refuses_later(void **state)
{
	struct eio *eio = open_client(0);
	struct sio_socket *late;
	char sid[64];

	(void)state;
	say(eio, "0/chats,{\"wait\":1}");
	assert_null(next(eio));
	sio_emit(app.asked, "early", NULL);
	assert_null(next(eio));
	sio_accept(app.asked, "me");
	expect_connect(eio, "0/chats,", sid, NULL);
	sio_accept(app.asked, "me"); /* twice is once */
	sio_refuse(app.asked, "X", "x");
	assert_null(next(eio));
	/* the client has left before */
	eio = open_client(1);
	say(eio, "0/chats,{\"wait\":1}");
	late = sio_ref(app.asked);
	end_client(eio, "ping timeout");
	assert_string_equal(app.reason, "ping timeout");
	assert_null(sio_info(late));
	sio_accept(late, "me");
	sio_refuse(late, "X", "x");
	sio_emit(late, "late", NULL);
	sio_ack(late, 1, NULL);
	sio_disconnect(late, true);
	assert_null(next(eio));
	sio_unref(late);
}

static void
tells_applications_of_the_end(void **state)
{
	(void)state;
	(void)connect_client(0, "0/chats,");
	(void)open_client(1);
	socketio_stop();
	assert_int_equal(app.disconnects, 1);
	assert_string_equal(app.reason, "server shutting down");
	sio_emit_room("/chats", "me", "late", NULL);
	sio_accept(app.asked, "me");
}

/* ---- events ------------------------------------------------------------- */

static void
passes_events_and_acks(void **state)
{
	struct eio *eio = connect_client(0, "0/chats,");

	(void)state;
	say(eio, "2/chats,[\"list\",{\"page\":1},null]");
	assert_string_equal(app.event, "list");
	assert_string_equal(app.arguments, "[{\"page\":1},null]");
	assert_int_equal(app.id, SIO_NO_ID);
	assert_null(next(eio));
	say(eio, "2/chats,12[\"echo\",1,\"\xe2\x82\xac\"]");
	assert_int_equal(app.id, 12);
	expect(eio, "2/chats,[\"echoed\",1,\"\xe2\x82\xac\"]");
	expect(eio, "3/chats,12[1,\"\xe2\x82\xac\"]");
	/* one that nobody asked for */
	say(eio, "3/chats,3[1]");
	assert_null(next(eio));
	assert_null(eio_closing(eio));
}

#define HOLE(n) "{\"_placeholder\":true,\"num\":" #n "}"

static void
passes_attachments(void **state)
{
	struct eio *eio = connect_client(0, "0/chats,");

	(void)state;
	say(eio, "52-/chats,7[\"echo\"," HOLE(1) ",{\"a\":" HOLE(0) "}]");
	assert_null(app.event);
	say_binary(eio, "first");
	assert_null(app.event);
	say_binary(eio, "second");
	assert_string_equal(app.event, "echo");
	assert_int_equal(app.attachments, 2);
	expect(eio, "52-/chats,[\"echoed\"," HOLE(1) ",{\"a\":" HOLE(0) "}]");
	expect(eio, "bfirst");
	expect(eio, "bsecond");
	expect(eio, "62-/chats,7[" HOLE(1) ",{\"a\":" HOLE(0) "}]");
	expect(eio, "bfirst");
	expect(eio, "bsecond");
	assert_null(eio_closing(eio));
	/* one more than was said */
	say_binary(eio, "third");
	assert_string_equal(eio_closing(eio), "parse error");
}

static void
bounds_a_packet_with_its_attachments(void **state)
{
	struct eio *eio = connect_client(0, "0/chats,");
	const char *text = "52-/chats,[\"a\"," HOLE(1) "," HOLE(0) "]";
	char fits[100] = "";

	(void)state;
	memset(fits, 'x', 100 - strlen(text) - 1);
	say(eio, text);
	say_binary(eio, fits);
	say_binary(eio, "x");
	assert_string_equal(app.event, "a");
	say(eio, text);
	say_binary(eio, fits);
	assert_null(eio_closing(eio));
	say_binary(eio, "xx");
	assert_string_equal(eio_closing(eio), "parse error");
}

static void
reads_no_more_of_a_text_than_its_application_wants(void **state)
{
	static const struct {
		const char *prefix;
		size_t max;
	} rows[] = { { "2/chats,", 16 * 1024 }, { "2", 20 },
		{ "0/nowhere,", 16 * 1024 } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *fill = xcalloc(1, rows[i].max);
		struct eio *eio = open_client(i);
		bool connects = rows[i].prefix[0] == '0';
		char *text;

		say(eio, "0");
		say(eio, "0/chats,");
		memset(fill, 'x', rows[i].max - 8);
		text = xasprintf("%s%s%s%s", rows[i].prefix,
		    connects ? "{\"a\":\"" : "[\"a\",\"", fill,
		    connects ? "\"}" : "\"]");
		/* {"a":""} and ["a",""] are 8 bytes */
		say(eio, text);
		assert_null(eio_closing(eio));
		free(text);
		text = xasprintf("%s%s%s%s", rows[i].prefix,
		    connects ? "{\"a\":\"" : "[\"a\",\"", fill,
		    connects ? "x\"}" : "x\"]");
		say(eio, text);
		assert_string_equal(eio_closing(eio), "parse error");
		free(text);
		free(fill);
	}
}

static void
hang_up_on(struct sio_socket *socket, void *arg)
{
	(*(size_t *)arg)++;
	sio_disconnect(socket, true);
}

static void
emits_to_rooms(void **state)
{
	struct eio *a = connect_client(0, "0/chats,{\"room\":\"me\"}");
	struct eio *b = connect_client(1, "0/chats,{\"room\":\"me\"}");
	struct eio *c = connect_client(2, "0/chats,{\"room\":\"you\"}");
	struct eio *none = connect_client(3, "0/chats,{}");
	struct sio_attachment blob = { (char[]){ "blob" }, 4 };
	struct sio_message message = { .attachments = &blob,
		.attachment_count = 1 };
	size_t visits = 0;
	json_t *data = json_pack("[{s:b, s:i}]", "_placeholder", 1, "num", 0);

	(void)state;
	message.data = data;
	sio_emit_room("/chats", "me", "news", &message);
	expect(a, "51-/chats,[\"news\"," HOLE(0) "]");
	expect(a, "bblob");
	expect(b, "51-/chats,[\"news\"," HOLE(0) "]");
	expect(b, "bblob");
	json_decref(data);
	sio_emit_room("/", "me", "news", NULL);
	sio_emit_room("/nowhere", "me", "news", NULL);
	sio_emit_room("/chats", "", "news", NULL);
	sio_emit_room("/chats", "you", "only", NULL);
	assert_null(next(a));
	expect(c, "2/chats,[\"only\"]");
	sio_each("/chats", "me", hang_up_on, &visits);
	sio_each("/chats", "me", hang_up_on, &visits);
	assert_int_equal(visits, 2);
	assert_non_null(eio_closing(a));
	assert_non_null(eio_closing(b));
	assert_null(eio_closing(c));
	assert_null(next(none));
}

/* ---- connection state recovery ------------------------------------------ */

/* The offset at the end of the event that was sent next. */
static void
expect_event(struct eio *eio, const char *prefix, char offset[64])
{
	const char *sent = next(eio);
	int end_at = 0;

	assert_non_null(sent);
	assert_memory_equal(sent, prefix, strlen(prefix));
	assert_int_equal(sscanf(sent + strlen(prefix), "\"%63[0-9]\"]%n",
			     offset, &end_at),
	    1);
	assert_int_equal(strlen(prefix) + (size_t)end_at, strlen(sent));
}

static struct eio *
come_back(size_t i, const char *pid, const char *offset, const char *room)
{
	struct eio *eio = open_client(i);
	char *text = xasprintf("0/chats,{\"pid\":\"%s\",\"offset\":\"%s\","
			       "\"room\":\"%s\"}",
	    pid, offset, room);

	say(eio, text);
	free(text);
	return eio;
}

static void
recovers_what_was_missed(void **state)
{
	char sid[64], pid[64], offset[64], last[64], sid2[64], pid2[64];
	struct eio *eio = open_client(0), *other;

	(void)state;
	say(eio, "0/chats,{\"room\":\"me\"}");
	expect_connect(eio, "0/chats,", sid, pid);
	assert_string_not_equal(sid, pid);
	say(eio, "2/chats,1[\"echo\",true]");
	expect_event(eio, "2/chats,[\"echoed\",true,", offset);
	expect(eio, "3/chats,1[true]"); /* an ack has none */
	end_client(eio, "transport close");
	assert_int_equal(app.disconnects, 1);
	other = open_client(1);
	say(other, "0/chats,{\"room\":\"me\"}");
	expect_connect(other, "0/chats,", sid2, pid2);
	sio_emit_room("/chats", "me", "missed", NULL);
	sio_emit(app.asked, "others", NULL); /* the other's alone */
	eio = come_back(2, pid, offset, "me");
	expect_event(eio, "2/chats,[\"missed\",", last);
	expect_connect(eio, "0/chats,", sid2, pid2);
	assert_string_equal(sid2, sid);
	assert_string_equal(pid2, pid);
	assert_true(sio_is_recovered(app.asked));
	assert_null(next(eio));
	/* it goes on, and again */
	sio_emit_room("/chats", "me", "more", NULL);
	expect_event(eio, "2/chats,[\"more\",", offset);
	assert_true(strcmp(offset, last) > 0);
	end_client(eio, "ping timeout");
	eio = come_back(3, pid, last, "me");
	expect_event(eio, "2/chats,[\"more\",", offset);
	expect_connect(eio, "0/chats,", sid2, pid2);
	assert_string_equal(pid2, pid);
}

static void
recovers_attachments(void **state)
{
	char sid[64], pid[64], offset[64];
	struct sio_attachment blob = { xstrdup("blob"), 4 };
	struct sio_message message = { .attachments = &blob,
		.attachment_count = 1 };
	struct eio *eio = open_client(0);
	json_t *data = json_pack("[{s:b, s:i}]", "_placeholder", 1, "num", 0);
	char *text;

	(void)state;
	say(eio, "0/chats,{}");
	expect_connect(eio, "0/chats,", sid, pid);
	message.data = data;
	sio_emit(app.asked, "blob", &message);
	json_decref(data);
	free(blob.data);
	end_client(eio, "transport error");
	/* without a room; and without an offset, when nothing has arrived */
	eio = open_client(1);
	text = xasprintf("0/chats,{\"pid\":\"%s\"}", pid);
	say(eio, text);
	free(text);
	expect_event(eio, "51-/chats,[\"blob\"," HOLE(0) ",", offset);
	expect(eio, "bblob");
	assert_true(sio_is_recovered(app.asked));
}

static void
recovers_a_connection_that_is_not_known_to_be_broken(void **state)
{
	char sid[64], pid[64], offset[64], sid2[64], pid2[64];
	struct eio *old = open_client(0), *eio;
	size_t visits = 0;

	(void)state;
	say(old, "0/chats,{\"room\":\"me\"}");
	expect_connect(old, "0/chats,", sid, pid);
	sio_emit_room("/chats", "me", "seen", NULL);
	expect_event(old, "2/chats,[\"seen\",", offset);
	sio_emit_room("/chats", "me", "missed", NULL);
	eio = come_back(1, pid, offset, "me");
	assert_string_equal(eio_closing(old), "transport close");
	assert_int_equal(app.disconnects, 1);
	expect_event(eio, "2/chats,[\"missed\",", offset);
	expect_connect(eio, "0/chats,", sid2, pid2);
	assert_string_equal(sid2, sid);
	end_client(old, "transport close");
	assert_int_equal(app.disconnects, 1);
	sio_each("/chats", "me", hang_up_on, &visits);
	assert_int_equal(visits, 1);
}

static void
recovers_nothing_where_too_much_is_lost(void **state)
{
	char sid[64], pid[64], pid2[64];
	struct eio *old = open_client(0), *eio;

	(void)state;
	say(old, "0/chats,{\"room\":\"me\"}");
	expect_connect(old, "0/chats,", sid, pid);
	say(old, "0");
	expect_connect(old, "0", sid, pid2);
	/* the connection that is broken has two, the second is kept */
	eio = come_back(1, pid, "1", "me");
	assert_string_equal(eio_closing(old), "transport close");
	expect_connect(eio, "0/chats,", sid, pid2);
	assert_string_not_equal(pid2, pid);
}

static void
recovers_nothing_for_strangers(void **state)
{
	char sid[64], pid[64], offset[64], sid2[64], pid2[64];
	struct eio *eio = open_client(0);

	(void)state;
	say(eio, "0/chats,{\"room\":\"me\"}");
	expect_connect(eio, "0/chats,", sid, pid);
	sio_emit_room("/chats", "me", "seen", NULL);
	expect_event(eio, "2/chats,[\"seen\",", offset);
	end_client(eio, "transport close");
	sio_emit_room("/chats", "me", "missed", NULL);
	/* who is somebody else; who makes an offset up; who knows no pid */
	eio = come_back(1, pid, offset, "you");
	expect_connect(eio, "0/chats,", sid2, pid2);
	assert_string_not_equal(pid2, pid);
	assert_string_not_equal(sid2, sid);
	assert_false(sio_is_recovered(app.asked));
	eio = come_back(2, pid, "\\u20ac", "me");
	expect_connect(eio, "0/chats,", sid2, pid2);
	assert_string_not_equal(pid2, pid);
	eio = come_back(3, "x", offset, "me");
	expect_connect(eio, "0/chats,", sid2, pid2);
	assert_string_not_equal(pid2, pid);
}

#define ZEROS "00000000000000000000000000000000000"

static void
recovers_nothing_with_an_offset_that_is_none(void **state)
{
	static const char *const offsets[] = { "1", "[]", "{}", "\"x\"",
		"\"" ZEROS ZEROS "\"" };
	char sid[64], pid[64], pid2[64];
	struct eio *eio = open_client(0);

	(void)state;
	say(eio, "0/chats,{}");
	expect_connect(eio, "0/chats,", sid, pid);
	end_client(eio, "transport close");
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		char *text = xasprintf("0/chats,{\"pid\":\"%s\",\"offset\":%s}",
		    pid, offsets[i]);

		eio = open_client(1);
		say(eio, text);
		expect_connect(eio, "0/chats,", sid, pid2);
		assert_string_not_equal(pid2, pid);
		end_client(eio, "transport close");
		eio_renew(eio);
		free(text);
	}
}

static void
recovers_nothing_of_who_has_left(void **state)
{
	char sid[64], pid[64], offset[64], pid2[64];
	struct eio *eio = open_client(0);

	(void)state;
	for (int i = 0; i < 2; i++) {
		say(eio, "0/chats,{\"room\":\"me\"}");
		expect_connect(eio, "0/chats,", sid, pid);
		sio_emit_room("/chats", "me", "seen", NULL);
		expect_event(eio, "2/chats,[\"seen\",", offset);
		say(eio, i == 0 ? "1/chats," : "2/chats,[\"hang_up\"]");
		eio = come_back((size_t)i + 1, pid, offset, "me");
		expect_connect(eio, "0/chats,", sid, pid2);
		assert_string_not_equal(pid2, pid);
		say(eio, "1/chats,");
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define RECOVERY(f) \
	cmocka_unit_test_setup_teardown(f, set_up_recovery, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(connects_to_namespaces),
		TEST(refuses_in_the_applications_words),
		TEST(closes_who_says_what_has_no_meaning),
		TEST(closes_who_does_not_connect_in_time),
		TEST(closes_who_stays_in_no_namespace),
		TEST(leaves_who_is_connected_alone),
		TEST(closes_who_connects_too_often),
		TEST(lets_a_client_leave),
		TEST(makes_a_client_leave),
		TEST(accepts_and_refuses_later),
		TEST(tells_applications_of_the_end),
		TEST(passes_events_and_acks),
		TEST(passes_attachments),
		TEST(bounds_a_packet_with_its_attachments),
		TEST(reads_no_more_of_a_text_than_its_application_wants),
		TEST(emits_to_rooms),
		RECOVERY(recovers_what_was_missed),
		RECOVERY(recovers_attachments),
		RECOVERY(recovers_a_connection_that_is_not_known_to_be_broken),
		cmocka_unit_test_setup_teardown(
		    recovers_nothing_where_too_much_is_lost,
		    set_up_one_recovery, tear_down),
		RECOVERY(recovers_nothing_for_strangers),
		RECOVERY(recovers_nothing_with_an_offset_that_is_none),
		RECOVERY(recovers_nothing_of_who_has_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
