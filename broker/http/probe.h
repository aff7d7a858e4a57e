/* SPDX-License-Identifier: MIT */
#ifndef BROKER_PROBE_H
#define BROKER_PROBE_H

#include <stdbool.h>

#include "broker/http/request.h"

/*
 * probe: what `culvertctl doctor' is answered: the report of
 * broker/http/probes.h; where it accepts PROBE_STREAM_TYPE, as the first of
 * PROBE_EVENTS events, PROBE_INTERVAL_MS apart, so that it sees whether they
 * reach a client one by one.
 */

/* Whether the request has the id of a probe that is good. */
bool probe_takes(const struct request *req);

request_handler probe_handle;

#endif
