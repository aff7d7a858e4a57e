/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_BUDGET_H
#define BROKER_STORE_SQLITE_BUDGET_H

#include "broker/store/database.h"
#include "broker/store/store.h"

/* store_sqlite_budget: the budgets' verbs of store.h. */
enum err store_sqlite_reserve_budgets(struct store *store,
    const struct store_reserve *in, struct store_budget_state *ret,
    struct diag *diag) MUST_CHECK;
enum err store_sqlite_release_budgets(struct store *store, const char *id,
    struct diag *diag) MUST_CHECK;
enum err store_sqlite_add_seconds(struct store *store,
    const struct store_seconds *rows, size_t count,
    struct diag *diag) MUST_CHECK;
enum err store_sqlite_check_budgets(struct store *store,
    const struct store_budgets *budgets, int64_t now,
    struct store_budget_state *ret, struct diag *diag) MUST_CHECK;

enum err store_sqlite_list_budgets(struct store *store, const char *subject,
    int64_t now, struct store_budget_list *ret, struct diag *diag) MUST_CHECK;

/* Within a transaction: reserve; *ret is filled with ERR_OK, ERR_AGAIN and
   ERR_BUDGET alone. */
enum err store_sqlite_reserve_within(struct database *db,
    const struct store_reserve *in, struct store_budget_state *ret,
    struct diag *diag) MUST_CHECK;

/* Within a transaction: count a row that was booked; its reservation ends. */
enum err store_sqlite_settle_budgets(struct database *db,
    const struct store_usage *row, struct diag *diag) MUST_CHECK;

#endif
