/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_USAGE_H
#define BROKER_STORE_SQLITE_USAGE_H

#include "broker/store/database.h"
#include "broker/store/store.h"

/* store_sqlite_usage: the ledger's verbs of store.h. */
enum err store_sqlite_add_usage(struct store *store,
    const struct store_usage *rows, size_t count, struct diag *diag) MUST_CHECK;
enum err store_sqlite_sum_usage(struct store *store, int64_t from, int64_t to,
    struct store_sums *ret, struct diag *diag) MUST_CHECK;

/* ERR_LIMIT for a row whose numbers are too large. */
enum err store_sqlite_check_usage(const struct store_usage *row,
    struct diag *diag) MUST_CHECK;

/* Within a transaction: book one that was checked, and count it in its budgets,
   unless it is there. */
enum err store_sqlite_insert_usage(struct database *db,
    const struct store_usage *row, struct diag *diag) MUST_CHECK;

#endif
