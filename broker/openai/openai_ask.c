/* SPDX-License-Identifier: MIT */
#include "broker/openai/openai_ask.h"

#include <stdlib.h>
#include <string.h>

#include "broker/limits/admission.h"
#include "broker/openai/session_rules.h"
#include "broker/tunnels/target.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

/* ---- answers ---- */

/* By the code, for want of a status: those of 500 and more are ours. */
static const char *
error_type(const char *code)
{
	static const enum err ours[] = { ERR_SYS, ERR_UPSTREAM, ERR_UNAVAIL,
		ERR_UPSTREAM_TIMEOUT };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (strcmp(code, err_code(ours[i])) == 0)
			return "server_error";
	return strcmp(code, err_code(ERR_RATE)) == 0 ? "rate_limit_error"
						     : "invalid_request_error";
}

static json_t *
format_error(const char *code, const char *message, const char *param)
{
	return json_made(
	    json_pack("{s:{s:s, s:s, s:s?, s:s}}", "error", "message", message,
		"type", error_type(code), "param", param, "code", code));
}

json_t *
openai_ask_error_form(const char *code, const char *message)
{
	return format_error(code, message, NULL);
}

const char *
openai_ask_client(const struct request *req, char *out, size_t size)
{
	const char *client = request_client(req);

	if (client == NULL)
		client = "-";
	return str_escape(out, size, client, strlen(client));
}

static void
log_denied(const struct request *req, const struct config_relay *relay,
    const char *reason)
{
	static struct log_limit denied = LOG_LIMIT_A_MINUTE;
	char client[64];

	log_limited(&denied, LOG_LEVEL_INFO, "openai.denied",
	    "client=%s route=%s reason=\"%s\"",
	    openai_ask_client(req, client, sizeof(client)), relay->name,
	    reason);
}

void
openai_ask_refuse_param(struct request *req, const struct config_relay *relay,
    enum err err, const char *code, const char *param, const char *message)
{
	if (err == ERR_DENIED)
		log_denied(req, relay, message);
	request_reply_json(req, err_http_status(err),
	    format_error(code, message, param));
}

void
openai_ask_refuse(struct request *req, const struct config_relay *relay,
    enum err err, const struct diag *diag)
{
	bool ours = err_http_status(err) >= 500;

	if (ours)
		log_error("openai.failed", "route=%s reason=\"%s\"",
		    relay->name, diag->text);
	else if (err == ERR_DENIED || err == ERR_UNAUTH)
		log_denied(req, relay, diag->text);
	request_reply_error(req, err,
	    ours || diag->text[0] == '\0' ? err_text(err) : diag->text);
}

/* ---- what is asked for ---- */

const struct config_relay *
openai_ask_relay(struct request *req)
{
	const struct config_relay *relay;
	const char *name;
	struct diag diag = { "" };
	enum err err = request_query(req, "route", &name, &diag);

	if (err != ERR_OK) {
		request_reply_error(req, err, diag.text);
		return NULL;
	}
	relay = config_find_relay_by_name(request_config(req),
	    name == NULL ? "openai" : name);
	if (relay == NULL)
		request_reply_error(req, ERR_NOTFOUND, NULL);
	return relay;
}

bool
openai_ask_identity(struct request *req, const struct config_relay *relay,
    struct identity *ret)
{
	struct diag diag = { "" };
	enum err err = identity_of_request(req,
	    IDENTITY_BEARER | IDENTITY_COOKIE | IDENTITY_VENDOR_KEYS |
		IDENTITY_ANON_ID,
	    relay->name, ret, &diag);

	struct subjects_request who = {
		.route = relay->name,
		.route_plan = relay->plan,
	};

	if (err != ERR_OK) {
		openai_ask_refuse(req, relay, err, &diag);
		return false;
	}
	who.user = ret->user;
	who.plan = ret->plan;
	who.anon_id = ret->anon_id;
	err = identity_check_required(ret, relay->require_user, &diag);
	if (err != ERR_OK)
		openai_ask_refuse(req, relay, err, &diag);
	else if (admission_admits(req, &who))
		return true;
	identity_done(ret);
	return false;
}

/* What the relay's rules make of a model, or of none. */
static enum err
choose_model(const struct config_relay *relay, const char *asked, char **ret,
    struct diag *diag)
{
	struct target *target;
	const char *model;
	enum err err = target_parse("/", &target, diag);

	if (err != ERR_OK)
		return err;
	err = target_set(target, "model", asked, diag);
	if (err == ERR_OK)
		err = target_value(target, relay, "model", &model, diag);
	if (err == ERR_OK && model != NULL)
		*ret = xstrdup(model);
	target_free(target);
	return err;
}

/* Fill in the models; the session's own has to be the one that is served. */
static bool
take_model(struct request *req, const struct config_relay *relay,
    const char *model, struct openai_session *ret)
{
	json_t *own = json_object_get(ret->members, "model");
	struct diag diag;

	if (model == NULL)
		model = json_string_value(own);
	if (own != NULL &&
	    (!json_is_string(own) ||
		!str_is_field_value(json_string_value(own),
		    json_string_length(own)))) {
		openai_ask_refuse_param(req, relay, ERR_PROTO, "invalid_type",
		    "session.model", "The model is no name of one.");
		return false;
	}
	if (choose_model(relay, model, &ret->served, &diag) != ERR_OK) {
		openai_ask_refuse_param(req, relay, ERR_DENIED, "not_allowed",
		    own == NULL ? "model" : "session.model",
		    "This site does not serve this model.");
		return false;
	}
	if (model != NULL)
		ret->model = xstrdup(model);
	if (own != NULL && ret->served != NULL)
		(void)json_object_set_new(ret->members, "model",
		    json_made(json_string(ret->served)));
	return true;
}

bool
openai_ask_session(struct request *req, const struct config_relay *relay,
    const json_t *session, const char *model, struct openai_session *ret)
{
	struct openai_session made = { .members = NULL };
	struct pin_refusal refusal;
	enum err err;

	if (session != NULL && !json_is_object(session)) {
		openai_ask_refuse_param(req, relay, ERR_PROTO, "invalid_type",
		    "session", "The session has to be an object.");
		return false;
	}
	if (session != NULL)
		made.members = json_made(json_deep_copy(session));
	if (!take_model(req, relay, model, &made)) {
		openai_session_done(&made);
		return false;
	}
	err = session == NULL
	    ? ERR_OK
	    : session_rules_check(relay, made.served, made.members, &refusal);
	if (err != ERR_OK) {
		openai_ask_refuse_param(req, relay, err, refusal.code,
		    refusal.param, refusal.message);
		openai_session_done(&made);
		return false;
	}
	if (session != NULL)
		(void)json_object_del(made.members, "model");
	*ret = made;
	return true;
}

bool
openai_ask_fits(struct request *req, const struct config_relay *relay,
    const struct openai_session *session)
{
	json_t *merged;

	if (session_rules_merge(relay, session->members, NULL, &merged) ==
	    ERR_OK) {
		json_decref(merged);
		return true;
	}
	openai_ask_refuse_param(req, relay, ERR_LIMIT, err_code(ERR_LIMIT),
	    "session", "The session is too large for this site.");
	return false;
}

void
openai_session_done(struct openai_session *session)
{
	json_decref(session->members);
	free(session->model);
	free(session->served);
	*session = (struct openai_session){ .members = NULL };
}
