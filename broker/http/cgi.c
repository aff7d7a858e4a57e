/* SPDX-License-Identifier: MIT */
#include "broker/http/cgi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

extern char **environ;

/* Wait for a descriptor until the deadline. */
static bool
is_ready(int fd, short events, int64_t deadline_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int64_t left_ms;

	do {
		left_ms = deadline_ms - clock_ms();
		if (left_ms <= 0)
			return false;
	} while (poll(&pfd, 1, (int)left_ms) != 1);
	return true;
}

static enum err
read_input(void *arg, int64_t deadline_ms, char *buf, size_t size,
    size_t *ret_len)
{
	ssize_t n;

	(void)arg;
	do {
		if (!is_ready(STDIN_FILENO, POLLIN, deadline_ms))
			return ERR_TIMEOUT;
		n = read(STDIN_FILENO, buf, size);
	} while (n == -1 && (errno == EINTR || errno == EAGAIN));
	*ret_len = n < 0 ? 0 : (size_t)n;
	return ERR_OK;
}

static enum err
write_output(void *arg, int64_t deadline_ms, const char *data, size_t len)
{
	(void)arg;
	while (len > 0) {
		ssize_t n;

		if (!is_ready(STDOUT_FILENO, POLLOUT, deadline_ms))
			return ERR_TIMEOUT;
		n = write(STDOUT_FILENO, data, len);
		if (n == -1 && errno != EINTR && errno != EAGAIN)
			return ERR_SYS;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return ERR_OK;
}

/* The process ends next. */
static enum err
end_output(void *arg)
{
	(void)arg;
	return ERR_OK;
}

static const struct request_io cgi_io = {
	.read = read_input,
	.write = write_output,
	.end = end_output,
};

bool
cgi_is_asked(void)
{
	return getenv("GATEWAY_INTERFACE") != NULL;
}

enum err
cgi_serve(request_handler *handler, struct diag *diag)
{
	struct config *config;
	struct request_source source = {
		.io = &cgi_io,
		.started_ms = clock_ms(),
	};
	int flags = fcntl(STDOUT_FILENO, F_GETFL);

	/* a pipe that has room for less than all of it must not block */
	if (flags == -1 ||
	    fcntl(STDOUT_FILENO, F_SETFL, flags | O_NONBLOCK) == -1) {
		diag_set(diag, "standard output: %s", strerror(errno));
		return ERR_SYS;
	}
	/* a client's header, which libraries take for their proxy */
	(void)unsetenv("HTTP_PROXY");
	source.envp = environ;
	source.config = config = config_current();
	request_run(&source, handler);
	config_unref(config);
	return ERR_OK;
}
