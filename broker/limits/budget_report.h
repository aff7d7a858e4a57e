/* SPDX-License-Identifier: MIT */
#ifndef BROKER_BUDGET_REPORT_H
#define BROKER_BUDGET_REPORT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "broker/store/store.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * budget_report: how the budgets of today stand, as an operator asks.
 *
 * Whose a plan is says the configuration, but for users whose token names it:
 * users are {"u:ann":"paid"}, as far as that is known; NULL: nobody is.
 *
 * {"resets","budgets":[{"kind","name","plan","assumed"?,"tokens":{"used",
 * "reserved","limit"?},"money":{...},"seconds":{"used","limit"?}}],"omitted"}:
 * plan is null where there is none, and is "assumed": true where a token may
 * name another; money is decimal text.  "resets" is in seconds since 1970.  All
 * of them have at most about max_bytes as text: "omitted" did not fit.  Who is
 * asked for is there, though nothing was used.
 *
 * Waits for the store.  ERR_PROTO where an address is none; ERR_UNAVAIL.  The
 * caller decrefs it.
 */
enum err budget_report_make(struct store *store, const struct config *config,
    const struct wire_budgets *of, const json_t *users, int64_t now,
    size_t max_bytes, json_t **ret, struct diag *diag) MUST_CHECK;

#endif
