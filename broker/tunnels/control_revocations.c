/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_revocations.h"

#include <stdlib.h>
#include <string.h>

#include "broker/chat/generations.h"
#include "broker/chat/notify.h"
#include "broker/hub/hub.h"
#include "broker/limits/revocations.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/ws_frame.h"
#include "common/xalloc.h"

#define LOAD_MS	    500
#define LOG_EVERY_S 60

/* In the hub's thread. */
static void
end_answers(void *arg)
{
	char *owner = arg;

	generations_stop_owner(owner);
	free(owner);
}

/* What a user's pages have open, and what is being made for them. */
static void
end_user(const char *kind, const char *user)
{
	char *owner;

	if (strcmp(kind, "user") != 0)
		return;
	owner = xasprintf("u:%s", user);
	notify_revoked(owner);
	if (!hub_post(end_answers, owner))
		free(owner);
}

void
control_revocations_start(void)
{
	revocations_listen(end_user);
}

void
control_revocations_stop(void)
{
	revocations_listen(NULL);
}

bool
control_revocations_close(struct control_connection *conn)
{
	const struct lease_info *info = lease_peek(conn->lease);
	const struct revocations_subject subject = {
		.user = info->user,
		.session = info->session,
		.ticket = info->ticket,
		.route = info->route,
		.issued = info->issued,
	};

	if (conn->revoked || conn->ended || !revocations_have(&subject))
		return false;
	conn->revoked = true;
	control_connection_order_close(conn, WS_CODE_OPERATOR, "revoked");
	return true;
}

size_t
control_revocations_sweep(struct control_server *srv)
{
	struct control_connection *conn;
	size_t count = 0;

	TAILQ_FOREACH (conn, &srv->leased, entry)
		count += control_revocations_close(conn);
	return count;
}

/* In a thread that may wait.  The server outlives its jobs. */
static void
load(void *arg)
{
	struct control_server *srv = arg;

	srv->load_err = revocations_load(clock_unix(), &srv->load_diag);
}

static void
loaded(void *context, void *arg)
{
	struct control_server *srv = arg;
	int64_t now_ms = clock_ms();

	(void)context;
	srv->load_ms = now_ms + LOAD_MS;
	if (srv->load_err == ERR_OK) {
		srv->load_failed_ms = 0;
		(void)control_revocations_sweep(srv);
	} else if (srv->load_failed_ms <= now_ms) {
		/* those in memory count as before */
		srv->load_failed_ms = now_ms + (int64_t)LOG_EVERY_S * 1000;
		log_warning("revocations.not_read", "reason=\"%s\"",
		    srv->load_diag.text);
	}
}

void
control_revocations_tick(struct control_server *srv, int64_t now_ms)
{
	if (now_ms < srv->load_ms)
		return;
	/* until it is done, which says when the next one is */
	srv->load_ms = INT64_MAX;
	if (control_jobs_add(srv->jobs, load, loaded, srv) != ERR_OK)
		srv->load_ms = now_ms + LOAD_MS;
}
