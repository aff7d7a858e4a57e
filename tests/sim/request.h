/* SPDX-License-Identifier: MIT */
#ifndef SIM_REQUEST_H
#define SIM_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * request: the head of an HTTP request, read tolerantly.  Pure.
 *
 * The simulator is no judge of heads: it shows the tests what it was sent.
 * Knobs are members of the query: sim=WORD[,WORD...] and their numbers.
 */
#define REQUEST_HEAD_MAX (32 * 1024)

struct request;

/* Length of the head with its empty line, or 0 where it is incomplete. */
size_t request_head_len(const char *data, size_t len);

/* Parse a whole head.  ERR_PROTO, ERR_LIMIT.  The caller frees it. */
enum err request_parse(const char *head, size_t len,
    struct request **ret) MUST_CHECK;
void request_free(struct request *request);

const char *request_method(const struct request *request);
const char *request_path(const struct request *request);

/* Does it ask for an upgrade to a WebSocket? */
bool request_is_upgrade(const struct request *request);

/* The first of this name, or NULL; a query's value is decoded. */
const char *request_query(const struct request *request, const char *name);
const char *request_header(const struct request *request, const char *name);

/* Add members to the query, as if they had stood there: for knobs. */
void request_add_query(struct request *request, const char *text);

/* A number of the query; fallback where it is absent or none. */
uint64_t request_number(const struct request *request, const char *name,
    uint64_t fallback);

/* Is this word in the query's sim= list? */
bool request_wants(const struct request *request, const char *word);

/*
 * The key: Bearer of Authorization, or the subprotocol item that OpenAI's
 * SDKs use in browsers.  NULL where there is none; *ret_len is its length.
 */
const char *request_key(const struct request *request, size_t *ret_len);

/* {"method","path","query":{},"query_string","headers":[[n,v],...]}: new. */
json_t *request_json(const struct request *request);

#endif
