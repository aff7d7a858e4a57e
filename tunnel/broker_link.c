/* SPDX-License-Identifier: MIT */
#include "tunnel/broker_link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crypt.h"
#include "common/xalloc.h"

#define ANSWER_MS 5000 /* for the connection and the answer together */
#define RETRY_MS  20   /* between attempts while the broker's queue is full */

/* between attempts to find a broker, spread over the second half of each */
#define WAIT_MIN_MS 50
#define WAIT_MAX_MS 2000
#define HURRY_MS    200 /* the longest, where there is not much time */

#define PASSED_MAX 4 /* descriptors of a packet that are told apart */

enum link_state {
	LINK_ASKING,   /* from the question to its answer */
	LINK_UP,       /* there is a lease */
	LINK_AWAY,     /* no broker; the timer says when to look */
	LINK_RESUMING, /* a broker has been asked for the lease */
	LINK_OVER,
};

struct broker_link {
	struct loop *loop;
	const struct broker_link_events *events;
	void *arg;
	struct loop_watch *watch;
	struct loop_timer *timer;
	int fd;
	int passed; /* came with the last packet; -1: none */
	struct sockaddr_un addr;
	char *question; /* until it has been sent */
	size_t question_len;
	int64_t deadline_ms;
	enum link_state state;
	char *resume;	   /* NULL: the lease ends with its broker */
	int64_t opened_ms; /* the 101; 0: not yet */
	int64_t wait_ms;   /* before the next attempt */
	bool hurries;	   /* has no time for long ones */
	int64_t up_ms;	   /* since when there is a lease */
	char why[160];	   /* failed before the loop ran: told by the timer */
};

static void
disconnect(struct broker_link *link)
{
	loop_watch_free(link->watch);
	link->watch = NULL;
	if (link->fd != -1)
		(void)close(link->fd);
	link->fd = -1;
	loop_timer_stop(link->timer);
}

static void
drop_passed(struct broker_link *link)
{
	if (link->passed != -1)
		(void)close(link->passed);
	link->passed = -1;
}

static void
drop_resume(struct broker_link *link)
{
	if (link->resume != NULL)
		wire_text_free(link->resume, strlen(link->resume));
	link->resume = NULL;
}

/* Look for a broker in a while: not all tunnels at the same moment. */
static void
look_later(struct broker_link *link)
{
	int64_t max_ms = link->hurries ? HURRY_MS : WAIT_MAX_MS;
	int64_t wait_ms = link->wait_ms < max_ms ? link->wait_ms : max_ms;
	uint16_t random;

	crypt_random(&random, sizeof(random));
	link->state = LINK_AWAY;
	loop_timer_set(link->timer, wait_ms / 2 + random % (wait_ms / 2 + 1));
	link->wait_ms = wait_ms * 2;
}

/* There will be no more packets; the callee may free the link. */
static void
end(struct broker_link *link, enum broker_link_news news, const char *why)
{
	disconnect(link);
	drop_resume(link);
	link->state = LINK_OVER;
	link->events->changed(link->arg, news, why);
}

/* This connection is of no use; the callee may free the link. */
static void
fail(struct broker_link *link, const char *why)
{
	enum link_state was = link->state;

	disconnect(link);
	if (was == LINK_ASKING) {
		link->state = LINK_OVER;
		link->events->answered(link->arg, NULL, why);
	} else if (link->resume == NULL) {
		end(link, BROKER_LINK_LOST, why);
	} else {
		/* a broker that does not last is not looked for in haste */
		if (was == LINK_UP && clock_ms() - link->up_ms >= WAIT_MAX_MS)
			link->wait_ms = WAIT_MIN_MS;
		look_later(link);
		if (was == LINK_UP)
			link->events->changed(link->arg, BROKER_LINK_AWAY, why);
	}
}

/* As fail(), but from the timer: broker_link_open() calls nobody back. */
static void
fail_later(struct broker_link *link, const char *what, int error)
{
	(void)snprintf(link->why, sizeof(link->why), "%s: %s", what,
	    strerror(error));
	loop_timer_set(link->timer, 0);
}

/* The broker's decision. */
static void
take_answer(struct broker_link *link, struct wire_packet *packet)
{
	struct wire_grant *grant = &packet->grant;

	loop_timer_stop(link->timer);
	link->state = LINK_OVER;
	if (packet->type == WIRE_GRANT) {
		link->state = LINK_UP;
		/* what the broker has passed dies with it */
		if (!grant->upstream.passed) {
			link->resume = grant->resume;
			grant->resume = NULL;
		}
	}
	link->events->answered(link->arg, packet, NULL);
}

/* Whether a broker has the lease again; the callee may free the link. */
static void
take_resumed(struct broker_link *link, const struct wire_packet *packet)
{
	if (packet->type == WIRE_DENY) {
		/* one that is not well may get well */
		if (packet->deny.status >= 500)
			fail(link, "the broker cannot take the lease now");
		else
			end(link, BROKER_LINK_DENIED,
			    "the broker does not take the lease");
		return;
	}
	loop_timer_stop(link->timer);
	link->state = LINK_UP;
	link->up_ms = clock_ms();
	link->events->told(link->arg, packet);
}

/* What may come in which state. */
static bool
is_expected(const struct broker_link *link, enum wire_type type)
{
	switch (link->state) {
	case LINK_ASKING:
		return type == WIRE_GRANT || type == WIRE_DENY;
	case LINK_RESUMING:
		return type == WIRE_RESUMED || type == WIRE_DENY ||
		    type == WIRE_CLOSE;
	case LINK_UP:
		return type == WIRE_CLOSE || type == WIRE_LIMITS ||
		    type == WIRE_ANSWER || type == WIRE_ACK;
	case LINK_AWAY:
	case LINK_OVER:
		break;
	}
	return false;
}

static void
take_packet(struct broker_link *link, struct wire_packet *packet)
{
	bool is_passed =
	    packet->type == WIRE_GRANT && packet->grant.upstream.passed;

	if (is_passed != (link->passed != -1)) {
		wire_packet_free(packet);
		drop_passed(link);
		fail(link,
		    is_passed ? "the broker did not pass the upstream"
			      : "the broker passed a descriptor out of turn");
		return;
	}
	if (!is_expected(link, packet->type)) {
		wire_packet_free(packet);
		fail(link, "the broker sent a packet out of turn");
		return;
	}
	if (link->state == LINK_ASKING) {
		take_answer(link, packet);
		return;
	}
	if (link->state == LINK_RESUMING)
		take_resumed(link, packet);
	else
		link->events->told(link->arg, packet);
	wire_packet_free(packet);
}

/* Keep the one descriptor that may come with a packet, and close all else. */
static bool
take_descriptors(struct broker_link *link, struct msghdr *message)
{
	bool ok = (message->msg_flags & MSG_CTRUNC) == 0;
	struct cmsghdr *item;

	for (item = CMSG_FIRSTHDR(message); item != NULL;
	     item = CMSG_NXTHDR(message, item)) {
		size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fds[PASSED_MAX];

		if (item->cmsg_level != SOL_SOCKET ||
		    item->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds, CMSG_DATA(item), count * sizeof(int));
		ok &= count == 1 && link->passed == -1;
		for (size_t i = 0; i < count; i++) {
			drop_passed(link);
			link->passed = fds[i];
		}
	}
	if (!ok)
		drop_passed(link);
	return ok;
}

/* As recv() with MSG_TRUNC; false where more is passed than may be. */
static bool
receive(struct broker_link *link, void *data, size_t size, ssize_t *ret_len)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(PASSED_MAX * sizeof(int))];
	} control;
	struct iovec part = { .iov_base = data, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	*ret_len = recvmsg(link->fd, &message,
	    MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
	return *ret_len == -1 || take_descriptors(link, &message);
}

static void
on_readable(void *arg, bool readable, bool writable)
{
	struct broker_link *link = arg;
	struct wire_packet *packet = NULL;
	struct diag diag;
	uint8_t *scratch;
	size_t size;
	ssize_t n;
	enum err err;
	bool ok;

	(void)readable;
	(void)writable;
	/* scratch, not the stack: it is large and shared by all */
	scratch = loop_scratch(link->loop, &size);
	ok = receive(link, scratch, size, &n);
	/* a reset comes once, and in front of what was sent before it */
	if (n == -1 &&
	    (errno == EAGAIN || errno == EINTR || errno == ECONNRESET))
		return;
	if (n <= 0) {
		fail(link, "the broker closed the control connection");
		return;
	}
	if ((size_t)n > size || !ok) {
		explicit_bzero(scratch, size);
		drop_passed(link);
		fail(link,
		    ok ? "the broker sent too large a packet"
		       : "the broker passed more than one descriptor");
		return;
	}
	err = wire_parse(scratch, (size_t)n, &packet, &diag);
	explicit_bzero(scratch, (size_t)n); /* a grant has a key */
	if (err != ERR_OK) {
		fail(link, diag.text);
		return;
	}
	take_packet(link, packet);
}

/* ERR_AGAIN: the broker's queue of connections is full. */
static enum err
try_connect(struct broker_link *link)
{
	int fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd == -1) {
		fail_later(link, "no control socket", errno);
		return ERR_SYS;
	}
	if (connect(fd, (const void *)&link->addr, sizeof(link->addr)) == -1) {
		int error = errno;

		(void)close(fd);
		if (error == EAGAIN)
			return ERR_AGAIN;
		fail_later(link, "cannot connect to the broker", error);
		return ERR_SYS;
	}
	link->fd = fd;
	link->watch = loop_watch_new(link->loop, fd, on_readable, link);
	return ERR_OK;
}

static void
drop_question(struct broker_link *link)
{
	wire_text_free(link->question, link->question_len);
	link->question = NULL;
}

static void
connect_and_ask(struct broker_link *link)
{
	enum err err = try_connect(link);

	if (err == ERR_AGAIN) {
		loop_timer_set(link->timer, RETRY_MS);
		return;
	}
	if (err != ERR_OK)
		return;
	if (send(link->fd, link->question, link->question_len,
		MSG_DONTWAIT | MSG_NOSIGNAL) == -1) {
		fail_later(link, "cannot ask the broker", errno);
		return;
	}
	drop_question(link);
	loop_watch_set(link->watch, true, false);
	loop_timer_set(link->timer, link->deadline_ms - clock_ms());
}

/* There may be a broker again: ask it for the lease. */
static void
resume(struct broker_link *link)
{
	struct wire_packet *packet = wire_packet_new(WIRE_RESUME);
	int64_t now = clock_ms();
	bool sent = false;

	if (link->opened_ms != 0)
		packet->resume.elapsed_ms = now - link->opened_ms;
	packet->resume.resume = xstrdup(link->resume);
	if (try_connect(link) == ERR_OK)
		sent = broker_link_send(link, packet);
	wire_packet_free(packet);
	link->why[0] = '\0'; /* it is tried again, whatever it is */
	if (!sent) {
		disconnect(link);
		look_later(link);
		return;
	}
	link->state = LINK_RESUMING;
	loop_watch_set(link->watch, true, false);
	loop_timer_set(link->timer, ANSWER_MS);
}

static void
on_timer(void *arg)
{
	struct broker_link *link = arg;

	if (link->state == LINK_AWAY)
		resume(link);
	else if (link->state == LINK_RESUMING)
		fail(link, "the broker did not answer in time");
	else if (link->why[0] != '\0')
		fail(link, link->why);
	else if (clock_ms() >= link->deadline_ms)
		fail(link, "the broker did not answer in time");
	else
		connect_and_ask(link);
}

enum err
broker_link_open(struct loop *loop, const char *path,
    const struct wire_packet *question, const struct broker_link_events *events,
    void *arg, struct broker_link **ret)
{
	struct broker_link *link = xcalloc(1, sizeof(*link));
	enum err err;

	link->fd = link->passed = -1;
	link->timer = loop_timer_new(loop, on_timer, link);
	err = wire_format(question, &link->question, &link->question_len);
	if (err != ERR_OK) {
		broker_link_free(link);
		return err;
	}
	link->loop = loop;
	link->events = events;
	link->arg = arg;
	link->deadline_ms = clock_ms() + ANSWER_MS;
	link->wait_ms = WAIT_MIN_MS;
	link->addr.sun_family = AF_UNIX;
	if (strlen(path) < sizeof(link->addr.sun_path)) {
		(void)strcpy(link->addr.sun_path, path);
		connect_and_ask(link);
	} else {
		fail_later(link, "control socket", ENAMETOOLONG);
	}
	*ret = link;
	return ERR_OK;
}

int
broker_link_take_upstream(struct broker_link *link)
{
	int fd = link->passed;

	link->passed = -1;
	if (fd != -1)
		(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return fd;
}

void
broker_link_note_101(struct broker_link *link)
{
	link->opened_ms = clock_ms();
}

void
broker_link_hurry(struct broker_link *link)
{
	link->hurries = true;
	if (link->state == LINK_AWAY)
		look_later(link);
}

bool
broker_link_resumes(const struct broker_link *link)
{
	return link->resume != NULL;
}

bool
broker_link_send(struct broker_link *link, const struct wire_packet *packet)
{
	char *text;
	size_t len;
	bool sent;

	/* a broker that has not taken the lease takes nothing else either */
	if (link->fd == -1 || link->state == LINK_RESUMING ||
	    wire_format(packet, &text, &len) != ERR_OK)
		return false;
	sent = send(link->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) != -1;
	wire_text_free(text, len);
	return sent;
}

void
broker_link_free(struct broker_link *link)
{
	if (link == NULL)
		return;
	disconnect(link);
	drop_passed(link);
	drop_resume(link);
	loop_timer_free(link->timer);
	wire_text_free(link->question, link->question_len);
	free(link);
}
