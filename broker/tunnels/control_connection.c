/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/xalloc.h"

bool
control_connection_watch(struct control_server *srv, int fd, void *source)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = source };

	return epoll_ctl(srv->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Take it out of its state. */
static void
leave_state(struct control_server *srv, struct control_connection *conn)
{
	if (conn->state == CONTROL_STATE_LEASED) {
		TAILQ_REMOVE(&srv->leased, conn, entry);
		return;
	}
	TAILQ_REMOVE(&srv->waiting, conn, entry);
	srv->waiting_count--;
	srv->tunnels_count -= !conn->peer.is_operator;
	if (conn->state == CONTROL_STATE_RESOLVING)
		srv->resolving_count--;
}

/* All waits are equally long: the list is in the order of its deadlines. */
void
control_connection_add(struct control_server *srv,
    struct control_connection *conn, enum control_state state)
{
	conn->state = state;
	if (state == CONTROL_STATE_LEASED) {
		TAILQ_INSERT_TAIL(&srv->leased, conn, entry);
		return;
	}
	conn->deadline_ms = clock_ms() + srv->silence_ms;
	TAILQ_INSERT_TAIL(&srv->waiting, conn, entry);
	srv->waiting_count++;
	srv->tunnels_count += !conn->peer.is_operator;
	if (state == CONTROL_STATE_RESOLVING)
		srv->resolving_count++;
}

void
control_connection_set(struct control_server *srv,
    struct control_connection *conn, enum control_state state)
{
	leave_state(srv, conn);
	control_connection_add(srv, conn, state);
}

void
control_connection_drop(struct control_server *srv,
    struct control_connection *conn, enum control_cause cause,
    const struct wire_usage *end)
{
	/* of one that has ended, its end was the last that is worth a line */
	control_log_end(&conn->peer.cred,
	    conn->lease == NULL || conn->ended ? NULL : lease_peek(conn->lease),
	    cause, end);
	if (conn->state == CONTROL_STATE_ASKING)
		control_questions_leave(srv->questions, conn);
	if (conn->job != NULL)
		conn->job->conn = NULL;
	tunnel_route_free(conn->route);
	if (conn->lease != NULL)
		control_asks_leave(srv->asks, lease_peek(conn->lease),
		    conn->ended			   ? CONTROL_ASKS_ENDED
			: cause == CONTROL_STOPPED ? CONTROL_ASKS_STOPPED
						   : CONTROL_ASKS_LOST);
	lease_release(conn->lease);
	srv->ended_count -= conn->ended;
	leave_state(srv, conn);
	/* close() alone would not do where a forked child has it too */
	(void)epoll_ctl(srv->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	(void)close(conn->fd);
	free(conn);
	if (!srv->accepting)
		srv->accept_again_ms = clock_ms();
}

bool
control_connection_send_with(struct control_server *srv,
    struct control_connection *conn, const struct wire_packet *packet, int fd)
{
	bool sent;
	enum err err;
	size_t len;
	char *text;
	int error;

	err = wire_format(packet, &text, &len);
	if (err != ERR_OK) {
		log_error("control.format", "type=%d reason=\"%s\"",
		    (int)packet->type, err_text(err));
		control_connection_drop(srv, conn, CONTROL_INTERNAL, NULL);
		return false;
	}
	sent = control_peer_send(conn->fd, text, len, fd);
	error = errno;
	wire_text_free(text, len);
	/* of one that has left, what it sent last is still to be read */
	if (!sent && error != EPIPE && error != ECONNRESET)
		control_connection_drop(srv, conn,
		    error == EAGAIN ? CONTROL_NOT_READING
				    : CONTROL_DISCONNECTED,
		    NULL);
	return sent;
}

bool
control_connection_send(struct control_server *srv,
    struct control_connection *conn, const struct wire_packet *packet)
{
	return control_connection_send_with(srv, conn, packet, -1);
}

void
control_connection_order_close(struct control_connection *tunnel, int code,
    const char *reason)
{
	struct wire_packet *packet = wire_packet_new(WIRE_CLOSE);
	const struct lease_info *info = lease_peek(tunnel->lease);
	char who[CONTROL_LOG_WHO_SIZE];
	char *text;
	size_t len;

	log_notice("lease.close", "lease=%s session=%s code=%d%s", info->id,
	    info->session, code, control_log_who(info, NULL, who));
	if (tunnel->told_ms == 0)
		tunnel->told_ms = clock_ms();
	packet->close.code = code;
	packet->close.reason = xstrdup(reason);
	if (wire_format(packet, &text, &len) == ERR_OK) {
		/* it may have an event of its own in this turn: no
		 * control_connection_drop() */
		if (send(tunnel->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) ==
		    -1)
			(void)shutdown(tunnel->fd, SHUT_RDWR);
		wire_text_free(text, len);
	}
	wire_packet_free(packet);
}
