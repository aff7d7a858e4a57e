/* SPDX-License-Identifier: MIT */
#ifndef BROKER_EIO_REFUSAL_H
#define BROKER_EIO_REFUSAL_H

#include <jansson.h>

/* eio_refusal: how Engine.IO refuses a request, in npm engine.io's words. */
enum eio_refusal {
	EIO_UNKNOWN_TRANSPORT = 0,
	EIO_UNKNOWN_SID = 1,
	EIO_BAD_HANDSHAKE_METHOD = 2,
	EIO_BAD_REQUEST = 3,
	EIO_FORBIDDEN = 4,
	EIO_UNSUPPORTED_VERSION = 5,
};

/* {"code","message"}; the caller decrefs it. */
json_t *eio_refusal_body(enum eio_refusal code);

#endif
