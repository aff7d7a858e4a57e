/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "tunnel/relay.h"

#define B(s)	   s, sizeof(s) - 1
#define GIVE_UP_MS 5000

/* A peer as the test plays it, at the far end of a socket pair. */
struct end {
	int fd;
	struct loop_watch *watch;
	struct fixture *fix;
	uint8_t got[1024];
	size_t len;
	bool eof;
};

struct fixture {
	struct loop *loop;
	struct loop_timer *timer;
	struct relay *relay;
	struct end client, upstream;
	struct relay_streams streams;
	struct wire_limits limits;
	struct wire_messages messages;
	struct relay_end end;
	bool ended, closed, timed_out;
	int64_t asked; /* the last number */
	size_t until;  /* stop the loop at this many bytes in total */
};

static bool
is_enough(const struct fixture *fix)
{
	return fix->ended ||
	    (fix->until > 0 &&
		fix->client.len + fix->upstream.len >= fix->until);
}

static void
on_end_readable(void *arg, bool readable, bool writable)
{
	struct end *end = arg;
	ssize_t n;

	(void)readable;
	(void)writable;
	n = recv(end->fd, end->got + end->len, sizeof(end->got) - end->len,
	    MSG_DONTWAIT);
	if (n > 0)
		end->len += (size_t)n;
	else if (n == 0) {
		end->eof = true;
		loop_watch_set(end->watch, false, false);
		/* as every good peer: close when the other has */
		(void)shutdown(end->fd, SHUT_WR);
	}
	if (is_enough(end->fix))
		loop_stop(end->fix->loop);
}

static void
on_usage(void *arg)
{
	(void)arg;
}

static void
on_event(void *arg, json_t *event)
{
	(void)arg;
	json_decref(event);
}

static void
on_ended(void *arg, const struct relay_end *end)
{
	struct fixture *fix = arg;

	fix->ended = true;
	fix->end = *end;
	/* what follows is only TCP's farewell */
	loop_stop(fix->loop);
}

static void
on_closed(void *arg)
{
	struct fixture *fix = arg;

	fix->closed = true;
	loop_stop(fix->loop);
}

static void
on_message(void *arg, struct message_log_entry *entry, const void *text,
    size_t len)
{
	(void)arg;
	(void)entry;
	(void)text;
	(void)len;
}

static void
on_ask(void *arg, int64_t n, bool begun)
{
	struct fixture *fix = arg;

	(void)begun;
	if (n > 0)
		fix->asked = n;
	loop_stop(fix->loop);
}

static const struct relay_events events = { on_usage, on_event, on_message,
	on_ask, on_ended, on_closed };

static void
on_give_up(void *arg)
{
	struct fixture *fix = arg;

	fix->timed_out = true;
	loop_stop(fix->loop);
}

static void
ignore(void *arg, bool readable, bool writable)
{
	(void)arg;
	(void)readable;
	(void)writable;
}

static void
make_end(struct fixture *fix, struct end *end, struct stream **stream,
    struct loop_watch **watch)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX,
			     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			     pair),
	    0);
	*stream = stream_new(pair[0]);
	*watch = loop_watch_new(fix->loop, pair[0], ignore, NULL);
	end->fix = fix;
	end->fd = pair[1];
	end->watch = loop_watch_new(fix->loop, pair[1], on_end_readable, end);
	loop_watch_set(end->watch, true, false);
}

static int
set_up(void **state)
{
	struct fixture *fix = calloc(1, sizeof(*fix));
	struct diag diag;

	assert_non_null(fix);
	assert_int_equal(loop_new(&fix->loop, &diag), ERR_OK);
	assert_int_equal(loop_begin(fix->loop), ERR_OK);
	fix->timer = loop_timer_new(fix->loop, on_give_up, fix);
	make_end(fix, &fix->client, &fix->streams.client,
	    &fix->streams.client_watch);
	make_end(fix, &fix->upstream, &fix->streams.upstream,
	    &fix->streams.upstream_watch);
	fix->limits = (struct wire_limits){ .connect_ms = 1, .pong_ms = 60000 };
	*state = fix;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *fix = *state;

	relay_free(fix->relay);
	loop_watch_free(fix->client.watch);
	loop_watch_free(fix->upstream.watch);
	(void)close(fix->client.fd);
	(void)close(fix->upstream.fd);
	loop_timer_free(fix->timer);
	loop_free(fix->loop);
	json_decref(fix->messages.pin);
	json_decref(fix->messages.session);
	free(fix);
	return 0;
}

static void
start(struct fixture *fix)
{
	fix->relay =
	    relay_new(fix->loop, &fix->streams, &fix->limits, &events, fix);
	relay_start(fix->relay, NULL, 0, NULL, 0, NULL, 0);
}

/* Run until both peers together have got len bytes; 0: until it is over. */
static void
run_until(struct fixture *fix, size_t len)
{
	fix->until = len;
	loop_timer_set(fix->timer, GIVE_UP_MS);
	while (!is_enough(fix) && !fix->timed_out)
		assert_int_equal(loop_run(fix->loop), ERR_OK);
	assert_false(fix->timed_out);
}

static void
run_until_closed(struct fixture *fix)
{
	run_until(fix, 0);
	while (!fix->closed && !fix->timed_out)
		assert_int_equal(loop_run(fix->loop), ERR_OK);
	assert_false(fix->timed_out);
}

static void
say(struct end *end, const void *data, size_t len)
{
	assert_int_equal(send(end->fd, data, len, MSG_NOSIGNAL), len);
}

static void
assert_got(struct end *end, const void *data, size_t len)
{
	assert_int_equal(end->len, len);
	assert_memory_equal(end->got, data, len);
	end->len = 0;
}

/* An unmasked close frame of ours. */
static void
assert_close_code(const struct end *end, int code)
{
	assert_true(end->len >= 4);
	assert_int_equal(end->got[0], 0x88);
	assert_int_equal(end->got[2] << 8 | end->got[3], code);
}

static void
frames_pass_verbatim_both_ways(void **state)
{
	struct fixture *fix = *state;

	start(fix);
	say(&fix->client, B("\x81\x82\1\2\3\4ab\x89\x81\4\3\2\1x"));
	say(&fix->upstream, B("\x01\x02he\x8a\x01x\x80\x01y"));
	run_until(fix, 15 + 10);
	assert_got(&fix->upstream, B("\x81\x82\1\2\3\4ab\x89\x81\4\3\2\1x"));
	assert_got(&fix->client, B("\x01\x02he\x8a\x01x\x80\x01y"));
}

static void
early_bytes_come_after_the_head(void **state)
{
	struct fixture *fix = *state;

	fix->relay =
	    relay_new(fix->loop, &fix->streams, &fix->limits, &events, fix);
	relay_start(fix->relay, B("HEAD"), B("\x81\x81\1\2\3\4a"),
	    B("\x81\x01z"));
	run_until(fix, 7 + 7);
	assert_got(&fix->client, B("HEAD\x81\x01z"));
	assert_got(&fix->upstream, B("\x81\x81\1\2\3\4a"));
}

static void
a_close_passes_and_its_answer_passes_back(void **state)
{
	struct fixture *fix = *state;

	start(fix);
	say(&fix->client, B("\x88\x84\0\0\0\0\x0f\xa0hi"));
	run_until(fix, 10);
	assert_got(&fix->upstream, B("\x88\x84\0\0\0\0\x0f\xa0hi"));
	say(&fix->upstream, B("\x88\x02\x0f\xa0"));
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until_closed(fix);
	assert_got(&fix->client, B("\x88\x02\x0f\xa0"));
	assert_true(fix->client.eof);
	assert_int_equal(fix->end.cause, CAUSE_CLIENT_CLOSED);
	assert_int_equal(fix->end.code, 4000);
	assert_string_equal(fix->end.reason, "hi");
}

static void
a_key_in_a_vendors_reason_does_not_pass(void **state)
{
	struct fixture *fix = *state;
	struct wire_header header = { (char[]){ "X-Key" },
		(char[]){ "ApiKey 0123456789abcdef" }, true };
	const struct wire_headers headers = { &header, 1 };

	fix->streams.keys = key_mask_new(&headers);
	start(fix);
	say(&fix->upstream,
	    B("\x88\x1b\x0f\xa0no 0123456789abcdef, ok\xc3\xa4"));
	run_until(fix, 2 + 2 + 16);
	assert_got(&fix->client, B("\x88\x12\x0f\xa0no <masked> ok\xc3\xa4"));
	say(&fix->client, B("\x88\x82\0\0\0\0\x0f\xa0"));
	(void)shutdown(fix->client.fd, SHUT_WR);
	run_until_closed(fix);
	assert_int_equal(fix->end.cause, CAUSE_UPSTREAM_CLOSED);
	assert_string_equal(fix->end.reason, "no <masked> ok\xc3\xa4");
}

static void
a_client_gets_an_answer_where_the_vendor_only_hangs_up(void **state)
{
	struct fixture *fix = *state;

	start(fix);
	say(&fix->client, B("\x88\x82\0\0\0\0\x03\xe8"));
	run_until(fix, 8);
	(void)shutdown(fix->upstream.fd, SHUT_RDWR);
	run_until_closed(fix);
	assert_close_code(&fix->client, 1000);
	assert_int_equal(fix->end.cause, CAUSE_CLIENT_CLOSED);
}

static void
a_violation_closes_both_sides_with_its_code(void **state)
{
	struct fixture *fix = *state;

	start(fix);
	say(&fix->client, B("\x81\x02no"));
	/* the vendor answers our close frame; the client need not */
	run_until(fix, 8);
	assert_int_equal(fix->upstream.got[0], 0x88);
	assert_true((fix->upstream.got[1] & 0x80) != 0);
	say(&fix->upstream, B("\x88\x02\x03\xea"));
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until_closed(fix);
	assert_close_code(&fix->client, 1002);
	assert_int_equal(fix->end.cause, CAUSE_VIOLATION);
	assert_int_equal(fix->end.side, SIDE_CLIENT);
}

static void
our_close_waits_for_the_end_of_the_frame(void **state)
{
	struct fixture *fix = *state;

	start(fix);
	say(&fix->upstream, B("\x82\x05he"));
	run_until(fix, 4);
	relay_close(fix->relay, CAUSE_RESTART, SIDE_TUNNEL, 0, "");
	say(&fix->upstream, B("llo\x81\x03not"));
	run_until(fix, 7 + 4 + 8);
	assert_memory_equal(fix->client.got, "\x82\x05hello\x88", 8);
	assert_int_equal(fix->client.got[9] << 8 | fix->client.got[10], 1012);
	assert_null(memmem(fix->client.got, fix->client.len, "not", 3));
}

static void
a_lost_vendor_is_1014_to_the_client(void **state)
{
	struct fixture *fix = *state;

	start(fix);
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until(fix, 4);
	assert_close_code(&fix->client, 1014);
	say(&fix->client, B("\x88\x82\0\0\0\0\x03\xf6"));
	run_until(fix, 0);
	assert_int_equal(fix->end.cause, CAUSE_UPSTREAM_LOST);
}

static void
a_vendor_lost_within_a_frame_ends_the_connection_only(void **state)
{
	struct fixture *fix = *state;

	start(fix);
	say(&fix->upstream, B("\x82\x05he"));
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until_closed(fix);
	assert_got(&fix->client, B("\x82\x05he"));
	assert_true(fix->client.eof);
}

static void
our_pings_are_answered_to_us_alone(void **state)
{
	struct fixture *fix = *state;
	uint8_t pong[14] = { 0x8a, 0x88 };

	fix->limits.ping_ms = 5;
	start(fix);
	run_until(fix, 10 + 14); /* one to each */
	assert_int_equal(fix->client.got[0], 0x89);
	memcpy(pong + 6, fix->client.got + 2, 8);
	fix->client.len = fix->upstream.len = 0;
	say(&fix->client, pong, sizeof(pong));
	say(&fix->client, B("\x81\x81\0\0\0\0!"));
	/* nothing but the message and, perhaps, pings of ours before it */
	while (fix->upstream.len % 14 != 7)
		run_until(fix, fix->client.len + fix->upstream.len + 1);
	for (size_t i = 0; i + 7 < fix->upstream.len; i += 14)
		assert_int_equal(fix->upstream.got[i], 0x89);
	assert_int_equal(fix->upstream.got[fix->upstream.len - 7], 0x81);
}

static void
a_peer_without_a_pong_is_4102(void **state)
{
	struct fixture *fix = *state;

	fix->limits.ping_ms = 5;
	fix->limits.pong_ms = 5;
	start(fix);
	run_until(fix, 0);
	assert_int_equal(fix->end.cause, CAUSE_NO_PONG);
	assert_int_equal(fix->end.code, 4102);
}

static void
idleness_is_4103(void **state)
{
	struct fixture *fix = *state;

	fix->limits.idle_ms = 10;
	start(fix);
	run_until(fix, 4 + 8);
	assert_close_code(&fix->client, 4103);
}

/* How many bytes go into this peer's socket before it takes no more. */
static size_t
push(struct fixture *fix, struct end *end, size_t max)
{
	static uint8_t data[65536];
	size_t total = 0;
	ssize_t n;

	while (total < max) {
		n = send(end->fd, data, sizeof(data), MSG_NOSIGNAL);
		if (n > 0) {
			total += (size_t)n;
			continue;
		}
		/* let the relay run for a moment; is it still stuck? */
		loop_timer_set(fix->timer, 20);
		assert_int_equal(loop_run(fix->loop), ERR_OK);
		n = send(end->fd, data, sizeof(data), MSG_NOSIGNAL);
		if (n <= 0)
			break;
		total += (size_t)n;
	}
	return total;
}

static void
a_stalled_reader_stops_the_writer(void **state)
{
	struct fixture *fix = *state;
	size_t taken;

	start(fix);
	loop_watch_set(fix->client.watch, false, false);
	/* one endless binary frame */
	say(&fix->upstream, B("\x82\x7f\0\0\0\x7f\0\0\0\0"));
	taken = push(fix, &fix->upstream, 64 << 20);
	assert_true(taken > 0);
	assert_true(taken < 4 << 20);
	assert_false(fix->ended);
}

static void
a_stalled_reader_is_4101(void **state)
{
	struct fixture *fix = *state;

	fix->limits.stall_ms = 50;
	start(fix);
	loop_watch_set(fix->client.watch, false, false);
	say(&fix->upstream, B("\x82\x7f\0\0\0\x7f\0\0\0\0"));
	(void)push(fix, &fix->upstream, 64 << 20);
	fix->timed_out = false;
	run_until(fix, 8);
	run_until(fix, 0);
	assert_int_equal(fix->end.cause, CAUSE_TOO_SLOW);
	assert_int_equal(fix->end.side, SIDE_CLIENT);
}

static void
what_a_peer_sent_before_it_left_still_arrives(void **state)
{
	struct fixture *fix = *state;
	uint8_t frame[2 + 100] = { 0x82, 100 };

	start(fix);
	for (int i = 0; i < 5; i++)
		say(&fix->upstream, frame, sizeof(frame));
	say(&fix->upstream, B("\x88\x02\x03\xe8"));
	/* gone before the relay has read anything */
	loop_watch_free(fix->upstream.watch);
	fix->upstream.watch = NULL;
	(void)shutdown(fix->upstream.fd, SHUT_RDWR);
	run_until(fix, 5 * sizeof(frame) + 4);
	say(&fix->client, B("\x88\x82\0\0\0\0\x03\xe8"));
	run_until(fix, 0);
	assert_int_equal(fix->end.cause, CAUSE_UPSTREAM_CLOSED);
}

static void
the_last_words_of_a_peer_that_takes_no_more_arrive(void **state)
{
	struct fixture *fix = *state;

	start(fix);
	say(&fix->upstream, B("\x81\x01z\x88\x02\x13\x87"));
	loop_watch_free(fix->upstream.watch);
	fix->upstream.watch = NULL;
	(void)shutdown(fix->upstream.fd, SHUT_RDWR);
	/* writing this to the vendor fails before its words are read */
	say(&fix->client, B("\x81\x81\1\2\3\4a"));
	run_until(fix, 3 + 4);
	assert_got(&fix->client, B("\x81\x01z\x88\x02\x13\x87"));
	say(&fix->client, B("\x88\x82\0\0\0\0\x13\x87"));
	run_until(fix, 0);
	assert_int_equal(fix->end.cause, CAUSE_UPSTREAM_CLOSED);
	assert_int_equal(fix->end.code, 4999);
}

static void
a_higher_rate_holds_at_once(void **state)
{
	static const uint8_t frame[6 + 20] = { 0x82, 0x80 | 20 };
	struct fixture *fix = *state;

	fix->limits.client_bytes_per_s = 1;
	start(fix);
	say(&fix->client, frame, sizeof(frame));
	run_until(fix, sizeof(frame));
	/* to be read in 25 s */
	say(&fix->client, frame, sizeof(frame));
	fix->limits.client_bytes_per_s = 0;
	relay_set_limits(fix->relay, &fix->limits);
	run_until(fix, 2 * sizeof(frame));
}

/* ---- messages that are read ---------------------------------------------- */

#define APPEND	"{\"type\":\"input_audio_buffer.append\",\"audio\":\"AAAA\"}"
#define UPDATED "{\"type\":\"session.updated\"}"
#define REFUSED                                        \
	"{\"type\":\"error\",\"error\":{\"event_id\":" \
	"\"culvert_session\"}}"

static void
start_reading(struct fixture *fix, const char *session, const void *early,
    size_t early_len)
{
	struct diag diag;

	fix->messages.pin = json_pack("{s:{s:s},s:[]}", "session",
	    "instructions", "Be kind.", "allow");
	if (session != NULL)
		fix->messages.session = json_loads(session, 0, NULL);
	fix->messages.inspect_bytes = 4096;
	assert_int_equal(transform_new(&fix->messages, 0,
			     &fix->streams.transform, &diag),
	    ERR_OK);
	fix->relay =
	    relay_new(fix->loop, &fix->streams, &fix->limits, &events, fix);
	relay_start(fix->relay, NULL, 0, early, early_len, NULL, 0);
}

/* A text frame, masked if it is the client's. */
static void
say_text(struct end *end, const char *text)
{
	static const uint8_t key[4] = { 1, 2, 3, 4 };
	const uint8_t *mask = end == &end->fix->client ? key : NULL;
	uint8_t frame[512];
	size_t len = strlen(text),
	       n = ws_header_put(frame, WS_TEXT, true, mask, len);

	memcpy(frame + n, text, len);
	if (mask != NULL)
		ws_mask(frame + n, len, mask, 0);
	say(end, frame, n + len);
}

/* Run until this peer has got a whole frame, and take it. */
static char *
take_frame(struct fixture *fix, struct end *end, struct ws_header *ret)
{
	static char text[sizeof(end->got) + 1];
	const char *why;
	size_t n;

	loop_timer_set(fix->timer, GIVE_UP_MS);
	while (ws_header_parse(end->got, end->len,
		   end == &fix->upstream ? WS_FROM_CLIENT : WS_FROM_SERVER, ret,
		   &why) != ERR_OK ||
	    end->len < ret->header_len + ret->payload_len) {
		assert_false(fix->timed_out);
		fix->until = fix->client.len + fix->upstream.len + 1;
		assert_int_equal(loop_run(fix->loop), ERR_OK);
	}
	n = (size_t)ret->payload_len;
	if (ret->masked)
		ws_mask(end->got + ret->header_len, n, ret->mask, 0);
	memcpy(text, end->got + ret->header_len, n);
	text[n] = '\0';
	n += ret->header_len;
	end->len -= n;
	memmove(end->got, end->got + n, end->len);
	return text;
}

static void
expect_text(struct fixture *fix, struct end *end, const char *part)
{
	struct ws_header header;
	char *text = take_frame(fix, end, &header);

	assert_int_equal(header.opcode, WS_TEXT);
	assert_true(header.fin);
	assert_int_equal(header.masked, end == &fix->upstream);
	assert_non_null(strstr(text, part));
}

static void
what_a_pin_allows_arrives_and_the_rest_is_answered(void **state)
{
	struct fixture *fix = *state;

	start_reading(fix, NULL, NULL, 0);
	say_text(&fix->client,
	    "{\"type\":\"session.update\",\"session\":"
	    "{\"instructions\":\"Be rude.\"}}");
	say_text(&fix->client, APPEND);
	expect_text(fix, &fix->upstream, APPEND);
	expect_text(fix, &fix->client, "\"pinned\"");
	assert_int_equal(fix->upstream.len, 0);
	say(&fix->upstream, B("\x81\x02hi"));
	run_until(fix, 4);
	assert_got(&fix->client, B("\x81\x02hi"));
}

static void
on_turn(void *arg)
{
	struct fixture *fix = arg;

	loop_stop(fix->loop);
}

/* Let happen what can happen now. */
static void
turn(struct fixture *fix)
{
	struct loop_timer *timer = loop_timer_new(fix->loop, on_turn, fix);

	loop_timer_set(timer, 0);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	loop_timer_free(timer);
}

static void
a_message_that_comes_byte_by_byte_passes_whole(void **state)
{
	struct fixture *fix = *state;
	static const uint8_t head[] = { 0x01, 0x80 | 10, 0, 0, 0, 0 };
	static const uint8_t rest[] = { 0x80, 0x80 | (sizeof(APPEND) - 11), 0,
		0, 0, 0 };
	uint8_t bytes[sizeof(head) + sizeof(rest) + sizeof(APPEND)];
	size_t len = 0;

	memcpy(bytes, head, sizeof(head));
	memcpy(bytes + (len += sizeof(head)), APPEND, 10);
	memcpy(bytes + (len += 10), rest, sizeof(rest));
	memcpy(bytes + (len += sizeof(rest)), &APPEND[10], sizeof(APPEND) - 11);
	len += sizeof(APPEND) - 11;
	start_reading(fix, NULL, NULL, 0);
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(fix->upstream.len, 0);
		say(&fix->client, bytes + i, 1);
		turn(fix);
	}
	expect_text(fix, &fix->upstream, APPEND);
}

static void
an_answer_of_ours_waits_for_the_end_of_a_message(void **state)
{
	struct fixture *fix = *state;

	start_reading(fix, NULL, NULL, 0);
	say(&fix->upstream, B("\x01\x02he"));
	run_until(fix, 4);
	say_text(&fix->client, "rubbish");
	say_text(&fix->client, APPEND);
	expect_text(fix, &fix->upstream, APPEND); /* so it has been read */
	assert_got(&fix->client, B("\x01\x02he"));
	say(&fix->upstream, B("\x00\x01y\x80\x01z\x81\x01n"));
	run_until(fix, 6);
	assert_memory_equal(fix->client.got, "\x00\x01y\x80\x01z", 6);
	fix->client.len -= 6;
	memmove(fix->client.got, fix->client.got + 6, fix->client.len);
	expect_text(fix, &fix->client, "\"invalid_event\"");
	run_until(fix, 3);
	assert_got(&fix->client, B("\x81\x01n"));
}

static void
who_takes_no_answers_is_ended(void **state)
{
	struct fixture *fix = *state;
	uint8_t empty[600];

	for (size_t i = 0; i < sizeof(empty); i += 6)
		memcpy(empty + i, "\x81\x80\1\2\3\4", 6);
	start_reading(fix, NULL, NULL, 0);
	loop_watch_free(fix->client.watch);
	fix->client.watch = NULL;
	/* the vendor is told, in a frame of eight bytes and the reason */
	while (fix->upstream.len < 8) {
		while (send(fix->client.fd, empty, sizeof(empty),
			   MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
			;
		turn(fix);
	}
	ws_mask(fix->upstream.got + 6, 2, fix->upstream.got + 2, 0);
	assert_int_equal(fix->upstream.got[0], 0x88);
	assert_int_equal(fix->upstream.got[6] << 8 | fix->upstream.got[7],
	    1008);
}

static void
the_client_is_heard_when_the_vendor_has_the_session(void **state)
{
	struct fixture *fix = *state;
	struct ws_header header;

	fix->limits.connect_ms = 60000;
	start_reading(fix, "{\"instructions\":\"Be kind.\"}",
	    B("\x81\x87\0\0\0\0rubbish\x81\x82\0"));
	say(&fix->client, B("\0\0\0{}"));
	expect_text(fix, &fix->upstream, "\"session.update\"");
	say(&fix->upstream, B("\x81\x02{}"));
	expect_text(fix, &fix->client, "{}");
	assert_int_equal(fix->client.len, 0);
	say_text(&fix->upstream, UPDATED);
	expect_text(fix, &fix->client, "session.updated");
	expect_text(fix, &fix->client, "invalid_event");
	expect_text(fix, &fix->client, "invalid_event");
	say_text(&fix->client, APPEND);
	(void)take_frame(fix, &fix->upstream, &header);
	assert_int_equal(header.payload_len, strlen(APPEND));
}

static void
a_vendor_that_refuses_the_session_ends_it(void **state)
{
	struct fixture *fix = *state;

	fix->limits.connect_ms = 60000;
	start_reading(fix, "{\"instructions\":\"Be kind.\"}",
	    B("\x81\x87\0\0\0\0rubbish"));
	expect_text(fix, &fix->upstream, "\"session.update\"");
	say_text(&fix->upstream, REFUSED);
	expect_text(fix, &fix->client, "culvert_session");
	run_until(fix, 4);
	assert_close_code(&fix->client, 1011);
	assert_int_equal(fix->upstream.got[0], 0x88);
	(void)shutdown(fix->client.fd, SHUT_WR);
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until_closed(fix);
	assert_int_equal(fix->end.cause, CAUSE_SESSION_REFUSED);
}

static void
a_vendor_that_does_not_take_the_session_in_time_ends_it(void **state)
{
	struct fixture *fix = *state;

	fix->limits.connect_ms = 1;
	start_reading(fix, "{\"instructions\":\"Be kind.\"}", NULL, 0);
	expect_text(fix, &fix->upstream, "\"session.update\"");
	run_until(fix, 4);
	assert_close_code(&fix->client, 1011);
	(void)shutdown(fix->client.fd, SHUT_WR);
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until_closed(fix);
	assert_int_equal(fix->end.cause, CAUSE_SESSION_REFUSED);
}

static void
a_vendor_that_closes_before_it_has_the_session_closes_both(void **state)
{
	struct fixture *fix = *state;

	fix->limits.connect_ms = 60000;
	start_reading(fix, "{\"instructions\":\"Be kind.\"}",
	    B("\x81\x82\0\0\0\0{"));
	expect_text(fix, &fix->upstream, "\"session.update\"");
	say(&fix->client, B("}\x88\x82\0\0\0\0\x0f\xa0"));
	say(&fix->upstream, B("\x88\x02\x0f\xa0"));
	run_until(fix, 4 + 8);
	assert_close_code(&fix->client, 4000);
	assert_int_equal(fix->upstream.got[0], 0x88);
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until_closed(fix);
	assert_int_equal(fix->end.cause, CAUSE_UPSTREAM_CLOSED);
}

/* ---- budgets ------------------------------------------------------------ */

#define CREATE "{\"type\":\"response.create\"}"
#define ITEM   "{\"type\":\"conversation.item.create\"}"

static void
start_budget(struct fixture *fix, char *budget)
{
	struct diag diag;

	fix->messages.budget = budget;
	fix->messages.usage = true;
	fix->messages.inspect_bytes = 4096;
	assert_int_equal(transform_new(&fix->messages, 0,
			     &fix->streams.transform, &diag),
	    ERR_OK);
	start(fix);
}

static void
answer(struct fixture *fix, int64_t n, char *code, char *message)
{
	const struct wire_answer answered = { .n = n,
		.allowed = code == NULL,
		.code = code,
		.message = message };

	relay_answer(fix->relay, &answered);
}

/* Until it has been asked for this response. */
static void
run_until_asked(struct fixture *fix, int64_t n)
{
	loop_timer_set(fix->timer, GIVE_UP_MS);
	while (fix->asked < n && !fix->timed_out)
		assert_int_equal(loop_run(fix->loop), ERR_OK);
	assert_int_equal(fix->asked, n);
}

/* While a response waits, so does what is behind it, and nothing else does. */
static void
what_is_behind_a_response_waits_with_it(void **state)
{
	static char budget[] = "error";
	struct fixture *fix = *state;
	const char *texts[] = { ITEM, CREATE, ITEM, CREATE, APPEND };
	struct ws_header header;
	struct wire_usage usage = { .asked = 0 };
	uint8_t all[1024];
	size_t len = 0;

	start_budget(fix, budget);
	/* all of it in one read, and a ping in front of what has to wait */
	for (size_t i = 0; i < 5; i++) {
		static const uint8_t mask[4] = { 1, 2, 3, 4 };
		size_t n = strlen(texts[i]);

		len += ws_header_put(all + len, WS_TEXT, true, mask, n);
		memcpy(all + len, texts[i], n);
		ws_mask(all + len, n, mask, 0);
		len += n;
		if (i == 1)
			len += ws_control_put(all + len, WS_PING, mask, "p", 1);
	}
	say(&fix->client, all, len);
	expect_text(fix, &fix->upstream, ITEM);
	assert_string_equal(take_frame(fix, &fix->upstream, &header), "p");
	assert_int_equal(header.opcode, WS_PING);
	run_until_asked(fix, 1);
	say(&fix->upstream, B("\x8a\x01p\x81\x02hi"));
	run_until(fix, 3 + 4);
	assert_got(&fix->client, B("\x8a\x01p\x81\x02hi"));
	assert_int_equal(fix->upstream.len, 0);
	answer(fix, 1, NULL, NULL);
	expect_text(fix, &fix->upstream, CREATE);
	expect_text(fix, &fix->upstream, ITEM);
	run_until_asked(fix, 2);
	assert_int_equal(fix->upstream.len, 0);
	relay_get_asks(fix->relay, &usage);
	assert_int_equal(usage.asked, 2);
	assert_int_equal(usage.open_count, 2);
	answer(fix, 2, NULL, NULL);
	expect_text(fix, &fix->upstream, CREATE);
	expect_text(fix, &fix->upstream, APPEND);
	assert_int_equal(fix->client.len, 0);
}

/* It is read no further than the first message that has to wait. */
static void
a_client_that_floods_while_it_waits_is_held_up(void **state)
{
	static char budget[] = "error";
	static const uint8_t audio[4096] = { 0 };
	struct fixture *fix = *state;
	size_t sent = 0, held;
	uint8_t header[WS_HEADER_MAX_BYTES];
	static const uint8_t mask[4];
	ssize_t n;

	start_budget(fix, budget);
	say_text(&fix->client, CREATE);
	run_until_asked(fix, 1);
	n = (ssize_t)ws_header_put(header, WS_TEXT, true, mask, 64 << 20);
	say(&fix->client, header, (size_t)n);
	/* until nobody takes any more of it */
	for (int idle = 0; idle < 20;) {
		n = send(fix->client.fd, audio, sizeof(audio),
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		loop_timer_set(fix->timer, 0);
		assert_int_equal(loop_run(fix->loop), ERR_OK);
		fix->timed_out = false;
	}
	(void)loop_scratch(fix->loop, &held);
	assert_true(sent < 8 << 20);
	assert_false(fix->ended);
	answer(fix, 1, NULL, NULL);
	expect_text(fix, &fix->upstream, CREATE);
}

static void
a_client_may_leave_while_it_waits(void **state)
{
	static char budget[] = "error";
	struct fixture *fix = *state;

	start_budget(fix, budget);
	say_text(&fix->client, CREATE);
	run_until_asked(fix, 1);
	say(&fix->client, B("\x88\x82\0\0\0\0\x0f\xa0"));
	run_until(fix, 8);
	assert_int_equal(fix->upstream.got[0], 0x88);
	answer(fix, 1, NULL, NULL);
	say(&fix->upstream, B("\x88\x02\x0f\xa0"));
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until_closed(fix);
	assert_int_equal(fix->upstream.len, 8);
	assert_int_equal(fix->end.cause, CAUSE_CLIENT_CLOSED);
}

/* What waits does not hold up the end: its close frame is behind it. */
static void
a_vendor_may_leave_while_a_response_waits(void **state)
{
	static char budget[] = "error";
	struct fixture *fix = *state;
	struct wire_usage usage = { .asked = 0 };

	start_budget(fix, budget);
	say_text(&fix->client, CREATE);
	run_until_asked(fix, 1);
	say_text(&fix->client, CREATE);
	say(&fix->client, B("\x88\x82\0\0\0\0\x0f\xa0"));
	say(&fix->upstream, B("\x88\x02\x0f\xa0"));
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	run_until_closed(fix);
	assert_close_code(&fix->client, 4000);
	assert_int_equal(fix->upstream.len, 8);
	assert_int_equal(fix->upstream.got[0], 0x88);
	assert_int_equal(fix->end.cause, CAUSE_UPSTREAM_CLOSED);
	relay_get_asks(fix->relay, &usage);
	assert_int_equal(usage.asked, 1);
	assert_int_equal(usage.open_count, 0);
}

static void
a_spent_budget_is_4003_to_the_client_alone(void **state)
{
	static char budget[] = "close";
	static char code[] = "budget_spent", why[] = "Nothing is left today.";
	struct fixture *fix = *state;

	start_budget(fix, budget);
	say_text(&fix->client, CREATE);
	run_until_asked(fix, 1);
	answer(fix, 1, code, why);
	run_until(fix, 26 + 8);
	assert_close_code(&fix->client, 4003);
	assert_memory_equal(fix->client.got + 4, why, strlen(why));
	ws_mask(fix->upstream.got + 6, 2, fix->upstream.got + 2, 0);
	assert_memory_equal(fix->upstream.got + 6, "\x03\xe8", 2);
	say(&fix->upstream, B("\x88\x02\x03\xe8"));
	(void)shutdown(fix->upstream.fd, SHUT_WR);
	say(&fix->client, B("\x88\x82\0\0\0\0\x0f\xa3"));
	run_until_closed(fix);
	assert_int_equal(fix->end.cause, CAUSE_BUDGET);
	assert_int_equal(fix->end.code, 4003);
	assert_string_equal(fix->end.reason, why);
}

/* Let happen what can, and take what the vendor gets. */
static size_t
drain(struct fixture *fix, uint8_t *out, size_t size)
{
	size_t len = 0;

	for (int idle = 0; idle < 20; idle++) {
		ssize_t n =
		    recv(fix->upstream.fd, out + len, size - len, MSG_DONTWAIT);

		if (n > 0) {
			len += (size_t)n;
			idle = 0;
		}
		loop_timer_set(fix->timer, 0);
		assert_int_equal(loop_run(fix->loop), ERR_OK);
		fix->timed_out = false;
	}
	return len;
}

/* A cancel of ours goes between two messages of the client. */
static void
a_cancel_waits_for_the_end_of_a_message(void **state)
{
	static char budget[] = "error", code[] = "budget_spent", why[] = "No.";
	static const char head[] = "{\"type\":\"input_audio_buffer.append\","
				   "\"audio\":\"";
	static const uint8_t mask[4];
	static uint8_t audio[70 * 1024], got[80 * 1024];
	struct fixture *fix = *state;
	size_t len = sizeof(head) - 1 + sizeof(audio) + 2, n, total = 0;
	uint8_t header[WS_HEADER_MAX_BYTES];
	struct ws_header frame;
	const char *wrong;

	memset(audio, 'A', sizeof(audio));
	start_budget(fix, budget);
	loop_watch_set(fix->upstream.watch, false, false);
	n = ws_header_put(header, WS_TEXT, true, mask, len);
	say(&fix->client, header, n);
	say(&fix->client, head, sizeof(head) - 1);
	say(&fix->client, audio, sizeof(audio));
	/* it streams: it has begun, and its end is not there */
	n = drain(fix, got, sizeof(got));
	assert_true(n > 64 * 1024);
	say_text(&fix->upstream,
	    "{\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}");
	run_until_asked(fix, 1);
	answer(fix, 1, code, why);
	expect_text(fix, &fix->client, "response.created");
	expect_text(fix, &fix->client, "\"insufficient_quota\"");
	n += drain(fix, got + n, sizeof(got) - n);
	say(&fix->client, "\"}", 2);
	n += drain(fix, got + n, sizeof(got) - n);
	for (size_t i = 0; total < len; i += (size_t)frame.payload_len) {
		assert_int_equal(ws_header_parse(got + i, n - i, WS_FROM_CLIENT,
				     &frame, &wrong),
		    ERR_OK);
		assert_int_equal(frame.opcode,
		    total == 0 ? WS_TEXT : WS_CONTINUATION);
		i += frame.header_len;
		total += (size_t)frame.payload_len;
		assert_int_equal(frame.fin, total == len);
		if (total == len) {
			i += (size_t)frame.payload_len;
			assert_true(i + 40 < n);
			memcpy(fix->upstream.got, got + i, n - i);
			fix->upstream.len = n - i;
			break;
		}
	}
	expect_text(fix, &fix->upstream, "\"response.cancel\"");
}

/* ---- the end of the time ------------------------------------------------ */

static void
a_client_is_told_ahead_of_the_end(void **state)
{
	static const struct {
		int64_t lifetime_ms, vendor_ms;
		const char *reason;
	} cases[] = {
		{ 0, 400, "\"reason\":\"vendor\"" },
		{ 400, 0, "\"reason\":\"site\"" },
		{ 400, 5000, "\"reason\":\"site\"" },
		{ 5000, 400, "\"reason\":\"vendor\"" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *fix;
		struct diag diag;

		if (i > 0) {
			(void)tear_down(state);
			(void)set_up(state);
		}
		fix = *state;
		fix->messages.usage = true;
		fix->limits.lifetime_ms = cases[i].lifetime_ms;
		fix->limits.vendor_ms = cases[i].vendor_ms;
		fix->limits.warn_ms = 300;
		assert_int_equal(transform_new(&fix->messages, 0,
				     &fix->streams.transform, &diag),
		    ERR_OK);
		start(fix);
		/* not within a message */
		say(&fix->upstream, B("\x01\x01x"));
		run_until(fix, 3);
		assert_got(&fix->client, B("\x01\x01x"));
		loop_timer_set(fix->timer, 250);
		assert_int_equal(loop_run(fix->loop), ERR_OK);
		assert_true(fix->timed_out);
		fix->timed_out = false;
		assert_int_equal(fix->client.len, 0);
		say(&fix->upstream, B("\x80\x01y"));
		run_until(fix, 3);
		assert_memory_equal(fix->client.got, "\x80\x01y", 3);
		fix->client.len -= 3;
		memmove(fix->client.got, fix->client.got + 3, fix->client.len);
		expect_text(fix, &fix->client, cases[i].reason);
		assert_int_equal(fix->client.len, 0);
	}
}

static void
other_limits_move_the_warning(void **state)
{
	struct fixture *fix = *state;
	struct diag diag;

	fix->messages.usage = true;
	fix->limits.lifetime_ms = 3600 * 1000;
	fix->limits.warn_ms = 1000;
	assert_int_equal(transform_new(&fix->messages, 0,
			     &fix->streams.transform, &diag),
	    ERR_OK);
	start(fix);
	fix->limits.lifetime_ms = 2000;
	relay_set_limits(fix->relay, &fix->limits);
	expect_text(fix, &fix->client, "\"remaining_seconds\":1,");
	/* told of that end, and of another one anew */
	fix->limits.lifetime_ms = 3000;
	relay_set_limits(fix->relay, &fix->limits);
	expect_text(fix, &fix->client, "culvert.session.expiring");
	run_until(fix, 4);
	assert_close_code(&fix->client, 4200);
}

/* Have the vendor say when it ends the session; the client gets that, too. */
static void
say_end(struct fixture *fix, int64_t expires_at)
{
	char text[128];

	(void)snprintf(text, sizeof(text),
	    "{\"type\":\"session.updated\",\"session\":{\"expires_at\":%lld}}",
	    (long long)expires_at);
	say_text(&fix->upstream, text);
	expect_text(fix, &fix->client, "session.updated");
}

/* The client gets nothing within so long. */
static void
expect_silence(struct fixture *fix, int64_t ms)
{
	fix->until = SIZE_MAX;
	loop_timer_set(fix->timer, ms);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	assert_true(fix->timed_out);
	fix->timed_out = false;
	assert_int_equal(fix->client.len, 0);
}

static void
start_with_warning(struct fixture *fix, const struct wire_limits *limits)
{
	struct diag diag;

	fix->messages.usage = true;
	fix->limits.lifetime_ms = limits->lifetime_ms;
	fix->limits.vendor_ms = limits->vendor_ms;
	fix->limits.warn_ms = limits->warn_ms;
	assert_int_equal(transform_new(&fix->messages, 0,
			     &fix->streams.transform, &diag),
	    ERR_OK);
	start(fix);
}

static void
the_vendor_says_when_it_ends(void **state)
{
	static const struct wire_limits limits = {
		.lifetime_ms = 7200 * 1000,
		.vendor_ms = 3600 * 1000,
		.warn_ms = 60 * 1000,
	};
	struct fixture *fix = *state;
	char part[64];
	int64_t at;

	start_with_warning(fix, &limits);
	/* what will not do changes nothing, nor does an end that is far */
	say_end(fix, clock_unix() + 25 * 3600);
	say_end(fix, clock_unix() - 10);
	say_end(fix, clock_unix() + 1000);
	expect_silence(fix, 100);
	/* an end that is near: not within a message */
	at = clock_unix() + 3;
	(void)snprintf(part, sizeof(part), "\"expires_at\":%lld,",
	    (long long)at);
	say_end(fix, at);
	say(&fix->upstream, B("\x01\x01x"));
	run_until(fix, 3);
	assert_got(&fix->client, B("\x01\x01x"));
	expect_silence(fix, 1600); /* from the middle of its time on */
	say(&fix->upstream, B("\x80\x01y"));
	run_until(fix, 3);
	assert_memory_equal(fix->client.got, "\x80\x01y", 3);
	fix->client.len -= 3;
	memmove(fix->client.got, fix->client.got + 3, fix->client.len);
	expect_text(fix, &fix->client, part);
	assert_int_equal(fix->client.len, 0);
	/* once */
	say_end(fix, at);
	say_end(fix, clock_unix() - 10);
	expect_silence(fix, 100);
	/* and of another end anew */
	say_end(fix, at + 1);
	expect_text(fix, &fix->client, "\"reason\":\"vendor\"");
	expect_silence(fix, 100);
}

static void
the_sites_end_counts_where_it_is_first(void **state)
{
	static const struct wire_limits limits = {
		.lifetime_ms = 600,
		.vendor_ms = 300,
		.warn_ms = 300,
	};
	struct fixture *fix = *state;

	start_with_warning(fix, &limits);
	say_end(fix, clock_unix() + 3600);
	expect_text(fix, &fix->client, "\"reason\":\"site\"");
	run_until(fix, 4);
	assert_close_code(&fix->client, 4200);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_pass_verbatim_both_ways),
		TEST(early_bytes_come_after_the_head),
		TEST(a_close_passes_and_its_answer_passes_back),
		TEST(a_key_in_a_vendors_reason_does_not_pass),
		TEST(a_client_gets_an_answer_where_the_vendor_only_hangs_up),
		TEST(a_violation_closes_both_sides_with_its_code),
		TEST(our_close_waits_for_the_end_of_the_frame),
		TEST(a_lost_vendor_is_1014_to_the_client),
		TEST(a_vendor_lost_within_a_frame_ends_the_connection_only),
		TEST(our_pings_are_answered_to_us_alone),
		TEST(a_peer_without_a_pong_is_4102),
		TEST(idleness_is_4103),
		TEST(a_stalled_reader_stops_the_writer),
		TEST(a_stalled_reader_is_4101),
		TEST(what_a_peer_sent_before_it_left_still_arrives),
		TEST(a_higher_rate_holds_at_once),
		TEST(what_a_pin_allows_arrives_and_the_rest_is_answered),
		TEST(a_message_that_comes_byte_by_byte_passes_whole),
		TEST(an_answer_of_ours_waits_for_the_end_of_a_message),
		TEST(who_takes_no_answers_is_ended),
		TEST(the_client_is_heard_when_the_vendor_has_the_session),
		TEST(a_vendor_that_refuses_the_session_ends_it),
		TEST(a_vendor_that_does_not_take_the_session_in_time_ends_it),
		TEST(
		    a_vendor_that_closes_before_it_has_the_session_closes_both),
		TEST(the_last_words_of_a_peer_that_takes_no_more_arrive),
		TEST(what_is_behind_a_response_waits_with_it),
		TEST(a_client_that_floods_while_it_waits_is_held_up),
		TEST(a_client_may_leave_while_it_waits),
		TEST(a_vendor_may_leave_while_a_response_waits),
		TEST(a_spent_budget_is_4003_to_the_client_alone),
		TEST(a_cancel_waits_for_the_end_of_a_message),
		TEST(a_client_is_told_ahead_of_the_end),
		TEST(other_limits_move_the_warning),
		TEST(the_vendor_says_when_it_ends),
		TEST(the_sites_end_counts_where_it_is_first),
	};

	return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
