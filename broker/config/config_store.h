/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_STORE_H
#define BROKER_CONFIG_STORE_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * Fill in config->store from the section `store'.  Without a path there: a file
 * in the folder that systemd made for us (StateDirectory=), if it did.
 */
enum err config_store_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

void config_store_dump(const struct config *config, FILE *out);

#endif
