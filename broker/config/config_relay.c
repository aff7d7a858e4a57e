/* SPDX-License-Identifier: MIT */
#include "broker/config/config_relay.h"

#include <stdlib.h>
#include <string.h>

#include "broker/config/config_messages.h"
#include "broker/config/config_plan.h"
#include "broker/config/config_rules.h"
#include "broker/config/config_value.h"
#include "broker/config/url.h"
#include "common/xalloc.h"

#define OPENAI_LIMIT_MS	  (3600 * 1000) /* of one session */
#define OPENAI_WARNING_MS (300 * 1000)

static struct config_relay *
add_relay(struct config *config, const char *name)
{
	struct config_relay *relay;

	config->relays = xreallocarray(config->relays, config->relay_count + 1,
	    sizeof(config->relays[0]));
	relay = &config->relays[config->relay_count++];
	memset(relay, 0, sizeof(*relay));
	relay->name = xstrdup(name);
	return relay;
}

/* ---- paths, limits, upstream ---- */

/* Every path leads to one relay. */
static enum err
check_paths(struct conf_section *section, const struct config *config,
    const struct config_relay *relay, struct diag *diag)
{
	for (size_t i = 0; i < relay->paths.count; i++) {
		const char *path = relay->paths.items[i];
		const struct config_relay *other =
		    config_find_relay(config, path);
		size_t k = 0;

		while (strcmp(relay->paths.items[k], path) != 0)
			k++;
		if (k < i || other != relay)
			return conf_fail(section, NULL, diag,
			    "the path %.60s leads to %.60s already", path,
			    other->name);
	}
	return ERR_OK;
}

static enum err
build_common(struct conf_section *section, const struct relay_limits *tunnel,
    const struct config_relay *base, struct config_relay *relay,
    struct diag *diag)
{
	struct relay_limits limits = { .max_connections = 0 }, inherited;
	enum err err;

	if (base != NULL) {
		inherited.wire = base->limits;
		inherited.max_connections = base->max_connections;
		tunnel = &inherited;
	}
	err = value_get_limits(section, tunnel, &limits, diag);
	relay->limits = limits.wire;
	relay->max_connections = limits.max_connections;
	if (err == ERR_OK)
		err = value_get_ca_file(section, &relay->ca_file, diag);
	if (err == ERR_OK && base != NULL && base->ca_file != NULL &&
	    !conf_given(section, "ca_file"))
		relay->ca_file = xstrdup(base->ca_file);
	if (err == ERR_OK)
		err = value_get_bool(section, "allow_private",
		    base != NULL && base->allow_private, &relay->allow_private,
		    diag);
	if (err == ERR_OK)
		err = config_messages_build(section, base,
		    strcmp(relay->name, "openai") == 0, relay, diag);
	return err;
}

static void
copy_url(const struct config_url *from, struct config_url *to)
{
	to->tls = from->tls;
	to->host = xstrdup(from->host);
	to->port = from->port;
	to->authority = xstrdup(from->authority);
	to->path = xstrdup(from->path);
	to->query = from->query == NULL ? NULL : xstrdup(from->query);
}

static enum err
build_url(struct conf_section *section, const char *key, const char *fallback,
    const struct config_relay *base, struct config_relay *relay,
    struct diag *diag)
{
	const char *text = conf_string(section, key, 0);
	struct diag why;

	if (text == NULL)
		text = fallback;
	if (text == NULL && base == NULL)
		return conf_fail(section, key, diag,
		    "is missing: write %s = \"wss://vendor.example/path\"",
		    key);
	if (text == NULL)
		copy_url(&base->upstream, &relay->upstream);
	else if (url_parse(text, &relay->upstream, &why) != ERR_OK)
		return conf_fail(section, key, diag, "the URL %s", why.text);
	if (relay->ca_file != NULL && !relay->upstream.tls)
		return conf_fail(section, "ca_file", diag,
		    "ws:// has no certificate to check: write wss://");
	return ERR_OK;
}

/* ---- relay ---- */

static enum err
build_subprotocols(struct conf_section *section,
    const struct config_relay *base, struct config_relay *relay,
    struct diag *diag)
{
	const char *mode = conf_string(section, "subprotocol_mode", 0);

	if (value_get_list(section, "subprotocols", value_check_token, NULL,
		&relay->subprotocols, diag) != ERR_OK)
		return ERR_PROTO;
	if (base != NULL && !conf_given(section, "subprotocols"))
		value_copy_list(&base->subprotocols, &relay->subprotocols);
	if (relay->subprotocols.count > WIRE_SUBPROTOCOLS_MAX)
		return conf_fail(section, "subprotocols", diag,
		    "more than %d items", WIRE_SUBPROTOCOLS_MAX);
	relay->subprotocol_pass = base != NULL && base->subprotocol_pass;
	if (mode == NULL)
		return ERR_OK;
	relay->subprotocol_pass = strcmp(mode, "pass") == 0;
	if (!relay->subprotocol_pass && strcmp(mode, "answer") != 0)
		return conf_fail(section, "subprotocol_mode", diag,
		    "%.40s: write \"answer\" or \"pass\"", mode);
	return ERR_OK;
}

static enum err
build_relay_paths(struct conf_section *section, struct config *config,
    struct config_relay *relay, struct diag *diag)
{
	const char *fallback[] = { conf_title(section), NULL };
	const char *wrong = value_check_path(fallback[0]);
	struct config_strings *paths = &relay->paths;

	if (wrong == NULL && strlen(fallback[0]) > VALUE_ITEM_MAX)
		wrong = "longer than 256 bytes";
	if (wrong != NULL)
		return conf_fail(section, NULL, diag,
		    "the title is the path: %s", wrong);
	if (value_get_list(section, "also", value_check_path, NULL, paths,
		diag) != ERR_OK)
		return ERR_PROTO;
	/* the title first: it is the relay's name, too */
	paths->items = xreallocarray(paths->items, paths->count + 1,
	    sizeof(paths->items[0]));
	memmove(paths->items + 1, paths->items,
	    paths->count * sizeof(paths->items[0]));
	paths->items[0] = xstrdup(fallback[0]);
	paths->count++;
	return check_paths(section, config, relay, diag);
}

/* The section that this one inherits; *ret is NULL where there is none. */
static enum err
find_base(struct conf_section *section, const struct config *config,
    const struct config_relay *relay, const struct config_relay **ret,
    struct diag *diag)
{
	const char *name = conf_string(section, "inherit", 0);

	*ret = NULL;
	if (name == NULL || *name == '\0')
		return ERR_OK;
	*ret = config_find_relay_by_name(config, name);
	if (*ret == NULL || *ret == relay)
		return conf_fail(section, "inherit", diag,
		    "%.60s: write \"openai\", where there is that section, or "
		    "the path of a relay section before this one",
		    name);
	return ERR_OK;
}

static enum err
build_relay(struct conf_section *section, const struct relay_limits *tunnel,
    struct config *config, struct diag *diag)
{
	struct config_relay *relay = add_relay(config, conf_title(section));
	const struct config_relay *base = NULL;
	enum err err = build_relay_paths(section, config, relay, diag);

	if (err == ERR_OK)
		err = find_base(section, config, relay, &base, diag);
	if (err == ERR_OK)
		err = build_common(section, tunnel, base, relay, diag);
	if (err == ERR_OK)
		err = config_plan_get(section, config,
		    base == NULL ? NULL : base->plan, &relay->plan, diag);
	if (err == ERR_OK)
		err = build_url(section, "upstream", NULL, base, relay, diag);
	if (err == ERR_OK)
		err = config_rules_build(section, base, relay, diag);
	if (err == ERR_OK)
		err = build_subprotocols(section, base, relay, diag);
	return err;
}

/* ---- openai ---- */

static enum err
build_openai(struct conf_section *section, const struct relay_limits *tunnel,
    struct config *config, struct diag *diag)
{
	static const char *const paths[] = { "/v1/realtime", "/", NULL };
	struct config_relay *relay = add_relay(config, "openai");
	struct config_strings *subprotocols = &relay->subprotocols;
	enum err err = value_get_list(section, "paths", value_check_path, paths,
	    &relay->paths, diag);

	if (err == ERR_OK && relay->paths.count == 0)
		err = conf_fail(section, "paths", diag,
		    "is empty: write {\"/v1/realtime\"}");
	if (err == ERR_OK)
		err = check_paths(section, config, relay, diag);
	if (err == ERR_OK)
		err = build_common(section, tunnel, NULL, relay, diag);
	if (err == ERR_OK)
		err =
		    config_plan_get(section, config, NULL, &relay->plan, diag);
	if (err == ERR_OK)
		err = build_url(section, "url",
		    "wss://api.openai.com/v1/realtime", NULL, relay, diag);
	if (err == ERR_OK)
		err = config_rules_build_openai(section, relay, diag);
	/* its clients put their key beside "realtime": only that is answered */
	value_add(subprotocols, "realtime");
	return err;
}

/* What OpenAI is known to do, unless the site says otherwise for all. */
static struct relay_limits
limits_of_openai(struct conf_section *tunnel, const struct relay_limits *base)
{
	struct relay_limits limits = *base;

	if (!conf_given(tunnel, "vendor_limit"))
		limits.wire.vendor_ms = OPENAI_LIMIT_MS;
	if (!conf_given(tunnel, "limit_warning"))
		limits.wire.warn_ms = OPENAI_WARNING_MS;
	return limits;
}

enum err
config_relay_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	struct conf_section *openai = conf_section(root, "openai", 0);
	struct conf_section *tunnel = conf_section(root, "tunnel", 0);
	struct relay_limits base = { .max_connections = 0 }, of_openai;
	enum err err = value_get_limits(tunnel, NULL, &base, diag);

	if (err == ERR_OK && openai != NULL) {
		of_openai = limits_of_openai(tunnel, &base);
		err = build_openai(openai, &of_openai, config, diag);
	}
	for (size_t i = 0;
	     err == ERR_OK && i < conf_section_count(root, "relay"); i++)
		err = build_relay(conf_section(root, "relay", i), &base, config,
		    diag);
	return err;
}

/* ---- the way back ---- */

void
config_relay_dump(const struct config_relay *relay, FILE *out)
{
	const struct config_url *url = &relay->upstream;
	char *upstream = xasprintf("%s://%s%s%s%s", url->tls ? "wss" : "ws",
	    url->authority, url->path, url->query == NULL ? "" : "?",
	    url->query == NULL ? "" : url->query);
	/* the first path is the title */
	const struct config_strings also = { relay->paths.items + 1,
		relay->paths.count - 1 };
	const struct relay_limits limits = { relay->limits,
		relay->max_connections };

	(void)fputs("relay ", out);
	value_put_quoted(out, relay->paths.items[0]);
	(void)fprintf(out, " { # %s\n", relay->name);
	value_put_list(out, 1, "also", &also);
	value_put_text(out, 1, "upstream", upstream);
	value_put_text(out, 1, "ca_file", relay->ca_file);
	value_put_bool(out, 1, "allow_private", relay->allow_private);
	config_rules_dump(relay, out);
	value_put_list(out, 1, "subprotocols", &relay->subprotocols);
	value_put_text(out, 1, "subprotocol_mode",
	    relay->subprotocol_pass ? "pass" : "answer");
	value_put_limits(out, 1, &limits);
	value_put_text(out, 1, "plan", relay->plan);
	config_messages_dump(relay, out);
	(void)fputs("}\n", out);
	free(upstream);
}
