/* SPDX-License-Identifier: MIT */
#include "broker/anam/anam_route.h"

#include <stdlib.h>
#include <string.h>

#include "broker/limits/revocations.h"
#include "common/xalloc.h"

#define TARGET_URL "X-Anam-Target-Url"

/* The path without `base_path'; NULL where that is not there. */
static const char *
own_path(const struct config *config, const struct target *target)
{
	const char *base = config->requests.base_path;
	size_t len = base == NULL ? 0 : strlen(base);

	if (len > 0 && strncmp(target->path, base, len) != 0)
		return NULL;
	return target->path + len;
}

bool
anam_route_takes(const struct config *config, const struct target *target)
{
	const char *path = own_path(config, target);

	if (config->anam == NULL || path == NULL)
		return false;
	return strcmp(path, "/ws/proxy") == 0 || strncmp(path, "/b/", 3) == 0 ||
	    (strcmp(path, "/ws") == 0 &&
		target_find(target, "target_url") != NULL);
}

/* ---- which session ------------------------------------------------------ */

/* The id that all of a request has; the caller frees it. */
static enum err
find_id(const struct config *config, const struct target *target, char **ret,
    struct diag *diag)
{
	const char *path = own_path(config, target);
	const char *given = target_find(target, "session_id");
	const char *url = target_find(target, "target_url");
	char *id;

	if (strncmp(path, "/b/", 3) == 0) {
		id = anam_session_id_in_path(path, "/ws");
	} else if (given != NULL) {
		id = xstrdup(given);
	} else if (url != NULL) {
		id = anam_session_id_in(url);
		if (id == NULL) {
			diag_set(diag, "target_url is no session's");
			return ERR_DENIED;
		}
	} else {
		diag_set(diag, "session_id is missing");
		return ERR_PROTO;
	}
	if (id == NULL || !anam_session_is_id(id)) {
		free(id);
		diag_set(diag, "there is no such session");
		return ERR_NOTFOUND;
	}
	if (given != NULL && strcmp(given, id) != 0) {
		free(id);
		diag_set(diag, "session_id is not the path's");
		return ERR_DENIED;
	}
	*ret = id;
	return ERR_OK;
}

/* Whatever else names a place has to name the session's. */
static enum err
check_places(const struct target *target, const struct wire_headers *headers,
    const json_t *record, struct diag *diag)
{
	const char *host = target_find(target, "engineHost");
	const char *endpoint = target_find(target, "signallingEndpoint");
	const char *url = target_find(target, "target_url");
	const char *header = wire_headers_find(headers, TARGET_URL);
	const char *wrong = NULL;

	if (host != NULL && !anam_session_has_host(record, host))
		wrong = "engineHost";
	else if (endpoint != NULL &&
	    !anam_session_has_endpoint(record, endpoint))
		wrong = "signallingEndpoint";
	else if (url != NULL && !anam_session_has_url(record, url))
		wrong = "target_url";
	else if (header != NULL && !anam_session_has_url(record, header))
		wrong = TARGET_URL;
	if (wrong == NULL)
		return ERR_OK;
	diag_set(diag, "%s is not the session's", wrong);
	return ERR_DENIED;
}

/* ---- where it is -------------------------------------------------------- */

enum err
anam_route_check_revoked(const struct store_anam *session, struct diag *diag)
{
	const struct revocations_subject subject = {
		.user = session->user,
		.ticket = session->token_id,
		.route = ANAM_ROUTE,
		.issued = session->created,
	};

	if (!revocations_have(&subject))
		return ERR_OK;
	diag_set(diag, "the session has been revoked");
	return ERR_UNAUTH;
}

/* From what is stored, where the request fits it. */
static enum err
fill(const struct config *config, const struct store_anam *session, int64_t now,
    struct anam_route *ret, struct diag *diag)
{
	enum err err;

	if (session->expires <= now) {
		diag_set(diag, "the session is over");
		return ERR_UNAUTH;
	}
	err = anam_route_check_revoked(session, diag);
	if (err != ERR_OK)
		return err;
	/* again: the configuration may have changed since */
	err = anam_session_check(config->anam, session->session, &ret->engine,
	    diag);
	if (err != ERR_OK)
		return err;
	ret->target = xasprintf("%s?session_id=%s", ret->engine.signalling.path,
	    session->id);
	ret->left_s = session->expires - now;
	ret->user = session->user == NULL ? NULL : xstrdup(session->user);
	ret->created = session->created;
	anam_session_hash(session->id, ret->session);
	return ERR_OK;
}

enum err
anam_route_find(const struct config *config, struct store *store,
    const struct target *target, const struct wire_headers *headers,
    int64_t now, struct anam_route *ret, struct diag *diag)
{
	struct store_anam session;
	char *id;
	enum err err;

	if (store == NULL) {
		diag_set(diag, "the store is not open");
		return ERR_UNAVAIL;
	}
	err = find_id(config, target, &id, diag);
	if (err != ERR_OK)
		return err;
	/* expired ones, too: they are told apart */
	err = store->ops->get_anam(store, id, 0, &session, diag);
	explicit_bzero(id, strlen(id));
	free(id);
	if (err != ERR_OK) {
		if (err == ERR_NOTFOUND)
			diag_set(diag, "there is no such session");
		return err;
	}
	err = check_places(target, headers, session.session, diag);
	if (err == ERR_OK)
		err = fill(config, &session, now, ret, diag);
	store_anam_done(&session);
	return err;
}

void
anam_route_done(struct anam_route *route)
{
	anam_engine_done(&route->engine);
	if (route->target != NULL)
		explicit_bzero(route->target, strlen(route->target));
	free(route->target);
	free(route->user);
	*route = (struct anam_route){ .target = NULL };
}
