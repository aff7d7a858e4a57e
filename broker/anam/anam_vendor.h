/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_VENDOR_H
#define BROKER_ANAM_VENDOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "common/err.h"

/*
 * anam_vendor: the calls to Anam, and what their failures mean to a client.
 *
 * Nothing that the vendor says goes to a client as it is but the answer of a
 * session and the literals by which Anam's SDKs tell limits apart.
 */

/* What a client is answered in place of a session. */
struct anam_refusal {
	int status;
	const char *error; /* what the SDKs compare */
	const char *message;
	int64_t retry_after_s; /* 0: not said */
	bool ours; /* the operator's to mend: our key, our configuration */
};

/*
 * What a refusal is without the vendor having said anything: of our own code
 * for it.
 */
void anam_refusal_of(enum err err, struct anam_refusal *ret);

/*
 * What a status of the vendor's means; body is its answer, which may be
 * anything.  ERR_UPSTREAM, or another code of ours, with the reason for the
 * log.
 */
enum err anam_refusal_read(int status, const char *body, size_t len,
    const char *retry_after, struct anam_refusal *ret,
    struct diag *diag) MUST_CHECK;

/*
 * Start a session: ask for a token with our key, and with that for a session,
 * both before the deadline.  The token call, which costs nothing, is repeated
 * once where it failed otherwise than by a refusal.  persona is the vendor's
 * personaConfig, session the body of the second call.  On failure *refusal is
 * filled, and diag for the log.  The caller decrefs *ret, an object.
 */
enum err anam_vendor_start(const struct config_anam *anam,
    const json_t *persona, const json_t *session, int64_t deadline_ms,
    json_t **ret, struct anam_refusal *refusal, struct diag *diag) MUST_CHECK;

/* Send a talk command's body to the engine; failures as above. */
enum err anam_vendor_talk(const struct config_anam *anam, const char *url,
    const char *session_id, const char *body, size_t len, int64_t deadline_ms,
    struct anam_refusal *refusal, struct diag *diag) MUST_CHECK;

#endif
