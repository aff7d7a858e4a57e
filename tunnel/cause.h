/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_CAUSE_H
#define TUNNEL_CAUSE_H

/* cause: why a tunnel ended; the list is tunnel/cause.def.  Pure. */
enum cause {
#define CAUSE(name, word, code, text) CAUSE_##name,
#include "tunnel/cause.def"
};

/* Who ended it; the words are those of the control packets. */
enum cause_side {
	SIDE_CLIENT,
	SIDE_UPSTREAM,
	SIDE_TUNNEL,
	SIDE_BROKER,
};

const char *cause_word(enum cause cause);
int cause_code(enum cause cause); /* 0: a peer's, or none */
const char *cause_text(enum cause cause);
const char *cause_side_word(enum cause_side side);

#endif
