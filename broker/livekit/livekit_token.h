/* SPDX-License-Identifier: MIT */
#ifndef BROKER_LIVEKIT_TOKEN_H
#define BROKER_LIVEKIT_TOKEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "common/err.h"

/*
 * livekit_token: from a client's wishes and a template to a LiveKit token.
 *
 * Pure but for random bytes.  A client's body has one of two forms:
 *   seed      {"roomName","participantName"}
 *   standard  {"room_name","participant_name","participant_identity",
 *             "participant_metadata","participant_attributes","room_config"},
 *             as LiveKit's TokenSource.endpoint sends it; also {}
 * Every member is optional; null, "" and {} are as if absent.
 *
 * What a client may set is the template's to say; the identity is always ours.
 * What the template sets itself stands: a client's name or metadata beside
 * it, an attribute of the same name, or an agent that it dispatches already
 * is dropped, so that whoever reads the token can trust it.
 */

/* What a client may send where the template lets it. */
#define LIVEKIT_ROOM_MAX_BYTES	     256
#define LIVEKIT_NAME_MAX_BYTES	     256
#define LIVEKIT_METADATA_MAX_BYTES   4096
#define LIVEKIT_ATTRIBUTES_MAX	     64
#define LIVEKIT_ATTRIBUTES_MAX_BYTES 4096 /* names and values together */
#define LIVEKIT_AGENTS_MAX	     8

struct livekit_token {
	bool seed;	/* the form of the body, and so of the answer */
	char *identity; /* sub */
	char *room;	/* video.room; NULL for a token that names none */
	json_t *claims; /* all of them, ready to be signed */
};

/*
 * Make the claims.  ERR_PROTO for what is malformed (an unknown or mistyped
 * member, both forms at once), ERR_DENIED for what the template does not let
 * a client set, ERR_LIMIT for what is too large, ERR_SYS for a template that
 * cannot be served; diag tells the client which, and has names of members
 * only.  On success livekit_token_done() frees what *ret holds.
 */
enum err livekit_token_make(const struct config_livekit *livekit,
    const struct config_token *template, const json_t *body, int64_t now,
    struct livekit_token *ret, struct diag *diag) MUST_CHECK;

void livekit_token_done(struct livekit_token *token);

/*
 * Sign them (HS256); the caller clears and frees the text.  ERR_LIMIT where
 * it would be too large for a token.
 */
enum err livekit_token_sign(const struct config_livekit *livekit,
    const struct livekit_token *token, char **ret,
    struct diag *diag) MUST_CHECK;

#endif
