/* SPDX-License-Identifier: MIT */
#include "vendor_double.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/thread.h"

struct vendor_double vendor;
const char vendor_silence[] = "";

static bool
is_complete(const char *request)
{
	const char *end = strstr(request, "\r\n\r\n");
	const char *length = strstr(request, "Content-Length: ");

	return end != NULL &&
	    (length == NULL ||
		strlen(end + 4) >= strtoul(length + 16, NULL, 10));
}

static void
serve_one(char request[4096], const char *answer)
{
	int fd = accept(vendor.fd, NULL, NULL);
	size_t n = 0;
	ssize_t got;
	char c;

	while (!is_complete(request) &&
	    (got = recv(fd, request + n, 4095 - n, 0)) > 0)
		n += (size_t)got;
	if (answer == vendor_silence)
		(void)recv(fd, &c, 1, 0);
	else
		(void)send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	(void)close(fd);
}

static void *
serve(void *arg)
{
	(void)arg;
	for (size_t i = 0; vendor.answers[i] != NULL; i++)
		serve_one(vendor.requests[i], vendor.answers[i]);
	return NULL;
}

int
vendor_open(const char *path)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);

	memset(&vendor, 0, sizeof(vendor));
	vendor.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(vendor.fd, (void *)&addr, len) == -1 ||
	    listen(vendor.fd, 8) == -1 ||
	    getsockname(vendor.fd, (void *)&addr, &len) == -1)
		return -1;
	(void)snprintf(vendor.url, sizeof(vendor.url), "http://127.0.0.1:%d%s",
	    ntohs(addr.sin_port), path);
	return 0;
}

int
vendor_close(void)
{
	return close(vendor.fd);
}

void
vendor_start(const char *const answers[])
{
	memset(vendor.answers, 0, sizeof(vendor.answers));
	memset(vendor.requests, 0, sizeof(vendor.requests));
	for (size_t i = 0; answers[i] != NULL; i++) {
		assert_true(i < VENDOR_ANSWERS_MAX);
		vendor.answers[i] = answers[i];
	}
	assert_int_equal(thread_start(&vendor.thread, "vendor", serve, NULL,
			     NULL),
	    ERR_OK);
}

void
vendor_stop(void)
{
	assert_int_equal(pthread_join(vendor.thread, NULL), 0);
}

bool
vendor_was_dialled(void)
{
	struct pollfd pfd = { .fd = vendor.fd, .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}
