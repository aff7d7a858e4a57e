/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ROUTE_H
#define BROKER_ROUTE_H

#include <stdbool.h>

#include "broker/http/request.h"

/*
 * route: which handler a request goes to, and whether it may.
 *
 * An unknown path is 404, a method that it does not take 405 with Allow; HEAD
 * is GET.  Then admission: broker/http/access.h, with one rule for every route
 * but the health ones: who has a foreign Origin, or none without
 * `missing_origin', is answered 403.  A page of an admitted Origin may read
 * every answer, errors too, with Retry-After, RateLimit and X-Anon-Id
 * (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol), also with cookies
 * where its Origin is listed by name.  Its preflight is answered here, and
 * allows the headers that it names.  A foreign page gets no CORS header.
 *
 * Last, before its handler, the limits of its address
 * (broker/limits/admission.h): 429.
 *
 *   GET /healthz  200 {"status":"ok"}, to whomever asks: the process lives;
 *                 for `culvertctl doctor' broker/http/probe.h
 *   GET /readyz   the same, or 503 where it would not serve: before the start
 *                 and at the stop, and while the store is away
 */
void route_handle(struct request *req);

/* Whether it may serve, not ready at first; /readyz asks the store, too. */
void route_set_ready(bool ready);

#endif
