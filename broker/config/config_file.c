/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "broker/config/config_anam.h"
#include "broker/config/config_chat.h"
#include "broker/config/config_livekit.h"
#include "broker/config/config_plan.h"
#include "broker/config/config_prices.h"
#include "broker/config/config_relay.h"
#include "broker/config/config_socketio.h"
#include "broker/config/config_store.h"
#include "broker/config/config_users.h"
#include "broker/config/config_value.h"
#include "broker/config/url.h"
#include "broker/signing_key.h"
#include "common/str.h"
#include "common/xalloc.h"

#define TICKETS_ROTATE_S  ((int64_t)7 * 86400)
#define TICKETS_TTL_S	  60
#define TICKETS_TTL_MAX_S 600

/* ---- access ---- */

static void
add_range(struct config *config, const struct config_range *range)
{
	config->access.clients = xreallocarray(config->access.clients,
	    config->access.client_count + 1, sizeof(config->access.clients[0]));
	config->access.clients[config->access.client_count++] = *range;
}

static void
add_loopback(struct config *config)
{
	struct config_range v4 = { .family = AF_INET,
		.address = { 127 },
		.prefix_len = 8 };
	struct config_range v6 = { .family = AF_INET6, .prefix_len = 128 };

	v6.address[15] = 1;
	add_range(config, &v4);
	add_range(config, &v6);
}

/* Whether a bit after the prefix is set. */
static bool
has_host_bits(const struct config_range *range, unsigned bits)
{
	for (unsigned i = range->prefix_len; i < bits; i++)
		if (range->address[i / 8] & (0x80 >> i % 8))
			return true;
	return false;
}

/* "ADDRESS" or "ADDRESS/BITS"; what is wrong with it, or NULL. */
static const char *
parse_range(const char *text, struct config_range *range)
{
	size_t len = strcspn(text, "/");
	char address[INET6_ADDRSTRLEN];
	unsigned bits = strchr(text, ':') == NULL ? 32 : 128;
	uint64_t prefix = bits;

	if (len >= sizeof(address))
		return "write loopback, any, an address or address/bits";
	memcpy(address, text, len);
	address[len] = '\0';
	range->family = bits == 32 ? AF_INET : AF_INET6;
	if (inet_pton(range->family, address, range->address) != 1)
		return "write loopback, any, an address or address/bits";
	if (text[len] == '/' &&
	    str_to_u64(text + len + 1, strlen(text + len + 1), bits, &prefix) !=
		ERR_OK)
		return bits == 32 ? "write /0 to /32" : "write /0 to /128";
	range->prefix_len = (unsigned)prefix;
	if (bits == 128 && prefix > 0 &&
	    IN6_IS_ADDR_V4MAPPED(
		(const struct in6_addr *)(const void *)range->address))
		return "write the IPv4 address itself";
	if (has_host_bits(range, bits))
		return "bits after the prefix are set: write the network's "
		       "address";
	return NULL;
}

static enum err
build_clients(struct conf_section *section, struct config *config,
    struct diag *diag)
{
	size_t count = conf_count(section, "clients");

	if (!conf_given(section, "clients")) {
		add_loopback(config);
		return ERR_OK;
	}
	if (count == 0 || count > VALUE_LIST_MAX)
		return conf_fail(section, "clients", diag,
		    "write 1 to %d items, as {\"loopback\"}", VALUE_LIST_MAX);
	for (size_t i = 0; i < count; i++) {
		const char *item = conf_string(section, "clients", i);
		struct config_range range = { .any = false };
		const char *wrong = NULL;

		if (strcmp(item, "loopback") == 0) {
			add_loopback(config);
			continue;
		}
		range.any = strcmp(item, "any") == 0;
		if (!range.any)
			wrong = parse_range(item, &range);
		if (wrong != NULL)
			return conf_fail(section, "clients", diag,
			    "\"%.60s\": %s", item, wrong);
		add_range(config, &range);
	}
	return ERR_OK;
}

static enum err
build_origins(struct conf_section *section, struct config *config,
    struct diag *diag)
{
	static const char *const loopback[] = { "loopback", NULL };
	struct config_strings *origins = &config->access.origins;

	if (value_get_list(section, "origins", NULL, loopback, origins, diag) !=
	    ERR_OK)
		return ERR_PROTO;
	for (size_t i = 0; i < origins->count; i++) {
		const char *item = origins->items[i];
		struct diag why;

		if (strcmp(item, "loopback") != 0 && strcmp(item, "*") != 0 &&
		    url_check_origin(item, &why) != ERR_OK)
			return conf_fail(section, "origins", diag,
			    "\"%.60s\" %s", item, why.text);
	}
	return ERR_OK;
}

/* ---- control ---- */

/* A user's name, or the number of one that has no name. */
static enum err
find_user(const char *name, uid_t *ret)
{
	const struct passwd *pw = getpwnam(name);
	uint64_t uid;

	if (pw != NULL) {
		*ret = pw->pw_uid;
		return ERR_OK;
	}
	if (str_to_u64(name, strlen(name), UINT32_MAX - 1, &uid) != ERR_OK)
		return ERR_NOTFOUND;
	*ret = (uid_t)uid;
	return ERR_OK;
}

static enum err
build_users(struct conf_section *section, struct config *config,
    struct diag *diag)
{
	size_t count = conf_count(section, "users");
	uid_t *users = xcalloc(count + 1, sizeof(*users));
	size_t *n = &config->control.user_count;

	config->control.users = users;
	/* an installation without this user runs as one user */
	if (!conf_given(section, "users") &&
	    find_user("culvert-tunnel", &users[*n]) == ERR_OK)
		(*n)++;
	for (size_t i = 0; i < count; i++, (*n)++) {
		const char *item = conf_string(section, "users", i);

		if (find_user(item, &users[i]) != ERR_OK)
			return conf_fail(section, "users", diag,
			    "there is no user %.60s", item);
	}
	return ERR_OK;
}

static enum err
build_mode(struct conf_section *section, struct config *config,
    struct diag *diag)
{
	const char *text = conf_string(section, "mode", 0);
	unsigned mode = 0;

	if (text == NULL)
		text = "0600";
	if (strlen(text) < 3 || strlen(text) > 4 ||
	    text[strspn(text, "01234567")] != '\0' ||
	    (strlen(text) == 4 && text[0] != '0'))
		return conf_fail(section, "mode", diag,
		    "%.40s: write three octal digits after a 0, as \"0660\"",
		    text);
	for (const char *p = text; *p != '\0'; p++)
		mode = mode << 3 | (unsigned)(*p - '0');
	config->control.mode = (mode_t)mode;
	return ERR_OK;
}

static enum err
build_control(struct conf_section *section, struct config *config,
    struct diag *diag)
{
	enum err err = value_get_text(section, "socket", value_check_file,
	    RUNSTATEDIR "/culvert/control.sock", &config->control.socket, diag);

	if (err == ERR_OK && strlen(config->control.socket) > 107)
		err = conf_fail(section, "socket", diag,
		    "a socket's path has at most 107 bytes");
	if (err == ERR_OK)
		err = build_mode(section, config, diag);
	if (err == ERR_OK)
		err = build_users(section, config, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "max_connections", 1, 1000000,
		    10000, &config->control.max_connections, diag);
	return err;
}

/* ---- requests ---- */

static const char *
check_base_path(const char *text)
{
	if (text[strlen(text) - 1] == '/')
		return "leave out the / at the end";
	return value_check_path(text);
}

static enum err
build_requests(struct conf_section *section, struct config *config,
    struct diag *diag)
{
	uint64_t threads = 0, timeout = 0, stop = 0;
	enum err err =
	    value_get_number(section, "threads", 1, 1024, 16, &threads, diag);

	if (err == ERR_OK)
		err = value_get_number(section, "body_bytes", 1024, 1 << 24,
		    65536, &config->requests.body_bytes, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "timeout", 1, 600, 10, &timeout,
		    diag);
	if (err == ERR_OK)
		err =
		    value_get_number(section, "stop", 0, 600, 10, &stop, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "waiting", 1, 1000000, 20000,
		    &config->requests.waiting, diag);
	if (err == ERR_OK)
		err = value_get_optional(section, "base_path", check_base_path,
		    &config->requests.base_path, diag);
	if (config->requests.base_path == NULL)
		config->requests.base_path = xstrdup("");
	config->requests.threads = (unsigned)threads;
	config->requests.timeout_ms = (int64_t)timeout * 1000;
	config->requests.stop_ms = (int64_t)stop * 1000;
	return err;
}

/* ---- tickets ---- */

static enum err
build_tickets(struct conf_section *section, struct config *config,
    struct diag *diag)
{
	uint64_t rotate = 0, ttl = 0, ttl_max = 0;
	size_t len;

	if (value_get_number(section, "rotate", 0, 366 * 86400,
		TICKETS_ROTATE_S, &rotate, diag) != ERR_OK ||
	    value_get_number(section, "ttl_max", 1, CONFIG_TICKET_MAX_S,
		TICKETS_TTL_MAX_S, &ttl_max, diag) != ERR_OK ||
	    value_get_number(section, "ttl", 1, ttl_max,
		ttl_max < TICKETS_TTL_S ? ttl_max : TICKETS_TTL_S, &ttl,
		diag) != ERR_OK)
		return ERR_PROTO;
	if (rotate > 0 && rotate < SIGNING_KEY_ROTATE_MIN_S)
		return conf_fail(section, "rotate", diag,
		    "is seconds: 0, or %lld at least",
		    (long long)SIGNING_KEY_ROTATE_MIN_S);
	config->tickets.rotate_s = (int64_t)rotate;
	config->tickets.ttl_s = (int64_t)ttl;
	config->tickets.ttl_max_s = (int64_t)ttl_max;
	if (value_get_secret(section, "secret", NULL, &config->tickets.secret,
		diag) != ERR_OK)
		return ERR_PROTO;
	if (config->tickets.secret == NULL)
		return ERR_OK;
	(void)secret_peek(config->tickets.secret, &len);
	if (len < 32)
		return conf_fail(section, "secret", diag,
		    "has less than 32 bytes: make one with openssl rand "
		    "-base64 32");
	return ERR_OK;
}

/* ---- the file ---- */

static enum err
build(struct conf_section *root, struct config *config, struct diag *diag)
{
	struct conf_section *access = conf_section(root, "access", 0);
	enum err err = build_clients(access, config, diag);

	if (err == ERR_OK)
		err = build_origins(access, config, diag);
	if (err == ERR_OK)
		err = value_get_bool(access, "missing_origin", false,
		    &config->access.missing_origin, diag);
	if (err == ERR_OK)
		err = build_control(conf_section(root, "control", 0), config,
		    diag);
	if (err == ERR_OK)
		err = build_requests(conf_section(root, "requests", 0), config,
		    diag);
	if (err == ERR_OK)
		err = build_tickets(conf_section(root, "tickets", 0), config,
		    diag);
	if (err == ERR_OK)
		err = config_store_build(root, config, diag);
	if (err == ERR_OK)
		err = config_prices_build(root, config, diag);
	if (err == ERR_OK)
		err = config_plan_build(root, config, diag);
	if (err == ERR_OK)
		err = config_relay_build(root, config, diag);
	if (err == ERR_OK)
		err = config_livekit_build(root, config, diag);
	if (err == ERR_OK)
		err = config_users_build(root, config, diag);
	if (err == ERR_OK)
		err = config_anam_build(root, config, diag);
	if (err == ERR_OK)
		err = config_chat_build(root, config, diag);
	if (err == ERR_OK)
		err = config_socketio_build(root, config, diag);
	if (err == ERR_OK)
		err = config_plan_check_money(root, config, diag);
	return err;
}

enum err
config_parse(const char *name, const char *text, size_t len,
    struct config **ret, struct diag *diag)
{
	struct conf_section *root;
	struct config *config;
	enum err err = conf_parse(name, text, len, &root, diag);

	if (err != ERR_OK)
		return err;
	config = config_new();
	config->path = xstrdup(name);
	err = build(root, config, diag);
	conf_free(root);
	if (err == ERR_OK)
		*ret = config;
	else
		config_unref(config);
	return err;
}

enum err
config_load(const char *path, struct config **ret, struct diag *diag)
{
	size_t size = CONF_MAX_BYTES + 1; /* one more: too large is seen */
	FILE *f = fopen(path, "re");
	char *text;
	size_t len;
	enum err err;

	if (f == NULL) {
		diag_set(diag, "cannot read %s: %s", path, strerror(errno));
		return ERR_SYS;
	}
	text = xcalloc(1, size);
	len = fread(text, 1, size, f);
	if (ferror(f)) {
		diag_set(diag, "cannot read %s: %s", path, strerror(errno));
		err = ERR_SYS;
	} else {
		err = config_parse(path, text, len, ret, diag);
	}
	(void)fclose(f);
	free(text);
	return err;
}

/* ---- the way back ---- */

static void
dump_access(const struct config *config, FILE *out)
{
	(void)fputs("access {\n\tclients = {", out);
	for (size_t i = 0; i < config->access.client_count; i++) {
		const struct config_range *range = &config->access.clients[i];
		char address[INET6_ADDRSTRLEN] = "";

		(void)fputs(i == 0 ? "" : ", ", out);
		if (range->any)
			(void)fputs("\"any\"", out);
		else
			(void)fprintf(out, "\"%s/%u\"",
			    inet_ntop(range->family, range->address, address,
				sizeof(address)),
			    range->prefix_len);
	}
	(void)fputs("}\n", out);
	value_put_list(out, 1, "origins", &config->access.origins);
	value_put_bool(out, 1, "missing_origin", config->access.missing_origin);
	(void)fputs("}\n", out);
}

void
config_dump(const struct config *config, FILE *out)
{
	dump_access(config, out);
	(void)fputs("control {\n", out);
	value_put_text(out, 1, "socket", config->control.socket);
	(void)fprintf(out, "\tmode = \"%04o\"\n\tusers = {",
	    (unsigned)config->control.mode);
	for (size_t i = 0; i < config->control.user_count; i++)
		(void)fprintf(out, "%s\"%u\"", i == 0 ? "" : ", ",
		    (unsigned)config->control.users[i]);
	(void)fputs("}\n", out);
	value_put_number(out, 1, "max_connections",
	    config->control.max_connections);
	(void)fputs("}\nrequests {\n", out);
	value_put_number(out, 1, "threads", config->requests.threads);
	value_put_number(out, 1, "body_bytes", config->requests.body_bytes);
	value_put_number(out, 1, "timeout",
	    (uint64_t)config->requests.timeout_ms / 1000);
	value_put_number(out, 1, "stop",
	    (uint64_t)config->requests.stop_ms / 1000);
	value_put_number(out, 1, "waiting", config->requests.waiting);
	value_put_text(out, 1, "base_path", config->requests.base_path);
	(void)fputs("}\n", out);
	(void)fputs("tickets {\n", out);
	if (config->tickets.secret != NULL)
		value_put_secret(out, 1, "secret", config->tickets.secret);
	value_put_number(out, 1, "rotate", (uint64_t)config->tickets.rotate_s);
	value_put_number(out, 1, "ttl", (uint64_t)config->tickets.ttl_s);
	value_put_number(out, 1, "ttl_max",
	    (uint64_t)config->tickets.ttl_max_s);
	(void)fputs("}\n", out);
	if (config->users != NULL)
		config_users_dump(config->users, out);
	config_store_dump(config, out);
	config_prices_dump(config, out);
	config_plan_dump(config, out);
	for (size_t i = 0; i < config->relay_count; i++)
		config_relay_dump(&config->relays[i], out);
	if (config->livekit != NULL)
		config_livekit_dump(config->livekit, out);
	if (config->anam != NULL)
		config_anam_dump(config->anam, out);
	if (config->chat != NULL)
		config_chat_dump(config->chat, out);
	if (config->socketio != NULL)
		config_socketio_dump(config->socketio, out);
}
