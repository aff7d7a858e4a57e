/* SPDX-License-Identifier: MIT */
#ifndef SIM_SDP_H
#define SIM_SDP_H

#include <stddef.h>

/*
 * sdp: an answer to a WebRTC offer (RFC 8829, RFC 8866) without WebRTC: the
 * offer again, with the roles turned round and with credentials of nobody.
 * A browser accepts it; its ICE never connects.
 *
 * NULL where the offer is none.  The caller frees the answer.
 */
#define SDP_MAX (64 * 1024)

char *sdp_answer(const char *offer, size_t len);

#endif
