/* SPDX-License-Identifier: MIT */
#include "tunnel_ask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

/* Wait for the name where it is asked for, and say that it has to be again. */
static bool
is_again(const struct tunnel_route_context *context, enum err err)
{
	struct pollfd pfd = {
		.fd = resolver_fd(context->resolver),
		.events = POLLIN,
	};

	if (err == ERR_AGAIN)
		(void)poll(&pfd, 1, 1000);
	return err == ERR_AGAIN;
}

static void
note_refusal(struct tunnel_route *route, struct tunnel_answer *answer)
{
	struct wire_packet *packet =
	    tunnel_route_refuse(route, answer->err, &answer->diag);
	const char *value =
	    wire_headers_find(&packet->deny.headers, "Retry-After");

	if (value != NULL)
		(void)snprintf(answer->retry_after, sizeof(answer->retry_after),
		    "%s", value);
	wire_packet_free(packet);
}

struct tunnel_answer
tunnel_ask(const struct tunnel_route_context *context, const char *method,
    const char *target, const char *const *headers)
{
	struct wire_packet *packet = wire_packet_new(WIRE_OPEN);
	struct tunnel_answer answer = { .diag = { "" } };
	struct tunnel_route *route;
	char *text;
	size_t len;

	packet->open.method = xstrdup(method);
	packet->open.target = xstrdup(target);
	packet->open.peer_local = true;
	for (; *headers != NULL; headers++)
		add_header(&packet->open, *headers);
	route = tunnel_route_new(context, packet);
	answer.err = tunnel_route_prepare(route, &answer.diag);
	if (answer.err == ERR_OK)
		answer.err = tunnel_route_identify(route, &answer.diag);
	if (answer.err == ERR_OK)
		do
			answer.err = tunnel_route_resolve(route, &answer.diag);
		while (is_again(context, answer.err));
	if (answer.err == ERR_OK)
		answer.err = tunnel_route_admit(route, &answer.diag);
	if (answer.err == ERR_OK)
		tunnel_route_take(route, &answer.packet, &answer.lease);
	else
		note_refusal(route, &answer);
	tunnel_route_free(route);
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
}
