/* SPDX-License-Identifier: MIT */
/*
 * chat_load: clients of answers that are streamed, as many as there are.
 *
 *   chat_load ADDRESS PATH STREAMS RAMP_MS DELTAS [HEADER]... < BODY
 *	ADDRESS is a port of 127.0.0.1 or the path of a Unix socket.  Each
 *	stream is a POST of BODY; "{n}" in it and in a HEADER becomes its
 *	number.  They begin one after the other, within RAMP_MS.
 *
 * The deltas are those of the simulator's knob `stamp', "N:NANOSECONDS ", in
 * OpenAI's chunks or in the broker's events: what has passed since then is the
 * delay.  It counts while all streams are open, from RAMP_MS after "open" is on
 * standard error to "over", when the first has ended.
 *
 * The result is one line of JSON; times in microseconds.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/xalloc.h"

#define SAMPLES_MAX  4000000
#define LINE_MAX     4096
#define BODY_MAX     65536
#define SILENCE_MS   30000
#define EVENTS_MAX   256
#define STATUS_BYTES 12 /* "HTTP/1.1 200" */

/* Where in the answer a stream is; the body comes in chunks (RFC 9112 7.1). */
enum part {
	STATUS,
	HEADERS,
	SIZE,
	DATA,
	ENDED,
};

struct stream {
	int fd;
	enum part part;
	size_t chunk;	 /* of which so much is left, and its line end */
	uint64_t deltas; /* the number of the last */
	bool other;	 /* an event that is no delta */
	size_t len;
	char line[LINE_MAX];
};

static struct {
	size_t count, started, open, ended, failed;
	uint64_t deltas; /* expected of each */
	bool over;	 /* one has ended: not all are open any more */
	const char *why; /* one failed, the first */
	int ep;
	uint32_t *samples;
	size_t sample_count;
	int64_t ramp_ns, from_ns, over_ns;
} load;

static int64_t
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- what comes ---------------------------------------------------------- */

static void
end_stream(struct stream *s, const char *why)
{
	if (s->part == ENDED)
		return;
	if (why == NULL && s->deltas != load.deltas)
		why = "it ended before its last delta";
	if (why != NULL) {
		load.failed++;
		load.why = load.why == NULL ? why : load.why;
	}
	load.ended++;
	if (load.open == load.count && !load.over) {
		load.over_ns = now_ns();
		fputs("over\n", stderr);
	}
	load.over = true;
	s->part = ENDED;
	(void)close(s->fd);
}

static void
take_delta(struct stream *s, uint64_t n, int64_t sent_ns, int64_t now)
{
	if (n != s->deltas + 1) {
		end_stream(s, "a delta is missing, or came twice");
		return;
	}
	s->deltas = n;
	if (n == 1 && ++load.open == load.count && !load.over) {
		load.from_ns = now + load.ramp_ns;
		fputs("open\n", stderr);
	}
	if (load.open == load.count && now >= load.from_ns && !load.over &&
	    load.sample_count < SAMPLES_MAX)
		load.samples[load.sample_count++] =
		    (uint32_t)((now - sent_ns) / 1000);
}

/* "N:NS N:NS " behind one of the names that a delta's text may have. */
static void
take_line(struct stream *s, int64_t now)
{
	static const char *const names[] = { "\"content\":\"", "\"delta\":\"" };
	char *p = NULL;

	for (size_t i = 0; p == NULL && i < 2; i++) {
		p = strstr(s->line, names[i]);
		p = p == NULL ? NULL : p + strlen(names[i]);
	}
	while (p != NULL && *p >= '0' && *p <= '9' && s->part != ENDED) {
		uint64_t n = strtoull(p, &p, 10);
		int64_t ns = 0;

		if (*p == ':')
			ns = strtoll(p + 1, &p, 10);
		if (*p != ' ' || ns == 0)
			return; /* another number */
		p++;
		take_delta(s, n, ns, now);
	}
}

static void
take_field(struct stream *s, int64_t now)
{
	if (s->len == 0)
		s->other = false;
	else if (strcmp(s->line, "event: assistant_error") == 0)
		end_stream(s, "it was told of an error");
	else if (strncmp(s->line, "event: ", 7) == 0)
		s->other = strcmp(s->line, "event: assistant_delta") != 0;
	else if (strncmp(s->line, "data: ", 6) == 0 && !s->other)
		take_line(s, now);
}

static void
end_line(struct stream *s, int64_t now)
{
	s->line[s->len] = '\0';
	switch (s->part) {
	case STATUS:
		if (s->len < STATUS_BYTES || memcmp(s->line + 9, "200", 3) != 0)
			end_stream(s, "its status is not 200");
		else
			s->part = HEADERS;
		break;
	case HEADERS:
		if (s->len == 0)
			s->part = SIZE;
		break;
	case DATA:
		take_field(s, now);
		break;
	case SIZE:
	case ENDED:
		break;
	}
	s->len = 0;
}

static void
take_text(struct stream *s, char c, int64_t now)
{
	if (c == '\n')
		end_line(s, now);
	else if (c != '\r' && s->len < LINE_MAX - 1)
		s->line[s->len++] = c;
}

/* The size of a chunk, in hexadecimal; a line of text may go on behind it. */
static void
take_size(struct stream *s, char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *digit = strchr(digits, c | 0x20);

	if (c == '\n' && s->chunk == 0) {
		end_stream(s, NULL);
	} else if (c == '\n') {
		s->chunk += 2; /* its line end */
		s->part = DATA;
	} else if (c != '\r' && digit != NULL) {
		s->chunk = s->chunk * 16 + (size_t)(digit - digits);
	}
}

static void
take(struct stream *s, const char *data, size_t len)
{
	int64_t now = now_ns();

	for (size_t i = 0; i < len && s->part != ENDED; i++) {
		if (s->part == SIZE) {
			take_size(s, data[i]);
		} else if (s->part != DATA) {
			take_text(s, data[i], now);
		} else {
			if (s->chunk > 2)
				take_text(s, data[i], now);
			if (s->part == DATA && --s->chunk == 0)
				s->part = SIZE;
		}
	}
}

static void
on_readable(struct stream *s)
{
	static char data[65536];
	ssize_t n = recv(s->fd, data, sizeof(data), 0);

	if (n > 0)
		take(s, data, (size_t)n);
	else if (n == 0)
		end_stream(s, "the connection ended");
	else if (errno != EAGAIN)
		end_stream(s, strerror(errno));
}

/* ---- what is sent -------------------------------------------------------- */

static int
dial(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)strtoul(address, NULL, 10)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	bool local = *address == '/';
	int one = 1;
	int fd =
	    socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (local && strlen(address) >= sizeof(un.sun_path))
		errx(1, "%s: too long", address);
	if (local)
		strcpy(un.sun_path, address);
	else
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
		    sizeof(one));
	if (connect(fd, local ? (void *)&un : (void *)&in,
		local ? sizeof(un) : sizeof(in)) == -1)
		err(1, "connect %s", address);
	return fd;
}

/* With each "{n}" replaced; the caller frees it. */
static char *
fill_in(const char *text, size_t number)
{
	char *out = xstrdup("");
	const char *mark;

	while ((mark = strstr(text, "{n}")) != NULL) {
		char *longer = xasprintf("%s%.*s%zu", out, (int)(mark - text),
		    text, number);

		free(out);
		out = longer;
		text = mark + 3;
	}
	mark = out;
	out = xasprintf("%s%s", mark, text);
	free((void *)(uintptr_t)mark);
	return out;
}

static void
start_stream(struct stream *s, size_t number, char **argv, const char *body)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = s };
	char *content = fill_in(body, number), *head = xstrdup("");
	char *request;
	size_t len;

	for (char **header = argv + 6; *header != NULL; header++) {
		char *line = fill_in(*header, number);
		char *longer = xasprintf("%s%s\r\n", head, line);

		free(line);
		free(head);
		head = longer;
	}
	request = xasprintf("POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
			    "Content-Type: application/json\r\n"
			    "Content-Length: %zu\r\n%s\r\n%s",
	    argv[2], strlen(content), head, content);
	len = strlen(request);
	s->fd = dial(argv[1]);
	if (send(s->fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
		err(1, "send");
	(void)fcntl(s->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(load.ep, EPOLL_CTL_ADD, s->fd, &event) == -1)
		err(1, "epoll_ctl");
	free(request);
	free(content);
	free(head);
}

/* ---- all of them --------------------------------------------------------- */

/* Milliseconds until the next has to begin, after those that are due. */
static int
start_due(struct stream *streams, int64_t begin_ns, char **argv,
    const char *body)
{
	while (load.started < load.count) {
		int64_t due = begin_ns +
		    load.ramp_ns * (int64_t)load.started / (int64_t)load.count;
		int64_t left = due - now_ns();

		if (left > 0)
			return (int)(left / 1000000) + 1;
		start_stream(&streams[load.started], load.started, argv, body);
		load.started++;
	}
	return SILENCE_MS;
}

static void
run(struct stream *streams, char **argv, const char *body)
{
	struct epoll_event events[EVENTS_MAX];
	int64_t begin_ns = now_ns();

	while (load.ended < load.count) {
		int ms = start_due(streams, begin_ns, argv, body);
		int n = epoll_wait(load.ep, events, EVENTS_MAX, ms);

		if (n == 0 && load.started == load.count && ms == SILENCE_MS)
			errx(1, "nothing comes any more: %zu of %zu are open",
			    load.open, load.count);
		for (int i = 0; i < n; i++)
			on_readable(events[i].data.ptr);
	}
}

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t
percentile(double share)
{
	size_t at = (size_t)((double)load.sample_count * share);

	if (load.sample_count == 0)
		return 0;
	return load
	    .samples[at < load.sample_count ? at : load.sample_count - 1];
}

static void
print_result(void)
{
	double seconds = (double)(load.over_ns - load.from_ns) / 1e9;

	qsort(load.samples, load.sample_count, sizeof(*load.samples), compare);
	printf("{\"streams\":%zu,\"open\":%zu,\"failed\":%zu,\"why\":\"%s\","
	       "\"seconds\":%.2f,\"deltas\":%zu,\"per_second\":%.0f,"
	       "\"p50\":%" PRIu32 ",\"p99\":%" PRIu32 ",\"p999\":%" PRIu32
	       ",\"max\":%" PRIu32 "}\n",
	    load.count, load.open, load.failed,
	    load.why == NULL ? "" : load.why, seconds, load.sample_count,
	    seconds > 0 ? (double)load.sample_count / seconds : 0,
	    percentile(0.5), percentile(0.99), percentile(0.999),
	    percentile(1));
}

int
main(int argc, char *argv[])
{
	static char body[BODY_MAX];
	struct stream *streams;

	if (argc < 6)
		errx(2,
		    "usage: chat_load ADDRESS PATH STREAMS RAMP_MS DELTAS "
		    "[HEADER]... < BODY");
	body[fread(body, 1, sizeof(body) - 1, stdin)] = '\0';
	load.count = strtoul(argv[3], NULL, 10);
	load.deltas = strtoull(argv[5], NULL, 10);
	load.samples = xcalloc(SAMPLES_MAX, sizeof(*load.samples));
	streams = xcalloc(load.count, sizeof(*streams));
	load.ep = epoll_create1(EPOLL_CLOEXEC);
	load.ramp_ns = strtoll(argv[4], NULL, 10) * 1000000;
	run(streams, argv, body);
	print_result();
	free(load.samples);
	free(streams);
	return load.failed == 0 ? 0 : 1;
}
