/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/leases.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "broker/limits/slots.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/xalloc.h"

/* Leases of one route; exists as long as there is one. */
struct route {
	char *name;
	uint64_t count;
	TAILQ_ENTRY(route) entry;
};

struct lease {
	struct lease_info info;
	struct leases *leases;
	struct route *route;
	struct slots *slots; /* NULL: it is counted for nobody */
	TAILQ_ENTRY(lease) entry;
};

struct leases {
	pthread_mutex_t lock; /* over all that follows, and the totals */
	TAILQ_HEAD(, lease) all;
	TAILQ_HEAD(, route) routes;
	uint64_t count;
};

struct leases *
leases_new(void)
{
	struct leases *leases = xcalloc(1, sizeof(*leases));

	(void)pthread_mutex_init(&leases->lock, NULL);
	TAILQ_INIT(&leases->all);
	TAILQ_INIT(&leases->routes);
	return leases;
}

void
leases_free(struct leases *leases)
{
	if (leases == NULL)
		return;
	assert(TAILQ_EMPTY(&leases->all));
	(void)pthread_mutex_destroy(&leases->lock);
	free(leases);
}

/* The route's count, made where it is the first; locked. */
static struct route *
get_route(struct leases *leases, const char *name)
{
	struct route *route;

	TAILQ_FOREACH (route, &leases->routes, entry)
		if (strcmp(route->name, name) == 0)
			return route;
	route = xcalloc(1, sizeof(*route));
	route->name = xstrdup(name);
	TAILQ_INSERT_TAIL(&leases->routes, route, entry);
	return route;
}

/* Drop a route that has no lease; locked. */
static void
put_route(struct leases *leases, struct route *route)
{
	if (route->count > 0)
		return;
	TAILQ_REMOVE(&leases->routes, route, entry);
	free(route->name);
	free(route);
}

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

static struct lease *
lease_new(const struct lease_request *request)
{
	struct lease *lease = xcalloc(1, sizeof(*lease));
	struct lease_info *info = &lease->info;

	if (request->id == NULL)
		crypt_random_hex(info->id, (sizeof(info->id) - 1) / 2);
	else
		(void)snprintf(info->id, sizeof(info->id), "%s", request->id);
	info->session = xstrdup(request->session);
	info->route = xstrdup(request->route);
	info->client = xstrdup(request->client);
	info->user = copy(request->user);
	info->model = copy(request->model);
	info->plan = copy(request->plan);
	info->anon_id = copy(request->anon_id);
	info->ticket = copy(request->ticket);
	info->issued = request->issued;
	if (request->subjects != NULL)
		info->subjects = *request->subjects;
	if (request->config != NULL)
		info->config = config_ref(request->config);
	info->started_ms = clock_ms();
	info->started_unix = clock_unix();
	if (request->id != NULL && request->started < info->started_unix) {
		info->started_ms -=
		    (info->started_unix - request->started) * 1000;
		info->started_unix = request->started;
	}
	return lease;
}

/* Whether one is open that has this id; locked. */
static bool
has_id(const struct leases *leases, const char *id)
{
	const struct lease *lease;

	TAILQ_FOREACH (lease, &leases->all, entry)
		if (strcmp(lease->info.id, id) == 0)
			return true;
	return false;
}

static void
explain(uint64_t max, const char *whose, struct diag *diag)
{
	if (max == 1)
		diag_set(diag, "the only connection%s is in use", whose);
	else
		diag_set(diag, "all %llu connections%s are in use",
		    (unsigned long long)max, whose);
}

/* Whether there is room for one more of this route; locked. */
static enum err
has_room(struct leases *leases, const struct route *route,
    const struct lease_request *request, uint64_t *ret_full, struct diag *diag)
{
	if (request->max_total > 0 && leases->count >= request->max_total) {
		explain(request->max_total, "", diag);
		return ERR_UNAVAIL;
	}
	if (request->max_route > 0 && route->count >= request->max_route) {
		explain(request->max_route, " of this route", diag);
		*ret_full = request->max_route;
		return ERR_RATE;
	}
	return ERR_OK;
}

/*
 * Count it in, unless a limit is reached; locked.  One that is resumed runs
 * already, and is within what it was let in by.
 */
static enum err
admit(struct leases *leases, struct lease *lease,
    const struct lease_request *request, struct diag *diag)
{
	struct route *route = get_route(leases, request->route);
	uint64_t full = 0;
	enum err err = ERR_OK;

	if (request->id == NULL) {
		err = has_room(leases, route, request, &full, diag);
	} else if (has_id(leases, request->id)) {
		diag_set(diag, "this connection is open already");
		err = ERR_CONFLICT;
	}
	if (err == ERR_OK && request->subjects != NULL)
		err = slots_take(SLOTS_TUNNELS, request->subjects,
		    request->id != NULL, &lease->slots, &full, diag);
	if (err != ERR_OK) {
		if (request->ret_full != NULL)
			*request->ret_full = full;
		put_route(leases, route);
		return err;
	}
	route->count++;
	leases->count++;
	lease->route = route;
	lease->leases = leases;
	TAILQ_INSERT_TAIL(&leases->all, lease, entry);
	return ERR_OK;
}

enum err
leases_take(struct leases *leases, const struct lease_request *request,
    struct lease **ret, struct diag *diag)
{
	struct lease *lease = lease_new(request);
	enum err err;

	(void)pthread_mutex_lock(&leases->lock);
	err = admit(leases, lease, request, diag);
	(void)pthread_mutex_unlock(&leases->lock);
	if (err == ERR_OK)
		*ret = lease;
	else
		lease_release(lease);
	return err;
}

void
lease_end(struct lease *lease)
{
	struct leases *leases = lease->leases;

	slots_release(lease->slots);
	lease->slots = NULL;
	if (leases == NULL)
		return;
	(void)pthread_mutex_lock(&leases->lock);
	TAILQ_REMOVE(&leases->all, lease, entry);
	leases->count--;
	lease->route->count--;
	put_route(leases, lease->route);
	(void)pthread_mutex_unlock(&leases->lock);
	lease->leases = NULL;
}

void
lease_release(struct lease *lease)
{
	if (lease == NULL)
		return;
	lease_end(lease);
	free(lease->info.session);
	free(lease->info.route);
	free(lease->info.client);
	free(lease->info.user);
	free(lease->info.model);
	free(lease->info.plan);
	free(lease->info.anon_id);
	free(lease->info.ticket);
	config_unref(lease->info.config);
	free(lease);
}

void
lease_replan(struct lease *lease, const struct subjects *subjects,
    struct config *config)
{
	struct lease_info *info = &lease->info;
	struct config *before = info->config;

	info->subjects = *subjects;
	info->config = config_ref(config);
	config_unref(before);
}

void
lease_update(struct lease *lease, const struct wire_usage *usage)
{
	struct leases *leases = lease->leases;

	if (leases == NULL)
		return; /* it has ended: nobody looks at them any more */
	(void)pthread_mutex_lock(&leases->lock);
	lease->info.from_client = usage->client;
	lease->info.from_upstream = usage->upstream;
	(void)pthread_mutex_unlock(&leases->lock);
}

const struct lease_info *
lease_peek(const struct lease *lease)
{
	return &lease->info;
}

static json_t *
describe(const struct lease_info *info)
{
	return json_pack("{ss ss ss ss ss* ss* ss* ss* sI s{sI sI} s{sI sI}}",
	    "id", info->id, "session", info->session, "route", info->route,
	    "client", info->client, "user", info->user, "plan", info->plan,
	    "ticket", info->ticket, "model", info->model, "started",
	    (json_int_t)info->started_unix, "from_client", "messages",
	    (json_int_t)info->from_client.messages, "bytes",
	    (json_int_t)info->from_client.bytes, "from_upstream", "messages",
	    (json_int_t)info->from_upstream.messages, "bytes",
	    (json_int_t)info->from_upstream.bytes);
}

json_t *
leases_list(struct leases *leases, size_t max_bytes)
{
	json_t *routes = json_object(), *list = json_array();
	struct lease *lease;
	struct route *route;
	json_int_t total;
	size_t bytes = 0;

	(void)pthread_mutex_lock(&leases->lock);
	total = (json_int_t)leases->count;
	TAILQ_FOREACH (route, &leases->routes, entry) {
		bytes += strlen(route->name) + 24;
		if (bytes > max_bytes)
			break;
		(void)json_object_set_new(routes, route->name,
		    json_integer((json_int_t)route->count));
	}
	TAILQ_FOREACH (lease, &leases->all, entry) {
		json_t *item = describe(&lease->info);

		bytes += json_dumpb(item, NULL, 0, JSON_COMPACT) + 1;
		if (bytes > max_bytes) {
			json_decref(item);
			break;
		}
		(void)json_array_append_new(list, item);
	}
	(void)pthread_mutex_unlock(&leases->lock);
	return json_pack("{sI so so sI}", "total", total, "routes", routes,
	    "leases", list, "omitted",
	    total - (json_int_t)json_array_size(list));
}
