/* SPDX-License-Identifier: MIT */
#include "broker/socketio/eio_refusal.h"

#include "common/json.h"

json_t *
eio_refusal_body(enum eio_refusal code)
{
	static const char *const messages[] = {
		[EIO_UNKNOWN_TRANSPORT] = "Transport unknown",
		[EIO_UNKNOWN_SID] = "Session ID unknown",
		[EIO_BAD_HANDSHAKE_METHOD] = "Bad handshake method",
		[EIO_BAD_REQUEST] = "Bad request",
		[EIO_FORBIDDEN] = "Forbidden",
		[EIO_UNSUPPORTED_VERSION] = "Unsupported protocol version",
	};

	return json_made(json_pack("{s:i,s:s}", "code", (int)code, "message",
	    messages[code]));
}
