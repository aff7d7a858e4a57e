/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TUNNEL_PROBE_H
#define BROKER_TUNNEL_PROBE_H

#include "common/wire.h"

/*
 * tunnel_probe: the WebSocket of `culvertctl doctor', which is refused with the
 * report of broker/http/probes.h: nothing is dialled.
 *
 * NULL where it is another's; else the caller frees it.
 */
struct wire_packet *tunnel_probe_answer(const struct wire_open *open);

#endif
