/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_REVOCATION_H
#define BROKER_STORE_SQLITE_REVOCATION_H

#include "broker/store/store.h"

/* store_sqlite_revocation: revocations' verbs of store.h. */
enum err store_sqlite_revoke(struct store *store,
    const struct store_revocation *in, struct diag *diag) MUST_CHECK;
enum err store_sqlite_list_revocations(struct store *store, int64_t now,
    struct store_revocations *ret, struct diag *diag) MUST_CHECK;

#endif
