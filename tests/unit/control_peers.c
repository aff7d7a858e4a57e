/* SPDX-License-Identifier: MIT */
#include "control_peers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/chat/notify.h"
#include "broker/config/config.h"
#include "broker/limits/revocations.h"
#include "broker/signing_key.h"
#include "broker/socketio/engineio.h"
#include "broker/store/store_sqlite.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/service.h"
#include "common/xalloc.h"
#include "config_text.h"

static const char text_of_config[] =
    "access {\n"
    "	clients = {\"loopback\"}\n"
    "	missing_origin = true\n"
    "}\n"
    "control {\n"
    "	users = {\"nobody\"}\n"
    "}\n"
    "relay \"/echo\" {\n"
    "	upstream = \"ws://127.0.0.1:9001/echo\"\n"
    "	max_connections = 1\n"
    "}\n"
    "relay \"/free\" {\n"
    "	upstream = \"ws://127.0.0.1:9001/\"\n"
    "}\n"
    "relay \"/named\" {\n"
    "	upstream = \"wss://vendor.example/\"\n"
    "}\n"
    "relay \"/hang\" {\n"
    "	upstream = \"wss://hang.example/\"\n"
    "}\n"
    "socketio {\n"
    "	max_sessions = 1\n"
    "}\n";

/* ---- the server ---------------------------------------------------------- */

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_opened = PTHREAD_COND_INITIALIZER;
static bool gate_closed;

void
close_gate(void)
{
	(void)pthread_mutex_lock(&gate_lock);
	gate_closed = true;
	(void)pthread_mutex_unlock(&gate_lock);
}

void
open_gate(void)
{
	(void)pthread_mutex_lock(&gate_lock);
	gate_closed = false;
	(void)pthread_cond_broadcast(&gate_opened);
	(void)pthread_mutex_unlock(&gate_lock);
}

void
pass_gate(void)
{
	(void)pthread_mutex_lock(&gate_lock);
	while (gate_closed)
		(void)pthread_cond_wait(&gate_opened, &gate_lock);
	(void)pthread_mutex_unlock(&gate_lock);
}

static enum err
lookup(const char *name, struct resolver_answer *ret, struct diag *diag)
{
	(void)diag;
	if (strcmp(name, "hang.example") == 0)
		pass_gate();
	*ret = (struct resolver_answer){
		.addresses = { "8.8.8.8" },
		.count = 1,
	};
	return ERR_OK;
}

static int64_t
or_patience(int64_t given_ms)
{
	return given_ms == 0 ? PATIENCE_MS : given_ms;
}

void
start_with(const struct world *world, struct control_server_options options)
{
	struct diag diag;

	options.lookup = lookup;
	options.lookup_ms = or_patience(options.lookup_ms);
	options.silence_ms = or_patience(options.silence_ms);
	options.overdue_ms = or_patience(options.overdue_ms);
	options.closing_ms = or_patience(options.closing_ms);
	options.ended_ms = or_patience(options.ended_ms);
	if (control_server_start(world->listen_fd, &options, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
}

void
start(const struct world *world)
{
	start_with(world, (struct control_server_options){ .lookup = NULL });
}

int
stop(void **state)
{
	(void)state;
	control_server_stop();
	store_set_current(NULL);
	notify_set_sink(NULL);
	revocations_done();
	signing_key_done();
	return 0;
}

int
make_world(void **state)
{
	static struct world world;
	struct diag diag = { "" };

	log_init("test_control", LOG_LEVEL_ERROR);
	(void)strcpy(world.dir, "/tmp/culvert-test.XXXXXX");
	if (mkdtemp(world.dir) == NULL || chmod(world.dir, 0755) == -1)
		return -1;
	(void)snprintf(world.socket_path, sizeof(world.socket_path),
	    "%s/control.sock", world.dir);
	(void)snprintf(world.store_path, sizeof(world.store_path),
	    "%s/culvert.db", world.dir);
	if (service_listen_unix(world.socket_path, SOCK_SEQPACKET, 0666,
		&world.listen_fd, &diag) != ERR_OK) {
		print_error("%s\n", diag.text);
		return -1;
	}
	reload_with("");
	*state = &world;
	return 0;
}

int
end_world(void **state)
{
	struct world *world = *state;

	config_set_current(NULL);
	(void)close(world->listen_fd);
	(void)unlink(world->socket_path);
	return rmdir(world->dir);
}

void
reload(const char *from, const char *to)
{
	const char *at = strstr(text_of_config, from);
	char *text = xasprintf("%.*s%s%s", (int)(at - text_of_config),
	    text_of_config, to, at + strlen(from));

	config_set_current(config_text(text));
	free(text);
}

void
reload_with(const char *more)
{
	char *text = xasprintf("%s%s", text_of_config, more);

	config_set_current(config_text(text));
	free(text);
}

struct store *
open_store(const struct world *world)
{
	struct store *store;
	struct diag diag = { "" };

	if (store_sqlite_open(world->store_path, &store, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	return store;
}

void
close_store(const struct world *world, struct store *store)
{
	store->ops->close(store);
	assert_int_equal(unlink(world->store_path), 0);
}

enum err
list_no_revocations(struct store *store, int64_t now,
    struct store_revocations *ret, struct diag *diag)
{
	(void)store;
	(void)now;
	(void)diag;
	*ret = (struct store_revocations){ .items = NULL };
	return ERR_OK;
}

enum err
list_no_ends(struct store *store, int64_t now, struct store_lease_ends *ret,
    struct diag *diag)
{
	(void)store;
	(void)now;
	(void)diag;
	*ret = (struct store_lease_ends){ .items = NULL };
	return ERR_OK;
}

enum err
end_no_leases(struct store *store, const struct store_lease_end *rows,
    size_t count, struct diag *diag)
{
	(void)store;
	(void)rows;
	(void)count;
	(void)diag;
	return ERR_OK;
}

/* ---- stands in for Engine.IO --------------------------------------------- */

static atomic_int opened_fd = -1;

int
take_opened(void)
{
	return atomic_exchange(&opened_fd, -1);
}

bool
eio_takes(const char *path)
{
	return strcmp(path, "/socket.io/") == 0;
}

enum err
eio_may_open(const struct target *target, const char *address,
    json_t **ret_body, struct diag *diag)
{
	(void)address;
	if (target_find(target, "sid") == NULL)
		return ERR_OK;
	*ret_body = json_pack("{s:i}", "code", 1);
	diag_set(diag, "no such session");
	return ERR_PROTO;
}

void
eio_open(const struct config *config, const struct target *target,
    const struct wire_headers *headers, const char *address, int fd)
{
	(void)config;
	assert_string_equal(target_find(target, "EIO"), "4");
	assert_string_equal(wire_headers_find(headers, "x-forwarded-for"),
	    "127.0.0.1");
	assert_string_equal(address, "127.0.0.1");
	atomic_store(&opened_fd, fd);
}

/* ---- a peer -------------------------------------------------------------- */

int
new_peer(void)
{
	const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_not_equal(fd, -1);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
			     sizeof(patience)),
	    0);
	return fd;
}

int
connect_peer(const struct world *world, int fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	(void)strcpy(addr.sun_path, world->socket_path);
	return connect(fd, (void *)&addr, sizeof(addr));
}

int
peer(const struct world *world)
{
	int fd = new_peer();

	assert_int_equal(connect_peer(world, fd), 0);
	return fd;
}

void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
	    strlen(text));
}

struct wire_packet *
hear(int fd)
{
	static char data[WIRE_MAX_BYTES];
	struct wire_packet *packet;
	ssize_t n = recv(fd, data, sizeof(data), 0);
	struct diag diag;

	if (n == 0 || (n == -1 && errno == ECONNRESET))
		return NULL;
	if (n == -1)
		fail_msg("no answer: %s", strerror(errno));
	if (wire_parse(data, (size_t)n, &packet, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	return packet;
}

struct wire_packet *
receive(int fd, enum wire_type type)
{
	struct wire_packet *packet = hear(fd);

	assert_non_null(packet);
	if (packet->type == WIRE_DENY && type != WIRE_DENY)
		fail_msg("denied: %s", packet->deny.message);
	assert_int_equal(packet->type, type);
	return packet;
}

int
hear_passed(int fd)
{
	static char data[WIRE_MAX_BYTES];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec part = { .iov_base = data, .iov_len = sizeof(data) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	struct wire_packet *packet;
	int passed;

	assert_true(n > 0);
	assert_int_equal(wire_parse(data, (size_t)n, &packet, NULL), ERR_OK);
	assert_int_equal(packet->type, WIRE_GRANT);
	assert_true(packet->grant.upstream.passed);
	assert_string_equal(packet->grant.route, "socket.io");
	wire_packet_free(packet);
	assert_non_null(CMSG_FIRSTHDR(&message));
	assert_int_equal(control.header.cmsg_type, SCM_RIGHTS);
	assert_int_equal(control.header.cmsg_len, CMSG_LEN(sizeof(int)));
	memcpy(&passed, CMSG_DATA(&control.header), sizeof(passed));
	return passed;
}

void
hear_grant(int fd)
{
	wire_packet_free(receive(fd, WIRE_GRANT));
}

void
hear_deny(int fd, int status)
{
	struct wire_packet *packet = receive(fd, WIRE_DENY);

	assert_int_equal(packet->deny.status, status);
	wire_packet_free(packet);
}

void
hear_close(int fd, const char *reason)
{
	struct wire_packet *packet = receive(fd, WIRE_CLOSE);

	assert_int_equal(packet->close.code, 4001);
	assert_string_equal(packet->close.reason, reason);
	assert_null(packet->close.lease);
	wire_packet_free(packet);
}

void
hear_end(int fd)
{
	assert_null(hear(fd));
	(void)close(fd);
}

void
hear_acks(int fd, int64_t last)
{
	struct wire_packet *packet;
	bool ended = false;
	int64_t n = 0;

	while ((packet = hear(fd)) != NULL) {
		assert_int_equal(packet->type, WIRE_ACK);
		assert_false(ended);
		ended = packet->ack.ended;
		assert_true(packet->ack.n > n || ended);
		n = packet->ack.n;
		wire_packet_free(packet);
	}
	assert_true(ended);
	assert_int_equal(n, last);
	(void)close(fd);
}

void
hear_taken(int fd)
{
	hear_acks(fd, 0);
}

json_t *
hear_reply(int fd)
{
	struct wire_packet *packet = receive(fd, WIRE_REPLY);
	json_t *value = json_incref(packet->reply);

	wire_packet_free(packet);
	return value;
}

json_t *
list_leases(const struct world *world)
{
	int fd = peer(world);
	json_t *reply;

	say(fd, LIST);
	reply = hear_reply(fd);
	(void)close(fd);
	return reply;
}

json_int_t
count_leases(const struct world *world)
{
	json_t *list = list_leases(world);
	json_int_t total = json_integer_value(json_object_get(list, "total"));

	json_decref(list);
	return total;
}

void
wait_for_no_lease(const struct world *world)
{
	int64_t until_ms = clock_ms() + PATIENCE_MS;

	while (count_leases(world) > 0)
		assert_true(clock_ms() < until_ms);
}
