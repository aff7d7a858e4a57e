/* SPDX-License-Identifier: MIT */
#include "ctl/doctor.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/probe.h"
#include "common/wire_text.h"
#include "common/xalloc.h"
#include "ctl/advice.h"

#define TIMEOUT_MS	10000
#define TEXT_BYTES	512
#define HEADERS_MAX	10
#define STREAM_MS	((PROBE_EVENTS - 1) * PROBE_INTERVAL_MS)
#define STREAM_LEAST_MS PROBE_INTERVAL_MS /* on a machine that is busy, too */

#define OK	"ok"
#define WARNING "warning"
#define FAIL	"fail"

struct doctor {
	const struct web_site *site;
	char *probe, *origin; /* header lines */
	json_t *checks;
	bool failed;
};

char *
doctor_origin(const char *url)
{
	bool tls = strncmp(url, "https://", 8) == 0;
	const char *host = url + (tls ? 8 : 7), *port = tls ? ":443" : ":80";
	size_t len;
	char *origin;

	if (!tls && strncmp(url, "http://", 7) != 0)
		return NULL;
	len = strcspn(host, "/");
	if (strcmp(host + len, "/") != 0 && host[len] != '\0')
		return NULL;
	origin = xasprintf("%.*s", (int)(host + len - url), url);
	if (!wire_is_host(origin + (host - url), len)) {
		free(origin);
		return NULL;
	}
	for (char *p = origin; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	len = strlen(origin);
	if (len > strlen(port) &&
	    strcmp(origin + len - strlen(port), port) == 0)
		origin[len - strlen(port)] = '\0';
	return origin;
}

/* ---- the report --------------------------------------------------------- */

/* What others wrote may be in the text: it does nothing to a terminal. */
__attribute__((format(printf, 4, 5))) static void
add(struct doctor *doctor, const char *check, const char *result,
    const char *fmt, ...)
{
	char text[TEXT_BYTES];
	json_t *advice = NULL;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	if (strcmp(result, OK) != 0)
		advice = advice_of(check);
	if (strcmp(result, FAIL) == 0)
		doctor->failed = true;
	(void)json_array_append_new(doctor->checks,
	    json_made(json_pack("{s:s, s:s, s:s, s:o*}", "check", check,
		"result", result, "text", text, "advice", advice)));
}

/* What somebody else's refusal says, where it is in our form; else "". */
static const char *
message_of(const json_t *body)
{
	const char *message = "";

	(void)!json_get_string(json_object_get(body, "error"), "message",
	    TEXT_BYTES, &message);
	return message;
}

/* ---- what has arrived --------------------------------------------------- */

/* Whether it was seen as it was sent. */
static void
check_flag(struct doctor *doctor, const json_t *seen, const char *member,
    const char *check)
{
	if (json_is_true(json_object_get(seen, member)))
		add(doctor, check, OK, "arrives");
	else
		add(doctor, check, FAIL, "does not arrive as it was sent");
}

static void
check_text(struct doctor *doctor, const json_t *seen, const char *member,
    const char *check, const char *wanted)
{
	const char *text = json_string_value(json_object_get(seen, member));

	if (text == NULL)
		add(doctor, check, FAIL, "does not arrive");
	else if (strcmp(text, wanted) != 0)
		add(doctor, check, FAIL, "%s arrives as %s", wanted, text);
	else
		add(doctor, check, OK, "%s", text);
}

/* Behind a proxy ours is another one than the site sees: then it is no fault.
 */
static void
check_address(struct doctor *doctor, const json_t *seen, const char *check,
    const char *ours)
{
	const char *text = json_string_value(json_object_get(seen, "client"));

	if (text == NULL)
		add(doctor, check, FAIL,
		    "the client's address does not arrive");
	else if (strcmp(text, ours) != 0)
		add(doctor, check, WARNING,
		    "the client seems to be %s, but this request came from %s: "
		    "that is right behind a NAT alone",
		    text, ours);
	else
		add(doctor, check, OK, "%s", text);
}

static void
check_broker(struct doctor *doctor, const json_t *seen, const char *ours)
{
	const char *origin = doctor->site->origin;
	const char *host = strchr(origin, ':') + 3;

	add(doctor, "broker", OK, "answers here");
	check_flag(doctor, seen, "authorization", "authorization");
	check_text(doctor, seen, "origin", "origin", origin);
	check_flag(doctor, seen, "cookie", "cookie");
	check_flag(doctor, seen, "query", "query");
	check_text(doctor, seen, "host", "host", host);
	check_text(doctor, seen, "scheme", "scheme",
	    host - origin == 8 ? "https" : "http");
	check_address(doctor, seen, "address", ours);
}

static void
check_tunnel(struct doctor *doctor, const json_t *seen, const char *ours)
{
	const char *origin = doctor->site->origin;

	check_flag(doctor, seen, "authorization", "websocket authorization");
	check_text(doctor, seen, "origin", "websocket origin", origin);
	check_flag(doctor, seen, "cookie", "websocket cookie");
	check_flag(doctor, seen, "subprotocol", "websocket protocol");
	check_flag(doctor, seen, "query", "websocket query");
	check_text(doctor, seen, "host", "websocket host",
	    strchr(origin, ':') + 3);
	check_address(doctor, seen, "websocket address", ours);
}

/* ---- requests ----------------------------------------------------------- */

/* What a status of somebody else's means most often. */
static const char *
hint_of(int status)
{
	if (status == 101)
		return ", from a service that is not this broker's";
	if (status >= 300 && status < 400)
		return ", a redirect: give the URL that it leads to";
	if (status == 426)
		return ": the header Upgrade does not arrive";
	if (status == 401)
		return ": does the web server want a password?";
	if (status >= 502 && status <= 504)
		return ": the web server does not reach culvert";
	return "";
}

/* Somebody else's answer, in words. */
static void
add_strange(struct doctor *doctor, const char *check, const char *path,
    int status, const json_t *body)
{
	const char *message = message_of(body);

	add(doctor, check, FAIL, "%s is answered %d%s%s%s%s", path, status,
	    hint_of(status), *message == '\0' ? "" : ", \"", message,
	    *message == '\0' ? "" : "\"");
}

/*
 * Send what a probe has, and `more', which ends with NULL.  *ret_seen is the
 * report of whoever has it, or NULL; the caller decrefs *ret_body.
 */
static enum err
ask(const struct doctor *doctor, const char *path, const char *const more[],
    struct web_answer *ret, json_t **ret_body, const json_t **ret_seen,
    struct diag *diag)
{
	const char *headers[HEADERS_MAX + 1] = { doctor->probe, doctor->origin,
		"Authorization: " PROBE_AUTHORIZATION,
		"Cookie: " PROBE_COOKIE };
	char *target = xasprintf("%s?%s", path, PROBE_QUERY);
	struct diag why;
	enum err err;

	for (size_t i = 4; i < HEADERS_MAX && *more != NULL; i++)
		headers[i] = *more++;
	err = web_get(doctor->site, target, headers, TIMEOUT_MS, ret, diag);
	free(target);
	*ret_body = NULL;
	if (err == ERR_OK)
		(void)!json_parse(ret->body, ret->len, ret_body, &why);
	*ret_seen = json_object_get(*ret_body, "probe");
	return err;
}

/* False where nothing else needs to be tried. */
static bool
try_broker(struct doctor *doctor, const char *path)
{
	static const char *const none[] = { NULL };
	struct web_answer answer;
	struct diag diag = { "" };
	const json_t *seen;
	json_t *body;
	bool ok = false;

	if (ask(doctor, path, none, &answer, &body, &seen, &diag) != ERR_OK) {
		add(doctor, "broker", FAIL, "%s", diag.text);
	} else if (seen != NULL) {
		check_broker(doctor, seen, answer.address);
		ok = true;
	} else if (answer.status == 200 &&
	    json_object_get(body, "status") != NULL) {
		add(doctor, "broker", FAIL,
		    "a broker answers here, but not the one of this control "
		    "socket; or the header " PROBE_HEADER " does not arrive");
	} else {
		add_strange(doctor, "broker", path, answer.status, body);
	}
	json_decref(body);
	web_answer_done(&answer);
	return ok;
}

static unsigned
count_events(const char *text)
{
	unsigned count = 0;

	while ((text = strstr(text, "data: ")) != NULL) {
		text++;
		count++;
	}
	return count;
}

static void
try_stream(struct doctor *doctor, const char *path)
{
	static const char accept[] = "Accept: " PROBE_STREAM_TYPE;
	const char *const headers[] = { doctor->probe, accept, NULL };
	struct web_answer answer;
	struct diag diag = { "" };
	int64_t took_ms;

	if (web_get(doctor->site, path, headers, TIMEOUT_MS, &answer, &diag) !=
	    ERR_OK) {
		add(doctor, "stream", FAIL, "%s", diag.text);
		web_answer_done(&answer);
		return;
	}
	took_ms = answer.last_ms - answer.first_ms;
	if (answer.status != 200)
		add_strange(doctor, "stream", path, answer.status, NULL);
	else if (count_events(answer.body) != PROBE_EVENTS)
		add(doctor, "stream", FAIL, "%u events arrive of %d",
		    count_events(answer.body), PROBE_EVENTS);
	else if (took_ms < STREAM_LEAST_MS)
		add(doctor, "stream", FAIL,
		    "events are held back: %d of them, sent in %d ms, arrive "
		    "within %d ms",
		    PROBE_EVENTS, STREAM_MS, (int)took_ms);
	else
		add(doctor, "stream", OK, "events arrive one by one");
	web_answer_done(&answer);
}

/* What the first one tells of its request goes for the others, too. */
static void
try_websocket(struct doctor *doctor, const char *path, bool *told)
{
	static const char *const upgrade[] = {
		"Upgrade: websocket",
		"Connection: Upgrade",
		"Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", /* RFC 6455 */
		"Sec-WebSocket-Protocol: " PROBE_SUBPROTOCOL,
		NULL,
	};
	struct web_answer answer;
	struct diag diag = { "" };
	const json_t *seen;
	json_t *body;

	if (ask(doctor, path, upgrade, &answer, &body, &seen, &diag) !=
	    ERR_OK) {
		add(doctor, "websocket", FAIL, "%s: %s", path, diag.text);
	} else if (seen == NULL) {
		add_strange(doctor, "websocket", path, answer.status, body);
	} else {
		add(doctor, "websocket", OK, "%s reaches culvert-tunnel", path);
		if (!*told)
			check_tunnel(doctor, seen, answer.address);
		*told = true;
	}
	json_decref(body);
	web_answer_done(&answer);
}

json_t *
doctor_examine(const struct web_site *site, const json_t *probe)
{
	struct doctor doctor = { .site = site, .checks = json_array() };
	const char *id = "", *base_path = "";
	const json_t *relays = json_object_get(probe, "relays");
	char *path;
	bool told = false;

	(void)!json_get_string(probe, "probe", TEXT_BYTES, &id);
	(void)!json_get_string(probe, "base_path", TEXT_BYTES, &base_path);
	doctor.probe = xasprintf("%s: %s", PROBE_HEADER, id);
	doctor.origin = xasprintf("Origin: %s", site->origin);
	path = xasprintf("%s/healthz", base_path);
	web_init();
	if (try_broker(&doctor, path)) {
		try_stream(&doctor, path);
		for (size_t i = 0; i < json_array_size(relays); i++)
			try_websocket(&doctor,
			    json_string_value(json_array_get(relays, i)),
			    &told);
	}
	free(path);
	free(doctor.probe);
	free(doctor.origin);
	return json_made(json_pack("{s:s, s:b, s:o}", "url", site->origin, "ok",
	    !doctor.failed, "checks", doctor.checks));
}

void
doctor_show(const json_t *report, FILE *out)
{
	json_t *check, *advice, *text;
	const char *server;
	size_t i;

	json_array_foreach(json_object_get(report, "checks"), i, check)
	{
		const char *result =
		    json_string_value(json_object_get(check, "result"));

		(void)fprintf(out, "%-8s%s: %s\n",
		    strcmp(result, FAIL) == 0 ? "FAIL" : result,
		    json_string_value(json_object_get(check, "check")),
		    json_string_value(json_object_get(check, "text")));
		advice = json_object_get(check, "advice");
		json_object_foreach(advice, server, text)
		{
			(void)fprintf(out, "        %s: %s\n", server,
			    json_string_value(text));
		}
	}
}
