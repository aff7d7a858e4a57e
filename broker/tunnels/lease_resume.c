/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/lease_resume.h"

#include <stdlib.h>
#include <string.h>

#include "broker/signing_key.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/xalloc.h"

#define TYP	   "lease+jwt"
#define SLACK_S	   3600 /* the end has to be told, too */
#define TEXT_BYTES 4095

/* ---- limits: as the control socket has them ----------------------------- */

static json_t *
limits_to_json(const struct wire_limits *limits)
{
	struct wire_packet *packet = wire_packet_new(WIRE_LIMITS);
	json_t *object = NULL, *ret = NULL;
	char *text;
	size_t len;

	packet->limits = *limits;
	if (wire_format(packet, &text, &len) == ERR_OK) {
		if (json_parse(text, len, &object, NULL) == ERR_OK)
			ret = json_incref(json_object_get(object, "limits"));
		json_decref(object);
		wire_text_free(text, len);
	}
	wire_packet_free(packet);
	return ret;
}

static enum err
limits_of_json(const json_t *value, struct wire_limits *ret, struct diag *diag)
{
	json_t *object = json_pack("{si ss sO?}", "v", WIRE_VERSION, "type",
	    "limits", "limits", value);
	struct wire_packet *packet;
	size_t len;
	char *text = json_text(object, &len);
	enum err err = wire_parse(text, len, &packet, diag);

	free(text);
	json_decref(object);
	if (err != ERR_OK)
		return err;
	*ret = packet->limits;
	wire_packet_free(packet);
	return ERR_OK;
}

/* ---- the token ----------------------------------------------------------- */

int64_t
lease_resume_expires(const struct lease_info *info,
    const struct wire_limits *limits)
{
	int64_t lifetime_s = limits->lifetime_ms / 1000;

	if (lifetime_s == 0 || lifetime_s >= LEASE_RESUME_MAX_S)
		return info->started_unix + LEASE_RESUME_MAX_S;
	return info->started_unix + lifetime_s + SLACK_S;
}

char *
lease_resume_make(const struct lease_info *info,
    const struct wire_limits *limits)
{
	char *text = NULL;
	json_t *claims;
	enum err err;

	if (!signing_key_is_there())
		return NULL;
	claims = json_pack("{ss ss ss ss ss* ss* ss* ss* ss* sI sI sI so}",
	    "lease", info->id, "session", info->session, "route", info->route,
	    "client", info->client, "user", info->user, "model", info->model,
	    "plan", info->plan, "anon", info->anon_id, "ticket", info->ticket,
	    "issued", (json_int_t)info->issued, "iat",
	    (json_int_t)info->started_unix, "exp",
	    (json_int_t)lease_resume_expires(info, limits), "limits",
	    limits_to_json(limits));
	err = claims == NULL ? ERR_PROTO
			     : signing_key_sign(claims, TYP, &text, NULL);
	json_decref(claims);
	if (err != ERR_OK)
		return NULL;
	if (strlen(text) <= WIRE_RESUME_BYTES)
		return text;
	free(text);
	return NULL;
}

/* What we have signed is as we made it; nobody else's is looked at. */
static enum err
read_claims(struct lease_resume *ret, struct diag *diag)
{
	struct lease_request *request = &ret->request;
	const struct {
		const char *name, **to;
		bool optional;
	} texts[] = {
		{ "lease", &request->id, false },
		{ "session", &request->session, false },
		{ "route", &request->route, false },
		{ "client", &request->client, false },
		{ "user", &request->user, true },
		{ "model", &request->model, true },
		{ "plan", &request->plan, true },
		{ "anon", &request->anon_id, true },
		{ "ticket", &request->ticket, true },
	};
	enum err err = ERR_OK;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if ((!texts[i].optional ||
			json_object_get(ret->claims, texts[i].name) != NULL) &&
		    json_get_string(ret->claims, texts[i].name, TEXT_BYTES,
			texts[i].to) != ERR_OK)
			err = ERR_UNAUTH;
	if (json_get_int(ret->claims, "issued", 0, INT64_MAX,
		&request->issued) != ERR_OK ||
	    json_get_int(ret->claims, "exp", 0, INT64_MAX, &ret->expires) !=
		ERR_OK ||
	    json_get_int(ret->claims, "iat", 0, INT64_MAX, &ret->started) !=
		ERR_OK ||
	    limits_of_json(json_object_get(ret->claims, "limits"), &ret->limits,
		NULL) != ERR_OK)
		err = ERR_UNAUTH;
	if (err != ERR_OK)
		diag_set(diag, "the lease of before is not readable");
	return err;
}

enum err
lease_resume_read(const char *text, int64_t now, struct lease_resume *ret,
    struct diag *diag)
{
	const struct jwt_policy policy = { .typ = TYP, .now = now };
	struct lease_resume resume = { .claims = NULL };
	enum err err;

	if (!signing_key_is_there()) {
		diag_set(diag, "there is no key to check it with");
		return ERR_UNAUTH;
	}
	err = signing_key_verify(text, strlen(text), &policy, &resume.claims,
	    diag);
	if (err != ERR_OK)
		return err == ERR_UNAVAIL ? err : ERR_UNAUTH;
	err = read_claims(&resume, diag);
	if (err == ERR_OK)
		*ret = resume;
	else
		lease_resume_done(&resume);
	return err;
}

void
lease_resume_done(struct lease_resume *resume)
{
	json_decref(resume->claims);
	*resume = (struct lease_resume){ .claims = NULL };
}
