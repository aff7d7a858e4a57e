/* SPDX-License-Identifier: MIT */
#ifndef BROKER_MESSAGE_FILE_H
#define BROKER_MESSAGE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/tunnels/leases.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * message_file: routes' message logs, as tunnels report them.
 *
 * A record is one line of JSON: "session", "lease", "route", "client", "user"
 * where it is known, and what the tunnel says of the message.  {"dropped":N}
 * stands where N records are missing.  The file has mode 0600; one that would
 * exceed its size becomes FILE.1, that one FILE.2, and so on.
 *
 * A thread of its own writes; whoever reports never waits: records for which
 * the queue has no room, or that cannot be written, are dropped and counted.
 * There is one in a process.  Thread-safe.
 */
struct message_file {
	const char *path;
	uint64_t max_bytes; /* 0: no limit */
	unsigned keep;	    /* files that are put aside */
	bool content;	    /* whether content may be written */
};

/* max_bytes wait at the most.  ERR_SYS. */
enum err message_file_start(size_t max_bytes, struct diag *diag) MUST_CHECK;

#define MESSAGE_FILE_QUEUE_BYTES (8 * 1024 * 1024) /* what the broker uses */

/* Write what waits and end the thread.  Harmless where none was started. */
void message_file_stop(void);

/* Everything is copied.  Does nothing where none was started. */
void message_file_write(const struct message_file *file,
    const struct lease_info *lease, const struct wire_log *log);

#endif
