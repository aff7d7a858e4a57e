/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ADDRESS_H
#define BROKER_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/* address: clients' numeric addresses, and whose they are.  Pure. */

/*
 * The one way to write it: without a scope, and IPv4 as such, since
 * ::ffff:192.0.2.1 is no other place.  ERR_PROTO where it is none, or NULL.
 */
enum err address_normalize(const char *text,
    char out[INET6_ADDRSTRLEN]) MUST_CHECK;

/*
 * The network that is one visitor's: of IPv6 its /64; of IPv4 all of it, with
 * zeros behind it; of what is no address, zeros.
 */
#define ADDRESS_NETWORK_BYTES 8
void address_network(const char *text, uint8_t out[ADDRESS_NETWORK_BYTES]);

/*
 * The same network as text: "192.0.2.1", "2001:db8:1:2::/64"; of what is no
 * address, "-".
 */
#define ADDRESS_VISITOR_SIZE (INET6_ADDRSTRLEN + 3)
void address_visitor(const char *text, char out[ADDRESS_VISITOR_SIZE]);

/* Whether it is this machine's own: 127.0.0.0/8, ::1. */
bool address_is_loopback(const char *text);

#endif
