/* SPDX-License-Identifier: MIT */
#include "broker/config/config_rules.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/config/config_value.h"
#include "common/str.h"
#include "common/xalloc.h"

/* ---- headers ---- */

/* What the handshake itself is made of stays ours. */
static bool
is_reserved(const char *name)
{
	static const char *const names[] = { "Host", "Upgrade", "Connection",
		"Content-Length", "Transfer-Encoding", "Keep-Alive",
		"Proxy-Connection", "TE", "Trailer", "Expect" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return strncasecmp(name, "Sec-WebSocket-", 14) == 0;
}

static struct config_header *
add_header(struct config_relay *relay, const char *name)
{
	struct config_header *header;

	relay->headers = xreallocarray(relay->headers, relay->header_count + 1,
	    sizeof(relay->headers[0]));
	header = &relay->headers[relay->header_count++];
	*header = (struct config_header){ .name = xstrdup(name) };
	return header;
}

static enum err
build_header(struct conf_section *section, struct config_relay *relay,
    struct diag *diag)
{
	const char *name = conf_title(section);
	bool value = conf_given(section, "value");
	bool secret = conf_given(section, "secret");
	struct config_header *header;
	enum err err;

	if (strlen(name) > VALUE_ITEM_MAX || value_check_token(name) != NULL)
		return conf_fail(section, NULL, diag,
		    "this is not a header's name");
	if (is_reserved(name))
		return conf_fail(section, NULL, diag,
		    "this header belongs to the WebSocket handshake: leave it "
		    "out");
	for (size_t i = 0; i < relay->header_count; i++)
		if (strcasecmp(relay->headers[i].name, name) == 0)
			return conf_fail(section, NULL, diag,
			    "this header is set already");
	if (value == secret)
		return conf_fail(section, NULL, diag,
		    "write either value = \"text\" or secret = \"env:NAME\"");
	if (value && conf_given(section, "prefix"))
		return conf_fail(section, "prefix", diag,
		    "goes with a secret: write all of it in value");
	header = add_header(relay, name);
	err = value_get_text(section, value ? "value" : "prefix",
	    value_check_field, "", &header->prefix, diag);
	if (err == ERR_OK && secret)
		err = value_get_secret(section, "secret", NULL, &header->secret,
		    diag);
	return err;
}

/* Those of the base, but for the ones that the section has set itself. */
static void
inherit_headers(const struct config_relay *base, struct config_relay *relay)
{
	size_t own = relay->header_count;

	for (size_t i = 0; i < base->header_count; i++) {
		const struct config_header *from = &base->headers[i];
		struct config_header *to;
		const char *key;
		size_t k = 0, len;

		while (k < own &&
		    strcasecmp(relay->headers[k].name, from->name) != 0)
			k++;
		if (k < own)
			continue;
		to = add_header(relay, from->name);
		to->prefix = xstrdup(from->prefix);
		if (from->secret == NULL)
			continue;
		key = secret_peek(from->secret, &len);
		to->secret = secret_new(key, len, secret_source(from->secret));
	}
}

/* ---- the query ---- */

static bool
matches(const struct config_strings *patterns, const char *value)
{
	for (size_t i = 0; i < patterns->count; i++)
		if (str_match(patterns->items[i], value))
			return true;
	return patterns->count == 0;
}

static struct config_query *
add_query(struct config_relay *relay, const char *name)
{
	struct config_query *query;

	relay->queries = xreallocarray(relay->queries, relay->query_count + 1,
	    sizeof(relay->queries[0]));
	query = &relay->queries[relay->query_count++];
	*query = (struct config_query){ .name = xstrdup(name) };
	return query;
}

/* The `alias "from" { KEY = "to" }' sections of a query, or of `openai'. */
static enum err
build_aliases(struct conf_section *parent, const char *key,
    struct config_query *query, struct diag *diag)
{
	size_t count = conf_section_count(parent, "alias");

	if (count > VALUE_LIST_MAX)
		return conf_fail(parent, NULL, diag, "more than %d aliases",
		    VALUE_LIST_MAX);
	query->aliases = xcalloc(count + 1, sizeof(query->aliases[0]));
	for (size_t i = 0; i < count; i++) {
		struct conf_section *section = conf_section(parent, "alias", i);
		struct config_alias *alias = &query->aliases[i];

		query->alias_count++;
		alias->from = xstrdup(conf_title(section));
		if (value_get_text(section, key, value_check_word, NULL,
			&alias->to, diag) != ERR_OK)
			return ERR_PROTO;
		if (alias->to == NULL)
			return conf_fail(section, key, diag, "is missing");
		if (!matches(&query->values, alias->to))
			return conf_fail(section, key, diag,
			    "%.60s is none of the values that are allowed",
			    alias->to);
	}
	return ERR_OK;
}

static enum err
build_fallback(struct conf_section *section, const char *key,
    const char *fallback, struct config_query *query, struct diag *diag)
{
	enum err err;

	if (conf_given(section, key))
		err = value_get_optional(section, key, value_check_word,
		    &query->fallback, diag);
	else
		err = value_get_text(section, key, NULL, fallback,
		    &query->fallback, diag);
	if (err == ERR_OK && query->fallback != NULL &&
	    !matches(&query->values, query->fallback))
		err = conf_fail(section, key, diag,
		    "%.60s is none of the values that are allowed",
		    query->fallback);
	return err;
}

/* Whether the upstream's own query sets this parameter. */
static bool
is_fixed(const struct config_url *url, const char *name)
{
	size_t len = strlen(name);
	const char *p = url->query;

	while (p != NULL) {
		if (strncmp(p, name, len) == 0 &&
		    (p[len] == '\0' || p[len] == '=' || p[len] == '&'))
			return true;
		p = strchr(p, '&');
		p = p == NULL ? NULL : p + 1;
	}
	return false;
}

static enum err
build_query(struct conf_section *section, struct config_relay *relay,
    struct diag *diag)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz"
				      "0123456789-._~";
	const char *name = conf_title(section);
	struct config_query *query;
	enum err err;

	if (*name == '\0' || strlen(name) > 64 ||
	    name[strspn(name, allowed)] != '\0')
		return conf_fail(section, NULL, diag,
		    "a parameter's name has 1 to 64 letters, digits and -._~");
	if (is_fixed(&relay->upstream, name))
		return conf_fail(section, NULL, diag,
		    "the query of upstream has this parameter: leave out one "
		    "of them");
	query = add_query(relay, name);
	err = value_get_list(section, "values", value_check_word, NULL,
	    &query->values, diag);
	if (err == ERR_OK)
		err = build_fallback(section, "default", NULL, query, diag);
	if (err == ERR_OK)
		err = value_get_list(section, "default_unless",
		    value_check_word, NULL, &query->fallback_unless, diag);
	if (err == ERR_OK)
		err = build_aliases(section, "to", query, diag);
	return err;
}

/* Parameters that lead to a session other than the one that is set here. */
static bool
leads_away(const struct config_relay *relay, const char *name)
{
	return relay->messages.session != NULL &&
	    (strcmp(name, "call_id") == 0 || strcmp(name, "intent") == 0);
}

/* Those of the base, but for the ones that the section has set itself. */
static void
inherit_queries(const struct config_relay *base, struct config_relay *relay)
{
	size_t own = relay->query_count;

	for (size_t i = 0; i < base->query_count; i++) {
		const struct config_query *from = &base->queries[i];
		struct config_query *to;
		size_t k = 0;

		while (
		    k < own && strcmp(relay->queries[k].name, from->name) != 0)
			k++;
		if (k < own || is_fixed(&relay->upstream, from->name) ||
		    leads_away(relay, from->name))
			continue;
		to = add_query(relay, from->name);
		value_copy_list(&from->values, &to->values);
		if (from->fallback != NULL)
			to->fallback = xstrdup(from->fallback);
		if (relay->messages.session == NULL)
			value_copy_list(&from->fallback_unless,
			    &to->fallback_unless);
		to->aliases =
		    xcalloc(from->alias_count + 1, sizeof(to->aliases[0]));
		for (k = 0; k < from->alias_count; k++)
			to->aliases[to->alias_count++] = (struct config_alias){
				xstrdup(from->aliases[k].from),
				xstrdup(from->aliases[k].to),
			};
	}
}

static struct config_query *
find_query(struct config_relay *relay, const char *name)
{
	for (size_t i = 0; i < relay->query_count; i++)
		if (strcmp(relay->queries[i].name, name) == 0)
			return &relay->queries[i];
	return NULL;
}

/* Drop the aliases that lead to another value. */
static void
keep_aliases(struct config_query *query, const char *to)
{
	size_t kept = 0;

	for (size_t i = 0; i < query->alias_count; i++) {
		struct config_alias *alias = &query->aliases[i];

		if (strcmp(alias->to, to) == 0) {
			query->aliases[kept++] = *alias;
		} else {
			free(alias->from);
			free(alias->to);
		}
	}
	query->alias_count = kept;
}

/* The model of `session' is the only one that the query may have. */
static enum err
fix_model(struct conf_section *section, struct config_relay *relay,
    struct diag *diag)
{
	const char *model = relay->messages.model;
	struct config_query *query = find_query(relay, "model");

	if (model == NULL)
		return ERR_OK;
	if (is_fixed(&relay->upstream, "model"))
		return conf_fail(section, NULL, diag,
		    "the query of upstream has a model: leave out the one in "
		    "session");
	if (query == NULL)
		query = add_query(relay, "model");
	if (!matches(&query->values, model))
		return conf_fail(section, NULL, diag,
		    "session: model: %.60s is none of the values that are "
		    "allowed",
		    model);
	keep_aliases(query, model);
	config_strings_done(&query->values);
	value_add(&query->values, model);
	config_strings_done(&query->fallback_unless);
	free(query->fallback);
	query->fallback = xstrdup(model);
	return ERR_OK;
}

/* ---- both ---- */

enum err
config_rules_build(struct conf_section *section,
    const struct config_relay *base, struct config_relay *relay,
    struct diag *diag)
{
	size_t headers = conf_section_count(section, "header");
	size_t queries = conf_section_count(section, "query");
	enum err err = ERR_OK;

	if (headers > 32 || queries > 32)
		return conf_fail(section, NULL, diag,
		    "more than 32 header or query sections");
	for (size_t i = 0; err == ERR_OK && i < headers; i++)
		err = build_header(conf_section(section, "header", i), relay,
		    diag);
	for (size_t i = 0; err == ERR_OK && i < queries; i++)
		err =
		    build_query(conf_section(section, "query", i), relay, diag);
	if (err == ERR_OK && base != NULL) {
		inherit_headers(base, relay);
		inherit_queries(base, relay);
	}
	if (err == ERR_OK)
		err = fix_model(section, relay, diag);
	return err;
}

/* ---- openai ---- */

static enum err
openai_headers(struct conf_section *section, struct config_relay *relay,
    struct diag *diag)
{
	static const char *const names[][2] = {
		{ "organization", "OpenAI-Organization" },
		{ "project", "OpenAI-Project" },
	};
	struct config_header *header = add_header(relay, "Authorization");
	char *text;

	header->prefix = xstrdup("Bearer ");
	if (value_get_secret(section, "api_key", "env:OPENAI_API_KEY",
		&header->secret, diag) != ERR_OK)
		return ERR_PROTO;
	for (size_t i = 0; i < 2; i++) {
		if (value_get_optional(section, names[i][0], value_check_field,
			&text, diag) != ERR_OK)
			return ERR_PROTO;
		if (text != NULL)
			add_header(relay, names[i][1])->prefix = text;
	}
	return ERR_OK;
}

static enum err
openai_query(struct conf_section *section, struct config_relay *relay,
    struct diag *diag)
{
	static const char *const models[] = { "gpt-realtime", "gpt-realtime-*",
		NULL };
	/* with these, the vendor refuses a model */
	static const char *const alone[] = { "call_id", "intent", NULL };
	struct config_query *query = add_query(relay, "model");

	if (value_get_list(section, "models", value_check_word, models,
		&query->values, diag) != ERR_OK)
		return ERR_PROTO;
	if (query->values.count == 0)
		return conf_fail(section, "models", diag,
		    "is empty: name the models, or write {\"*\"} for any");
	if (build_fallback(section, "default_model", "gpt-realtime", query,
		diag) != ERR_OK)
		return ERR_PROTO;
	if (build_aliases(section, "model", query, diag) != ERR_OK)
		return ERR_PROTO;
	for (size_t i = 0; alone[i] != NULL; i++)
		if (!leads_away(relay, alone[i]))
			value_add(&query->fallback_unless, alone[i]);
	/* a call's control channel, and transcription: any value */
	for (size_t i = 0; alone[i] != NULL; i++)
		if (!leads_away(relay, alone[i]))
			(void)add_query(relay, alone[i]);
	return fix_model(section, relay, diag);
}

enum err
config_rules_build_openai(struct conf_section *section,
    struct config_relay *relay, struct diag *diag)
{
	enum err err = openai_headers(section, relay, diag);

	return err == ERR_OK ? openai_query(section, relay, diag) : err;
}

/* ---- the way back ---- */

static void
open_section(FILE *out, const char *name, const char *title)
{
	(void)fprintf(out, "\t%s ", name);
	value_put_quoted(out, title);
	(void)fputs(" {\n", out);
}

static void
dump_header(const struct config_header *header, FILE *out)
{
	open_section(out, "header", header->name);
	if (header->secret == NULL) {
		value_put_text(out, 2, "value", header->prefix);
	} else {
		value_put_text(out, 2, "prefix", header->prefix);
		value_put_secret(out, 2, "secret", header->secret);
	}
	(void)fputs("\t}\n", out);
}

static void
dump_query(const struct config_query *query, FILE *out)
{
	open_section(out, "query", query->name);
	value_put_list(out, 2, "values", &query->values);
	value_put_text(out, 2, "default", query->fallback);
	value_put_list(out, 2, "default_unless", &query->fallback_unless);
	for (size_t i = 0; i < query->alias_count; i++) {
		(void)fputs("\t\talias ", out);
		value_put_quoted(out, query->aliases[i].from);
		(void)fputs(" {\n", out);
		value_put_text(out, 3, "to", query->aliases[i].to);
		(void)fputs("\t\t}\n", out);
	}
	(void)fputs("\t}\n", out);
}

void
config_rules_dump(const struct config_relay *relay, FILE *out)
{
	for (size_t i = 0; i < relay->header_count; i++)
		dump_header(&relay->headers[i], out);
	for (size_t i = 0; i < relay->query_count; i++)
		dump_query(&relay->queries[i], out);
}
