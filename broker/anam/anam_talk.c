/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_talk.h"

#include <stdlib.h>
#include <string.h>

#include "broker/anam/anam_refuse.h"
#include "broker/anam/anam_request.h"
#include "broker/anam/anam_route.h"
#include "broker/anam/anam_session.h"
#include "broker/anam/anam_vendor.h"
#include "broker/http/flight.h"
#include "broker/store/store.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/xalloc.h"

/* The session's id, from the path and the query, which must agree. */
static enum err
find_id(struct request *req, char **ret, struct diag *diag)
{
	const char *path = request_path(req), *given = NULL;
	enum err err = request_query(req, "session_id", &given, diag);
	char *id;

	if (err != ERR_OK)
		return err;
	if (strcmp(path, "/talk") != 0) {
		id = anam_session_id_in_path(path, "/talk");
	} else if (given != NULL) {
		id = xstrdup(given);
	} else {
		diag_set(diag, "session_id is missing");
		return ERR_PROTO;
	}
	if (id == NULL || !anam_session_is_id(id)) {
		diag_set(diag, "there is no such session");
		err = ERR_NOTFOUND;
	} else if (given != NULL && strcmp(id, given) != 0) {
		diag_set(diag, "session_id is not the path's");
		err = ERR_DENIED;
	}
	if (err == ERR_OK)
		*ret = id;
	else
		free(id);
	return err;
}

/* What is stored of it, where it has not ended. */
static enum err
load_session(struct request *req, const char *id, struct store_anam *ret,
    struct diag *diag)
{
	struct store *store = store_current();
	const char *url = request_header(req, ANAM_TARGET_URL);
	/* expired ones, too: they are told apart */
	enum err err = store->ops->get_anam(store, id, 0, ret, diag);

	if (err != ERR_OK) {
		if (err == ERR_NOTFOUND)
			diag_set(diag, "there is no such session");
		return err;
	}
	if (ret->expires <= clock_unix()) {
		diag_set(diag, "the session is over");
		err = ERR_UNAUTH;
	} else if (url != NULL && !anam_session_has_url(ret->session, url)) {
		diag_set(diag, "X-Anam-Target-Url is not this session's");
		err = ERR_DENIED;
	} else {
		err = anam_route_check_revoked(ret, diag);
	}
	if (err != ERR_OK)
		store_anam_done(ret);
	return err;
}

/* Send the body to the engine; *ret_refused: refusal says how to answer. */
static enum err
talk(struct request *req, const struct store_anam *session, int64_t deadline_ms,
    bool *ret_refused, struct anam_refusal *refusal, struct diag *diag)
{
	const struct config *config = request_config(req);
	struct flight *flight = NULL;
	struct anam_engine engine;
	json_t *body = NULL;
	char *text;
	size_t len;
	enum err err = anam_request_body(req, &body, diag);

	if (err == ERR_OK)
		err = anam_session_check(config->anam, session->session,
		    &engine, diag);
	if (err != ERR_OK) {
		json_decref(body);
		return err;
	}
	text = json_text(body, &len);
	json_decref(body);
	err = flight_begin(NULL, config->requests.threads, deadline_ms, &flight,
	    diag);
	if (err == ERR_OK) {
		err = anam_vendor_talk(config->anam, engine.talk, session->id,
		    text, len, deadline_ms, refusal, diag);
		*ret_refused = err != ERR_OK;
	}
	flight_end(flight);
	explicit_bzero(text, len);
	free(text);
	anam_engine_done(&engine);
	return err;
}

void
anam_talk_handle(struct request *req)
{
	const struct config_anam *anam = anam_request_find(req);
	int64_t deadline_ms = clock_ms() + ANAM_DEADLINE_MS;
	struct anam_refusal refusal;
	struct store_anam session;
	struct diag diag = { "" };
	bool refused = false;
	char *id = NULL;
	enum err err;

	if (anam == NULL)
		return;
	err = find_id(req, &id, &diag);
	if (err == ERR_OK)
		err = load_session(req, id, &session, &diag);
	if (err == ERR_OK) {
		err =
		    talk(req, &session, deadline_ms, &refused, &refusal, &diag);
		store_anam_done(&session);
	}
	if (id != NULL)
		explicit_bzero(id, strlen(id));
	free(id);
	if (err == ERR_OK)
		request_reply_json(req, 200, json_object());
	else if (refused)
		anam_refuse_as(req, &refusal, NULL, &diag);
	else
		anam_refuse(req, err, &diag);
}
