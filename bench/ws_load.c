/* SPDX-License-Identifier: MIT */
/*
 * ws_load: load for WebSocket relays, and the upstream behind them.
 *
 *   ws_load upstream
 *	Listen on a free port of 127.0.0.1, print it, and serve until the end
 *	of standard input: /push sends 16 KiB messages for as long as they are
 *	taken, any other path echoes, and answers a session.update as OpenAI
 *	Realtime does.
 *   ws_load MODE ADDRESS TARGET CONNECTIONS BYTES MILLISECONDS
 *	ADDRESS is a port of 127.0.0.1 or the path of a Unix socket.
 *	pingpong  each connection sends a message of BYTES, waits for its echo
 *		  and sends the next at once: what a full load costs
 *	append	  as pingpong, and each message is an input_audio_buffer.append
 *	paced	  as pingpong, but each connection sends 50 times a second:
 *		  the latency of a conversation
 *	take	  each connection takes what /push sends; prints MB/s
 *	open	  one connection after another is opened up to the 101; prints
 *		  percentiles of the time from connect() to the 101
 *	idle	  opens all, prints "idle", and waits for the end of input
 *
 * Results are one line of JSON; times in microseconds.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/crypt.h"
#include "common/xalloc.h"
#include "tunnel/http_head.h"
#include "common/ws_frame.h"

#define PUSH_BYTES  16384
#define FRAME_MAX   (PUSH_BYTES + WS_HEADER_MAX_BYTES)
#define SAMPLES_MAX 2000000
#define PACE_US	    20000

static const uint8_t mask[4] = { 0x12, 0x34, 0x56, 0x78 };

static int64_t
now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ---- one connection of either side ------------------------------------ */

struct conn {
	int fd;
	bool push;
	bool filled; /* out has the payload of all messages */
	size_t in_len, out_len, out_at;
	int64_t sent_us;
	uint8_t in[2 * FRAME_MAX];
	uint8_t out[2 * FRAME_MAX];
};

static void
write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n <= 0)
			err(1, "write");
		p += n;
		len -= (size_t)n;
	}
}

/* Write what is queued; false where the connection is gone. */
static bool
flush(struct conn *conn)
{
	while (conn->out_at < conn->out_len) {
		ssize_t n = write(conn->fd, conn->out + conn->out_at,
		    conn->out_len - conn->out_at);

		if (n == -1)
			return errno == EAGAIN;
		conn->out_at += (size_t)n;
	}
	conn->out_at = conn->out_len = 0;
	return true;
}

static void
watch(int ep, struct conn *conn, bool writable)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = conn };

	if (writable)
		ev.events |= EPOLLOUT;
	if (epoll_ctl(ep, EPOLL_CTL_MOD, conn->fd, &ev) == -1 &&
	    epoll_ctl(ep, EPOLL_CTL_ADD, conn->fd, &ev) == -1)
		err(1, "epoll_ctl");
}

/* A frame of len bytes of payload at out; the payload is there already. */
static size_t
put_header(uint8_t *out, enum ws_opcode opcode, size_t len, bool masked)
{
	return ws_header_put(out, opcode, true, masked ? mask : NULL, len);
}

/* ---- the upstream ------------------------------------------------------ */

/* Answer the handshake that begins in->in; false to give up. */
static bool
upstream_accept(struct conn *conn)
{
	static struct http_head head;
	struct http_span key;
	char accept[29];
	enum err e;

	e = http_head_parse_request((char *)conn->in, conn->in_len, &head,
	    NULL);
	if (e == ERR_AGAIN)
		return true;
	if (e != ERR_OK || http_head_get(&head, "sec-websocket-key", &key) != 0)
		return false;
	crypt_ws_accept(key.data, key.len, accept);
	conn->push =
	    head.target.len == 5 && memcmp(head.target.data, "/push", 5) == 0;
	conn->out_len = (size_t)sprintf((char *)conn->out,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
	    accept);
	conn->in_len -= head.head_len;
	memmove(conn->in, conn->in + head.head_len, conn->in_len);
	conn->sent_us = 1;
	return true;
}

/* Queue what a message is answered with. */
static void
echo_message(struct conn *conn, const struct ws_header *header,
    const uint8_t *payload)
{
	static const char update[] = "{\"type\":\"session.update\"";
	static const char updated[] = "{\"type\":\"session.updated\"}";
	size_t len = (size_t)header->payload_len;

	if (len >= sizeof(update) - 1 &&
	    memcmp(payload, update, sizeof(update) - 1) == 0) {
		payload = (const uint8_t *)updated;
		len = sizeof(updated) - 1;
	}
	conn->out_len += put_header(conn->out + conn->out_len,
	    (enum ws_opcode)header->opcode, len, false);
	memcpy(conn->out + conn->out_len, payload, len);
	conn->out_len += len;
}

/* Turn whole frames of the input into echoes, as far as there is room. */
static bool
upstream_echo(struct conn *conn)
{
	struct ws_header header;
	const char *why;
	size_t at = 0, n;

	while (ws_header_parse(conn->in + at, conn->in_len - at, WS_FROM_CLIENT,
		   &header, &why) == ERR_OK) {
		n = header.header_len + (size_t)header.payload_len;
		if (header.opcode == WS_CLOSE)
			return false;
		if (conn->in_len - at < n ||
		    conn->out_len + n > sizeof(conn->out))
			break;
		ws_mask(conn->in + at + header.header_len,
		    (size_t)header.payload_len, header.mask, 0);
		echo_message(conn, &header, conn->in + at + header.header_len);
		at += n;
	}
	conn->in_len -= at;
	memmove(conn->in, conn->in + at, conn->in_len);
	return true;
}

static bool
upstream_serve(struct conn *conn)
{
	ssize_t n = 0;

	if (conn->in_len < sizeof(conn->in))
		n = read(conn->fd, conn->in + conn->in_len,
		    sizeof(conn->in) - conn->in_len);
	if (n == 0 || (n == -1 && errno != EAGAIN))
		return false;
	conn->in_len += n > 0 ? (size_t)n : 0;
	if (conn->sent_us == 0 && !upstream_accept(conn))
		return false;
	if (!flush(conn))
		return false;
	if (conn->push) {
		/* whatever a client says here is that it wants to leave */
		if (conn->in_len > 0)
			return false;
		for (int i = 0; i < 8 && conn->out_len == 0; i++) {
			conn->out_len = put_header(conn->out, WS_BINARY,
					    PUSH_BYTES, false) +
			    PUSH_BYTES;
			if (!flush(conn))
				return false;
		}
	} else if (conn->sent_us != 0 && conn->out_len == 0) {
		if (!upstream_echo(conn) || !flush(conn))
			return false;
	}
	return true;
}

static void
upstream_take(int ep, int listener)
{
	struct conn *conn;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), one = 1;

	if (fd == -1)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	conn = xcalloc(1, sizeof(*conn));
	conn->fd = fd;
	watch(ep, conn, false);
}

static int
upstream(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int ep = epoll_create1(0);
	struct conn entry = { .fd = listener }, input = { .fd = 0 };
	struct epoll_event events[256];

	if (bind(listener, (void *)&addr, sizeof(addr)) == -1 ||
	    listen(listener, 4096) == -1 ||
	    getsockname(listener, (void *)&addr, &len) == -1)
		err(1, "listen");
	printf("%d\n", ntohs(addr.sin_port));
	(void)fflush(stdout);
	watch(ep, &entry, false);
	watch(ep, &input, false);
	for (;;) {
		int n = epoll_wait(ep, events, 256, -1);

		for (int i = 0; i < n; i++) {
			struct conn *conn = events[i].data.ptr;

			if (conn == &input)
				return 0;
			if (conn == &entry) {
				upstream_take(ep, listener);
			} else if (!upstream_serve(conn)) {
				(void)close(conn->fd);
				free(conn);
			} else {
				watch(ep, conn,
				    conn->out_len > 0 || conn->push);
			}
		}
	}
}

/* ---- the client -------------------------------------------------------- */

static int
dial(const char *address)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bool local = strchr(address, '/') != NULL;
	int fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0), one = 1;

	in.sin_port = htons((uint16_t)atoi(address));
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", address);
	if (connect(fd, local ? (void *)&un : (void *)&in,
		local ? sizeof(un) : sizeof(in)) == -1)
		err(1, "connect %s", address);
	if (!local)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
		    sizeof(one));
	return fd;
}

/* Open a connection and wait for its 101; what follows it stays in in. */
static struct conn *
open_conn(const char *address, const char *target)
{
	static struct http_head head;
	struct conn *conn = xcalloc(1, sizeof(*conn));
	char text[512];
	int n;

	conn->fd = dial(address);
	n = snprintf(text, sizeof(text),
	    "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
	    "Origin: http://localhost\r\nX-Forwarded-For: 127.0.0.1\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	    target);
	write_all(conn->fd, text, (size_t)n);
	do {
		ssize_t got = read(conn->fd, conn->in + conn->in_len,
		    sizeof(conn->in) - conn->in_len);

		if (got <= 0)
			errx(1, "closed before the 101");
		conn->in_len += (size_t)got;
	} while (http_head_parse_response((char *)conn->in, conn->in_len, &head,
		     NULL) == ERR_AGAIN);
	if (head.status != 101)
		errx(1, "status %d: %.*s", head.status, (int)conn->in_len,
		    (char *)conn->in);
	conn->in_len -= head.head_len;
	memmove(conn->in, conn->in + head.head_len, conn->in_len);
	return conn;
}

static struct conn **
open_all(const char *address, const char *target, size_t count, int ep)
{
	struct conn **conns = xcalloc(count, sizeof(*conns));

	for (size_t i = 0; i < count; i++) {
		conns[i] = open_conn(address, target);
		(void)fcntl(conns[i]->fd, F_SETFL, O_NONBLOCK);
		if (ep != -1)
			watch(ep, conns[i], false);
	}
	return conns;
}

static uint32_t *samples;
static size_t sample_count;

static void
add_sample(int64_t us)
{
	if (sample_count < SAMPLES_MAX)
		samples[sample_count++] = (uint32_t)us;
}

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void
print_samples(size_t messages, int64_t elapsed_us)
{
	qsort(samples, sample_count, sizeof(*samples), compare);
	if (sample_count == 0)
		errx(1, "nothing came back");
	printf("{\"messages\":%zu,\"per_second\":%.0f,\"p50\":%u,\"p90\":%u,"
	       "\"p99\":%u,\"max\":%u}\n",
	    messages, (double)messages * 1e6 / (double)elapsed_us,
	    samples[sample_count / 2], samples[sample_count * 9 / 10],
	    samples[sample_count * 99 / 100], samples[sample_count - 1]);
}

static bool append; /* messages are JSON */

/* The payload stays in its place from one message to the next. */
static void
fill(struct conn *conn, uint8_t *payload, size_t bytes)
{
	static const char begin[] =
	    "{\"type\":\"input_audio_buffer.append\",\"audio\":\"";

	conn->filled = true;
	if (!append)
		return;
	if (bytes < sizeof(begin) + 2)
		errx(2, "at least %zu bytes", sizeof(begin) + 2);
	memset(payload, 'A', bytes);
	memcpy(payload, begin, sizeof(begin) - 1);
	memcpy(payload + bytes - 2, "\"}", 2);
	ws_mask(payload, bytes, mask, 0);
}

static void
send_message(struct conn *conn, size_t bytes)
{
	size_t n =
	    put_header(conn->out, append ? WS_TEXT : WS_BINARY, bytes, true);

	if (!conn->filled)
		fill(conn, conn->out + n, bytes);
	conn->out_len = n + bytes;
	conn->sent_us = now_us();
	if (!flush(conn))
		err(1, "send");
}

/* Read; returns how many bytes came. */
static size_t
receive(struct conn *conn, void *to, size_t size)
{
	ssize_t n = read(conn->fd, to, size);

	if (n == 0 || (n == -1 && errno != EAGAIN))
		errx(1, "the connection was closed");
	return n > 0 ? (size_t)n : 0;
}

/* Send what is due; connections are in the order of their turns. */
static void
send_due(struct conn **conns, size_t count, size_t bytes, int64_t now)
{
	static size_t next;
	static int64_t due_us;
	int64_t gap = PACE_US / (int64_t)count;

	if (due_us == 0)
		due_us = now;
	for (; due_us <= now; due_us += gap) {
		struct conn *conn = conns[next++ % count];

		if (conn->sent_us == 0)
			send_message(conn, bytes);
	}
}

static int
pingpong(const char *address, const char *target, size_t count, size_t bytes,
    int64_t limit_us, bool paced)
{
	int ep = epoll_create1(0);
	struct conn **conns = open_all(address, target, count, ep);
	struct epoll_event events[256];
	size_t frame = bytes + (bytes < 126 ? 2 : 4), messages = 0;
	int64_t start = now_us(), now = start;

	for (size_t i = 0; i < count && !paced; i++)
		send_message(conns[i], bytes);
	while (now - start < limit_us) {
		int n = epoll_wait(ep, events, 256, paced ? 1 : 1000);

		now = now_us();
		if (paced)
			send_due(conns, count, bytes, now);
		for (int i = 0; i < n; i++) {
			struct conn *conn = events[i].data.ptr;

			if ((events[i].events & EPOLLOUT) != 0 && !flush(conn))
				err(1, "send");
			conn->in_len +=
			    receive(conn, conn->in, sizeof(conn->in));
			if (conn->in_len >= frame) {
				conn->in_len = 0;
				add_sample(now_us() - conn->sent_us);
				messages++;
				conn->sent_us = 0;
				if (!paced)
					send_message(conn, bytes);
			}
			watch(ep, conn, conn->out_len > 0);
		}
	}
	print_samples(messages, now - start);
	return 0;
}

static int
take(const char *address, const char *target, size_t count, int64_t limit_us)
{
	static uint8_t sink[1 << 18];
	int ep = epoll_create1(0);
	struct epoll_event events[256];
	uint64_t bytes = 0;
	int64_t start, now;

	(void)open_all(address, target, count, ep);
	start = now = now_us();
	while (now - start < limit_us) {
		int n = epoll_wait(ep, events, 256, 1000);

		for (int i = 0; i < n; i++)
			bytes +=
			    receive(events[i].data.ptr, sink, sizeof(sink));
		now = now_us();
	}
	printf("{\"messages\":%llu,\"megabytes_per_second\":%.1f}\n",
	    (unsigned long long)(bytes / (PUSH_BYTES + 4)),
	    (double)bytes / (double)(now - start));
	return 0;
}

static int
open_each(const char *address, const char *target, size_t count)
{
	int64_t start = now_us();

	for (size_t i = 0; i < count; i++) {
		int64_t from = now_us();
		struct conn *conn = open_conn(address, target);
		struct pollfd pfd = { .fd = conn->fd, .events = POLLIN };
		uint8_t close_frame[WS_CONTROL_FRAME_MAX];

		add_sample(now_us() - from);
		write_all(conn->fd, close_frame,
		    ws_close_put(close_frame, mask, 1000, ""));
		/* as a client would: leave when the other side has closed */
		(void)poll(&pfd, 1, 1000);
		(void)close(conn->fd);
		free(conn);
	}
	print_samples(count, now_us() - start);
	return 0;
}

static int
idle(const char *address, const char *target, size_t count)
{
	char c;

	(void)open_all(address, target, count, -1);
	printf("\"idle\"\n");
	(void)fflush(stdout);
	return (int)read(0, &c, 1);
}

int
main(int argc, char *argv[])
{
	const char *mode = argc > 1 ? argv[1] : "";
	size_t count, bytes;
	int64_t limit_us;

	(void)signal(SIGPIPE, SIG_IGN);
	if (strcmp(mode, "upstream") == 0)
		return upstream();
	if (argc != 7)
		errx(2,
		    "usage: ws_load upstream | ws_load pingpong|append|paced|"
		    "take|open|idle ADDRESS TARGET CONNECTIONS BYTES "
		    "MILLISECONDS");
	count = (size_t)atol(argv[4]);
	bytes = (size_t)atol(argv[5]);
	limit_us = atol(argv[6]) * 1000;
	if (count == 0 || bytes > PUSH_BYTES)
		errx(2, "at least 1 connection, at most %d bytes", PUSH_BYTES);
	samples = xcalloc(SAMPLES_MAX, sizeof(*samples));
	append = strcmp(mode, "append") == 0;
	if (strcmp(mode, "pingpong") == 0 || append)
		return pingpong(argv[2], argv[3], count, bytes, limit_us,
		    false);
	if (strcmp(mode, "paced") == 0)
		return pingpong(argv[2], argv[3], count, bytes, limit_us, true);
	if (strcmp(mode, "take") == 0)
		return take(argv[2], argv[3], count, limit_us);
	if (strcmp(mode, "open") == 0)
		return open_each(argv[2], argv[3], count);
	if (strcmp(mode, "idle") == 0)
		return idle(argv[2], argv[3], count);
	errx(2, "no such mode: %s", mode);
}
