/* SPDX-License-Identifier: MIT */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include <jansson.h>

#include "common/err.h"
#include "common/wire.h"

/* client: one question to the broker, over its control socket. */

/*
 * Send a packet and wait for the reply; the caller decrefs it.  Whatever goes
 * wrong, diag says what to do about it: ERR_UNAVAIL where there is no broker,
 * ERR_DENIED where we may not ask it, ERR_TIMEOUT, ERR_PROTO where the packet
 * or the answer is none; ERR_MISMATCH where the broker refuses it for good:
 * then nothing was done.
 */
enum err client_ask(const char *socket_path, const struct wire_packet *question,
    json_t **ret, struct diag *diag) MUST_CHECK;

#endif
