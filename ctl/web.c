/* SPDX-License-Identifier: MIT */
#include "ctl/web.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/xalloc.h"

struct call {
	CURL *curl;
	struct web_answer *answer;
	bool switched; /* by a 101: there is no HTTP any more */
	bool too_large;
};

static size_t
take_line(char *line, size_t size, size_t count, void *arg)
{
	struct call *call = arg;
	long status = 0;

	if (*line != '\r' && *line != '\n')
		return size * count;
	(void)curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
	call->switched = status == 101;
	return call->switched ? 0 : size * count;
}

static size_t
take_piece(char *data, size_t size, size_t count, void *arg)
{
	struct call *call = arg;
	struct web_answer *answer = call->answer;
	size_t len = size * count;

	call->too_large = len > WEB_ANSWER_MAX_BYTES - answer->len;
	if (call->too_large)
		return CURL_WRITEFUNC_ERROR;
	if (answer->len == 0)
		answer->first_ms = clock_ms();
	answer->last_ms = clock_ms();
	memcpy(answer->body + answer->len, data, len);
	answer->len += len;
	return len;
}

/* The caller frees the list. */
static struct curl_slist *
add(struct curl_slist *list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(list, line);

	if (longer == NULL)
		abort(); /* out of memory */
	return longer;
}

/* Any host, at its port, by this address; NULL: by its name. */
static struct curl_slist *
format_connect(const char *address)
{
	struct curl_slist *list;
	char *line;

	if (address == NULL)
		return NULL;
	line = xasprintf(strchr(address, ':') == NULL ? "::%s:" : "::[%s]:",
	    address);
	list = add(NULL, line);
	free(line);
	return list;
}

static void
set_up(struct call *call, const struct web_site *site, const char *url,
    int64_t timeout_ms)
{
	CURL *curl = call->curl;

	(void)curl_easy_setopt(curl, CURLOPT_URL, url);
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	(void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION,
	    (long)CURL_HTTP_VERSION_1_1);
	/* as browsers do: what compresses an answer may hold it back */
	(void)curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
	(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER,
	    site->insecure ? 0L : 1L);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST,
	    site->insecure ? 0L : 2L);
	(void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_line);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, call);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_piece);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
}

static enum err
perform(struct call *call, struct diag *diag)
{
	char text[CURL_ERROR_SIZE] = "";
	struct web_answer *answer = call->answer;
	char *address = NULL;
	long status = 0;
	CURLcode rc;

	(void)curl_easy_setopt(call->curl, CURLOPT_ERRORBUFFER, text);
	rc = curl_easy_perform(call->curl);
	(void)curl_easy_setopt(call->curl, CURLOPT_ERRORBUFFER, NULL);
	(void)curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(call->curl, CURLINFO_LOCAL_IP, &address);
	answer->status = (int)status;
	(void)snprintf(answer->address, sizeof(answer->address), "%s",
	    address == NULL ? "" : address);
	if (rc == CURLE_OK || call->switched)
		return ERR_OK;
	if (call->too_large) {
		diag_set(diag, "the answer is larger than %d bytes",
		    WEB_ANSWER_MAX_BYTES);
		return ERR_LIMIT;
	}
	diag_set(diag, "%s", *text == '\0' ? curl_easy_strerror(rc) : text);
	return rc == CURLE_OPERATION_TIMEDOUT ? ERR_UPSTREAM_TIMEOUT
					      : ERR_UPSTREAM;
}

enum err
web_get(const struct web_site *site, const char *target,
    const char *const headers[], int64_t timeout_ms, struct web_answer *ret,
    struct diag *diag)
{
	struct call call = { .curl = curl_easy_init(), .answer = ret };
	struct curl_slist *connect = format_connect(site->connect);
	struct curl_slist *lines = NULL;
	char *url = xasprintf("%s%s", site->origin, target);
	enum err err;

	if (call.curl == NULL)
		abort(); /* out of memory */
	*ret = (struct web_answer){
		.body = xcalloc(1, WEB_ANSWER_MAX_BYTES + 1),
	};
	for (size_t i = 0; headers[i] != NULL; i++)
		lines = add(lines, headers[i]);
	set_up(&call, site, url, timeout_ms);
	(void)curl_easy_setopt(call.curl, CURLOPT_HTTPHEADER, lines);
	(void)curl_easy_setopt(call.curl, CURLOPT_CONNECT_TO, connect);
	err = perform(&call, diag);
	curl_easy_cleanup(call.curl);
	curl_slist_free_all(connect);
	curl_slist_free_all(lines);
	free(url);
	return err;
}

void
web_answer_done(struct web_answer *answer)
{
	free(answer->body);
	answer->body = NULL;
}

void
web_init(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		abort(); /* out of memory */
}
