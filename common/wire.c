/* SPDX-License-Identifier: MIT */
#include "common/wire.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/str.h"
#include "common/wire_field.h"
#include "common/xalloc.h"

/* ---- the packets ------------------------------------------------------- */

#define NUMBER_MAX     INT64_MAX       /* as much as JSON carries */
#define TIME_MAX_MS    (INT64_MAX / 4) /* can be added to a clock's time */
#define SERIAL_MAX     (INT64_MAX / 4) /* there are always more after it */
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
#define TEXT(type, member, json_name, bytes, checker, ...)                   \
	FIELD(type, member, json_name, WIRE_KIND_TEXT, .max_bytes = (bytes), \
	    .check = (checker), __VA_ARGS__)
#define TEXTS(type, member, counter, json_name, least, most, bytes, checker) \
	FIELD(type, member, json_name, WIRE_KIND_TEXTS, .min = (least),      \
	    .max = (most), .max_bytes = (bytes), .check = (checker),         \
	    .count_offset = offsetof(struct type, counter))
#define NUMBER(type, member, json_name, least, most)                     \
	FIELD(type, member, json_name, WIRE_KIND_NUMBER, .min = (least), \
	    .max = (most))
/* one that is left out where it is 0 */
#define COUNT(type, member, json_name, most)                               \
	FIELD(type, member, json_name, WIRE_KIND_NUMBER, .optional = true, \
	    .max = (most))
#define NUMBERS(type, member, counter, json_name, least, most)              \
	FIELD(type, member, json_name, WIRE_KIND_NUMBERS, .optional = true, \
	    .min = (least), .max = (most),                                  \
	    .count_offset = offsetof(struct type, counter))
#define FLAG(type, member, json_name) \
	FIELD(type, member, json_name, WIRE_KIND_FLAG)
#define VALUE(type, member, json_name) \
	FIELD(type, member, json_name, WIRE_KIND_VALUE, .optional = true)
#define HEADERS(type, member) FIELD(type, member, "headers", WIRE_KIND_HEADERS)
/* a JSON object whose members are members of the same structure */
#define GROUP(json_name, group)                                \
	{                                                      \
		.name = (json_name), .kind = WIRE_KIND_OBJECT, \
		.table = &(group)                              \
	}
/* a JSON object that is a structure within the structure */
#define OBJECT(type, member, json_name, members) \
	FIELD(type, member, json_name, WIRE_KIND_OBJECT, .table = &(members))

#define TABLE(id, ...)                                                  \
	static const struct wire_field id##_fields[] = { __VA_ARGS__ }; \
	static const struct wire_table id##_table = { #id, id##_fields, \
		ARRAY_SIZE(id##_fields) }

#define LIMIT(member, least) \
	NUMBER(wire_limits, member, #member, least, NUMBER_MAX)
#define TIME(member, least) \
	NUMBER(wire_limits, member, #member, least, TIME_MAX_MS)

TABLE(members_of_limits, LIMIT(client_message_bytes, 0),
    LIMIT(upstream_message_bytes, 0), LIMIT(client_messages_per_s, 0),
    LIMIT(client_bytes_per_s, 0), TIME(connect_ms, 1), TIME(idle_ms, 0),
    TIME(lifetime_ms, 0), TIME(ping_ms, 0), TIME(pong_ms, 1), TIME(stall_ms, 0),
    TIME(usage_ms, 0), COUNT(wire_limits, vendor_ms, "vendor_ms", TIME_MAX_MS),
    COUNT(wire_limits, warn_ms, "warn_ms", TIME_MAX_MS));

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
    FIELD(wire_grant, upstream.passed, "passed", WIRE_KIND_FLAG,
	.optional = true),
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
    TEXT(wire_messages, budget, "budget", WORD_BYTES, wire_is_refusal,
	.optional = true),
    TEXT(wire_messages, log, "log", WORD_BYTES, wire_is_log, .optional = true),
    NUMBER(wire_messages, inspect_bytes, "inspect_bytes", 0, NUMBER_MAX));

TABLE(grant, TEXT(wire_grant, lease, "lease", WORD_BYTES, str_is_token),
    TEXT(wire_grant, session, "session", WORD_BYTES, str_is_token),
    TEXT(wire_grant, route, "route", PATH_BYTES, wire_is_visible),
    GROUP("upstream", upstream_table),
    TEXT(wire_grant, subprotocol, "subprotocol", WORD_BYTES, str_is_token,
	.optional = true),
    OBJECT(wire_grant, limits, "limits", members_of_limits_table),
    FIELD(wire_grant, messages, "messages", WIRE_KIND_OBJECT,
	.table = &messages_table, .optional = true),
    TEXT(wire_grant, resume, "resume", WIRE_RESUME_BYTES, wire_is_visible,
	.optional = true));

TABLE(deny, NUMBER(wire_deny, status, "status", 400, 599),
    TEXT(wire_deny, code, "code", WORD_BYTES, str_is_token),
    TEXT(wire_deny, message, "message", MESSAGE_BYTES, wire_is_line),
    VALUE(wire_deny, body, "body"), HEADERS(wire_deny, headers));

#define USAGE_FIELDS                                                \
	OBJECT(wire_usage, client, "client", totals_table),         \
	    OBJECT(wire_usage, upstream, "upstream", totals_table), \
	    VALUE(wire_usage, events, "events"),                    \
	    COUNT(wire_usage, asked, "asked", SERIAL_MAX),          \
	    NUMBERS(wire_usage, open, open_count, "open", 1, SERIAL_MAX)

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
	.kind = WIRE_KIND_OBJECT,
	.table = &members_of_limits_table });

TABLE(reply, { .name = "value", .kind = WIRE_KIND_VALUE });

TABLE(log, VALUE(wire_log, records, "records"),
    NUMBER(wire_log, dropped, "dropped", 0, NUMBER_MAX));

TABLE(report, TEXT(wire_report, from, "from", DAY_BYTES, wire_is_day),
    TEXT(wire_report, to, "to", DAY_BYTES, wire_is_day),
    TEXT(wire_report, by, "by", WORD_BYTES, wire_is_sum, .optional = true));

TABLE(top_up, TEXT(wire_account, user, "user", WORD_BYTES, wire_is_line),
    TEXT(wire_account, amount, "amount", WORD_BYTES, wire_is_amount),
    TEXT(wire_account, id, "id", WORD_BYTES, str_is_token));

TABLE(balance, TEXT(wire_account, user, "user", WORD_BYTES, wire_is_line));

TABLE(ask, NUMBER(wire_ask, n, "n", 1, SERIAL_MAX),
    FIELD(wire_ask, begun, "begun", WIRE_KIND_FLAG, .optional = true),
    COUNT(wire_ask, input_bytes, "input_bytes", NUMBER_MAX));

TABLE(answer, NUMBER(wire_answer, n, "n", 1, SERIAL_MAX),
    FLAG(wire_answer, allowed, "allowed"),
    TEXT(wire_answer, code, "code", WORD_BYTES, str_is_token, .optional = true),
    TEXT(wire_answer, message, "message", MESSAGE_BYTES, wire_is_line,
	.optional = true),
    COUNT(wire_answer, retry_after_s, "retry_after_s", TIME_MAX_MS));

TABLE(ack, NUMBER(wire_ack, n, "n", 0, NUMBER_MAX),
    FIELD(wire_ack, ended, "ended", WIRE_KIND_FLAG, .optional = true));

TABLE(resume,
    TEXT(wire_resume, resume, "resume", WIRE_RESUME_BYTES, wire_is_visible),
    NUMBER(wire_resume, elapsed_ms, "elapsed_ms", 0, TIME_MAX_MS));

TABLE(resumed,
    { .name = "limits",
	.kind = WIRE_KIND_OBJECT,
	.table = &members_of_limits_table });

TABLE(revoke,
    TEXT(wire_revoke, kind, "kind", WORD_BYTES, wire_is_revocable,
	.optional = true),
    TEXT(wire_revoke, value, "value", PATH_BYTES, wire_is_line,
	.optional = true),
    COUNT(wire_revoke, before, "before", NUMBER_MAX));

TABLE(budgets,
    TEXT(wire_budgets, kind, "kind", WORD_BYTES, wire_is_counted,
	.optional = true),
    TEXT(wire_budgets, value, "value", PATH_BYTES, wire_is_line,
	.optional = true));

static const struct wire_table list_table = { "list", NULL, 0 };
static const struct wire_table probe_table = { "probe", NULL, 0 };

static const struct wire_table *const packets[] = {
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
	[WIRE_ASK] = &ask_table,
	[WIRE_ANSWER] = &answer_table,
	[WIRE_ACK] = &ack_table,
	[WIRE_RESUME] = &resume_table,
	[WIRE_RESUMED] = &resumed_table,
	[WIRE_REVOKE] = &revoke_table,
	[WIRE_BUDGETS] = &budgets_table,
	[WIRE_PROBE] = &probe_table,
};

/* Every member of the packet's union starts where it starts. */
#define BODY_OFFSET offsetof(struct wire_packet, open)

/* ---- what one member alone cannot tell --------------------------------- */

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
	    messages->pin != NULL || messages->budget != NULL;

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

/* Those that are open have been asked, in order. */
static bool
are_asked(const struct wire_usage *usage)
{
	int64_t last = 0;

	if (usage->open_count > WIRE_ASKS_MAX)
		return false;
	for (size_t i = 0; i < usage->open_count; i++) {
		if (usage->open[i] <= last || usage->open[i] > usage->asked)
			return false;
		last = usage->open[i];
	}
	return true;
}

/* A refusal says why; there is nothing to say of what is allowed. */
static bool
is_explained(const struct wire_answer *answer)
{
	if (answer->allowed)
		return answer->code == NULL && answer->message == NULL &&
		    answer->retry_after_s == 0;
	return answer->code != NULL && answer->message != NULL;
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
	else if (packet->type == WIRE_ANSWER)
		ok = is_explained(&packet->answer);
	else if (packet->type == WIRE_REVOKE)
		ok = (packet->revoke.kind == NULL) ==
		    (packet->revoke.value == NULL);
	else if (packet->type == WIRE_BUDGETS)
		ok = (packet->budgets.kind == NULL) ==
		    (packet->budgets.value == NULL);
	if (packet->type == WIRE_USAGE || packet->type == WIRE_END)
		ok = ok && is_objects(packet->usage.events, WIRE_EVENTS_MAX) &&
		    are_asked(&packet->usage);
	return ok ? ERR_OK : ERR_PROTO;
}

/* ---- parsing ----------------------------------------------------------- */

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
	err = wire_table_parse(packets[type], object,
	    (char *)packet + BODY_OFFSET, diag);
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
	const struct wire_table *table = packets[packet->type];
	json_t *object;
	enum err err;

	err = check_packet(packet);
	if (err != ERR_OK)
		return err;
	object = json_pack("{siss}", "v", WIRE_VERSION, "type", table->name);
	err = wire_table_format(table, (const char *)packet + BODY_OFFSET,
	    object);
	if (err == ERR_OK)
		err = dump(object, ret, ret_len);
	json_decref(object);
	return err;
}

/* ---- memory ------------------------------------------------------------ */

struct wire_packet *
wire_packet_new(enum wire_type type)
{
	struct wire_packet *packet = xcalloc(1, sizeof(*packet));

	packet->type = type;
	return packet;
}

void
wire_packet_free(struct wire_packet *packet)
{
	if (packet == NULL)
		return;
	wire_table_done(packets[packet->type], (char *)packet + BODY_OFFSET);
	free(packet);
}
