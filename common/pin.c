/* SPDX-License-Identifier: MIT */
#include "common/pin.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct pin {
	json_t *fixed; /* members of a session */
	json_t *open;  /* a tree: true where a client may set what it likes */
	bool items;    /* whether items of a conversation are checked */
	bool roles;    /* whether their roles are, too */
};

/* One check: where it is, for the answer. */
struct place {
	struct pin_refusal *ret;
	bool session; /* else the response of response.create */
};

/* ---- rules ---- */

/* Add "a.b" to the tree of what is open. */
static bool
add_open(json_t *tree, const char *path)
{
	size_t len = strcspn(path, ".");
	bool last = path[len] == '\0';
	json_t *branch;

	if (len == 0)
		return false;
	branch = json_object_getn(tree, path, len);
	if (last) {
		json_object_setn_new(tree, path, len, json_true());
		return true;
	}
	/* below what is open all is open */
	if (json_is_true(branch))
		return true;
	if (branch == NULL) {
		branch = json_object();
		json_object_setn_new(tree, path, len, branch);
	}
	return add_open(branch, path + len + 1);
}

static bool
make_open(json_t *tree, const json_t *allow)
{
	const json_t *path;
	size_t i;

	json_array_foreach(allow, i, path)
	{
		if (!json_is_string(path) ||
		    json_string_length(path) > PIN_PARAM_BYTES ||
		    !add_open(tree, json_string_value(path)))
			return false;
	}
	return true;
}

enum err
pin_new(const json_t *rules, struct pin **ret, struct diag *diag)
{
	const json_t *session = json_object_get(rules, "session");
	const json_t *allow = json_object_get(rules, "allow");
	struct pin *pin;

	if (!json_is_object(session) || !json_is_array(allow) ||
	    json_object_size(rules) != 2) {
		diag_set(diag,
		    "rules are an object `session' and a list "
		    "`allow'");
		return ERR_PROTO;
	}
	pin = xcalloc(1, sizeof(*pin));
	pin->fixed = json_deep_copy(session);
	pin->open = json_object();
	/* an item may say how the model has to behave, or what tools did */
	pin->roles = json_object_get(session, "instructions") != NULL ||
	    json_object_get(session, "prompt") != NULL;
	pin->items = pin->roles || json_object_get(session, "tools") != NULL;
	if (!make_open(pin->open, allow)) {
		diag_set(diag, "`allow' holds what is no path of members");
		pin_free(pin);
		return ERR_PROTO;
	}
	*ret = pin;
	return ERR_OK;
}

void
pin_free(struct pin *pin)
{
	if (pin == NULL)
		return;
	json_decref(pin->fixed);
	json_decref(pin->open);
	free(pin);
}

/* ---- answers ---- */

static enum err
refuse(struct pin_refusal *ret, const char *code, const char *message)
{
	ret->code = code;
	ret->message = message;
	return ERR_DENIED;
}

static enum err
refuse_at(struct pin_refusal *ret, const char *param, const char *code,
    const char *message)
{
	strcpy(ret->param, param);
	return refuse(ret, code, message);
}

/*
 * Add a member's name to param; returns its length before.  A name that is
 * none of the vendor's is left out: what a client wrote goes nowhere.
 */
static size_t
enter(struct pin_refusal *ret, const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
	size_t before = strlen(ret->param), len = strlen(name);

	if (len > 0 && strspn(name, letters) == len &&
	    before + 1 + len < sizeof(ret->param)) {
		ret->param[before] = '.';
		memcpy(ret->param + before + 1, name, len + 1);
	}
	return before;
}

/* ---- members of a session, or of a response ---- */

/*
 * What the vendor merges member by member; any other object replaces the one
 * that was there, so a part of it is another value.
 */
static const char *
container(const char *in, const char *name)
{
	static const struct {
		const char *in, *name, *container;
	} containers[] = {
		{ "", "audio", "audio" },
		{ "audio", "input", "audio.input" },
		{ "audio", "output", "audio.output" },
	};

	for (size_t i = 0; in != NULL && i < COUNT(containers); i++)
		if (strcmp(in, containers[i].in) == 0 &&
		    strcmp(name, containers[i].name) == 0)
			return containers[i].container;
	return NULL;
}

/* The fixed value itself, or a number that asks for less. */
static bool
is_within(const json_t *value, const json_t *fixed)
{
	if (json_equal(value, fixed))
		return true;
	return json_is_integer(value) && json_is_integer(fixed) &&
	    json_integer_value(value) > 0 &&
	    json_integer_value(value) < json_integer_value(fixed);
}

static enum err check_members(const struct place *place, const json_t *object,
    const json_t *fixed, const json_t *open, const char *in);

static enum err
check_member(const struct place *place, const char *name, const json_t *value,
    const json_t *fixed, const json_t *open, const char *in)
{
	const char *type = json_string_value(value);

	if (fixed != NULL) {
		if (is_within(value, fixed))
			return ERR_OK;
		in = container(in, name);
		if (in != NULL && json_is_object(fixed) &&
		    json_is_object(value))
			return check_members(place, value, fixed, open, in);
		return refuse(place->ret, "pinned",
		    "The site has fixed this parameter.");
	}
	if (json_is_true(open))
		return ERR_OK;
	if (json_is_object(open) && json_is_object(value))
		return check_members(place, value, NULL, open,
		    container(in, name));
	if (place->session && in != NULL && *in == '\0' &&
	    strcmp(name, "type") == 0 && type != NULL &&
	    strcmp(type, "realtime") == 0)
		return ERR_OK;
	return refuse(place->ret, "not_allowed",
	    "The site does not let clients set this parameter.");
}

/*
 * Each member against what is fixed and what is open at the same place; "in"
 * is the container that they are in, NULL where it is none.
 */
static enum err
check_members(const struct place *place, const json_t *object,
    const json_t *fixed, const json_t *open, const char *in)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		size_t before = enter(place->ret, name);
		/* open as a whole: so is what is in it */
		const json_t *open_here =
		    json_is_true(open) ? open : json_object_get(open, name);
		enum err err = check_member(place, name, value,
		    json_object_get(fixed, name), open_here, in);

		if (err != ERR_OK)
			return err;
		place->ret->param[before] = '\0';
	}
	return ERR_OK;
}

static enum err
check_object(const struct pin *pin, const json_t *object, const char *name,
    struct pin_refusal *ret)
{
	struct place place = { ret, strcmp(name, "session") == 0 };

	strcpy(ret->param, name);
	if (!json_is_object(object))
		return refuse(ret, "invalid_type",
		    "This parameter has to be an object.");
	return check_members(&place, object, pin->fixed, pin->open, "");
}

enum err
pin_check_session(const struct pin *pin, const json_t *session,
    struct pin_refusal *ret)
{
	return check_object(pin, session, "session", ret);
}

/* ---- items ---- */

static bool
is_one_of(const json_t *value, const char *const *words, size_t count)
{
	const char *text = json_string_value(value);

	for (size_t i = 0; text != NULL && i < count; i++)
		if (strcmp(text, words[i]) == 0)
			return true;
	return false;
}

/*
 * Allow-lists: an item of a role or type that is not known could carry what
 * the model takes for the site's word, or for a tool that it offers.
 */
static enum err
check_item(const struct pin *pin, const json_t *item, const char *param,
    struct pin_refusal *ret)
{
	static const char *const types[] = { "message", "function_call",
		"function_call_output", "item_reference" };
	static const char *const roles[] = { "user", "assistant" };
	const json_t *type = json_object_get(item, "type");
	const json_t *role = json_object_get(item, "role");

	if (!pin->items)
		return ERR_OK;
	if (!json_is_object(item))
		return refuse_at(ret, param, "invalid_type",
		    "This parameter has to be an object.");
	strcpy(ret->param, param);
	if (!is_one_of(type, types, COUNT(types))) {
		(void)enter(ret, "type");
		return refuse(ret, "not_allowed",
		    "The site does not let clients add items of this type.");
	}
	if (pin->roles &&
	    (role != NULL || strcmp(json_string_value(type), "message") == 0) &&
	    !is_one_of(role, roles, COUNT(roles))) {
		(void)enter(ret, "role");
		return refuse(ret, "pinned",
		    "The site has fixed the instructions: an item has the "
		    "role user or assistant.");
	}
	return ERR_OK;
}

/* The input of a response of its own. */
static enum err
check_input(const struct pin *pin, const json_t *input, struct pin_refusal *ret)
{
	enum err err = ERR_OK;
	const json_t *item;
	size_t i;

	if (!pin->items || input == NULL)
		return ERR_OK;
	if (!json_is_array(input))
		return refuse_at(ret, "response.input", "invalid_type",
		    "This parameter has to be an array.");
	json_array_foreach(input, i, item)
	{
		err = check_item(pin, item, "response.input", ret);
		if (err != ERR_OK)
			break;
	}
	return err;
}

/* ---- events ---- */

static enum err
check_session_update(const struct pin *pin, const json_t *event,
    struct pin_refusal *ret)
{
	return check_object(pin, json_object_get(event, "session"), "session",
	    ret);
}

static enum err
check_response_create(const struct pin *pin, const json_t *event,
    struct pin_refusal *ret)
{
	const json_t *response = json_object_get(event, "response");
	enum err err;

	if (response == NULL)
		return ERR_OK;
	err = check_object(pin, response, "response", ret);
	if (err != ERR_OK)
		return err;
	return check_input(pin, json_object_get(response, "input"), ret);
}

static enum err
check_item_create(const struct pin *pin, const json_t *event,
    struct pin_refusal *ret)
{
	return check_item(pin, json_object_get(event, "item"), "item", ret);
}

/* The client events of the GA interface, and what else they may hold. */
static const struct event {
	const char *type;
	enum err (
	    *check)(const struct pin *, const json_t *, struct pin_refusal *);
	const char *members[2];
} events[] = {
	{ "session.update", check_session_update, { "session" } },
	{ "response.create", check_response_create, { "response" } },
	{ "conversation.item.create", check_item_create,
	    { "item", "previous_item_id" } },
	{ "conversation.item.retrieve", NULL, { NULL } },
	{ "conversation.item.truncate", NULL, { NULL } },
	{ "conversation.item.delete", NULL, { NULL } },
	{ "input_audio_buffer.append", NULL, { NULL } },
	{ "input_audio_buffer.commit", NULL, { NULL } },
	{ "input_audio_buffer.clear", NULL, { NULL } },
	{ "output_audio_buffer.clear", NULL, { NULL } },
	{ "response.cancel", NULL, { NULL } },
};

static const struct event *
find_event(const char *type)
{
	for (size_t i = 0; type != NULL && i < COUNT(events); i++)
		if (strcmp(type, events[i].type) == 0)
			return &events[i];
	return NULL;
}

enum pin_need
pin_needs(const struct pin *pin, const char *type)
{
	const struct event *event = find_event(type);

	if (event == NULL)
		return PIN_NONE;
	if (event->check == NULL ||
	    (event->check == check_item_create && !pin->items))
		return PIN_TYPE;
	return PIN_ALL;
}

static enum err
check_top(const struct event *known, const json_t *event,
    struct pin_refusal *ret)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)event, name, value)
	{
		if (strcmp(name, "type") != 0 &&
		    strcmp(name, "event_id") != 0 &&
		    (known->members[0] == NULL ||
			strcmp(name, known->members[0]) != 0) &&
		    (known->members[1] == NULL ||
			strcmp(name, known->members[1]) != 0))
			return refuse(ret, "not_allowed",
			    "This event has a parameter that is not known.");
	}
	return ERR_OK;
}

enum err
pin_check(const struct pin *pin, const json_t *event, struct pin_refusal *ret)
{
	const char *type = json_string_value(json_object_get(event, "type"));
	const struct event *known = find_event(type);
	enum err err;

	ret->param[0] = '\0';
	if (known == NULL)
		return refuse_at(ret, "type", "unknown_event",
		    "This is no event that clients may send here.");
	if (pin_needs(pin, type) != PIN_ALL)
		return ERR_OK;
	err = check_top(known, event, ret);
	return err != ERR_OK ? err : known->check(pin, event, ret);
}
