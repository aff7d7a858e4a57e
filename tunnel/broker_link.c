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
#include "common/xalloc.h"

#define ANSWER_MS 5000 /* for the connection and the answer together */
#define RETRY_MS  20   /* between attempts while the broker's queue is full */

#define PASSED_MAX 4 /* descriptors of a packet that are told apart */

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
	bool answered;
	char why[160]; /* failed before the loop ran: told by the timer */
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

/* There will be no more packets; the callee may free the link. */
static void
fail(struct broker_link *link, const char *why)
{
	disconnect(link);
	if (link->answered) {
		link->events->lost(link->arg, why);
		return;
	}
	link->answered = true;
	link->events->answered(link->arg, NULL, why);
}

/* As fail(), but from the timer: broker_link_open() calls nobody back. */
static void
fail_later(struct broker_link *link, const char *what, int error)
{
	(void)snprintf(link->why, sizeof(link->why), "%s: %s", what,
	    strerror(error));
	loop_timer_set(link->timer, 0);
}

static void
take_packet(struct broker_link *link, struct wire_packet *packet)
{
	bool is_answer =
	    packet->type == WIRE_GRANT || packet->type == WIRE_DENY;
	bool is_order =
	    packet->type == WIRE_CLOSE || packet->type == WIRE_LIMITS;
	bool is_passed =
	    packet->type == WIRE_GRANT && packet->grant.upstream.passed;

	if (is_passed != (link->passed != -1)) {
		wire_packet_free(packet);
		fail(link,
		    is_passed ? "the broker did not pass the upstream"
			      : "the broker passed a descriptor out of turn");
		return;
	}
	if (!link->answered && is_answer) {
		link->answered = true;
		loop_timer_stop(link->timer);
		link->events->answered(link->arg, packet, NULL);
		return;
	}
	if (link->answered && is_order) {
		link->events->told(link->arg, packet);
		wire_packet_free(packet);
		return;
	}
	wire_packet_free(packet);
	fail(link, "the broker sent a packet out of turn");
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
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		fail(link, "the broker closed the control connection");
		return;
	}
	if ((size_t)n > size || !ok) {
		explicit_bzero(scratch, size);
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

static void
on_timer(void *arg)
{
	struct broker_link *link = arg;

	if (link->why[0] != '\0')
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

bool
broker_link_send(struct broker_link *link, const struct wire_packet *packet)
{
	char *text;
	size_t len;
	bool sent;

	if (link->fd == -1 || wire_format(packet, &text, &len) != ERR_OK)
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
	loop_timer_free(link->timer);
	wire_text_free(link->question, link->question_len);
	free(link);
}
