/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_CHAT_H
#define BROKER_CONFIG_CHAT_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * Fill in config->chat from the section `chat', where there is one; the
 * sections `requests', `store' and `prices' are there already.
 */
enum err config_chat_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

void config_chat_dump(const struct config_chat *chat, FILE *out);

#endif
