/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_RELAY_H
#define BROKER_CONFIG_RELAY_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/* Fill in the relays: the sections `tunnel', `openai' and `relay'. */
enum err config_relay_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

/* A relay as a section of the file; `openai', too, is written as `relay'. */
void config_relay_dump(const struct config_relay *relay, FILE *out);

#endif
