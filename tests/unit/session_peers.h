/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_SESSION_PEERS_H
#define TESTS_UNIT_SESSION_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <jansson.h>

#include "common/loop.h"
#include "common/wire.h"
#include "tunnel/session.h"

/*
 * session_peers: one session, and the test is its client, its broker and its
 * vendor, each on a real socket; the clock is clock_double's.
 */
struct fixture {
	char dir[32];
	struct sockaddr_un addr;
	struct loop *loop;
	struct loop_timer *timer;
	struct session_env env;
	struct session *session;
	int session_fd; /* the session's: only looked at */
	int client, broker_listener, broker, vendor_listener, vendor;
	uint16_t port;
	const char *behind;   /* sent in one with the request; NULL: nothing */
	const char *messages; /* of the grant, as its last member; NULL: none */
	int done;
	bool timed_out;
	char answer[4096]; /* what the client got */
	json_t *body;
};

int set_up(void **state);
int tear_down(void **state);

/* A fresh start within a test. */
struct fixture *again(void **state);

/* Run until someone stops the loop, or for so long: whether someone did. */
bool run(struct fixture *fix, int64_t ms);
void wait_for(struct fixture *fix, int fd); /* to become readable */

/* What can happen without anybody's doing has happened. */
void settle(struct fixture *fix);

void say(int fd, const char *text);
void hang_up(int *fd);

/* The session is over; and nothing comes, and it is the end. */
void expect_done(struct fixture *fix);
void expect_end(struct fixture *fix, int fd);

/* ---- the broker ---- */

#define DENY_(x) "{\"v\":1,\"type\":\"deny\"," x "}"
#define CLOSE	 "{\"v\":1,\"type\":\"close\",\"code\":4001,\"reason\":\"r\"}"

/* It listens, again. */
int listen_at(const void *addr, socklen_t len, int family, int type);

struct wire_packet *receive(struct fixture *fix, enum wire_type type);

/* The request is in, and the broker has been asked. */
void reach_ask(struct fixture *fix);
void grant(struct fixture *fix);
void expect_last_packet(struct fixture *fix, const char *cause,
    const char *side);
void expect_nobody_was_asked(struct fixture *fix);

/* ---- the vendor ---- */

/* Granted, and the vendor has the request; its key goes to key. */
void reach_dial(struct fixture *fix, char key[25]);
void accept_upgrade(struct fixture *fix, const char *key);

/* ---- the client ---- */

#define REST                                         \
	"Host: a.example\r\nConnection: Upgrade\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define UPGRADE	   "Upgrade: websocket\r\n"
#define VERSION_13 "Sec-WebSocket-Version: 13\r\n"
#define REQUEST	   "GET /echo?a=b HTTP/1.1\r\n" REST UPGRADE VERSION_13 "\r\n"

void read_answer(struct fixture *fix);

/* A refusal as it has to be, the end after it, and then nothing is left. */
void expect_refusal(struct fixture *fix, int status, const char *code);
void expect_unavailable(struct fixture *fix);

/* Of that refusal's body. */
const char *error_member(const struct fixture *fix, const char *name);

#endif
