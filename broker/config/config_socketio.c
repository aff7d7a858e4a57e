/* SPDX-License-Identifier: MIT */
#include "broker/config/config_socketio.h"

#include <string.h>

#include "broker/config/config_value.h"
#include "common/xalloc.h"

#define HOUR_MS	    3600000
#define PER_ADDRESS 500 /* those behind one address may be an office */

static const char *
check_path(const char *text)
{
	size_t len = strlen(text);

	if (len < 3 || text[0] != '/' || text[len - 1] != '/')
		return "write it with a / at either end, as /socket.io/";
	if (len > 128)
		return "longer than 128 bytes";
	return value_check_path(text);
}

static enum err
build_path(struct conf_section *section, const char *key, const char *fallback,
    const struct config *config, char **ret, struct diag *diag)
{
	enum err err =
	    value_get_text(section, key, check_path, fallback, ret, diag);

	if (err == ERR_OK && config_find_relay(config, *ret) != NULL)
		return conf_fail(section, key, diag,
		    "%.60s is a path of a relay, too", *ret);
	return err;
}

static enum err
get_ms(struct conf_section *section, const char *key, uint64_t min,
    uint64_t fallback, int64_t *ret, struct diag *diag)
{
	uint64_t ms = 0;
	enum err err =
	    value_get_number(section, key, min, HOUR_MS, fallback, &ms, diag);

	*ret = (int64_t)ms;
	return err;
}

static enum err
build_timing(struct conf_section *section, struct config_socketio *socketio,
    struct diag *diag)
{
	enum err err = get_ms(section, "ping_interval_ms", 100, 25000,
	    &socketio->ping_interval_ms, diag);

	if (err == ERR_OK)
		err = get_ms(section, "ping_timeout_ms", 100, 20000,
		    &socketio->ping_timeout_ms, diag);
	if (err == ERR_OK)
		err = get_ms(section, "connect_timeout_ms", 100, 45000,
		    &socketio->connect_timeout_ms, diag);
	if (err == ERR_OK)
		err = get_ms(section, "recovery_ms", 0, 120000,
		    &socketio->recovery_ms, diag);
	return err;
}

static enum err
build_bounds(struct conf_section *section, struct config_socketio *socketio,
    struct diag *diag)
{
	enum err err = value_get_number(section, "max_payload", 100, 1 << 24,
	    1000000, &socketio->max_payload, diag);
	uint64_t all, rate = 0, burst = 0;

	if (err == ERR_OK)
		err = value_get_number(section, "max_sessions", 1, 1000000,
		    10000, &socketio->max_sessions, diag);
	all = socketio->max_sessions;
	if (err == ERR_OK)
		err = value_get_number(section, "max_sessions_per_address", 1,
		    all, all < PER_ADDRESS ? all : PER_ADDRESS,
		    &socketio->max_sessions_per_address, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "queue_bytes", 1 << 20,
		    UINT64_C(1) << 40, 268435456, &socketio->queue_bytes, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "events_per_second", 1, 10000,
		    20, &rate, diag);
	if (err == ERR_OK)
		err = value_get_number(section, "event_burst", 1, 10000, 100,
		    &burst, diag);
	socketio->events_per_s = (unsigned)rate;
	socketio->event_burst = (unsigned)burst;
	return err;
}

enum err
config_socketio_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	struct conf_section *section = conf_section(root, "socketio", 0);
	struct config_socketio *socketio;
	enum err err;

	if (section == NULL && config->chat == NULL)
		return ERR_OK;
	socketio = xcalloc(1, sizeof(*socketio));
	config->socketio = socketio;
	err = build_path(section, "path", "/socket.io/", config,
	    &socketio->path, diag);
	if (err == ERR_OK)
		err = build_path(section, "engine_path", "/engine.io/", config,
		    &socketio->engine_path, diag);
	if (err == ERR_OK && strcmp(socketio->path, socketio->engine_path) == 0)
		err = conf_fail(section, "engine_path", diag,
		    "is the path of Socket.IO, too");
	if (err == ERR_OK)
		err = build_timing(section, socketio, diag);
	if (err == ERR_OK)
		err = build_bounds(section, socketio, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "echo", false, &socketio->echo,
		    diag);
	return err;
}

bool
config_socketio_equal(const struct config_socketio *a,
    const struct config_socketio *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a->path, b->path) == 0 &&
	    strcmp(a->engine_path, b->engine_path) == 0 &&
	    a->ping_interval_ms == b->ping_interval_ms &&
	    a->ping_timeout_ms == b->ping_timeout_ms &&
	    a->connect_timeout_ms == b->connect_timeout_ms &&
	    a->recovery_ms == b->recovery_ms &&
	    a->max_payload == b->max_payload &&
	    a->max_sessions == b->max_sessions &&
	    a->max_sessions_per_address == b->max_sessions_per_address &&
	    a->queue_bytes == b->queue_bytes &&
	    a->events_per_s == b->events_per_s &&
	    a->event_burst == b->event_burst && a->echo == b->echo;
}

void
config_socketio_dump(const struct config_socketio *socketio, FILE *out)
{
	(void)fputs("socketio {\n", out);
	value_put_text(out, 1, "path", socketio->path);
	value_put_number(out, 1, "ping_interval_ms",
	    (uint64_t)socketio->ping_interval_ms);
	value_put_number(out, 1, "ping_timeout_ms",
	    (uint64_t)socketio->ping_timeout_ms);
	value_put_number(out, 1, "connect_timeout_ms",
	    (uint64_t)socketio->connect_timeout_ms);
	value_put_number(out, 1, "recovery_ms",
	    (uint64_t)socketio->recovery_ms);
	value_put_number(out, 1, "max_payload", socketio->max_payload);
	value_put_number(out, 1, "max_sessions", socketio->max_sessions);
	value_put_number(out, 1, "max_sessions_per_address",
	    socketio->max_sessions_per_address);
	value_put_number(out, 1, "queue_bytes", socketio->queue_bytes);
	value_put_number(out, 1, "events_per_second", socketio->events_per_s);
	value_put_number(out, 1, "event_burst", socketio->event_burst);
	value_put_bool(out, 1, "echo", socketio->echo);
	value_put_text(out, 1, "engine_path", socketio->engine_path);
	(void)fputs("}\n", out);
}
