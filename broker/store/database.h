/* SPDX-License-Identifier: MIT */
#ifndef BROKER_DATABASE_H
#define BROKER_DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * database: a connection to one SQLite file, which mends itself.
 *
 * The only user of sqlite3.h.  It makes the file (mode 0600, WAL), brings its
 * schema up to date, keeps the statements prepared, and opens the file afresh
 * after an error or where the path leads to another file.  What the tables
 * mean is for its caller.
 *
 * One thread uses it at a time: database_enter() locks it.  Processes share the
 * file by SQLite's locks.
 */
struct database;

/* What belongs to one program; it outlives the connection. */
struct database_schema {
	int32_t application_id; /* of the file: sqlite.org/fileformat.html */
	/* number i makes version i + 1 out of version i */
	const char *const *migrations;
	size_t migration_count;
	const char *const *statements; /* used by number */
	size_t statement_count;
	/*
	 * How large its log may grow (sqlite.org/wal.html), about; then nothing
	 * is written until whoever reads it for so long has ended.  0: as it
	 * likes.
	 */
	uint64_t log_max_bytes;
	/* Most that one use may take, from database_enter() on; a statement
	   ends with ERR_UNAVAIL then.  0: as long as it takes. */
	int64_t use_max_ms;
};

/*
 * Open a file; where another process has it locked, this waits two seconds.
 * ERR_UNAVAIL where it may be tried again: busy, full; ERR_SYS where it cannot
 * be used: no folder, no permission, damaged, another program's, of a newer
 * version.  The caller frees it.
 */
enum err database_open(const char *path, const struct database_schema *schema,
    struct database **ret, struct diag *diag) MUST_CHECK;

/* One that opens its file when it is first used. */
struct database *database_new(const char *path,
    const struct database_schema *schema);

void database_free(struct database *db); /* NULL is allowed */

/* Would it open?  Changes nothing, makes no file.  ERR_SYS. */
enum err database_check(const char *path, const struct database_schema *schema,
    struct diag *diag) MUST_CHECK;

/* ---- using it ---- */

/*
 * Lock it; ERR_UNAVAIL, and nothing is locked, where it cannot be used now: who
 * waits in a row of others is told so after two seconds.
 */
enum err database_enter(struct database *db, struct diag *diag) MUST_CHECK;
void database_leave(struct database *db);

/*
 * The same around a transaction, which is undone where err is not ERR_OK; none
 * begins while the log has more than log_max_bytes.
 */
enum err database_begin(struct database *db, struct diag *diag) MUST_CHECK;
enum err database_end(struct database *db, enum err err,
    struct diag *diag) MUST_CHECK;

/*
 * Whether it can be written to now: what this writes changes nothing.  It waits
 * as any transaction does.
 */
enum err database_probe(struct database *db, struct diag *diag) MUST_CHECK;

/* A transaction that only reads: all that it sees is of one moment. */
enum err database_begin_reading(struct database *db,
    struct diag *diag) MUST_CHECK;

/*
 * Take up a statement; what follows is about it, until database_finish() or
 * database_release().  Parameters are numbered from 1, columns from 0; a text
 * that is NULL is NULL; it has to stay until then.
 */
enum err database_use(struct database *db, int statement,
    struct diag *diag) MUST_CHECK;
void database_bind_text(struct database *db, int i, const char *text);
void database_bind_number(struct database *db, int i, int64_t number);
void database_bind_real(struct database *db, int i, double number);

/* The same in one call: database_run(db, FORGET, PARAMS(TEXT(id)), diag). */
struct database_param {
	bool is_text;
	const char *text;
	int64_t number;
};
#define TEXT(value) \
	((struct database_param){ .is_text = true, .text = (value) })
#define NUMBER(value) ((struct database_param){ .number = (value) })
#define PARAMS(...)                                                  \
	((const struct database_param[]){ __VA_ARGS__ }),            \
	    sizeof((const struct database_param[]){ __VA_ARGS__ }) / \
	    sizeof(struct database_param)

/* Run it to its end.  ERR_DENIED where a constraint forbids it. */
enum err database_finish(struct database *db, struct diag *diag) MUST_CHECK;

/* All of it: take it up, give it its parameters, run it to its end. */
enum err database_run(struct database *db, int statement,
    const struct database_param *params, size_t count,
    struct diag *diag) MUST_CHECK;

/* The same as far as the first row; released where it is not ERR_OK. */
enum err database_find(struct database *db, int statement,
    const struct database_param *params, size_t count,
    struct diag *diag) MUST_CHECK;

/* The same as far as its rows, which database_step() steps through. */
enum err database_ask(struct database *db, int statement,
    const struct database_param *params, size_t count,
    struct diag *diag) MUST_CHECK;

/* Rows that the last statement has changed which was one to change any. */
int64_t database_changed(const struct database *db);

/* The next row; ERR_NOTFOUND after the last. */
enum err database_step(struct database *db, struct diag *diag) MUST_CHECK;
char *database_text(struct database *db, int column); /* the caller frees it */
int64_t database_number(struct database *db, int column);
double database_real(struct database *db, int column);
void database_release(struct database *db);

#endif
