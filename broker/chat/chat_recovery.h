/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_RECOVERY_H
#define BROKER_CHAT_RECOVERY_H

#include "broker/config/config.h"
#include "broker/store/store.h"
#include "common/err.h"

/*
 * chat_recovery: ends what a broker left behind that died in the middle of
 * answers.
 *
 * What was stored of an answer becomes the answer, marked "interrupted", and
 * is charged by estimate; whoever comes back for it is told.  Done once: what
 * has been ended does not run any more.  What cannot be ended now (a full disk)
 * is logged, and left to the next start.  Errors as list_running()'s.
 */
enum err chat_recovery_run(struct store *store, const struct config *config,
    struct diag *diag) MUST_CHECK;

#endif
