/* SPDX-License-Identifier: MIT */
#include "broker/http/address.h"

#include <arpa/inet.h>
#include <string.h>

enum err
address_normalize(const char *text, char out[INET6_ADDRSTRLEN])
{
	size_t len = text == NULL ? 0 : strcspn(text, "%");
	char bare[INET6_ADDRSTRLEN] = "";
	struct in6_addr v6;
	struct in_addr v4;

	if (len > 0 && len < sizeof(bare))
		memcpy(bare, text, len);
	if (inet_pton(AF_INET, bare, &v4) == 1) {
		(void)strcpy(out, bare);
		return ERR_OK;
	}
	if (inet_pton(AF_INET6, bare, &v6) != 1)
		return ERR_PROTO;
	if (IN6_IS_ADDR_V4MAPPED(&v6))
		(void)inet_ntop(AF_INET, v6.s6_addr + 12, out,
		    INET6_ADDRSTRLEN);
	else
		(void)inet_ntop(AF_INET6, &v6, out, INET6_ADDRSTRLEN);
	return ERR_OK;
}

void
address_network(const char *text, uint8_t out[ADDRESS_NETWORK_BYTES])
{
	uint8_t bytes[sizeof(struct in6_addr)] = { 0 };
	char address[INET6_ADDRSTRLEN];

	if (address_normalize(text, address) == ERR_OK &&
	    inet_pton(AF_INET, address, bytes) != 1)
		(void)inet_pton(AF_INET6, address, bytes);
	memcpy(out, bytes, ADDRESS_NETWORK_BYTES);
}

void
address_visitor(const char *text, char out[ADDRESS_VISITOR_SIZE])
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr v6;

	if (address_normalize(text, address) != ERR_OK)
		(void)strcpy(address, "-");
	if (inet_pton(AF_INET6, address, &v6) != 1) {
		(void)strcpy(out, address);
		return;
	}
	memset(v6.s6_addr + ADDRESS_NETWORK_BYTES, 0,
	    sizeof(v6.s6_addr) - ADDRESS_NETWORK_BYTES);
	(void)inet_ntop(AF_INET6, &v6, out, INET6_ADDRSTRLEN);
	(void)strcat(out, "/64");
}

bool
address_is_loopback(const char *text)
{
	char address[INET6_ADDRSTRLEN];

	return address_normalize(text, address) == ERR_OK &&
	    (strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0);
}
