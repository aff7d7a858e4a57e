/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_operator.h"

#include <string.h>

#include "broker/http/probes.h"
#include "broker/limits/revocations.h"
#include "broker/tunnels/control_revocations.h"
#include "common/json.h"
#include "common/xalloc.h"

#define LIST_BYTES	  (WIRE_MAX_BYTES - 1024)
#define PROBED_RELAYS_MAX 8 /* that `doctor' is to try */

/* Answer an operator, who may ask again; takes the value. */
static void
reply(struct control_server *srv, struct control_connection *conn,
    json_t *value)
{
	struct wire_packet *packet = wire_packet_new(WIRE_REPLY);

	packet->reply = value;
	control_connection_set(srv, conn, CONTROL_STATE_IDLE);
	(void)control_connection_send(srv, conn, packet);
	wire_packet_free(packet);
}

/* Which plans the tokens of users named who have a tunnel open. */
static json_t *
list_plans(struct control_server *srv)
{
	json_t *users = json_object();
	struct control_connection *conn;

	TAILQ_FOREACH (conn, &srv->leased, entry) {
		const struct lease_info *info = lease_peek(conn->lease);
		const struct subject *first = &info->subjects.items[0];

		if (info->subjects.count > 0 && first->name[0] == 'u' &&
		    first->plan != NULL)
			(void)json_object_set_new(users, first->name,
			    json_string(first->plan->name));
	}
	return users;
}

/* Takes the packet. */
static void
ask(struct control_server *srv, struct control_connection *conn,
    struct wire_packet *packet)
{
	struct diag diag;
	json_t *users = packet->type == WIRE_BUDGETS ? list_plans(srv) : NULL;
	enum err err = control_questions_ask(srv->questions, packet, users,
	    LIST_BYTES, conn, &diag);

	if (err == ERR_OK)
		control_connection_set(srv, conn, CONTROL_STATE_ASKING);
	else
		reply(srv, conn, control_questions_error(err, &diag));
}

void
control_operator_answer(struct control_server *srv)
{
	json_t *answer;
	void *asker;

	srv->answered = false;
	while (control_questions_take(srv->questions, &asker, &answer)) {
		/* what was revoked just now, whether its asker waits or not */
		size_t closed = control_revocations_sweep(srv);

		if (json_object_get(answer, "closed") != NULL)
			(void)json_object_set_new(answer, "closed",
			    json_integer((json_int_t)closed));
		if (asker != NULL)
			reply(srv, asker, answer);
		else
			json_decref(answer);
	}
}

static struct control_connection *
find_lease(struct control_server *srv, const char *id)
{
	struct control_connection *conn;

	TAILQ_FOREACH (conn, &srv->leased, entry)
		if (!conn->ended &&
		    strcmp(lease_peek(conn->lease)->id, id) == 0)
			return conn;
	return NULL;
}

/* An operator's order to a tunnel, which ends by itself then. */
static void
close_tunnel(struct control_server *srv, struct control_connection *conn,
    const struct wire_close *order)
{
	struct control_connection *tunnel = find_lease(srv, order->lease);

	reply(srv, conn, json_pack("{s:b}", "closed", tunnel != NULL));
	if (tunnel != NULL)
		control_connection_order_close(tunnel, order->code,
		    order->reason);
}

/*
 * What doctor needs: an id that its requests are known by, and the paths that
 * it is to try.
 */
static json_t *
make_probe(void)
{
	struct config *config = config_current();
	char id[PROBES_ID_BYTES];
	json_t *relays = json_array(), *probe;

	probes_make(id);
	for (size_t i = 0; i < config->relay_count && i < PROBED_RELAYS_MAX;
	     i++)
		(void)json_array_append_new(relays,
		    json_string(config->relays[i].paths.items[0]));
	probe = json_made(json_pack("{s:s, s:s, s:o}", "probe", id, "base_path",
	    config->requests.base_path, "relays", relays));
	config_unref(config);
	return probe;
}

bool
control_operator_is_order(const struct wire_packet *packet)
{
	return packet->type == WIRE_LIST || packet->type == WIRE_REPORT ||
	    packet->type == WIRE_REVOKE || packet->type == WIRE_TOP_UP ||
	    packet->type == WIRE_BALANCE || packet->type == WIRE_BUDGETS ||
	    packet->type == WIRE_PROBE ||
	    (packet->type == WIRE_CLOSE && packet->close.lease != NULL);
}

void
control_operator_obey(struct control_server *srv,
    struct control_connection *conn, struct wire_packet *packet)
{
	if (!conn->peer.is_operator) {
		control_connection_drop(srv, conn, CONTROL_NOT_ALLOWED, NULL);
	} else if (packet->type == WIRE_LIST) {
		reply(srv, conn, leases_list(srv->leases, LIST_BYTES));
	} else if (packet->type == WIRE_REVOKE && packet->revoke.kind == NULL) {
		reply(srv, conn,
		    json_pack("{so}", "revocations",
			revocations_list(LIST_BYTES)));
	} else if (packet->type == WIRE_PROBE) {
		reply(srv, conn, make_probe());
	} else if (packet->type == WIRE_CLOSE) {
		close_tunnel(srv, conn, &packet->close);
	} else {
		ask(srv, conn, packet);
		return;
	}
	wire_packet_free(packet);
}
