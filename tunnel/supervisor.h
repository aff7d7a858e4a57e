/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_SUPERVISOR_H
#define TUNNEL_SUPERVISOR_H

#include <stdint.h>

#include "common/err.h"
#include "tunnel/worker.h"

/*
 * supervisor: keeps spare processes waiting in accept().
 *
 * A connection costs no start: a child waits already, and another takes its
 * place.  SIGTERM drains, a second one ends at once; SIGHUP replaces the
 * children that wait; SIGQUIT ends the supervisor alone, and what runs goes on.
 */
struct supervisor_config {
	int listener; /* a listening stream socket; closed at the drain */
	const char *listen_path; /* removed then; NULL: it is not ours */
	unsigned spare;		 /* children that wait */
	unsigned max_processes;
	int64_t drain_ms;
};

/* Run until a signal ends it and, but for SIGQUIT, all children have ended. */
enum err supervisor_run(const struct supervisor_config *config,
    struct worker *worker, struct diag *diag) MUST_CHECK;

#endif
