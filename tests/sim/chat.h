/* SPDX-License-Identifier: MIT */
#ifndef SIM_CHAT_H
#define SIM_CHAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * chat: the answer to a chat completion, as it comes, and what it does wrong.
 * Pure.
 *
 * Knobs are words, some with a number: "per_s=20 count=100 reset after=7".
 * README.md lists them.
 */
struct chat;

/* Knobs, apart: blanks and '&' are between them. */
struct chat_knobs {
	uint64_t count; /* deltas; 0: as many as the answer has words */
	uint64_t per_s; /* deltas a second; 0: as they can be taken */
	uint64_t bytes; /* of a delta, at least */
	uint64_t after; /* deltas, then the fault comes */
	uint64_t ms;	/* of the fault; 0: as long as it takes */
	uint64_t piece; /* bytes that are sent at a time; 0: all */
	bool stamp;	/* "N:NANOSECONDS " is each delta */
	bool comments;	/* one in front of each delta */
	bool delay;	/* ms, before the head */
	bool no_done, no_finish, no_usage;
	bool reset, cut, silence, error, bad_utf8, bad_json; /* the faults */
	char mode[32]; /* of the script, if one was named; else "" */
	char type[64]; /* Content-Type; "": the right one */
	char retry_after[16];
};

/* Read them on top of what is there; false where one is not known. */
bool chat_knobs_read(struct chat_knobs *knobs, const char *text, size_t len);

struct chat_order {
	const char *model; /* copied */
	char *text; /* of the answer, at whose blanks it is cut; taken over */
	uint64_t prompt_tokens;
	uint64_t max_tokens; /* a delta is a token; 0: no limit */
	bool include_usage;
	int64_t now_s; /* since 1970 */
	struct chat_knobs knobs;
};

/* The caller frees it. */
struct chat *chat_new(const struct chat_order *order);
void chat_free(struct chat *chat); /* NULL is allowed */

const struct chat_knobs *chat_peek_knobs(const struct chat *chat);

/* Deltas so far. */
uint64_t chat_deltas(const struct chat *chat);

enum chat_do {
	CHAT_SEND,  /* the text, which is valid until the next call */
	CHAT_WAIT,  /* so long, or until the client is gone */
	CHAT_END,   /* it is complete */
	CHAT_CUT,   /* end TCP */
	CHAT_RESET, /* the same, with RST */
};

/* What to do next; now: CLOCK_MONOTONIC. */
enum chat_do chat_step(struct chat *chat, int64_t now_ns, const char **ret_text,
    size_t *ret_len, int64_t *ret_wait_ms);

/* The same answer in one piece: a new value. */
json_t *chat_whole(struct chat *chat);

#endif
