/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_DIALECT_H
#define TUNNEL_DIALECT_H

#include <jansson.h>
#include <stdbool.h>

#include "common/err.h"

/*
 * dialect: OpenAI Realtime events for clients that were written for the beta
 * (OpenAI-Beta: realtime=v1), which the vendor does not speak any more.  Pure.
 *
 * Both translate an event in place.  What they do not know stays as it is.
 * docs/architecture.md lists what is renamed.
 */

/* A client's event, from the beta's shape to the GA interface's. */
void dialect_to_ga(json_t *event);

/*
 * The vendor's event, from the GA interface's shape to the beta's.  False
 * where such a client is to get nothing (an event that the beta has only one
 * of where GA has two).
 */
bool dialect_to_beta(json_t *event);

#endif
