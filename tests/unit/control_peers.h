/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_CONTROL_PEERS_H
#define TESTS_UNIT_CONTROL_PEERS_H

#include <stdint.h>

#include <jansson.h>

#include "broker/store/store.h"
#include "broker/tunnels/control_server.h"
#include "common/wire.h"

/*
 * control_peers: a control server on a real socket, and the test is its
 * tunnels and its operators; Engine.IO and the resolver are stood in for.
 */
struct world {
	char dir[64], socket_path[96], store_path[96];
	int listen_fd;
};

/* Of all tests of a program. */
int make_world(void **state);
int end_world(void **state);

/* Of each: what it has started, and put in force but a configuration. */
int stop(void **state);
#define SERVER_TEST(f) cmocka_unit_test_teardown(f, stop)

/* ---- the server ---- */

#define PATIENCE_MS 10000 /* then something has failed */

/* An option that is 0 is PATIENCE_MS; the resolver is ours. */
void start(const struct world *world);
void start_with(const struct world *world,
    struct control_server_options options);

/*
 * The configuration has "/echo", of which there may be one, "/free", "/named"
 * and "/hang", of a name that is resolved when the gate is open, and Socket.IO
 * for one.  Put one in force in which one text has become another, or with
 * more behind it.
 */
void reload(const char *from, const char *to);
void reload_with(const char *more);

/* A real one, in the world's folder; close_store() removes it. */
struct store *open_store(const struct world *world);
void close_store(const struct world *world, struct store *store);

/* What a double of a store has to have, and nothing is in it. */
/* clang-format off */
#define NOTHING_OVER                             \
	.list_revocations = list_no_revocations, \
	.list_lease_ends = list_no_ends,         \
	.end_leases = end_no_leases
/* clang-format on */
enum err list_no_revocations(struct store *store, int64_t now,
    struct store_revocations *ret, struct diag *diag);
enum err list_no_ends(struct store *store, int64_t now,
    struct store_lease_ends *ret, struct diag *diag);
enum err end_no_leases(struct store *store, const struct store_lease_end *rows,
    size_t count, struct diag *diag);

/* Others wait in pass_gate() while the test has it closed. */
void close_gate(void);
void open_gate(void);
void pass_gate(void);

/* The end that Engine.IO was given last; -1: none since. */
int take_opened(void);

/* ---- a peer ---- */

/* A tunnel's user, where the test is root. */
#define NOBODY 65534

int new_peer(void);
int connect_peer(const struct world *world, int fd);
int peer(const struct world *world); /* connected */

void say(int fd, const char *text);

/* The next packet; NULL where the server has hung up. */
struct wire_packet *hear(int fd);

/* It is of this type. */
struct wire_packet *receive(int fd, enum wire_type type);

/* A grant that comes with a descriptor, which is returned. */
int hear_passed(int fd);

void hear_grant(int fd);
void hear_deny(int fd, int status);
void hear_close(int fd, const char *reason); /* with 4001 */

/* The server has hung up; closes it. */
void hear_end(int fd);

/*
 * Acks, the last one of this number and of the end, and then the end; of one
 * that has used nothing.
 */
void hear_acks(int fd, int64_t last);
void hear_taken(int fd);

/* What an operator is answered; the caller decrefs it. */
json_t *hear_reply(int fd);

/* Leases that the operator sees; until there are none. */
json_t *list_leases(const struct world *world); /* the caller decrefs it */
json_int_t count_leases(const struct world *world);
void wait_for_no_lease(const struct world *world);

#define OPEN(path)                                                         \
	"{\"v\":1,\"type\":\"open\",\"method\":\"GET\",\"target\":\"" path \
	"\",\"headers\":[[\"X-Forwarded-For\",\"127.0.0.1\"]],"            \
	"\"peer\":{\"local\":true}}"
#define TOTALS                                     \
	"\"client\":{\"messages\":1,\"bytes\":2}," \
	"\"upstream\":{\"messages\":3,\"bytes\":4}"
#define USAGE "{\"v\":1,\"type\":\"usage\"," TOTALS "}"
#define END                                                         \
	"{\"v\":1,\"type\":\"end\"," TOTALS ",\"side\":\"client\"," \
	"\"cause\":\"client_closed\",\"code\":1000}"
#define EVENT(n, tokens)                                                    \
	"{\"n\":" #n ",\"type\":\"response.done\",\"id\":\"resp_" #n        \
	"\",\"status\":\"completed\",\"usage\":{\"output_tokens\":" #tokens \
	"}}"
#define USAGE_OF(events) \
	"{\"v\":1,\"type\":\"usage\"," TOTALS ",\"events\":[" events "]}"
#define END_OF(events)                                              \
	"{\"v\":1,\"type\":\"end\"," TOTALS ",\"side\":\"client\"," \
	"\"cause\":\"client_closed\",\"code\":1000,\"events\":[" events "]}"

/* An operator's. */
#define LIST "{\"v\":1,\"type\":\"list\"}"
#define REPORT                                                  \
	"{\"v\":1,\"type\":\"report\",\"from\":\"1970-01-01\"," \
	"\"to\":\"2999-12-31\",\"by\":\"route\"}"
#define TOP_UP(amount)                                                       \
	"{\"v\":1,\"type\":\"top_up\",\"user\":\"ann\",\"amount\":\"" amount \
	"\",\"id\":\"one\"}"
#define BALANCE "{\"v\":1,\"type\":\"balance\",\"user\":\"ann\"}"
#define REVOKE(kind, value)                             \
	"{\"v\":1,\"type\":\"revoke\",\"kind\":\"" kind \
	"\",\"value\":\"" value "\"}"

#endif
