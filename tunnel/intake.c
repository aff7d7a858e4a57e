/* SPDX-License-Identifier: MIT */
#include "tunnel/intake.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/xalloc.h"

#define FIRST_HEAD_BYTES 2048 /* enough for nearly all */

struct intake {
	const struct intake_events *events;
	void *arg;
	struct loop *loop;
	struct loop_timer *timer;
	struct stream *stream; /* NULL once it is taken */
	struct loop_watch *watch;
	char *head; /* the request, while it is being read */
	size_t head_len, head_size;
	bool begun, read; /* a byte of the head has come; all of it has */
	struct buf *early;
	size_t early_len;
};

/* It may hold credentials of the client. */
static void
drop_head(struct intake *intake)
{
	if (intake->head != NULL)
		explicit_bzero(intake->head, intake->head_len);
	free(intake->head);
	intake->head = NULL;
}

static void
set_interest(struct intake *intake)
{
	loop_watch_set(intake->watch, intake->early_len < INTAKE_EARLY_BYTES,
	    false);
}

/* ---- the head ---------------------------------------------------------- */

static void
keep_early(struct intake *intake, const void *data, size_t len)
{
	if (len == 0)
		return;
	if (intake->early == NULL)
		intake->early = buf_new(INTAKE_EARLY_BYTES);
	/* no more is read than fits */
	if (buf_add(intake->early, data, len) == ERR_OK)
		intake->early_len += len;
}

/* The intake may be gone when this returns, as after any of its events. */
static void
take_request(struct intake *intake, const struct http_head *head)
{
	size_t len = intake->head_len;
	char *text = intake->head;

	keep_early(intake, text + head->head_len, len - head->head_len);
	intake->head = NULL;
	intake->read = true;
	loop_timer_stop(intake->timer);
	set_interest(intake);
	intake->events->request(intake->arg, head);
	explicit_bzero(text, len);
	free(text);
}

static void
on_timeout(void *arg)
{
	struct intake *intake = arg;

	/* a connection opened in advance and never used is no error */
	if (!intake->begun)
		intake->events->gone(intake->arg);
	else
		intake->events->failed(intake->arg, ERR_TIMEOUT,
		    "slow request head");
}

/* Not with realloc(): what it leaves behind may be credentials. */
static void
grow_head(struct intake *intake)
{
	size_t len = intake->head_len;
	char *head;

	intake->head_size =
	    intake->head_size == 0 ? FIRST_HEAD_BYTES : HTTP_HEAD_MAX_BYTES + 1;
	head = xcalloc(1, intake->head_size);
	if (len > 0)
		memcpy(head, intake->head, len);
	drop_head(intake);
	intake->head = head;
}

static void
read_head(struct intake *intake)
{
	struct http_head head;
	enum stream_result result;
	struct diag diag;
	enum err err;
	size_t n;

	if (intake->head_len == intake->head_size)
		grow_head(intake);
	result = stream_read(intake->stream, intake->head + intake->head_len,
	    intake->head_size - intake->head_len, &n);
	if (result == STREAM_WAIT)
		return;
	if (result != STREAM_OK) {
		intake->events->gone(intake->arg);
		return;
	}
	intake->begun = true;
	intake->head_len += n;
	err = http_head_parse_request(intake->head, intake->head_len, &head,
	    &diag);
	if (err == ERR_OK)
		take_request(intake, &head);
	else if (err != ERR_AGAIN)
		intake->events->failed(intake->arg, err, diag.text);
}

/* ---- what comes early -------------------------------------------------- */

static void
read_early(struct intake *intake)
{
	enum stream_result result;
	uint8_t *scratch;
	size_t size, n;

	scratch = loop_scratch(intake->loop, &size);
	if (size > INTAKE_EARLY_BYTES - intake->early_len)
		size = INTAKE_EARLY_BYTES - intake->early_len;
	result = stream_read(intake->stream, scratch, size, &n);
	if (result == STREAM_OK) {
		keep_early(intake, scratch, n);
		set_interest(intake);
	} else if (result != STREAM_WAIT) {
		intake->events->gone(intake->arg);
	}
}

static void
on_ready(void *arg, bool readable, bool writable)
{
	struct intake *intake = arg;

	(void)readable;
	(void)writable;
	if (intake->read)
		read_early(intake);
	else
		read_head(intake);
}

/* ---- for the owner ----------------------------------------------------- */

struct intake *
intake_new(struct loop *loop, int fd, const struct intake_events *events,
    void *arg)
{
	struct intake *intake = xcalloc(1, sizeof(*intake));
	int one = 1;

	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	/* fails on a Unix socket, which has no such delay */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	intake->events = events;
	intake->arg = arg;
	intake->loop = loop;
	intake->stream = stream_new(fd);
	intake->timer = loop_timer_new(loop, on_timeout, intake);
	intake->watch = loop_watch_new(loop, fd, on_ready, intake);
	loop_timer_set(intake->timer, INTAKE_HEAD_MS);
	set_interest(intake);
	return intake;
}

void
intake_free(struct intake *intake)
{
	if (intake == NULL)
		return;
	drop_head(intake);
	loop_watch_free(intake->watch);
	stream_free(intake->stream);
	loop_timer_free(intake->timer);
	buf_free(intake->early);
	free(intake);
}

bool
intake_has_begun(const struct intake *intake)
{
	return intake->begun;
}

int
intake_fd(const struct intake *intake)
{
	return stream_fd(intake->stream);
}

const uint8_t *
intake_peek_early(const struct intake *intake, size_t *ret_len)
{
	*ret_len = 0;
	return intake->early != NULL ? buf_peek(intake->early, ret_len) : NULL;
}

void
intake_take(struct intake *intake, struct stream **ret_stream,
    struct loop_watch **ret_watch)
{
	loop_timer_stop(intake->timer);
	*ret_stream = intake->stream;
	*ret_watch = intake->watch;
	intake->stream = NULL;
	intake->watch = NULL;
}
