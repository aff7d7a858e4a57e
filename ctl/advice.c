/* SPDX-License-Identifier: MIT */
#include "ctl/advice.h"

#include <string.h>

#include "common/json.h"

/* What the samples of deploy/ have, and what gets in its way. */
static const struct {
	const char *check;
	const char *lighttpd, *apache, *nginx;
	const char *haproxy; /* NULL: nothing of its own */
} list[] = {
	{ "broker",
	    "fastcgi.server = (\"\" => ((\"socket\" => \"...\", "
	    "\"check-local\" => \"disable\"))), for culvert's paths",
	    "SetHandler \"proxy:unix:...|fcgi://culvert-broker/\", in a "
	    "<LocationMatch> of culvert's paths",
	    "fastcgi_pass unix:...; in a location of culvert's paths", NULL },
	{ "authorization",
	    "no setenv.set-request-header that has Authorization",
	    "CGIPassAuth On, in the <LocationMatch> of culvert's paths",
	    "fastcgi_pass_request_headers on; and no fastcgi_param "
	    "HTTP_AUTHORIZATION",
	    "pass-header authorization, in the fcgi-app" },
	{ "origin", "no setenv.set-request-header that has Origin",
	    "no RequestHeader that unsets Origin",
	    "fastcgi_pass_request_headers on; and no fastcgi_param HTTP_ORIGIN",
	    NULL },
	{ "cookie", "no setenv.set-request-header that has Cookie",
	    "no RequestHeader that unsets Cookie",
	    "fastcgi_pass_request_headers on; and no fastcgi_param HTTP_COOKIE",
	    NULL },
	{ "query", "${qsa} in what url.rewrite makes of a path",
	    "[QSA], and no [QSD], in a RewriteRule",
	    "fastcgi_param REQUEST_URI $request_uri;", NULL },
	{ "host", "no setenv.set-request-header that has Host",
	    "no RequestHeader that sets Host; ProxyPreserveHost On in a proxy "
	    "ahead of it",
	    "no fastcgi_param HTTP_HOST; proxy_set_header Host $http_host; in "
	    "a proxy ahead of it",
	    NULL },
	{ "scheme",
	    "where TLS ends ahead of it: setenv.add-environment = (\"HTTPS\" "
	    "=> \"on\")",
	    "where TLS ends ahead of it: SetEnv HTTPS on",
	    "fastcgi_param HTTPS $https if_not_empty; where TLS ends ahead of "
	    "it: fastcgi_param HTTPS on;",
	    NULL },
	{ "address", "behind a proxy: mod_extforward, extforward.forwarder",
	    "behind a proxy: mod_remoteip, RemoteIPHeader and "
	    "RemoteIPInternalProxy",
	    "fastcgi_param REMOTE_ADDR $remote_addr; behind a proxy: "
	    "set_real_ip_from and real_ip_header",
	    NULL },
	{ "stream",
	    "server.stream-response-body = 2; deflate.mimetypes without "
	    "text/event-stream",
	    "ProxySet flushpackets=on, in <Proxy \"fcgi://culvert-broker/\">; "
	    "mod_deflate without text/event-stream",
	    "fastcgi_buffering off; no fastcgi_ignore_headers "
	    "X-Accel-Buffering; gzip_types without text/event-stream",
	    NULL },
	{ "websocket",
	    "proxy.header = (\"upgrade\" => \"enable\"), with proxy.server to "
	    "culvert-tunnel's socket",
	    "ProxySet upgrade=websocket, in the <Proxy> of culvert-tunnel's "
	    "socket, to which a RewriteRule with [P] leads",
	    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
	    "proxy_set_header Connection \"upgrade\"; with proxy_pass to "
	    "culvert-tunnel's socket",
	    NULL },
	{ "websocket authorization",
	    "no setenv.set-request-header that has Authorization",
	    "no RequestHeader that unsets Authorization",
	    "no proxy_set_header Authorization", NULL },
	{ "websocket origin", "no setenv.set-request-header that has Origin",
	    "no RequestHeader that unsets Origin", "no proxy_set_header Origin",
	    NULL },
	{ "websocket cookie", "no setenv.set-request-header that has Cookie",
	    "no RequestHeader that unsets Cookie", "no proxy_set_header Cookie",
	    NULL },
	{ "websocket protocol",
	    "no setenv.set-request-header that has Sec-WebSocket-Protocol",
	    "no RequestHeader that unsets Sec-WebSocket-Protocol",
	    "no proxy_set_header Sec-WebSocket-Protocol", NULL },
	{ "websocket query", "${qsa} in what url.rewrite makes of a path",
	    "[QSA], and no [QSD], in the RewriteRule",
	    "proxy_pass http://unix:...:; with nothing behind the last colon",
	    NULL },
	{ "websocket host", "no \"map-host-request\" in proxy.header",
	    "ProxyPreserveHost On", "proxy_set_header Host $http_host;", NULL },
	{ "websocket address",
	    "no setenv.set-request-header that has X-Forwarded-For; behind a "
	    "proxy: mod_extforward",
	    "ProxyAddHeaders On; behind a proxy: mod_remoteip",
	    "proxy_set_header X-Forwarded-For $remote_addr;", NULL },
};

json_t *
advice_of(const char *check)
{
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (strcmp(list[i].check, check) == 0)
			return json_made(json_pack("{s:s, s:s, s:s, s:s*}",
			    "lighttpd", list[i].lighttpd, "apache",
			    list[i].apache, "nginx", list[i].nginx, "haproxy",
			    list[i].haproxy));
	return NULL;
}
