/* SPDX-License-Identifier: MIT */
#include "broker/http/probes.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "common/clock.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/probe.h"
#include "common/str.h"

static struct {
	pthread_mutex_t lock;
	struct {
		char id[PROBES_ID_BYTES]; /* "": none */
		int64_t until_ms;
	} ids[PROBES_MAX];
	size_t next; /* the oldest */
} probes = { .lock = PTHREAD_MUTEX_INITIALIZER };

void
probes_make(char out[PROBES_ID_BYTES])
{
	crypt_random_hex(out, (PROBES_ID_BYTES - 1) / 2);
	(void)pthread_mutex_lock(&probes.lock);
	(void)strcpy(probes.ids[probes.next].id, out);
	probes.ids[probes.next].until_ms = clock_ms() + PROBE_S * 1000;
	probes.next = (probes.next + 1) % PROBES_MAX;
	(void)pthread_mutex_unlock(&probes.lock);
}

bool
probes_is_good(const char *id)
{
	int64_t now = clock_ms();
	bool good = false;

	if (id == NULL || strlen(id) != PROBES_ID_BYTES - 1)
		return false;
	(void)pthread_mutex_lock(&probes.lock);
	for (size_t i = 0; i < PROBES_MAX; i++)
		if (now < probes.ids[i].until_ms &&
		    strcmp(probes.ids[i].id, id) == 0)
			good = true;
	(void)pthread_mutex_unlock(&probes.lock);
	return good;
}

/* A text of a peer's, in ASCII; null where there is none. */
static json_t *
text_of(const char *text)
{
	char word[512];

	if (text == NULL)
		return json_null();
	return json_string(str_escape(word, sizeof(word), text, strlen(text)));
}

static bool
is(const char *text, const char *wanted)
{
	return text != NULL && strcmp(text, wanted) == 0;
}

static bool
has(const char *text, const char *wanted)
{
	return text != NULL && strstr(text, wanted) != NULL;
}

json_t *
probes_report(const struct probes_request *request)
{
	return json_made(
	    json_pack("{s:{s:s, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:b}}",
		"probe", "at", request->at, "client", text_of(request->client),
		"scheme", text_of(request->scheme), "host",
		text_of(request->host), "origin", text_of(request->origin),
		"authorization",
		is(request->authorization, PROBE_AUTHORIZATION), "cookie",
		has(request->cookie, PROBE_COOKIE), "subprotocol",
		has(request->subprotocol, PROBE_SUBPROTOCOL), "query",
		request->query));
}
