/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_LOG_H
#define BROKER_CONTROL_LOG_H

#include <sys/socket.h>
#include <sys/types.h>

#include <stdint.h>

#include "broker/tunnels/leases.h"
#include "common/err.h"
#include "common/wire.h"

/* control_log: what the log says of the control socket's peers. */

/*
 * Every way a connection ends: the word and the side for the log, and whether
 * it is the peer's fault, which is worth a warning.
 */
#define CONTROL_CAUSES                                      \
	CAUSE(ENDED, "ended", "tunnel", false)              \
	CAUSE(DISCONNECTED, "tunnel_lost", "tunnel", false) \
	CAUSE(STOPPED, "broker_stopped", "broker", false)   \
	CAUSE(INTERNAL, "broker_error", "broker", false)    \
	CAUSE(CROWDED, "crowded", "tunnel", false)          \
	CAUSE(SILENT, "silent", "tunnel", true)             \
	CAUSE(MALFORMED, "malformed", "tunnel", true)       \
	CAUSE(TOO_LARGE, "too_large", "tunnel", true)       \
	CAUSE(TOO_MANY, "too_many", "tunnel", true)         \
	CAUSE(UNEXPECTED, "unexpected", "tunnel", true)     \
	CAUSE(NOT_ALLOWED, "not_allowed", "tunnel", true)   \
	CAUSE(NOT_CLOSING, "not_closing", "tunnel", true)   \
	CAUSE(NOT_READING, "not_reading", "tunnel", true)

enum control_cause {
#define CAUSE(id, word, side, fault) CONTROL_##id,
	CONTROL_CAUSES
#undef CAUSE
};

/*
 * " user=ann plan=free": who it is, as far as is known, and a plan unless it
 * is NULL; "" where there is neither.  Returns out.
 */
#define CONTROL_LOG_WHO_SIZE 640
char *control_log_who(const struct lease_info *lease,
    const struct config_plan *plan, char out[CONTROL_LOG_WHO_SIZE]);

/* A tunnel of this process was granted, or comes back after resumed_ms. */
void control_log_open(const struct lease_info *lease, pid_t pid);
void control_log_resume(const struct lease_info *lease, pid_t pid,
    int64_t resumed_ms);

/* A tunnel was refused; of a route and to a user, where these are not NULL. */
void control_log_denied(const struct wire_open *open, const char *route,
    const char *user, enum err err, const struct diag *diag);

/*
 * A connection ends: lease is what it had, or NULL; end is what its process
 * said of it, or NULL where it said nothing.
 */
void control_log_end(const struct ucred *peer, const struct lease_info *lease,
    enum control_cause cause, const struct wire_usage *end);

#endif
