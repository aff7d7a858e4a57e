/* SPDX-License-Identifier: MIT */
#ifndef BROKER_MESSAGES_TEST_H
#define BROKER_MESSAGES_TEST_H

#include "broker/http/request.h"

/*
 * messages_test: GET, POST /api/v1/messages/test-sse: whether events reach a
 * client one by one: `test_message' {counter,message} some times, then
 * `test_complete' {message}.
 */
void messages_test_handle(struct request *req);

#endif
