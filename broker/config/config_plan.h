/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_PLAN_H
#define BROKER_CONFIG_PLAN_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * Fill in config->plans from the sections `plan', and config->limits from
 * `limits'; after the store and the prices, before what names a plan.
 */
enum err config_plan_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

/*
 * The key `plan' of a section; fallback is what it is where it is absent, and
 * may be NULL.  The caller frees it.
 */
enum err config_plan_get(struct conf_section *section,
    const struct config *config, const char *fallback, char **ret,
    struct diag *diag) MUST_CHECK;

/*
 * Once all else is read: money can be counted for the models that the file
 * names, or no section may have a budget of it.
 */
enum err config_plan_check_money(struct conf_section *root,
    const struct config *config, struct diag *diag) MUST_CHECK;

/*
 * Models that a relay may be asked for, of which not all have a price: a
 * pattern, or NULL where there is none.  Borrowed.
 */
const char *config_plan_unpriced(const struct config *config,
    const struct config_relay *relay);

void config_plan_dump(const struct config *config, FILE *out);

#endif
