/* SPDX-License-Identifier: MIT */
#include "broker/config/url.h"

#include <curl/urlapi.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "common/xalloc.h"

/* A part that libcurl has, in memory of ours; NULL where there is none. */
static char *
part(CURLU *url, CURLUPart what)
{
	char *text = NULL, *copy;

	if (curl_url_get(url, what, &text, 0) != CURLUE_OK)
		return NULL;
	copy = xstrdup(text);
	curl_free(text);
	return copy;
}

static bool
has(CURLU *url, CURLUPart what)
{
	char *text = part(url, what);

	free(text);
	return text != NULL;
}

/*
 * Checks before libcurl: it forgives blanks and an empty fragment, and a
 * backslash means a slash to some readers and not to others.
 */
static enum err
check_bytes(const char *text, struct diag *diag)
{
	size_t len = strlen(text);

	if (len > URL_MAX_BYTES) {
		diag_set(diag, "is longer than %d bytes", URL_MAX_BYTES);
		return ERR_PROTO;
	}
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] >= 0x7f ||
		    strchr("\"#<>\\^`{|}", text[i]) != NULL) {
			diag_set(diag,
			    "has a character that a URL cannot have here: "
			    "write it as %%%02X",
			    (unsigned char)text[i]);
			return ERR_PROTO;
		}
	return ERR_OK;
}

/* libcurl also forgives a third slash, and decodes escapes in the host. */
static enum err
check_authority(const char *text, struct diag *diag)
{
	const char *at = strstr(text, "://");
	size_t len = at == NULL ? 0 : strcspn(at + 3, "/?");

	if (len == 0) {
		diag_set(diag, "is not of the form scheme://host/path");
		return ERR_PROTO;
	}
	if (memchr(at + 3, '@', len) != NULL) {
		/* with a password, perhaps: the text is not repeated */
		diag_set(diag,
		    "has a user: credentials go in a header, as a "
		    "secret");
		return ERR_PROTO;
	}
	if (memchr(at + 3, '%', len) != NULL) {
		diag_set(diag, "has an escape in its host");
		return ERR_PROTO;
	}
	return ERR_OK;
}

static enum err
parse(const char *text, CURLU **ret, struct diag *diag)
{
	CURLU *url;
	CURLUcode rc;

	if (check_bytes(text, diag) != ERR_OK ||
	    check_authority(text, diag) != ERR_OK)
		return ERR_PROTO;
	url = curl_url();
	if (url == NULL)
		abort(); /* out of memory */
	rc = curl_url_set(url, CURLUPART_URL, text,
	    CURLU_NON_SUPPORT_SCHEME | CURLU_DISALLOW_USER | CURLU_PATH_AS_IS);
	if (rc == CURLUE_OK && has(url, CURLUPART_ZONEID))
		rc = CURLUE_BAD_HOSTNAME;
	if (rc != CURLUE_OK) {
		diag_set(diag, "is not a usable URL: %s",
		    curl_url_strerror(rc));
		curl_url_cleanup(url);
		return ERR_PROTO;
	}
	*ret = url;
	return ERR_OK;
}

/* A name or an IPv4 address; or an IPv6 address, in libcurl's brackets. */
static bool
host_is_usable(const char *host)
{
	size_t len = strlen(host);
	const char *allowed = host[0] == '['
	    ? "[]:.0123456789abcdefABCDEF"
	    : "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	      "0123456789.-_";

	return len > 0 && len <= 253 && strspn(host, allowed) == len &&
	    host[0] != '.' && host[0] != '-';
}

/* The port, or fallback where none is written; 0 for one that is not usable. */
static uint16_t
port_of(CURLU *url, uint16_t fallback)
{
	char *text = part(url, CURLUPART_PORT);
	uint64_t port = fallback;

	if (text != NULL &&
	    str_to_u64(text, strlen(text), 65535, &port) != ERR_OK)
		port = 0;
	free(text);
	return (uint16_t)port;
}

/*
 * Take over the parts; ERR_PROTO where one of them is not usable.  plain is
 * the scheme without TLS; the one with it has an s behind.
 */
static enum err
fill(CURLU *url, const char *plain, struct config_url *ret, struct diag *diag)
{
	char *scheme = part(url, CURLUPART_SCHEME);
	size_t len = strlen(plain);
	uint16_t standard;

	ret->tls = scheme != NULL && strncmp(scheme, plain, len) == 0 &&
	    strcmp(scheme + len, "s") == 0;
	if (!ret->tls && (scheme == NULL || strcmp(scheme, plain) != 0)) {
		diag_set(diag, "has to begin with %ss:// (or %s://)", plain,
		    plain);
		free(scheme);
		return ERR_PROTO;
	}
	free(scheme);
	standard = ret->tls ? 443 : 80;
	ret->port = port_of(url, standard);
	ret->host = part(url, CURLUPART_HOST);
	ret->path = part(url, CURLUPART_PATH);
	ret->query = part(url, CURLUPART_QUERY);
	if (ret->query != NULL && *ret->query == '\0') {
		free(ret->query);
		ret->query = NULL;
	}
	if (ret->path == NULL)
		ret->path = xstrdup("/");
	if (ret->port == 0) {
		diag_set(diag, "has a port outside 1 to 65535");
		return ERR_PROTO;
	}
	if (ret->host == NULL || !host_is_usable(ret->host)) {
		diag_set(diag,
		    "has a host that is neither a name nor an "
		    "address (IPv6 stands in brackets)");
		return ERR_PROTO;
	}
	ret->authority = ret->port == standard
	    ? xstrdup(ret->host)
	    : xasprintf("%s:%u", ret->host, ret->port);
	if (ret->host[0] == '[') {
		len = strlen(ret->host) - 2;
		memmove(ret->host, ret->host + 1, len);
		ret->host[len] = '\0';
	}
	return ERR_OK;
}

static enum err
parse_parts(const char *text, const char *plain, struct config_url *ret,
    struct diag *diag)
{
	struct config_url parts = { .tls = false };
	CURLU *url;
	enum err err;

	if (parse(text, &url, diag) != ERR_OK)
		return ERR_PROTO;
	err = fill(url, plain, &parts, diag);
	curl_url_cleanup(url);
	if (err == ERR_OK)
		*ret = parts;
	else
		config_url_done(&parts);
	return err;
}

enum err
url_parse(const char *text, struct config_url *ret, struct diag *diag)
{
	return parse_parts(text, "ws", ret, diag);
}

enum err
url_parse_http(const char *text, struct config_url *ret, struct diag *diag)
{
	return parse_parts(text, "http", ret, diag);
}

bool
url_host_is_local(const char *host)
{
	return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
	    (strncmp(host, "127.", 4) == 0 && str_is_address(host));
}

/* The origin's text as it would have to be, from its parts; NULL if none. */
static char *
origin_of(CURLU *url)
{
	char *scheme = part(url, CURLUPART_SCHEME);
	char *host = part(url, CURLUPART_HOST);
	uint16_t standard = 0, port;
	char *origin = NULL;

	if (scheme != NULL && strcmp(scheme, "http") == 0)
		standard = 80;
	else if (scheme != NULL && strcmp(scheme, "https") == 0)
		standard = 443;
	port = port_of(url, standard);
	if (scheme != NULL && host != NULL && host_is_usable(host)) {
		for (char *p = host; *p != '\0'; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p - 'A' + 'a');
		origin = port == standard
		    ? xasprintf("%s://%s", scheme, host)
		    : xasprintf("%s://%s:%u", scheme, host, port);
	}
	free(scheme);
	free(host);
	return origin;
}

enum err
url_check_origin(const char *text, struct diag *diag)
{
	enum err err = ERR_OK;
	CURLU *url;
	char *origin;

	if (strcmp(text, "null") == 0) {
		diag_set(diag, "is never served: any site can send it");
		return ERR_PROTO;
	}
	if (*text != '\0' && strstr(text, "://") == NULL) {
		diag_set(diag, "has no scheme: write https://%.100s", text);
		return ERR_PROTO;
	}
	if (parse(text, &url, diag) != ERR_OK)
		return ERR_PROTO;
	origin = origin_of(url);
	curl_url_cleanup(url);
	if (origin == NULL) {
		diag_set(diag, "is not an origin, as https://site.example");
		err = ERR_PROTO;
	} else if (strcmp(origin, text) != 0) {
		diag_set(diag, "is not as browsers write it: write %.100s",
		    origin);
		err = ERR_PROTO;
	}
	free(origin);
	return err;
}
