/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/tunnel_request.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "broker/http/access.h"
#include "common/str.h"
#include "common/xalloc.h"

#define OFFERED_MAX	  32 /* subprotocols in one request */
#define SUBPROTOCOL_BYTES 128

#define BETA "openai-beta.realtime-v1"

/* Subprotocols that a client asked for and the relay has, in its order. */
struct offer {
	char names[WIRE_SUBPROTOCOLS_MAX][SUBPROTOCOL_BYTES + 1];
	size_t count;
	size_t offered; /* whether the relay has them or not */
};

/* ---- who asks ---------------------------------------------------------- */

/* The last line's last element: what our own web server put there. */
static enum err
forwarded_for(const struct wire_headers *headers, char *out, size_t size)
{
	const char *list = NULL, *last;
	size_t len;

	for (size_t i = 0; i < headers->count; i++)
		if (strcasecmp(headers->items[i].name, "x-forwarded-for") == 0)
			list = headers->items[i].value;
	if (list == NULL)
		return ERR_NOTFOUND;
	last = strrchr(list, ',');
	last = last == NULL ? list : last + 1;
	last += strspn(last, " \t");
	/* blanks around the value are not there any more */
	len = strlen(last);
	if (len >= size)
		return ERR_PROTO;
	memcpy(out, last, len + 1);
	return str_is_address(out) ? ERR_OK : ERR_PROTO;
}

enum err
tunnel_request_client(const struct wire_open *open, char out[INET6_ADDRSTRLEN],
    struct diag *diag)
{
	enum err err;

	if (!open->peer_local) {
		(void)strcpy(out, open->peer_address);
		return ERR_OK;
	}
	err = forwarded_for(&open->headers, out, INET6_ADDRSTRLEN);
	if (err == ERR_OK)
		return ERR_OK;
	diag_set(diag,
	    err == ERR_NOTFOUND
		? "the client's address is not known: the web server must send "
		  "X-Forwarded-For"
		: "the last element of X-Forwarded-For is not an address: the "
		  "web server must set it");
	return ERR_DENIED;
}

/* The only header of this name, or NULL; ERR_PROTO where there are two. */
static enum err
single_header(const struct wire_headers *headers, const char *name,
    const char **ret, struct diag *diag)
{
	*ret = NULL;
	for (size_t i = 0; i < headers->count; i++) {
		if (strcasecmp(headers->items[i].name, name) != 0)
			continue;
		if (*ret != NULL) {
			diag_set(diag, "more than one %s header", name);
			return ERR_PROTO;
		}
		*ret = headers->items[i].value;
	}
	return ERR_OK;
}

enum err
tunnel_request_admit(const struct config *config, const struct wire_open *open,
    char client[INET6_ADDRSTRLEN], struct diag *diag)
{
	struct access_request request = {
		.client = client,
		.method = open->method,
	};
	const struct {
		const char *name, **value;
	} headers[] = {
		{ "Origin", &request.origin },
		{ "Host", &request.host },
		{ "Sec-Fetch-Site", &request.fetch_site },
	};
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < 3; i++)
		err = single_header(&open->headers, headers[i].name,
		    headers[i].value, diag);
	if (err == ERR_OK)
		err = tunnel_request_client(open, client, diag);
	if (err == ERR_OK)
		err = access_check(config, &request, diag);
	return err;
}

/* ---- subprotocols ------------------------------------------------------ */

/* Items that browsers carry a key in, for want of an Authorization header. */
static bool
is_credential(const char *name)
{
	return str_match("openai-insecure-api-key.*", name) ||
	    str_match("base64url.bearer.authorization.*", name);
}

static bool
has_name(const struct offer *offer, const char *name)
{
	for (size_t i = 0; i < offer->count; i++)
		if (strcmp(offer->names[i], name) == 0)
			return true;
	return false;
}

/* Clients of the beta say so; that is for us, and is not passed on. */
static bool
is_known(const struct config_relay *relay, const char *name)
{
	const struct config_strings *known = &relay->subprotocols;

	for (size_t i = 0; i < known->count; i++)
		if (strcmp(known->items[i], name) == 0)
			return true;
	return relay->messages.beta && !relay->subprotocol_pass &&
	    known->count > 0 && strcmp(name, BETA) == 0;
}

/* One item of the client's list. */
static enum err
take_item(const struct config_relay *relay, const char *item, size_t len,
    struct offer *offer, struct diag *diag)
{
	char name[SUBPROTOCOL_BYTES + 1];

	if (!str_is_token(item, len) || ++offer->offered > OFFERED_MAX) {
		diag_set(diag, "Sec-WebSocket-Protocol is malformed");
		return ERR_PROTO;
	}
	if (len > SUBPROTOCOL_BYTES)
		return ERR_OK; /* a key may be long; no subprotocol is */
	memcpy(name, item, len);
	name[len] = '\0';
	if (is_known(relay, name) && !is_credential(name) &&
	    !has_name(offer, name) && offer->count < WIRE_SUBPROTOCOLS_MAX)
		(void)strcpy(offer->names[offer->count++], name);
	return ERR_OK;
}

/* One header's comma-separated list (RFC 9110 5.6.1). */
static enum err
take_list(const struct config_relay *relay, const char *list,
    struct offer *offer, struct diag *diag)
{
	enum err err = ERR_OK;

	while (err == ERR_OK && *list != '\0') {
		size_t span, len;

		list += strspn(list, " \t");
		span = len = strcspn(list, ",");
		while (len > 0 && strchr(" \t", list[len - 1]) != NULL)
			len--;
		if (len > 0)
			err = take_item(relay, list, len, offer, diag);
		list += span;
		list += *list == ',';
	}
	return err;
}

enum err
tunnel_request_subprotocol(const struct config_relay *relay,
    const struct wire_headers *headers, struct wire_grant *grant,
    struct diag *diag)
{
	struct offer offer = { .count = 0 };
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < headers->count; i++)
		if (strcasecmp(headers->items[i].name,
			"sec-websocket-protocol") == 0)
			err = take_list(relay, headers->items[i].value, &offer,
			    diag);
	if (err != ERR_OK)
		return err;
	if (offer.count == 0 && offer.offered > 0 &&
	    relay->subprotocols.count > 0) {
		diag_set(diag,
		    "none of the subprotocols is served here: offer `%s', too",
		    relay->subprotocols.items[0]);
		return ERR_PROTO;
	}
	if (relay->subprotocol_pass)
		for (size_t i = 0; i < offer.count; i++)
			grant->upstream
			    .subprotocols[grant->upstream.subprotocol_count++] =
			    xstrdup(offer.names[i]);
	else if (offer.count > 0)
		grant->subprotocol = xstrdup(offer.names[0]);
	return ERR_OK;
}
