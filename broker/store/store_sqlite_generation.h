/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_GENERATION_H
#define BROKER_STORE_SQLITE_GENERATION_H

#include "broker/store/store.h"

/* store_sqlite_generation: the generations' verbs of store.h. */
enum err store_sqlite_begin(struct store *store, const struct store_begin *in,
    struct store_begun *ret, struct diag *diag) MUST_CHECK;
enum err store_sqlite_add_pieces(struct store *store,
    const struct store_piece *pieces, size_t count,
    struct diag *diag) MUST_CHECK;
enum err store_sqlite_finish(struct store *store, const struct store_finish *in,
    struct store_finished *ret, struct diag *diag) MUST_CHECK;
enum err store_sqlite_get_generation(struct store *store, const char *owner,
    const char *id, struct store_generation *ret, struct diag *diag) MUST_CHECK;
enum err store_sqlite_get_events(struct store *store, const char *generation,
    int64_t after, char **ret, struct diag *diag) MUST_CHECK;
enum err store_sqlite_list_running(struct store *store,
    struct store_generations *ret, struct diag *diag) MUST_CHECK;

#endif
