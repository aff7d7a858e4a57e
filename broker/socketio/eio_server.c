/* SPDX-License-Identifier: MIT */
#include "broker/socketio/eio_server.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/address.h"
#include "common/crypt.h"
#include "common/xalloc.h"

#define SERVERS_MAX  4
#define BUCKET_COUNT 4096 /* of sessions: 10,000 of them are few in each */
#define RANDOM_BYTES (EIO_SID_BYTES / 4 * 3)

LIST_HEAD(bucket, eio_member);
LIST_HEAD(networks, eio_network);

/* An address that has sessions. */
struct eio_network {
	uint8_t prefix[ADDRESS_NETWORK_BYTES]; /* IPv4 with zeros behind it */
	uint64_t count;
	LIST_ENTRY(eio_network) entry;
};

struct eio_server {
	struct eio_rules rules;
	char *path;
	unsigned references;
	bool retired;
	uint64_t count;
	struct bucket buckets[BUCKET_COUNT];
	struct networks networks[BUCKET_COUNT];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct eio_server *servers[SERVERS_MAX];

/* ---- servers ----------------------------------------------------------- */

struct eio_server *
eio_server_enter(const struct eio_rules *rules)
{
	struct eio_server *server = xcalloc(1, sizeof(*server));
	size_t i = 0;

	server->path = xstrdup(rules->path);
	server->rules = *rules;
	server->rules.path = server->path;
	server->references = 1;
	(void)pthread_mutex_lock(&lock);
	while (i < SERVERS_MAX && servers[i] != NULL)
		i++;
	if (i < SERVERS_MAX)
		servers[i] = server;
	(void)pthread_mutex_unlock(&lock);
	if (i == SERVERS_MAX) {
		eio_server_unref(server);
		return NULL;
	}
	return server;
}

void
eio_server_retire(struct eio_server *server)
{
	(void)pthread_mutex_lock(&lock);
	server->retired = true;
	for (size_t i = 0; i < SERVERS_MAX; i++)
		if (servers[i] == server)
			servers[i] = NULL;
	(void)pthread_mutex_unlock(&lock);
}

struct eio_server *
eio_server_find(const char *path)
{
	struct eio_server *found = NULL;

	(void)pthread_mutex_lock(&lock);
	for (size_t i = 0; i < SERVERS_MAX; i++)
		if (servers[i] != NULL && strcmp(servers[i]->path, path) == 0)
			found = servers[i];
	if (found != NULL)
		found->references++;
	(void)pthread_mutex_unlock(&lock);
	return found;
}

struct eio_server *
eio_server_ref(struct eio_server *server)
{
	(void)pthread_mutex_lock(&lock);
	server->references++;
	(void)pthread_mutex_unlock(&lock);
	return server;
}

void
eio_server_unref(struct eio_server *server)
{
	bool is_last;

	if (server == NULL)
		return;
	(void)pthread_mutex_lock(&lock);
	is_last = --server->references == 0;
	(void)pthread_mutex_unlock(&lock);
	if (!is_last)
		return;
	free(server->path);
	free(server);
}

const struct eio_rules *
eio_server_rules(const struct eio_server *server)
{
	return &server->rules;
}

/* ---- sessions: the lock is held ----------------------------------------- */

/* Ids are random: a few of their characters are a hash. */
static struct bucket *
bucket_of(struct eio_server *server, const char *sid)
{
	unsigned hash = 0;

	for (size_t i = 0; i < 4 && sid[i] != '\0'; i++)
		hash = hash * 64 + (unsigned char)sid[i];
	return &server->buckets[hash % BUCKET_COUNT];
}

static struct eio_member *
find(struct eio_server *server, const char *sid)
{
	struct eio_member *member;

	LIST_FOREACH (member, bucket_of(server, sid), entry)
		if (strcmp(member->sid, sid) == 0)
			return member;
	return NULL;
}

static struct networks *
networks_of(struct eio_server *server,
    const uint8_t prefix[ADDRESS_NETWORK_BYTES])
{
	unsigned hash = 0;

	for (size_t i = 0; i < ADDRESS_NETWORK_BYTES; i++)
		hash = hash * 31 + prefix[i];
	return &server->networks[hash % BUCKET_COUNT];
}

static struct eio_network *
find_network(struct eio_server *server,
    const uint8_t prefix[ADDRESS_NETWORK_BYTES])
{
	struct eio_network *network;

	LIST_FOREACH (network, networks_of(server, prefix), entry)
		if (memcmp(network->prefix, prefix, ADDRESS_NETWORK_BYTES) == 0)
			return network;
	return NULL;
}

/* This machine's own clients shut out nobody but themselves. */
static enum err
admit(struct eio_server *server, const char *address)
{
	const struct eio_network *network = NULL;
	uint8_t prefix[ADDRESS_NETWORK_BYTES];

	address_network(address, prefix);
	if (!address_is_loopback(address))
		network = find_network(server, prefix);

	if (server->retired || server->count >= server->rules.max_sessions)
		return ERR_UNAVAIL;
	if (network != NULL &&
	    network->count >= server->rules.max_sessions_per_address)
		return ERR_RATE;
	return ERR_OK;
}

static void
enter(struct eio_server *server, struct eio_member *member,
    const uint8_t prefix[ADDRESS_NETWORK_BYTES])
{
	struct eio_network *network = find_network(server, prefix);

	if (network == NULL) {
		network = xcalloc(1, sizeof(*network));
		memcpy(network->prefix, prefix, ADDRESS_NETWORK_BYTES);
		LIST_INSERT_HEAD(networks_of(server, prefix), network, entry);
	}
	network->count++;
	member->network = network;
	LIST_INSERT_HEAD(bucket_of(server, member->sid), member, entry);
	server->references++;
	server->count++;
}

/* ---- sessions ----------------------------------------------------------- */

enum eio_standing
eio_server_ask(struct eio_server *server, const char *sid)
{
	enum eio_standing standing = EIO_UNKNOWN;
	const struct eio_member *member;

	(void)pthread_mutex_lock(&lock);
	member = find(server, sid);
	if (member != NULL)
		standing = member->websocket ? EIO_WEBSOCKET : EIO_POLLING;
	(void)pthread_mutex_unlock(&lock);
	return standing;
}

enum err
eio_server_admit(struct eio_server *server, const char *address)
{
	enum err err;

	(void)pthread_mutex_lock(&lock);
	err = admit(server, address);
	(void)pthread_mutex_unlock(&lock);
	return err;
}

bool
eio_server_begin_post(struct eio_server *server, const char *sid)
{
	struct eio_member *member;
	bool begun = true;

	(void)pthread_mutex_lock(&lock);
	member = find(server, sid);
	if (member != NULL) {
		begun = !member->posting;
		member->posting = true;
	}
	(void)pthread_mutex_unlock(&lock);
	return begun;
}

void
eio_server_end_post(struct eio_server *server, const char *sid)
{
	struct eio_member *member;

	(void)pthread_mutex_lock(&lock);
	member = find(server, sid);
	if (member != NULL)
		member->posting = false;
	(void)pthread_mutex_unlock(&lock);
}

enum err
eio_server_add(struct eio_server *server, struct eio_member *member,
    const char *address)
{
	uint8_t random[RANDOM_BYTES], prefix[ADDRESS_NETWORK_BYTES];
	enum err err;
	char *sid;

	address_network(address, prefix);
	crypt_random(random, sizeof(random));
	sid = crypt_base64url(random, sizeof(random));
	(void)strcpy(member->sid, sid);
	free(sid);
	(void)pthread_mutex_lock(&lock);
	err = admit(server, address);
	if (err == ERR_OK)
		enter(server, member, prefix);
	(void)pthread_mutex_unlock(&lock);
	return err;
}

void
eio_server_remove(struct eio_server *server, struct eio_member *member)
{
	(void)pthread_mutex_lock(&lock);
	LIST_REMOVE(member, entry);
	server->count--;
	if (--member->network->count == 0) {
		LIST_REMOVE(member->network, entry);
		free(member->network);
	}
	(void)pthread_mutex_unlock(&lock);
	eio_server_unref(server);
}

struct eio_member *
eio_server_get(struct eio_server *server, const char *sid)
{
	struct eio_member *member;

	(void)pthread_mutex_lock(&lock);
	member = find(server, sid);
	(void)pthread_mutex_unlock(&lock);
	return member;
}

struct eio_member *
eio_server_first(struct eio_server *server)
{
	struct eio_member *member = NULL;

	(void)pthread_mutex_lock(&lock);
	for (size_t i = 0; member == NULL && i < BUCKET_COUNT; i++)
		member = LIST_FIRST(&server->buckets[i]);
	(void)pthread_mutex_unlock(&lock);
	return member;
}

void
eio_server_upgrade(struct eio_member *member)
{
	(void)pthread_mutex_lock(&lock);
	member->websocket = true;
	(void)pthread_mutex_unlock(&lock);
}
