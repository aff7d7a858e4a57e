/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_REFUSAL_H
#define BROKER_CHAT_REFUSAL_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/http/parked.h"
#include "broker/http/request.h"
#include "common/err.h"

/*
 * chat_refusal: why a message is not answered, in the form that the client
 * reads: with the error's status and, for who expects a stream, a stream of
 * one `assistant_error'; else our JSON error.
 */
struct chat_refusal {
	enum err err;
	const char *code; /* borrowed; NULL: err_code() */
	struct diag why;
	int64_t retry_after_s; /* 0: not said */
	bool as_events;
};

/* Whether who sent this expects a stream: `Accept' does not name JSON. */
bool chat_refusal_as_events(const struct request *req);

void chat_refusal_reply(struct request *req,
    const struct chat_refusal *refusal);

/* Over a limit of requests, ERR_RATE. */
void chat_refusal_reply_limited(struct request *req, const struct diag *diag,
    int64_t retry_after_s);

/* The same to a parked one, which has not begun, in the hub's thread. */
void chat_refusal_reply_parked(struct parked *parked,
    const struct chat_refusal *refusal);

#endif
