/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_NOTICE_H
#define BROKER_CONFIG_NOTICE_H

#include "broker/config/config.h"

/*
 * config_notice: log what an operator may not expect of a configuration that
 * is correct: that it serves nobody else, or nothing, or a key in the clear,
 * or from a file that everybody may read.
 */
void config_notice_log(const struct config *config);

/*
 * Log the keys that are other than they were at the start, where they were
 * used: "config.needs_restart".
 */
void config_notice_restart(const struct config *config,
    const struct config *started);

#endif
