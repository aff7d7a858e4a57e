/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/url.h"
#include "broker/http/access.h"
#include "broker/http/address.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Lines: the address, Origin, Host, Sec-Fetch-Site.  Who is let in has an
 * address of the list and, where it says where it comes from, an origin of it.
 */
enum {
	ADDRESS,
	ORIGIN,
	HOST,
	FETCH_SITE,
	LINES,
};

static struct config *config;

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
setup(void)
{
	static const char text[] =
	    "access { clients = {\"192.0.2.0/24\", \"2001:db8::/32\"}\n"
	    "origins = {\"https://a.example\"} }\n";

	require(config_parse("c", text, strlen(text), &config, NULL) == ERR_OK);
}

static void
check_address(const char *line)
{
	char text[INET6_ADDRSTRLEN], again[INET6_ADDRSTRLEN];
	uint8_t network[ADDRESS_NETWORK_BYTES];

	address_network(line, network);
	(void)address_is_loopback(line);
	if (address_normalize(line, text) != ERR_OK)
		return;
	require(address_normalize(text, again) == ERR_OK);
	require(strcmp(text, again) == 0);
}

static void
check_access(char *lines[LINES])
{
	struct access_request request = {
		.client = lines[ADDRESS],
		.method = "GET",
		.origin = *lines[ORIGIN] == '\0' ? NULL : lines[ORIGIN],
		.host = *lines[HOST] == '\0' ? NULL : lines[HOST],
		.fetch_site =
		    *lines[FETCH_SITE] == '\0' ? NULL : lines[FETCH_SITE],
	};
	struct diag diag = { "" };
	char text[INET6_ADDRSTRLEN];

	if (access_check(config, &request, &diag) != ERR_OK) {
		require(diag.text[0] != '\0');
		return;
	}
	require(address_normalize(lines[ADDRESS], text) == ERR_OK);
	require(strncmp(text, "192.0.2.", 8) == 0 ||
	    strncmp(text, "2001:db8:", 9) == 0);
	if (request.origin != NULL)
		require(
		    strncasecmp(request.origin, "https://a.example", 17) == 0);
	else
		require(request.fetch_site != NULL &&
		    strcmp(request.fetch_site, "same-origin") == 0 &&
		    strncasecmp(request.host, "a.example", 9) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config_url url = { .host = NULL };
	char *copy, *p, *lines[LINES];

	if (config == NULL)
		setup();
	copy = p = xstrndup((const char *)data, size);
	for (int i = 0; i < LINES; i++) {
		lines[i] = p;
		p += strcspn(p, "\n");
		if (*p == '\n')
			*p++ = '\0';
	}
	check_address(lines[ADDRESS]);
	check_access(lines);
	if (url_check_origin(lines[ORIGIN], NULL) == ERR_OK)
		require(strstr(lines[ORIGIN], "://") != NULL);
	if (url_parse(lines[ORIGIN], &url, NULL) == ERR_OK)
		require(url.host != NULL && *url.host != '\0');
	config_url_done(&url);
	url = (struct config_url){ .host = NULL };
	if (url_parse_http(lines[ORIGIN], &url, NULL) == ERR_OK)
		require(url.host != NULL && *url.host != '\0');
	config_url_done(&url);
	free(copy);
	return 0;
}
