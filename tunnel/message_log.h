/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_MESSAGE_LOG_H
#define TUNNEL_MESSAGE_LOG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * message_log: a message as a record of a route's message log.  Pure.
 *
 * A record is {"at": Unix time in ms, "from": "client" or "upstream", "kind":
 * "text" or "binary", "bytes": N, "type": the event's type, where it is known}
 * and, of a log that is full, "content": the message's JSON, or "text": what is
 * no JSON; "truncated": true where something was left out for its size.
 *
 * In content and text "<N bytes>" stands for sound, images and whatever else
 * is data, and for text that begins as JSON and is none; "<masked>" for what
 * may be a secret: members by their name (authorization, api_key, token,
 * client_secret, password, ...), in texts that are JSON themselves, too (the
 * arguments of functions; pieces of them are data), and in other texts whatever
 * looks like a key, a bearer token or a JSON Web Token.
 */
#define MESSAGE_LOG_MAX_BYTES 16384 /* of content or text, as JSON */
#define MESSAGE_LOG_MAX_DEPTH 16    /* nesting of content */
#define MESSAGE_LOG_MAX_TYPE  128   /* bytes of an event's type */

struct message_log_entry {
	int64_t at_ms;
	bool from_client;
	bool binary;
	uint64_t bytes;	  /* of the message, whatever there is of its text */
	const char *type; /* NULL: not known */
};

/*
 * A new record.  text is the message, or the beginning of a long one, for a log
 * that is full; NULL, or a binary message, makes a record without content.  It
 * may be anything a peer sends.
 */
json_t *message_log_record(const struct message_log_entry *entry,
    const void *text, size_t len);

/*
 * A copy of a text for a line of the log, no longer than it is, with "<masked>"
 * for whatever looks like a secret; the caller's.
 */
char *message_log_mask(const char *text);

#endif
