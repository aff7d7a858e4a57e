/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONTROL_QUESTIONS_H
#define BROKER_CONTROL_QUESTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/wire.h"

/*
 * control_questions: what an operator asks of the store (WIRE_REPORT,
 * WIRE_TOP_UP, WIRE_BALANCE, WIRE_REVOKE, WIRE_BUDGETS), each in a thread of
 * its own: a long ledger is read, and a locked store waited for, while tunnels
 * are served.
 *
 * Not control_jobs' threads: as many operators as may ask, each waiting for a
 * locked store, would hold all of them, and with them every decision about a
 * tunnel; and so many more of those would be idle, for what is asked now and
 * then.
 *
 * One thread asks and takes; the answer to each is one JSON value.
 */
struct control_questions;

/* Most at once; of reports, which read much, one. */
#define CONTROL_QUESTIONS_MAX 8

/* ERR_SYS.  The caller frees it. */
enum err control_questions_new(struct control_questions **ret,
    struct diag *diag) MUST_CHECK;

/* Waits for those that run; NULL is allowed. */
void control_questions_free(struct control_questions *questions);

/* Readable when there is something to take. */
int control_questions_fd(const struct control_questions *questions);

/*
 * Ask; takes the packet, and the plans of users that are known
 * (broker/limits/budget_report.h), which are NULL for any other than
 * WIRE_BUDGETS.  ERR_UNAVAIL while too many run, or where there is no store.
 */
enum err control_questions_ask(struct control_questions *questions,
    struct wire_packet *packet, json_t *users, size_t max_bytes, void *asker,
    struct diag *diag) MUST_CHECK;

/* The asker has left: its answer will have none, NULL. */
void control_questions_leave(struct control_questions *questions, void *asker);

/*
 * Take an answer, or false where there is none (any more): to a report what
 * usage_report_make() makes, to WIRE_BUDGETS what budget_report_make() does; to
 * the others {"user","balance","balance_micro",
 * "reserved","reserved_micro","currency"}, a top-up's with its "id";
 * {"closed":0} for what was revoked, and closing is for whoever takes it, with
 * "known", whether it is configured, of a route; or
 * {"error":{"code","message"}}.  The caller decrefs it.
 */
bool control_questions_take(struct control_questions *questions,
    void **ret_asker, json_t **ret_answer);

/* The answer that is a refusal. */
json_t *control_questions_error(enum err err, const struct diag *diag);

#endif
