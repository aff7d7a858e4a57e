/* SPDX-License-Identifier: MIT */
#include "broker/config/config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "common/xalloc.h"

/* What callers see, and how many of them hold it. */
struct counted {
	struct config config; /* first: a pointer to it is one to this */
	atomic_uint refs;
};

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;
static struct config *current;

struct config *
config_new(void)
{
	struct counted *counted = xcalloc(1, sizeof(*counted));

	atomic_init(&counted->refs, 1);
	return &counted->config;
}

struct config *
config_ref(struct config *config)
{
	struct counted *counted = (struct counted *)config;

	(void)atomic_fetch_add(&counted->refs, 1);
	return config;
}

static void
strings_done(struct config_strings *strings)
{
	for (size_t i = 0; i < strings->count; i++)
		free(strings->items[i]);
	free(strings->items);
}

void
config_strings_done(struct config_strings *strings)
{
	strings_done(strings);
	*strings = (struct config_strings){ NULL, 0 };
}

void
config_url_done(struct config_url *url)
{
	free(url->host);
	free(url->authority);
	free(url->path);
	free(url->query);
}

static void
query_done(struct config_query *query)
{
	free(query->name);
	strings_done(&query->values);
	free(query->fallback);
	strings_done(&query->fallback_unless);
	for (size_t i = 0; i < query->alias_count; i++) {
		free(query->aliases[i].from);
		free(query->aliases[i].to);
	}
	free(query->aliases);
}

static void
messages_done(struct config_messages *messages)
{
	json_decref(messages->session);
	free(messages->model);
	free(messages->instructions_file);
	free(messages->tools_file);
	strings_done(&messages->client_may);
}

static void
headers_free(struct config_header *headers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(headers[i].name);
		free(headers[i].prefix);
		secret_free(headers[i].secret);
	}
	free(headers);
}

static void
relay_done(struct config_relay *relay)
{
	free(relay->name);
	strings_done(&relay->paths);
	config_url_done(&relay->upstream);
	free(relay->ca_file);
	headers_free(relay->headers, relay->header_count);
	for (size_t i = 0; i < relay->query_count; i++)
		query_done(&relay->queries[i]);
	free(relay->queries);
	strings_done(&relay->subprotocols);
	messages_done(&relay->messages);
	free(relay->message_log.mode);
	free(relay->message_log.file);
	free(relay->plan);
	free(relay->over_budget);
}

static void
livekit_free(struct config_livekit *livekit)
{
	if (livekit == NULL)
		return;
	free(livekit->url);
	secret_free(livekit->api_key);
	secret_free(livekit->api_secret);
	for (size_t i = 0; i < livekit->token_count; i++) {
		struct config_token *token = &livekit->tokens[i];

		free(token->name);
		strings_done(&token->rooms);
		free(token->room);
		free(token->identity);
		strings_done(&token->agents);
		json_decref(token->claims);
	}
	free(livekit->tokens);
	free(livekit->plan);
	free(livekit);
}

static void
anam_free(struct config_anam *anam)
{
	if (anam == NULL)
		return;
	secret_free(anam->api_key);
	free(anam->url);
	strings_done(&anam->hosts);
	strings_done(&anam->personas);
	for (size_t i = 0; i < anam->kept_count; i++) {
		free(anam->kept[i].name);
		free(anam->kept[i].file);
		json_decref(anam->kept[i].value);
	}
	free(anam->kept);
	free(anam->public_url);
	free(anam->ca_file);
	free(anam->plan);
	free(anam);
}

static void
chat_free(struct config_chat *chat)
{
	if (chat == NULL)
		return;
	free(chat->url);
	headers_free(chat->headers, chat->header_count);
	free(chat->ca_file);
	strings_done(&chat->models);
	free(chat->system);
	free(chat->system_file);
	free(chat->plan);
	free(chat);
}

static void
users_free(struct config_users *users)
{
	if (users == NULL)
		return;
	crypt_key_free(users->key);
	free(users->key_source);
	free(users->jwks_file);
	free(users->jwks_url);
	free(users->ca_file);
	strings_done(&users->algorithms);
	free(users->issuer);
	free(users->audience);
	free(users->user_claim);
	free(users->plan_claim);
	free(users->cookie);
	free(users);
}

static void
socketio_free(struct config_socketio *socketio)
{
	if (socketio == NULL)
		return;
	free(socketio->path);
	free(socketio->engine_path);
	free(socketio);
}

void
config_unref(struct config *config)
{
	struct counted *counted = (struct counted *)config;

	if (config == NULL || atomic_fetch_sub(&counted->refs, 1) != 1)
		return;
	free(config->path);
	free(config->access.clients);
	strings_done(&config->access.origins);
	free(config->control.socket);
	free(config->control.users);
	free(config->requests.base_path);
	secret_free(config->tickets.secret);
	users_free(config->users);
	free(config->store.path);
	for (size_t i = 0; i < config->price_count; i++)
		free(config->prices[i].models);
	free(config->prices);
	for (size_t i = 0; i < config->plan_count; i++)
		free(config->plans[i].name);
	free(config->plans);
	free(config->limits.user);
	free(config->limits.anonymous);
	free(config->limits.address);
	for (size_t i = 0; i < config->relay_count; i++)
		relay_done(&config->relays[i]);
	free(config->relays);
	livekit_free(config->livekit);
	anam_free(config->anam);
	chat_free(config->chat);
	socketio_free(config->socketio);
	free(counted);
}

struct config *
config_current(void)
{
	struct config *config;

	(void)pthread_mutex_lock(&current_lock);
	config = current == NULL ? NULL : config_ref(current);
	(void)pthread_mutex_unlock(&current_lock);
	return config;
}

void
config_set_current(struct config *config)
{
	struct config *old;

	(void)pthread_mutex_lock(&current_lock);
	old = current;
	current = config;
	(void)pthread_mutex_unlock(&current_lock);
	config_unref(old);
}

const struct config_relay *
config_find_relay(const struct config *config, const char *path)
{
	for (size_t i = 0; i < config->relay_count; i++) {
		const struct config_strings *paths = &config->relays[i].paths;

		for (size_t k = 0; k < paths->count; k++)
			if (strcmp(paths->items[k], path) == 0)
				return &config->relays[i];
	}
	return NULL;
}

const struct config_relay *
config_find_relay_by_name(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->relay_count; i++)
		if (strcmp(config->relays[i].name, name) == 0)
			return &config->relays[i];
	return NULL;
}

const struct price *
config_find_price(const struct config *config, const char *model)
{
	for (size_t i = 0; i < config->price_count; i++)
		if (str_match(config->prices[i].models, model))
			return &config->prices[i].price;
	return NULL;
}

const struct config_plan *
config_find_plan(const struct config *config, const char *name)
{
	for (size_t i = 0; name != NULL && i < config->plan_count; i++)
		if (strcmp(config->plans[i].name, name) == 0)
			return &config->plans[i];
	return NULL;
}

const char *
config_chat_currency(const struct config *config)
{
	const struct price *price = config->chat == NULL
	    ? NULL
	    : config_find_price(config, config->chat->models.items[0]);

	return price == NULL ? NULL : price->currency;
}

const struct config_token *
config_find_token(const struct config *config, const char *name)
{
	const struct config_livekit *livekit = config->livekit;

	for (size_t i = 0; livekit != NULL && i < livekit->token_count; i++)
		if (strcmp(livekit->tokens[i].name, name) == 0)
			return &livekit->tokens[i];
	return NULL;
}

const struct config_persona *
config_find_persona(const struct config *config, const char *name)
{
	const struct config_anam *anam = config->anam;

	for (size_t i = 0; anam != NULL && i < anam->kept_count; i++)
		if (strcmp(anam->kept[i].name, name) == 0)
			return &anam->kept[i];
	return NULL;
}
