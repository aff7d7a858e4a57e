/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_ANAM_H
#define BROKER_CONFIG_ANAM_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/* Fill in config->anam from the section `anam', where there is one. */
enum err config_anam_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

void config_anam_dump(const struct config_anam *anam, FILE *out);

#endif
