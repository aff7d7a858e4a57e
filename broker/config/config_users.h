/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_USERS_H
#define BROKER_CONFIG_USERS_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * Fill in config->users from the section `users'; the sections `tickets' and
 * `livekit' are there already, whose secrets must be others.  Without it no
 * section may have `require_user'.
 */
enum err config_users_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

void config_users_dump(const struct config_users *users, FILE *out);

#endif
