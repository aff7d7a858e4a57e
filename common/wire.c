/* SPDX-License-Identifier: MIT */
#include "common/wire.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "common/str.h"
#include "common/wire_text.h"
#include "common/xalloc.h"

/*
 * One table of fields per packet type says everything about it: parsing,
 * formatting and freeing are each one walk over that table.
 */
enum kind {
	KIND_TEXT,    /* char * */
	KIND_TEXTS,   /* char *[max], and a size_t count */
	KIND_NUMBER,  /* an integer of `size' bytes */
	KIND_FLAG,    /* bool */
	KIND_HEADERS, /* struct wire_headers */
	KIND_VALUE,   /* json_t * */
	KIND_OBJECT,  /* what `table' says, in the structure at `offset' */
};

struct field {
	const char *name;
	enum kind kind;
	bool optional;
	size_t offset;
	size_t size;
	int64_t min, max;	/* a number; how many texts */
	size_t max_bytes;	/* of a text */
	wire_text_check *check; /* of a text */
	size_t count_offset;	/* of texts */
	const struct table *table;
};

struct table {
	const char *name;
	const struct field *fields;
	size_t count;
};

/* ---- the packets ------------------------------------------------------- */

#define NUMBER_MAX     INT64_MAX       /* as much as JSON carries */
#define TIME_MAX_MS    (INT64_MAX / 4) /* can be added to a clock's time */
#define REASON_BYTES   123	       /* RFC 6455 5.5.1 */
#define WORD_BYTES     128
#define HOST_BYTES     300
#define TARGET_BYTES   (16 * 1024)
#define PATH_BYTES     4095
#define MESSAGE_BYTES  1024
#define CLOSE_CODE_MAX 4999
#define DAY_BYTES      10

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define FIELD(type, member, json_name, json_kind, ...)                     \
	{                                                                  \
		.name = (json_name), .kind = (json_kind),                  \
		.offset = offsetof(struct type, member),                   \
		.size = sizeof(((struct type *)NULL)->member), __VA_ARGS__ \
	}
#define TEXT(type, member, json_name, bytes, checker, ...)              \
	FIELD(type, member, json_name, KIND_TEXT, .max_bytes = (bytes), \
	    .check = (checker), __VA_ARGS__)
#define TEXTS(type, member, counter, json_name, least, most, bytes, checker) \
	FIELD(type, member, json_name, KIND_TEXTS, .min = (least),           \
	    .max = (most), .max_bytes = (bytes), .check = (checker),         \
	    .count_offset = offsetof(struct type, counter))
#define NUMBER(type, member, json_name, least, most)                \
	FIELD(type, member, json_name, KIND_NUMBER, .min = (least), \
	    .max = (most))
#define FLAG(type, member, json_name) FIELD(type, member, json_name, KIND_FLAG)
#define VALUE(type, member, json_name) \
	FIELD(type, member, json_name, KIND_VALUE, .optional = true)
#define HEADERS(type, member) FIELD(type, member, "headers", KIND_HEADERS)
/* a JSON object whose members are members of the same structure */
#define GROUP(json_name, group)                                             \
	{                                                                   \
		.name = (json_name), .kind = KIND_OBJECT, .table = &(group) \
	}
/* a JSON object that is a structure within the structure */
#define OBJECT(type, member, json_name, members) \
	FIELD(type, member, json_name, KIND_OBJECT, .table = &(members))

#define TABLE(id, ...)                                             \
	static const struct field id##_fields[] = { __VA_ARGS__ }; \
	static const struct table id##_table = { #id, id##_fields, \
		ARRAY_SIZE(id##_fields) }

#define LIMIT(member, least) \
	NUMBER(wire_limits, member, #member, least, NUMBER_MAX)
#define TIME(member, least) \
	NUMBER(wire_limits, member, #member, least, TIME_MAX_MS)

TABLE(members_of_limits, LIMIT(client_message_bytes, 0),
    LIMIT(upstream_message_bytes, 0), LIMIT(client_messages_per_s, 0),
    LIMIT(client_bytes_per_s, 0), TIME(connect_ms, 1), TIME(idle_ms, 0),
    TIME(lifetime_ms, 0), TIME(ping_ms, 0), TIME(pong_ms, 1), TIME(stall_ms, 0),
    TIME(usage_ms, 0));

TABLE(totals, NUMBER(wire_totals, messages, "messages", 0, NUMBER_MAX),
    NUMBER(wire_totals, bytes, "bytes", 0, NUMBER_MAX));

TABLE(peer, FLAG(wire_open, peer_local, "local"),
    TEXT(wire_open, peer_address, "address", INET6_ADDRSTRLEN, wire_is_address,
	.optional = true));

TABLE(open, TEXT(wire_open, method, "method", WORD_BYTES, str_is_token),
    TEXT(wire_open, target, "target", TARGET_BYTES, wire_is_target),
    HEADERS(wire_open, headers), GROUP("peer", peer_table));

/* is_complete() says what has to be there */
TABLE(upstream,
    FIELD(wire_grant, upstream.passed, "passed", KIND_FLAG, .optional = true),
    FLAG(wire_grant, upstream.tls, "tls"),
    TEXTS(wire_grant, upstream.addresses, upstream.address_count, "addresses",
	0, WIRE_ADDRESSES_MAX, INET6_ADDRSTRLEN, wire_is_address),
    NUMBER(wire_grant, upstream.port, "port", 0, UINT16_MAX),
    TEXT(wire_grant, upstream.name, "name", HOST_BYTES, wire_is_host,
	.optional = true),
    TEXT(wire_grant, upstream.ca_file, "ca_file", PATH_BYTES, wire_is_path,
	.optional = true),
    TEXT(wire_grant, upstream.host, "host", HOST_BYTES, wire_is_host,
	.optional = true),
    TEXT(wire_grant, upstream.target, "target", TARGET_BYTES, wire_is_target,
	.optional = true),
    HEADERS(wire_grant, upstream.headers),
    TEXTS(wire_grant, upstream.subprotocols, upstream.subprotocol_count,
	"subprotocols", 0, WIRE_SUBPROTOCOLS_MAX, WORD_BYTES, str_is_token));

TABLE(messages,
    TEXT(wire_messages, form, "form", WORD_BYTES, wire_is_form,
	.optional = true),
    VALUE(wire_messages, session, "session"), VALUE(wire_messages, pin, "pin"),
    FLAG(wire_messages, usage, "usage"),
    TEXT(wire_messages, log, "log", WORD_BYTES, wire_is_log, .optional = true),
    NUMBER(wire_messages, inspect_bytes, "inspect_bytes", 0, NUMBER_MAX));

TABLE(grant, TEXT(wire_grant, lease, "lease", WORD_BYTES, str_is_token),
    TEXT(wire_grant, session, "session", WORD_BYTES, str_is_token),
    TEXT(wire_grant, route, "route", PATH_BYTES, wire_is_visible),
    GROUP("upstream", upstream_table),
    TEXT(wire_grant, subprotocol, "subprotocol", WORD_BYTES, str_is_token,
	.optional = true),
    OBJECT(wire_grant, limits, "limits", members_of_limits_table),
    FIELD(wire_grant, messages, "messages", KIND_OBJECT,
	.table = &messages_table, .optional = true));

TABLE(deny, NUMBER(wire_deny, status, "status", 400, 599),
    TEXT(wire_deny, code, "code", WORD_BYTES, str_is_token),
    TEXT(wire_deny, message, "message", MESSAGE_BYTES, wire_is_line),
    VALUE(wire_deny, body, "body"), HEADERS(wire_deny, headers));

#define USAGE_FIELDS                                                \
	OBJECT(wire_usage, client, "client", totals_table),         \
	    OBJECT(wire_usage, upstream, "upstream", totals_table), \
	    VALUE(wire_usage, events, "events")

TABLE(usage, USAGE_FIELDS);

TABLE(end, USAGE_FIELDS,
    TEXT(wire_usage, side, "side", WORD_BYTES, wire_is_side),
    TEXT(wire_usage, cause, "cause", WORD_BYTES, str_is_token),
    NUMBER(wire_usage, code, "code", 0, CLOSE_CODE_MAX),
    TEXT(wire_usage, reason, "reason", REASON_BYTES, wire_is_text,
	.optional = true));

TABLE(close, NUMBER(wire_close, code, "code", 1000, CLOSE_CODE_MAX),
    TEXT(wire_close, reason, "reason", REASON_BYTES, wire_is_text),
    TEXT(wire_close, lease, "lease", WORD_BYTES, str_is_token,
	.optional = true));

TABLE(limits,
    { .name = "limits",
	.kind = KIND_OBJECT,
	.table = &members_of_limits_table });

TABLE(reply, { .name = "value", .kind = KIND_VALUE });

TABLE(log, VALUE(wire_log, records, "records"),
    NUMBER(wire_log, dropped, "dropped", 0, NUMBER_MAX));

TABLE(report, TEXT(wire_report, from, "from", DAY_BYTES, wire_is_day),
    TEXT(wire_report, to, "to", DAY_BYTES, wire_is_day),
    TEXT(wire_report, by, "by", WORD_BYTES, wire_is_sum, .optional = true));

TABLE(top_up, TEXT(wire_account, user, "user", WORD_BYTES, wire_is_line),
    TEXT(wire_account, amount, "amount", WORD_BYTES, wire_is_amount),
    TEXT(wire_account, id, "id", WORD_BYTES, str_is_token));

TABLE(balance, TEXT(wire_account, user, "user", WORD_BYTES, wire_is_line));

static const struct table list_table = { "list", NULL, 0 };

static const struct table *const packets[] = {
	[WIRE_OPEN] = &open_table,
	[WIRE_GRANT] = &grant_table,
	[WIRE_DENY] = &deny_table,
	[WIRE_USAGE] = &usage_table,
	[WIRE_END] = &end_table,
	[WIRE_CLOSE] = &close_table,
	[WIRE_LIMITS] = &limits_table,
	[WIRE_LIST] = &list_table,
	[WIRE_REPLY] = &reply_table,
	[WIRE_LOG] = &log_table,
	[WIRE_REPORT] = &report_table,
	[WIRE_TOP_UP] = &top_up_table,
	[WIRE_BALANCE] = &balance_table,
};

/* Every member of the packet's union starts where it starts. */
#define BODY_OFFSET offsetof(struct wire_packet, open)

/* ---- rules for both directions ----------------------------------------- */

static enum err
check_text(const struct field *field, const char *s)
{
	size_t len = strlen(s);

	if (len > field->max_bytes)
		return ERR_LIMIT;
	return field->check(s, len) ? ERR_OK : ERR_PROTO;
}

static enum err
check_range(const struct field *field, int64_t value)
{
	return value < field->min || value > field->max ? ERR_LIMIT : ERR_OK;
}

bool
wire_is_close_code(int code)
{
	return (code >= 1000 && code <= 1003) ||
	    (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

/* Whether this is NULL or an array of at most so many objects. */
static bool
is_objects(const json_t *value, size_t max)
{
	if (value == NULL)
		return true;
	if (!json_is_array(value) || json_array_size(value) > max)
		return false;
	for (size_t i = 0; i < json_array_size(value); i++)
		if (!json_is_object(json_array_get(value, i)))
			return false;
	return true;
}

/* Rules and a session are objects; whoever reads messages has a maximum. */
static bool
is_consistent(const struct wire_messages *messages)
{
	bool whole = messages->form != NULL || messages->session != NULL ||
	    messages->pin != NULL;

	return (messages->session == NULL ||
		   json_is_object(messages->session)) &&
	    (messages->pin == NULL || json_is_object(messages->pin)) &&
	    (!whole || messages->inspect_bytes > 0);
}

/* One that is to be dialled is told whole, one that is passed not at all. */
static bool
is_complete(const struct wire_grant *grant)
{
	if (grant->upstream.passed)
		return grant->upstream.address_count == 0;
	return grant->upstream.address_count > 0 && grant->upstream.port > 0 &&
	    grant->upstream.name != NULL && grant->upstream.host != NULL &&
	    grant->upstream.target != NULL;
}

/* What one field alone cannot tell. */
static enum err
check_packet(const struct wire_packet *packet)
{
	bool ok = true;

	if (packet->type == WIRE_OPEN)
		ok = packet->open.peer_local ==
		    (packet->open.peer_address == NULL);
	else if (packet->type == WIRE_END)
		ok = packet->usage.code == 0 ||
		    wire_is_close_code(packet->usage.code);
	else if (packet->type == WIRE_CLOSE)
		ok = wire_is_close_code(packet->close.code);
	else if (packet->type == WIRE_GRANT)
		ok = is_consistent(&packet->grant.messages) &&
		    is_complete(&packet->grant);
	else if (packet->type == WIRE_DENY)
		ok = packet->deny.body == NULL ||
		    json_is_object(packet->deny.body);
	else if (packet->type == WIRE_LOG)
		ok = is_objects(packet->log.records, WIRE_RECORDS_MAX);
	else if (packet->type == WIRE_REPORT)
		ok = strcmp(packet->report.from, packet->report.to) <= 0;
	if (packet->type == WIRE_USAGE || packet->type == WIRE_END)
		ok = ok && is_objects(packet->usage.events, WIRE_EVENTS_MAX);
	return ok ? ERR_OK : ERR_PROTO;
}

/* ---- parsing ----------------------------------------------------------- */

static enum err parse_table(const struct table *table, const json_t *object,
    void *base, struct diag *diag);

static enum err
parse_text(const struct field *field, const char *s, char **ret)
{
	enum err err = check_text(field, s);

	if (err == ERR_OK)
		*ret = xstrdup(s);
	return err;
}

static enum err
parse_texts(const struct field *field, const json_t *value, void *base)
{
	char **items = (char **)((char *)base + field->offset);
	size_t *count = (size_t *)((char *)base + field->count_offset);
	enum err err;

	if (!json_is_array(value))
		return ERR_PROTO;
	err = check_range(field, (int64_t)json_array_size(value));
	for (size_t i = 0; err == ERR_OK && i < json_array_size(value); i++) {
		const char *s = json_string_value(json_array_get(value, i));

		err = s == NULL ? ERR_PROTO : parse_text(field, s, &items[i]);
		if (err == ERR_OK)
			(*count)++;
	}
	return err;
}

static enum err
parse_headers(const json_t *value, struct wire_headers *headers)
{
	enum err err = ERR_OK;

	if (!json_is_array(value))
		return ERR_PROTO;
	for (size_t i = 0; err == ERR_OK && i < json_array_size(value); i++) {
		const json_t *pair = json_array_get(value, i);
		const char *name = json_string_value(json_array_get(pair, 0));
		const char *text = json_string_value(json_array_get(pair, 1));

		if (json_array_size(pair) != 2 || name == NULL || text == NULL)
			return ERR_PROTO;
		err = wire_headers_add(headers, name, text);
	}
	return err;
}

static enum err
parse_number(const struct field *field, const json_t *value, void *to)
{
	int64_t number = json_integer_value(value);
	enum err err = check_range(field, number);

	if (!json_is_integer(value))
		return ERR_PROTO;
	if (err != ERR_OK)
		return err;
	switch (field->size) {
	case sizeof(uint16_t):
		*(uint16_t *)to = (uint16_t)number;
		break;
	case sizeof(int):
		*(int *)to = (int)number;
		break;
	default:
		*(int64_t *)to = number;
		break;
	}
	return ERR_OK;
}

static enum err
parse_field(const struct field *field, json_t *value, void *base,
    struct diag *diag)
{
	void *to = (char *)base + field->offset;

	switch (field->kind) {
	case KIND_TEXT:
		return json_is_string(value)
		    ? parse_text(field, json_string_value(value), to)
		    : ERR_PROTO;
	case KIND_TEXTS:
		return parse_texts(field, value, base);
	case KIND_NUMBER:
		return parse_number(field, value, to);
	case KIND_FLAG:
		*(bool *)to = json_is_true(value);
		return json_is_boolean(value) ? ERR_OK : ERR_PROTO;
	case KIND_HEADERS:
		return parse_headers(value, to);
	case KIND_VALUE:
		*(json_t **)to = json_incref(value);
		return ERR_OK;
	case KIND_OBJECT:
		return json_is_object(value)
		    ? parse_table(field->table, value, to, diag)
		    : ERR_PROTO;
	}
	return ERR_PROTO;
}

static enum err
parse_table(const struct table *table, const json_t *object, void *base,
    struct diag *diag)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct field *field = &table->fields[i];
		json_t *value = json_object_get(object, field->name);
		enum err err = ERR_OK;

		if (value != NULL && !json_is_null(value))
			err = parse_field(field, value, base, diag);
		else if (!field->optional)
			err = ERR_PROTO;
		if (err != ERR_OK) {
			if (field->kind != KIND_OBJECT ||
			    !json_is_object(value))
				diag_set(diag, "%s: bad or missing \"%s\"",
				    table->name, field->name);
			return err;
		}
	}
	return ERR_OK;
}

static enum err
parse_type(const json_t *object, enum wire_type *ret, struct diag *diag)
{
	int64_t version;
	const char *name;

	if (json_get_int(object, "v", WIRE_VERSION, WIRE_VERSION, &version) !=
	    ERR_OK) {
		diag_set(diag, "not a packet of version %d", WIRE_VERSION);
		return ERR_PROTO;
	}
	if (json_get_string(object, "type", WORD_BYTES, &name) == ERR_OK)
		for (size_t i = 0; i < ARRAY_SIZE(packets); i++)
			if (strcmp(packets[i]->name, name) == 0) {
				*ret = (enum wire_type)i;
				return ERR_OK;
			}
	diag_set(diag, "unknown type of packet");
	return ERR_PROTO;
}

static enum err
parse_packet(const json_t *object, struct wire_packet **ret, struct diag *diag)
{
	struct wire_packet *packet;
	enum wire_type type;
	enum err err;

	err = parse_type(object, &type, diag);
	if (err != ERR_OK)
		return err;
	packet = wire_packet_new(type);
	err = parse_table(packets[type], object, (char *)packet + BODY_OFFSET,
	    diag);
	if (err == ERR_OK) {
		err = check_packet(packet);
		if (err != ERR_OK)
			diag_set(diag, "%s: members contradict each other",
			    packets[type]->name);
	}
	if (err != ERR_OK) {
		wire_packet_free(packet);
		return err;
	}
	*ret = packet;
	return ERR_OK;
}

enum err
wire_parse(const void *data, size_t len, struct wire_packet **ret,
    struct diag *diag)
{
	json_t *object;
	enum err err;

	if (len > WIRE_MAX_BYTES) {
		diag_set(diag, "a packet of %zu bytes", len);
		return ERR_LIMIT;
	}
	err = json_parse(data, len, &object, diag);
	if (err != ERR_OK)
		return err;
	err = parse_packet(object, ret, diag);
	json_decref(object);
	return err;
}

/* ---- formatting -------------------------------------------------------- */

static enum err format_table(const struct table *table, const void *base,
    json_t *object);

/* Set a member; a value that could not be made was not UTF-8. */
static enum err
put(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) == 0 ? ERR_OK
							     : ERR_PROTO;
}

static enum err
format_texts(const struct field *field, const void *base, json_t *object)
{
	char *const *items =
	    (char *const *)((const char *)base + field->offset);
	size_t count =
	    *(const size_t *)((const char *)base + field->count_offset);
	json_t *array = json_array();
	enum err err = check_range(field, (int64_t)count);

	for (size_t i = 0; err == ERR_OK && i < count; i++) {
		err = check_text(field, items[i]);
		if (err == ERR_OK)
			(void)json_array_append_new(array,
			    json_string(items[i]));
	}
	if (err != ERR_OK) {
		json_decref(array);
		return err;
	}
	return put(object, field->name, array);
}

static enum err
format_headers(const struct field *field, const struct wire_headers *headers,
    json_t *object)
{
	json_t *array = json_array();

	/* wire_headers_add() let only text in that JSON can carry */
	for (size_t i = 0; i < headers->count; i++)
		(void)json_array_append_new(array,
		    json_pack("[ss]", headers->items[i].name,
			headers->items[i].value));
	return put(object, field->name, array);
}

static enum err
format_number(const struct field *field, const void *from, json_t *object)
{
	int64_t number;
	enum err err;

	switch (field->size) {
	case sizeof(uint16_t):
		number = *(const uint16_t *)from;
		break;
	case sizeof(int):
		number = *(const int *)from;
		break;
	default:
		number = *(const int64_t *)from;
		break;
	}
	err = check_range(field, number);
	return err == ERR_OK ? put(object, field->name, json_integer(number))
			     : err;
}

static enum err
format_text(const struct field *field, const char *s, json_t *object)
{
	enum err err;

	if (s == NULL)
		return field->optional ? ERR_OK : ERR_PROTO;
	err = check_text(field, s);
	return err == ERR_OK ? put(object, field->name, json_string(s)) : err;
}

static enum err
format_object(const struct field *field, const void *from, json_t *object)
{
	json_t *members = json_object();
	enum err err = format_table(field->table, from, members);

	if (err != ERR_OK) {
		json_decref(members);
		return err;
	}
	return put(object, field->name, members);
}

static enum err
format_table(const struct table *table, const void *base, json_t *object)
{
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < table->count; i++) {
		const struct field *field = &table->fields[i];
		const void *from = (const char *)base + field->offset;

		switch (field->kind) {
		case KIND_TEXT:
			err = format_text(field, *(char *const *)from, object);
			break;
		case KIND_TEXTS:
			err = format_texts(field, base, object);
			break;
		case KIND_NUMBER:
			err = format_number(field, from, object);
			break;
		case KIND_FLAG:
			if (*(const bool *)from || !field->optional)
				err = put(object, field->name,
				    json_boolean(*(const bool *)from));
			break;
		case KIND_HEADERS:
			err = format_headers(field, from, object);
			break;
		case KIND_VALUE:
			if (*(json_t *const *)from != NULL)
				err = put(object, field->name,
				    json_incref(*(json_t *const *)from));
			else if (!field->optional)
				err = ERR_PROTO;
			break;
		case KIND_OBJECT:
			err = format_object(field, from, object);
			break;
		}
	}
	return err;
}

/* Dump into memory of the exact size: no copy of a key is left in the heap. */
static enum err
dump(const json_t *object, char **ret, size_t *ret_len)
{
	size_t len = json_dumpb(object, NULL, 0, JSON_COMPACT);
	char *text;

	if (len == 0)
		return ERR_PROTO;
	if (len > WIRE_MAX_BYTES)
		return ERR_LIMIT;
	text = xcalloc(1, len + 1);
	(void)json_dumpb(object, text, len, JSON_COMPACT);
	*ret = text;
	*ret_len = len;
	return ERR_OK;
}

enum err
wire_format(const struct wire_packet *packet, char **ret, size_t *ret_len)
{
	const struct table *table = packets[packet->type];
	json_t *object;
	enum err err;

	err = check_packet(packet);
	if (err != ERR_OK)
		return err;
	object = json_pack("{siss}", "v", WIRE_VERSION, "type", table->name);
	err = format_table(table, (const char *)packet + BODY_OFFSET, object);
	if (err == ERR_OK)
		err = dump(object, ret, ret_len);
	json_decref(object);
	return err;
}

void
wire_text_free(char *text, size_t len)
{
	if (text != NULL)
		explicit_bzero(text, len);
	free(text);
}

/* ---- packets and headers ----------------------------------------------- */

struct wire_packet *
wire_packet_new(enum wire_type type)
{
	struct wire_packet *packet = xcalloc(1, sizeof(*packet));

	packet->type = type;
	return packet;
}

static void
free_text(char *s)
{
	wire_text_free(s, s == NULL ? 0 : strlen(s));
}

static void
free_table(const struct table *table, void *base)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct field *field = &table->fields[i];
		void *at = (char *)base + field->offset;
		struct wire_headers *headers = at;

		switch (field->kind) {
		case KIND_TEXT:
			free_text(*(char **)at);
			break;
		case KIND_TEXTS:
			for (int64_t j = 0; j < field->max; j++)
				free_text(((char **)at)[j]);
			break;
		case KIND_HEADERS:
			for (size_t j = 0; j < headers->count; j++) {
				free_text(headers->items[j].name);
				free_text(headers->items[j].value);
			}
			free(headers->items);
			break;
		case KIND_VALUE:
			json_decref(*(json_t **)at);
			break;
		case KIND_OBJECT:
			free_table(field->table, at);
			break;
		case KIND_NUMBER:
		case KIND_FLAG:
			break;
		}
	}
}

void
wire_packet_free(struct wire_packet *packet)
{
	if (packet == NULL)
		return;
	free_table(packets[packet->type], (char *)packet + BODY_OFFSET);
	free(packet);
}

enum err
wire_headers_add(struct wire_headers *headers, const char *name,
    const char *value)
{
	size_t len;

	value += strspn(value, " \t");
	len = strlen(value);
	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	if (!str_is_token(name, strlen(name)) ||
	    !str_is_field_value(value, len) || !str_is_utf8(value, len))
		return ERR_PROTO;
	if (headers->count == WIRE_HEADERS_MAX)
		return ERR_LIMIT;
	headers->items = xreallocarray(headers->items, headers->count + 1,
	    sizeof(headers->items[0]));
	headers->items[headers->count++] = (struct wire_header){
		.name = xstrdup(name),
		.value = xstrndup(value, len),
	};
	return ERR_OK;
}

const char *
wire_headers_find(const struct wire_headers *headers, const char *name)
{
	for (size_t i = 0; i < headers->count; i++)
		if (strcasecmp(headers->items[i].name, name) == 0)
			return headers->items[i].value;
	return NULL;
}
