/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_RULES_H
#define BROKER_CONFIG_RULES_H

#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * config_rules: what a relay makes of a client's request: the headers that go
 * upstream, and the parameters of the query that may.
 */

/*
 * Fill these in from the sections `header' and `query'.  base is the relay
 * whose rules stand for what the section does not say, NULL for none.  The
 * relay's upstream and messages are there already: a parameter that the
 * upstream's own query has is none of the client's, and the model of a
 * `session' is the only one.
 */
enum err config_rules_build(struct conf_section *section,
    const struct config_relay *base, struct config_relay *relay,
    struct diag *diag) MUST_CHECK;

/* The same from the keys of `openai', which say the vendor's own rules. */
enum err config_rules_build_openai(struct conf_section *section,
    struct config_relay *relay, struct diag *diag) MUST_CHECK;

/* As the sections of a relay. */
void config_rules_dump(const struct config_relay *relay, FILE *out);

#endif
