/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/anam/anam_refuse.h"
#include "broker/limits/admission.h"
#include "broker/signing_key.h"
#include "broker/store/store.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define PERSONA_BYTES 128

const struct config_anam *
anam_request_find(struct request *req)
{
	const struct config_anam *anam = request_config(req)->anam;
	struct diag diag = { "" };

	if (anam == NULL) {
		request_reply_error(req, ERR_NOTFOUND,
		    "Anam is not configured here");
		return NULL;
	}
	if (store_current() == NULL || !signing_key_is_there()) {
		diag_set(&diag,
		    "the store is not open: the section anam needs one, and a "
		    "restart where that is new");
		anam_refuse(req, ERR_UNAVAIL, &diag);
		return NULL;
	}
	return anam;
}

bool
anam_request_identify(struct request *req, const struct config_anam *anam,
    struct identity *ret)
{
	struct subjects_request who = {
		.route = "anam",
		.route_plan = anam->plan,
	};
	struct diag diag = { "" };
	enum err err = identity_of_request(req,
	    IDENTITY_BEARER | IDENTITY_COOKIE | IDENTITY_VENDOR_KEYS |
		IDENTITY_ANON_ID,
	    "anam", ret, &diag);

	if (err != ERR_OK) {
		anam_refuse(req, err, &diag);
		return false;
	}
	who.user = ret->user;
	who.plan = ret->plan;
	who.anon_id = ret->anon_id;
	err = identity_check_required(ret, anam->require_user, &diag);
	if (err != ERR_OK)
		anam_refuse(req, err, &diag);
	else if (admission_admits(req, &who))
		return true;
	identity_done(ret);
	return false;
}

enum err
anam_request_body(struct request *req, json_t **ret, struct diag *diag)
{
	static const char *const types[] = { "application/json", "text/plain",
		NULL };
	const char *data, *type;
	json_t *body = NULL;
	size_t len;
	enum err err = request_body(req, types,
	    (size_t)request_config(req)->requests.body_bytes, &data, &len,
	    &type, diag);

	if (err == ERR_OK)
		err = json_parse(data, len, &body, diag);
	if (err == ERR_OK && !json_is_object(body)) {
		diag_set(diag, "the body is not a JSON object");
		err = ERR_PROTO;
	}
	if (err == ERR_OK)
		*ret = body;
	else
		json_decref(body);
	return err;
}

/* Whether a URL is this scheme and host, prefix and path. */
static bool
is_url_of(const char *url, const char *base, const char *prefix,
    const char *path)
{
	char *text = xasprintf("%s%s%s", base, prefix, path);
	bool is = strcasecmp(url, text) == 0;

	free(text);
	return is;
}

enum err
anam_request_check_target(struct request *req, const struct config_anam *anam,
    struct diag *diag)
{
	const char *url = request_header(req, ANAM_TARGET_URL);
	const char *host = request_header(req, "host");
	const char *prefix = request_config(req)->requests.base_path;
	const char *path = request_path(req);
	const char *rest = NULL;

	if (url == NULL || is_url_of(url, "https://api.anam.ai", "", path) ||
	    is_url_of(url, anam->url, "", path))
		return ERR_OK;
	if (anam->public_url != NULL &&
	    is_url_of(url, anam->public_url, prefix, path))
		return ERR_OK;
	/* a web server before ours may have ended TLS: either scheme */
	if (strncmp(url, "https://", 8) == 0)
		rest = url + 8;
	else if (strncmp(url, "http://", 7) == 0)
		rest = url + 7;
	if (host != NULL && rest != NULL && is_url_of(rest, host, prefix, path))
		return ERR_OK;
	diag_set(diag, "X-Anam-Target-Url is not this request's");
	return ERR_DENIED;
}

static bool
is_allowed(const struct config *config, const char *persona)
{
	const struct config_strings *ids = &config->anam->personas;

	if (config_find_persona(config, persona) != NULL)
		return true;
	for (size_t i = 0; i < ids->count; i++)
		if (str_match(ids->items[i], persona))
			return true;
	return false;
}

enum err
anam_request_check_persona(const struct config *config, const char *persona,
    struct diag *diag)
{
	char word[160];

	if (is_allowed(config, persona))
		return ERR_OK;
	/* whoever configures this reads it in the log */
	diag_set(diag,
	    "persona %s is not allowed: write personas = {\"ID\"} in the "
	    "section anam",
	    anam_escape(persona, word, sizeof(word)));
	return ERR_DENIED;
}

enum err
anam_request_persona(const struct config *config, const json_t *body,
    const char **ret, struct diag *diag)
{
	const json_t *wish = json_object_get(body, "personaConfig");
	enum err err = json_get_string(json_is_object(wish) ? wish : body,
	    "personaId", PERSONA_BYTES, ret);

	if (err != ERR_OK || **ret == '\0' ||
	    !str_is_field_value(*ret, strlen(*ret))) {
		diag_set(diag, "personaId is missing or not a usable text");
		return ERR_PROTO;
	}
	return anam_request_check_persona(config, *ret, diag);
}
