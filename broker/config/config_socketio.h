/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_SOCKETIO_H
#define BROKER_CONFIG_SOCKETIO_H

#include <stdbool.h>
#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * Fill in config->socketio from the section `socketio', or, where a chat needs
 * it, without; the relays and the chat are there already.
 */
enum err config_socketio_build(struct conf_section *root, struct config *config,
    struct diag *diag) MUST_CHECK;

/* Whether two are the same; NULL is allowed. */
bool config_socketio_equal(const struct config_socketio *a,
    const struct config_socketio *b);

void config_socketio_dump(const struct config_socketio *socketio, FILE *out);

#endif
