/* SPDX-License-Identifier: MIT */
#include "broker/http/access.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "common/xalloc.h"

/* Every address as IPv6, IPv4 as ::ffff:a.b.c.d: one comparison for all. */
static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
#define MAPPED_BITS 96

struct origin {
	char scheme[32];
	char host[256];
	uint16_t port; /* 0: the scheme's own */
};

static bool
address_parse(const char *text, uint8_t out[16])
{
	char copy[INET6_ADDRSTRLEN];
	size_t len = strcspn(text, "%"); /* fe80::1%eth0: the scope is ours */

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (inet_pton(AF_INET6, copy, out) == 1)
		return true;
	memcpy(out, mapped, sizeof(mapped));
	return text[len] == '\0' &&
	    inet_pton(AF_INET, copy, out + sizeof(mapped)) == 1;
}

/* The range's network as IPv6; returns its prefix length. */
static unsigned
range_network(const struct config_range *range, uint8_t out[16])
{
	if (range->family != AF_INET) {
		memcpy(out, range->address, 16);
		return range->prefix_len;
	}
	memcpy(out, mapped, sizeof(mapped));
	memcpy(out + sizeof(mapped), range->address, 4);
	return MAPPED_BITS + range->prefix_len;
}

static bool
same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;

	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

static bool
range_has(const struct config_range *range, const uint8_t address[16])
{
	uint8_t network[16];
	unsigned bits;

	if (range->any)
		return true;
	bits = range_network(range, network);
	/* ::/0 is every IPv6 client, but says nothing of IPv4 */
	if (bits < MAPPED_BITS && memcmp(address, mapped, sizeof(mapped)) == 0)
		return false;
	return same_bits(network, address, bits);
}

static enum err
check_client(const struct config *config, const char *client_address,
    struct diag *diag)
{
	uint8_t address[16];

	if (client_address == NULL || *client_address == '\0') {
		diag_set(diag,
		    "the client's address is not known: the web "
		    "server has to set X-Forwarded-For");
		return ERR_DENIED;
	}
	if (!address_parse(client_address, address)) {
		diag_set(diag,
		    "the client's address is not numeric: the web "
		    "server has to pass it in REMOTE_ADDR or "
		    "X-Forwarded-For");
		return ERR_DENIED;
	}
	for (size_t i = 0; i < config->access.client_count; i++)
		if (range_has(&config->access.clients[i], address))
			return ERR_OK;
	diag_set(diag,
	    "this client is not in `clients' of the "
	    "configuration's section `access'");
	return ERR_DENIED;
}

/* Copy in lower case up to stop; false where it is empty or too long. */
static bool
copy_lower(char *out, size_t size, const char *from, const char *stop)
{
	size_t len = (size_t)(stop - from);

	if (len == 0 || len >= size)
		return false;
	for (size_t i = 0; i < len; i++)
		out[i] = (char)tolower((unsigned char)from[i]);
	out[len] = '\0';
	return true;
}

static const char *
skip_alnum(const char *p, const char *also)
{
	while (isascii((unsigned char)*p) && *p != '\0' &&
	    (isalnum((unsigned char)*p) || strchr(also, *p) != NULL))
		p++;
	return p;
}

/* "[::1]" at p as its shortest text; returns what follows, or NULL. */
static const char *
parse_ipv6(const char *p, struct origin *out)
{
	char text[INET6_ADDRSTRLEN];
	const char *end = strchr(p, ']');
	uint8_t address[16];

	if (end == NULL || !copy_lower(text, sizeof(text), p + 1, end) ||
	    inet_pton(AF_INET6, text, address) != 1)
		return NULL;
	(void)inet_ntop(AF_INET6, address, out->host, sizeof(out->host));
	return end + 1;
}

static bool
parse_port(const char *p, struct origin *out)
{
	uint64_t port;

	if (*p == '0' || str_to_u64(p, strlen(p), UINT16_MAX, &port) != ERR_OK)
		return false;
	if (!(port == 443 && strcmp(out->scheme, "https") == 0) &&
	    !(port == 80 && strcmp(out->scheme, "http") == 0))
		out->port = (uint16_t)port;
	return true;
}

/* RFC 6454 6.2 and nothing around it: no user, path, list or blank. */
static bool
origin_parse(const char *text, struct origin *out)
{
	const char *p = skip_alnum(text, "+-."), *host;

	memset(out, 0, sizeof(*out));
	if (!isalpha((unsigned char)*text) ||
	    !copy_lower(out->scheme, sizeof(out->scheme), text, p) ||
	    strncmp(p, "://", 3) != 0)
		return false;
	host = p + 3;
	if (*host == '[') {
		p = parse_ipv6(host, out);
	} else {
		p = skip_alnum(host, "-._");
		if (!copy_lower(out->host, sizeof(out->host), host, p))
			return false;
	}
	if (p == NULL)
		return false;
	return *p == '\0' || (*p == ':' && parse_port(p + 1, out));
}

static bool
origin_is_loopback(const struct origin *origin)
{
	return (strcmp(origin->scheme, "http") == 0 ||
		   strcmp(origin->scheme, "https") == 0) &&
	    (strcmp(origin->host, "localhost") == 0 ||
		strcmp(origin->host, "127.0.0.1") == 0 ||
		strcmp(origin->host, "::1") == 0);
}

static bool
origin_matches(const struct origin *origin, const char *item)
{
	struct origin other;

	if (strcmp(item, "*") == 0)
		return true;
	if (strcmp(item, "loopback") == 0)
		return origin_is_loopback(origin);
	return origin_parse(item, &other) && origin->port == other.port &&
	    strcmp(origin->scheme, other.scheme) == 0 &&
	    strcmp(origin->host, other.host) == 0;
}

/* Whether an Origin is on the list; "*" counts where `any' does. */
static bool
is_listed(const struct config *config, const char *text, bool any)
{
	const struct config_strings *origins = &config->access.origins;
	struct origin origin;

	if (!origin_parse(text, &origin))
		return false;
	for (size_t i = 0; i < origins->count; i++)
		if ((any || strcmp(origins->items[i], "*") != 0) &&
		    origin_matches(&origin, origins->items[i]))
			return true;
	return false;
}

bool
access_is_named(const struct config *config, const char *origin)
{
	return is_listed(config, origin, false);
}

/* Whether an Origin is http or https on this host and port. */
static bool
is_of_host(const char *origin, const char *host)
{
	static const char *const schemes[] = { "http", "https" };
	struct origin a, b;
	bool same = false;

	if (host == NULL || !origin_parse(origin, &a))
		return false;
	for (size_t i = 0; i < 2 && !same; i++) {
		char *text = xasprintf("%s://%s", schemes[i], host);

		same = origin_parse(text, &b) && a.port == b.port &&
		    strcmp(a.scheme, b.scheme) == 0 &&
		    strcmp(a.host, b.host) == 0;
		free(text);
	}
	return same;
}

enum err
access_check_cookie(const struct config *config,
    const struct access_request *request, struct diag *diag)
{
	const char *site = request->fetch_site;
	bool good;

	if (!request->upgrade &&
	    (strcmp(request->method, "GET") == 0 ||
		strcmp(request->method, "HEAD") == 0))
		return ERR_OK;
	if (request->origin != NULL)
		good = access_is_named(config, request->origin) ||
		    is_of_host(request->origin, request->host);
	else
		good = site == NULL || strcmp(site, "same-origin") == 0 ||
		    strcmp(site, "none") == 0;
	if (good)
		return ERR_OK;
	diag_set(diag,
	    "a cookie does not count from this Origin, which is not listed by "
	    "name in `origins' of the configuration's section `access'");
	return ERR_DENIED;
}

/*
 * Whether a page of the site itself asks, to which a browser says so.  The
 * scheme is not asked: before a proxy that ends TLS it may be another one, and
 * browsers send this header to https and to loopback alone.
 */
static bool
is_own_page(const struct config *config, const struct access_request *request)
{
	static const char *const schemes[] = { "http", "https" };
	bool listed = false;

	if (request->fetch_site == NULL || request->host == NULL ||
	    strcmp(request->fetch_site, "same-origin") != 0 ||
	    (strcmp(request->method, "GET") != 0 &&
		strcmp(request->method, "HEAD") != 0))
		return false;
	for (size_t i = 0; i < 2 && !listed; i++) {
		char *origin = xasprintf("%s://%s", schemes[i], request->host);

		listed = is_listed(config, origin, true);
		free(origin);
	}
	return listed;
}

static enum err
check_origin(const struct config *config, const struct access_request *request,
    struct diag *diag)
{
	if (request->origin == NULL) {
		if (config->access.missing_origin ||
		    is_own_page(config, request))
			return ERR_OK;
		diag_set(diag,
		    "no Origin header, nor a reading page of this Host in "
		    "`origins': clients that are no browsers need "
		    "`missing_origin' in the configuration's section "
		    "`access'");
		return ERR_DENIED;
	}
	if (is_listed(config, request->origin, true))
		return ERR_OK;
	diag_set(diag,
	    "this Origin is not in `origins' of the "
	    "configuration's section `access'");
	return ERR_DENIED;
}

enum err
access_check(const struct config *config, const struct access_request *request,
    struct diag *diag)
{
	enum err err = check_client(config, request->client, diag);

	return err != ERR_OK ? err : check_origin(config, request, diag);
}

bool
access_is_loopback_only(const struct config *config)
{
	static const uint8_t v4[16] = { [10] = 0xff, [11] = 0xff, [12] = 127 };
	static const uint8_t v6[16] = { [15] = 1 };

	for (size_t i = 0; i < config->access.client_count; i++) {
		const struct config_range *range = &config->access.clients[i];
		uint8_t network[16];
		unsigned bits;

		if (range->any)
			return false;
		bits = range_network(range, network);
		if (!(bits >= MAPPED_BITS + 8 &&
			same_bits(network, v4, MAPPED_BITS + 8)) &&
		    !(bits == 128 && same_bits(network, v6, 128)))
			return false;
	}
	return true;
}
