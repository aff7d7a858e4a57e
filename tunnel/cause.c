/* SPDX-License-Identifier: MIT */
#include "tunnel/cause.h"

#include "common/ws_frame.h"

static const struct {
	const char *word;
	int code;
	const char *text;
} causes[] = {
#define CAUSE(name, word, code, text) [CAUSE_##name] = { word, code, text },
#include "tunnel/cause.def"
};

const char *
cause_word(enum cause cause)
{
	return causes[cause].word;
}

int
cause_code(enum cause cause)
{
	return causes[cause].code;
}

const char *
cause_text(enum cause cause)
{
	return causes[cause].text;
}

const char *
cause_side_word(enum cause_side side)
{
	static const char *const words[] = {
		[SIDE_CLIENT] = "client",
		[SIDE_UPSTREAM] = "upstream",
		[SIDE_TUNNEL] = "tunnel",
		[SIDE_BROKER] = "broker",
	};

	return words[side];
}
