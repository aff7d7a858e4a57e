/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SESSION_RULES_H
#define BROKER_SESSION_RULES_H

#include <jansson.h>

#include "broker/config/config.h"
#include "common/err.h"
#include "common/pin.h"

/*
 * session_rules: what a relay makes of the session that a client asks for
 * (OpenAI Realtime, GA interface), for short-lived keys, calls and tunnels.
 * Pure.  A session is the members of `session' in a session.update.
 */

/*
 * The rules that this relay's clients are held to, see common/pin.h; model is
 * the conversation's, NULL where it has none.  NULL where nothing is pinned.
 * The caller decrefs them.
 */
json_t *session_rules_pin(const struct config_relay *relay, const char *model);

/*
 * May a client begin with this session?  Its type is one that a client can
 * have, its members are known, and none breaks the relay's pin.  ERR_PROTO,
 * ERR_DENIED.
 */
enum err session_rules_check(const struct config_relay *relay,
    const char *model, const json_t *session,
    struct pin_refusal *ret) MUST_CHECK;

/*
 * The relay's session and, where it says nothing, the members of two that were
 * checked, the first one's before the second's; all may be absent, and *ret is
 * NULL where they are.  ERR_LIMIT past CONFIG_SESSION_MAX_BYTES.  The caller
 * decrefs it.
 */
enum err session_rules_merge(const struct config_relay *relay,
    const json_t *first, const json_t *second, json_t **ret) MUST_CHECK;

#endif
