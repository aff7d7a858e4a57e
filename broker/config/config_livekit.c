/* SPDX-License-Identifier: MIT */
#include "broker/config/config_livekit.h"

#include <stdlib.h>
#include <string.h>

#include "broker/config/config_plan.h"
#include "broker/config/config_value.h"
#include "broker/config/url.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

/* What LiveKit's protocol defines, for value_check. */
static bool
is_one_of(const char *const *words, const char *text)
{
	while (*words != NULL && strcmp(*words, text) != 0)
		words++;
	return *words != NULL;
}

static const char *
check_kind(const char *text)
{
	static const char *const words[] = { "standard", "ingress", "egress",
		"sip", "agent", "connector", "bridge", NULL };

	return is_one_of(words, text) ? NULL
				      : "write standard, ingress, egress, sip, "
					"agent, connector or bridge";
}

static const char *
check_source(const char *text)
{
	static const char *const words[] = { "camera", "microphone",
		"screen_share", "screen_share_audio", NULL };

	return is_one_of(words, text)
	    ? NULL
	    : "write camera, microphone, screen_share or screen_share_audio";
}

static const char *
check_sha256(const char *text)
{
	uint8_t digest[32];
	size_t len;

	return crypt_unbase64(text, strlen(text), digest, sizeof(digest),
		   &len) == ERR_OK &&
		len == sizeof(digest)
	    ? NULL
	    : "write the base64 text of a SHA-256";
}

/* ---- keys and the claims that they become ---- */

struct grant {
	const char *key, *group, *claim;
};

#define GRANT(key, group, claim) { #key, group, claim },

static const struct grant grants[] = {
#include "broker/config/config_grants.def"
};

struct string_claim {
	const char *key, *claim;
	value_check *check;
};

static const struct string_claim video_strings[] = {
	{ "destination_room", "destinationRoom", value_check_word },
	{ NULL, NULL, NULL },
};

static const struct string_claim agent_strings[] = {
	{ "metadata", "metadata", NULL },
	{ "deployment", "deployment", NULL },
	{ NULL, NULL, NULL },
};

static const struct string_claim room_strings[] = {
	{ "name", "name", NULL },
	{ "metadata", "metadata", NULL },
	{ NULL, NULL, NULL },
};

static const struct string_claim claim_strings[] = {
	{ "name", "name", NULL },
	{ "kind", "kind", check_kind },
	{ "metadata", "metadata", NULL },
	{ "sha256", "sha256", check_sha256 },
	{ "room_preset", "roomPreset", NULL },
	{ NULL, NULL, NULL },
};

/* How long and how many; all are 32 bits wide. */
static const char *const numbers[][2] = {
	{ "empty_timeout", "emptyTimeout" },
	{ "departure_timeout", "departureTimeout" },
	{ "max_participants", "maxParticipants" },
	{ "min_playout_delay", "minPlayoutDelay" },
	{ "max_playout_delay", "maxPlayoutDelay" },
};

/* ---- from keys to claims ---- */

static enum err
build_strings(struct conf_section *section, const struct string_claim *claims,
    json_t *object, struct diag *diag)
{
	for (; claims->key != NULL; claims++) {
		char *text;

		if (value_get_optional(section, claims->key, claims->check,
			&text, diag) != ERR_OK)
			return ERR_PROTO;
		if (text != NULL)
			(void)json_object_set_new(object, claims->claim,
			    json_string(text));
		free(text);
	}
	return ERR_OK;
}

/* `NAME "key" { value = "text" }' sections, as {"key":"text"}. */
static enum err
build_pairs(struct conf_section *section, const char *name, json_t *object,
    const char *claim, struct diag *diag)
{
	size_t count = conf_section_count(section, name);

	if (count > VALUE_LIST_MAX)
		return conf_fail(section, NULL, diag,
		    "more than %d %s sections", VALUE_LIST_MAX, name);
	for (size_t i = 0; i < count; i++) {
		struct conf_section *pair = conf_section(section, name, i);
		char *value;

		if (value_get_text(pair, "value", NULL, NULL, &value, diag) !=
		    ERR_OK)
			return ERR_PROTO;
		if (value == NULL)
			return conf_fail(pair, "value", diag, "is missing");
		(void)json_object_set_new(json_make_object(object, claim),
		    conf_title(pair), json_string(value));
		free(value);
	}
	return ERR_OK;
}

static enum err
build_bool(struct conf_section *section, const char *key, json_t *object,
    const char *claim, struct diag *diag)
{
	bool value;

	if (value_get_bool(section, key, false, &value, diag) != ERR_OK)
		return ERR_PROTO;
	(void)json_object_set_new(object, claim, json_boolean(value));
	return ERR_OK;
}

/* Three values: what does not stand in the file is not in the token. */
static enum err
build_grants(struct conf_section *section, json_t *claims, struct diag *diag)
{
	struct config_strings sources = { .count = 0 };
	json_t *video = json_make_object(claims, "video");
	enum err err;

	for (size_t i = 0; i < sizeof(grants) / sizeof(grants[0]); i++)
		if (conf_given(section, grants[i].key) &&
		    build_bool(section, grants[i].key,
			json_make_object(claims, grants[i].group),
			grants[i].claim, diag) != ERR_OK)
			return ERR_PROTO;
	err = value_get_list(section, "can_publish_sources", check_source, NULL,
	    &sources, diag);
	if (conf_given(section, "can_publish_sources"))
		(void)json_object_set_new(video, "canPublishSources",
		    json_array());
	for (size_t i = 0; i < sources.count; i++) {
		(void)json_array_append_new(json_object_get(video,
						"canPublishSources"),
		    json_string(sources.items[i]));
		free(sources.items[i]);
	}
	free(sources.items);
	if (err == ERR_OK)
		err = build_strings(section, video_strings, video, diag);
	return err;
}

/* ---- room_config ---- */

static enum err
build_agents(struct conf_section *section, json_t *room, struct diag *diag)
{
	size_t count = conf_section_count(section, "agent");

	if (count > VALUE_LIST_MAX)
		return conf_fail(section, NULL, diag, "more than %d agents",
		    VALUE_LIST_MAX);
	if (count > 0)
		(void)json_object_set_new(room, "agents", json_array());
	for (size_t i = 0; i < count; i++) {
		struct conf_section *agent = conf_section(section, "agent", i);
		json_t *object = json_object();

		(void)json_array_append_new(json_object_get(room, "agents"),
		    object);
		(void)json_object_set_new(object, "agentName",
		    json_string(conf_title(agent)));
		if (build_strings(agent, agent_strings, object, diag) !=
			ERR_OK ||
		    build_pairs(agent, "attribute", object, "attributes",
			diag) != ERR_OK)
			return ERR_PROTO;
	}
	return ERR_OK;
}

static enum err
build_numbers(struct conf_section *section, json_t *room, struct diag *diag)
{
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint64_t value;

		if (!conf_given(section, numbers[i][0]))
			continue;
		if (value_get_number(section, numbers[i][0], 0, UINT32_MAX, 0,
			&value, diag) != ERR_OK)
			return ERR_PROTO;
		(void)json_object_set_new(room, numbers[i][1],
		    json_integer((json_int_t)value));
	}
	return ERR_OK;
}

/* There is no key for egress: its credentials do not belong in a token. */
static enum err
build_room_config(struct conf_section *section, json_t *room, struct diag *diag)
{
	enum err err = build_strings(section, room_strings, room, diag);

	if (err == ERR_OK)
		err = build_numbers(section, room, diag);
	if (err == ERR_OK && conf_given(section, "sync_streams"))
		err = build_bool(section, "sync_streams", room, "syncStreams",
		    diag);
	if (err == ERR_OK)
		err = build_agents(section, room, diag);
	if (err == ERR_OK)
		err = build_pairs(section, "tag", room, "tags", diag);
	return err;
}

static enum err
build_claims(struct conf_section *section, json_t *claims, struct diag *diag)
{
	struct conf_section *room = conf_section(section, "room_config", 0);
	enum err err = build_grants(section, claims, diag);

	if (err == ERR_OK)
		err = build_strings(section, claim_strings, claims, diag);
	if (err == ERR_OK)
		err = build_pairs(section, "attribute", claims, "attributes",
		    diag);
	if (err == ERR_OK && room != NULL)
		err = build_room_config(room,
		    json_make_object(claims, "roomConfig"), diag);
	return err;
}

/* ---- token ---- */

static enum err
build_identity(struct conf_section *section, struct config_token *token,
    struct diag *diag)
{
	const char *mode = conf_string(section, "identity", 0);

	token->identity_mode = IDENTITY_RANDOM;
	if (mode == NULL || strcmp(mode, "random") == 0)
		return value_get_text(section, "identity_prefix", NULL, "user-",
		    &token->identity, diag);
	if (strncmp(mode, "fixed:", 6) != 0 || mode[6] == '\0')
		return conf_fail(section, "identity", diag,
		    "write \"random\" or \"fixed:NAME\"");
	if (conf_given(section, "identity_prefix"))
		return conf_fail(section, "identity_prefix", diag,
		    "a fixed identity has no prefix: leave it out");
	token->identity_mode = IDENTITY_FIXED;
	token->identity = xstrdup(mode + 6);
	return ERR_OK;
}

/* What a client may choose; returns whether that includes the room. */
static enum err
build_client(struct conf_section *section, struct config_token *token,
    bool *ret_room, struct diag *diag)
{
	const struct {
		const char *word;
		bool *flag;
	} words[] = {
		{ "room", ret_room },
		{ "name", &token->client_name },
		{ "metadata", &token->client_metadata },
		{ "attributes", &token->client_attributes },
		{ "agents", &token->client_agents },
	};
	size_t count = conf_count(section, "client_may_set");

	*ret_room = false;
	if (!conf_given(section, "client_may_set")) {
		for (size_t i = 0; i < 4; i++) /* all but the agents */
			*words[i].flag = true;
		return ERR_OK;
	}
	for (size_t i = 0; i < count; i++) {
		const char *item = conf_string(section, "client_may_set", i);
		size_t k = 0;

		while (k < 5 && strcmp(words[k].word, item) != 0)
			k++;
		if (k == 5)
			return conf_fail(section, "client_may_set", diag,
			    "%.40s: write room, name, metadata, attributes or "
			    "agents",
			    item);
		*words[k].flag = true;
	}
	return ERR_OK;
}

static enum err
build_rooms(struct conf_section *section, bool by_client,
    struct config_token *token, struct diag *diag)
{
	static const char *const any[] = { "*", NULL };

	if (!by_client && conf_given(section, "rooms"))
		return conf_fail(section, "rooms", diag,
		    "client_may_set does not have \"room\": leave it out");
	if (value_get_list(section, "rooms", value_check_word,
		by_client ? any : NULL, &token->rooms, diag) != ERR_OK)
		return ERR_PROTO;
	return value_get_optional(section, "room", value_check_word,
	    &token->room, diag);
}

static enum err
build_token(struct conf_section *section, struct config_token *token,
    struct diag *diag)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz"
				      "0123456789-_";
	bool room = false;
	uint64_t ttl = 0;
	enum err err;

	token->name = xstrdup(conf_title(section));
	token->claims = json_object();
	if (token->name[0] == '\0' || strlen(token->name) > 64 ||
	    token->name[strspn(token->name, allowed)] != '\0')
		return conf_fail(section, NULL, diag,
		    "the title is part of a path: 1 to 64 letters, digits, - "
		    "and _");
	err = build_client(section, token, &room, diag);
	if (err == ERR_OK)
		err = build_rooms(section, room, token, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "ttl", 10, 604800, 600, &ttl,
		    diag);
	token->ttl_s = (int64_t)ttl;
	if (err == ERR_OK)
		err = build_identity(section, token, diag);
	if (err == ERR_OK)
		err = value_get_list(section, "client_agents", value_check_word,
		    NULL, &token->agents, diag);
	if (err == ERR_OK && token->client_agents && token->agents.count == 0)
		err = conf_fail(section, "client_may_set", diag,
		    "has \"agents\": name them in client_agents");
	if (err == ERR_OK)
		err = build_claims(section, token->claims, diag);
	return err;
}

/* Without any section: join any room, as simple examples of LiveKit do. */
static void
default_token(struct config_token *token)
{
	token->name = xstrdup("default");
	token->rooms.items = xcalloc(1, sizeof(token->rooms.items[0]));
	token->rooms.items[token->rooms.count++] = xstrdup("*");
	token->ttl_s = 600;
	token->identity_mode = IDENTITY_RANDOM;
	token->identity = xstrdup("user-");
	token->client_name = true;
	token->client_metadata = true;
	token->client_attributes = true;
	token->claims = json_pack("{s:{s:b,s:b,s:b}}", "video", "roomJoin", 1,
	    "canPublish", 1, "canSubscribe", 1);
}

/* ---- livekit ---- */

static enum err
build_secrets(struct conf_section *section, struct config_livekit *livekit,
    struct diag *diag)
{
	const char *text;
	size_t len;

	if (value_get_secret(section, "api_key", NULL, &livekit->api_key,
		diag) != ERR_OK ||
	    value_get_secret(section, "api_secret", NULL, &livekit->api_secret,
		diag) != ERR_OK)
		return ERR_PROTO;
	if (livekit->api_key == NULL)
		return conf_fail(section, "api_key", diag,
		    "is missing: write api_key = \"env:LIVEKIT_API_KEY\"");
	if (livekit->api_secret == NULL)
		return conf_fail(section, "api_secret", diag,
		    "is missing: write api_secret = "
		    "\"env:LIVEKIT_API_SECRET\"");
	text = secret_peek(livekit->api_key, &len);
	if (!str_is_utf8(text, len)) /* it is a claim of every token */
		return conf_fail(section, "api_key", diag,
		    "has to be UTF-8 text");
	return ERR_OK;
}

static enum err
build_url(struct conf_section *section, struct config_livekit *livekit,
    struct diag *diag)
{
	const char *text = conf_string(section, "url", 0);
	struct config_url url;
	struct diag why;

	if (text == NULL)
		return conf_fail(section, "url", diag,
		    "is missing: write url = \"wss://x.livekit.cloud\"");
	if (url_parse(text, &url, &why) != ERR_OK)
		return conf_fail(section, "url", diag, "the URL %s", why.text);
	config_url_done(&url);
	livekit->url = xstrdup(text);
	return ERR_OK;
}

enum err
config_livekit_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	struct conf_section *section = conf_section(root, "livekit", 0);
	struct config_livekit *livekit;
	size_t count;
	enum err err;

	if (section == NULL)
		return ERR_OK;
	livekit = xcalloc(1, sizeof(*livekit));
	config->livekit = livekit;
	err = build_url(section, livekit, diag);
	if (err == ERR_OK)
		err = build_secrets(section, livekit, diag);
	if (err == ERR_OK)
		err = config_plan_get(section, config, NULL, &livekit->plan,
		    diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "require_user", false,
		    &livekit->require_user, diag);
	count = conf_section_count(section, "token");
	livekit->tokens = xcalloc(count + 1, sizeof(livekit->tokens[0]));
	for (size_t i = 0; err == ERR_OK && i < count; i++) {
		livekit->token_count++;
		err = build_token(conf_section(section, "token", i),
		    &livekit->tokens[i], diag);
	}
	if (count == 0)
		default_token(&livekit->tokens[livekit->token_count++]);
	return err;
}

/* ---- the way back ---- */

static void
open_section(FILE *out, int indent, const char *name, const char *title)
{
	for (int i = 0; i < indent; i++)
		(void)fputc('\t', out);
	(void)fprintf(out, "%s ", name);
	value_put_quoted(out, title);
	(void)fputs(" {\n", out);
}

static void
close_section(FILE *out, int indent)
{
	for (int i = 0; i < indent; i++)
		(void)fputc('\t', out);
	(void)fputs("}\n", out);
}

static void
dump_strings(const json_t *object, const struct string_claim *claims,
    int indent, FILE *out)
{
	for (; claims->key != NULL; claims++) {
		const json_t *value = json_object_get(object, claims->claim);

		if (value != NULL)
			value_put_text(out, indent, claims->key,
			    json_string_value(value));
	}
}

static void
dump_pairs(json_t *object, const char *name, int indent, FILE *out)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		open_section(out, indent, name, key);
		value_put_text(out, indent + 1, "value",
		    json_string_value(value));
		close_section(out, indent);
	}
}

static void
dump_grants(const json_t *claims, FILE *out)
{
	const json_t *video = json_object_get(claims, "video");
	const json_t *sources = json_object_get(video, "canPublishSources");

	for (size_t i = 0; i < sizeof(grants) / sizeof(grants[0]); i++) {
		const json_t *value =
		    json_object_get(json_object_get(claims, grants[i].group),
			grants[i].claim);

		if (value != NULL)
			value_put_bool(out, 2, grants[i].key,
			    json_is_true(value));
	}
	if (sources != NULL) {
		(void)fputs("\t\tcan_publish_sources = {", out);
		for (size_t i = 0; i < json_array_size(sources); i++) {
			(void)fputs(i == 0 ? "" : ", ", out);
			value_put_quoted(out,
			    json_string_value(json_array_get(sources, i)));
		}
		(void)fputs("}\n", out);
	}
	dump_strings(video, video_strings, 2, out);
}

static void
dump_room_config(const json_t *room, FILE *out)
{
	const json_t *agents = json_object_get(room, "agents");
	const json_t *sync = json_object_get(room, "syncStreams");

	(void)fputs("\t\troom_config {\n", out);
	dump_strings(room, room_strings, 3, out);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const json_t *value = json_object_get(room, numbers[i][1]);

		if (value != NULL)
			value_put_number(out, 3, numbers[i][0],
			    (uint64_t)json_integer_value(value));
	}
	if (sync != NULL)
		value_put_bool(out, 3, "sync_streams", json_is_true(sync));
	for (size_t i = 0; i < json_array_size(agents); i++) {
		const json_t *agent = json_array_get(agents, i);

		open_section(out, 3, "agent",
		    json_string_value(json_object_get(agent, "agentName")));
		dump_strings(agent, agent_strings, 4, out);
		dump_pairs(json_object_get(agent, "attributes"), "attribute", 4,
		    out);
		close_section(out, 3);
	}
	dump_pairs(json_object_get(room, "tags"), "tag", 3, out);
	close_section(out, 2);
}

/* The words of client_may_set. */
static void
dump_client(const struct config_token *token, FILE *out)
{
	char *words[5];
	struct config_strings list = { words, 0 };
	static char room[] = "room", name[] = "name", metadata[] = "metadata",
		    attributes[] = "attributes", agents[] = "agents";

	if (token->rooms.count > 0)
		words[list.count++] = room;
	if (token->client_name)
		words[list.count++] = name;
	if (token->client_metadata)
		words[list.count++] = metadata;
	if (token->client_attributes)
		words[list.count++] = attributes;
	if (token->client_agents)
		words[list.count++] = agents;
	value_put_list(out, 2, "client_may_set", &list);
}

static void
dump_token(const struct config_token *token, FILE *out)
{
	const json_t *room = json_object_get(token->claims, "roomConfig");
	char *fixed;

	open_section(out, 1, "token", token->name);
	dump_client(token, out);
	if (token->rooms.count > 0)
		value_put_list(out, 2, "rooms", &token->rooms);
	value_put_text(out, 2, "room", token->room);
	value_put_number(out, 2, "ttl", (uint64_t)token->ttl_s);
	if (token->identity_mode == IDENTITY_FIXED) {
		fixed = xasprintf("fixed:%s", token->identity);
		value_put_text(out, 2, "identity", fixed);
		free(fixed);
	} else {
		value_put_text(out, 2, "identity", "random");
		value_put_text(out, 2, "identity_prefix", token->identity);
	}
	value_put_list(out, 2, "client_agents", &token->agents);
	dump_strings(token->claims, claim_strings, 2, out);
	dump_pairs(json_object_get(token->claims, "attributes"), "attribute", 2,
	    out);
	dump_grants(token->claims, out);
	if (room != NULL)
		dump_room_config(room, out);
	close_section(out, 1);
}

void
config_livekit_dump(const struct config_livekit *livekit, FILE *out)
{
	(void)fputs("livekit {\n", out);
	value_put_text(out, 1, "url", livekit->url);
	value_put_secret(out, 1, "api_key", livekit->api_key);
	value_put_secret(out, 1, "api_secret", livekit->api_secret);
	value_put_text(out, 1, "plan", livekit->plan);
	value_put_bool(out, 1, "require_user", livekit->require_user);
	for (size_t i = 0; i < livekit->token_count; i++)
		dump_token(&livekit->tokens[i], out);
	(void)fputs("}\n", out);
}
