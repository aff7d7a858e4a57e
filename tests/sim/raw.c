/* SPDX-License-Identifier: MIT */
#include "raw.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypt.h"
#include "common/xalloc.h"

#define PATIENCE_MS 30000 /* how long a peer may take to end it */
#define PIECE	    65536

struct raw {
	struct stream *stream;
	const struct request *request;
	struct record *record;
	const uint8_t *seen; /* read before us */
	size_t seen_len;
	uint8_t data[PIECE];
	size_t start, end; /* what is in data */
};

struct behaviour {
	const char *name;
	const char *text; /* for --help */
	void (*run)(struct raw *raw);
	const char *bytes; /* to send after a correct 101 */
	size_t len;
};

/* ---- reading ---- */

static bool
fill(struct raw *raw)
{
	ssize_t n;

	if (raw->seen_len > 0) {
		raw->end = raw->seen_len < PIECE ? raw->seen_len : PIECE;
		memcpy(raw->data, raw->seen, raw->end);
		raw->seen += raw->end;
		raw->seen_len -= raw->end;
		raw->start = 0;
		return true;
	}
	n = stream_read(raw->stream, raw->data, PIECE, PATIENCE_MS);
	raw->start = 0;
	raw->end = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static bool
get(struct raw *raw, uint8_t *out, size_t len)
{
	for (; len > 0; len--) {
		if (raw->start == raw->end && !fill(raw))
			return false;
		*out++ = raw->data[raw->start++];
	}
	return true;
}

struct frame {
	bool fin, masked;
	uint8_t opcode;
	uint8_t mask[4];
	uint64_t len;
};

/* Read a frame's header; nothing is judged. */
static bool
get_header(struct raw *raw, struct frame *ret)
{
	uint8_t b[8];
	size_t more;

	if (!get(raw, b, 2))
		return false;
	memset(ret, 0, sizeof(*ret));
	ret->fin = b[0] & 0x80;
	ret->opcode = b[0] & 0x0f;
	ret->masked = b[1] & 0x80;
	ret->len = b[1] & 0x7f;
	more = ret->len == 127 ? 8 : ret->len == 126 ? 2 : 0;
	if (more > 0) {
		if (!get(raw, b, more))
			return false;
		ret->len = 0;
		for (size_t i = 0; i < more; i++)
			ret->len = ret->len << 8 | b[i];
	}
	return !ret->masked || get(raw, ret->mask, 4);
}

/* ---- writing ---- */

static bool
put(struct raw *raw, const void *data, size_t len)
{
	return stream_write(raw->stream, data, len);
}

static bool
put_text(struct raw *raw, const char *text)
{
	return put(raw, text, strlen(text));
}

/* A 101; extra are further header lines, each with its CRLF. */
static char *
make_101(struct raw *raw, const char *extra)
{
	const char *key = request_header(raw->request, "Sec-WebSocket-Key");
	char accept[29];

	key = key == NULL ? "" : key;
	crypt_ws_accept(key, strlen(key), accept);
	return xasprintf("HTTP/1.1 101 Switching Protocols\r\n"
			 "Upgrade: websocket\r\nConnection: Upgrade\r\n"
			 "Sec-WebSocket-Accept: %s\r\n%s\r\n",
	    accept, extra);
}

static bool
put_101(struct raw *raw, const char *extra)
{
	char *head = make_101(raw, extra);
	bool ok = put_text(raw, head);

	free(head);
	record_status(raw->record, 101);
	return ok;
}

static bool
put_header(struct raw *raw, uint8_t first, uint64_t len)
{
	uint8_t h[10] = { first };
	size_t n = 2;

	if (len < 126) {
		h[1] = (uint8_t)len;
	} else if (len < 65536) {
		h[1] = 126;
		h[2] = (uint8_t)(len >> 8);
		h[3] = (uint8_t)len;
		n = 4;
	} else {
		h[1] = 127;
		for (int i = 0; i < 8; i++)
			h[2 + i] = (uint8_t)(len >> (56 - 8 * i));
		n = 10;
	}
	return put(raw, h, n);
}

static bool
put_frame(struct raw *raw, uint8_t first, const void *data, size_t len)
{
	return put_header(raw, first, len) && put(raw, data, len);
}

/* ---- being a peer ---- */

static bool
unmask(struct raw *raw, const struct frame *frame, uint8_t *out, size_t len)
{
	if (!get(raw, out, len))
		return false;
	for (size_t i = 0; i < len; i++)
		out[i] ^= frame->mask[i % 4];
	return true;
}

/* A control frame; false after a close, or where the peer is lost. */
static bool
take_control(struct raw *raw, const struct frame *frame, bool answer)
{
	uint8_t data[125];
	int code;

	if (frame->len > sizeof(data) ||
	    !unmask(raw, frame, data, (size_t)frame->len))
		return false;
	if (frame->opcode == 0x8) {
		code = frame->len < 2 ? 0 : data[0] << 8 | data[1];
		record_close(raw->record, RECEIVED, code, data + 2,
		    frame->len < 2 ? 0 : (size_t)frame->len - 2);
		if (answer)
			put_frame(raw, 0x88, data, (size_t)frame->len);
		return false;
	}
	record_control(raw->record, RECEIVED, frame->opcode == 0xa);
	return frame->opcode == 0xa || !answer ||
	    put_frame(raw, 0x8a, data, (size_t)frame->len);
}

/* A data frame, in pieces; echoed where echo is set. */
static bool
take_data(struct raw *raw, const struct frame *frame, bool binary, bool echo)
{
	uint64_t at = 0;

	if (echo &&
	    !put_header(raw, (uint8_t)(frame->fin << 7 | frame->opcode),
		frame->len))
		return false;
	do {
		size_t n;

		if (raw->start == raw->end && at < frame->len && !fill(raw))
			return false;
		n = raw->end - raw->start;
		if (n > frame->len - at)
			n = (size_t)(frame->len - at);
		for (size_t i = 0; echo && i < n; i++)
			raw->data[raw->start + i] ^= frame->mask[(at + i) % 4];
		if (echo && !put(raw, raw->data + raw->start, n))
			return false;
		raw->start += n;
		at += n;
		record_data(raw->record, RECEIVED, binary, n,
		    frame->fin && at == frame->len);
	} while (at < frame->len);
	return true;
}

/* Take frames until the peer closes or goes. */
static void
converse(struct raw *raw, bool echo, bool answer)
{
	struct frame frame;
	bool binary = false, go = true;

	while (go && get_header(raw, &frame)) {
		if (frame.opcode == 0x1 || frame.opcode == 0x2)
			binary = frame.opcode == 0x2;
		go = frame.opcode >= 0x8 ? take_control(raw, &frame, answer)
					 : take_data(raw, &frame, binary, echo);
	}
}

static void
wait_end(struct raw *raw)
{
	uint8_t byte;

	while (get(raw, &byte, 1))
		continue;
}

/* ---- behaviours before the 101 ---- */

static void
answer_and_wait(struct raw *raw, int status, const char *text)
{
	record_status(raw->record, status);
	put_text(raw, text);
	wait_end(raw);
}

static void
run_bad_accept(struct raw *raw)
{
	answer_and_wait(raw, 101,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
}

static void
run_no_accept(struct raw *raw)
{
	answer_and_wait(raw, 101,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\n\r\n");
}

static void
run_no_upgrade(struct raw *raw)
{
	char *head = make_101(raw, "");
	char *line = strstr(head, "Upgrade: websocket\r\n");

	memmove(line, line + 20, strlen(line + 20) + 1);
	answer_and_wait(raw, 101, head);
	free(head);
}

static void
run_no_connection(struct raw *raw)
{
	char *head = make_101(raw, "");
	char *line = strstr(head, "Connection: Upgrade\r\n");

	memmove(line, line + 21, strlen(line + 21) + 1);
	answer_and_wait(raw, 101, head);
	free(head);
}

static void
run_redirect(struct raw *raw)
{
	answer_and_wait(raw, 302,
	    "HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/elsewhere\r\n"
	    "Content-Length: 0\r\n\r\n");
}

static void
run_http_html(struct raw *raw)
{
	answer_and_wait(raw, 200,
	    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
	    "Content-Length: 46\r\n\r\n"
	    "<!doctype html><title>SIM-MARKER</title><p>hi\n");
}

static void
run_garbage(struct raw *raw)
{
	answer_and_wait(raw, 0, "\x16\x03\x01 this is no HTTP\r\n\r\n");
}

static void
run_half_head(struct raw *raw)
{
	answer_and_wait(raw, 0,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs");
}

static void
run_half_head_eof(struct raw *raw)
{
	put_text(raw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs");
}

static void
run_nothing(struct raw *raw)
{
	wait_end(raw);
}

static void
run_eof(struct raw *raw)
{
	(void)raw;
}

static void
run_reset(struct raw *raw)
{
	stream_reset(raw->stream);
}

static void
run_head_too_large(struct raw *raw)
{
	char line[1024 + 1];

	memset(line, 'x', sizeof(line) - 1);
	memcpy(line, "X-Padding: ", 11);
	memcpy(line + 1022, "\r\n", 3);
	put_text(raw, "HTTP/1.1 101 Switching Protocols\r\n");
	for (int i = 0; i < 256; i++)
		if (!put_text(raw, line))
			return;
	wait_end(raw);
}

static void
run_slow_head(struct raw *raw)
{
	char *head = make_101(raw, "");
	int ms = (int)request_number(raw->request, "ms", 5);
	bool ok = true;

	for (char *p = head; ok && *p != '\0'; p++)
		ok = put(raw, p, 1) && stream_wait(raw->stream, ms);
	free(head);
	record_status(raw->record, 101);
	if (ok)
		converse(raw, true, true);
}

static void
run_extension(struct raw *raw)
{
	if (put_101(raw, "Sec-WebSocket-Extensions: permessage-deflate\r\n"))
		converse(raw, false, true);
}

static void
run_protocol_not_offered(struct raw *raw)
{
	if (put_101(raw, "Sec-WebSocket-Protocol: never.offered\r\n"))
		converse(raw, false, true);
}

static void
run_early_frames(struct raw *raw)
{
	char *head = make_101(raw, "");
	char *all = xasprintf("%s\x81\x05"
			      "early\x82\x04"
			      "bird",
	    head);

	record_status(raw->record, 101);
	if (put_text(raw, all))
		converse(raw, true, true);
	free(head);
	free(all);
}

/* ---- behaviours after it ---- */

static void
run_wait(struct raw *raw)
{
	if (put_101(raw, ""))
		converse(raw, false, true);
}

static void
run_echo(struct raw *raw)
{
	if (put_101(raw, ""))
		converse(raw, true, true);
}

static void
run_mute(struct raw *raw)
{
	if (!put_101(raw, ""))
		return;
	converse(raw, false, false);
	wait_end(raw);
}

static void
run_close(struct raw *raw)
{
	const char *reason = request_query(raw->request, "reason");
	int code = (int)request_number(raw->request, "code", 1000) & 0xffff;
	uint8_t data[125] = { (uint8_t)(code >> 8), (uint8_t)code };
	size_t len;

	reason = reason == NULL ? "" : reason;
	len = strnlen(reason, sizeof(data) - 2);
	memcpy(data + 2, reason, len);
	if (!put_101(raw, ""))
		return;
	record_close(raw->record, SENT, code, reason, len);
	if (put_frame(raw, 0x88, data, len + 2))
		converse(raw, false, false);
}

static void
run_ctl_long(struct raw *raw)
{
	char data[126] = { 0 };

	if (put_101(raw, "") && put_frame(raw, 0x89, data, sizeof(data)))
		converse(raw, false, false);
}

static void
run_mid_frame_eof(struct raw *raw)
{
	if (put_101(raw, ""))
		put(raw, "\x82\x7e\x10\x00half of it", 14);
}

/* A reset may overtake what was sent: give that ms= to be read. */
static void
reset_later(struct raw *raw)
{
	int ms = (int)request_number(raw->request, "ms", 50);

	(void)stream_wait(raw->stream, ms);
	stream_reset(raw->stream);
}

static void
run_mid_frame_reset(struct raw *raw)
{
	if (put_101(raw, "") && put(raw, "\x82\x7e\x10\x00half of it", 14))
		reset_later(raw);
}

static void
run_open_eof(struct raw *raw)
{
	put_101(raw, "");
}

static void
run_open_reset(struct raw *raw)
{
	if (put_101(raw, ""))
		reset_later(raw);
}

static void
run_split(struct raw *raw)
{
	static const char bytes[] = "\x01\x05"
				    "Hello\x89\x02"
				    "pi\x80\x07, world";

	if (!put_101(raw, ""))
		return;
	for (size_t i = 0; i < sizeof(bytes) - 1; i++)
		if (!put(raw, bytes + i, 1) || !stream_wait(raw->stream, 2))
			return;
	converse(raw, true, true);
}

#define SEND(s) NULL, s, sizeof(s) - 1

static const struct behaviour behaviours[] = {
	{ "bad-accept", "101 with the Accept of another key", run_bad_accept,
	    NULL, 0 },
	{ "no-accept", "101 without Accept", run_no_accept, NULL, 0 },
	{ "no-upgrade", "101 without Upgrade", run_no_upgrade, NULL, 0 },
	{ "no-connection", "101 without Connection", run_no_connection, NULL,
	    0 },
	{ "no-101-stall", "no answer at all", run_nothing, NULL, 0 },
	{ "half-head", "half a 101, then nothing", run_half_head, NULL, 0 },
	{ "half-head-eof", "half a 101, then the end", run_half_head_eof, NULL,
	    0 },
	{ "eof-before-101", "the end instead of an answer", run_eof, NULL, 0 },
	{ "reset-before-101", "RST instead of an answer", run_reset, NULL, 0 },
	{ "garbage", "bytes that are no HTTP", run_garbage, NULL, 0 },
	{ "redirect", "302", run_redirect, NULL, 0 },
	{ "http-html", "200 with a page that says SIM-MARKER", run_http_html,
	    NULL, 0 },
	{ "head-too-large", "256 KiB of headers", run_head_too_large, NULL, 0 },
	{ "slow-head", "a right 101, a byte each ms= (5), then echo",
	    run_slow_head, NULL, 0 },
	{ "extension-selected", "permessage-deflate that was not offered",
	    run_extension, NULL, 0 },
	{ "protocol-not-offered", "a subprotocol that was not offered",
	    run_protocol_not_offered, NULL, 0 },
	{ "early-frames", "101 and two messages at once, then echo",
	    run_early_frames, NULL, 0 },
	{ "wait", "take messages until the close, answer it", run_wait, NULL,
	    0 },
	{ "echo", "send every frame back as it was cut", run_echo, NULL, 0 },
	{ "mute", "never answer, neither ping nor close", run_mute, NULL, 0 },
	{ "split", "a fragmented message with a ping inside, byte by byte",
	    run_split, NULL, 0 },
	{ "close", "close with code= (any number) and reason=", run_close, NULL,
	    0 },
	{ "close-empty", "close without a code", SEND("\x88\x00") },
	{ "close-1005", "close 1005", SEND("\x88\x02\x03\xed") },
	{ "close-1006", "close 1006", SEND("\x88\x02\x03\xee") },
	{ "close-1015", "close 1015", SEND("\x88\x02\x03\xf7") },
	{ "close-999", "close 999", SEND("\x88\x02\x03\xe7") },
	{ "close-1004", "close 1004", SEND("\x88\x02\x03\xec") },
	{ "close-2999", "close 2999", SEND("\x88\x02\x0b\xb7") },
	{ "close-5000", "close 5000", SEND("\x88\x02\x13\x88") },
	{ "close-1-byte", "close of one byte", SEND("\x88\x01\x03") },
	{ "close-bad-utf8", "close 1000, reason is no UTF-8",
	    SEND("\x88\x04\x03\xe8\xc3\x28") },
	{ "data-after-close", "close 1000, then a message",
	    SEND("\x88\x02\x03\xe8\x81\x04late") },
	{ "rsv1", "text with RSV1", SEND("\xc1\x02hi") },
	{ "rsv2", "text with RSV2", SEND("\xa1\x02hi") },
	{ "rsv3", "text with RSV3", SEND("\x91\x02hi") },
	{ "masked", "a masked text", SEND("\x81\x82\x01\x02\x03\x04ik") },
	{ "opcode3", "reserved data opcode 3", SEND("\x83\x02hi") },
	{ "opcode-b", "reserved control opcode 11", SEND("\x8b\x00") },
	{ "ctl-long", "ping of 126 bytes", run_ctl_long, NULL, 0 },
	{ "ctl-fragmented", "ping without FIN", SEND("\x09\x02hi") },
	{ "stray-continuation", "continuation of nothing", SEND("\x80\x02hi") },
	{ "new-message-inside", "text inside a fragmented text",
	    SEND("\x01\x02hi\x81\x02ho") },
	{ "len-not-minimal", "5 bytes in the 16-bit form",
	    SEND("\x82\x7e\x00\x05Hello") },
	{ "len-not-minimal-64", "5 bytes in the 64-bit form",
	    SEND("\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05Hello") },
	{ "len-63bit", "a length with its highest bit set",
	    SEND("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x01hi") },
	{ "len-huge", "a header that promises 2^62 bytes",
	    SEND("\x82\x7f\x40\x00\x00\x00\x00\x00\x00\x00hi") },
	{ "text-bad-utf8", "a text that is no UTF-8",
	    SEND("\x81\x02\xc3\x28") },
	{ "eof-mid-frame", "the end in the middle of a frame",
	    run_mid_frame_eof, NULL, 0 },
	{ "reset-mid-frame", "RST in the middle of a frame, after ms= (50)",
	    run_mid_frame_reset, NULL, 0 },
	{ "eof", "the end after the 101, without a close", run_open_eof, NULL,
	    0 },
	{ "reset", "RST ms= (50) after the 101", run_open_reset, NULL, 0 },
};

void
raw_list(FILE *out)
{
	for (size_t i = 0; i < sizeof(behaviours) / sizeof(*behaviours); i++)
		fprintf(out, "  /raw/%-21s %s\n", behaviours[i].name,
		    behaviours[i].text);
}

void
raw_serve(struct stream *stream, const struct request *request,
    struct record *record, const void *seen, size_t seen_len)
{
	const char *name = request_path(request) + strlen("/raw/");
	struct raw *raw = xcalloc(1, sizeof(*raw));
	size_t i, count = sizeof(behaviours) / sizeof(*behaviours);

	raw->stream = stream;
	raw->request = request;
	raw->record = record;
	raw->seen = seen;
	raw->seen_len = seen_len;
	for (i = 0; i < count; i++)
		if (strcmp(name, behaviours[i].name) == 0)
			break;
	if (i == count)
		answer_and_wait(raw, 404,
		    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
	else if (behaviours[i].run != NULL)
		behaviours[i].run(raw);
	else if (put_101(raw, "") &&
	    put(raw, behaviours[i].bytes, behaviours[i].len))
		converse(raw, false, false);
	free(raw);
}
