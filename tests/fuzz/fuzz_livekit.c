/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/livekit/livekit_token.h"
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW 1700000000

static void
require(int condition)
{
	if (!condition)
		abort();
}

static char any[] = "*", team[] = "team-*", prefix[] = "user-",
	    kiosk[] = "kiosk", hall[] = "hall", helper[] = "helper",
	    title[] = "default", url[] = "wss://x.example";
static char *any_room[] = { any };
static char *some_rooms[] = { team };
static char *agents[] = { helper };

static struct config_livekit livekit = { .url = url };

/* A template that lets a client set all that there is. */
static struct config_token open_template = {
	.name = title,
	.rooms = { any_room, 1 },
	.ttl_s = 600,
	.identity_mode = IDENTITY_RANDOM,
	.identity = prefix,
	.client_name = true,
	.client_metadata = true,
	.client_attributes = true,
	.client_agents = true,
	.agents = { agents, 1 },
};

static struct config_token closed_template = {
	.name = title,
	.rooms = { some_rooms, 1 },
	.room = hall,
	.ttl_s = 60,
	.identity_mode = IDENTITY_FIXED,
	.identity = kiosk,
};

static void
set_up(void)
{
	if (livekit.api_key != NULL)
		return;
	livekit.api_key = secret_new("APIkey", 6, "fuzz");
	livekit.api_secret = secret_new("secret", 6, "fuzz");
	open_template.claims = json_pack("{s:{s:b, s:b}}", "video", "roomJoin",
	    1, "canPublish", 0);
	closed_template.claims = json_pack("{s:{s:b}, s:s, s:s}", "video",
	    "roomJoin", 1, "name", "N", "metadata", "M");
}

/* No body may change what the template grants. */
static void
check_claims(const struct config_token *t, const struct livekit_token *token)
{
	json_t *video = json_deep_copy(json_object_get(token->claims, "video"));
	json_t *config = json_object_get(token->claims, "roomConfig");

	require(json_object_del(video, "room") == 0);
	require(json_equal(video, json_object_get(t->claims, "video")));
	json_decref(video);
	require(json_integer_value(json_object_get(token->claims, "exp")) ==
	    NOW + t->ttl_s);
	require(
	    strncmp(token->identity, t->identity, strlen(t->identity)) == 0);
	if (config != NULL) {
		require(json_object_size(config) == 1);
		require(
		    json_array_size(json_object_get(config, "agents")) == 1);
	}
	if (t == &open_template)
		return;
	require(config == NULL);
	require(strcmp(token->identity, "kiosk") == 0);
	require(strcmp(token->room, "hall") == 0 ||
	    strncmp(token->room, "team-", 5) == 0);
	require(json_object_get(token->claims, "attributes") == NULL);
	require(
	    strcmp(json_string_value(json_object_get(token->claims, "name")),
		"N") == 0);
}

static void
try_template(const struct config_token *t, const json_t *body)
{
	struct livekit_token token;
	struct diag diag = { "" };
	char *text;
	enum err err;

	err = livekit_token_make(&livekit, t, body, NOW, &token, &diag);
	if (err != ERR_OK) {
		require(
		    err == ERR_PROTO || err == ERR_DENIED || err == ERR_LIMIT);
		require(diag.text[0] != '\0');
		return;
	}
	check_claims(t, &token);
	err = livekit_token_sign(&livekit, &token, &text, &diag);
	require(err == ERR_OK || err == ERR_LIMIT);
	if (err == ERR_OK)
		free(text);
	livekit_token_done(&token);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *body;

	set_up();
	if (json_parse(data, size, &body, NULL) != ERR_OK)
		return 0;
	try_template(&open_template, body);
	try_template(&closed_template, body);
	json_decref(body);
	return 0;
}
