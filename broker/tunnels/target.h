/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TARGET_H
#define BROKER_TARGET_H

#include <stddef.h>

#include "broker/config/config.h"
#include "common/err.h"

/*
 * target: request targets (RFC 9112 3.2.1), taken apart strictly.  Pure.
 *
 * A path is a literal name here: one with an escape, an empty segment or a dot
 * segment is refused, because somebody on the way may read it differently.
 */
#define TARGET_PARAMETERS_MAX 64

struct target_parameter {
	char *name, *value; /* decoded; UTF-8 without control characters */
};

struct target {
	char *path;
	struct target_parameter parameters[TARGET_PARAMETERS_MAX];
	size_t count;
};

/*
 * Take an origin-form target apart.  The query is split at "&"; "+" is a blank
 * there, as browsers write it.  ERR_PROTO with the reason, also where a
 * parameter is given twice.  Free it with target_free().
 */
enum err target_parse(const char *text, struct target **ret,
    struct diag *diag) MUST_CHECK;

/* The value of a parameter, borrowed; NULL where it is not given. */
const char *target_find(const struct target *target, const char *name);

/*
 * Have a parameter be this value, whatever the client gave; NULL takes it
 * away.  ERR_PROTO where there is no room.
 */
enum err target_set(struct target *target, const char *name, const char *value,
    struct diag *diag) MUST_CHECK;

void target_free(struct target *target); /* NULL is allowed */

/*
 * What the relay's rules make of one parameter, borrowed; *ret is NULL where
 * none is sent.  ERR_DENIED where its value is not allowed.
 */
enum err target_value(const struct target *target,
    const struct config_relay *relay, const char *name, const char **ret,
    struct diag *diag) MUST_CHECK;

/*
 * A target as a word for the log: without its query, which may hold a token,
 * and with a hash in place of what follows "/b/", which is an Anam session's
 * id.  size as for str_escape().
 */
void target_describe(const char *text, char *out, size_t size);

/*
 * The upstream's target: its path, its fixed query, and the parameters that
 * the relay knows, as its rules have it, in their order.  Others are dropped.
 * ERR_DENIED where a value is not allowed, naming the parameter; ERR_HEAD where
 * it becomes too long.  The caller frees it.
 */
enum err target_rewrite(const struct target *target,
    const struct config_relay *relay, char **ret, struct diag *diag) MUST_CHECK;

#endif
