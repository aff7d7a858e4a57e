/* SPDX-License-Identifier: MIT */
#include "broker/config/conf_tree.h"

#include <assert.h>
#include <confuse.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "common/xalloc.h"

/*
 * libconfuse's scanner has global state, and its error function knows no
 * caller: one parse at a time, under this lock.
 */
static pthread_mutex_t parse_lock = PTHREAD_MUTEX_INITIALIZER;
static struct diag *parse_diag;
static bool parse_failed;

/* ---- what the file may hold ---- */

static int keep(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result);

#define KEY(name)	CFG_STR_CB(name, NULL, CFGF_NODEFAULT, keep)
#define LIST(name)	CFG_STR_LIST_CB(name, NULL, CFGF_NODEFAULT, keep)
#define ONE(name, keys) CFG_SEC(name, keys, CFGF_NODEFAULT)
#define MANY(name, keys) \
	CFG_SEC(name, keys, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES)

static cfg_opt_t access_keys[] = {
	LIST("clients"),
	LIST("origins"),
	KEY("missing_origin"),
	CFG_END(),
};

static cfg_opt_t control_keys[] = {
	KEY("socket"),
	KEY("mode"),
	LIST("users"),
	KEY("max_connections"),
	CFG_END(),
};

static cfg_opt_t requests_keys[] = {
	KEY("threads"),
	KEY("body_bytes"),
	KEY("timeout"),
	KEY("stop"),
	KEY("base_path"),
	CFG_END(),
};

static cfg_opt_t store_keys[] = {
	KEY("path"),
	CFG_END(),
};

static cfg_opt_t prices_keys[] = {
	KEY("currency"),
	KEY("input_text"),
	KEY("input_audio"),
	KEY("input_image"),
	KEY("cached_text"),
	KEY("cached_audio"),
	KEY("cached_image"),
	KEY("output_text"),
	KEY("output_audio"),
	KEY("minute"),
	CFG_END(),
};

#define LIMIT(key, member, scale, min, max, fallback) KEY(#key),

static cfg_opt_t tunnel_keys[] = {
#include "broker/config/config_limits.def"
	CFG_END(),
};

static cfg_opt_t session_keys[] = {
	KEY("model"),
	KEY("instructions"),
	KEY("instructions_file"),
	KEY("tools_file"),
	KEY("tool_choice"),
	KEY("voice"),
	KEY("max_output_tokens"),
	LIST("output_modalities"),
	KEY("pinned"),
	LIST("client_may"),
	CFG_END(),
};

/* what openai{} and relay{} have in common, beside the limits */
#define ROUTE_KEYS                                                             \
	KEY("ca_file"), KEY("allow_private"), KEY("dialect"), KEY("messages"), \
	    ONE("session", session_keys), KEY("usage"), KEY("inspect_bytes"),  \
	    KEY("message_log"), KEY("message_log_file"),                       \
	    KEY("message_log_bytes"), KEY("message_log_keep"),                 \
	    KEY("require_ticket"), KEY("client_secrets"),                      \
	    KEY("ticket_seconds"), KEY("ticket_seconds_max"),                  \
	    KEY("ticket_once"), KEY("calls"), KEY("plan"),                     \
	    KEY("require_user"), KEY("over_budget")

static cfg_opt_t openai_alias_keys[] = {
	KEY("model"),
	CFG_END(),
};

#define LIMIT(key, member, scale, min, max, fallback) KEY(#key),

static cfg_opt_t openai_keys[] = {
	KEY("api_key"),
	KEY("url"),
	LIST("paths"),
	LIST("models"),
	KEY("default_model"),
	MANY("alias", openai_alias_keys),
	KEY("organization"),
	KEY("project"),
	ROUTE_KEYS,
#include "broker/config/config_limits.def"
	CFG_END(),
};

static cfg_opt_t header_keys[] = {
	KEY("value"),
	KEY("prefix"),
	KEY("secret"),
	CFG_END(),
};

static cfg_opt_t query_alias_keys[] = {
	KEY("to"),
	CFG_END(),
};

static cfg_opt_t query_keys[] = {
	LIST("values"),
	KEY("default"),
	LIST("default_unless"),
	MANY("alias", query_alias_keys),
	CFG_END(),
};

#define LIMIT(key, member, scale, min, max, fallback) KEY(#key),

static cfg_opt_t relay_keys[] = {
	KEY("inherit"),
	LIST("also"),
	KEY("upstream"),
	ROUTE_KEYS,
	MANY("header", header_keys),
	MANY("query", query_keys),
	LIST("subprotocols"),
	KEY("subprotocol_mode"),
#include "broker/config/config_limits.def"
	CFG_END(),
};

static cfg_opt_t pair_keys[] = {
	KEY("value"),
	CFG_END(),
};

static cfg_opt_t agent_keys[] = {
	KEY("metadata"),
	KEY("deployment"),
	MANY("attribute", pair_keys),
	CFG_END(),
};

static cfg_opt_t room_config_keys[] = {
	KEY("name"),
	KEY("empty_timeout"),
	KEY("departure_timeout"),
	KEY("max_participants"),
	KEY("metadata"),
	KEY("min_playout_delay"),
	KEY("max_playout_delay"),
	KEY("sync_streams"),
	MANY("agent", agent_keys),
	MANY("tag", pair_keys),
	CFG_END(),
};

#define GRANT(key, group, claim) KEY(#key),

static cfg_opt_t token_keys[] = {
	LIST("rooms"),
	KEY("room"),
	KEY("ttl"),
	KEY("identity"),
	KEY("identity_prefix"),
	LIST("client_may_set"),
	LIST("client_agents"),
	KEY("name"),
	KEY("kind"),
	KEY("metadata"),
	MANY("attribute", pair_keys),
	KEY("sha256"),
	KEY("room_preset"),
	LIST("can_publish_sources"),
	KEY("destination_room"),
	ONE("room_config", room_config_keys),
#include "broker/config/config_grants.def"
	CFG_END(),
};

static cfg_opt_t livekit_keys[] = {
	KEY("url"),
	KEY("api_key"),
	KEY("api_secret"),
	KEY("plan"),
	MANY("token", token_keys),
	KEY("require_user"),
	CFG_END(),
};

static cfg_opt_t persona_keys[] = {
	KEY("config_file"),
	CFG_END(),
};

#define LIMIT(key, member, scale, min, max, fallback) KEY(#key),

static cfg_opt_t anam_keys[] = {
	KEY("api_key"),
	KEY("url"),
	LIST("hosts"),
	LIST("personas"),
	MANY("persona", persona_keys),
	KEY("public_url"),
	KEY("ca_file"),
	KEY("allow_http"),
	KEY("allow_private"),
	KEY("session_lifetime"),
	KEY("token_lifetime"),
	KEY("max_sessions"),
	KEY("plan"),
	KEY("require_user"),
#include "broker/config/config_limits.def"
	CFG_END(),
};

static cfg_opt_t anonymous_keys[] = {
	KEY("allow"),
	KEY("messages"),
	KEY("window"),
	KEY("keep"),
	CFG_END(),
};

static cfg_opt_t users_keys[] = {
	KEY("secret"),
	KEY("public_key_file"),
	KEY("jwks_file"),
	KEY("jwks_url"),
	KEY("ca_file"),
	KEY("allow_http"),
	KEY("allow_private"),
	KEY("jwks_refresh"),
	LIST("algorithms"),
	KEY("issuer"),
	KEY("audience"),
	KEY("leeway"),
	KEY("user_claim"),
	KEY("plan_claim"),
	KEY("cookie"),
	KEY("remote_user"),
	CFG_END(),
};

static cfg_opt_t chat_keys[] = {
	KEY("api_key"),
	KEY("url"),
	LIST("models"),
	KEY("system"),
	KEY("system_file"),
	KEY("ca_file"),
	KEY("allow_http"),
	KEY("allow_private"),
	KEY("content_bytes"),
	KEY("history_messages"),
	KEY("history_bytes"),
	KEY("max_output_tokens"),
	KEY("answer_bytes"),
	KEY("first_timeout"),
	KEY("idle_timeout"),
	KEY("total_timeout"),
	KEY("detach_timeout"),
	KEY("heartbeat"),
	KEY("replay"),
	KEY("max_streams"),
	KEY("max_streams_per_owner"),
	KEY("max_chats"),
	KEY("max_turns"),
	KEY("keep"),
	KEY("plan"),
	ONE("anonymous", anonymous_keys),
	KEY("balance"),
	KEY("require_user"),
	CFG_END(),
};

static cfg_opt_t socketio_keys[] = {
	KEY("path"),
	KEY("ping_interval_ms"),
	KEY("ping_timeout_ms"),
	KEY("connect_timeout_ms"),
	KEY("recovery_ms"),
	KEY("max_payload"),
	KEY("max_sessions"),
	KEY("max_sessions_per_address"),
	KEY("echo"),
	KEY("engine_path"),
	CFG_END(),
};

static cfg_opt_t tickets_keys[] = {
	KEY("secret"),
	KEY("rotate"),
	KEY("ttl"),
	KEY("ttl_max"),
	CFG_END(),
};

static cfg_opt_t plan_keys[] = {
	KEY("requests_per_second"),
	KEY("burst"),
	KEY("tunnels"),
	KEY("streams"),
	KEY("session_seconds"),
	KEY("day_seconds"),
	KEY("messages_per_second"),
	KEY("bytes_per_second"),
	KEY("day_tokens"),
	KEY("day_money"),
	KEY("response_tokens"),
	CFG_END(),
};

static cfg_opt_t limits_keys[] = {
	KEY("user"),
	KEY("anonymous"),
	KEY("address"),
	KEY("revocation_keep"),
	CFG_END(),
};

static cfg_opt_t root_keys[] = {
	ONE("access", access_keys),
	ONE("control", control_keys),
	ONE("requests", requests_keys),
	ONE("tickets", tickets_keys),
	ONE("users", users_keys),
	ONE("store", store_keys),
	MANY("prices", prices_keys),
	MANY("plan", plan_keys),
	ONE("limits", limits_keys),
	ONE("tunnel", tunnel_keys),
	ONE("openai", openai_keys),
	MANY("relay", relay_keys),
	ONE("livekit", livekit_keys),
	ONE("anam", anam_keys),
	ONE("chat", chat_keys),
	ONE("socketio", socketio_keys),
	CFG_END(),
};

/* ---- before libconfuse: comments, strings, characters ---- */

/*
 * libconfuse counts the lines of a comment twice, refuses comments inside a
 * list, skips characters that it does not know, expands ${...} and takes a
 * file that ends within a section.  So it gets a text that has none of these.
 */
#define DEPTH_MAX 8 /* a list in the deepest section is at 6 */

struct scan {
	enum {
		OUTSIDE,
		COMMENT,
		DOUBLE,
		SINGLE
	} where;
	bool escaped; /* the backslash before this one was an escape's */
	unsigned line;
	unsigned depth;
	unsigned opened[DEPTH_MAX]; /* lines of the open braces */
};

/* A byte inside quotes: what is wrong with it, or NULL. */
static const char *
scan_quoted(struct scan *scan, char c, char next)
{
	if (c == '\n' || c == '\r')
		return "a string has to end on its line: is a quote missing?";
	if (scan->escaped) {
		scan->escaped = false;
	} else if (scan->where == DOUBLE) {
		if (c == '"')
			scan->where = OUTSIDE;
		else if (c == '$' && next == '{')
			return "variables are not expanded: write \\${ for ${";
		else if (c == '\\' &&
		    (next == '\0' || strchr("\"\\$nt", next) == NULL))
			return "unknown escape: write \\\\ for a backslash";
		scan->escaped = c == '\\';
	} else {
		if (c == '\'')
			scan->where = OUTSIDE;
		scan->escaped = c == '\\' && (next == '\\' || next == '\'');
	}
	return NULL;
}

static const char *
scan_brace(struct scan *scan, char c)
{
	if (c == '{') {
		if (scan->depth == DEPTH_MAX)
			return "too many braces within each other";
		scan->opened[scan->depth++] = scan->line;
	} else {
		if (scan->depth == 0)
			return "this brace closes nothing";
		scan->depth--;
	}
	return NULL;
}

/* A byte outside strings and comments: the same. */
static const char *
scan_plain(struct scan *scan, char *c, char next)
{
	static const char words[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789_-.:/{}=, \t\n";

	if (*c == '"')
		scan->where = DOUBLE;
	else if (*c == '\'')
		scan->where = SINGLE;
	else if (*c == '#')
		scan->where = COMMENT;
	else if (*c == '{' || *c == '}')
		return scan_brace(scan, *c);
	else if (*c == '\r' && next == '\n')
		*c = ' ';
	else if (*c == '/' && next == '/')
		return "// outside quotes: a comment begins with #, and a "
		       "URL stands in quotes";
	else if (!(*c == '+' && next == '=') && strchr(words, *c) == NULL)
		return "unexpected character: put the value in double quotes";
	return NULL;
}

static const char *
scan_byte(struct scan *scan, char *c, char next)
{
	const char *wrong = NULL;
	unsigned char byte = (unsigned char)*c;

	if (byte == 0x7f ||
	    (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r'))
		return "a control character";
	if (scan->where == COMMENT && *c == '\n')
		scan->where = OUTSIDE;
	else if (scan->where == DOUBLE || scan->where == SINGLE)
		wrong = scan_quoted(scan, *c, next);
	else if (scan->where == OUTSIDE)
		wrong = scan_plain(scan, c, next);
	if (scan->where == COMMENT)
		*c = ' ';
	return wrong;
}

/* Check the text, whose last byte is a newline, and blank its comments. */
static enum err
scan_text(const char *name, char *text, size_t len, struct diag *diag)
{
	struct scan scan = { .where = OUTSIDE, .line = 1 };

	if (!str_is_utf8(text, len)) {
		diag_set(diag, "%s: the file has to be UTF-8 text", name);
		return ERR_PROTO;
	}
	for (size_t i = 0; i < len; i++) {
		const char *wrong = scan_byte(&scan, &text[i],
		    i + 1 < len ? text[i + 1] : '\0');

		if (wrong != NULL) {
			diag_set(diag, "%s:%u: %s", name, scan.line, wrong);
			return ERR_PROTO;
		}
		if (text[i] == '\n')
			scan.line++;
	}
	if (scan.depth > 0) {
		diag_set(diag, "%s:%u: this brace is never closed", name,
		    scan.opened[scan.depth - 1]);
		return ERR_PROTO;
	}
	return ERR_OK;
}

/* ---- parsing ---- */

static void PRINTF_LIKE(2, 0) report(cfg_t *cfg, const char *fmt, va_list ap)
{
	char text[160];

	if (parse_failed) /* the first is the cause */
		return;
	parse_failed = true;
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	diag_set(parse_diag, "%s:%d: %s%s", cfg->filename, cfg->line, text,
	    strncmp(fmt, "no such option", 14) == 0
		? "; culvert.conf(5) lists what may stand here"
		: "");
}

/*
 * Called for each value before it is stored.  Takes the value as it is, sees
 * to it that a key is given once, and notes the line in what libconfuse has
 * for annotations, which are not in use.
 */
static int
keep(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	char line[16];

	if (opt->nvalues == 1 && opt->comment != NULL) {
		cfg_error(cfg, "%s is here twice: it is in line %s already",
		    opt->name, opt->comment);
		return -1;
	}
	if (opt->comment == NULL) {
		(void)snprintf(line, sizeof(line), "%d", cfg->line);
		if (cfg_opt_setcomment(opt, line) != CFG_SUCCESS)
			abort(); /* out of memory */
	}
	*(const char **)result = value;
	return 0;
}

static enum err
parse_locked(const char *name, char *text, size_t len, cfg_t **ret)
{
	cfg_t *cfg = cfg_init(root_keys, CFGF_NONE);
	FILE *f = fmemopen(text, len, "r");
	enum err err = ERR_OK;

	if (cfg == NULL || f == NULL)
		abort(); /* out of memory */
	cfg->filename = xstrdup(name);
	(void)cfg_set_error_function(cfg, report);
	if (cfg_parse_fp(cfg, f) != CFG_SUCCESS) {
		/* in case libconfuse has not said why */
		cfg_error(cfg, "syntax error");
		err = ERR_PROTO;
	}
	(void)fclose(f);
	if (err == ERR_OK)
		*ret = cfg;
	else
		(void)cfg_free(cfg);
	return err;
}

enum err
conf_parse(const char *name, const char *text, size_t len,
    struct conf_section **ret, struct diag *diag)
{
	char *copy;
	cfg_t *cfg;
	enum err err;

	if (len > CONF_MAX_BYTES) {
		diag_set(diag, "%s: larger than %d bytes", name,
		    CONF_MAX_BYTES);
		return ERR_LIMIT;
	}
	copy = xcalloc(1, len + 2);
	memcpy(copy, text, len);
	copy[len] = '\n';
	err = scan_text(name, copy, len + 1, diag);
	if (err == ERR_OK) {
		(void)pthread_mutex_lock(&parse_lock);
		parse_diag = diag;
		parse_failed = false;
		err = parse_locked(name, copy, len + 1, &cfg);
		parse_diag = NULL;
		(void)pthread_mutex_unlock(&parse_lock);
	}
	free(copy);
	if (err == ERR_OK)
		*ret = (struct conf_section *)cfg;
	return err;
}

void
conf_free(struct conf_section *root)
{
	if (root == NULL)
		return;
	(void)pthread_mutex_lock(&parse_lock); /* it resets the scanner */
	(void)cfg_free((cfg_t *)root);
	(void)pthread_mutex_unlock(&parse_lock);
}

/* ---- reading the tree ---- */

static cfg_opt_t *
find(struct conf_section *section, const char *key)
{
	cfg_opt_t *opt;

	if (section == NULL)
		return NULL;
	opt = cfg_getopt((cfg_t *)section, key);
	assert(opt != NULL); /* callers ask for what the tables have */
	return opt;
}

bool
conf_given(struct conf_section *section, const char *key)
{
	const cfg_opt_t *opt = find(section, key);

	return opt != NULL && (opt->flags & CFGF_MODIFIED) != 0;
}

size_t
conf_count(struct conf_section *section, const char *key)
{
	return cfg_opt_size(find(section, key)); /* 0 for NULL */
}

const char *
conf_string(struct conf_section *section, const char *key, size_t index)
{
	cfg_opt_t *opt = find(section, key);

	if (index >= cfg_opt_size(opt))
		return NULL;
	return cfg_opt_getnstr(opt, (unsigned)index);
}

size_t
conf_section_count(struct conf_section *section, const char *name)
{
	return cfg_opt_size(find(section, name));
}

struct conf_section *
conf_section(struct conf_section *section, const char *name, size_t index)
{
	cfg_opt_t *opt = find(section, name);

	if (index >= cfg_opt_size(opt))
		return NULL;
	return (struct conf_section *)cfg_opt_getnsec(opt, (unsigned)index);
}

const char *
conf_title(struct conf_section *section)
{
	const char *title = cfg_title((cfg_t *)section);

	return title == NULL ? "" : title;
}

/* "line: name "title": " of the section, or of the key, where it has one. */
static void
where(struct conf_section *section, const char *key, char *out, size_t size)
{
	const cfg_t *cfg = (const cfg_t *)section;
	const cfg_opt_t *opt = key == NULL ? NULL : find(section, key);
	const char *title = conf_title(section);
	char line[16];

	(void)snprintf(line, sizeof(line), "%d", cfg->line);
	(void)snprintf(out, size, "%s: %s%s%.40s%s",
	    opt == NULL || opt->comment == NULL ? line : opt->comment,
	    cfg->name, *title == '\0' ? "" : " \"", title,
	    *title == '\0' ? "" : "\"");
}

enum err
conf_fail(struct conf_section *section, const char *key, struct diag *diag,
    const char *fmt, ...)
{
	char text[192], place[96] = "";
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (section != NULL)
		where(section, key, place, sizeof(place));
	diag_set(diag, "%s:%s%s%s: %s",
	    section == NULL ? "default" : ((cfg_t *)section)->filename, place,
	    key == NULL ? "" : ": ", key == NULL ? "" : key, text);
	return ERR_PROTO;
}
