/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_REQUEST_H
#define BROKER_CHAT_REQUEST_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "broker/store/store.h"
#include "common/err.h"

/*
 * chat_request: what a client asks of the chat, and what the vendor is asked
 * because of it.  Pure.
 *
 * Of the vendor's parameters a client may set those that shape the answer:
 * temperature, top_p, presence_penalty, frequency_penalty, max_tokens, seed and
 * stop, each within its range.  Any other member is refused, so what a vendor
 * adds tomorrow opens nothing.
 */
enum chat_request_kind {
	CHAT_SEND,	 /* {chat_id?,model?,content,...} */
	CHAT_REGENERATE, /* {chat_id,message_id?,model?,...} */
	CHAT_STOP,	 /* {chat_id?,message_id?} */
};

struct chat_request {
	/* borrowed from the body; NULL: not given */
	const char *chat_id, *message_id, *content;
	const char *model;	/* of the configuration; never NULL */
	json_t *parameters;	/* checked; an object of its own */
	uint64_t output_tokens; /* most that the answer may have */
};

/*
 * ERR_PROTO with the reason, ERR_LIMIT for a content that is too long,
 * ERR_DENIED for a model that is not offered, ERR_NOTFOUND for an id that
 * nothing can have.  Free with chat_request_done().
 */
enum err chat_request_parse(const struct config_chat *chat,
    enum chat_request_kind kind, const json_t *body, struct chat_request *ret,
    struct diag *diag) MUST_CHECK;
void chat_request_done(struct chat_request *request);

/* Bytes of all that is sent: what bounds the tokens that it has. */
uint64_t chat_request_bytes(const struct config_chat *chat,
    const struct store_messages *history);

/* The body for the vendor; the caller clears and frees it. */
char *chat_request_body(const struct config_chat *chat,
    const struct chat_request *request, const struct store_messages *history,
    size_t *ret_len);

/*
 * What a chat that begins like this is called: its first words, on one line.
 * The caller frees it.
 */
char *chat_request_title(const char *content);

#endif
