/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ADMISSION_H
#define BROKER_ADMISSION_H

#include <stdint.h>

#include "broker/http/request.h"
#include "broker/limits/subjects.h"
#include "common/err.h"

/*
 * admission: whether a request over HTTP is within the limits of requests.
 *
 * broker/http/route.c asks once for the address, before the handler; a handler
 * that has found out who it is asks for the user or anonymous id and the
 * route.  Answers get `RateLimit-Policy' and `RateLimit' (draft-ietf-httpapi-
 * ratelimit-headers), refusals `Retry-After' as well.
 */

/* ERR_RATE: refused, and the headers are there; the caller answers. */
enum err admission_check(struct request *req, const struct subjects *subjects,
    struct diag *diag) MUST_CHECK;

/* The header of a refusal for a budget: Retry-After, and RateLimit. */
void admission_add_budget(struct request *req,
    const struct store_budget_state *state, int64_t now);

#endif
