/* SPDX-License-Identifier: MIT */
#include "fault.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"

#define PIECE_MAX (64 * 1024 * 1024)

struct fault {
	enum fault_act act;
	uint64_t after;
	int code;
	const char *reason; /* the request's */
	uint64_t bytes_per_s;
	/* What is to be sent. */
	bool bad_json, binary;
	uint64_t left;	  /* bytes of all messages */
	uint64_t message; /* bytes of one */
	uint64_t piece;	  /* bytes of a frame of it */
	uint64_t at;	  /* position in the message */
	uint8_t *data;
	size_t data_len;
};

static enum fault_act
wanted_act(const struct request *r)
{
	return request_wants(r, "close") ? FAULT_CLOSE
	    : request_wants(r, "drop")	 ? FAULT_DROP
	    : request_wants(r, "reset")	 ? FAULT_RESET
	    : request_wants(r, "stall")	 ? FAULT_STALL
					 : FAULT_NONE;
}

struct fault *
fault_new(const struct request *r)
{
	struct fault *f = xcalloc(1, sizeof(*f));
	const char *kind = request_query(r, "kind");

	f->act = wanted_act(r);
	f->after = request_number(r, "after", 0);
	f->code = (int)request_number(r, "code", 1000) & 0xffff;
	f->reason = request_query(r, "reason");
	f->bad_json = request_wants(r, "badjson");
	f->binary = kind == NULL || strcmp(kind, "text") != 0;
	if (request_wants(r, "slow"))
		f->bytes_per_s = request_number(r, "bytes_per_s", 65536);
	if (request_wants(r, "huge")) {
		f->left = f->message = request_number(r, "bytes", 16777216);
		f->piece = request_number(r, "fragment", 0);
	} else if (request_wants(r, "flood")) {
		f->left = request_number(r, "bytes", 104857600);
		f->message = request_number(r, "message", 16384);
	}
	if (f->message == 0)
		f->left = 0;
	if (f->piece == 0 || f->piece > f->message)
		f->piece = f->message;
	if (f->piece > PIECE_MAX)
		f->piece = PIECE_MAX;
	return f;
}

void
fault_free(struct fault *f)
{
	if (f == NULL)
		return;
	free(f->data);
	free(f);
}

enum fault_act
fault_due(const struct fault *f, uint64_t messages)
{
	return messages == f->after ? f->act : FAULT_NONE;
}

int
fault_code(const struct fault *f)
{
	return f->code;
}

const char *
fault_reason(const struct fault *f)
{
	return f->reason == NULL ? "" : f->reason;
}

int
fault_pause_ms(const struct fault *f, size_t len)
{
	uint64_t ms;

	if (f->bytes_per_s == 0)
		return 0;
	ms = (uint64_t)len * 1000 / f->bytes_per_s;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* 'a' to 'z' again and again: text, and a receiver can tell an offset. */
static void
fill(struct fault *f, size_t len)
{
	if (f->data_len < len) {
		f->data = xreallocarray(f->data, len, 1);
		f->data_len = len;
	}
	for (size_t i = 0; i < len; i++)
		f->data[i] = (uint8_t)('a' + (f->at + i) % 26);
}

bool
fault_next(struct fault *f, struct fault_piece *ret)
{
	static const char bad[] = "{\"type\":\"session.created\",";
	uint64_t len;

	if (f->bad_json) {
		f->bad_json = false;
		*ret = (struct fault_piece){ (const uint8_t *)bad,
			sizeof(bad) - 1, false, true, true };
		return true;
	}
	if (f->left == 0)
		return false;
	len = f->message - f->at;
	len = len > f->piece ? f->piece : len;
	len = len > f->left ? f->left : len;
	fill(f, (size_t)len);
	ret->data = f->data;
	ret->len = (size_t)len;
	ret->binary = f->binary;
	ret->first = f->at == 0;
	f->at += len;
	f->left -= len;
	ret->final = f->at == f->message || f->left == 0;
	if (ret->final)
		f->at = 0;
	return true;
}
