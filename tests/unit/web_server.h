/* SPDX-License-Identifier: MIT */
#ifndef TESTS_WEB_SERVER_H
#define TESTS_WEB_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/http/request.h"
#include "common/err.h"

/*
 * web_server: the real request layer in a thread, and a web server that speaks
 * FastCGI as it likes: the protocol is written out here, by hand.
 */
#define WEB_BEGIN  1
#define WEB_END	   3
#define WEB_PARAMS 4
#define WEB_STDIN  5
#define WEB_STDOUT 6

/*
 * Serve with this handler; requests is what stands in the configuration's
 * section of that name, sections what stands beside it.
 */
void web_start(const char *requests, const char *sections,
    request_handler *handler);

/* Ask it to stop, if it was not, and wait until it has. */
void web_stop(void);

/* Wait for the end of what was asked to stop, and clean up. */
void web_wait_for_end(enum err expected);

/* What it listens on. */
int web_listener(void);
const char *web_socket_path(void);

/* A connection of the web server's. */
int web_dial(void);
void web_put_record(int fd, int type, const void *data, size_t len);

/* Begin a request; params is "NAME=value" lines. */
void web_put_request(int fd, bool keep, const char *params);

/* The same, without a body. */
int web_ask(const char *params);

/* One record into data, with a NUL; its type, 0 at the end of the connection.
 */
int web_get_record(int fd, char *data, size_t size, size_t *ret_len);

/* The whole answer until the connection is closed; *ret_ended: END came. */
char *web_get_answer(int fd, bool *ret_ended);
void web_assert_answer(int fd, const char *begins, const char *has);

#define WEB_LOCAL      "REMOTE_ADDR=127.0.0.1\n"
#define WEB_GET_HEALTH "REQUEST_METHOD=GET\nREQUEST_URI=/healthz\n"

#endif
