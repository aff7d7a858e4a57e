/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_REQUEST_H
#define BROKER_ANAM_REQUEST_H

#include <jansson.h>
#include <stdbool.h>

#include "broker/config/config.h"
#include "broker/http/request.h"
#include "broker/users/identity.h"
#include "common/err.h"

/*
 * anam_request: what a request to Anam's HTTP interface says, checked.
 *
 * Whatever it is that a client names, a place or a persona, it has to be one
 * that it may: of places that is where the request goes anyway.
 */

/* The SDKs give up after ten seconds. */
#define ANAM_DEADLINE_MS 9000

/* The header in which a gateway's client says where its request would go. */
#define ANAM_TARGET_URL "x-anam-target-url"

/*
 * The section, where all that it needs is there; NULL where it is not, and the
 * request has been answered.
 */
const struct config_anam *anam_request_find(struct request *req);

/*
 * Who asks, where he is served and within his limits; false where he is not,
 * and the request has been answered.  identity_done() frees *ret.
 */
bool anam_request_identify(struct request *req, const struct config_anam *anam,
    struct identity *ret) MUST_CHECK;

/*
 * The body, an object, which the caller decrefs.  Dart's http client calls
 * everything text/plain that it is not told to call otherwise.  ERR_PROTO, and
 * as request_body().
 */
enum err anam_request_body(struct request *req, json_t **ret,
    struct diag *diag) MUST_CHECK;

/*
 * A gateway's request says where it would go: it may name this path at the
 * vendor's API, ours or the SDKs' own, and goes where it always goes.
 * ERR_DENIED where it names another.
 */
enum err anam_request_check_target(struct request *req,
    const struct config_anam *anam, struct diag *diag) MUST_CHECK;

/* ERR_DENIED where the configuration does not allow a persona. */
enum err anam_request_check_persona(const struct config *config,
    const char *persona, struct diag *diag) MUST_CHECK;

/*
 * The id that a body asks for ({"personaConfig":{"personaId"}} or
 * {"personaId"}), checked; borrowed from it.  ERR_PROTO, ERR_DENIED.
 */
enum err anam_request_persona(const struct config *config, const json_t *body,
    const char **ret, struct diag *diag) MUST_CHECK;

#endif
