/* SPDX-License-Identifier: MIT */
#include "web_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/config/config.h"
#include "broker/http/fcgi.h"
#include "common/service.h"
#include "common/thread.h"
#include "common/xalloc.h"

static struct {
	char dir[64];
	char socket_path[96];
	int listen_fd;
	pthread_t thread;
	enum err result;
	struct diag diag;
	request_handler *handler;
} world;

static void
write_config(const char *requests, const char *sections)
{
	char path[128];
	struct config *config;
	struct diag diag = { "" };
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/conf", world.dir);
	f = fopen(path, "w");
	assert_non_null(f);
	(void)fprintf(f,
	    "access { missing_origin = true }\n"
	    "requests { %s }\n%s\n",
	    requests, sections);
	assert_int_equal(fclose(f), 0);
	if (config_load(path, &config, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	config_set_current(config);
	(void)unlink(path);
}

static void *
serve(void *arg)
{
	(void)arg;
	world.result = fcgi_serve(world.listen_fd, world.handler, &world.diag);
	return NULL;
}

void
web_start(const char *requests, const char *sections, request_handler *handler)
{
	(void)strcpy(world.dir, "/tmp/culvert-web-XXXXXX");
	assert_non_null(mkdtemp(world.dir));
	(void)snprintf(world.socket_path, sizeof(world.socket_path), "%s/s",
	    world.dir);
	write_config(requests, sections);
	world.handler = handler;
	assert_int_equal(service_listen_unix(world.socket_path, SOCK_STREAM,
			     0600, &world.listen_fd, NULL),
	    ERR_OK);
	assert_int_equal(thread_start(&world.thread, "serve", serve, NULL,
			     NULL),
	    ERR_OK);
}

void
web_wait_for_end(enum err expected)
{
	assert_int_equal(pthread_join(world.thread, NULL), 0);
	assert_int_equal(world.result, expected);
	(void)close(world.listen_fd);
	(void)unlink(world.socket_path);
	(void)rmdir(world.dir);
	config_set_current(NULL);
}

void
web_stop(void)
{
	fcgi_stop();
	web_wait_for_end(ERR_OK);
}

/* ---- the web server ---------------------------------------------------- */

int
web_listener(void)
{
	return world.listen_fd;
}

const char *
web_socket_path(void)
{
	return world.socket_path;
}

int
web_dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)strcpy(addr.sun_path, world.socket_path);
	assert_int_equal(connect(fd, (void *)&addr, sizeof(addr)), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

void
web_put_record(int fd, int type, const void *data, size_t len)
{
	uint8_t head[8] = { 1, (uint8_t)type, 0, 1, (uint8_t)(len >> 8),
		(uint8_t)len };

	assert_int_equal(send(fd, head, 8, MSG_NOSIGNAL), 8);
	if (len > 0)
		assert_int_equal(send(fd, data, len, MSG_NOSIGNAL),
		    (ssize_t)len);
}

void
web_put_request(int fd, bool keep, const char *params)
{
	const uint8_t begin[8] = { 0, 1, keep };
	uint8_t data[8192];
	size_t n = 0;

	web_put_record(fd, WEB_BEGIN, begin, sizeof(begin));
	while (*params != '\0') {
		size_t len = strcspn(params, "\n");
		size_t name = strcspn(params, "="), value = len - name - 1;

		assert_true(n + len + 8 < sizeof(data) && name < 128);
		data[n++] = (uint8_t)name;
		if (value > 127) {
			data[n++] = 0x80;
			data[n++] = 0;
			data[n++] = (uint8_t)(value >> 8);
		}
		data[n++] = (uint8_t)value;
		memcpy(data + n, params, name);
		memcpy(data + n + name, params + name + 1, value);
		n += name + value;
		params += len + (params[len] == '\n');
	}
	web_put_record(fd, WEB_PARAMS, data, n);
	web_put_record(fd, WEB_PARAMS, "", 0);
}

int
web_ask(const char *params)
{
	int fd = web_dial();

	web_put_request(fd, false, params);
	web_put_record(fd, WEB_STDIN, "", 0);
	return fd;
}

/* False at the end of the connection. */
static bool
get_all(int fd, void *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len &&
	    (n = recv(fd, (char *)data + done, len - done, 0)) > 0)
		done += (size_t)n;
	return done == len;
}

int
web_get_record(int fd, char *data, size_t size, size_t *ret_len)
{
	uint8_t head[8];
	char padding[256];

	*ret_len = 0;
	data[0] = '\0';
	if (!get_all(fd, head, sizeof(head)))
		return 0;
	*ret_len = (size_t)(head[4] << 8 | head[5]);
	assert_true(*ret_len < size);
	if (!get_all(fd, data, *ret_len) || !get_all(fd, padding, head[6]))
		return 0;
	data[*ret_len] = '\0';
	return head[1];
}

char *
web_get_answer(int fd, bool *ret_ended)
{
	uint8_t *raw = xcalloc(1, 1 << 20);
	char *text = xcalloc(1, 1 << 20);
	size_t n = 0, len = 0;
	ssize_t got;

	while ((got = recv(fd, raw + n, (1 << 20) - n, 0)) > 0)
		n += (size_t)got;
	*ret_ended = false;
	for (size_t at = 0; at + 8 <= n;) {
		size_t body = (size_t)(raw[at + 4] << 8 | raw[at + 5]);

		if (raw[at + 1] == WEB_STDOUT) {
			memcpy(text + len, raw + at + 8, body);
			len += body;
		}
		*ret_ended |= raw[at + 1] == WEB_END;
		at += 8 + body + raw[at + 6];
	}
	free(raw);
	(void)close(fd);
	return text;
}

void
web_assert_answer(int fd, const char *begins, const char *has)
{
	bool ended;
	char *text = web_get_answer(fd, &ended);

	if (!ended || strncmp(text, begins, strlen(begins)) != 0 ||
	    strstr(text, has) == NULL)
		fail_msg("not %s .. %s: %s", begins, has, text);
	free(text);
}
