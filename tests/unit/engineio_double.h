/* SPDX-License-Identifier: MIT */
#ifndef TEST_ENGINEIO_DOUBLE_H
#define TEST_ENGINEIO_DOUBLE_H

#include "broker/hub/hub.h"
#include "broker/socketio/engineio.h"

/*
 * Engine.IO and the hub as tests of what stands upon them want them: in one
 * thread, with what is sent to be read, and clients that the test plays.
 */
void double_init(void);
void double_done(void); /* servers have been freed */

/* The one with this number opens a connection. */
#define DOUBLE_CLIENTS 4
struct eio *open_client(size_t i);

void say(struct eio *eio, const char *text);
void say_binary(struct eio *eio, const char *data);
void end_client(struct eio *eio, const char *reason);

/* Why it is to be closed, which stops the loop; NULL: it is not. */
const char *eio_closing(const struct eio *eio);

/* What it was sent next, "b" before a binary message; NULL: nothing. */
const char *next(struct eio *eio);
void expect(struct eio *eio, const char *text);

/* Run the loop until it is sent something. */
void await(struct eio *eio);

/* Another client takes the place of one that has ended. */
void eio_renew(struct eio *eio);

#endif
