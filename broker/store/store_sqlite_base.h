/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_BASE_H
#define BROKER_STORE_SQLITE_BASE_H

#include "broker/store/database.h"
#include "broker/store/store.h"

/* store_sqlite_base: what the files of the SQLite backend share. */

enum statement {
#define STATEMENT(id, sql) id,
#include "broker/store/store_sqlite_base.def"
};

/*
 * Readers never wait for a writer in SQLite's WAL, so they must not wait for
 * one at a connection: a tunnel's ticket is looked up by the thread that serves
 * all tunnels.  A report reads for long and has a connection of its own; so
 * have the chats, whose messages may be large.
 */
struct store_sqlite {
	struct store store;
	struct database *db, *reads, *reports, *chats;
};

#endif
