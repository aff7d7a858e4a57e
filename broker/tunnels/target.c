/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/target.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/crypt.h"
#include "common/str.h"
#include "common/xalloc.h"

#define REWRITTEN_BYTES (8 * 1024)

/* ---- parsing ----------------------------------------------------------- */

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Undo the encoding of a query's name or value; NULL where it is not one. */
static char *
decode(const char *in, size_t len)
{
	char *out = xcalloc(1, len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int c = in[i] == '+' ? ' ' : (unsigned char)in[i];

		if (c == '%') {
			int high = i + 2 < len ? hex_value(in[i + 1]) : -1;
			int low = i + 2 < len ? hex_value(in[i + 2]) : -1;

			c = high < 0 || low < 0 ? 0 : high << 4 | low;
			i += 2;
		}
		if (c < 0x20 || c == 0x7f) {
			free(out);
			return NULL;
		}
		out[n++] = (char)c;
	}
	if (!str_is_utf8(out, n)) {
		free(out);
		return NULL;
	}
	return out;
}

const char *
target_find(const struct target *target, const char *name)
{
	for (size_t i = 0; i < target->count; i++)
		if (strcmp(target->parameters[i].name, name) == 0)
			return target->parameters[i].value;
	return NULL;
}

/* Add one "name=value" or "name"; takes nothing of text. */
static enum err
add_parameter(struct target *target, const char *text, size_t len,
    struct diag *diag)
{
	const char *equals = memchr(text, '=', len);
	size_t name_len = equals == NULL ? len : (size_t)(equals - text);
	struct target_parameter new;
	enum err err = ERR_PROTO;

	new.name = decode(text, name_len);
	new.value = equals == NULL ? xstrdup("")
				   : decode(equals + 1, len - name_len - 1);
	if (new.name == NULL || new.value == NULL)
		diag_set(diag, "the query is not well encoded");
	else if (target_find(target, new.name) != NULL)
		diag_set(diag, "a query parameter is given twice");
	else if (target->count == TARGET_PARAMETERS_MAX)
		diag_set(diag, "the query has more than %d parameters",
		    TARGET_PARAMETERS_MAX);
	else
		err = ERR_OK;
	if (err == ERR_OK) {
		target->parameters[target->count++] = new;
	} else {
		free(new.name);
		free(new.value);
	}
	return err;
}

static enum err
parse_query(struct target *target, const char *query, struct diag *diag)
{
	enum err err = ERR_OK;

	while (err == ERR_OK && *query != '\0') {
		size_t len = strcspn(query, "&");

		if (len > 0)
			err = add_parameter(target, query, len, diag);
		query += len;
		query += *query == '&';
	}
	return err;
}

enum err
target_parse(const char *text, struct target **ret, struct diag *diag)
{
	size_t path_len = strcspn(text, "?");
	const char *fault = str_path_fault(text, path_len);
	struct target *target;
	enum err err = ERR_OK;

	if (fault != NULL) {
		diag_set(diag, "%s", fault);
		return ERR_PROTO;
	}
	target = xcalloc(1, sizeof(*target));
	target->path = xstrndup(text, path_len);
	if (text[path_len] == '?')
		err = parse_query(target, text + path_len + 1, diag);
	if (err != ERR_OK) {
		target_free(target);
		return err;
	}
	*ret = target;
	return ERR_OK;
}

enum err
target_set(struct target *target, const char *name, const char *value,
    struct diag *diag)
{
	struct target_parameter *p = target->parameters;
	struct target_parameter *end = p + target->count;

	while (p < end && strcmp(p->name, name) != 0)
		p++;
	if (p < end) {
		free(p->name);
		free(p->value);
		*p = end[-1];
		target->count--;
	}
	if (value == NULL)
		return ERR_OK;
	if (target->count == TARGET_PARAMETERS_MAX) {
		diag_set(diag, "the query has more than %d parameters",
		    TARGET_PARAMETERS_MAX);
		return ERR_PROTO;
	}
	target->parameters[target->count++] =
	    (struct target_parameter){ xstrdup(name), xstrdup(value) };
	return ERR_OK;
}

void
target_free(struct target *target)
{
	if (target == NULL)
		return;
	for (size_t i = 0; i < target->count; i++) {
		free(target->parameters[i].name);
		free(target->parameters[i].value);
	}
	free(target->path);
	free(target);
}

/* ---- logging ------------------------------------------------------------ */

void
target_describe(const char *text, char *out, size_t size)
{
	size_t len = strcspn(text, "?"), id_len;
	const char *id = strstr(text, "/b/");
	uint8_t digest[20];
	char *hidden;

	if (id == NULL || (size_t)(id - text) + 3 >= len) {
		(void)str_escape(out, size, text, len);
		return;
	}
	id += 3;
	id_len = strcspn(id, "/?");
	crypt_sha1(id, id_len, digest);
	hidden = xasprintf("%.*s(%02x%02x%02x%02x)%.*s", (int)(id - text), text,
	    digest[0], digest[1], digest[2], digest[3],
	    (int)(len - id_len - (size_t)(id - text)), id + id_len);
	(void)str_escape(out, size, hidden, strlen(hidden));
	free(hidden);
}

/* ---- rewriting --------------------------------------------------------- */

static enum err
put(struct buf *out, const char *text)
{
	return buf_add(out, text, strlen(text));
}

/* Everything but unreserved characters (RFC 3986 2.3) is escaped. */
static enum err
put_encoded(struct buf *out, const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz0123456789-._~";
	static const char hex[] = "0123456789ABCDEF";
	enum err err = ERR_OK;

	for (; err == ERR_OK && *text != '\0'; text++) {
		uint8_t c = (uint8_t)*text;
		char escape[3] = { '%', hex[c >> 4], hex[c & 15] };

		if (strchr(plain, *text) != NULL)
			err = buf_add(out, text, 1);
		else
			err = buf_add(out, escape, sizeof(escape));
	}
	return err;
}

static bool
is_allowed(const struct config_query *rule, const char *value)
{
	for (size_t i = 0; i < rule->values.count; i++)
		if (str_match(rule->values.items[i], value))
			return true;
	return rule->values.count == 0;
}

/* What stands for a parameter that the client has not sent; may be NULL. */
static const char *
fallback(const struct config_query *rule, const struct target *target)
{
	for (size_t i = 0; i < rule->fallback_unless.count; i++)
		if (target_find(target, rule->fallback_unless.items[i]) != NULL)
			return NULL;
	return rule->fallback;
}

/* The value that a rule makes of the client's; NULL where there is none. */
static enum err
apply(const struct config_query *rule, const struct target *target,
    const char **ret, struct diag *diag)
{
	const char *value = target_find(target, rule->name);

	if (value == NULL) {
		*ret = fallback(rule, target);
		return ERR_OK;
	}
	for (size_t i = 0; i < rule->alias_count; i++)
		if (strcmp(rule->aliases[i].from, value) == 0) {
			value = rule->aliases[i].to;
			break;
		}
	if (!is_allowed(rule, value)) {
		diag_set(diag, "this value of `%s' is not allowed", rule->name);
		return ERR_DENIED;
	}
	*ret = value;
	return ERR_OK;
}

enum err
target_value(const struct target *target, const struct config_relay *relay,
    const char *name, const char **ret, struct diag *diag)
{
	*ret = NULL;
	for (size_t i = 0; i < relay->query_count; i++)
		if (strcmp(relay->queries[i].name, name) == 0)
			return apply(&relay->queries[i], target, ret, diag);
	return ERR_OK;
}

static enum err
put_parameter(struct buf *out, const char *separator, const char *name,
    const char *value)
{
	if (put(out, separator) != ERR_OK || put_encoded(out, name) != ERR_OK ||
	    put(out, "=") != ERR_OK || put_encoded(out, value) != ERR_OK)
		return ERR_HEAD;
	return ERR_OK;
}

static enum err
rewrite(const struct target *target, const struct config_relay *relay,
    struct buf *out, struct diag *diag)
{
	const struct config_url *url = &relay->upstream;
	const char *separator = "?";

	if (put(out, url->path) != ERR_OK)
		return ERR_HEAD;
	if (url->query != NULL) {
		if (put(out, separator) != ERR_OK ||
		    put(out, url->query) != ERR_OK)
			return ERR_HEAD;
		separator = "&";
	}
	for (size_t i = 0; i < relay->query_count; i++) {
		const char *name = relay->queries[i].name, *value;
		enum err err = apply(&relay->queries[i], target, &value, diag);

		if (err == ERR_OK && value != NULL) {
			err = put_parameter(out, separator, name, value);
			separator = "&";
		}
		if (err != ERR_OK)
			return err;
	}
	return ERR_OK;
}

enum err
target_rewrite(const struct target *target, const struct config_relay *relay,
    char **ret, struct diag *diag)
{
	struct buf *out = buf_new(REWRITTEN_BYTES);
	const uint8_t *text;
	enum err err;
	size_t len;

	err = rewrite(target, relay, out, diag);
	if (err == ERR_HEAD)
		diag_set(diag, "the query is too long");
	if (err == ERR_OK) {
		text = buf_peek(out, &len);
		*ret = xstrndup((const char *)text, len);
	}
	buf_free(out);
	return err;
}
