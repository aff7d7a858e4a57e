/* SPDX-License-Identifier: MIT */
#ifndef BROKER_RESOLVER_H
#define BROKER_RESOLVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire.h"

/*
 * resolver: names to numeric addresses, without ever waiting.
 *
 * The system's resolver blocks, so that a few threads of our own call it.
 * Whoever asks for a name that is not known yet is told ERR_AGAIN, and asks
 * again when resolver_fd() has become readable, or some time later.  Names
 * that hang hold a thread until the system gives up; they never get more
 * threads, nor is a name asked for twice at a time.  Thread-safe.
 */
struct resolver;

struct resolver_answer {
	char addresses[WIRE_ADDRESSES_MAX][INET6_ADDRSTRLEN];
	size_t count;
};

/*
 * Look a name up, as long as it takes.  ERR_UPSTREAM where it has no
 * address, with the reason.
 */
typedef enum err resolver_lookup(const char *name, struct resolver_answer *ret,
    struct diag *diag);

/* The lookup of the system, getaddrinfo(3). */
enum err resolver_system(const char *name, struct resolver_answer *ret,
    struct diag *diag) MUST_CHECK;

/* ERR_SYS.  A name that takes longer than limit_ms has no answer. */
enum err resolver_new(resolver_lookup *lookup, int64_t limit_ms,
    struct resolver **ret, struct diag *diag) MUST_CHECK;

/* Never waits: a thread that hangs frees what it uses.  NULL is allowed. */
void resolver_free(struct resolver *resolver);

/* Readable when an answer came since resolver_clear(); borrowed. */
int resolver_fd(const struct resolver *resolver);
void resolver_clear(struct resolver *resolver);

/*
 * Addresses of a host.  Numeric hosts and "localhost" are answered at once,
 * as they stand.  A name with an address that resolver_is_public() does not
 * know as such is ERR_UPSTREAM unless allow_private.  ERR_AGAIN; ERR_UPSTREAM
 * where there is no such name; ERR_UPSTREAM_TIMEOUT; ERR_UNAVAIL where too
 * many names are being asked for.  Answers are kept for 30 seconds.
 */
enum err resolver_resolve(struct resolver *resolver, const char *host,
    bool allow_private, struct resolver_answer *ret,
    struct diag *diag) MUST_CHECK;

/*
 * Whether a numeric address is one of the Internet: not loopback, private,
 * shared, link-local, multicast, reserved or unspecified, also where that is
 * within an IPv6 address (mapped, NAT64, 6to4).
 */
bool resolver_is_public(const char *address);

#endif
