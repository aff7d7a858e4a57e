/* SPDX-License-Identifier: MIT */
#include "tunnel_ask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>

#include "common/xalloc.h"

static void
add_header(struct wire_open *open, const char *line)
{
	size_t len = strcspn(line, ":");
	char *name = xstrndup(line, len);

	assert_int_equal(wire_headers_add(&open->headers, name,
			     line + len + 1 + strspn(line + len + 1, " ")),
	    ERR_OK);
	free(name);
}

struct tunnel_answer
tunnel_ask(const struct tunnel_route_context *context, const char *method,
    const char *target, const char *const *headers)
{
	struct wire_packet *packet = wire_packet_new(WIRE_OPEN);
	struct tunnel_answer answer = { .diag = { "" } };
	char *text;
	size_t len;

	packet->open.method = xstrdup(method);
	packet->open.target = xstrdup(target);
	packet->open.peer_local = true;
	for (; *headers != NULL; headers++)
		add_header(&packet->open, *headers);
	do {
		struct pollfd pfd = {
			.fd = resolver_fd(context->resolver),
			.events = POLLIN,
		};

		answer.err = tunnel_route_decide(context, &packet->open,
		    &answer.packet, &answer.lease, &answer.body,
		    &answer.diag);
		if (answer.err == ERR_AGAIN)
			(void)poll(&pfd, 1, 1000);
	} while (answer.err == ERR_AGAIN);
	wire_packet_free(packet);
	if (answer.packet != NULL) {
		answer.grant = &answer.packet->grant;
		assert_int_equal(wire_format(answer.packet, &text, &len),
		    ERR_OK);
		wire_text_free(text, len);
	}
	return answer;
}

void
tunnel_answer_free(struct tunnel_answer *answer)
{
	wire_packet_free(answer->packet);
	lease_release(answer->lease);
	json_decref(answer->body);
}
