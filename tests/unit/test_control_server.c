/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broker/chat/notify.h"
#include "broker/config/config.h"
#include "broker/limits/revocations.h"
#include "broker/signing_key.h"
#include "broker/socketio/engineio.h"
#include "broker/store/ledger.h"
#include "broker/store/store_sqlite.h"
#include "broker/tunnels/control_questions.h"
#include "broker/tunnels/control_server.h"
#include "common/log.h"
#include "common/service.h"
#include "common/wire.h"
#include "common/xalloc.h"

#define PATIENCE_MS 10000 /* then something has failed */
#define NOBODY	    65534

static const char config_text[] =
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

struct world {
	char dir[64], config_path[96], socket_path[96];
	int listen_fd;
};

/* ---- the server under test --------------------------------------------- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

/* Stands in for the system: one name hangs until the test opens the gate. */
static enum err
lookup(const char *name, struct resolver_answer *ret, struct diag *diag)
{
	(void)diag;
	if (strcmp(name, "hang.example") == 0) {
		(void)pthread_mutex_lock(&gate);
		(void)pthread_mutex_unlock(&gate);
	}
	*ret = (struct resolver_answer){
		.addresses = { "8.8.8.8" },
		.count = 1,
	};
	return ERR_OK;
}

static int64_t closing_ms = PATIENCE_MS;

static void
start(const struct world *world, int64_t lookup_ms, int64_t silence_ms)
{
	const struct control_server_options options = {
		.lookup = lookup,
		.lookup_ms = lookup_ms,
		.silence_ms = silence_ms,
		.closing_ms = closing_ms,
		.ended_ms = closing_ms,
	};
	struct diag diag;

	if (control_server_start(world->listen_fd, &options, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
}

static int
make_world(void **state)
{
	static struct world world;
	struct config *config;
	struct diag diag = { "" };
	FILE *f;

	log_init("test_control_server", LOG_LEVEL_ERROR);
	(void)strcpy(world.dir, "/tmp/culvert-test.XXXXXX");
	if (mkdtemp(world.dir) == NULL || chmod(world.dir, 0755) == -1)
		return -1;
	(void)snprintf(world.config_path, sizeof(world.config_path),
	    "%s/culvert.conf", world.dir);
	(void)snprintf(world.socket_path, sizeof(world.socket_path),
	    "%s/control.sock", world.dir);
	f = fopen(world.config_path, "w");
	if (f == NULL || fputs(config_text, f) == EOF || fclose(f) == EOF)
		return -1;
	if (config_load(world.config_path, &config, &diag) != ERR_OK ||
	    service_listen_unix(world.socket_path, SOCK_SEQPACKET, 0666,
		&world.listen_fd, &diag) != ERR_OK) {
		print_error("%s\n", diag.text);
		return -1;
	}
	config_set_current(config);
	*state = &world;
	return 0;
}

static int
end_world(void **state)
{
	struct world *world = *state;

	config_set_current(NULL);
	(void)close(world->listen_fd);
	(void)unlink(world->socket_path);
	(void)unlink(world->config_path);
	return rmdir(world->dir);
}

static int
stop(void **state)
{
	(void)state;
	control_server_stop();
	return 0;
}

/* ---- stands in for Engine.IO ------------------------------------------- */

static atomic_int opened_fd = -1;

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

/* ---- a peer ------------------------------------------------------------ */

static int
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

static int
connect_peer(const struct world *world, int fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	(void)strcpy(addr.sun_path, world->socket_path);
	return connect(fd, (void *)&addr, sizeof(addr));
}

static int
peer(const struct world *world)
{
	int fd = new_peer();

	assert_int_equal(connect_peer(world, fd), 0);
	return fd;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
	    strlen(text));
}

/* The next packet; NULL where the server has hung up. */
static struct wire_packet *
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
#define LIST "{\"v\":1,\"type\":\"list\"}"

/* A grant that comes with a descriptor, which is returned. */
static int
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

static void
hear_grant(int fd)
{
	struct wire_packet *packet = hear(fd);

	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_GRANT);
	wire_packet_free(packet);
}

static void
hear_deny(int fd, int status)
{
	struct wire_packet *packet = hear(fd);

	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_DENY);
	assert_int_equal(packet->deny.status, status);
	wire_packet_free(packet);
}

static void
hear_end(int fd)
{
	assert_null(hear(fd));
	(void)close(fd);
}

/* Acks, the last one of this number and of the end, and then the end. */
static void
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

/* The same of one that has used nothing. */
static void
hear_taken(int fd)
{
	hear_acks(fd, 0);
}

/* Leases that the operator sees. */
static json_int_t
count_leases(const struct world *world)
{
	int fd = peer(world);
	struct wire_packet *packet;
	json_int_t total;

	say(fd, LIST);
	packet = hear(fd);
	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_REPLY);
	total = json_integer_value(json_object_get(packet->reply, "total"));
	wire_packet_free(packet);
	(void)close(fd);
	return total;
}

/* ---- tests ------------------------------------------------------------- */

static void
grants_leases_and_lists_them(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	const json_t *lease;
	int one, admin;

	start(world, PATIENCE_MS, PATIENCE_MS);
	one = peer(world);
	say(one, OPEN("/echo"));
	packet = hear(one);
	assert_int_equal(packet->type, WIRE_GRANT);
	assert_string_equal(packet->grant.upstream.addresses[0], "127.0.0.1");
	assert_string_equal(packet->grant.upstream.target, "/echo");
	say(one, USAGE);

	admin = peer(world);
	for (;;) {
		struct wire_packet *reply;
		json_int_t bytes;

		say(admin, LIST);
		reply = hear(admin);
		assert_non_null(reply);
		lease =
		    json_array_get(json_object_get(reply->reply, "leases"), 0);
		assert_string_equal(json_string_value(
					json_object_get(lease, "id")),
		    packet->grant.lease);
		bytes = json_integer_value(
		    json_object_get(json_object_get(lease, "from_upstream"),
			"bytes"));
		wire_packet_free(reply);
		if (bytes == 4)
			break;
		(void)poll(NULL, 0, 50);
	}
	wire_packet_free(packet);
	(void)close(admin);
	(void)close(one);
}

static void
passes_one_end_of_a_socket_whose_other_is_engine_ios(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	int one, two, passed, opened;
	char text[8];

	start(world, PATIENCE_MS, PATIENCE_MS);
	one = peer(world);
	say(one, OPEN("/socket.io/?EIO=4"));
	passed = hear_passed(one);
	opened = atomic_exchange(&opened_fd, -1);
	assert_int_not_equal(opened, -1);
	assert_true((fcntl(opened, F_GETFL) & O_NONBLOCK) != 0);
	assert_int_equal(send(opened, "hi", 2, 0), 2);
	assert_int_equal(recv(passed, text, sizeof(text), 0), 2);
	assert_int_equal(count_leases(world), 1);
	say(one, USAGE);
	/* as many as there may be sessions */
	two = peer(world);
	say(two, OPEN("/socket.io/?EIO=4"));
	hear_deny(two, 429);
	(void)close(two);
	/* nobody else has the passed end */
	(void)close(passed);
	assert_int_equal(recv(opened, text, sizeof(text), 0), 0);
	(void)close(opened);
	say(one, END);
	hear_taken(one);

	one = peer(world);
	say(one, OPEN("/socket.io/?EIO=4&sid=x"));
	packet = hear(one);
	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_DENY);
	assert_int_equal(packet->deny.status, 400);
	assert_int_equal(json_integer_value(
			     json_object_get(packet->deny.body, "code")),
	    1);
	wire_packet_free(packet);
	(void)close(one);
	assert_int_equal(atomic_load(&opened_fd), -1);
	assert_int_equal(count_leases(world), 0);
}

/* Put a configuration in force in which one text has become another. */
static void
reload(const char *from, const char *to)
{
	const char *at = strstr(config_text, from);
	char *text = xasprintf("%.*s%s%s", (int)(at - config_text), config_text,
	    to, at + strlen(from));
	struct config *config;
	struct diag diag;

	if (config_parse("reload", text, strlen(text), &config, &diag) !=
	    ERR_OK)
		fail_msg("%s", diag.text);
	free(text);
	config_set_current(config);
}

static void
answers_a_report_with_limits_that_have_changed(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	int fd;

	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say(fd, OPEN("/echo"));
	hear_grant(fd);
	say(fd, USAGE);
	reload("max_connections = 1", "lifetime = 7");
	say(fd, USAGE);
	say(fd, USAGE);
	packet = hear(fd);
	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_LIMITS);
	assert_int_equal(packet->limits.lifetime_ms, 7000);
	wire_packet_free(packet);
	/* once, and none where the relay is there no more */
	reload("relay \"/echo\"", "relay \"/other\"");
	say(fd, USAGE);
	say(fd, END);
	hear_taken(fd);
	reload("", "");
}

/* What the ledger has once it has been stopped. */
static void
assert_usage(struct store *store, uint64_t events, uint64_t tokens)
{
	struct store_sums sums;
	struct diag diag;

	assert_int_equal(store->ops->sum_usage(store, 0, INT64_MAX, &sums,
			     &diag),
	    ERR_OK);
	assert_int_equal(sums.count, 1);
	assert_string_equal(sums.items[0].route, "/echo");
	assert_int_equal(sums.items[0].events, events);
	assert_int_equal(sums.items[0].total_tokens, tokens);
	store_sums_done(&sums);
}

static void
keeps_what_a_tunnel_reported_before_it_died(void **state)
{
	struct world *world = *state;
	char *path = xasprintf("%s/culvert.db", world->dir);
	struct store *store;
	struct diag diag;
	int fd;

	assert_int_equal(store_sqlite_open(path, &store, &diag), ERR_OK);
	assert_int_equal(ledger_start(store, &ledger_defaults, &diag), ERR_OK);
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say(fd, OPEN("/echo"));
	hear_grant(fd);
	say(fd, USAGE_OF(EVENT(1, 10)));
	say(fd, USAGE);
	/* one that comes again is not booked twice, whatever it says now */
	say(fd, USAGE_OF(EVENT(1, 99) "," EVENT(2, 20)));
	say(fd, USAGE_OF("{\"n\":\"none\"}"));
	(void)close(fd);
	while (count_leases(world) > 0)
		(void)poll(NULL, 0, 5);
	fd = peer(world);
	say(fd, OPEN("/echo"));
	hear_grant(fd);
	say(fd, USAGE_OF(EVENT(1, 300)));
	say(fd, END_OF(EVENT(1, 300) "," EVENT(2, 4000)));
	hear_acks(fd, 2);
	control_server_stop();
	ledger_stop();
	assert_usage(store, 4, 4330);
	store->ops->close(store);
	assert_int_equal(unlink(path), 0);
	free(path);
}

#define REPORT                                                  \
	"{\"v\":1,\"type\":\"report\",\"from\":\"1970-01-01\"," \
	"\"to\":\"2999-12-31\",\"by\":\"route\"}"

/* A store that answers when the test opens the gate. */
static enum err
sum_slowly(struct store *store, int64_t from, int64_t to,
    struct store_sums *ret, struct diag *diag)
{
	(void)store;
	(void)diag;
	assert_int_equal(from, 0);
	assert_int_equal(to, 32503680000); /* 3000-01-01 */
	(void)pthread_mutex_lock(&gate);
	(void)pthread_mutex_unlock(&gate);
	*ret = (struct store_sums){ .items = xcalloc(1, sizeof(ret->items[0])),
		.count = 1 };
	*ret->items = (struct store_sum){ .day = xstrdup("2026-01-01"),
		.route = xstrdup("openai"),
		.user = xstrdup(""),
		.model = xstrdup(""),
		.events = 7 };
	return ERR_OK;
}

static enum err
list_no_revocations(struct store *store, int64_t now,
    struct store_revocations *ret, struct diag *diag)
{
	(void)store;
	(void)now;
	(void)diag;
	*ret = (struct store_revocations){ .items = NULL };
	return ERR_OK;
}

static enum err
list_no_ends(struct store *store, int64_t now, struct store_lease_ends *ret,
    struct diag *diag)
{
	(void)store;
	(void)now;
	(void)diag;
	*ret = (struct store_lease_ends){ .items = NULL };
	return ERR_OK;
}

static enum err
end_no_leases(struct store *store, const struct store_lease_end *rows,
    size_t count, struct diag *diag)
{
	(void)store;
	(void)rows;
	(void)count;
	(void)diag;
	return ERR_OK;
}

/* clang-format off */
#define NO_REVOCATIONS                           \
	.list_revocations = list_no_revocations, \
	.list_lease_ends = list_no_ends,         \
	.end_leases = end_no_leases
/* clang-format on */

static const struct store_ops slow_ops = { .sum_usage = sum_slowly,
	NO_REVOCATIONS };
static struct store slow_store = { .ops = &slow_ops };

static int
stop_reports(void **state)
{
	(void)stop(state);
	store_set_current(NULL);
	return 0;
}

/* The answer to a report: its error's code, or NULL and its rows. */
static json_t *
hear_report(int fd)
{
	struct wire_packet *packet = hear(fd);
	json_t *value;

	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_REPLY);
	value = json_incref(packet->reply);
	wire_packet_free(packet);
	return value;
}

static void
assert_reported(json_t *value)
{
	const json_t *row = json_array_get(json_object_get(value, "rows"), 0);

	assert_string_equal(json_string_value(json_object_get(row, "route")),
	    "openai");
	assert_int_equal(json_integer_value(json_object_get(row, "events")), 7);
	json_decref(value);
}

static void
assert_refused(json_t *value, const char *reason)
{
	const char *text = json_string_value(
	    json_object_get(json_object_get(value, "error"), "message"));

	assert_non_null(text);
	assert_non_null(strstr(text, reason));
	json_decref(value);
}

static void
reports_without_keeping_others_waiting(void **state)
{
	struct world *world = *state;
	int one, two, left, tunnel;

	/* a report may take longer than a peer may be silent */
	store_set_current(&slow_store);
	start(world, PATIENCE_MS, 1000);
	(void)pthread_mutex_lock(&gate);
	one = peer(world);
	say(one, REPORT);
	two = peer(world);
	say(two, REPORT);
	assert_refused(hear_report(two), "another report");
	tunnel = peer(world);
	say(tunnel, OPEN("/free"));
	hear_grant(tunnel);
	hear_end(two); /* silent for too long: the first one was not */
	(void)pthread_mutex_unlock(&gate);
	assert_reported(hear_report(one));
	say(one, REPORT);
	assert_reported(hear_report(one));
	/* who does not wait for the answer leaves the next one free */
	(void)pthread_mutex_lock(&gate);
	say(one, REPORT);
	left = peer(world);
	say(left, REPORT);
	assert_refused(hear_report(left), "another report");
	(void)close(left);
	(void)close(one);
	(void)count_leases(world); /* it has seen that it left */
	(void)pthread_mutex_unlock(&gate);
	do {
		json_t *value;

		one = peer(world);
		say(one, REPORT);
		value = hear_report(one);
		if (json_object_get(value, "error") == NULL) {
			assert_reported(value);
			break;
		}
		json_decref(value);
		(void)close(one);
	} while (true);
	(void)close(one);
	(void)close(tunnel);
}

#define TOP_UP(amount)                                                       \
	"{\"v\":1,\"type\":\"top_up\",\"user\":\"ann\",\"amount\":\"" amount \
	"\",\"id\":\"one\"}"
#define BALANCE "{\"v\":1,\"type\":\"balance\",\"user\":\"ann\"}"

/* A store that knows one account, and is as slow. */
static enum err
get_account_slowly(struct store *store, const char *user,
    struct store_account *ret, struct diag *diag)
{
	(void)store;
	(void)diag;
	assert_string_equal(user, "ann");
	(void)pthread_mutex_lock(&gate);
	(void)pthread_mutex_unlock(&gate);
	*ret = (struct store_account){ .balance = 4500000, .reserved = 1 };
	return ERR_OK;
}

static enum err
top_up_once(struct store *store, const struct store_top_up *in,
    struct store_account *ret, struct diag *diag)
{
	(void)store;
	assert_string_equal(in->user, "ann");
	assert_string_equal(in->id, "one");
	if (in->amount != -500000) {
		diag_set(diag, "this id was used for another top-up");
		return ERR_MISMATCH;
	}
	*ret = (struct store_account){ .balance = 4500000 };
	return ERR_OK;
}

static const struct store_ops account_ops = {
	.sum_usage = sum_slowly,
	NO_REVOCATIONS,
	.get_account = get_account_slowly,
	.top_up = top_up_once,
};
static struct store account_store = { .ops = &account_ops };

static _Atomic unsigned told;

static void
tell_usage(const char *owner)
{
	assert_string_equal(owner, "u:ann");
	told++;
}

static const struct notify_sink sink = { .usage = tell_usage };

static void
assert_account(json_t *value, const char *balance, const char *id)
{
	const char *text = json_string_value(json_object_get(value, "balance"));

	assert_non_null(text);
	assert_string_equal(text, balance);
	text = json_string_value(json_object_get(value, "id"));
	if (id == NULL)
		assert_null(text);
	else
		assert_string_equal(text, id);
	assert_int_equal(json_integer_value(
			     json_object_get(value, "balance_micro")),
	    4500000);
	json_decref(value);
}

static int
stop_accounts(void **state)
{
	notify_set_sink(NULL);
	return stop_reports(state);
}

static void
answers_nothing_without_a_store(void **state)
{
	struct world *world = *state;
	int one;

	start(world, PATIENCE_MS, PATIENCE_MS);
	one = peer(world);
	say(one, REPORT);
	assert_refused(hear_report(one), "there is no `store'");
	say(one, TOP_UP("-0.5"));
	assert_refused(hear_report(one), "there is no `store'");
	(void)close(one);
}

static void
tops_up_and_tells_who_listens(void **state)
{
	struct world *world = *state;
	int one;

	store_set_current(&account_store);
	notify_set_sink(&sink);
	start(world, PATIENCE_MS, PATIENCE_MS);
	one = peer(world);
	say(one, TOP_UP("-0.5"));
	assert_account(hear_report(one), "4.500000", "one");
	assert_int_equal(told, 1);
	say(one, TOP_UP("0.5"));
	assert_refused(hear_report(one), "another top-up");
	say(one, TOP_UP("1000000.1"));
	assert_refused(hear_report(one), "at most a million");
	say(one, TOP_UP("-9999999"));
	assert_refused(hear_report(one), "at most a million");
	assert_int_equal(told, 1);
	say(one, BALANCE);
	assert_account(hear_report(one), "4.500000", NULL);
	(void)close(one);
}

static void
answers_about_accounts_while_others_are_asked(void **state)
{
	struct world *world = *state;
	int askers[CONTROL_QUESTIONS_MAX], one, tunnel;

	store_set_current(&account_store);
	start(world, PATIENCE_MS, PATIENCE_MS);
	(void)pthread_mutex_lock(&gate);
	for (int i = 0; i < CONTROL_QUESTIONS_MAX - 1; i++) {
		askers[i] = peer(world);
		say(askers[i], i == 0 ? REPORT : BALANCE);
	}
	one = peer(world);
	say(one, TOP_UP("-0.5")); /* which does not wait for them */
	assert_account(hear_report(one), "4.500000", "one");
	say(one, BALANCE);
	tunnel = peer(world);
	say(tunnel, OPEN("/free"));
	hear_grant(tunnel);
	askers[CONTROL_QUESTIONS_MAX - 1] = peer(world);
	say(askers[CONTROL_QUESTIONS_MAX - 1], TOP_UP("-0.5"));
	assert_refused(hear_report(askers[CONTROL_QUESTIONS_MAX - 1]),
	    "too much is asked");
	(void)close(askers[1]); /* and does not wait for its answer */
	(void)pthread_mutex_unlock(&gate);
	assert_account(hear_report(one), "4.500000", NULL);
	assert_reported(hear_report(askers[0]));
	for (int i = 2; i < CONTROL_QUESTIONS_MAX - 1; i++)
		assert_account(hear_report(askers[i]), "4.500000", NULL);
	for (int i = 0; i < CONTROL_QUESTIONS_MAX; i++)
		if (i != 1)
			(void)close(askers[i]);
	(void)close(one);
	(void)close(tunnel);
}

static void
outlives_who_leaves_as_its_report_comes(void **state)
{
	struct world *world = *state;

	store_set_current(&slow_store);
	start(world, PATIENCE_MS, PATIENCE_MS);
	for (int i = 0; i < 2000; i++) {
		int fd = peer(world);

		say(fd, REPORT);
		/* so that it leaves before, at, and after that moment */
		for (int k = i % 6; k > 0; k--)
			(void)close(peer(world));
		(void)close(fd);
	}
	assert_int_equal(count_leases(world), 0);
}

static void
tells_a_tunnel_that_the_operator_ends_it(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	int one, admin;
	char *order;

	start(world, PATIENCE_MS, PATIENCE_MS);
	one = peer(world);
	say(one, OPEN("/echo"));
	packet = hear(one);
	assert_non_null(packet);
	order = xasprintf("{\"v\":1,\"type\":\"close\",\"code\":4001,"
			  "\"reason\":\"go\",\"lease\":\"%s\"}",
	    packet->grant.lease);
	wire_packet_free(packet);
	admin = peer(world);
	say(admin, order);
	free(order);
	packet = hear(admin);
	assert_non_null(packet);
	assert_true(json_is_true(json_object_get(packet->reply, "closed")));
	wire_packet_free(packet);
	packet = hear(one);
	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_CLOSE);
	assert_int_equal(packet->close.code, 4001);
	assert_string_equal(packet->close.reason, "go");
	assert_null(packet->close.lease);
	wire_packet_free(packet);
	say(one, END);
	hear_taken(one);
	say(admin,
	    "{\"v\":1,\"type\":\"close\",\"code\":4001,"
	    "\"reason\":\"\",\"lease\":\"gone\"}");
	packet = hear(admin);
	assert_non_null(packet);
	assert_true(json_is_false(json_object_get(packet->reply, "closed")));
	wire_packet_free(packet);
	/* which one? */
	say(admin,
	    "{\"v\":1,\"type\":\"close\",\"code\":4001,"
	    "\"reason\":\"\"}");
	hear_end(admin);
}

static void
frees_the_lease_when_the_tunnel_says_so(void **state)
{
	struct world *world = *state;
	int one, two;

	start(world, PATIENCE_MS, PATIENCE_MS);
	one = peer(world);
	say(one, OPEN("/echo"));
	hear_grant(one);
	two = peer(world);
	say(two, OPEN("/echo"));
	hear_deny(two, 429);
	(void)close(two);
	say(one, END);
	hear_taken(one);
	two = peer(world);
	say(two, OPEN("/echo"));
	hear_grant(two);
	(void)close(two);
}

static void
frees_the_lease_of_a_tunnel_that_vanishes(void **state)
{
	struct world *world = *state;
	int one, two;

	start(world, PATIENCE_MS, PATIENCE_MS);
	one = peer(world);
	say(one, OPEN("/echo"));
	hear_grant(one);
	assert_int_equal(count_leases(world), 1);
	(void)close(one);
	for (int i = 0; count_leases(world) > 0; i++) {
		assert_true(i < PATIENCE_MS / 10);
		(void)poll(NULL, 0, 10);
	}
	two = peer(world);
	say(two, OPEN("/echo"));
	hear_grant(two);
	(void)close(two);
}

static void
answers_every_refusal_and_serves_no_second_request(void **state)
{
	struct world *world = *state;
	int fd;

	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say(fd, OPEN("/unknown"));
	hear_deny(fd, 404);
	say(fd, OPEN("/free"));
	hear_end(fd);
	fd = peer(world);
	say(fd, OPEN("/..//"));
	hear_deny(fd, 400);
	(void)close(fd);
}

static void
drops_a_peer_that_sends_rubbish(void **state)
{
	static const char *const cases[] = {
		"x",
		"{}",
		"[]",
		"{\"v\":2,\"type\":\"list\"}",
		"{\"v\":1,\"type\":\"open\"}",
		USAGE,
		END,
		"{\"v\":1,\"type\":\"close\",\"code\":1000,\"reason\":\"\"}",
		"{\"v\":1,\"type\":\"reply\",\"value\":1}",
	};
	struct world *world = *state;
	char *large = xcalloc(1, WIRE_MAX_BYTES + 1);
	int fd;

	start(world, PATIENCE_MS, PATIENCE_MS);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fd = peer(world);
		say(fd, cases[i]);
		hear_end(fd);
	}
	fd = peer(world);
	assert_int_equal(send(fd, "", 0, MSG_NOSIGNAL), 0);
	hear_end(fd);

	memset(large, ' ', WIRE_MAX_BYTES + 1);
	memcpy(large, LIST, sizeof(LIST) - 1);
	fd = peer(world);
	assert_int_equal(send(fd, large, WIRE_MAX_BYTES, MSG_NOSIGNAL),
	    WIRE_MAX_BYTES);
	wire_packet_free(hear(fd));
	assert_int_equal(send(fd, large, WIRE_MAX_BYTES + 1, MSG_NOSIGNAL),
	    WIRE_MAX_BYTES + 1);
	hear_end(fd);
	free(large);
}

static void
fills_no_log_with_who_sends_rubbish(void **state)
{
	struct world *world = *state;
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), log[2];
	static char text[65536];
	int lines = 0, sent = 0;
	size_t len = 0;
	ssize_t n;

	assert_int_equal(pipe2(log, O_CLOEXEC | O_NONBLOCK), 0);
	log_init("test_control_server", LOG_LEVEL_WARNING);
	assert_int_not_equal(dup2(log[1], STDERR_FILENO), -1);
	start(world, PATIENCE_MS, PATIENCE_MS);
	/* until one that says how many were left out */
	while (sent < 300 ||
	    (strstr(text, "omitted=1") == NULL &&
		strstr(text, "omitted=2") == NULL && sent < 20000)) {
		int fd = peer(world);

		say(fd, "x");
		hear_end(fd);
		sent++;
		n = read(log[0], text + len, sizeof(text) - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	control_server_stop();
	(void)dup2(saved, STDERR_FILENO);
	log_init("test_control_server", LOG_LEVEL_ERROR);
	for (char *at = text; (at = strstr(at, "control.dropped")) != NULL;
	     at++)
		lines++;
	assert_in_range(lines, 1, sent / 2);
	(void)close(saved);
	(void)close(log[0]);
	(void)close(log[1]);
}

static void
drops_a_tunnel_that_says_what_it_may_not(void **state)
{
	static const char *const cases[] = { OPEN("/free"), LIST, REPORT, "x" };
	struct world *world = *state;

	start(world, PATIENCE_MS, PATIENCE_MS);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = peer(world);

		say(fd, OPEN("/free"));
		hear_grant(fd);
		say(fd, cases[i]);
		hear_end(fd);
	}
	assert_int_equal(count_leases(world), 0);
}

static void
drops_a_peer_that_floods(void **state)
{
	struct world *world = *state;
	int sent = 0, fd;

	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say(fd, OPEN("/free"));
	hear_grant(fd);
	while (
	    sent < 10000 && send(fd, USAGE, strlen(USAGE), MSG_NOSIGNAL) != -1)
		sent++;
	assert_true(sent < 10000);
	hear_end(fd);
	assert_int_equal(count_leases(world), 0);
}

/* Each report is within bounds, and there are not too many of them. */
static void
drops_a_tunnel_that_reports_more_than_a_vendor_makes(void **state)
{
	struct world *world = *state;
	char *events = xstrdup(EVENT(1, 1)), *text;
	int fd, sent = 0;

	for (int i = 1; i < WIRE_EVENTS_MAX; i++) {
		text = xasprintf("%s,%s", events, EVENT(1, 1));
		free(events);
		events = text;
	}
	text = xasprintf(USAGE_OF("%s"), events);
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say(fd, OPEN("/free"));
	hear_grant(fd);
	/* of each turn what is far from a flood of packets */
	while (sent < 100 && send(fd, text, strlen(text), MSG_NOSIGNAL) != -1)
		if (++sent % 25 == 0)
			(void)poll(NULL, 0, 1010);
	for (struct wire_packet *packet; (packet = hear(fd)) != NULL;)
		wire_packet_free(packet);
	(void)close(fd);
	assert_in_range(sent, 64, 99);
	free(events);
	free(text);
}

static void
drops_an_operator_that_does_not_read(void **state)
{
	struct world *world = *state;
	int sent = 0, fd;

	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	while (sent < 10000 && send(fd, LIST, strlen(LIST), MSG_NOSIGNAL) != -1)
		sent++;
	assert_true(sent < 10000);
	(void)close(fd);
}

static void
drops_a_peer_that_says_nothing(void **state)
{
	struct world *world = *state;
	int silent, denied, leased;
	struct pollfd pfd;

	start(world, PATIENCE_MS, 500);
	leased = peer(world);
	say(leased, OPEN("/free"));
	hear_grant(leased);
	denied = peer(world);
	say(denied, OPEN("/unknown"));
	hear_deny(denied, 404);
	silent = peer(world);
	hear_end(silent);
	hear_end(denied);
	/* a tunnel may be quiet as long as it likes */
	pfd = (struct pollfd){ .fd = leased, .events = POLLIN };
	assert_int_equal(poll(&pfd, 1, 100), 0);
	say(leased, END);
	hear_taken(leased);
}

static void
waits_for_a_name_without_keeping_others_waiting(void **state)
{
	struct world *world = *state;
	int hanging, gone, numeric, named;

	(void)pthread_mutex_lock(&gate);
	start(world, 1000, PATIENCE_MS);
	hanging = peer(world);
	say(hanging, OPEN("/hang"));
	gone = peer(world);
	say(gone, OPEN("/hang"));
	(void)close(gone);
	numeric = peer(world);
	say(numeric, OPEN("/free"));
	hear_grant(numeric);
	named = peer(world);
	say(named, OPEN("/named"));
	hear_grant(named);
	hear_deny(hanging, 504);
	(void)pthread_mutex_unlock(&gate);
	assert_int_equal(count_leases(world), 2);
	(void)close(hanging);
	(void)close(numeric);
	(void)close(named);
}

static void
drops_a_peer_that_talks_while_it_waits(void **state)
{
	struct world *world = *state;
	int fd;

	(void)pthread_mutex_lock(&gate);
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say(fd, OPEN("/hang"));
	say(fd, OPEN("/free"));
	hear_end(fd);
	(void)pthread_mutex_unlock(&gate);
}

static int64_t
cpu_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
pauses_without_spinning_when_descriptors_run_out(void **state)
{
	struct world *world = *state;
	struct rlimit old, few;
	struct pollfd pfd;
	int held[64], count = 0;
	int64_t before_ms;

	start(world, PATIENCE_MS, PATIENCE_MS);
	pfd = (struct pollfd){ .fd = new_peer(), .events = POLLIN };
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = (rlim_t)pfd.fd + 32;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (count < 64 && (held[count] = dup(world->listen_fd)) != -1)
		count++;
	assert_true(count < 64);

	assert_int_equal(connect_peer(world, pfd.fd), 0);
	say(pfd.fd, OPEN("/free"));
	before_ms = cpu_ms();
	assert_int_equal(poll(&pfd, 1, 300), 0);
	assert_true(cpu_ms() - before_ms < 100);

	while (count > 0)
		(void)close(held[--count]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	hear_grant(pfd.fd);
	(void)close(pfd.fd);
}

static void
serves_more_at_once_than_it_lets_wait(void **state)
{
	struct world *world = *state;
	struct pollfd pfd;
	int64_t before_ms;
	int peers[300];

	start(world, PATIENCE_MS, PATIENCE_MS);
	for (int i = 0; i < 300; i++)
		peers[i] = peer(world);
	/* the last ones are not accepted yet */
	say(peers[299], OPEN("/free"));
	pfd = (struct pollfd){ .fd = peers[299], .events = POLLIN };
	before_ms = cpu_ms();
	assert_int_equal(poll(&pfd, 1, 200), 0);
	assert_true(cpu_ms() - before_ms < 100);
	for (int i = 0; i < 299; i++)
		say(peers[i], OPEN("/free"));
	for (int i = 0; i < 300; i++) {
		hear_grant(peers[i]);
		(void)close(peers[i]);
	}
}

/* As another user: exits 0 where what it says is answered, 1 where not. */
static int
answered_as(const struct world *world, uid_t uid, const char *text)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		char data[8];
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		if (setuid(uid) == -1 || connect_peer(world, fd) == -1)
			_exit(2);
		(void)send(fd, text, strlen(text), MSG_NOSIGNAL);
		_exit(recv(fd, data, sizeof(data), 0) > 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
serves_the_users_of_the_configuration_alone(void **state)
{
	struct world *world = *state;

	if (geteuid() != 0)
		return; /* only root can be others; skip() counts as failed */
	start(world, PATIENCE_MS, PATIENCE_MS);
	assert_int_equal(answered_as(world, NOBODY, OPEN("/free")), 0);
	assert_int_equal(answered_as(world, NOBODY, LIST), 1);
	assert_int_equal(answered_as(world, NOBODY, REPORT), 1);
	assert_int_equal(answered_as(world, NOBODY, TOP_UP("5")), 1);
	assert_int_equal(answered_as(world, NOBODY, BALANCE), 1);
	assert_int_equal(answered_as(world, 0, TOP_UP("5")), 0);
	assert_int_equal(answered_as(world, NOBODY - 1, OPEN("/free")), 1);
	assert_int_equal(answered_as(world, 0, LIST), 0);
}

/* Connections of a tunnel's user, as many as that; each says `text'. */
static void
crowd(const struct world *world, int *fds, int count, const char *text)
{
	/* of this thread alone: seteuid() would be the server's, too */
	assert_int_equal(syscall(SYS_setresuid, -1, NOBODY, -1), 0);
	for (int i = 0; i < count; i++) {
		fds[i] = peer(world);
		if (text != NULL)
			say(fds[i], text);
	}
	assert_int_equal(syscall(SYS_setresuid, -1, 0, -1), 0);
}

static void
lets_in_who_asks_while_others_say_nothing(void **state)
{
	struct world *world = *state;
	int silent[600], tunnel;

	if (geteuid() != 0)
		return;
	start(world, PATIENCE_MS, (int64_t)10 * PATIENCE_MS);
	crowd(world, silent, 600, NULL);
	assert_int_equal(count_leases(world), 0);
	crowd(world, &tunnel, 1, OPEN("/free"));
	hear_grant(tunnel);
	assert_int_equal(count_leases(world), 1);
	say(tunnel, END);
	hear_taken(tunnel);
	/* the oldest had to go, and the youngest are there */
	hear_end(silent[0]);
	say(silent[599], OPEN("/free"));
	hear_grant(silent[599]);
	for (int i = 1; i < 600; i++)
		(void)close(silent[i]);
}

static void
lets_in_operators_while_hundreds_are_decided_on(void **state)
{
	struct world *world = *state;
	int asking[256], tunnel;

	if (geteuid() != 0)
		return;
	(void)pthread_mutex_lock(&gate);
	start(world, (int64_t)10 * PATIENCE_MS, (int64_t)10 * PATIENCE_MS);
	crowd(world, asking, 256, OPEN("/hang"));
	crowd(world, &tunnel, 1, OPEN("/free"));
	assert_int_equal(count_leases(world), 0);
	hear_end(tunnel);
	(void)pthread_mutex_unlock(&gate);
	for (int i = 0; i < 256; i++) {
		hear_grant(asking[i]);
		(void)close(asking[i]);
	}
}

static void
lets_everybody_go_when_it_stops(void **state)
{
	struct world *world = *state;
	int leased, waiting;

	start(world, PATIENCE_MS, PATIENCE_MS);
	leased = peer(world);
	say(leased, OPEN("/echo"));
	hear_grant(leased);
	waiting = peer(world);
	assert_int_equal(count_leases(world), 1);
	control_server_stop();
	control_server_stop();
	hear_end(leased);
	hear_end(waiting);
	start(world, PATIENCE_MS, PATIENCE_MS);
	assert_int_equal(count_leases(world), 0);
}

#define SERVER_TEST(f) cmocka_unit_test_teardown(f, stop)

/* ---- leases of before, and what is revoked --------------------------------
 */

/* Open a tunnel: what it shows to take its lease up again; the caller's. */
static char *
open_tunnel(int fd, const char *open, char lease[33])
{
	struct wire_packet *packet;
	char *resume;

	say(fd, open);
	packet = hear(fd);
	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_GRANT);
	assert_non_null(packet->grant.resume);
	resume = xstrdup(packet->grant.resume);
	(void)snprintf(lease, 33, "%s", packet->grant.lease);
	wire_packet_free(packet);
	return resume;
}

static void
say_resume(int fd, const char *resume)
{
	char *text = xasprintf("{\"v\":1,\"type\":\"resume\",\"resume\":\"%s\","
			       "\"elapsed_ms\":1000}",
	    resume);

	say(fd, text);
	free(text);
}

static void
hear_resumed(int fd)
{
	struct wire_packet *packet = hear(fd);

	assert_non_null(packet);
	if (packet->type == WIRE_DENY)
		fail_msg("denied: %s", packet->deny.message);
	assert_int_equal(packet->type, WIRE_RESUMED);
	assert_true(packet->limits.pong_ms > 0);
	wire_packet_free(packet);
}

static void
use_key(const char *key)
{
	struct secret *secret = secret_new(key, 32, "the test");

	assert_int_equal(signing_key_init(secret, NULL, 0, NULL), ERR_OK);
	secret_free(secret);
}

static void
takes_up_the_lease_of_a_broker_before(void **state)
{
	struct world *world = *state;
	char lease[33], *resume;
	int fd, other;

	use_key("0123456789abcdef0123456789abcdef");
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	/* as many as there may be */
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	control_server_stop();
	hear_end(fd);

	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say_resume(fd, resume);
	hear_resumed(fd);
	assert_int_equal(count_leases(world), 1);
	other = peer(world);
	say(other, OPEN("/echo"));
	hear_deny(other, 429);
	(void)close(other);
	say(fd, USAGE);
	say(fd, END);
	hear_taken(fd);
	assert_int_equal(count_leases(world), 0);
	free(resume);
	signing_key_done();
}

static void
takes_up_no_lease_twice_unless_its_peer_is_gone(void **state)
{
	struct world *world = *state;
	char lease[33], *resume;
	int fd, other;

	use_key("0123456789abcdef0123456789abcdef");
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	other = peer(world);
	say_resume(other, resume);
	hear_deny(other, 409);
	(void)close(other);
	for (int i = 0; i < 20; i++) {
		other = peer(world);
		(void)close(fd); /* and at once */
		say_resume(other, resume);
		hear_resumed(other);
		assert_int_equal(count_leases(world), 1);
		fd = other;
	}
	say(fd, END);
	hear_taken(fd);
	free(resume);
	signing_key_done();
}

static void
takes_up_nothing_that_it_has_not_signed(void **state)
{
	static const char *const texts[] = { "x", "a.b.c",
		"eyJhbGciOiJub25lIn0.eyJsZWFzZSI6IjEifQ." };
	struct world *world = *state;
	char lease[33], *resume;
	int fd;

	use_key("0123456789abcdef0123456789abcdef");
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/free"), lease);
	(void)close(fd);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		fd = peer(world);
		say_resume(fd, texts[i]);
		hear_deny(fd, 401);
		(void)close(fd);
	}
	control_server_stop();
	signing_key_done();
	use_key("another key, of another broker..");
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say_resume(fd, resume);
	hear_deny(fd, 401);
	(void)close(fd);
	free(resume);
	signing_key_done();
}

#define REVOKE(kind, value)                             \
	"{\"v\":1,\"type\":\"revoke\",\"kind\":\"" kind \
	"\",\"value\":\"" value "\"}"

/* It ends, and what it has kept takes up nothing any more. */
static void
end_and_come_back(const struct world *world, int fd, const char *resume)
{
	say(fd, END);
	hear_taken(fd);
	fd = peer(world);
	say_resume(fd, resume);
	hear_deny(fd, 403);
	(void)close(fd);
}

static void
takes_up_nothing_that_is_over(void **state)
{
	struct world *world = *state;
	char lease[33], *resume, *path = xasprintf("%s/store.db", world->dir);
	struct store *store;
	struct diag diag;
	int fd;

	use_key("0123456789abcdef0123456789abcdef");
	assert_int_equal(store_sqlite_open(path, &store, &diag), ERR_OK);
	store_set_current(store);
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	/* lost, and taken up: it may be */
	(void)close(fd);
	fd = peer(world);
	say_resume(fd, resume);
	hear_resumed(fd);
	end_and_come_back(world, fd, resume);
	assert_int_equal(count_leases(world), 0);

	control_server_stop(); /* the next one knows it, too */
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say_resume(fd, resume);
	hear_deny(fd, 403);
	(void)close(fd);
	free(resume);
	/* and so it is without a store, for as long as this one runs */
	control_server_stop();
	store_set_current(NULL);
	store->ops->close(store);
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	end_and_come_back(world, fd, resume);
	free(resume);
	signing_key_done();
	(void)unlink(path);
	free(path);
}

static void
drops_a_tunnel_that_is_told_to_end_and_does_not(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	char lease[33], *resume;
	int tunnel, admin;

	use_key("0123456789abcdef0123456789abcdef");
	closing_ms = 100;
	start(world, PATIENCE_MS, PATIENCE_MS);
	closing_ms = PATIENCE_MS;
	tunnel = peer(world);
	resume = open_tunnel(tunnel, OPEN("/echo"), lease);
	admin = peer(world);
	say(admin, REVOKE("route", "/echo"));
	packet = hear(admin);
	assert_non_null(packet);
	wire_packet_free(packet);
	(void)close(admin);
	packet = hear(tunnel);
	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_CLOSE);
	wire_packet_free(packet);
	hear_end(tunnel);
	tunnel = peer(world);
	say_resume(tunnel, resume);
	hear_deny(tunnel, 403);
	(void)close(tunnel);
	free(resume);
	revocations_done();
	signing_key_done();
}

/* Nobody else can have what it holds, for ever. */
static void
drops_a_tunnel_of_which_nothing_can_be_booked(void **state)
{
	struct world *world = *state;
	char *path = xasprintf("%s/store.db", world->dir);
	struct store *store;
	struct diag diag;
	int fd;

	assert_int_equal(store_sqlite_open(path, &store, &diag), ERR_OK);
	assert_int_equal(ledger_start(store, &ledger_defaults, &diag), ERR_OK);
	closing_ms = 100;
	start(world, PATIENCE_MS, PATIENCE_MS);
	closing_ms = PATIENCE_MS;
	fd = peer(world);
	say(fd, OPEN("/echo"));
	hear_grant(fd);
	say(fd,
	    END_OF("{\"n\":7,\"type\":\"response.done\",\"id\":\"r\","
		   "\"usage\":7}"));
	hear_end(fd);
	control_server_stop();
	ledger_stop();
	store->ops->close(store);
	(void)unlink(path);
	free(path);
}

static void
hears_nothing_of_a_tunnel_that_has_ended(void **state)
{
	static const char *const cases[] = { USAGE, END,
		"{\"v\":1,\"type\":\"ask\",\"n\":1}" };
	struct world *world = *state;

	start(world, PATIENCE_MS, PATIENCE_MS);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = peer(world);

		say(fd, OPEN("/echo"));
		hear_grant(fd);
		say(fd, END);
		(void)send(fd, cases[i], strlen(cases[i]), MSG_NOSIGNAL);
		for (struct wire_packet *packet; (packet = hear(fd)) != NULL;)
			wire_packet_free(packet);
		(void)close(fd);
	}
}

/* They came while nobody accepted, as after a restart. */
static void
takes_up_hundreds_at_once(void **state)
{
	enum {
		MANY = 1000
	};
	struct world *world = *state;
	char lease[33], *resumes[MANY];
	int fds[MANY];

	use_key("0123456789abcdef0123456789abcdef");
	start(world, PATIENCE_MS, PATIENCE_MS);
	for (int i = 0; i < MANY; i++) {
		fds[i] = peer(world);
		resumes[i] = open_tunnel(fds[i], OPEN("/free"), lease);
	}
	control_server_stop();
	for (int i = 0; i < MANY; i++) {
		hear_end(fds[i]);
		fds[i] = peer(world);
		say_resume(fds[i], resumes[i]);
	}
	start(world, PATIENCE_MS, PATIENCE_MS);
	for (int i = 0; i < MANY; i++) {
		hear_resumed(fds[i]);
		free(resumes[i]);
	}
	assert_int_equal(count_leases(world), MANY);
	for (int i = 0; i < MANY; i++)
		(void)close(fds[i]);
	while (count_leases(world) > 0)
		(void)poll(NULL, 0, 5);
	signing_key_done();
}

static void
hear_closed(int fd, json_int_t count)
{
	struct wire_packet *packet = hear(fd);

	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_REPLY);
	assert_int_equal(json_integer_value(
			     json_object_get(packet->reply, "closed")),
	    count);
	wire_packet_free(packet);
}

static void
closes_what_was_let_in_by_what_is_revoked(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	int tunnel, other, operator_fd;

	start(world, PATIENCE_MS, PATIENCE_MS);
	tunnel = peer(world);
	say(tunnel, OPEN("/echo"));
	hear_grant(tunnel);
	other = peer(world);
	say(other, OPEN("/free"));
	hear_grant(other);
	operator_fd = peer(world);
	say(operator_fd, REVOKE("route", "/nowhere"));
	hear_closed(operator_fd, 0);
	say(operator_fd, REVOKE("route", "/echo"));
	hear_closed(operator_fd, 1);
	packet = hear(tunnel);
	assert_int_equal(packet->type, WIRE_CLOSE);
	assert_int_equal(packet->close.code, 4001);
	assert_string_equal(packet->close.reason, "revoked");
	wire_packet_free(packet);
	/* it is told once */
	say(operator_fd, REVOKE("route", "/echo"));
	hear_closed(operator_fd, 0);
	(void)close(operator_fd);
	(void)close(tunnel);
	say(other, END);
	hear_taken(other);
	revocations_done();
}

/* Which is not read again while a test runs. */
static enum err
list_revocations_slowly(struct store *store, int64_t now,
    struct store_revocations *ret, struct diag *diag)
{
	(void)pthread_mutex_lock(&gate);
	(void)pthread_mutex_unlock(&gate);
	return list_no_revocations(store, now, ret, diag);
}

static const struct store_ops unread_ops = {
	.list_revocations = list_revocations_slowly,
	.list_lease_ends = list_no_ends,
	.end_leases = end_no_leases,
};
static struct store unread_store = { .ops = &unread_ops };

static void
closes_at_once_what_was_revoked_while_it_was_away(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	char lease[33], *resume;
	int64_t now = time(NULL);
	int fd;

	use_key("0123456789abcdef0123456789abcdef");
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	resume = open_tunnel(fd, OPEN("/echo"), lease);
	control_server_stop();
	hear_end(fd);

	assert_int_equal(revocations_add("route", "/echo", now, now + 60, NULL),
	    ERR_OK);
	(void)pthread_mutex_lock(&gate);
	store_set_current(&unread_store);
	start(world, PATIENCE_MS, PATIENCE_MS);
	fd = peer(world);
	say_resume(fd, resume);
	hear_resumed(fd);
	packet = hear(fd);
	assert_non_null(packet);
	assert_int_equal(packet->type, WIRE_CLOSE);
	assert_int_equal(packet->close.code, 4001);
	wire_packet_free(packet);
	/* and what it has to report is taken */
	say(fd, END);
	hear_taken(fd);
	(void)pthread_mutex_unlock(&gate);
	control_server_stop();
	store_set_current(NULL);
	free(resume);
	revocations_done();
	signing_key_done();
}

/* ---- deciding --------------------------------------------------------------
 */

static atomic_int asked_budgets;

/* A store in which a budget is looked up until the test opens the gate. */
static enum err
check_slowly(struct store *store, const struct store_budgets *budgets,
    int64_t now, struct store_budget_state *ret, struct diag *diag)
{
	bool spent = budgets->items[0].max_tokens == 1;

	(void)store;
	(void)atomic_fetch_add(&asked_budgets, 1);
	(void)pthread_mutex_lock(&gate);
	(void)pthread_mutex_unlock(&gate);
	*ret = (struct store_budget_state){ .resets = now + 60 };
	diag_set(diag, "the budget of this day is spent");
	return spent ? ERR_BUDGET : ERR_OK;
}

static const struct store_ops budget_ops = { .check_budgets = check_slowly,
	NO_REVOCATIONS };
static struct store budget_store = { .ops = &budget_ops };

static int
stop_budgets(void **state)
{
	(void)state;
	control_server_stop();
	store_set_current(NULL);
	return 0;
}

/* A relay for all of which together there are so many tokens a day. */
static void
configure_budget(const struct world *world, unsigned tokens)
{
	char *text = xasprintf("%splan day { day_tokens = %u }\n"
			       "store { path = \"/nowhere/x.db\" }\n"
			       "relay \"/budget\" {\n"
			       "	upstream = \"ws://127.0.0.1:9001/\"\n"
			       "	plan = day\n"
			       "	max_connections = 1\n"
			       "}\n",
	    config_text, tokens);
	struct config *config;
	struct diag diag = { "" };

	if (config_parse(world->config_path, text, strlen(text), &config,
		&diag) != ERR_OK)
		fail_msg("%s", diag.text);
	config_set_current(config);
	free(text);
}

static void
decides_without_keeping_others_waiting(void **state)
{
	struct world *world = *state;
	int slow, other;

	configure_budget(world, 1000);
	store_set_current(&budget_store);
	start(world, PATIENCE_MS, PATIENCE_MS);
	(void)pthread_mutex_lock(&gate);
	slow = peer(world);
	say(slow, OPEN("/budget"));
	while (atomic_load(&asked_budgets) == 0)
		(void)poll(NULL, 0, 5);
	other = peer(world);
	say(other, OPEN("/free"));
	hear_grant(other);
	(void)pthread_mutex_unlock(&gate);
	hear_grant(slow);
	(void)close(slow);
	(void)close(other);
	while (count_leases(world) > 0)
		(void)poll(NULL, 0, 5);
}

static void
leaves_no_slot_to_who_leaves_while_it_is_decided(void **state)
{
	struct world *world = *state;
	int fd;

	configure_budget(world, 1000);
	store_set_current(&budget_store);
	atomic_store(&asked_budgets, 0);
	start(world, PATIENCE_MS, PATIENCE_MS);
	(void)pthread_mutex_lock(&gate);
	fd = peer(world);
	say(fd, OPEN("/budget"));
	while (atomic_load(&asked_budgets) == 0)
		(void)poll(NULL, 0, 5);
	assert_int_equal(count_leases(world), 1);
	(void)close(fd);
	(void)pthread_mutex_unlock(&gate);
	while (count_leases(world) > 0)
		(void)poll(NULL, 0, 5);
	fd = peer(world); /* the only slot is free again */
	say(fd, OPEN("/budget"));
	hear_grant(fd);
	say(fd, END);
	hear_taken(fd);
}

static void
says_when_a_budget_begins_anew(void **state)
{
	struct world *world = *state;
	struct wire_packet *packet;
	int fd;

	configure_budget(world, 1);
	store_set_current(&budget_store);
	start(world, PATIENCE_MS, PATIENCE_MS);
	for (int i = 0; i < 2; i++) {
		const char *value;

		fd = peer(world);
		say(fd, OPEN("/budget"));
		packet = hear(fd);
		assert_non_null(packet);
		assert_int_equal(packet->type, WIRE_DENY);
		assert_int_equal(packet->deny.status, 429);
		assert_string_equal(packet->deny.code, "budget_spent");
		value = wire_headers_find(&packet->deny.headers, "Retry-After");
		assert_non_null(value);
		assert_in_range(strtol(value, NULL, 10), 58, 60);
		assert_non_null(
		    wire_headers_find(&packet->deny.headers, "RateLimit"));
		wire_packet_free(packet);
		(void)close(fd);
	}
	assert_int_equal(count_leases(world), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		/* first: a resolver that hung gives its descriptor back late */
		SERVER_TEST(pauses_without_spinning_when_descriptors_run_out),
		SERVER_TEST(grants_leases_and_lists_them),
		SERVER_TEST(
		    passes_one_end_of_a_socket_whose_other_is_engine_ios),
		SERVER_TEST(answers_a_report_with_limits_that_have_changed),
		SERVER_TEST(keeps_what_a_tunnel_reported_before_it_died),
		SERVER_TEST(answers_nothing_without_a_store),
		cmocka_unit_test_teardown(
		    reports_without_keeping_others_waiting, stop_reports),
		cmocka_unit_test_teardown(
		    outlives_who_leaves_as_its_report_comes, stop_reports),
		cmocka_unit_test_teardown(tops_up_and_tells_who_listens,
		    stop_accounts),
		cmocka_unit_test_teardown(
		    answers_about_accounts_while_others_are_asked,
		    stop_accounts),
		SERVER_TEST(tells_a_tunnel_that_the_operator_ends_it),
		SERVER_TEST(frees_the_lease_when_the_tunnel_says_so),
		SERVER_TEST(frees_the_lease_of_a_tunnel_that_vanishes),
		SERVER_TEST(answers_every_refusal_and_serves_no_second_request),
		SERVER_TEST(drops_a_peer_that_sends_rubbish),
		SERVER_TEST(fills_no_log_with_who_sends_rubbish),
		SERVER_TEST(drops_a_tunnel_that_says_what_it_may_not),
		SERVER_TEST(drops_a_peer_that_floods),
		SERVER_TEST(
		    drops_a_tunnel_that_reports_more_than_a_vendor_makes),
		SERVER_TEST(drops_an_operator_that_does_not_read),
		SERVER_TEST(drops_a_peer_that_says_nothing),
		SERVER_TEST(waits_for_a_name_without_keeping_others_waiting),
		SERVER_TEST(drops_a_peer_that_talks_while_it_waits),
		SERVER_TEST(serves_more_at_once_than_it_lets_wait),
		SERVER_TEST(serves_the_users_of_the_configuration_alone),
		SERVER_TEST(lets_in_who_asks_while_others_say_nothing),
		SERVER_TEST(lets_in_operators_while_hundreds_are_decided_on),
		SERVER_TEST(lets_everybody_go_when_it_stops),
		SERVER_TEST(takes_up_the_lease_of_a_broker_before),
		SERVER_TEST(takes_up_no_lease_twice_unless_its_peer_is_gone),
		SERVER_TEST(takes_up_nothing_that_it_has_not_signed),
		SERVER_TEST(takes_up_nothing_that_is_over),
		SERVER_TEST(drops_a_tunnel_that_is_told_to_end_and_does_not),
		SERVER_TEST(drops_a_tunnel_of_which_nothing_can_be_booked),
		SERVER_TEST(hears_nothing_of_a_tunnel_that_has_ended),
		SERVER_TEST(takes_up_hundreds_at_once),
		SERVER_TEST(closes_what_was_let_in_by_what_is_revoked),
		SERVER_TEST(closes_at_once_what_was_revoked_while_it_was_away),
		cmocka_unit_test_teardown(
		    decides_without_keeping_others_waiting, stop_budgets),
		cmocka_unit_test_teardown(
		    leaves_no_slot_to_who_leaves_while_it_is_decided,
		    stop_budgets),
		cmocka_unit_test_teardown(says_when_a_budget_begins_anew,
		    stop_budgets),
	};

	return cmocka_run_group_tests_name("control_server", tests, make_world,
	    end_world);
}
