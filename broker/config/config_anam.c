/* SPDX-License-Identifier: MIT */
#include "broker/config/config_anam.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/config_plan.h"
#include "broker/config/config_value.h"
#include "broker/config/url.h"
#include "common/json.h"
#include "common/xalloc.h"

#define PERSONA_FILE_BYTES (64 * 1024)

/* ---- addresses ---- */

/* The operator's "https://host", without anything behind it. */
static enum err
check_base(struct conf_section *section, const char *key, const char *text,
    struct diag *diag)
{
	struct diag why;

	if (strncmp(text, "https://", 8) != 0 &&
	    strncmp(text, "http://", 7) != 0)
		return conf_fail(section, key, diag,
		    "has to begin with https:// (or http://)");
	if (url_check_origin(text, &why) != ERR_OK)
		return conf_fail(section, key, diag, "\"%.60s\" %s", text,
		    why.text);
	return ERR_OK;
}

static enum err
build_urls(struct conf_section *section, struct config_anam *anam,
    struct diag *diag)
{
	enum err err = value_get_text(section, "url", NULL,
	    "https://api.anam.ai", &anam->url, diag);

	if (err == ERR_OK)
		err = check_base(section, "url", anam->url, diag);
	if (err == ERR_OK && !anam->allow_http &&
	    strncmp(anam->url, "http://", 7) == 0)
		err = conf_fail(section, "url", diag,
		    "sends the key in the clear: write allow_http = true "
		    "where this is a test");
	if (err == ERR_OK)
		err = value_get_optional(section, "public_url", NULL,
		    &anam->public_url, diag);
	if (err == ERR_OK && anam->public_url != NULL)
		err = check_base(section, "public_url", anam->public_url, diag);
	return err;
}

static const char *
check_host(const char *text)
{
	static const char allowed[] =
	    "abcdefghijklmnopqrstuvwxyz0123456789.-*:";

	if (*text == '\0' || text[strspn(text, allowed)] != '\0')
		return "write a host in lower case, as *.anam.ai, without a "
		       "port";
	if (strcmp(text, "*") == 0)
		return "any host at all: name those that engines have";
	return NULL;
}

/* ---- personas ---- */

/* Read a file; what is wrong with it, or NULL. */
static const char *
read_persona(const char *path, json_t **ret)
{
	FILE *f = fopen(path, "re");
	char *text = xcalloc(1, PERSONA_FILE_BYTES + 1);
	const char *wrong = NULL;
	struct diag why = { "" };
	size_t len = 0;

	if (f == NULL)
		wrong = strerror(errno);
	else
		len = fread(text, 1, PERSONA_FILE_BYTES + 1, f);
	if (f != NULL && ferror(f))
		wrong = "it cannot be read";
	else if (len > PERSONA_FILE_BYTES)
		wrong = "it is larger than 64 KiB";
	else if (wrong == NULL && json_parse(text, len, ret, &why) != ERR_OK)
		wrong = "it is not JSON";
	else if (wrong == NULL && !json_is_object(*ret))
		wrong = "it is not a JSON object";
	if (f != NULL)
		(void)fclose(f);
	free(text);
	return wrong;
}

static enum err
build_persona(struct conf_section *section, struct config_persona *persona,
    struct diag *diag)
{
	const char *wrong;

	persona->name = xstrdup(conf_title(section));
	if (persona->name[0] == '\0' || strlen(persona->name) > 128)
		return conf_fail(section, NULL, diag,
		    "the title is the personaId that clients ask for");
	if (value_get_optional(section, "config_file", value_check_file,
		&persona->file, diag) != ERR_OK)
		return ERR_PROTO;
	if (persona->file == NULL)
		return conf_fail(section, "config_file", diag,
		    "is missing: name a file with the personaConfig in JSON");
	wrong = read_persona(persona->file, &persona->value);
	if (wrong != NULL)
		return conf_fail(section, "config_file", diag, "%.100s: %s",
		    persona->file, wrong);
	return ERR_OK;
}

static enum err
build_personas(struct conf_section *section, struct config_anam *anam,
    struct diag *diag)
{
	size_t count = conf_section_count(section, "persona");
	enum err err = value_get_list(section, "personas", value_check_word,
	    NULL, &anam->personas, diag);

	if (err == ERR_OK && count > VALUE_LIST_MAX)
		err = conf_fail(section, NULL, diag, "more than %d personas",
		    VALUE_LIST_MAX);
	anam->kept = xcalloc(count + 1, sizeof(anam->kept[0]));
	for (size_t i = 0; err == ERR_OK && i < count; i++) {
		anam->kept_count++;
		err = build_persona(conf_section(section, "persona", i),
		    &anam->kept[i], diag);
	}
	return err;
}

/* ---- numbers ---- */

static enum err
build_lifetimes(struct conf_section *section, struct config_anam *anam,
    struct diag *diag)
{
	uint64_t session = 0, token = 0;
	enum err err = value_get_number(section, "session_lifetime", 60, 86400,
	    3600, &session, diag);

	if (err == ERR_OK)
		err = value_get_number(section, "token_lifetime", 10, 86400,
		    session < 3600 ? session : 3600, &token, diag);
	/* or a token would outlive the session that it stands for */
	if (err == ERR_OK && token > session)
		err = conf_fail(section, "token_lifetime", diag,
		    "is longer than session_lifetime");
	if (err == ERR_OK)
		err = value_get_number(section, "max_sessions", 0, 1000000, 0,
		    &anam->max_sessions, diag);
	anam->session_ttl_s = (int64_t)session;
	anam->token_ttl_s = (int64_t)token;
	return err;
}

static enum err
build_limits(struct conf_section *root, struct conf_section *section,
    struct config_anam *anam, struct diag *diag)
{
	struct relay_limits base = { .max_connections = 0 }, limits = base;
	enum err err = value_get_limits(conf_section(root, "tunnel", 0), NULL,
	    &base, diag);

	if (err == ERR_OK)
		err = value_get_limits(section, &base, &limits, diag);
	anam->limits = limits.wire;
	anam->max_connections = limits.max_connections;
	return err;
}

static enum err
build_key(struct conf_section *section, const struct config *config,
    struct config_anam *anam, struct diag *diag)
{
	if (value_get_secret(section, "api_key", NULL, &anam->api_key, diag) !=
	    ERR_OK)
		return ERR_PROTO;
	if (anam->api_key == NULL)
		return conf_fail(section, "api_key", diag,
		    "is missing: write api_key = \"env:ANAM_API_KEY\"");
	if (config->store.path == NULL)
		return conf_fail(section, NULL, diag,
		    "sessions have to be kept: write store { path = "
		    "\"/var/lib/culvert/culvert.db\" }");
	return ERR_OK;
}

enum err
config_anam_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	static const char *const hosts[] = { "*.anam.ai", NULL };
	struct conf_section *section = conf_section(root, "anam", 0);
	struct config_anam *anam;
	enum err err;

	if (section == NULL)
		return ERR_OK;
	anam = xcalloc(1, sizeof(*anam));
	config->anam = anam;
	err = build_key(section, config, anam, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "allow_http", false,
		    &anam->allow_http, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "allow_private", false,
		    &anam->allow_private, diag);
	if (err == ERR_OK)
		err = build_urls(section, anam, diag);
	if (err == ERR_OK)
		err = value_get_list(section, "hosts", check_host, hosts,
		    &anam->hosts, diag);
	if (err == ERR_OK)
		err = value_get_ca_file(section, &anam->ca_file, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "require_user", false,
		    &anam->require_user, diag);
	if (err == ERR_OK)
		err = build_personas(section, anam, diag);
	if (err == ERR_OK)
		err = build_lifetimes(section, anam, diag);
	if (err == ERR_OK)
		err = build_limits(root, section, anam, diag);
	if (err == ERR_OK)
		err = config_plan_get(section, config, NULL, &anam->plan, diag);
	return err;
}

/* ---- the way back ---- */

void
config_anam_dump(const struct config_anam *anam, FILE *out)
{
	const struct relay_limits limits = {
		.wire = anam->limits,
		.max_connections = anam->max_connections,
	};

	(void)fputs("anam {\n", out);
	value_put_secret(out, 1, "api_key", anam->api_key);
	value_put_text(out, 1, "url", anam->url);
	value_put_list(out, 1, "hosts", &anam->hosts);
	value_put_list(out, 1, "personas", &anam->personas);
	for (size_t i = 0; i < anam->kept_count; i++) {
		(void)fputs("\tpersona ", out);
		value_put_quoted(out, anam->kept[i].name);
		(void)fputs(" {\n", out);
		value_put_text(out, 2, "config_file", anam->kept[i].file);
		(void)fputs("\t}\n", out);
	}
	value_put_text(out, 1, "public_url", anam->public_url);
	value_put_text(out, 1, "ca_file", anam->ca_file);
	value_put_bool(out, 1, "allow_http", anam->allow_http);
	value_put_bool(out, 1, "allow_private", anam->allow_private);
	value_put_number(out, 1, "session_lifetime",
	    (uint64_t)anam->session_ttl_s);
	value_put_number(out, 1, "token_lifetime", (uint64_t)anam->token_ttl_s);
	value_put_number(out, 1, "max_sessions", anam->max_sessions);
	value_put_text(out, 1, "plan", anam->plan);
	value_put_bool(out, 1, "require_user", anam->require_user);
	value_put_limits(out, 1, &limits);
	(void)fputs("}\n", out);
}
