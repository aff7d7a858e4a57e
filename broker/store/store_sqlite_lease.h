/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_LEASE_H
#define BROKER_STORE_SQLITE_LEASE_H

#include "broker/store/store.h"

/* store_sqlite_lease: store.h's verbs of leases that are over. */
enum err store_sqlite_end_leases(struct store *store,
    const struct store_lease_end *rows, size_t count,
    struct diag *diag) MUST_CHECK;
enum err store_sqlite_list_lease_ends(struct store *store, int64_t now,
    struct store_lease_ends *ret, struct diag *diag) MUST_CHECK;

#endif
