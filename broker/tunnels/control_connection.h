/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_CONNECTION_H
#define BROKER_CONTROL_CONNECTION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "broker/config/config.h"
#include "broker/tunnels/control_asks.h"
#include "broker/tunnels/control_ends.h"
#include "broker/tunnels/control_jobs.h"
#include "broker/tunnels/control_log.h"
#include "broker/tunnels/control_peer.h"
#include "broker/tunnels/control_questions.h"
#include "broker/tunnels/leases.h"
#include "broker/tunnels/refusals.h"
#include "broker/tunnels/resolver.h"
#include "broker/tunnels/tunnel_route.h"
#include "common/wire.h"

/*
 * control_connection: the connections of the control socket, and the states
 * that they are in.  What is said over them is for control_tunnel and
 * control_operator; all of it runs in the control server's thread.
 */
enum control_state {
	CONTROL_STATE_IDLE,	 /* may ask, and has to soon */
	CONTROL_STATE_DECIDING,	 /* asked; it is thought about elsewhere ... */
	CONTROL_STATE_RESOLVING, /* ... or the answer waits for a name */
	CONTROL_STATE_LEASED,	 /* its tunnel is open */
	CONTROL_STATE_DENIED,	 /* has its refusal, and goes */
	CONTROL_STATE_ASKING,	 /* asked; the answer waits for the store */
};

/* A decision that is made in another thread. */
struct control_job {
	struct control_connection *conn; /* NULL: has left */
	struct tunnel_route *route;
	enum err err;
	struct diag diag;
};

struct control_connection {
	int fd;
	enum control_state state;
	struct control_peer peer;
	int64_t deadline_ms; /* without a lease */
	int64_t second_ms;   /* when the count below began */
	unsigned packets;
	struct tunnel_route *route; /* while resolving */
	struct control_job *job;    /* while deciding */
	struct lease *lease;
	bool ended;   /* it is over; what it has reported is being booked */
	bool settled; /* its asks are, too: its end need not be told again */
	int64_t ended_ms;	  /* when it was */
	int64_t reported, booked; /* numbers of its last usage events */
	int64_t resume_until; /* what takes up its lease is good; 0: nothing */
	bool revoked;	      /* was told to close */
	bool superseded;      /* was told to make room for another */
	int64_t events_ms;    /* when the count below began */
	size_t events;	      /* of the vendor's usage, reported */
	int64_t told_ms;      /* when it was first told to close; 0 */
	struct wire_limits limits; /* what its tunnel was told last */
	TAILQ_ENTRY(control_connection) entry;
};

TAILQ_HEAD(control_connections, control_connection);

struct control_server {
	int listen_fd, epoll_fd, stop_fd;
	/* as the options */
	int64_t silence_ms, overdue_ms, closing_ms, ended_ms;
	struct resolver *resolver;
	struct leases *leases;
	struct refusals *refusals;
	struct control_questions *questions;
	struct control_jobs *jobs;
	struct control_asks *asks;
	struct control_ends *ends;
	bool asked;   /* there is something to be sent of them */
	bool decided; /* some of them are done */
	/* revocations: when they are read next, and how that went */
	int64_t load_ms, load_failed_ms;
	int64_t sweep_ms; /* when those that are over are looked at next */
	enum err load_err;
	struct diag load_diag;
	bool answered; /* some of them */
	/* Those without a lease, by deadline; those with one. */
	struct control_connections waiting, leased;
	unsigned waiting_count, resolving_count;
	unsigned ended_count;	/* of those with a lease */
	unsigned tunnels_count; /* of those that wait, without operators */
	int64_t retry_ms;	/* when those that resolve ask again */
	/* control_accept's */
	bool accepting, ready;	 /* whether somebody waits to be accepted */
	int64_t accept_again_ms; /* while not accepting */
	bool full;		 /* there was no room when it was looked at */
	int64_t full_ms;	 /* when there was last, or was made */
	unsigned crowded;	 /* had to leave, since the log was told ... */
	int64_t crowded_log_ms;	 /* ... which it is then */
	pthread_t thread;
	char packet[WIRE_MAX_BYTES + 1];
};

/* Have the loop look at a descriptor; it tells sources by their address. */
bool control_connection_watch(struct control_server *srv, int fd, void *source);

/* Take in a new one, in its first state; change the state of one. */
void control_connection_add(struct control_server *srv,
    struct control_connection *conn, enum control_state state);
void control_connection_set(struct control_server *srv,
    struct control_connection *conn, enum control_state state);

/* The one exit of a connection: with it ends its lease. */
void control_connection_drop(struct control_server *srv,
    struct control_connection *conn, enum control_cause cause,
    const struct wire_usage *end);

/*
 * Send one packet, with a descriptor or -1, or drop the peer: false.  Nothing
 * is ever queued: what a peer may be sent before it has read the last is less
 * than its socket holds.
 */
bool control_connection_send_with(struct control_server *srv,
    struct control_connection *conn, const struct wire_packet *packet, int fd);
bool control_connection_send(struct control_server *srv,
    struct control_connection *conn, const struct wire_packet *packet);

/* Have a tunnel end itself; that of another connection than the event's. */
void control_connection_order_close(struct control_connection *tunnel, int code,
    const char *reason);

#endif
