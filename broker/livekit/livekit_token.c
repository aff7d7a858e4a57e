/* SPDX-License-Identifier: MIT */
#include "broker/livekit/livekit_token.h"

#include <stdlib.h>
#include <string.h>

#include "common/crypt.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/str.h"
#include "common/xalloc.h"

/* What a client may wish; the last two are objects, the others strings. */
enum wish {
	WISH_ROOM,
	WISH_NAME,
	WISH_IDENTITY,
	WISH_METADATA,
	WISH_ATTRIBUTES,
	WISH_ROOM_CONFIG,
	WISHES,
};

static const char *const names[2][WISHES] = {
	{ "room_name", "participant_name", "participant_identity",
	    "participant_metadata", "participant_attributes", "room_config" },
	{ "roomName", "participantName", NULL, NULL, NULL, NULL },
};

struct wishes {
	bool seed;
	json_t *body;	      /* our copy: what follows belongs to it */
	json_t *wish[WISHES]; /* NULL: not wished */
};

/* ---- reading the body ---- */

static bool
find_name(const char *name, bool *ret_seed, enum wish *ret_wish)
{
	for (int form = 0; form < 2; form++) {
		for (int w = 0; w < WISHES; w++) {
			if (names[form][w] == NULL ||
			    strcmp(names[form][w], name) != 0)
				continue;
			*ret_seed = form == 1;
			*ret_wish = (enum wish)w;
			return true;
		}
	}
	return false;
}

static bool
is_empty(const json_t *value)
{
	return (json_is_string(value) && json_string_length(value) == 0) ||
	    (json_is_object(value) && json_object_size(value) == 0);
}

/* A name that a peer made up, for the diagnosis. */
static enum err
refuse_name(enum err err, const char *what, const char *name, struct diag *diag)
{
	char word[64];

	diag_set(diag, "%s %s", what,
	    str_escape(word, sizeof(word), name, strlen(name)));
	return err;
}

static enum err
read_wishes(struct wishes *wishes, struct diag *diag)
{
	const char *name;
	bool seed, first = true;
	enum wish wish;
	json_t *value;

	json_object_foreach(wishes->body, name, value)
	{
		if (!find_name(name, &seed, &wish))
			return refuse_name(ERR_PROTO, "unknown member", name,
			    diag);
		if (!first && seed != wishes->seed) {
			diag_set(diag,
			    "use either roomName, participantName "
			    "or room_name, participant_name");
			return ERR_PROTO;
		}
		first = false;
		wishes->seed = seed;
		if (json_is_null(value))
			continue;
		if (wish >= WISH_ATTRIBUTES ? !json_is_object(value)
					    : !json_is_string(value)) {
			diag_set(diag, "%s has to be %s", name,
			    wish >= WISH_ATTRIBUTES ? "an object" : "a string");
			return ERR_PROTO;
		}
		if (!is_empty(value))
			wishes->wish[wish] = value;
	}
	return ERR_OK;
}

/* ---- what may be wished ---- */

static const char *
wish_text(const struct wishes *wishes, enum wish wish)
{
	return json_string_value(wishes->wish[wish]);
}

/* Check a string that is there: whether it may be, and how long it is. */
static enum err
check_text(const struct wishes *wishes, enum wish wish, bool allowed,
    size_t max_bytes, struct diag *diag)
{
	const char *name = names[wishes->seed][wish];

	if (wishes->wish[wish] == NULL)
		return ERR_OK;
	if (!allowed) {
		diag_set(diag, "%s is not for the client to set", name);
		return ERR_DENIED;
	}
	if (json_string_length(wishes->wish[wish]) > max_bytes) {
		diag_set(diag, "%s has at most %zu bytes", name, max_bytes);
		return ERR_LIMIT;
	}
	return ERR_OK;
}

/* An object of strings, bounded; name is for the diagnosis. */
static enum err
check_attributes(json_t *attributes, const char *name, struct diag *diag)
{
	const char *key;
	json_t *value;
	size_t bytes = 0;

	if (!json_is_object(attributes)) {
		diag_set(diag, "%s has to be an object", name);
		return ERR_PROTO;
	}
	json_object_foreach(attributes, key, value)
	{
		if (!json_is_string(value) || *key == '\0') {
			diag_set(diag, "%s has to be names with strings", name);
			return ERR_PROTO;
		}
		bytes += strlen(key) + json_string_length(value);
	}
	if (json_object_size(attributes) > LIVEKIT_ATTRIBUTES_MAX ||
	    bytes > LIVEKIT_ATTRIBUTES_MAX_BYTES) {
		diag_set(diag, "%s has at most %d members of %d bytes in all",
		    name, LIVEKIT_ATTRIBUTES_MAX, LIVEKIT_ATTRIBUTES_MAX_BYTES);
		return ERR_LIMIT;
	}
	return ERR_OK;
}

static bool
has_string(const struct config_strings *strings, const char *s)
{
	for (size_t i = 0; i < strings->count; i++) {
		if (strcmp(strings->items[i], s) == 0)
			return true;
	}
	return false;
}

static bool
may_enter(const struct config_token *template, const char *room)
{
	if (template->room != NULL && strcmp(template->room, room) == 0)
		return true;
	for (size_t i = 0; i < template->rooms.count; i++) {
		if (str_match(template->rooms.items[i], room))
			return true;
	}
	return false;
}

/* A name with control characters would only ever deceive somebody. */
static bool
has_control(const char *s)
{
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s < ' ' || *s == 127)
			return true;
	}
	return false;
}

static enum err
check_wishes(const struct config_token *t, const struct wishes *wishes,
    struct diag *diag)
{
	const char *room = wish_text(wishes, WISH_ROOM);
	const char *name = wish_text(wishes, WISH_NAME);
	enum err err;

	if ((room != NULL && has_control(room)) ||
	    (name != NULL && has_control(name))) {
		diag_set(diag, "a name has a control character");
		return ERR_PROTO;
	}
	err = check_text(wishes, WISH_IDENTITY, false, 0, diag);
	if (err == ERR_OK)
		err = check_text(wishes, WISH_ROOM, true,
		    LIVEKIT_ROOM_MAX_BYTES, diag);
	if (err == ERR_OK)
		err = check_text(wishes, WISH_NAME, t->client_name,
		    LIVEKIT_NAME_MAX_BYTES, diag);
	if (err == ERR_OK)
		err = check_text(wishes, WISH_METADATA, t->client_metadata,
		    LIVEKIT_METADATA_MAX_BYTES, diag);
	if (err != ERR_OK)
		return err;
	if (room != NULL && !may_enter(t, room)) {
		diag_set(diag, "this room is not for the client to enter");
		return ERR_DENIED;
	}
	if (wishes->wish[WISH_ATTRIBUTES] == NULL)
		return ERR_OK;
	if (!t->client_attributes) {
		diag_set(diag,
		    "participant_attributes is not for the client "
		    "to set");
		return ERR_DENIED;
	}
	return check_attributes(wishes->wish[WISH_ATTRIBUTES],
	    "participant_attributes", diag);
}

/* ---- agents ---- */

/* Members of an agent, as the client and as the token writes them. */
static const struct agent_member {
	const char *client, *claim;
	size_t max_bytes; /* of a string; 0: attributes */
} agent_members[] = {
	{ "agent_name", "agentName", LIVEKIT_NAME_MAX_BYTES },
	{ "metadata", "metadata", LIVEKIT_METADATA_MAX_BYTES },
	{ "deployment", "deployment", LIVEKIT_NAME_MAX_BYTES },
	{ "attributes", "attributes", 0 },
};

static const struct agent_member *
find_agent_member(const char *name)
{
	for (size_t i = 0; i < sizeof(agent_members) / sizeof(agent_members[0]);
	     i++) {
		if (strcmp(agent_members[i].client, name) == 0)
			return &agent_members[i];
	}
	return NULL;
}

static enum err
check_agent_member(const struct agent_member *member, json_t *value,
    struct diag *diag)
{
	if (member->max_bytes == 0)
		return check_attributes(value, "an agent's attributes", diag);
	if (!json_is_string(value)) {
		diag_set(diag, "an agent's %s has to be a string",
		    member->client);
		return ERR_PROTO;
	}
	if (json_string_length(value) > member->max_bytes) {
		diag_set(diag, "an agent's %s has at most %zu bytes",
		    member->client, member->max_bytes);
		return ERR_LIMIT;
	}
	return ERR_OK;
}

/* Turn a client's agent into the token's and append it to agents. */
static enum err
add_agent(const struct config_token *t, json_t *agent, json_t *agents,
    struct diag *diag)
{
	const struct agent_member *member;
	const char *key, *name = NULL;
	json_t *value, *out;
	enum err err;

	if (!json_is_object(agent)) {
		diag_set(diag, "an agent has to be an object");
		return ERR_PROTO;
	}
	out = json_object();
	(void)json_array_append_new(agents, out);
	json_object_foreach(agent, key, value)
	{
		member = find_agent_member(key);
		if (json_is_null(value) || is_empty(value))
			continue;
		if (member == NULL)
			return refuse_name(ERR_DENIED,
			    "not for the client to set: an agent's", key, diag);
		err = check_agent_member(member, value, diag);
		if (err != ERR_OK)
			return err;
		(void)json_object_set(out, member->claim, value);
	}
	name = json_string_value(json_object_get(out, "agentName"));
	if (name == NULL) {
		diag_set(diag, "an agent needs its agent_name");
		return ERR_PROTO;
	}
	if (!has_string(&t->agents, name)) {
		diag_set(diag, "this agent is not for the client to dispatch");
		return ERR_DENIED;
	}
	return ERR_OK;
}

/* The agents of a client's room_config, which may have nothing else. */
static enum err
read_agents(const struct config_token *t, json_t *room_config, json_t *agents,
    struct diag *diag)
{
	const char *key;
	json_t *value, *agent;
	size_t i;
	enum err err;

	json_object_foreach(room_config, key, value)
	{
		if (json_is_null(value) || is_empty(value))
			continue;
		if (strcmp(key, "agents") != 0)
			return refuse_name(ERR_DENIED,
			    "not for the client to set: room_config's", key,
			    diag);
		if (!json_is_array(value)) {
			diag_set(diag, "agents has to be an array");
			return ERR_PROTO;
		}
		if (json_array_size(value) > 0 && !t->client_agents) {
			diag_set(diag,
			    "agents are not for the client to "
			    "dispatch");
			return ERR_DENIED;
		}
		if (json_array_size(value) > LIVEKIT_AGENTS_MAX) {
			diag_set(diag, "at most %d agents", LIVEKIT_AGENTS_MAX);
			return ERR_LIMIT;
		}
		json_array_foreach(value, i, agent)
		{
			err = add_agent(t, agent, agents, diag);
			if (err != ERR_OK)
				return err;
		}
	}
	return ERR_OK;
}

/* ---- making the token ---- */

static json_t *
random_text(size_t bytes)
{
	char hex[65];

	crypt_random_hex(hex, bytes);
	return json_string(hex);
}

static char *
random_name(const char *prefix)
{
	char hex[17];

	crypt_random_hex(hex, 8);
	return xasprintf("%s%s", prefix == NULL ? "" : prefix, hex);
}

static char *
make_identity(const struct config_token *t)
{
	if (t->identity_mode == IDENTITY_RANDOM)
		return random_name(t->identity);
	return t->identity == NULL || *t->identity == '\0'
	    ? NULL
	    : xstrdup(t->identity);
}

/* A participant needs a room; other tokens name one only if asked to. */
static char *
make_room(const struct config_token *t, const struct wishes *wishes)
{
	const json_t *video = json_object_get(t->claims, "video");
	const char *room = wish_text(wishes, WISH_ROOM);

	if (room == NULL)
		room = t->room;
	if (room != NULL && *room != '\0')
		return xstrdup(room);
	if (json_is_true(json_object_get(video, "roomJoin")))
		return random_name("room-");
	return NULL;
}

static bool
dispatches(const json_t *agents, const char *name)
{
	const json_t *agent;
	const char *other;
	size_t i;

	json_array_foreach(agents, i, agent)
	{
		other = json_string_value(json_object_get(agent, "agentName"));
		if (other != NULL && strcmp(other, name) == 0)
			return true;
	}
	return false;
}

static void
merge_agents(json_t *claims, json_t *agents)
{
	json_t *config, *all, *agent;
	const char *name;
	size_t i;

	if (json_array_size(agents) == 0)
		return;
	config = json_make_object(claims, "roomConfig");
	all = json_object_get(config, "agents");
	if (all == NULL) {
		all = json_array();
		(void)json_object_set_new(config, "agents", all);
	}
	json_array_foreach(agents, i, agent)
	{
		name = json_string_value(json_object_get(agent, "agentName"));
		if (!dispatches(all, name))
			(void)json_array_append(all, agent);
	}
}

static void
set_missing(json_t *object, const char *name, json_t *value)
{
	const json_t *old = json_object_get(object, name);

	if (value != NULL && (old == NULL || is_empty(old)))
		(void)json_object_set(object, name, value);
}

/* Set what the template leaves open. */
static void
merge_wishes(json_t *claims, const struct wishes *wishes)
{
	json_t *attributes = wishes->wish[WISH_ATTRIBUTES];

	set_missing(claims, "name", wishes->wish[WISH_NAME]);
	set_missing(claims, "metadata", wishes->wish[WISH_METADATA]);
	if (attributes != NULL)
		(void)json_object_update_missing(json_make_object(claims,
						     "attributes"),
		    attributes);
}

/*
 * nbf is the time itself: LiveKit tells tokens from before a participant's
 * removal by it, and verifiers allow for skew (JavaScript 10 s, Go 60 s).
 */
static enum err
add_registered(const struct config_livekit *livekit,
    const struct config_token *t, int64_t now, struct livekit_token *token)
{
	json_t *claims = token->claims;

	(void)json_object_set_new(claims, "iss",
	    json_string(secret_peek(livekit->api_key, NULL)));
	(void)json_object_set_new(claims, "sub", json_string(token->identity));
	(void)json_object_set_new(claims, "iat", json_integer(now));
	(void)json_object_set_new(claims, "nbf", json_integer(now));
	(void)json_object_set_new(claims, "exp", json_integer(now + t->ttl_s));
	(void)json_object_set_new(claims, "jti", random_text(16));
	if (token->room != NULL)
		(void)json_object_set_new(json_make_object(claims, "video"),
		    "room", json_string(token->room));
	/* a key or an identity that is not UTF-8 could not be set */
	return json_is_string(json_object_get(claims, "iss")) &&
		json_is_string(json_object_get(claims, "sub"))
	    ? ERR_OK
	    : ERR_SYS;
}

static enum err
build(const struct config_livekit *livekit, const struct config_token *t,
    const struct wishes *wishes, json_t *agents, int64_t now,
    struct livekit_token *ret, struct diag *diag)
{
	struct livekit_token token = { .seed = wishes->seed };

	token.identity = make_identity(t);
	if (token.identity == NULL) {
		diag_set(diag, "the template has no identity");
		return ERR_SYS;
	}
	token.room = make_room(t, wishes);
	token.claims = json_deep_copy(t->claims);
	if (token.claims == NULL)
		token.claims = json_object();
	merge_wishes(token.claims, wishes);
	merge_agents(token.claims, agents);
	if (add_registered(livekit, t, now, &token) != ERR_OK) {
		diag_set(diag, "the template or the API key is not UTF-8");
		livekit_token_done(&token);
		return ERR_SYS;
	}
	*ret = token;
	return ERR_OK;
}

enum err
livekit_token_make(const struct config_livekit *livekit,
    const struct config_token *template, const json_t *body, int64_t now,
    struct livekit_token *ret, struct diag *diag)
{
	struct wishes wishes = { .seed = false };
	json_t *agents;
	enum err err;

	if (!json_is_object(body)) {
		diag_set(diag, "the body has to be a JSON object");
		return ERR_PROTO;
	}
	/* jansson cannot walk what is const */
	wishes.body = json_deep_copy(body);
	agents = json_array();
	err = read_wishes(&wishes, diag);
	if (err == ERR_OK)
		err = check_wishes(template, &wishes, diag);
	if (err == ERR_OK && wishes.wish[WISH_ROOM_CONFIG] != NULL)
		err = read_agents(template, wishes.wish[WISH_ROOM_CONFIG],
		    agents, diag);
	if (err == ERR_OK)
		err = build(livekit, template, &wishes, agents, now, ret, diag);
	json_decref(agents);
	json_decref(wishes.body);
	return err;
}

void
livekit_token_done(struct livekit_token *token)
{
	free(token->identity);
	free(token->room);
	json_decref(token->claims);
	memset(token, 0, sizeof(*token));
}

enum err
livekit_token_sign(const struct config_livekit *livekit,
    const struct livekit_token *token, char **ret, struct diag *diag)
{
	struct crypt_key *key;
	enum err err;

	/* LiveKit's own development server has the secret "secret" */
	err = crypt_key_from_short_secret(livekit->api_secret, 1, &key, diag);
	if (err != ERR_OK)
		return ERR_SYS;
	err = jwt_sign(token->claims, key, "HS256", "JWT", NULL, ret);
	crypt_key_free(key);
	if (err == ERR_LIMIT)
		diag_set(diag, "the token would have more than %d bytes",
		    JWT_MAX_BYTES);
	else if (err != ERR_OK)
		diag_set(diag, "the token could not be signed");
	return err;
}
