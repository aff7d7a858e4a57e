/* SPDX-License-Identifier: MIT */
#ifndef COMMON_WIRE_TEXT_H
#define COMMON_WIRE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * wire_text: what the texts in the packets of the control socket may be.  Pure.
 *
 * A check gets a NUL-terminated string and its length.
 */
typedef bool wire_text_check(const char *s, size_t len);

wire_text_check wire_is_text;	 /* anything */
wire_text_check wire_is_line;	 /* can stand in one line of a log */
wire_text_check wire_is_visible; /* visible ASCII, at least one */
wire_text_check wire_is_target;	 /* origin-form (RFC 9112 3.2.1) */
wire_text_check wire_is_path;	 /* of a file, absolute */
wire_text_check wire_is_host;	 /* a name or address, with or without port */
wire_text_check wire_is_address; /* a numeric address */
wire_text_check wire_is_side;	 /* "client", "upstream", "tunnel", "broker" */
wire_text_check wire_is_form;	 /* how a client speaks: "beta", "text" */
wire_text_check wire_is_day;	 /* "2026-01-31" */
wire_text_check wire_is_sum;	 /* "day", "route", "user", "model" */
wire_text_check wire_is_log;	 /* "metadata", "full" */
wire_text_check wire_is_amount;	 /* "5.00", "-0.5": of money, and not nothing */
wire_text_check wire_is_refusal; /* "close", "error": of a response */
wire_text_check wire_is_revocable; /* "user", "session", "ticket", "route" */
wire_text_check wire_is_counted;   /* "user", "visitor", "address", "route" */

/* Clear (it may be secret) and free a text, of len bytes; NULL is allowed. */
void wire_text_free(char *text, size_t len);
void wire_text_clear(char *text);

#endif
