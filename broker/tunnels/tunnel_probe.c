/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/tunnel_probe.h"

#include <string.h>
#include <strings.h>

#include "broker/http/probes.h"
#include "broker/tunnels/tunnel_request.h"
#include "common/probe.h"
#include "common/xalloc.h"

/* The first header of this name; NULL: there is none. */
static const char *
header_of(const struct wire_open *open, const char *name)
{
	for (size_t i = 0; i < open->headers.count; i++)
		if (strcasecmp(open->headers.items[i].name, name) == 0)
			return open->headers.items[i].value;
	return NULL;
}

struct wire_packet *
tunnel_probe_answer(const struct wire_open *open)
{
	const char *query = strchr(open->target, '?');
	char client[INET6_ADDRSTRLEN];
	struct wire_packet *packet;
	struct diag diag;
	struct probes_request seen = {
		.at = "tunnel",
		.host = header_of(open, "Host"),
		.authorization = header_of(open, "Authorization"),
		.origin = header_of(open, "Origin"),
		.cookie = header_of(open, "Cookie"),
		.subprotocol = header_of(open, "Sec-WebSocket-Protocol"),
		.query = query != NULL && strcmp(query + 1, PROBE_QUERY) == 0,
	};

	if (!probes_is_good(header_of(open, PROBE_HEADER)))
		return NULL;
	if (tunnel_request_client(open, client, &diag) == ERR_OK)
		seen.client = client;
	packet = wire_packet_new(WIRE_DENY);
	packet->deny.status = PROBE_STATUS;
	packet->deny.code = xstrdup("probe");
	packet->deny.message = xstrdup("a probe has arrived");
	packet->deny.body = probes_report(&seen);
	return packet;
}
