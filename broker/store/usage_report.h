/* SPDX-License-Identifier: MIT */
#ifndef BROKER_USAGE_REPORT_H
#define BROKER_USAGE_REPORT_H

#include <jansson.h>
#include <stddef.h>

#include "broker/config/config.h"
#include "broker/store/store.h"

/*
 * usage_report: the ledger's sums, added up as an operator asks, with what they
 * cost.  Pure.
 */

/*
 * {"rows":[{...}],"total":{...},"omitted":n}; a row has the members that it is
 * for ("day", "route", "user", "model"), "events", "tokens" (by kind, those
 * that are not 0), "total_tokens", "seconds", "cost" (by currency, decimal
 * text), and "unpriced", of how many events there is no price.  by is one of
 * the four, or NULL for all of them.  The rows have at most about max_bytes as
 * text: "omitted" did not fit; they are in "total".  The caller decrefs it.
 */
json_t *usage_report_make(const struct config *config,
    const struct store_sums *sums, const char *by, size_t max_bytes);

#endif
