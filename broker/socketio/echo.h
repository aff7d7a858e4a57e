/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ECHO_H
#define BROKER_ECHO_H

#include "broker/config/config.h"
#include "broker/socketio/socketio.h"

/*
 * echo: what tests of the protocols talk to, where the configuration asks for
 * it.
 *
 * On `/' and `/custom': "auth" with the handshake's auth on connect.  On `/',
 * "message" is answered by "message-back" with its arguments, and
 * "message-with-ack" by an ack with them; the same on `/recovery', where a
 * connection can be taken up again, so that events have their offset behind the
 * arguments.  Of a bare Engine.IO, every message comes back.
 */
extern const struct sio_app echo_main;	   /* "/" */
extern const struct sio_app echo_custom;   /* "/custom" */
extern const struct sio_app echo_recovery; /* "/recovery" */

/* The bare Engine.IO, at config's engine_path.  The hub runs. */
enum err echo_start(const struct config_socketio *config,
    struct diag *diag) MUST_CHECK;
void echo_stop(void); /* harmless where nothing was started */

#endif
