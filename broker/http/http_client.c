/* SPDX-License-Identifier: MIT */
#include "broker/http/http_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/tunnels/resolver.h"
#include "common/clock.h"
#include "common/xalloc.h"

/* One call: what the callbacks of libcurl fill in. */
struct call {
	const struct http_client_request *request;
	struct http_client_answer *answer;
	size_t size; /* of answer->body */
	bool too_large;
	bool refused; /* an address was, because it is not public */
	char address[INET6_ADDRSTRLEN];
};

/* ---- callbacks ----------------------------------------------------------- */

/* Double the memory; what was there is cleared, it may be a token. */
static void
grow(struct call *call, size_t needed)
{
	struct http_client_answer *answer = call->answer;
	size_t size = call->size == 0 ? 1024 : call->size;
	char *body;

	while (size < needed)
		size *= 2;
	body = xcalloc(1, size);
	if (answer->body != NULL) {
		memcpy(body, answer->body, answer->body_len);
		explicit_bzero(answer->body, answer->body_len);
		free(answer->body);
	}
	answer->body = body;
	call->size = size;
}

static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
	struct call *call = arg;
	struct http_client_answer *answer = call->answer;
	size_t len = size * count;

	if (len > call->request->max_bytes - answer->body_len) {
		call->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (answer->body_len + len + 1 > call->size)
		grow(call, answer->body_len + len + 1);
	memcpy(answer->body + answer->body_len, data, len);
	answer->body_len += len;
	answer->body[answer->body_len] = '\0';
	return len;
}

static bool
is_public(struct call *call, const struct curl_sockaddr *to)
{
	const void *addr = &to->addr, *in = NULL;

	if (to->family == AF_INET)
		in = &((const struct sockaddr_in *)addr)->sin_addr;
	else if (to->family == AF_INET6)
		in = &((const struct sockaddr_in6 *)addr)->sin6_addr;
	return in != NULL &&
	    inet_ntop(to->family, in, call->address, sizeof(call->address)) !=
	    NULL &&
	    resolver_is_public(call->address);
}

/* The address that is dialled is the one that is checked: no second lookup. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct call *call = arg;

	(void)purpose;
	if (!call->request->allow_private && !is_public(call, to)) {
		call->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ---- one request --------------------------------------------------------- */

/* The caller frees the list, whose texts may be secrets. */
static struct curl_slist *
format_headers(const struct http_client_request *request)
{
	struct curl_slist *list = NULL;

	for (size_t i = 0; i < request->header_count; i++) {
		const struct http_client_header *h = &request->headers[i];
		char *line = xasprintf("%s: %s%s", h->name, h->value,
		    h->secret == NULL ? "" : secret_peek(h->secret, NULL));
		struct curl_slist *longer = curl_slist_append(list, line);

		explicit_bzero(line, strlen(line));
		free(line);
		if (longer == NULL)
			abort(); /* out of memory */
		list = longer;
	}
	return list;
}

static void
free_headers(struct curl_slist *list)
{
	for (struct curl_slist *item = list; item != NULL; item = item->next)
		explicit_bzero(item->data, strlen(item->data));
	curl_slist_free_all(list);
}

/* What does not depend on the request. */
static void
set_rules(CURL *curl, struct call *call)
{
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	(void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
	(void)curl_easy_setopt(curl, CURLOPT_SSLVERSION,
	    (long)CURL_SSLVERSION_TLSv1_2);
	(void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION,
	    (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
	/* a lookup that hangs must not outlast the deadline */
	(void)curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
	(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	(void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, call);
}

/* ERR_SYS where this libcurl cannot do what the request asks for. */
static enum err
set_request(CURL *curl, const struct http_client_request *request,
    struct curl_slist *headers, struct diag *diag)
{
	CURLcode rc = curl_easy_setopt(curl, CURLOPT_URL, request->url);

	if (rc == CURLE_OK && strcmp(request->method, "GET") != 0) {
		(void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)request->body_len);
		rc = curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
		    request->body == NULL ? "" : request->body);
	}
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST,
		    request->method);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	if (rc == CURLE_OK && request->ca_file != NULL) {
		(void)curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
		rc = curl_easy_setopt(curl, CURLOPT_CAINFO, request->ca_file);
	}
	if (rc == CURLE_OK)
		return ERR_OK;
	diag_set(diag, "the request cannot be made: %s",
	    curl_easy_strerror(rc));
	return ERR_SYS;
}

static char *
copy_header(CURL *curl, const char *name)
{
	struct curl_header *header;

	if (curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &header) !=
	    CURLHE_OK)
		return NULL;
	return xstrdup(header->value);
}

static void
take_head(CURL *curl, struct call *call)
{
	struct http_client_answer *answer = call->answer;
	long status = 0;

	(void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int)status;
	answer->content_type = copy_header(curl, "Content-Type");
	if (answer->content_type == NULL)
		answer->content_type = xstrdup("");
	answer->location = copy_header(curl, "Location");
	answer->retry_after = copy_header(curl, "Retry-After");
	if (answer->body == NULL)
		answer->body = xstrdup("");
}

/* What a failed transfer means; libcurl's own words hold no content. */
static enum err
explain(const struct call *call, CURLcode rc, const char *text,
    struct diag *diag)
{
	if (call->too_large) {
		diag_set(diag, "the answer is larger than %zu bytes",
		    call->request->max_bytes);
		return ERR_LIMIT;
	}
	if (call->refused) {
		diag_set(diag,
		    "the host has the address %s, which is not public: set "
		    "allow_private to dial it",
		    call->address);
		return ERR_UPSTREAM;
	}
	diag_set(diag, "%s", *text != '\0' ? text : curl_easy_strerror(rc));
	return rc == CURLE_OPERATION_TIMEDOUT ? ERR_UPSTREAM_TIMEOUT
					      : ERR_UPSTREAM;
}

static enum err
perform(CURL *curl, struct call *call, struct diag *diag)
{
	int64_t left_ms = call->request->deadline_ms - clock_ms();
	char text[CURL_ERROR_SIZE] = "";
	CURLcode rc;

	if (left_ms <= 0) {
		diag_set(diag, "there was no time left for the request");
		return ERR_UPSTREAM_TIMEOUT;
	}
	(void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)left_ms);
	(void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, text);
	rc = curl_easy_perform(curl);
	if (rc != CURLE_OK)
		return explain(call, rc, text, diag);
	take_head(curl, call);
	return ERR_OK;
}

enum err
http_client_send(const struct http_client_request *request,
    struct http_client_answer *ret, struct diag *diag)
{
	struct http_client_answer answer = { .body = NULL };
	struct call call = { .request = request, .answer = &answer };
	struct curl_slist *headers = format_headers(request);
	CURL *curl = curl_easy_init();
	enum err err;

	if (curl == NULL)
		abort(); /* out of memory */
	set_rules(curl, &call);
	err = set_request(curl, request, headers, diag);
	if (err == ERR_OK)
		err = perform(curl, &call, diag);
	curl_easy_cleanup(curl);
	free_headers(headers);
	if (err == ERR_OK)
		*ret = answer;
	else
		http_client_answer_done(&answer);
	return err;
}

void
http_client_answer_done(struct http_client_answer *answer)
{
	if (answer->body != NULL)
		explicit_bzero(answer->body, answer->body_len);
	free(answer->body);
	free(answer->content_type);
	free(answer->location);
	free(answer->retry_after);
	*answer = (struct http_client_answer){ .body = NULL };
}

/* ---- once in a process --------------------------------------------------- */

/* libcurl's own copies of keys and tokens do not stay in memory. */
static void
clear_and_free(void *p)
{
	if (p != NULL)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static void *
clear_and_realloc(void *p, size_t size)
{
	size_t old = p == NULL ? 0 : malloc_usable_size(p);
	void *new = malloc(size);

	if (new == NULL)
		return NULL;
	if (p != NULL)
		memcpy(new, p, old < size ? old : size);
	clear_and_free(p);
	return new;
}

enum err
http_client_init(struct diag *diag)
{
	CURLcode rc = curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc,
	    clear_and_free, clear_and_realloc, strdup, calloc);

	if (rc == CURLE_OK)
		return ERR_OK;
	diag_set(diag, "libcurl cannot be initialised: %s",
	    curl_easy_strerror(rc));
	return ERR_SYS;
}

void
http_client_done(void)
{
	curl_global_cleanup();
}
