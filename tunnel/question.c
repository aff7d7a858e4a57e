/* SPDX-License-Identifier: MIT */
#include "tunnel/question.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/xalloc.h"

/* Who the peer is: a Unix socket's has no address. */
static void
describe_peer(int fd, struct wire_open *open)
{
	struct sockaddr_storage addr = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(addr);
	char host[NI_MAXHOST];
	const char *text = host;

	open->peer_local = true;
	if (getpeername(fd, (void *)&addr, &len) == -1 ||
	    (addr.ss_family != AF_INET && addr.ss_family != AF_INET6) ||
	    getnameinfo((void *)&addr, len, host, sizeof(host), NULL, 0,
		NI_NUMERICHOST) != 0)
		return;
	if (strncmp(text, "::ffff:", 7) == 0 && strchr(text, '.') != NULL)
		text += 7; /* IPv4 on a socket of both kinds */
	host[strcspn(host, "%")] = '\0';
	open->peer_local = false;
	open->peer_address = xstrdup(text);
}

enum err
question_make(const struct http_head *head, int fd, struct wire_packet **ret)
{
	struct wire_packet *packet = wire_packet_new(WIRE_OPEN);
	struct wire_open *open = &packet->open;
	enum err err = ERR_OK;

	open->method = xstrndup(head->method.data, head->method.len);
	open->target = xstrndup(head->target.data, head->target.len);
	for (size_t i = 0; i < head->header_count && err == ERR_OK; i++) {
		const struct http_header *header = &head->headers[i];
		char *name = xstrndup(header->name.data, header->name.len);
		char *value = xstrndup(header->value.data, header->value.len);

		err = wire_headers_add(&open->headers, name, value);
		explicit_bzero(value, header->value.len);
		free(value);
		free(name);
	}
	if (err != ERR_OK) {
		wire_packet_free(packet);
		return err;
	}
	describe_peer(fd, open);
	*ret = packet;
	return ERR_OK;
}
