/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_PEER_H
#define BROKER_CONTROL_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * control_peer: who is at the other end of a control connection, as the kernel
 * says (SO_PEERCRED), and what it is sent.
 */
struct control_peer {
	struct ucred cred;
	bool is_operator; /* root, or our own user: may list and end tunnels */
};

/* False where this user may not speak to us at all. */
bool control_peer_get(int fd, struct control_peer *ret);

/*
 * Send one packet, and with it a copy of the descriptor `passed' (-1: none).
 * False with errno where it cannot be sent at once.
 */
bool control_peer_send(int fd, const void *data, size_t len, int passed);

#endif
