/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_MESSAGES_H
#define BROKER_CONFIG_MESSAGES_H

#include <stdbool.h>
#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * config_messages: what the sections `openai' and `relay' say of messages, of
 * their log, and of tickets.
 */

/*
 * Fill these in.  base is the relay whose settings stand for what the section
 * does not say, NULL for none; a `session' is one setting.  usage is the
 * default where there is no base.
 */
enum err config_messages_build(struct conf_section *section,
    const struct config_relay *base, bool usage, struct config_relay *relay,
    struct diag *diag) MUST_CHECK;

/* The keys, as they stand in a relay's section. */
void config_messages_dump(const struct config_relay *relay, FILE *out);

#endif
