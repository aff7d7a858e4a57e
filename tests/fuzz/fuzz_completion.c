/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/chat/completion.h"
#include "common/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * The first byte says how the rest is cut.  Cut or not, the same is read: the
 * same text, the same end, the same usage.
 */
struct result {
	uint64_t hash;
	size_t bytes;
	enum err err;
	struct diag diag;
	struct completion *reader;
};

static void
must(bool it_holds)
{
	if (!it_holds)
		abort();
}

static void
on_delta(void *arg, const char *text, size_t len)
{
	struct result *r = arg;

	must(len > 0 && str_is_utf8(text, len));
	must(memchr(text, '\0', len) == NULL);
	for (size_t i = 0; i < len; i++)
		r->hash = (r->hash ^ (uint8_t)text[i]) * 0x100000001b3;
	r->bytes += len;
}

static void
read_stream(struct result *r, const uint8_t *data, size_t size, size_t piece)
{
	static const struct completion_events events = { .delta = on_delta };
	enum err err = ERR_OK;

	r->reader = completion_new(&events, r, NULL);
	while (size > 0 && err == ERR_OK) {
		size_t n = size < piece ? size : piece;

		err = completion_feed(r->reader, data, n, &r->diag);
		data += n;
		size -= n;
	}
	r->err = completion_end(r->reader, &r->diag);
	must(err == ERR_OK || r->err == err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct result whole = { .bytes = 0 }, cut = { .bytes = 0 };
	const struct completion_usage *a, *b;
	const char *reason, *other;

	if (size == 0)
		return 0;
	read_stream(&whole, data + 1, size - 1, size);
	read_stream(&cut, data + 1, size - 1, (size_t)data[0] % 61 + 1);
	must(whole.err == cut.err && whole.hash == cut.hash);
	must(strcmp(whole.diag.text, cut.diag.text) == 0);
	must(whole.bytes <= size);
	reason = completion_finish_reason(whole.reader);
	other = completion_finish_reason(cut.reader);
	must((reason == NULL) == (other == NULL));
	must(reason == NULL || strcmp(reason, other) == 0);
	a = completion_usage(whole.reader);
	b = completion_usage(cut.reader);
	must(a->known == b->known && a->total_tokens == b->total_tokens);
	must(a->cached_tokens <= a->input_tokens);
	must(a->input_tokens <= COMPLETION_TOKENS_MAX &&
	    a->output_tokens <= COMPLETION_TOKENS_MAX);
	completion_free(whole.reader);
	completion_free(cut.reader);
	return 0;
}
