/* SPDX-License-Identifier: MIT */
#include "broker/socketio/sio_packet.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

/* What is still to be read. */
struct reader {
	const char *p;
	size_t len;
};

static void
skip(struct reader *in, size_t n)
{
	in->p += n;
	in->len -= n;
}

static bool
is_binary(enum sio_type type)
{
	return type == SIO_BINARY_EVENT || type == SIO_BINARY_ACK;
}

static bool
is_event(enum sio_type type)
{
	return type == SIO_EVENT || type == SIO_BINARY_EVENT;
}

static bool
is_ack(enum sio_type type)
{
	return type == SIO_ACK || type == SIO_BINARY_ACK;
}

/* ---- reading ----------------------------------------------------------- */

/* A number as it is written without ornament: no sign, no leading zero. */
static enum err
take_number(struct reader *in, uint64_t max, uint64_t *ret)
{
	size_t n = 0;
	enum err err;

	while (n < in->len && in->p[n] >= '0' && in->p[n] <= '9')
		n++;
	if (n > 1 && in->p[0] == '0')
		return ERR_PROTO;
	err = str_to_u64(in->p, n, max, ret);
	if (err == ERR_OK)
		skip(in, n);
	return err;
}

static enum err
take_type(struct reader *in, struct sio_packet *packet, struct diag *diag)
{
	if (in->len == 0 || in->p[0] < '0' || in->p[0] > '0' + SIO_BINARY_ACK) {
		diag_set(diag, "there is no such type of packet");
		return ERR_PROTO;
	}
	packet->type = (enum sio_type)(in->p[0] - '0');
	skip(in, 1);
	return ERR_OK;
}

static enum err
take_attachments(struct reader *in, struct sio_packet *packet,
    struct diag *diag)
{
	uint64_t n;
	enum err err;

	if (!is_binary(packet->type))
		return ERR_OK;
	err = take_number(in, SIO_ATTACHMENTS_MAX, &n);
	if (err == ERR_OK && (n == 0 || in->len == 0 || in->p[0] != '-'))
		err = ERR_PROTO;
	if (err != ERR_OK) {
		diag_set(diag, "the number of attachments is not 1 to %d",
		    SIO_ATTACHMENTS_MAX);
		return err;
	}
	skip(in, 1);
	packet->attachment_expected = (size_t)n;
	return ERR_OK;
}

static bool
is_namespace(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] <= ' ' || text[i] == '\x7f')
			return false;
	return str_is_utf8(text, len);
}

/* "/" and what follows, up to a comma or the end. */
static enum err
take_namespace(struct reader *in, struct sio_packet *packet, struct diag *diag)
{
	const char *comma;
	size_t n;

	if (in->len == 0 || in->p[0] != '/') {
		(void)strcpy(packet->namespace, "/");
		return ERR_OK;
	}
	comma = memchr(in->p, ',', in->len);
	n = comma == NULL ? in->len : (size_t)(comma - in->p);
	if (n > SIO_NAMESPACE_MAX) {
		diag_set(diag, "the namespace is too long");
		return ERR_LIMIT;
	}
	if (!is_namespace(in->p, n)) {
		diag_set(diag, "the namespace is malformed");
		return ERR_PROTO;
	}
	memcpy(packet->namespace, in->p, n);
	packet->namespace[n] = '\0';
	skip(in, comma == NULL ? n : n + 1);
	return ERR_OK;
}

static enum err
take_id(struct reader *in, struct sio_packet *packet, struct diag *diag)
{
	bool there = in->len > 0 && in->p[0] >= '0' && in->p[0] <= '9';
	bool allowed = is_event(packet->type) || is_ack(packet->type);
	uint64_t id = 0;
	enum err err;

	packet->id = SIO_NO_ID;
	if (!there && !is_ack(packet->type))
		return ERR_OK;
	err = !there || !allowed ? ERR_PROTO : take_number(in, SIO_ID_MAX, &id);
	if (err == ERR_OK)
		packet->id = (int64_t)id;
	else
		diag_set(diag, "the id of an ack is out of place");
	return err;
}

/* What emitters of events, at either end, use themselves. */
static bool
is_reserved(const char *name)
{
	static const char *const reserved[] = { "connect", "connect_error",
		"disconnect", "disconnecting", "newListener",
		"removeListener" };

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		if (strcmp(name, reserved[i]) == 0)
			return true;
	return false;
}

static bool
fits(enum sio_type type, const json_t *data)
{
	const char *name;

	switch (type) {
	case SIO_CONNECT:
		return data == NULL || json_is_object(data);
	case SIO_DISCONNECT:
		return data == NULL;
	case SIO_CONNECT_ERROR:
		return json_is_object(data) || json_is_string(data);
	case SIO_EVENT:
	case SIO_BINARY_EVENT:
		name = json_string_value(json_array_get(data, 0));
		return name != NULL && !is_reserved(name);
	case SIO_ACK:
	case SIO_BINARY_ACK:
		return json_is_array(data);
	}
	return false;
}

/*
 * Mark in *seen what placeholders within stand for; false where one stands for
 * nothing, or for what another one stands for.  The depth is bounded by the
 * JSON's.
 */
static bool
find_placeholders(json_t *value, size_t expected, unsigned *seen)
{
	json_t *num, *item;
	const char *key;
	size_t i;

	if (json_is_true(json_object_get(value, "_placeholder"))) {
		num = json_object_get(value, "num");
		if (!json_is_integer(num) || json_integer_value(num) < 0 ||
		    json_integer_value(num) >= (json_int_t)expected ||
		    json_object_size(value) != 2 ||
		    (*seen >> json_integer_value(num) & 1) != 0)
			return false;
		*seen |= 1U << json_integer_value(num);
		return true;
	}
	json_array_foreach(value, i,
	    item) if (!find_placeholders(item, expected, seen)) return false;
	json_object_foreach(value, key,
	    item) if (!find_placeholders(item, expected, seen)) return false;
	return true;
}

/* The unit of UTF-16 that \uXXXX at the front stands for; -1: there is none. */
static long
unit_at(const char *text, size_t len)
{
	char digits[5] = "";

	if (len < 6 || text[0] != '\\' || text[1] != 'u')
		return -1;
	memcpy(digits, text + 2, 4);
	return strspn(digits, "0123456789abcdefABCDEF") == 4
	    ? strtol(digits, NULL, 16)
	    : -1;
}

static bool
is_surrogate(long unit, long first)
{
	return unit >= first && unit < first + 0x400;
}

/*
 * Put U+FFFD where a string of JavaScript's has half of a character, because it
 * was cut there.  Whether there was any.
 */
static bool
mend_strings(char *text, size_t len)
{
	bool mended = false;

	for (size_t i = 0; i < len; i++) {
		long unit = unit_at(text + i, len - i);

		if (text[i] != '\\')
			continue;
		if (unit == -1) {
			i += 1; /* what is escaped begins nothing */
		} else if (is_surrogate(unit, 0xd800) &&
		    is_surrogate(unit_at(text + i + 6, len - i - 6), 0xdc00)) {
			i += 11;
		} else {
			if (is_surrogate(unit, 0xd800) ||
			    is_surrogate(unit, 0xdc00)) {
				memcpy(text + i + 2, "fffd", 4);
				mended = true;
			}
			i += 5;
		}
	}
	return mended;
}

/* As json_parse(), and of strings which it refuses the rest. */
static enum err
parse_data(const struct reader *in, json_t **ret, struct diag *diag)
{
	enum err err = json_parse(in->p, in->len, ret, diag);
	char *copy;

	if (err == ERR_OK)
		return ERR_OK;
	copy = xstrndup(in->p, in->len);
	if (mend_strings(copy, in->len))
		err = json_parse(copy, in->len, ret, diag);
	explicit_bzero(copy, in->len);
	free(copy);
	return err;
}

static enum err
take_data(struct reader *in, struct sio_packet *packet, struct diag *diag)
{
	unsigned seen = 0, all = (1U << packet->attachment_expected) - 1;
	enum err err = ERR_OK;

	if (in->len > 0)
		err = parse_data(in, &packet->data, diag);
	if (err != ERR_OK)
		return err;
	if (!fits(packet->type, packet->data)) {
		diag_set(diag, "the payload does not fit the type");
		return ERR_PROTO;
	}
	if (is_binary(packet->type) &&
	    (!find_placeholders(packet->data, packet->attachment_expected,
		 &seen) ||
		seen != all)) {
		diag_set(diag, "placeholders and attachments do not match");
		return ERR_PROTO;
	}
	return ERR_OK;
}

enum err
sio_packet_peek(const char *text, size_t len, struct sio_packet *ret,
    size_t *ret_at, struct diag *diag)
{
	struct reader in = { text, len };
	struct sio_packet packet = { .id = SIO_NO_ID };
	enum err err;

	err = take_type(&in, &packet, diag);
	if (err == ERR_OK)
		err = take_attachments(&in, &packet, diag);
	if (err == ERR_OK)
		err = take_namespace(&in, &packet, diag);
	if (err == ERR_OK)
		err = take_id(&in, &packet, diag);
	if (err == ERR_OK) {
		*ret = packet;
		*ret_at = len - in.len;
	}
	return err;
}

enum err
sio_packet_parse(const char *text, size_t len, struct sio_packet *ret,
    struct diag *diag)
{
	struct sio_packet packet;
	struct reader in;
	size_t at = 0;
	enum err err = sio_packet_peek(text, len, &packet, &at, diag);

	if (err != ERR_OK)
		return err;
	in = (struct reader){ text + at, len - at };
	err = take_data(&in, &packet, diag);
	if (err == ERR_OK)
		*ret = packet;
	else
		sio_packet_done(&packet);
	return err;
}

enum err
sio_packet_attach(struct sio_packet *packet, const void *data, size_t len)
{
	struct sio_attachment *attachment;

	if (packet->attachment_count == packet->attachment_expected)
		return ERR_PROTO;
	attachment = &packet->attachments[packet->attachment_count++];
	attachment->data = xcalloc(1, len + 1);
	if (len > 0)
		memcpy(attachment->data, data, len);
	attachment->len = len;
	return ERR_OK;
}

/* ---- writing ----------------------------------------------------------- */

/* An event or an ack is binary where it has attachments. */
static enum sio_type
type_as_sent(const struct sio_packet *packet)
{
	bool binary = packet->attachment_count > 0;

	if (is_event(packet->type))
		return binary ? SIO_BINARY_EVENT : SIO_EVENT;
	if (is_ack(packet->type))
		return binary ? SIO_BINARY_ACK : SIO_ACK;
	return packet->type;
}

char *
sio_packet_text(const struct sio_packet *packet, size_t *ret_len)
{
	enum sio_type type = type_as_sent(packet);
	bool named = strcmp(packet->namespace, "/") != 0;
	char count[8] = "", id[24] = "";
	char *data, *text;

	data = packet->data == NULL ? NULL : json_text(packet->data, NULL);
	if (is_binary(type))
		(void)snprintf(count, sizeof(count), "%u-",
		    (unsigned)packet->attachment_count);
	if (packet->id != SIO_NO_ID)
		(void)snprintf(id, sizeof(id), "%lld", (long long)packet->id);
	text = xasprintf("%u%s%s%s%s%s", (unsigned)type, count,
	    named ? packet->namespace : "", named ? "," : "", id,
	    data == NULL ? "" : data);
	free(data);
	*ret_len = strlen(text);
	return text;
}

void
sio_packet_done(struct sio_packet *packet)
{
	for (size_t i = 0; i < packet->attachment_count; i++)
		free(packet->attachments[i].data);
	json_decref(packet->data);
	*packet = (struct sio_packet){ .id = SIO_NO_ID };
}
