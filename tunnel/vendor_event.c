/* SPDX-License-Identifier: MIT */
#include "tunnel/vendor_event.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"
#include "tunnel/json_peek.h"

#define TIME_DIGITS 15 /* of seconds since 1970: no year that we see has more \
			*/

enum member {
	MEMBER_TYPE,
	MEMBER_RESPONSE_ID,
	MEMBER_RESPONSE_STATUS,
	MEMBER_RESPONSE_USAGE,
	MEMBER_ITEM_ID,
	MEMBER_USAGE,
	MEMBER_ERROR_EVENT_ID,
	MEMBER_ERROR_PARAM,
	MEMBER_EXPIRES_AT,
	MEMBERS,
};

static const struct json_peek_path paths[MEMBERS] = {
	[MEMBER_TYPE] = { "type", VENDOR_EVENT_TYPE_BYTES },
	[MEMBER_RESPONSE_ID] = { "response.id", VENDOR_EVENT_ID_BYTES },
	[MEMBER_RESPONSE_STATUS] = { "response.status", VENDOR_EVENT_ID_BYTES },
	[MEMBER_RESPONSE_USAGE] = { "response.usage", JSON_PEEK_TEXT_MAX },
	[MEMBER_ITEM_ID] = { "item_id", VENDOR_EVENT_ID_BYTES },
	[MEMBER_USAGE] = { "usage", JSON_PEEK_TEXT_MAX },
	[MEMBER_ERROR_EVENT_ID] = { "error.event_id", VENDOR_EVENT_ID_BYTES },
	[MEMBER_ERROR_PARAM] = { "error.param", VENDOR_EVENT_ID_BYTES },
	[MEMBER_EXPIRES_AT] = { "session.expires_at", TIME_DIGITS },
};

/* Events of which more than the type is read, and where it stands. */
static const struct {
	const char *type;
	enum member id, status, usage; /* MEMBERS: none */
} whole_events[] = {
	{ "response.done", MEMBER_RESPONSE_ID, MEMBER_RESPONSE_STATUS,
	    MEMBER_RESPONSE_USAGE },
	{ "conversation.item.input_audio_transcription.completed",
	    MEMBER_ITEM_ID, MEMBERS, MEMBER_USAGE },
	{ "response.created", MEMBER_RESPONSE_ID, MEMBERS, MEMBERS },
	{ "error", MEMBERS, MEMBERS, MEMBERS },
	{ "session.created", MEMBERS, MEMBERS, MEMBERS },
	{ "session.updated", MEMBERS, MEMBERS, MEMBERS },
};

struct vendor_event {
	struct json_peek *peek;
	bool wants_more;
	char type[VENDOR_EVENT_TYPE_BYTES]; /* "" while it is not known */
	size_t whole; /* its place in the table, if it is there */
};

#define WHOLE_EVENTS (sizeof(whole_events) / sizeof(whole_events[0]))

struct vendor_event *
vendor_event_new(void)
{
	struct vendor_event *event = xcalloc(1, sizeof(*event));

	event->peek = json_peek_new(paths, MEMBERS);
	return event;
}

void
vendor_event_free(struct vendor_event *event)
{
	if (event == NULL)
		return;
	json_peek_free(event->peek);
	free(event);
}

void
vendor_event_begin(struct vendor_event *event)
{
	json_peek_reset(event->peek);
	event->wants_more = true;
	event->type[0] = '\0';
	event->whole = WHOLE_EVENTS;
}

static void
take_type(struct vendor_event *event)
{
	if (json_peek_state(event->peek, MEMBER_TYPE) == JSON_PEEK_ABSENT)
		return;
	if (!json_peek_string(event->peek, MEMBER_TYPE, event->type,
		sizeof(event->type)))
		event->type[0] = '\0';
	for (size_t i = 0; i < WHOLE_EVENTS; i++)
		if (strcmp(whole_events[i].type, event->type) == 0)
			event->whole = i;
	event->wants_more = event->whole < WHOLE_EVENTS;
}

void
vendor_event_feed(struct vendor_event *event, const void *data, size_t len)
{
	if (!event->wants_more)
		return;
	if (json_peek_feed(event->peek, data, len) != ERR_OK)
		event->wants_more = false;
	if (event->type[0] == '\0')
		take_type(event);
}

bool
vendor_event_wants_more(const struct vendor_event *event)
{
	return event->wants_more;
}

const char *
vendor_event_type(const struct vendor_event *event)
{
	return event->type;
}

static void
get_string(const struct vendor_event *event, enum member member, char *out,
    size_t size)
{
	if (member == MEMBERS ||
	    json_peek_state(event->peek, member) != JSON_PEEK_FOUND ||
	    !json_peek_string(event->peek, member, out, size))
		out[0] = '\0';
}

void
vendor_event_error(const struct vendor_event *event,
    char event_id[VENDOR_EVENT_ID_BYTES], char param[VENDOR_EVENT_ID_BYTES])
{
	get_string(event, MEMBER_ERROR_EVENT_ID, event_id,
	    VENDOR_EVENT_ID_BYTES);
	get_string(event, MEMBER_ERROR_PARAM, param, VENDOR_EVENT_ID_BYTES);
}

void
vendor_event_response_id(const struct vendor_event *event,
    char id[VENDOR_EVENT_ID_BYTES])
{
	get_string(event, MEMBER_RESPONSE_ID, id, VENDOR_EVENT_ID_BYTES);
}

int64_t
vendor_event_expires_at(const struct vendor_event *event)
{
	uint64_t at = 0;
	const char *text;
	size_t len;

	if (event->whole == WHOLE_EVENTS ||
	    strncmp(event->type, "session.", 8) != 0 ||
	    json_peek_end(event->peek) != ERR_OK ||
	    json_peek_state(event->peek, MEMBER_EXPIRES_AT) != JSON_PEEK_FOUND)
		return 0;
	text = json_peek_value(event->peek, MEMBER_EXPIRES_AT, &len);
	if (str_to_u64(text, len, INT64_MAX, &at) != ERR_OK)
		return 0;
	return (int64_t)at;
}

json_t *
vendor_event_usage(const struct vendor_event *event)
{
	char id[VENDOR_EVENT_ID_BYTES], status[VENDOR_EVENT_ID_BYTES];
	json_t *usage, *result;
	enum member member;
	const char *text;
	size_t len;

	if (event->whole == WHOLE_EVENTS)
		return NULL;
	member = whole_events[event->whole].usage;
	if (member == MEMBERS ||
	    json_peek_state(event->peek, member) != JSON_PEEK_FOUND)
		return NULL;
	text = json_peek_value(event->peek, member, &len);
	if (json_parse(text, len, &usage, NULL) != ERR_OK)
		return NULL;
	if (!json_is_object(usage)) {
		json_decref(usage);
		return NULL;
	}
	get_string(event, whole_events[event->whole].id, id, sizeof(id));
	get_string(event, whole_events[event->whole].status, status,
	    sizeof(status));
	result = json_pack("{s:s, s:s, s:o}", "type", event->type, "id", id,
	    "usage", usage);
	if (status[0] != '\0')
		json_object_set_new(result, "status", json_string(status));
	return result;
}
