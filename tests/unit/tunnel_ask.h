/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_TUNNEL_ASK_H
#define TESTS_UNIT_TUNNEL_ASK_H

#include "broker/tunnels/tunnel_route.h"

/* tunnel_ask: a tunnel's question to the broker by hand, for tests. */
struct tunnel_answer {
	enum err err;
	struct wire_packet *packet; /* NULL unless it is a grant */
	const struct wire_grant *grant;
	struct lease *lease;
	char retry_after[24]; /* of a refusal; "": it does not say */
	struct diag diag;
};

/*
 * Ask for a target on behalf of a client at 127.0.0.1, with headers, "Name:
 * value" each, up to a NULL; waits for names that are looked up.  The test
 * fails where a grant cannot be sent.
 */
struct tunnel_answer tunnel_ask(const struct tunnel_route_context *context,
    const char *method, const char *target, const char *const *headers);

void tunnel_answer_free(struct tunnel_answer *answer);

#endif
