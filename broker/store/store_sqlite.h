/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_SQLITE_H
#define BROKER_STORE_SQLITE_H

#include "broker/store/store.h"

/*
 * store_sqlite: the store in one SQLite file (store.h), for one machine; any
 * number of threads and processes may have it open.
 *
 * The file is made where it is missing, with mode 0600, in a folder that has to
 * be there; beside it SQLite keeps PATH-wal and PATH-shm.  It is in WAL mode
 * with synchronous=NORMAL: what was written outlives any end of a process, and
 * the last moments before a loss of power may be missing.
 */

/*
 * Open it and bring its schema up to date.  ERR_UNAVAIL where that may be tried
 * again (busy, full); ERR_SYS where it cannot be used: it cannot be opened, is
 * damaged, another program's, or of a newer version of this one.  The caller
 * closes it with ops->close().
 */
enum err store_sqlite_open(const char *path, struct store **ret,
    struct diag *diag) MUST_CHECK;

/*
 * Would it open?  Changes nothing and makes no file; one that is missing is
 * right where its folder is there.
 */
enum err store_sqlite_check(const char *path, struct diag *diag) MUST_CHECK;

#endif
