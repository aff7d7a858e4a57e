/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_log.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "broker/tunnels/target.h"
#include "broker/tunnels/tunnel_request.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"

#define DROPS_PER_S	      10
#define CONTROL_LOG_USER_SIZE (CONTROL_LOG_WHO_SIZE - 128)

static const struct {
	const char *word;
	const char *side;
	bool fault;
} causes[] = {
#define CAUSE(id, word, side, fault) [CONTROL_##id] = { word, side, fault },
	CONTROL_CAUSES
#undef CAUSE
};

/* The first subject is the user or the visitor. */
static const struct config_plan *
plan_of(const struct lease_info *lease)
{
	return lease->subjects.count > 0 ? lease->subjects.items[0].plan : NULL;
}

/* " user=ann", or "" for NULL. */
static void
write_user(const char *user, char *out, size_t size)
{
	char escaped[CONTROL_LOG_USER_SIZE];

	(void)snprintf(out, size, "%s%s", user == NULL ? "" : " user=",
	    user == NULL
		? ""
		: str_escape(escaped, sizeof(escaped), user, strlen(user)));
}

/* A plan's name is a token: nothing in it wants escaping. */
char *
control_log_who(const struct lease_info *lease, const struct config_plan *plan,
    char out[CONTROL_LOG_WHO_SIZE])
{
	char user[CONTROL_LOG_USER_SIZE + 8];

	write_user(lease->user, user, sizeof(user));
	(void)snprintf(out, CONTROL_LOG_WHO_SIZE, "%s%s%.64s", user,
	    plan != NULL ? " plan=" : "", plan != NULL ? plan->name : "");
	return out;
}

void
control_log_open(const struct lease_info *lease, pid_t pid)
{
	char who[CONTROL_LOG_WHO_SIZE];

	log_info("lease.open",
	    "lease=%s session=%s route=%s client=%s%s pid=%d", lease->id,
	    lease->session, lease->route, lease->client,
	    control_log_who(lease, plan_of(lease), who), (int)pid);
}

void
control_log_resume(const struct lease_info *lease, pid_t pid,
    int64_t resumed_ms)
{
	char who[CONTROL_LOG_WHO_SIZE];

	log_info("lease.resume",
	    "lease=%s session=%s route=%s client=%s%s pid=%d seconds=%lld",
	    lease->id, lease->session, lease->route, lease->client,
	    control_log_who(lease, plan_of(lease), who), (int)pid,
	    (long long)resumed_ms / 1000);
}

void
control_log_denied(const struct wire_open *open, const char *route,
    const char *user, enum err err, const struct diag *diag)
{
	static struct log_limit limit = LOG_LIMIT_A_MINUTE;
	int status = err_http_status(err);
	const char *header = wire_headers_find(&open->headers, "Origin");
	char path[256], client[INET6_ADDRSTRLEN], origin[128];
	char who[CONTROL_LOG_USER_SIZE + 8];

	if (header == NULL)
		header = "-";
	(void)str_escape(origin, sizeof(origin), header, strlen(header));
	target_describe(open->target, path, sizeof(path));
	write_user(user, who, sizeof(who));
	if (tunnel_request_client(open, client, NULL) != ERR_OK)
		(void)strcpy(client, "unknown");
	log_limited(&limit,
	    status >= 500 ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE,
	    "tunnel.denied",
	    "status=%d client=%s origin=%s path=%s route=%s%s reason=\"%s\"",
	    status, client, origin, path, route == NULL ? "-" : route, who,
	    diag->text);
}

/* The last line of a tunnel. */
static void
log_lease(const struct lease_info *info, enum control_cause cause,
    const struct wire_usage *end)
{
	const struct wire_totals *client = &info->from_client;
	const struct wire_totals *upstream = &info->from_upstream;
	char who[CONTROL_LOG_WHO_SIZE];

	log_info("lease.end",
	    "lease=%s session=%s route=%s client=%s%s cause=%s side=%s code=%d "
	    "client_messages=%llu client_bytes=%llu upstream_messages=%llu "
	    "upstream_bytes=%llu seconds=%lld",
	    info->id, info->session, info->route, info->client,
	    control_log_who(info, plan_of(info), who),
	    end != NULL ? end->cause : causes[cause].word,
	    end != NULL ? end->side : causes[cause].side,
	    end != NULL ? end->code : 0, (unsigned long long)client->messages,
	    (unsigned long long)client->bytes,
	    (unsigned long long)upstream->messages,
	    (unsigned long long)upstream->bytes,
	    (long long)(clock_ms() - info->started_ms) / 1000);
}

/* Whoever speaks nonsense does not fill the log, or hide others in it. */
static void
log_dropped(const struct ucred *peer, enum control_cause cause)
{
	static struct log_limit limit = { .max = DROPS_PER_S, .per_ms = 1000 };

	log_limited(&limit, LOG_LEVEL_WARNING, "control.dropped",
	    "cause=%s pid=%d uid=%d", causes[cause].word, (int)peer->pid,
	    (int)peer->uid);
}

void
control_log_end(const struct ucred *peer, const struct lease_info *lease,
    enum control_cause cause, const struct wire_usage *end)
{
	if (causes[cause].fault)
		log_dropped(peer, cause);
	if (lease != NULL)
		log_lease(lease, cause, end);
}
