/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define THREADS	       4
#define NAMES_MAX      64
#define NAME_BYTES     254 /* RFC 1035 3.1, with a NUL */
#define KEEP_MS	       30000
#define KEEP_FAILED_MS 1000 /* so that whoever waits hears of it */

enum name_state {
	NAME_UNUSED,
	NAME_QUEUED,
	NAME_RUNNING,
	NAME_DONE
};

struct name {
	char name[NAME_BYTES];
	enum name_state state;
	int64_t since_ms; /* when it was queued, or answered */
	enum err err;
	struct diag diag;
	struct resolver_answer answer;
};

struct resolver {
	pthread_mutex_t lock;
	pthread_cond_t work;
	resolver_lookup *lookup;
	int64_t limit_ms;
	int event_fd;
	bool stopping;
	unsigned refs; /* the owner and the threads */
	struct name names[NAMES_MAX];
};

/* ---- addresses --------------------------------------------------------- */

/* An IPv4 address is looked at as the IPv6 address that it maps to. */
static bool
to_in6(const char *text, struct in6_addr *ret)
{
	struct in_addr in;

	if (inet_pton(AF_INET6, text, ret) == 1)
		return true;
	if (inet_pton(AF_INET, text, &in) != 1)
		return false;
	*ret = (struct in6_addr){ .s6_addr = { [10] = 0xff, [11] = 0xff } };
	memcpy(&ret->s6_addr[12], &in, sizeof(in));
	return true;
}

static bool
has_prefix(const struct in6_addr *address, const char *prefix, unsigned bits)
{
	struct in6_addr in;
	unsigned whole = bits / 8, rest = bits % 8;

	if (inet_pton(AF_INET6, prefix, &in) != 1 ||
	    memcmp(address, &in, whole) != 0)
		return false;
	return rest == 0 ||
	    (address->s6_addr[whole] ^ in.s6_addr[whole]) >> (8 - rest) == 0;
}

bool
resolver_is_public(const char *address)
{
	static const struct {
		const char *prefix;
		unsigned bits;
	} special[] = {
		/* RFC 6890 and its registries */
		{ "::ffff:0.0.0.0", 104 },
		{ "::ffff:10.0.0.0", 104 },
		{ "::ffff:100.64.0.0", 106 },
		{ "::ffff:127.0.0.0", 104 },
		{ "::ffff:169.254.0.0", 112 },
		{ "::ffff:172.16.0.0", 108 },
		{ "::ffff:192.0.0.0", 120 },
		{ "::ffff:192.168.0.0", 112 },
		{ "::ffff:198.18.0.0", 111 },
		{ "::ffff:224.0.0.0", 99 }, /* multicast, reserved */
		{ "::", 96 },		    /* unspecified, loopback */
		{ "64:ff9b:1::", 48 },
		{ "100::", 64 },
		{ "2001::", 23 },
		{ "fc00::", 7 },
		{ "fe80::", 10 },
		{ "fec0::", 10 },
		{ "ff00::", 8 },
	};
	struct in6_addr in, inner = { .s6_addr = { [10] = 0xff, 0xff } };

	if (!to_in6(address, &in))
		return false;
	/* those that carry an IPv4 address lead where that leads */
	if (has_prefix(&in, "64:ff9b::", 96)) {
		memcpy(&inner.s6_addr[12], &in.s6_addr[12], 4);
		in = inner;
	} else if (has_prefix(&in, "2002::", 16)) {
		memcpy(&inner.s6_addr[12], &in.s6_addr[2], 4);
		in = inner;
	}
	for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
		if (has_prefix(&in, special[i].prefix, special[i].bits))
			return false;
	return true;
}

enum err
resolver_system(const char *name, struct resolver_answer *ret,
    struct diag *diag)
{
	struct addrinfo hints = {
		.ai_flags = AI_ADDRCONFIG,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *list;
	int error = getaddrinfo(name, NULL, &hints, &list);

	if (error != 0) {
		diag_set(diag, "%s: %s", name, gai_strerror(error));
		return ERR_UPSTREAM;
	}
	ret->count = 0;
	for (struct addrinfo *ai = list;
	     ai != NULL && ret->count < WIRE_ADDRESSES_MAX; ai = ai->ai_next) {
		char *text = ret->addresses[ret->count];
		const void *in = ai->ai_family == AF_INET6
		    ? (const void *)&(
			  (struct sockaddr_in6 *)(void *)ai->ai_addr)
			  ->sin6_addr
		    : &((struct sockaddr_in *)(void *)ai->ai_addr)->sin_addr;

		if (inet_ntop(ai->ai_family, in, text, INET6_ADDRSTRLEN) !=
		    NULL)
			ret->count++;
	}
	freeaddrinfo(list);
	return ERR_OK;
}

/* ---- threads ----------------------------------------------------------- */

/* Give up a reference; whoever has the last one frees.  Unlocks. */
static void
unref_locked(struct resolver *resolver)
{
	bool last = --resolver->refs == 0;

	(void)pthread_mutex_unlock(&resolver->lock);
	if (!last)
		return;
	(void)close(resolver->event_fd);
	(void)pthread_cond_destroy(&resolver->work);
	(void)pthread_mutex_destroy(&resolver->lock);
	free(resolver);
}

/* The name that has waited longest, or NULL; locked. */
static struct name *
next_queued(struct resolver *resolver)
{
	struct name *next = NULL;

	for (size_t i = 0; i < NAMES_MAX; i++) {
		struct name *name = &resolver->names[i];

		if (name->state == NAME_QUEUED &&
		    (next == NULL || name->since_ms < next->since_ms))
			next = name;
	}
	return next;
}

/* Look one name up, without the lock; a running name is nobody else's. */
static void
run_name(struct resolver *resolver, struct name *name)
{
	name->state = NAME_RUNNING;
	(void)pthread_mutex_unlock(&resolver->lock);
	name->err = resolver->lookup(name->name, &name->answer, &name->diag);
	(void)pthread_mutex_lock(&resolver->lock);
	name->state = NAME_DONE;
	name->since_ms = clock_ms();
	(void)eventfd_write(resolver->event_fd, 1);
}

static void *
run_thread(void *arg)
{
	struct resolver *resolver = arg;

	(void)pthread_mutex_lock(&resolver->lock);
	while (!resolver->stopping) {
		struct name *name = next_queued(resolver);

		if (name == NULL)
			(void)pthread_cond_wait(&resolver->work,
			    &resolver->lock);
		else
			run_name(resolver, name);
	}
	unref_locked(resolver);
	return NULL;
}

enum err
resolver_new(resolver_lookup *lookup, int64_t limit_ms, struct resolver **ret,
    struct diag *diag)
{
	struct resolver *resolver;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	enum err err = ERR_OK;

	if (fd == -1) {
		diag_set(diag, "eventfd: %s", strerror(errno));
		return ERR_SYS;
	}
	resolver = xcalloc(1, sizeof(*resolver));
	(void)pthread_mutex_init(&resolver->lock, NULL);
	(void)pthread_cond_init(&resolver->work, NULL);
	resolver->lookup = lookup;
	resolver->limit_ms = limit_ms;
	resolver->event_fd = fd;
	resolver->refs = 1;
	for (int i = 0; err == ERR_OK && i < THREADS; i++) {
		pthread_t thread;

		(void)pthread_mutex_lock(&resolver->lock);
		err = thread_start(&thread, "resolver", run_thread, resolver,
		    diag);
		if (err == ERR_OK) {
			(void)pthread_detach(thread);
			resolver->refs++;
		}
		(void)pthread_mutex_unlock(&resolver->lock);
	}
	if (err != ERR_OK) {
		resolver_free(resolver);
		return err;
	}
	*ret = resolver;
	return ERR_OK;
}

void
resolver_free(struct resolver *resolver)
{
	if (resolver == NULL)
		return;
	(void)pthread_mutex_lock(&resolver->lock);
	resolver->stopping = true;
	(void)pthread_cond_broadcast(&resolver->work);
	unref_locked(resolver);
}

int
resolver_fd(const struct resolver *resolver)
{
	return resolver->event_fd;
}

void
resolver_clear(struct resolver *resolver)
{
	eventfd_t count;

	(void)eventfd_read(resolver->event_fd, &count);
}

/* ---- asking ------------------------------------------------------------ */

static bool
is_fresh(const struct name *name, int64_t now_ms)
{
	return name->state == NAME_DONE &&
	    now_ms - name->since_ms <
	    (name->err == ERR_OK ? KEEP_MS : KEEP_FAILED_MS);
}

/* The name's place, else the one it may have, else NULL; locked. */
static struct name *
find_place(struct resolver *resolver, const char *host)
{
	struct name *place = NULL;

	for (size_t i = 0; i < NAMES_MAX; i++) {
		struct name *name = &resolver->names[i];

		if (name->state != NAME_UNUSED &&
		    strcasecmp(name->name, host) == 0)
			return name;
		/* unused ones are the oldest of all */
		if ((name->state == NAME_UNUSED || name->state == NAME_DONE) &&
		    (place == NULL || name->since_ms < place->since_ms))
			place = name;
	}
	if (place != NULL)
		*place = (struct name){ .state = NAME_UNUSED };
	return place;
}

/* As resolver_resolve(), for a name, whatever its addresses are; locked. */
static enum err
ask(struct resolver *resolver, const char *host, struct resolver_answer *ret,
    struct diag *diag)
{
	struct name *name = find_place(resolver, host);
	int64_t now_ms = clock_ms();

	if (name == NULL) {
		diag_set(diag, "too many names are being resolved");
		return ERR_UNAVAIL;
	}
	if (is_fresh(name, now_ms)) {
		if (name->err == ERR_OK)
			*ret = name->answer;
		else
			diag_set(diag, "%s", name->diag.text);
		return name->err;
	}
	if (name->state == NAME_UNUSED || name->state == NAME_DONE) {
		(void)strcpy(name->name, host);
		name->state = NAME_QUEUED;
		name->since_ms = now_ms;
		(void)pthread_cond_signal(&resolver->work);
	}
	if (now_ms - name->since_ms < resolver->limit_ms)
		return ERR_AGAIN;
	diag_set(diag, "%s: not resolved within %lld ms", host,
	    (long long)resolver->limit_ms);
	return ERR_UPSTREAM_TIMEOUT;
}

/* Hosts that need no lookup. */
static bool
answer_directly(const char *host, struct resolver_answer *ret)
{
	struct in6_addr in;

	if (strcasecmp(host, "localhost") == 0) {
		*ret = (struct resolver_answer){
			.addresses = { "127.0.0.1", "::1" },
			.count = 2,
		};
		return true;
	}
	if (!to_in6(host, &in))
		return false;
	*ret = (struct resolver_answer){ .count = 1 };
	(void)strcpy(ret->addresses[0], host);
	return true;
}

enum err
resolver_resolve(struct resolver *resolver, const char *host,
    bool allow_private, struct resolver_answer *ret, struct diag *diag)
{
	struct resolver_answer answer;
	enum err err;

	if (answer_directly(host, ret))
		return ERR_OK;
	if (strlen(host) >= NAME_BYTES) {
		diag_set(diag, "the upstream's name is too long");
		return ERR_UPSTREAM;
	}
	(void)pthread_mutex_lock(&resolver->lock);
	err = ask(resolver, host, &answer, diag);
	(void)pthread_mutex_unlock(&resolver->lock);
	if (err != ERR_OK)
		return err;
	if (answer.count == 0) {
		diag_set(diag, "%s: no address", host);
		return ERR_UPSTREAM;
	}
	for (size_t i = 0; !allow_private && i < answer.count; i++)
		if (!resolver_is_public(answer.addresses[i])) {
			diag_set(diag,
			    "%s resolves to %s, which is not public: "
			    "set allow_private to dial it",
			    host, answer.addresses[i]);
			return ERR_UPSTREAM;
		}
	*ret = answer;
	return ERR_OK;
}
