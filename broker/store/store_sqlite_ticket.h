/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_TICKET_H
#define BROKER_STORE_SQLITE_TICKET_H

#include "broker/store/database.h"
#include "broker/store/store.h"

/* store_sqlite_ticket: the verbs of struct store_ops about tickets. */

enum err store_sqlite_put_ticket(struct store *store,
    const struct store_ticket *in, struct diag *diag) MUST_CHECK;
enum err store_sqlite_get_ticket(struct store *store, const char *id,
    int64_t now, struct store_ticket *ret, struct diag *diag) MUST_CHECK;
enum err store_sqlite_spend_ticket(struct store *store, const char *id,
    int64_t now, struct diag *diag) MUST_CHECK;

/* Read a column of JSON, NULL where there is none, and clear its text. */
enum err store_sqlite_json(struct database *db, int column, json_t **ret,
    struct diag *diag) MUST_CHECK;

#endif
