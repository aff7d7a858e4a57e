/* SPDX-License-Identifier: MIT */
#include "broker/config/config_chat.h"

#include <stdlib.h>
#include <string.h>

#include "broker/config/config_plan.h"
#include "broker/config/config_value.h"
#include "broker/config/url.h"
#include "common/secret.h"
#include "common/xalloc.h"

#define URL_DEFAULT "https://api.openai.com/v1"
#define KEY_DEFAULT "env:OPENAI_API_KEY"
#define ENDPOINT    "/chat/completions"

#define SYSTEM_BYTES	 (256 * 1024)
#define KEEP_MAX	 315360000 /* ten years */
#define ANONYMOUS_KEEP	 2592000   /* thirty days */
/* what JSON puts around a message, and makes of some of its characters */
#define AROUND_BYTES 4096

/* ---- the vendor ---- */

static enum err
check_url(struct conf_section *section, struct config_chat *chat,
    const struct config_url *url, struct diag *diag)
{
	if (url->query != NULL)
		return conf_fail(section, "url", diag,
		    "has a query: write what stands before " ENDPOINT);
	if (!url->tls && !chat->allow_http && !url_host_is_local(url->host))
		return conf_fail(section, "url", diag,
		    "sends key and messages in the clear: write allow_http = "
		    "true where the network between is yours");
	/* who writes the name of this machine means it */
	if (url_host_is_local(url->host))
		chat->allow_private = true;
	return ERR_OK;
}

static enum err
build_url(struct conf_section *section, struct config_chat *chat,
    struct diag *diag)
{
	static const char end[] = ENDPOINT;
	struct config_url url = { .tls = false };
	struct diag why;
	size_t len;
	char *text;
	enum err err =
	    value_get_text(section, "url", NULL, URL_DEFAULT, &text, diag);

	if (err != ERR_OK)
		return err;
	if (url_parse_http(text, &url, &why) != ERR_OK)
		err = conf_fail(section, "url", diag, "%s", why.text);
	else
		err = check_url(section, chat, &url, diag);
	config_url_done(&url);
	len = strlen(text);
	/* as it stands in an example of curl's */
	if (len >= sizeof(end) - 1 &&
	    strcmp(text + len - (sizeof(end) - 1), end) == 0)
		len -= sizeof(end) - 1;
	while (len > 0 && text[len - 1] == '/')
		len--;
	chat->url = xasprintf("%.*s" ENDPOINT, (int)len, text);
	free(text);
	return err;
}

/* A server of one's own may want no key; OpenAI does. */
static enum err
build_key(struct conf_section *section, struct config_chat *chat,
    struct diag *diag)
{
	const char *spec = conf_string(section, "api_key", 0);
	struct secret *secret = NULL;

	if (spec != NULL && *spec == '\0')
		return ERR_OK;
	if (value_get_secret(section, "api_key",
		conf_given(section, "url") ? NULL : KEY_DEFAULT, &secret,
		diag) != ERR_OK)
		return ERR_PROTO;
	if (secret == NULL)
		return ERR_OK;
	chat->headers = xcalloc(1, sizeof(chat->headers[0]));
	chat->header_count = 1;
	chat->headers[0] = (struct config_header){
		.name = xstrdup("Authorization"),
		.prefix = xstrdup("Bearer "),
		.secret = secret,
	};
	return ERR_OK;
}

static const char *
check_model(const char *text)
{
	if (strchr(text, '*') != NULL)
		return "this is one model's name: write it without *";
	return value_check_word(text);
}

static enum err
build_models(struct conf_section *section, struct config_chat *chat,
    struct diag *diag)
{
	enum err err = value_get_list(section, "models", check_model, NULL,
	    &chat->models, diag);

	if (err == ERR_OK && chat->models.count == 0)
		err = conf_fail(section, "models", diag,
		    "is missing: name the models that may be asked for; the "
		    "first is the default");
	return err;
}

static enum err
build_system(struct conf_section *section, struct config_chat *chat,
    struct diag *diag)
{
	enum err err;

	if (conf_given(section, "system") && conf_given(section, "system_file"))
		return conf_fail(section, "system", diag,
		    "goes without system_file: leave out one of them");
	err = value_get_optional(section, "system", NULL, &chat->system, diag);
	if (err == ERR_OK && chat->system == NULL)
		err = value_get_text_file(section, "system_file", SYSTEM_BYTES,
		    &chat->system_file, &chat->system, diag);
	return err;
}

static enum err
build_vendor(struct conf_section *section, struct config_chat *chat,
    struct diag *diag)
{
	enum err err = value_get_bool(section, "allow_http", false,
	    &chat->allow_http, diag);

	if (err == ERR_OK)
		err = value_get_bool(section, "allow_private", false,
		    &chat->allow_private, diag);
	if (err == ERR_OK)
		err = build_url(section, chat, diag);
	if (err == ERR_OK)
		err = build_key(section, chat, diag);
	if (err == ERR_OK)
		err = build_models(section, chat, diag);
	if (err == ERR_OK)
		err = build_system(section, chat, diag);
	if (err == ERR_OK)
		err = value_get_ca_file(section, &chat->ca_file, diag);
	return err;
}

/* ---- numbers ---- */

struct number {
	const char *key;
	size_t offset; /* in struct config_chat; all are 64 bits wide */
	uint64_t scale, min, max, fallback;
};

#define NUMBER(key, member, scale, min, max, fallback)                      \
	{                                                                   \
		key, offsetof(struct config_chat, member), scale, min, max, \
		    fallback                                                \
	}

static const struct number numbers[] = {
	NUMBER("content_bytes", content_bytes, 1, 1, 1 << 24, 32768),
	NUMBER("history_messages", history_messages, 1, 1, 10000, 50),
	NUMBER("history_bytes", history_bytes, 1, 1, 1 << 24, 65536),
	NUMBER("max_output_tokens", max_output_tokens, 1, 1, 1000000, 4096),
	NUMBER("answer_bytes", answer_bytes, 1, 1024, 1 << 24, 1 << 20),
	NUMBER("first_timeout", first_ms, 1000, 1, 3600, 60),
	NUMBER("idle_timeout", idle_ms, 1000, 1, 3600, 60),
	NUMBER("total_timeout", total_ms, 1000, 1, 86400, 600),
	NUMBER("detach_timeout", detach_ms, 1000, 0, 86400, 60),
	NUMBER("heartbeat", heartbeat_ms, 1000, 1, 300, 15),
	NUMBER("replay", replay_s, 1, 0, 86400, 300),
	NUMBER("max_chats", max_chats, 1, 1, 1000000, 1000),
	NUMBER("max_turns", max_turns, 1, 2, 1000000, 2000),
	NUMBER("keep", keep_s, 1, 0, KEEP_MAX, 0),
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static enum err
build_streams(struct conf_section *section, struct config_chat *chat,
    struct diag *diag)
{
	uint64_t all = 0, own = 0, readers = 0;
	enum err err = value_get_number(section, "max_streams", 1, 100000, 200,
	    &all, diag);

	if (err == ERR_OK)
		err = value_get_number(section, "max_streams_per_owner", 1, all,
		    all < 4 ? all : 4, &own, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "max_readers", 1, 10000, 32,
		    &readers, diag);
	chat->max_readers = (unsigned)readers;
	chat->max_streams = (unsigned)all;
	chat->max_streams_per_owner = (unsigned)own;
	return err;
}

/* What does not fit in what has to hold it. */
static enum err
check_sizes(struct conf_section *section, const struct config *config,
    struct diag *diag)
{
	const struct config_chat *chat = config->chat;

	if (chat->history_bytes < chat->content_bytes)
		return conf_fail(section, "history_bytes", diag,
		    "is less than content_bytes: a message would not be sent");
	if (config->requests.body_bytes < chat->content_bytes + AROUND_BYTES)
		return conf_fail(section, "content_bytes", diag,
		    "does not fit in a request: write requests { body_bytes = "
		    "%llu }",
		    (unsigned long long)chat->content_bytes * 2 + AROUND_BYTES);
	return ERR_OK;
}

static enum err
build_numbers(struct conf_section *section, const struct config *config,
    struct config_chat *chat, struct diag *diag)
{
	enum err err = ERR_OK;

	for (size_t i = 0; err == ERR_OK && i < NUMBERS; i++) {
		const struct number *number = &numbers[i];
		uint64_t value = 0;

		err = value_get_number(section, number->key, number->min,
		    number->max, number->fallback, &value, diag);
		value *= number->scale;
		memcpy((char *)chat + number->offset, &value, sizeof(value));
	}
	if (err == ERR_OK)
		err = build_streams(section, chat, diag);
	if (err == ERR_OK)
		err = check_sizes(section, config, diag);
	return err;
}

/* ---- users ---- */

/* Every model must have a price, and in the same money. */
static enum err
check_prices(struct conf_section *section, const struct config *config,
    struct diag *diag)
{
	const struct config_strings *models = &config->chat->models;
	const struct price *first = NULL;

	for (size_t i = 0; i < models->count; i++) {
		const struct price *price =
		    config_find_price(config, models->items[i]);

		if (price == NULL || !price->has_tokens[STORE_INPUT_TEXT] ||
		    !price->has_tokens[STORE_OUTPUT_TEXT])
			return conf_fail(section, "balance", diag,
			    "%.60s has no price: write prices \"%.60s\" { "
			    "input_text = ... output_text = ... }, or balance "
			    "= false",
			    models->items[i], models->items[i]);
		if (first == NULL)
			first = price;
		if (strcmp(price->currency, first->currency) != 0)
			return conf_fail(section, "balance", diag,
			    "%.60s is priced in %s, and %.60s in %s: a balance "
			    "is in one currency",
			    models->items[0], first->currency, models->items[i],
			    price->currency);
	}
	return ERR_OK;
}

static enum err
build_users(struct conf_section *section, const struct config *config,
    struct config_chat *chat, struct diag *diag)
{
	enum err err = value_get_bool(section, "balance", config->users != NULL,
	    &chat->balance, diag);

	if (err == ERR_OK)
		err = value_get_bool(section, "require_user", false,
		    &chat->require_user, diag);
	if (err == ERR_OK && chat->balance)
		err = check_prices(section, config, diag);
	return err;
}

static enum err
build_anonymous(struct conf_section *section, const struct config *config,
    struct config_chat *chat, struct diag *diag)
{
	uint64_t messages = 0, window = 0, keep = 0;
	enum err err = value_get_bool(section, "allow", true,
	    &chat->anonymous.allowed, diag);

	if (err == ERR_OK)
		err = value_get_number(section, "messages", 1, 1000000, 20,
		    &messages, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "window", 1, 31536000, 86400,
		    &window, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "keep", 0, KEEP_MAX,
		    ANONYMOUS_KEEP, &keep, diag);
	chat->anonymous.messages = (int64_t)messages;
	chat->anonymous.window_s = (int64_t)window;
	chat->anonymous.keep_s = (int64_t)keep;
	if (err == ERR_OK && !chat->anonymous.allowed && config->users == NULL)
		err = conf_fail(section, "allow", diag,
		    "leaves nobody: users { ... } says who may sign in");
	return err;
}

/* ---- the section ---- */

enum err
config_chat_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	struct conf_section *section = conf_section(root, "chat", 0);
	struct config_chat *chat;
	enum err err;

	if (section == NULL)
		return ERR_OK;
	if (config->store.path == NULL)
		return conf_fail(section, NULL, diag,
		    "chats have to be kept: write store { path = "
		    "\"/var/lib/culvert/culvert.db\" }");
	chat = xcalloc(1, sizeof(*chat));
	config->chat = chat;
	err = build_vendor(section, chat, diag);
	if (err == ERR_OK)
		err = build_numbers(section, config, chat, diag);
	if (err == ERR_OK)
		err = config_plan_get(section, config, NULL, &chat->plan, diag);
	if (err == ERR_OK)
		err = build_users(section, config, chat, diag);
	if (err == ERR_OK)
		err = build_anonymous(conf_section(section, "anonymous", 0),
		    config, chat, diag);
	return err;
}

/* ---- the way back ---- */

void
config_chat_dump(const struct config_chat *chat, FILE *out)
{
	(void)fputs("chat {\n", out);
	if (chat->header_count > 0)
		value_put_secret(out, 1, "api_key", chat->headers[0].secret);
	else
		value_put_text(out, 1, "api_key", NULL);
	/* url_parse_http() has seen to it that nothing in it wants escaping */
	(void)fprintf(out, "\turl = \"%.*s\"\n",
	    (int)(strlen(chat->url) - strlen(ENDPOINT)), chat->url);
	value_put_list(out, 1, "models", &chat->models);
	if (chat->system_file != NULL || chat->system == NULL)
		value_put_text(out, 1, "system_file", chat->system_file);
	else
		(void)fprintf(out, "\t# system: %zu bytes\n",
		    strlen(chat->system));
	value_put_text(out, 1, "ca_file", chat->ca_file);
	value_put_bool(out, 1, "allow_http", chat->allow_http);
	value_put_bool(out, 1, "allow_private", chat->allow_private);
	for (size_t i = 0; i < NUMBERS; i++) {
		uint64_t value;

		memcpy(&value, (const char *)chat + numbers[i].offset,
		    sizeof(value));
		value_put_number(out, 1, numbers[i].key,
		    value / numbers[i].scale);
	}
	value_put_number(out, 1, "max_streams", chat->max_streams);
	value_put_number(out, 1, "max_streams_per_owner",
	    chat->max_streams_per_owner);
	value_put_number(out, 1, "max_readers", chat->max_readers);
	value_put_text(out, 1, "plan", chat->plan);
	(void)fputs("\tanonymous {\n", out);
	value_put_bool(out, 2, "allow", chat->anonymous.allowed);
	value_put_number(out, 2, "messages",
	    (uint64_t)chat->anonymous.messages);
	value_put_number(out, 2, "window", (uint64_t)chat->anonymous.window_s);
	value_put_number(out, 2, "keep", (uint64_t)chat->anonymous.keep_s);
	(void)fputs("\t}\n", out);
	value_put_bool(out, 1, "balance", chat->balance);
	value_put_bool(out, 1, "require_user", chat->require_user);
	(void)fputs("}\n", out);
}
