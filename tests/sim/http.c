/* SPDX-License-Identifier: MIT */
#include "http.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"

#define TIMEOUT_S 60
#define HEAD_MAX  (64 * 1024)

struct http {
	const struct options *options;
	struct journal *journal;
	struct MHD_Daemon *daemon;
};

/* One request: the head again as text, as the journal reads it. */
struct exchange {
	char *target;
	struct request *request;
	struct record *record;
};

/* ---- answers ---- */

static enum MHD_Result
answer(struct MHD_Connection *connection, struct exchange *x, unsigned status,
    const char *type, char *text, size_t len)
{
	struct MHD_Response *response =
	    MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
	if (x->record != NULL)
		record_status(x->record, (int)status);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
answer_json(struct MHD_Connection *connection, struct exchange *x,
    unsigned status, json_t *value)
{
	size_t len = 0;
	char *text = json_text(value, &len);

	json_decref(value);
	return answer(connection, x, status, "application/json", text, len);
}

static enum MHD_Result
answer_error(struct MHD_Connection *connection, struct exchange *x,
    unsigned status, const char *code, const char *message)
{
	return answer_json(connection, x, status,
	    json_pack("{s:{s:s, s:s, s:n, s:s}}", "error", "message", message,
		"type", "invalid_request_error", "param", "code", code));
}

static enum MHD_Result
answer_text(struct MHD_Connection *connection, struct exchange *x,
    unsigned status, const char *text)
{
	return answer(connection, x, status, "text/plain", xstrdup(text),
	    strlen(text));
}

/* ---- what there is ---- */

static enum MHD_Result
get_models(struct http *http, struct MHD_Connection *connection,
    struct exchange *x)
{
	json_t *data = json_array();
	size_t len = 0;
	const char *key = request_key(x->request, &len);

	if (!options_key_is_good(http->options, key, len)) {
		json_decref(data);
		return answer_error(connection, x, 401, "invalid_api_key",
		    "Incorrect API key provided. You can find your API key at "
		    "https://platform.openai.com/account/api-keys.");
	}
	for (size_t i = 0; i < http->options->models.count; i++) {
		const char *name = http->options->models.items[i];

		if (strchr(name, '*') == NULL)
			json_array_append_new(data,
			    json_pack("{s:s, s:s, s:i, s:s}", "id", name,
				"object", "model", "created", 1756310470,
				"owned_by", "system"));
	}
	return answer_json(connection, x, 200,
	    json_pack("{s:s, s:o}", "object", "list", "data", data));
}

static enum err
check_token(struct http *http, const char *token, json_t **ret,
    struct diag *diag)
{
	struct jwt_policy policy = { .alg = "HS256", .leeway_s = 10 };
	struct crypt_key *key = NULL;
	enum err err;

	if (token == NULL || http->options->livekit_secret == NULL) {
		diag_set(diag, "no token, or no SIM_LIVEKIT_SECRET");
		return ERR_UNAUTH;
	}
	policy.issuer = http->options->livekit_key;
	policy.now = clock_unix();
	err = crypt_key_from_short_secret(http->options->livekit_secret, 1,
	    &key, diag);
	if (err == ERR_OK)
		err = jwt_verify(token, strlen(token), key, &policy, ret, diag);
	crypt_key_free(key);
	return err;
}

static enum MHD_Result
get_validate(struct http *http, struct MHD_Connection *connection,
    struct exchange *x)
{
	struct diag diag = { "" };
	json_t *claims = NULL;
	bool join = false;
	size_t len = 0;
	const char *token = request_query(x->request, "access_token");

	if (token == NULL)
		token = request_key(x->request, &len);
	if (check_token(http, token, &claims, &diag) != ERR_OK)
		return answer_text(connection, x, 401, diag.text);
	join = json_is_true(
	    json_object_get(json_object_get(claims, "video"), "roomJoin"));
	json_decref(claims);
	return join ? answer_text(connection, x, 200, "success")
		    : answer_text(connection, x, 401, "permissions denied");
}

static enum MHD_Result
route(struct http *http, struct MHD_Connection *connection, struct exchange *x)
{
	const char *path = request_path(x->request);
	const char *method = request_method(x->request);
	bool get = strcmp(method, "GET") == 0;

	if (strcmp(path, "/sim/journal") == 0 && get)
		return answer_json(connection, x, 200,
		    journal_json(http->journal));
	if (strcmp(path, "/sim/reset") == 0 && strcmp(method, "POST") == 0) {
		journal_reset(http->journal);
		return answer_json(connection, x, 200, json_object());
	}
	if (strcmp(path, "/v1/models") == 0 && get)
		return get_models(http, connection, x);
	if (strcmp(path, "/rtc/validate") == 0 && get)
		return get_validate(http, connection, x);
	return answer_error(connection, x, 404, "unknown_url",
	    "There is no such URL in the simulator.");
}

/* ---- libmicrohttpd ---- */

static enum MHD_Result
add_header(void *arg, enum MHD_ValueKind kind, const char *name,
    const char *value)
{
	(void)kind;
	fprintf(arg, "%s: %s\r\n", name, value == NULL ? "" : value);
	return MHD_YES;
}

static enum err
read_head(struct MHD_Connection *connection, const char *method,
    struct exchange *x)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	enum err err;

	if (f == NULL)
		return ERR_SYS;
	fprintf(f, "%s %s HTTP/1.1\r\n", method, x->target);
	MHD_get_connection_values(connection, MHD_HEADER_KIND, add_header, f);
	fclose(f);
	err = request_parse(text, len, &x->request);
	free(text);
	return err;
}

static void *
on_target(void *arg, const char *target, struct MHD_Connection *connection)
{
	struct exchange *x = xcalloc(1, sizeof(*x));

	(void)arg, (void)connection;
	x->target = xstrdup(target);
	return x;
}

static enum MHD_Result
on_request(void *arg, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *upload,
    size_t *upload_len, void **state)
{
	struct http *http = arg;
	struct exchange *x = *state;

	(void)version, (void)upload;
	if (x->request == NULL) {
		if (read_head(connection, method, x) != ERR_OK)
			return MHD_NO;
		if (strncmp(url, "/sim/", 5) != 0)
			x->record =
			    journal_note(http->journal, x->request, false);
		return MHD_YES;
	}
	if (*upload_len > 0) { /* no body matters here */
		*upload_len = 0;
		return MHD_YES;
	}
	return route(http, connection, x);
}

static void
on_done(void *arg, struct MHD_Connection *connection, void **state,
    enum MHD_RequestTerminationCode why)
{
	struct exchange *x = *state;

	(void)arg, (void)connection, (void)why;
	if (x == NULL)
		return;
	record_end(x->record);
	request_free(x->request);
	free(x->target);
	free(x);
	*state = NULL;
}

enum err
http_new(const struct options *options, struct journal *journal,
    struct http **ret, struct diag *diag)
{
	struct http *http = xcalloc(1, sizeof(*http));

	http->options = options;
	http->journal = journal;
	http->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD |
		MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC,
	    0, NULL, NULL, on_request, http, MHD_OPTION_CONNECTION_TIMEOUT,
	    (unsigned)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)HEAD_MAX, MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
	    MHD_OPTION_NOTIFY_COMPLETED, on_done, NULL, MHD_OPTION_END);
	if (http->daemon == NULL) {
		diag_set(diag, "libmicrohttpd does not start");
		free(http);
		return ERR_SYS;
	}
	*ret = http;
	return ERR_OK;
}

void
http_free(struct http *http)
{
	if (http == NULL)
		return;
	MHD_stop_daemon(http->daemon);
	free(http);
}

void
http_adopt(struct http *http, int fd)
{
	struct sockaddr_storage addr = { 0 };
	socklen_t len = sizeof(addr);

	/* It closes the socket itself where it cannot take it. */
	if (getpeername(fd, (struct sockaddr *)&addr, &len) != 0)
		close(fd);
	else
		(void)MHD_add_connection(http->daemon, fd,
		    (struct sockaddr *)&addr, len);
}
