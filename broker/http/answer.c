/* SPDX-License-Identifier: MIT */
#include "broker/http/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/tunnels/target.h"
#include "common/clock.h"
#include "common/http.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

/* What an answer has, unless its handler says something else. */
static const struct {
	int status; /* 0: every one */
	const char *name, *value;
} standard_headers[] = {
	{ 0, "Cache-Control", "no-store" },
	{ 0, "X-Content-Type-Options", "nosniff" },
	{ 401, "WWW-Authenticate", "Bearer" }, /* RFC 9110 15.5.2 */
	{ 429, "Retry-After", "5" },	       /* RFC 6585 4 */
	{ 503, "Retry-After", "5" },
};

void
answer_add_header(char **headers, const char *name, const char *value)
{
	char *longer;

	if (!str_is_token(name, strlen(name)) ||
	    !str_is_field_value(value, strlen(value)))
		return;
	longer = xasprintf("%s%s: %s\r\n", *headers == NULL ? "" : *headers,
	    name, value);
	free(*headers);
	*headers = longer;
}

static bool
has_header(const char *headers, const char *name)
{
	size_t len = strlen(name);

	while (headers != NULL && *headers != '\0') {
		if (strncasecmp(headers, name, len) == 0 && headers[len] == ':')
			return true;
		headers = strchr(headers, '\n') + 1;
	}
	return false;
}

char *
answer_head(int status, const char *content_type, int64_t length,
    const char *headers, size_t *ret_len)
{
	char *text;
	FILE *out = open_memstream(&text, ret_len);

	if (out == NULL)
		abort(); /* out of memory */
	(void)fprintf(out, "Status: %d %s\r\n", status, http_phrase(status));
	if (content_type != NULL)
		(void)fprintf(out, "Content-Type: %s\r\n", content_type);
	if (content_type != NULL && length >= 0)
		(void)fprintf(out, "Content-Length: %lld\r\n",
		    (long long)length);
	for (size_t i = 0;
	     i < sizeof(standard_headers) / sizeof(standard_headers[0]); i++)
		if ((standard_headers[i].status == 0 ||
			standard_headers[i].status == status) &&
		    !has_header(headers, standard_headers[i].name))
			(void)fprintf(out, "%s: %s\r\n",
			    standard_headers[i].name,
			    standard_headers[i].value);
	(void)fprintf(out, "%s\r\n", headers == NULL ? "" : headers);
	if (fclose(out) != 0)
		abort();
	return text;
}

char *
answer_words(const char *method, const char *path, const char *client)
{
	char method_word[40], path_word[200], client_word[64];

	(void)str_escape(method_word, sizeof(method_word),
	    method == NULL ? "-" : method, method == NULL ? 1 : strlen(method));
	target_describe(path == NULL ? "-" : path, path_word,
	    sizeof(path_word));
	(void)str_escape(client_word, sizeof(client_word),
	    client == NULL ? "-" : client, client == NULL ? 1 : strlen(client));
	return xasprintf("method=%s path=%s client=%s", method_word, path_word,
	    client_word);
}

void
answer_log(const char *words, int status, int64_t started_ms,
    enum answer_end end)
{
	long long ms = (long long)(clock_ms() - started_ms);

	if (end == ANSWER_NOT_TAKEN)
		log_info("request.unanswered", "%s status=%d ms=%lld", words,
		    status, ms);
	else if (end == ANSWER_LEFT)
		log_debug("request.left", "%s status=%d ms=%lld", words, status,
		    ms);
	else
		log_debug("request.end", "%s status=%d ms=%lld", words, status,
		    ms);
}
