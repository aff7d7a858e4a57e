/* SPDX-License-Identifier: MIT */
#include "ctl/client.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/json.h"
#include "common/xalloc.h"

#define NAME_BYTES 64
#define PATIENCE_S 60 /* a report of a long ledger takes its time */

/* The user's name, or the number of one who has none. */
static const char *
who_we_are(char out[NAME_BYTES])
{
	const struct passwd *user = getpwuid(geteuid());

	if (user != NULL)
		(void)snprintf(out, NAME_BYTES, "%s", user->pw_name);
	else
		(void)snprintf(out, NAME_BYTES, "user %lu",
		    (unsigned long)geteuid());
	return out;
}

static enum err
explain(const char *path, int error, struct diag *diag)
{
	char name[NAME_BYTES];

	switch (error) {
	case ENOENT:
		diag_set(diag,
		    "there is no socket %s: is the broker running, and is "
		    "this the `socket' of its section `control'?",
		    path);
		return ERR_UNAVAIL;
	case ECONNREFUSED:
		diag_set(diag, "nobody listens at %s: is the broker running?",
		    path);
		return ERR_UNAVAIL;
	case EACCES:
	case EPERM:
		diag_set(diag,
		    "%s: permission denied for %s: run this as root, or as "
		    "the broker's user",
		    path, who_we_are(name));
		return ERR_DENIED;
	case EAGAIN:
		diag_set(diag, "%s: no answer within %d seconds", path,
		    PATIENCE_S);
		return ERR_TIMEOUT;
	case EPIPE:
	case ECONNRESET:
		diag_set(diag,
		    "%s: the broker hung up on %s: it answers root and its own "
		    "user, and may be of another version",
		    path, who_we_are(name));
		return ERR_DENIED;
	default:
		diag_set(diag, "%s: %s", path, strerror(error));
		return ERR_SYS;
	}
}

static enum err
connect_to(const char *path, int *ret, struct diag *diag)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, error;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		diag_set(diag, "a socket's path has at most %zu bytes",
		    sizeof(addr.sun_path) - 1);
		return ERR_LIMIT;
	}
	(void)strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
		sizeof(patience)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
		sizeof(patience)) == -1 ||
	    connect(fd, (void *)&addr, sizeof(addr)) == -1) {
		error = errno;
		if (fd != -1)
			(void)close(fd);
		return explain(path, error, diag);
	}
	*ret = fd;
	return ERR_OK;
}

/*
 * A refusal is the answer, too: {"error":{"code","message"}}.  One that is for
 * good is told apart from one of a broker that could not do it, or not now.
 */
static enum err
take_reply(struct wire_packet *packet, json_t **ret, struct diag *diag)
{
	const json_t *error;
	const char *message = "no reason given", *code = "";

	if (packet->type != WIRE_REPLY) {
		diag_set(diag, "the broker answered something else");
		return ERR_PROTO;
	}
	error = json_object_get(packet->reply, "error");
	if (error == NULL) {
		*ret = json_incref(packet->reply);
		return ERR_OK;
	}
	(void)!json_get_string(error, "message", sizeof(diag->text), &message);
	diag_set(diag, "%s", message);
	(void)!json_get_string(error, "code", 64, &code);
	return strcmp(code, err_code(ERR_UNAVAIL)) == 0 ||
		strcmp(code, err_code(ERR_SYS)) == 0
	    ? ERR_UNAVAIL
	    : ERR_MISMATCH;
}

static enum err
receive(int fd, const char *path, json_t **ret, struct diag *diag)
{
	char *data = xcalloc(1, WIRE_MAX_BYTES + 1);
	struct wire_packet *packet;
	ssize_t n = recv(fd, data, WIRE_MAX_BYTES + 1, 0);
	enum err err;

	if (n <= 0) {
		err = explain(path, n == 0 ? EPIPE : errno, diag);
	} else {
		err = wire_parse(data, (size_t)n, &packet, diag);
		if (err == ERR_OK) {
			err = take_reply(packet, ret, diag);
			wire_packet_free(packet);
		}
	}
	free(data);
	return err;
}

enum err
client_ask(const char *socket_path, const struct wire_packet *question,
    json_t **ret, struct diag *diag)
{
	size_t len;
	char *text;
	enum err err = wire_format(question, &text, &len);
	int fd = -1;

	if (err != ERR_OK) {
		diag_set(diag, "this cannot be asked: %s", err_text(err));
		return err;
	}
	err = connect_to(socket_path, &fd, diag);
	if (err == ERR_OK) {
		if (send(fd, text, len, MSG_NOSIGNAL) == -1)
			err = explain(socket_path, errno, diag);
		else
			err = receive(fd, socket_path, ret, diag);
		(void)close(fd);
	}
	wire_text_free(text, len);
	return err;
}
