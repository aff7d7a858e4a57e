/* SPDX-License-Identifier: MIT */
#include "broker/livekit/livekit.h"

#include <stdlib.h>
#include <string.h>

#include "broker/limits/admission.h"
#include "broker/livekit/livekit_token.h"
#include "broker/users/identity.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"

#define TOKEN_PATH "/api/livekit/token"

/* The template that the path names; NULL where there is none. */
static const struct config_token *
find_template(struct request *req)
{
	const char *path = request_path(req);
	const struct config *config = request_config(req);

	if (config->livekit == NULL ||
	    strncmp(path, TOKEN_PATH, strlen(TOKEN_PATH)) != 0)
		return NULL;
	path += strlen(TOKEN_PATH);
	if (*path == '\0')
		return config_find_token(config, "default");
	if (path[0] != '/' || path[1] == '\0')
		return NULL;
	return config_find_token(config, path + 1);
}

static const char *
escape_client(const struct request *req, char *out, size_t size)
{
	const char *client = request_client(req);

	return str_escape(out, size, client == NULL ? "-" : client,
	    client == NULL ? 1 : strlen(client));
}

static void
log_token(const struct request *req, const char *user,
    const struct livekit_token *token, const struct config_token *template)
{
	char client[64], word[2 * IDENTITY_USER_MAX], identity[128], room[128];
	const char *name = token->room == NULL ? "" : token->room;

	if (user == NULL)
		user = "-";
	log_info("livekit.token",
	    "client=%s identity=%s room=%s template=%s user=%s",
	    escape_client(req, client, sizeof(client)),
	    str_escape(identity, sizeof(identity), token->identity,
		strlen(token->identity)),
	    str_escape(room, sizeof(room), name, strlen(name)), template->name,
	    str_escape(word, sizeof(word), user, strlen(user)));
}

static void
reply(struct request *req, const struct config_livekit *livekit,
    const struct livekit_token *token, const char *text)
{
	if (token->seed)
		request_reply_json(req, 200, json_pack("{s:s}", "token", text));
	else
		request_reply_json(req, 201,
		    json_pack("{s:s, s:s}", "server_url", livekit->url,
			"participant_token", text));
}

/*
 * Our own failures are for the log; the client's are for the client, and for
 * the log where it may be the template that is wrong.
 */
static void
refuse(struct request *req, const struct config_token *template, enum err err,
    const struct diag *diag)
{
	static struct log_limit denied = LOG_LIMIT_A_MINUTE;
	char client[64];

	if (err_http_status(err) >= 500) {
		log_error("livekit.failed", "reason=\"%s\"", diag->text);
		request_reply_error(req, err, err_text(err));
		return;
	}
	if (err == ERR_DENIED || err == ERR_UNAUTH)
		log_limited(&denied, LOG_LEVEL_INFO, "livekit.denied",
		    "client=%s template=%s reason=\"%s\"",
		    escape_client(req, client, sizeof(client)), template->name,
		    diag->text);
	request_reply_error(req, err, diag->text);
}

static void
answer(struct request *req, const struct config_token *template,
    const char *user, const json_t *body)
{
	const struct config_livekit *livekit = request_config(req)->livekit;
	struct livekit_token token;
	struct diag diag = { "" };
	char *text;
	enum err err;

	err = livekit_token_make(livekit, template, body, clock_unix(), &token,
	    &diag);
	if (err != ERR_OK) {
		refuse(req, template, err, &diag);
		return;
	}
	err = livekit_token_sign(livekit, &token, &text, &diag);
	if (err == ERR_OK) {
		log_token(req, user, &token, template);
		reply(req, livekit, &token, text);
		explicit_bzero(text, strlen(text));
		free(text);
	} else {
		refuse(req, template, err, &diag);
	}
	livekit_token_done(&token);
}

/* Who asks, where the section serves him. */
static enum err
find_user(struct request *req, struct identity *ret, struct diag *diag)
{
	enum err err = identity_of_request(req,
	    IDENTITY_BEARER | IDENTITY_COOKIE | IDENTITY_ANON_ID, "livekit",
	    ret, diag);

	if (err != ERR_OK)
		return err;
	err = identity_check_required(ret,
	    request_config(req)->livekit->require_user, diag);
	if (err != ERR_OK)
		identity_done(ret);
	return err;
}

/* Whether he is within his limits; or it is answered. */
static bool
is_within_limits(struct request *req, const struct identity *who)
{
	const struct subjects_request subject = {
		.user = who->user,
		.plan = who->plan,
		.anon_id = who->anon_id,
		.route = "livekit",
		.route_plan = request_config(req)->livekit->plan,
	};

	return admission_admits(req, &subject);
}

void
livekit_token_handle(struct request *req)
{
	const struct config_token *template = find_template(req);
	const json_t *body = NULL;
	struct diag diag = { "" };
	struct identity who;
	enum err err;

	if (template == NULL) {
		request_reply_error(req, ERR_NOTFOUND,
		    "there is no such LiveKit token template");
		return;
	}
	err = find_user(req, &who, &diag);
	if (err != ERR_OK) {
		refuse(req, template, err, &diag);
		return;
	}
	if (is_within_limits(req, &who)) {
		err = request_json(req, &body, &diag);
		if (err == ERR_OK)
			answer(req, template, who.user, body);
		else
			refuse(req, template, err, &diag);
	}
	identity_done(&who);
}
