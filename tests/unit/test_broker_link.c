/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock_double.h"
#include "common/xalloc.h"
#include "tunnel/broker_link.h"

#define GIVE_UP_MS  10000
#define DEADLINE_MS 5000 /* as broker_link has it */
#define LIMITS_                                                           \
	"{\"client_message_bytes\":1,\"upstream_message_bytes\":2,"       \
	"\"client_messages_per_s\":3,\"client_bytes_per_s\":4,"           \
	"\"connect_ms\":5,\"idle_ms\":6,\"lifetime_ms\":7,\"ping_ms\":8," \
	"\"pong_ms\":9,\"stall_ms\":10,\"usage_ms\":11}"
#define GRANT                                                              \
	"{\"v\":1,\"type\":\"grant\",\"lease\":\"l1\",\"session\":\"s1\"," \
	"\"route\":\"/echo\",\"upstream\":{\"tls\":false,"                 \
	"\"addresses\":[\"192.0.2.1\"],\"port\":9,\"name\":\"a.example\"," \
	"\"host\":\"a.example\",\"target\":\"/\",\"headers\":[],"          \
	"\"subprotocols\":[]},\"limits\":" LIMITS_ "}"
#define PASSED                                                             \
	"{\"v\":1,\"type\":\"grant\",\"lease\":\"l1\",\"session\":\"s1\"," \
	"\"route\":\"socket.io\",\"upstream\":{\"passed\":true,"           \
	"\"tls\":false,\"addresses\":[],\"port\":0,\"headers\":[],"        \
	"\"subprotocols\":[]},\"limits\":" LIMITS_ "}"
#define RESUMABLE                                                          \
	"{\"v\":1,\"type\":\"grant\",\"lease\":\"l1\",\"session\":\"s1\"," \
	"\"route\":\"/echo\",\"upstream\":{\"tls\":false,"                 \
	"\"addresses\":[\"192.0.2.1\"],\"port\":9,\"name\":\"a.example\"," \
	"\"host\":\"a.example\",\"target\":\"/\",\"headers\":[],"          \
	"\"subprotocols\":[]},\"limits\":" LIMITS_ ",\"resume\":\"text\"}"
#define RESUMED "{\"v\":1,\"type\":\"resumed\",\"limits\":" LIMITS_ "}"
#define ANSWER	"{\"v\":1,\"type\":\"answer\",\"n\":1,\"allowed\":true}"
#define ACK	"{\"v\":1,\"type\":\"ack\",\"n\":1}"
#define DENY                                                        \
	"{\"v\":1,\"type\":\"deny\",\"status\":403,\"code\":\"x\"," \
	"\"message\":\"no\",\"headers\":[]}"
#define LIMITS "{\"v\":1,\"type\":\"limits\",\"limits\":" LIMITS_ "}"
#define CLOSE  "{\"v\":1,\"type\":\"close\",\"code\":4001,\"reason\":\"r\"}"
#define USAGE                                      \
	"{\"v\":1,\"type\":\"usage\","             \
	"\"client\":{\"messages\":1,\"bytes\":2}," \
	"\"upstream\":{\"messages\":3,\"bytes\":4}}"
#define OUT_OF_TURN "the broker sent a packet out of turn"
#define CLOSED	    "the broker closed the control connection"
#define TOO_LATE    "the broker did not answer in time"

/* The broker is the test itself, at a socket of its own. */
struct fixture {
	char dir[32];
	struct sockaddr_un addr;
	int listener, broker;
	struct loop *loop;
	struct loop_timer *timer;
	struct broker_link *link;
	/* what came */
	int answers, orders, losses;
	enum broker_link_news news; /* the last loss */
	struct wire_packet *answer;
	enum wire_type order;
	int order_code;
	char why[160];
	bool free_at_once; /* the link, in every callback */
	bool timed_out;
};

static void
on_event(struct fixture *fix)
{
	if (fix->free_at_once) {
		broker_link_free(fix->link);
		fix->link = NULL;
	}
	loop_stop(fix->loop);
}

static void
on_answered(void *arg, struct wire_packet *answer, const char *why)
{
	struct fixture *fix = arg;

	fix->answers++;
	fix->answer = answer;
	assert_true((answer == NULL) == (why != NULL));
	if (why != NULL)
		(void)snprintf(fix->why, sizeof(fix->why), "%s", why);
	on_event(fix);
}

static void
on_told(void *arg, const struct wire_packet *packet)
{
	struct fixture *fix = arg;

	fix->orders++;
	fix->order = packet->type;
	fix->order_code = packet->type == WIRE_CLOSE ? packet->close.code : 0;
	on_event(fix);
}

static void
on_changed(void *arg, enum broker_link_news news, const char *why)
{
	struct fixture *fix = arg;

	fix->losses++;
	fix->news = news;
	(void)snprintf(fix->why, sizeof(fix->why), "%s", why);
	on_event(fix);
}

static const struct broker_link_events events = {
	.answered = on_answered,
	.told = on_told,
	.changed = on_changed,
};

static void
on_give_up(void *arg)
{
	struct fixture *fix = arg;

	fix->timed_out = true;
	loop_stop(fix->loop);
}

static void
start_broker(struct fixture *fix, int backlog)
{
	fix->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_not_equal(fix->listener, -1);
	assert_int_equal(bind(fix->listener, (const void *)&fix->addr,
			     sizeof(fix->addr)),
	    0);
	assert_int_equal(listen(fix->listener, backlog), 0);
}

static int
set_up(void **state)
{
	struct fixture *fix = calloc(1, sizeof(*fix));

	assert_non_null(fix);
	(void)strcpy(fix->dir, "/tmp/culvert-test.XXXXXX");
	assert_non_null(mkdtemp(fix->dir));
	fix->addr.sun_family = AF_UNIX;
	(void)snprintf(fix->addr.sun_path, sizeof(fix->addr.sun_path),
	    "%s/control", fix->dir);
	fix->listener = fix->broker = -1;
	assert_int_equal(loop_new(&fix->loop, NULL), ERR_OK);
	assert_int_equal(loop_begin(fix->loop), ERR_OK);
	fix->timer = loop_timer_new(fix->loop, on_give_up, fix);
	clock_skipped_ms = 0;
	*state = fix;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *fix = *state;

	broker_link_free(fix->link);
	wire_packet_free(fix->answer);
	loop_timer_free(fix->timer);
	loop_free(fix->loop);
	if (fix->broker != -1)
		(void)close(fix->broker);
	if (fix->listener != -1)
		(void)close(fix->listener);
	(void)unlink(fix->addr.sun_path);
	(void)rmdir(fix->dir);
	free(fix);
	return 0;
}

/* Until something came. */
static void
run(struct fixture *fix)
{
	loop_timer_set(fix->timer, GIVE_UP_MS);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	loop_timer_stop(fix->timer);
	assert_false(fix->timed_out);
}

static void
expect(const struct fixture *fix, int answers, int orders, int losses)
{
	assert_int_equal(fix->answers, answers);
	assert_int_equal(fix->orders, orders);
	assert_int_equal(fix->losses, losses);
}

static struct wire_packet *
make_question(void)
{
	struct wire_packet *question = wire_packet_new(WIRE_OPEN);

	question->open.method = xstrdup("GET");
	question->open.target = xstrdup("/echo");
	question->open.peer_local = true;
	return question;
}

static void
ask(struct fixture *fix, const char *path)
{
	struct wire_packet *question = make_question();

	assert_int_equal(broker_link_open(fix->loop, path, question, &events,
			     fix, &fix->link),
	    ERR_OK);
	wire_packet_free(question);
	expect(fix, 0, 0, 0);
}

/* The next packet that the broker gets. */
static struct wire_packet *
receive(struct fixture *fix)
{
	static char text[WIRE_MAX_BYTES];
	struct wire_packet *packet = NULL;
	ssize_t len = recv(fix->broker, text, sizeof(text), MSG_DONTWAIT);

	assert_true(len > 0);
	assert_int_equal(wire_parse(text, (size_t)len, &packet, NULL), ERR_OK);
	return packet;
}

static void
take_question(struct fixture *fix)
{
	struct wire_packet *packet;

	fix->broker = accept(fix->listener, NULL, NULL);
	assert_int_not_equal(fix->broker, -1);
	packet = receive(fix);
	assert_int_equal(packet->type, WIRE_OPEN);
	assert_string_equal(packet->open.target, "/echo");
	wire_packet_free(packet);
}

static void
ask_and_take(struct fixture *fix)
{
	start_broker(fix, 8);
	ask(fix, fix->addr.sun_path);
	take_question(fix);
}

static void
tell(struct fixture *fix, const char *text)
{
	assert_int_equal(send(fix->broker, text, strlen(text), MSG_NOSIGNAL),
	    strlen(text));
}

/* Tell it with so many descriptors: the ends of a pipe, again and again. */
static void
pass(struct fixture *fix, const char *text, size_t count, int pipe_fds[2])
{
	int fds[8];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(fds))];
	} control;
	struct iovec part = { .iov_base = (void *)(uintptr_t)text,
		.iov_len = strlen(text) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(count * sizeof(int)),
	};

	assert_int_equal(pipe(pipe_fds), 0);
	for (size_t i = 0; i < count; i++)
		fds[i] = pipe_fds[i % 2 == 0];
	memset(&control, 0, sizeof(control));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	assert_int_equal(sendmsg(fix->broker, &message, MSG_NOSIGNAL),
	    strlen(text));
	/* what is left of the writing end is the tunnel's */
	(void)close(pipe_fds[1]);
}

/* Nobody has the pipe's writing end any more. */
static void
assert_is_closed(int pipe_fd)
{
	char byte;

	assert_int_equal(read(pipe_fd, &byte, 1), 0);
	(void)close(pipe_fd);
}

static void
hang_up(struct fixture *fix)
{
	(void)close(fix->broker);
	fix->broker = -1;
}

static void
be_granted(struct fixture *fix)
{
	ask_and_take(fix);
	tell(fix, GRANT);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_non_null(fix->answer);
	assert_int_equal(fix->answer->type, WIRE_GRANT);
	assert_string_equal(fix->answer->grant.lease, "l1");
}

/* ---- the answer --------------------------------------------------------- */

static void
a_grant_is_handed_over_and_then_orders_and_the_end(void **state)
{
	struct fixture *fix = *state;

	be_granted(fix);
	tell(fix, LIMITS);
	run(fix);
	expect(fix, 1, 1, 0);
	assert_int_equal(fix->order, WIRE_LIMITS);
	tell(fix, CLOSE);
	run(fix);
	expect(fix, 1, 2, 0);
	assert_int_equal(fix->order, WIRE_CLOSE);
	assert_int_equal(fix->order_code, 4001);
	hang_up(fix);
	run(fix);
	expect(fix, 1, 2, 1);
	assert_string_equal(fix->why, CLOSED);
}

static void
an_upstream_that_is_passed_is_the_callers(void **state)
{
	struct fixture *fix = *state;
	int pipe_fds[2], fd;

	ask_and_take(fix);
	pass(fix, PASSED, 1, pipe_fds);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_non_null(fix->answer);
	assert_true(fix->answer->grant.upstream.passed);
	fd = broker_link_take_upstream(fix->link);
	assert_int_not_equal(fd, -1);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	assert_int_equal(broker_link_take_upstream(fix->link), -1);
	(void)close(fd);
	assert_is_closed(pipe_fds[0]);
}

static void
an_upstream_that_nobody_takes_is_closed(void **state)
{
	struct fixture *fix = *state;
	int pipe_fds[2];

	ask_and_take(fix);
	fix->free_at_once = true;
	pass(fix, PASSED, 1, pipe_fds);
	run(fix);
	assert_non_null(fix->answer);
	assert_is_closed(pipe_fds[0]);
}

/* Whatever is passed otherwise is closed, and the answer refused. */
static void
refuses_descriptors_that_do_not_belong_to_a_packet(void **state)
{
	static const struct {
		const char *text;
		size_t count;
		const char *why;
	} cases[] = {
		{ PASSED, 0, "the broker did not pass the upstream" },
		{ PASSED, 2, "the broker passed more than one descriptor" },
		{ PASSED, 8, "the broker passed more than one descriptor" },
		{ GRANT, 1, "the broker passed a descriptor out of turn" },
		{ DENY, 1, "the broker passed a descriptor out of turn" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *fix;
		int pipe_fds[2];

		(void)tear_down(state);
		(void)set_up(state);
		fix = *state;
		ask_and_take(fix);
		fix->free_at_once = true;
		if (cases[i].count == 0)
			tell(fix, cases[i].text);
		else
			pass(fix, cases[i].text, cases[i].count, pipe_fds);
		run(fix);
		expect(fix, 1, 0, 0);
		assert_null(fix->answer);
		assert_string_equal(fix->why, cases[i].why);
		if (cases[i].count > 0)
			assert_is_closed(pipe_fds[0]);
	}
}

static void
a_denial_is_handed_over(void **state)
{
	struct fixture *fix = *state;

	ask_and_take(fix);
	fix->free_at_once = true;
	tell(fix, DENY);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_non_null(fix->answer);
	assert_int_equal(fix->answer->type, WIRE_DENY);
	assert_int_equal(fix->answer->deny.status, 403);
}

static void
a_granted_link_outlives_the_deadline(void **state)
{
	struct fixture *fix = *state;

	be_granted(fix);
	clock_skipped_ms += 10 * DEADLINE_MS;
	tell(fix, LIMITS);
	run(fix);
	tell(fix, LIMITS);
	run(fix);
	expect(fix, 1, 2, 0);
}

static void
a_broker_that_is_silent_is_given_up_at_the_deadline(void **state)
{
	struct fixture *fix = *state;

	ask_and_take(fix);
	clock_skipped_ms += DEADLINE_MS + 1;
	run(fix);
	expect(fix, 1, 0, 0);
	assert_null(fix->answer);
	assert_string_equal(fix->why, TOO_LATE);
}

static void
a_broker_that_leaves_before_its_answer_gives_none(void **state)
{
	struct fixture *fix = *state;

	ask_and_take(fix);
	hang_up(fix);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_null(fix->answer);
	assert_string_equal(fix->why, CLOSED);
}

/* Before a grant it is no answer, after it the broker is lost. */
static void
what_is_no_packet_or_out_of_turn_ends_the_link(void **state)
{
	static char large[WIRE_MAX_BYTES + 1];
	static const struct {
		const char *text, *why; /* why NULL: any */
		bool when_asked, when_granted;
	} cases[] = {
		{ "garbage", NULL, true, true },
		{ "{\"v\":2,\"type\":\"list\"}", NULL, true, true },
		{ large, NULL, true, true },
		{ USAGE, OUT_OF_TURN, true, true },
		{ CLOSE, OUT_OF_TURN, true, false },
		{ LIMITS, OUT_OF_TURN, true, false },
		{ GRANT, OUT_OF_TURN, false, true },
		{ DENY, OUT_OF_TURN, false, true },
	};

	memset(large, ' ', sizeof(large) - 1);
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *fix = *state;
		bool granted = i % 2 == 1;

		if (granted ? !cases[i / 2].when_granted
			    : !cases[i / 2].when_asked)
			continue;
		granted ? be_granted(fix) : ask_and_take(fix);
		tell(fix, cases[i / 2].text);
		run(fix);
		expect(fix, 1, 0, granted ? 1 : 0);
		assert_int_equal(fix->answer != NULL, granted);
		assert_true(fix->why[0] != '\0');
		if (cases[i / 2].why != NULL)
			assert_string_equal(fix->why, cases[i / 2].why);
		(void)tear_down(state);
		(void)set_up(state);
	}
}

static void
a_packet_that_is_too_large_is_told_apart(void **state)
{
	struct fixture *fix = *state;
	size_t size;
	char *large;

	(void)loop_scratch(fix->loop, &size);
	large = calloc(1, size + 2);
	assert_non_null(large);
	memset(large, ' ', size + 1);
	ask_and_take(fix);
	tell(fix, large);
	free(large);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_string_equal(fix->why, "the broker sent too large a packet");
}

/* ---- the connection ----------------------------------------------------- */

static void
a_broker_that_is_not_there_is_an_event(void **state)
{
	struct fixture *fix = *state;

	ask(fix, fix->addr.sun_path);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_null(fix->answer);
	assert_non_null(strstr(fix->why, strerror(ENOENT)));
}

static void
a_socket_that_nobody_serves_is_an_event(void **state)
{
	struct fixture *fix = *state;

	start_broker(fix, 8);
	(void)close(fix->listener);
	fix->listener = -1;
	ask(fix, fix->addr.sun_path);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_non_null(strstr(fix->why, strerror(ECONNREFUSED)));
}

static void
a_path_that_no_socket_can_have_is_an_event(void **state)
{
	struct fixture *fix = *state;
	char path[sizeof(fix->addr.sun_path) + 1];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	ask(fix, path);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_non_null(strstr(fix->why, strerror(ENAMETOOLONG)));
}

/* One who connects and waits, so that the queue of one is full. */
static int
fill_queue(struct fixture *fix)
{
	int fd;

	start_broker(fix, 0);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_not_equal(fd, -1);
	assert_int_equal(connect(fd, (const void *)&fix->addr,
			     sizeof(fix->addr)),
	    0);
	return fd;
}

static void
on_connection(void *arg, bool readable, bool writable)
{
	struct fixture *fix = arg;

	assert_true(readable);
	assert_false(writable);
	loop_stop(fix->loop);
}

static void
a_full_queue_is_tried_until_there_is_room(void **state)
{
	struct fixture *fix = *state;
	int fd = fill_queue(fix);
	struct loop_watch *watch;

	ask(fix, fix->addr.sun_path);
	(void)close(accept(fix->listener, NULL, NULL));
	(void)close(fd);
	watch = loop_watch_new(fix->loop, fix->listener, on_connection, fix);
	loop_watch_set(watch, true, false);
	run(fix);
	loop_watch_free(watch);
	take_question(fix);
	tell(fix, GRANT);
	run(fix);
	expect(fix, 1, 0, 0);
	assert_non_null(fix->answer);
}

static void
a_full_queue_is_tried_again_until_the_deadline(void **state)
{
	struct fixture *fix = *state;
	int fd = fill_queue(fix);

	ask(fix, fix->addr.sun_path);
	clock_skipped_ms += DEADLINE_MS + 1;
	run(fix);
	expect(fix, 1, 0, 0);
	assert_string_equal(fix->why, TOO_LATE);
	(void)close(fd);
}

/* ---- what is sent ------------------------------------------------------- */

static void
usage_reaches_the_broker_while_there_is_one(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *usage = wire_packet_new(WIRE_USAGE), *got;

	be_granted(fix);
	usage->usage.client.bytes = 17;
	broker_link_send(fix->link, usage);
	got = receive(fix);
	assert_int_equal(got->type, WIRE_USAGE);
	assert_int_equal(got->usage.client.bytes, 17);
	wire_packet_free(got);
	hang_up(fix);
	/* sent to nobody: that is no event of its own */
	broker_link_send(fix->link, usage);
	expect(fix, 1, 0, 0);
	run(fix);
	expect(fix, 1, 0, 1);
	broker_link_send(fix->link, usage);
	expect(fix, 1, 0, 1);
	wire_packet_free(usage);
}

static void
a_broker_that_does_not_read_is_not_waited_for(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *usage = wire_packet_new(WIRE_USAGE);

	be_granted(fix);
	for (int i = 0; i < 10000; i++)
		broker_link_send(fix->link, usage);
	wire_packet_free(usage);
	expect(fix, 1, 0, 0);
	/* the lease is as it was */
	tell(fix, LIMITS);
	run(fix);
	expect(fix, 1, 1, 0);
}

static void
a_question_that_fits_no_packet_is_refused_at_once(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *question = make_question();
	char value[1000];

	start_broker(fix, 8);
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (int i = 0; i < WIRE_HEADERS_MAX; i++)
		assert_int_equal(wire_headers_add(&question->open.headers, "X",
				     value),
		    ERR_OK);
	assert_int_equal(broker_link_open(fix->loop, fix->addr.sun_path,
			     question, &events, fix, &fix->link),
	    ERR_LIMIT);
	assert_null(fix->link);
	wire_packet_free(question);
	question = make_question();
	question->open.target[0] = ' ';
	assert_int_equal(broker_link_open(fix->loop, fix->addr.sun_path,
			     question, &events, fix, &fix->link),
	    ERR_PROTO);
	assert_null(fix->link);
	wire_packet_free(question);
}

/* ---- another broker ----------------------------------------------------- */

static void
be_resumable(struct fixture *fix)
{
	ask_and_take(fix);
	tell(fix, RESUMABLE);
	run(fix);
	assert_non_null(fix->answer);
	/* it is the link's alone */
	assert_null(fix->answer->grant.resume);
	assert_true(broker_link_resumes(fix->link));
}

/* The broker leaves. */
static void
be_left(struct fixture *fix)
{
	int losses = fix->losses;

	hang_up(fix);
	run(fix);
	assert_int_equal(fix->losses, losses + 1);
	assert_int_equal(fix->news, BROKER_LINK_AWAY);
}

static void
listen_again(struct fixture *fix)
{
	(void)unlink(fix->addr.sun_path);
	start_broker(fix, 8);
}

static void
stop_listening(struct fixture *fix)
{
	(void)close(fix->listener);
	fix->listener = -1;
}

/* A broker that is there is asked for the lease, and for nothing else. */
static int64_t
take_resume(struct fixture *fix)
{
	struct loop_watch *watch =
	    loop_watch_new(fix->loop, fix->listener, on_connection, fix);
	struct wire_packet *usage = wire_packet_new(WIRE_USAGE), *packet;
	int64_t elapsed_ms;
	char c;

	loop_watch_set(watch, true, false);
	run(fix);
	loop_watch_free(watch);
	if (fix->broker != -1)
		hang_up(fix);
	fix->broker = accept(fix->listener, NULL, NULL);
	assert_int_not_equal(fix->broker, -1);
	packet = receive(fix);
	assert_int_equal(packet->type, WIRE_RESUME);
	assert_string_equal(packet->resume.resume, "text");
	elapsed_ms = packet->resume.elapsed_ms;
	wire_packet_free(packet);
	assert_false(broker_link_send(fix->link, usage));
	wire_packet_free(usage);
	assert_int_equal(recv(fix->broker, &c, 1, MSG_DONTWAIT), -1);
	return elapsed_ms;
}

static void
another_broker_takes_the_lease_up(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *usage = wire_packet_new(WIRE_USAGE), *got;

	be_resumable(fix);
	broker_link_note_101(fix->link);
	clock_skipped_ms += 7000;
	for (int i = 1; i <= 3; i++) {
		be_left(fix);
		assert_false(broker_link_send(fix->link, usage));
		assert_true(take_resume(fix) >= 7000);
		tell(fix, RESUMED);
		run(fix);
		expect(fix, 1, i, i);
		assert_int_equal(fix->order, WIRE_RESUMED);
		assert_true(broker_link_send(fix->link, usage));
		got = receive(fix);
		assert_int_equal(got->type, WIRE_USAGE);
		wire_packet_free(got);
	}
	wire_packet_free(usage);
	/* it is a lease as any other */
	clock_skipped_ms += 10 * DEADLINE_MS;
	tell(fix, ANSWER);
	run(fix);
	assert_int_equal(fix->order, WIRE_ANSWER);
	tell(fix, ACK);
	run(fix);
	assert_int_equal(fix->order, WIRE_ACK);
	expect(fix, 1, 5, 3);
}

static void
before_the_101_no_time_has_passed(void **state)
{
	struct fixture *fix = *state;

	be_resumable(fix);
	clock_skipped_ms += 7000;
	be_left(fix);
	assert_int_equal(take_resume(fix), 0);
}

static void
a_broker_is_looked_for_until_there_is_one(void **state)
{
	struct fixture *fix = *state;

	be_resumable(fix);
	stop_listening(fix);
	be_left(fix);
	/* many attempts, and nobody is told of them */
	loop_timer_set(fix->timer, 500);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	assert_true(fix->timed_out);
	fix->timed_out = false;
	expect(fix, 1, 0, 1);
	listen_again(fix);
	(void)take_resume(fix);
	tell(fix, RESUMED);
	run(fix);
	expect(fix, 1, 1, 1);
}

/* Whether one that is there is looked for within so many milliseconds. */
static bool
is_looked_for(struct fixture *fix, int64_t ms)
{
	struct loop_watch *watch =
	    loop_watch_new(fix->loop, fix->listener, on_connection, fix);
	bool found;

	loop_watch_set(watch, true, false);
	loop_timer_set(fix->timer, ms);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	loop_watch_free(watch);
	found = !fix->timed_out;
	fix->timed_out = false;
	return found;
}

static void
who_has_no_time_looks_more_often(void **state)
{
	struct fixture *fix = *state;

	be_resumable(fix);
	stop_listening(fix);
	be_left(fix);
	for (int i = 0; i < 10; i++) {
		clock_skipped_ms += 2000;
		loop_timer_set(fix->timer, 5);
		assert_int_equal(loop_run(fix->loop), ERR_OK);
	}
	fix->timed_out = false;
	listen_again(fix);
	assert_false(is_looked_for(fix, 300));
	broker_link_hurry(fix->link);
	assert_true(is_looked_for(fix, 600));
	(void)take_resume(fix);
}

/* One that cannot take the lease is asked again, and so is the next. */
static void
a_broker_that_is_not_well_is_asked_again(void **state)
{
	static const char *const says[] = {
		"{\"v\":1,\"type\":\"deny\",\"status\":503,\"code\":\"x\","
		"\"message\":\"no\",\"headers\":[]}",
		"garbage", LIMITS, GRANT, ANSWER, NULL, /* it leaves */
		"",					/* it says nothing */
	};
	struct fixture *fix = *state;

	be_resumable(fix);
	be_left(fix);
	for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++) {
		(void)take_resume(fix);
		if (says[i] == NULL)
			hang_up(fix);
		else if (says[i][0] == '\0')
			clock_skipped_ms += DEADLINE_MS + 1;
		else
			tell(fix, says[i]);
	}
	(void)take_resume(fix);
	expect(fix, 1, 0, 1);
	tell(fix, RESUMED);
	run(fix);
	expect(fix, 1, 1, 1);
}

static void
a_lease_may_be_denied(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *usage = wire_packet_new(WIRE_USAGE);

	be_resumable(fix);
	be_left(fix);
	(void)take_resume(fix);
	tell(fix, DENY);
	run(fix);
	expect(fix, 1, 0, 2);
	assert_int_equal(fix->news, BROKER_LINK_DENIED);
	assert_false(broker_link_resumes(fix->link));
	assert_false(broker_link_send(fix->link, usage));
	wire_packet_free(usage);
}

/* Revoked while there was no broker: the tunnel still has a report to make. */
static void
a_lease_that_is_taken_up_may_be_ended_at_once(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *usage = wire_packet_new(WIRE_USAGE);

	be_resumable(fix);
	be_left(fix);
	(void)take_resume(fix);
	tell(fix, CLOSE);
	run(fix);
	expect(fix, 1, 1, 1);
	assert_int_equal(fix->order, WIRE_CLOSE);
	assert_int_equal(fix->order_code, 4001);
	assert_true(broker_link_send(fix->link, usage));
	wire_packet_free(usage);
}

static void
what_cannot_be_resumed_is_lost(void **state)
{
	static const char passed[] = "\"resume\":\"text\",";
	struct fixture *fix = *state;
	char text[1024];
	int pipe_fds[2], fd;

	be_granted(fix);
	assert_false(broker_link_resumes(fix->link));
	hang_up(fix);
	run(fix);
	assert_int_equal(fix->news, BROKER_LINK_LOST);
	(void)tear_down(state);
	(void)set_up(state);
	fix = *state;
	/* what the broker passed has died with it */
	(void)snprintf(text, sizeof(text), "{%s%s", passed, &PASSED[1]);
	ask_and_take(fix);
	pass(fix, text, 1, pipe_fds);
	run(fix);
	assert_non_null(fix->answer);
	fd = broker_link_take_upstream(fix->link);
	(void)close(fd);
	assert_is_closed(pipe_fds[0]);
	assert_false(broker_link_resumes(fix->link));
	hang_up(fix);
	run(fix);
	assert_int_equal(fix->news, BROKER_LINK_LOST);
}

static void
the_link_may_be_freed_while_it_is_away(void **state)
{
	struct fixture *fix = *state;

	be_resumable(fix);
	fix->free_at_once = true;
	be_left(fix);
	assert_null(fix->link);
	for (int i = 0; i < 2; i++) {
		(void)tear_down(state);
		(void)set_up(state);
		fix = *state;
		be_resumable(fix);
		be_left(fix);
		fix->free_at_once = true;
		(void)take_resume(fix);
		tell(fix, i == 0 ? RESUMED : DENY);
		run(fix);
		assert_null(fix->link);
	}
}

/* ---- being freed -------------------------------------------------------- */

static void
freeing_the_link_ends_the_lease(void **state)
{
	struct fixture *fix = *state;
	char c;

	be_granted(fix);
	broker_link_free(fix->link);
	fix->link = NULL;
	assert_int_equal(recv(fix->broker, &c, 1, MSG_DONTWAIT), 0);
	expect(fix, 1, 0, 0);
	broker_link_free(NULL);
}

static void
the_link_may_be_freed_by_whom_it_calls(void **state)
{
	struct fixture *fix = *state;

	be_granted(fix);
	fix->free_at_once = true;
	tell(fix, CLOSE);
	tell(fix, LIMITS);
	run(fix);
	expect(fix, 1, 1, 0);
	assert_null(fix->link);
	for (int granted = 0; granted < 2; granted++) {
		(void)tear_down(state);
		(void)set_up(state);
		fix = *state;
		granted ? be_granted(fix) : ask_and_take(fix);
		fix->free_at_once = true;
		tell(fix, "garbage");
		run(fix);
		expect(fix, 1, 0, granted);
		assert_null(fix->link);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_grant_is_handed_over_and_then_orders_and_the_end),
		TEST(an_upstream_that_is_passed_is_the_callers),
		TEST(an_upstream_that_nobody_takes_is_closed),
		TEST(refuses_descriptors_that_do_not_belong_to_a_packet),
		TEST(a_denial_is_handed_over),
		TEST(a_granted_link_outlives_the_deadline),
		TEST(a_broker_that_is_silent_is_given_up_at_the_deadline),
		TEST(a_broker_that_leaves_before_its_answer_gives_none),
		TEST(what_is_no_packet_or_out_of_turn_ends_the_link),
		TEST(a_packet_that_is_too_large_is_told_apart),
		TEST(a_broker_that_is_not_there_is_an_event),
		TEST(a_socket_that_nobody_serves_is_an_event),
		TEST(a_path_that_no_socket_can_have_is_an_event),
		TEST(a_full_queue_is_tried_until_there_is_room),
		TEST(a_full_queue_is_tried_again_until_the_deadline),
		TEST(usage_reaches_the_broker_while_there_is_one),
		TEST(a_broker_that_does_not_read_is_not_waited_for),
		TEST(a_question_that_fits_no_packet_is_refused_at_once),
		TEST(another_broker_takes_the_lease_up),
		TEST(before_the_101_no_time_has_passed),
		TEST(a_broker_is_looked_for_until_there_is_one),
		TEST(who_has_no_time_looks_more_often),
		TEST(a_broker_that_is_not_well_is_asked_again),
		TEST(a_lease_may_be_denied),
		TEST(a_lease_that_is_taken_up_may_be_ended_at_once),
		TEST(what_cannot_be_resumed_is_lost),
		TEST(the_link_may_be_freed_while_it_is_away),
		TEST(freeing_the_link_ends_the_lease),
		TEST(the_link_may_be_freed_by_whom_it_calls),
	};

	return cmocka_run_group_tests_name("broker_link", tests, NULL, NULL);
}
