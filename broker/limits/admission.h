/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ADMISSION_H
#define BROKER_ADMISSION_H

#include <stdbool.h>
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
 * ratelimit-headers-10), refusals `Retry-After' (RFC 9110 10.2.3) as well.
 */

/* ERR_RATE: refused, and the headers are there; the caller answers. */
enum err admission_check_address(struct request *req,
    struct diag *diag) MUST_CHECK;

/* The same for all of these but the address, which has been asked for. */
enum err admission_check(struct request *req, const struct subjects *subjects,
    struct diag *diag) MUST_CHECK;

/*
 * The same, of who asks, and whether a budget of the day is spent; address is
 * the request's.  False where it is refused: then it has been answered, in the
 * form of its errors.  It may wait for the store.
 */
bool admission_admits(struct request *req, const struct subjects_request *who);

/*
 * For who answers in a protocol of its own: Retry-After is left to the caller,
 * whole seconds.
 */
enum err admission_ask_address(struct request *req, int64_t *ret_retry_after_s,
    struct diag *diag) MUST_CHECK;
enum err admission_ask(struct request *req, const struct subjects *subjects,
    int64_t *ret_retry_after_s, struct diag *diag) MUST_CHECK;

/* The header of a refusal for a budget: Retry-After, and RateLimit. */
void admission_add_budget(struct request *req,
    const struct store_budget_state *state, int64_t now);

#endif
