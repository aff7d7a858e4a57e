/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_REPORT_H
#define BROKER_CONTROL_REPORT_H

#include <jansson.h>
#include <stddef.h>

#include "common/err.h"
#include "common/wire.h"

/*
 * control_report: an operator's question to the ledger, which a thread of its
 * own answers: a long ledger is read while tunnels are served.
 */
struct control_report;

/* ERR_SYS.  The caller frees it. */
enum err control_report_new(struct control_report **ret,
    struct diag *diag) MUST_CHECK;

/* Waits for one that runs; NULL is allowed. */
void control_report_free(struct control_report *report);

/* Readable when the answer is there. */
int control_report_fd(const struct control_report *report);

/*
 * Ask.  ERR_UNAVAIL while another one runs, or where there is no store.
 */
enum err control_report_start(struct control_report *report,
    const struct wire_report *question, size_t max_bytes,
    struct diag *diag) MUST_CHECK;

/*
 * Take the answer, once the descriptor is readable: what usage_report_make()
 * makes, or {"error":{"code","message"}}.  The caller decrefs it.
 */
json_t *control_report_take(struct control_report *report);

/* The answer that is a refusal. */
json_t *control_report_error(enum err err, const struct diag *diag);

#endif
