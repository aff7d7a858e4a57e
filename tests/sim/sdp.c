/* SPDX-License-Identifier: MIT */
#include "sdp.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/crypt.h"

/* What describes the offerer's own ways and streams. */
static const char *const dropped[] = { "a=candidate:", "a=end-of-candidates",
	"a=ssrc:", "a=ssrc-group:", "a=msid:", "a=rid:", "a=simulcast:" };

#define DROPPED (sizeof(dropped) / sizeof(*dropped))

/* Who we pretend to be: the same in every section, as they are bundled. */
struct identity {
	char origin[20], ufrag[9], pwd[33], fingerprint[96];
};

static void
identity_init(struct identity *id)
{
	uint8_t random[32];
	uint64_t number = 0;

	crypt_random(&number, sizeof(number));
	snprintf(id->origin, sizeof(id->origin), "%llu",
	    (unsigned long long)(number >> 2));
	crypt_random_hex(id->ufrag, 4);
	crypt_random_hex(id->pwd, 16);
	crypt_random(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(id->fingerprint + i * 3, 4, "%02X%s", random[i],
		    i + 1 < sizeof(random) ? ":" : "");
}

static bool
begins(const char *line, size_t len, const char *with)
{
	size_t n = strlen(with);

	return len >= n && memcmp(line, with, n) == 0;
}

static bool
is(const char *line, size_t len, const char *text)
{
	return len == strlen(text) && begins(line, len, text);
}

static void
answer_line(FILE *f, const struct identity *id, const char *line, size_t len)
{
	for (size_t i = 0; i < DROPPED; i++)
		if (begins(line, len, dropped[i]))
			return;
	if (begins(line, len, "o="))
		fprintf(f, "o=- %s 2 IN IP4 127.0.0.1", id->origin);
	else if (begins(line, len, "a=setup:"))
		fputs("a=setup:active", f);
	else if (begins(line, len, "a=ice-ufrag:"))
		fprintf(f, "a=ice-ufrag:%s", id->ufrag);
	else if (begins(line, len, "a=ice-pwd:"))
		fprintf(f, "a=ice-pwd:%s", id->pwd);
	else if (begins(line, len, "a=fingerprint:"))
		fprintf(f, "a=fingerprint:sha-256 %s", id->fingerprint);
	else if (is(line, len, "a=recvonly"))
		fputs("a=sendonly", f);
	else if (is(line, len, "a=sendonly"))
		fputs("a=recvonly", f);
	else
		fwrite(line, 1, len, f);
	fputs("\r\n", f);
}

char *
sdp_answer(const char *offer, size_t len)
{
	struct identity id;
	const char *p = offer, *end = offer + len;
	char *text = NULL;
	size_t size = 0;
	FILE *f;

	if (len > SDP_MAX || !begins(offer, len, "v=0") ||
	    memmem(offer, len, "\nm=", 3) == NULL ||
	    memmem(offer, len, "\na=ice-ufrag:", 13) == NULL ||
	    memchr(offer, '\0', len) != NULL ||
	    (f = open_memstream(&text, &size)) == NULL)
		return NULL;
	identity_init(&id);
	while (p < end) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		const char *next = eol == NULL ? end : eol + 1;
		size_t n = (size_t)((eol == NULL ? end : eol) - p);

		if (n > 0 && p[n - 1] == '\r')
			n--;
		if (n > 0)
			answer_line(f, &id, p, n);
		p = next;
	}
	fclose(f);
	return text;
}
