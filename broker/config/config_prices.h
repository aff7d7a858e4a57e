/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_PRICES_H
#define BROKER_CONFIG_PRICES_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/* Fill in config->prices from the sections `prices', in their order. */
enum err config_prices_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

void config_prices_dump(const struct config *config, FILE *out);

#endif
