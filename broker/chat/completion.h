/* SPDX-License-Identifier: MIT */
#ifndef BROKER_COMPLETION_H
#define BROKER_COMPLETION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * completion: reads the stream of a chat completion as it comes, from OpenAI
 * and from those who say they are compatible.  Pure.
 *
 * Server-sent events (https://html.spec.whatwg.org/#parsing-an-event-stream)
 * whose data are `chat.completion.chunk's, or an error, or [DONE].  A vendor
 * may leave out [DONE], finish_reason, usage, the last empty line; send
 * comments, null contents, events that say nothing and errors of several
 * shapes.  Escapes of characters that are none (lone surrogates, NUL) become
 * U+FFFD.  What is no such stream is an error, and so are JSON that is none and
 * bytes that are no UTF-8.  Everything is bounded: an event to
 * COMPLETION_EVENT_MAX.
 */
struct completion;

#define COMPLETION_EVENT_MAX (256 * 1024)

struct completion_events {
	/* Text of the first choice, UTF-8 without NUL, not empty. */
	void (*delta)(void *arg, const char *text, size_t len);
};

/*
 * Known where both counts are, can be right (to COMPLETION_TOKENS_MAX), and
 * were said with the last delta or after it: else an answer that is cut would
 * cost what its beginning did.
 */
#define COMPLETION_TOKENS_MAX 1000000000

struct completion_usage {
	bool known;
	/* cached ones are among the input's */
	uint64_t input_tokens, cached_tokens, output_tokens, total_tokens;
	json_t *raw; /* as it came, known or not; NULL: none came; borrowed */
};

/*
 * The events are borrowed.  It is not to be freed in them.  The key that the
 * vendor was shown, NULL where there is none, is borrowed, too: what has it in
 * is no word of the vendor's to tell.
 */
struct completion *completion_new(const struct completion_events *events,
    void *arg, const char *key);
void completion_free(struct completion *completion); /* NULL is allowed */

/*
 * Read on; deltas come in this call.  ERR_UPSTREAM with the reason (without
 * content) where it is no such stream, or has an error in it; then, and after
 * [DONE], what follows is ignored.
 */
enum err completion_feed(struct completion *completion, const void *data,
    size_t len, struct diag *diag) MUST_CHECK;

/*
 * It has ended: ERR_UPSTREAM where an answer was cut (neither [DONE] nor a
 * finish_reason), or there was none at all, or completion_feed() has failed.  A
 * delta may come in this call, too: of a last event without its empty line.
 */
enum err completion_end(struct completion *completion,
    struct diag *diag) MUST_CHECK;

bool completion_is_done(const struct completion *completion); /* [DONE] */

/* "stop", "length", ...: a word of the vendor's, checked; NULL: not known. */
const char *completion_finish_reason(const struct completion *completion);

/*
 * What a vendor says in the body of a refusal: the code of {"error":{..}}, or
 * its type, and the param that it is about; "-" where it says none, or no
 * word.  Not its message, which may quote prompts and keys.  As for key, see
 * completion_new().
 */
#define COMPLETION_WORD_BYTES 65

struct completion_refusal {
	char code[COMPLETION_WORD_BYTES], param[COMPLETION_WORD_BYTES];
};

void completion_read_refusal(const void *body, size_t len, const char *key,
    struct completion_refusal *ret);

/* The last usage that was said. */
const struct completion_usage *completion_usage(
    const struct completion *completion);

#endif
