/* SPDX-License-Identifier: MIT */
#include "broker/config/config_notice.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "broker/config/config_plan.h"
#include "broker/config/config_socketio.h"
#include "broker/config/url.h"
#include "broker/http/access.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/xalloc.h"

/* Shorter than SHA-256 is (RFC 7518 3.2), it can be guessed from a token. */
#define LIVEKIT_SECRET_BYTES 32

/* A group may be meant to read it, the others never are. */
static void
notice_source(const char *source)
{
	struct stat st;

	if (strncmp(source, "file:", 5) == 0 && stat(source + 5, &st) == 0 &&
	    S_ISREG(st.st_mode) && (st.st_mode & S_IROTH) != 0)
		log_warning("config.open_secret",
		    "secret=%s mode=%04o reason=\"every user of this machine "
		    "may read it: chmod o= it\"",
		    source, (unsigned int)st.st_mode & 07777);
}

static void
notice_secret(const struct secret *secret)
{
	notice_source(secret_source(secret));
}

static void
notice_relay(const struct config_relay *relay)
{
	bool has_key = false;

	for (size_t i = 0; i < relay->header_count; i++) {
		if (relay->headers[i].secret == NULL)
			continue;
		has_key = true;
		notice_secret(relay->headers[i].secret);
	}
	if (!has_key)
		log_warning("config.no_key",
		    "route=%s reason=\"the vendor gets no key from us\"",
		    relay->name);
	else if (!relay->upstream.tls &&
	    !url_host_is_local(relay->upstream.host))
		log_warning("config.plain_secret",
		    "route=%s reason=\"ws:// sends its key in the clear\"",
		    relay->name);
}

/* What is asked for of a relay's clients, and cannot be had. */
static void
notice_tickets(const struct config *config, const struct config_relay *relay)
{
	if (relay->client_secrets && config->store.path == NULL)
		log_warning("config.no_store",
		    "route=%s reason=\"`client_secrets' needs a store: write "
		    "`store { path = ... }'\"",
		    relay->name);
	if (relay->calls && relay->messages.pinned)
		log_warning("config.past_pin",
		    "route=%s reason=\"`calls' go past culvert: a client can "
		    "change in them what `session' pins\"",
		    relay->name);
}

/* systemd makes the folder only when the service starts: no error yet. */
static void
notice_message_log(const struct config *config, size_t relay)
{
	const struct config_relay *relays = config->relays;
	const char *file = relays[relay].message_log.file;
	struct stat st;
	char *folder;

	if (relays[relay].message_log.mode == NULL)
		return;
	for (size_t i = 0; i < relay; i++) /* once for those that inherit it */
		if (relays[i].message_log.mode != NULL &&
		    strcmp(relays[i].message_log.file, file) == 0)
			return;
	folder = xstrndup(file, (size_t)(strrchr(file, '/') - file) + 1);
	if (stat(folder, &st) == -1 || !S_ISDIR(st.st_mode))
		log_warning("config.no_log_folder",
		    "route=%s file=%s reason=\"no message is logged before its "
		    "folder is there\"",
		    relays[relay].name, file);
	free(folder);
}

/* Whether any group of grants ("video", "sip", ...) has one. */
static bool
grants_something(const struct config_token *token)
{
	static const char *const groups[] = { "video", "sip", "agent",
		"inference", "observability" };

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (json_object_size(
			json_object_get(token->claims, groups[i])) > 0)
			return true;
	return false;
}

static void
notice_livekit(const struct config_livekit *livekit)
{
	size_t len;

	notice_secret(livekit->api_key);
	notice_secret(livekit->api_secret);
	for (size_t i = 0; i < livekit->token_count; i++)
		if (!grants_something(&livekit->tokens[i]))
			log_warning("config.no_grants",
			    "token=%s reason=\"its tokens allow nothing: "
			    "`room_join = true' lets a client join\"",
			    livekit->tokens[i].name);

	(void)secret_peek(livekit->api_secret, &len);
	if (len < LIVEKIT_SECRET_BYTES)
		log_warning("config.short_secret",
		    "key=livekit.api_secret "
		    "bytes=%zu reason=\"under %d bytes it can be guessed\"",
		    len, LIVEKIT_SECRET_BYTES);
}

static void
notice_anam(const struct config_anam *anam)
{
	notice_secret(anam->api_key);
	if (anam->personas.count == 0 && anam->kept_count == 0)
		log_warning("config.no_persona",
		    "reason=\"no session is given: name personas in section "
		    "`anam'\"");
}

static void
notice_users(const struct config_users *users)
{
	bool is_secret = users->key != NULL && users->key_source[0] != '/';
	bool has_keys = users->key != NULL || users->jwks_file != NULL ||
	    users->jwks_url != NULL;

	if (is_secret)
		notice_source(users->key_source);
	/* a key that others can only verify with signs for many sites */
	if (has_keys && !is_secret && users->audience == NULL)
		log_warning("config.any_audience",
		    "reason=\"tokens that were made for another site are good "
		    "here: `audience' in section `users' says what ours "
		    "have\"");
}

static void
notice_chat(const struct config_chat *chat, bool has_users)
{
	struct config_url url = { .tls = false };

	if (url_parse_http(chat->url, &url, NULL) != ERR_OK)
		return; /* not possible: it was read so */
	if (chat->header_count > 0)
		notice_secret(chat->headers[0].secret);
	else if (!url_host_is_local(url.host))
		log_warning("config.no_key",
		    "route=chat reason=\"the vendor gets no key from us\"");
	if (!url.tls && !url_host_is_local(url.host))
		log_warning("config.plain_secret",
		    "route=chat reason=\"http:// sends its key and every "
		    "message in the clear\"");
	config_url_done(&url);
	if (has_users && !chat->balance)
		log_notice("config.no_balance",
		    "reason=\"users who have signed in pay for nothing: what "
		    "they use is counted, not limited\"");
}

/* Whether a budget of money may miss what some model costs. */
static void
notice_unpriced(const struct config *config)
{
	bool counts = false;

	for (size_t i = 0; i < config->plan_count; i++)
		counts = counts || config->plans[i].day_money > 0;
	for (size_t i = 0; counts && i < config->relay_count; i++) {
		const struct config_relay *relay = &config->relays[i];
		const char *models = config_plan_unpriced(config, relay);

		if (models != NULL)
			log_warning("config.no_price",
			    "route=%s models=%s reason=\"`day_money' does not "
			    "count what a model without a price costs: write "
			    "a `prices' section for it\"",
			    relay->name, models);
	}
}

void
config_notice_log(const struct config *config)
{
	if (access_is_loopback_only(config))
		log_notice("config.loopback_only",
		    "file=%s reason=\"only clients of this machine are "
		    "served: `clients' and `origins' in section `access' "
		    "admit others\"",
		    config->path);
	if (config->relay_count == 0 && config->livekit == NULL &&
	    config->anam == NULL && config->socketio == NULL)
		log_warning("config.no_routes",
		    "file=%s reason=\"no `openai', `relay', `livekit', `anam' "
		    "or `chat' section: nothing is served\"",
		    config->path);
	for (size_t i = 0; i < config->relay_count; i++) {
		notice_relay(&config->relays[i]);
		notice_tickets(config, &config->relays[i]);
		notice_message_log(config, i);
	}
	notice_unpriced(config);
	if (config->users != NULL)
		notice_users(config->users);
	if (config->livekit != NULL)
		notice_livekit(config->livekit);
	if (config->anam != NULL)
		notice_anam(config->anam);
	if (config->chat != NULL)
		notice_chat(config->chat, config->users != NULL);
	if (config->socketio != NULL && config->socketio->echo)
		log_warning("config.echo",
		    "reason=\"`echo' in section `socketio' is for conformance "
		    "tests: it answers whatever it is sent\"");
}

/* ---- what a reload does not change -------------------------------------- */

static bool
is_same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool
is_same_secret(const struct secret *a, const struct secret *b)
{
	size_t a_len, b_len;
	const char *a_text, *b_text;

	if (a == NULL || b == NULL)
		return a == b;
	a_text = secret_peek(a, &a_len);
	b_text = secret_peek(b, &b_len);
	return a_len == b_len && memcmp(a_text, b_text, a_len) == 0;
}

void
config_notice_restart(const struct config *config, const struct config *started)
{
	const struct {
		const char *key;
		bool is_same;
	} keys[] = {
		{ "control.socket",
		    is_same_text(config->control.socket,
			started->control.socket) },
		{ "control.mode",
		    config->control.mode == started->control.mode },
		{ "requests.threads",
		    config->requests.threads == started->requests.threads },
		{ "requests.stop",
		    config->requests.stop_ms == started->requests.stop_ms },
		{ "store.path",
		    is_same_text(config->store.path, started->store.path) },
		{ "tickets.secret",
		    is_same_secret(config->tickets.secret,
			started->tickets.secret) },
		{ "tickets.rotate",
		    config->tickets.rotate_s == started->tickets.rotate_s },
		{ "socketio",
		    config_socketio_equal(config->socketio,
			started->socketio) },
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!keys[i].is_same)
			log_warning("config.needs_restart",
			    "key=%s reason=\"it takes effect after a "
			    "restart\"",
			    keys[i].key);
}
