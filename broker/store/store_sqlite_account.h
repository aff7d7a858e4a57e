/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_ACCOUNT_H
#define BROKER_STORE_SQLITE_ACCOUNT_H

#include "broker/store/database.h"
#include "broker/store/store.h"

/* store_sqlite_account: accounts' and allowances' verbs of store.h. */
enum err store_sqlite_top_up(struct store *store, const struct store_top_up *in,
    struct store_account *ret, struct diag *diag) MUST_CHECK;
enum err store_sqlite_get_account(struct store *store, const char *user,
    struct store_account *ret, struct diag *diag) MUST_CHECK;
enum err store_sqlite_get_allowance(struct store *store,
    const struct store_allowance *in, int64_t now,
    struct store_allowance_state *ret, struct diag *diag) MUST_CHECK;

/* ---- within a transaction ---- */

/* ERR_PAYMENT where less than that is free. */
enum err store_sqlite_reserve(struct database *db, const char *user,
    int64_t amount, struct diag *diag) MUST_CHECK;

/*
 * End the reservation of a generation, and take the charge of it, as far as it
 * is there.
 */
enum err store_sqlite_settle(struct database *db, const char *generation,
    const char *user, int64_t reserved, int64_t charge, int64_t at,
    struct diag *diag) MUST_CHECK;

/* What was charged for it, and how the account stands. */
enum err store_sqlite_get_charge(struct database *db, const char *generation,
    const char *user, struct store_finished *ret, struct diag *diag) MUST_CHECK;

/* Count one; ERR_RATE, with *ret, where there is none left. */
enum err store_sqlite_use_allowance(struct database *db,
    const struct store_allowance *in, int64_t now,
    struct store_allowance_state *ret, struct diag *diag) MUST_CHECK;

#endif
