/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_LIVEKIT_H
#define BROKER_CONFIG_LIVEKIT_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/* Fill in config->livekit from the section `livekit', where there is one. */
enum err config_livekit_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

void config_livekit_dump(const struct config_livekit *livekit, FILE *out);

#endif
