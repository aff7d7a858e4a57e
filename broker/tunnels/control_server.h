/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_SERVER_H
#define BROKER_CONTROL_SERVER_H

#include "broker/tunnels/resolver.h"
#include "common/err.h"

/*
 * control_server: the broker's end of the control socket.
 *
 * One thread of its own serves every connection and waits for none of them: a
 * peer that sends rubbish, more or other than it may, nothing, or that does not
 * read, is dropped.  What may have to be waited for is decided elsewhere
 * (control_jobs, control_questions, control_asks) and comes back.  One
 * connection is one tunnel, and its end frees the lease.  Who may connect is
 * decided by SO_PEERCRED: the users of the configuration open tunnels
 * (control_tunnel), root and our own user are operators, too
 * (control_operator).  Limits that a new configuration changes reach a tunnel
 * when it reports its usage next.
 *
 * There is one in a process.  config_set_current() comes first.
 */
struct control_server_options {
	resolver_lookup *lookup; /* resolver_system */
	int64_t lookup_ms;	 /* most that a name may take */
	int64_t silence_ms;	 /* most before a peer asks something */
	int64_t overdue_ms;	 /* past its lifetime: it is told to end */
	int64_t closing_ms;	 /* most until a tunnel ends that is told to */
	int64_t ended_ms;	 /* most until what it has used is booked */
};

/* What the broker uses. */
extern const struct control_server_options control_server_defaults;

/*
 * Serve a listening SEQPACKET socket, which stays the caller's.  ERR_SYS.
 */
enum err control_server_start(int listen_fd,
    const struct control_server_options *options, struct diag *diag) MUST_CHECK;

/*
 * End the connections and the thread; tunnels go on without us.  Harmless where
 * nothing was started.
 */
void control_server_stop(void);

#endif
