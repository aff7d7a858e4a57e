/* SPDX-License-Identifier: MIT */
#include "broker/store/database.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/xalloc.h"

#define BUSY_MS	      250
#define OPEN_MS	      2000 /* another process may just make it */
#define OPEN_RETRY_MS 10
#define ENTER_S	      2 /* each who waits before may wait for BUSY_MS */
#define LOG_RETRY_MS  500
#define USE_OPS	      10000 /* of SQLite's machine, between two looks */

/* One who waits for it; on its own stack. */
struct waiter {
	pthread_cond_t wake;
	bool has_it;
	TAILQ_ENTRY(waiter) next;
};

struct database {
	pthread_mutex_t lock; /* over these two */
	bool in_use;
	TAILQ_HEAD(, waiter) waiters;
	char *path;
	const struct database_schema *schema;
	sqlite3 *sqlite; /* NULL: to be opened when it is used next */
	sqlite3_stmt **statements;
	sqlite3_stmt *begin, *read, *commit, *rollback;
	sqlite3_stmt *current;
	dev_t device; /* the file that is open */
	ino_t inode;
	bool broken; /* close it after this use */
	int64_t use_until_ms;
	int64_t log_until_ms; /* until then its log is known to be too long */
};

/*
 * What a result code means to the caller.  A connection that failed in another
 * way than by waiting or by the lack of room is opened afresh.
 */
static enum err
fail(struct database *db, int rc, struct diag *diag)
{
	diag_set(diag, "the store: %s", sqlite3_errmsg(db->sqlite));
	switch (rc & 0xff) {
	case SQLITE_CONSTRAINT:
		return ERR_DENIED;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_FULL:
	case SQLITE_INTERRUPT:
		break;
	default:
		db->broken = true;
		break;
	}
	return ERR_UNAVAIL;
}

/* ---- the schema -------------------------------------------------------- */

static int
get_number(sqlite3 *sqlite, const char *sql, int64_t *ret)
{
	sqlite3_stmt *stmt;
	int rc = sqlite3_prepare_v2(sqlite, sql, -1, &stmt, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(stmt, 0);
	return sqlite3_finalize(stmt);
}

struct version {
	int64_t id, number, tables;
};

/* All of it at one moment, whatever other processes do. */
static int
get_version(sqlite3 *sqlite, struct version *ret)
{
	int rc = sqlite3_exec(sqlite, "SAVEPOINT version", NULL, NULL, NULL);

	if (rc == SQLITE_OK)
		rc = get_number(sqlite, "SELECT count(*) FROM sqlite_master",
		    &ret->tables);
	if (rc == SQLITE_OK)
		rc = get_number(sqlite, "PRAGMA application_id", &ret->id);
	if (rc == SQLITE_OK)
		rc = get_number(sqlite, "PRAGMA user_version", &ret->number);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sqlite, "RELEASE version", NULL, NULL, NULL);
	return rc;
}

/* Whether it is ours, and of which version; 0: an empty file. */
static int
read_version(sqlite3 *sqlite, const struct database_schema *schema,
    int64_t *ret, struct diag *diag)
{
	struct version version = { .id = 0 };
	int rc = get_version(sqlite, &version);

	if (rc != SQLITE_OK)
		return rc;
	if (version.id != schema->application_id &&
	    (version.tables > 0 || version.id != 0)) {
		diag_set(diag, "this database is another program's");
		return SQLITE_MISMATCH;
	}
	if (version.number < 0 ||
	    (uint64_t)version.number > schema->migration_count) {
		diag_set(diag,
		    "a newer version of this program has used this database: "
		    "its schema is %lld, and %zu is known here",
		    (long long)version.number, schema->migration_count);
		return SQLITE_MISMATCH;
	}
	*ret = version.number;
	return SQLITE_OK;
}

static int
migrate(sqlite3 *sqlite, const struct database_schema *schema,
    struct diag *diag)
{
	int64_t version = 0, count = (int64_t)schema->migration_count;
	char pragmas[96];
	int rc = read_version(sqlite, schema, &version, diag);

	if (rc != SQLITE_OK || version == count)
		return rc;
	rc = sqlite3_exec(sqlite, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	/* another process may have been faster */
	if (rc == SQLITE_OK)
		rc = read_version(sqlite, schema, &version, diag);
	for (; rc == SQLITE_OK && version < count; version++)
		rc = sqlite3_exec(sqlite, schema->migrations[version], NULL,
		    NULL, NULL);
	(void)snprintf(pragmas, sizeof(pragmas),
	    "PRAGMA application_id = %d; PRAGMA user_version = %lld",
	    (int)schema->application_id, (long long)count);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sqlite, pragmas, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sqlite, "COMMIT", NULL, NULL, NULL);
	return rc; /* the connection is closed, and so all of it undone */
}

/* diag is left alone where it is SQLite's to explain. */
static int
set_up(sqlite3 *sqlite, const struct database_schema *schema, struct diag *diag)
{
	int64_t version;
	int rc;

	(void)sqlite3_extended_result_codes(sqlite, 1);
	(void)sqlite3_busy_timeout(sqlite, BUSY_MS);
	(void)sqlite3_db_config(sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(sqlite, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0,
	    NULL);
	/* nothing is changed before we know whose it is */
	rc = read_version(sqlite, schema, &version, diag);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sqlite,
		    "PRAGMA journal_mode = WAL;"
		    "PRAGMA synchronous = NORMAL;"
		    "PRAGMA foreign_keys = ON;"
		    "PRAGMA journal_size_limit = 16777216",
		    NULL, NULL, NULL);
	return rc == SQLITE_OK ? migrate(sqlite, schema, diag) : rc;
}

/* ---- opening ----------------------------------------------------------- */

static void
disconnect(struct database *db)
{
	sqlite3_stmt **own[] = { &db->begin, &db->read, &db->commit,
		&db->rollback };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		(void)sqlite3_finalize(*own[i]);
		*own[i] = NULL;
	}
	for (size_t i = 0; i < db->schema->statement_count; i++) {
		(void)sqlite3_finalize(db->statements[i]);
		db->statements[i] = NULL;
	}
	db->current = NULL;
	(void)sqlite3_close_v2(db->sqlite);
	db->sqlite = NULL;
	db->broken = false;
}

/*
 * SQLite gives the files beside it the same mode.  A descriptor of a file that
 * was there must not be opened and closed: SQLite's locks of this process
 * would go with it (sqlite.org/howtocorrupt.html, 2.2).
 */
static enum err
make_file(struct database *db, struct diag *diag)
{
	int fd = open(db->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;

	if (fd != -1)
		(void)close(fd);
	if ((fd == -1 && errno != EEXIST) || stat(db->path, &st) == -1 ||
	    ((st.st_mode & 077) != 0 && chmod(db->path, 0600) == -1)) {
		diag_set(diag, "cannot make %s, for us alone: %s", db->path,
		    strerror(errno));
		return errno == ENOSPC || errno == EDQUOT ? ERR_UNAVAIL
							  : ERR_SYS;
	}
	db->device = st.st_dev;
	db->inode = st.st_ino;
	return ERR_OK;
}

static enum err
connect_once(struct database *db, struct diag *diag)
{
	struct diag why = { "" };
	enum err err = make_file(db, diag);
	int rc;

	if (err != ERR_OK)
		return err;
	rc = sqlite3_open_v2(db->path, &db->sqlite,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK)
		rc = set_up(db->sqlite, db->schema, &why);
	if (rc == SQLITE_OK)
		return ERR_OK;
	diag_set(diag, "%s: %s", db->path,
	    why.text[0] != '\0' ? why.text : sqlite3_errmsg(db->sqlite));
	disconnect(db);
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_FULL:
	case SQLITE_IOERR:
		return ERR_UNAVAIL;
	default:
		return ERR_SYS;
	}
}

/* Whether this use is to end; sqlite.org/c3ref/progress_handler.html. */
static int
is_too_long(void *arg)
{
	const struct database *db = arg;

	return clock_ms() >= db->use_until_ms;
}

/* SQLite does not wait for others at the change to WAL, so we do. */
static enum err
connect_file(struct database *db, struct diag *diag)
{
	const struct timespec pause = { .tv_nsec = OPEN_RETRY_MS * 1000000 };
	int64_t limit_ms = clock_ms() + OPEN_MS;
	enum err err;

	while ((err = connect_once(db, diag)) == ERR_UNAVAIL &&
	    clock_ms() < limit_ms)
		(void)nanosleep(&pause, NULL);
	return err;
}

struct database *
database_new(const char *path, const struct database_schema *schema)
{
	struct database *db = xcalloc(1, sizeof(*db));

	(void)pthread_mutex_init(&db->lock, NULL);
	TAILQ_INIT(&db->waiters);
	db->path = xstrdup(path);
	db->schema = schema;
	db->statements =
	    xcalloc(schema->statement_count + 1, sizeof(db->statements[0]));
	return db;
}

enum err
database_open(const char *path, const struct database_schema *schema,
    struct database **ret, struct diag *diag)
{
	struct database *db = database_new(path, schema);
	enum err err = connect_file(db, diag);

	if (err == ERR_OK)
		*ret = db;
	else
		database_free(db);
	return err;
}

void
database_free(struct database *db)
{
	if (db == NULL)
		return;
	disconnect(db);
	(void)pthread_mutex_destroy(&db->lock);
	free(db->statements);
	free(db->path);
	free(db);
}

/* ---- looking at a file without touching it ------------------------------ */

static enum err
check_folder(const char *path, struct diag *diag)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash == NULL
	    ? xstrdup(".")
	    : xstrndup(path, (size_t)(slash - path) + 1);
	struct stat st;
	enum err err = ERR_OK;

	if (stat(folder, &st) == -1 || !S_ISDIR(st.st_mode)) {
		diag_set(diag,
		    "%s: there is no such folder: make it, for the broker's "
		    "user",
		    folder);
		err = ERR_SYS;
	}
	free(folder);
	return err;
}

/*
 * What SQLite opens without making files: the file as it is, or, where a
 * process that has it open keeps its newest part in the -wal, with that.
 */
static char *
uri_of(const char *path)
{
	char *wal = xasprintf("%s-wal", path), *name, *uri, *p;
	bool in_use = access(wal, F_OK) == 0;

	free(wal);
	name = p = xcalloc(strlen(path) + 1, 3);
	for (; *path != '\0'; path++)
		if (strchr("?#%", *path) != NULL)
			p += sprintf(p, "%%%02X", (unsigned)*path);
		else
			*p++ = *path;
	uri = xasprintf("file:%s?%s", name, in_use ? "mode=ro" : "immutable=1");
	free(name);
	return uri;
}

enum err
database_check(const char *path, const struct database_schema *schema,
    struct diag *diag)
{
	struct diag why = { "" };
	int64_t version;
	sqlite3 *sqlite;
	char *uri;
	int rc;

	if (access(path, F_OK) == -1 && errno == ENOENT)
		return check_folder(path, diag);
	uri = uri_of(path);
	rc = sqlite3_open_v2(uri, &sqlite,
	    SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
	free(uri);
	if (rc == SQLITE_OK)
		rc = read_version(sqlite, schema, &version, &why);
	if (rc != SQLITE_OK)
		diag_set(diag, "%s: %s", path,
		    why.text[0] != '\0' ? why.text : sqlite3_errmsg(sqlite));
	(void)sqlite3_close_v2(sqlite);
	return rc == SQLITE_OK ? ERR_OK : ERR_SYS;
}

/* ---- using it ---------------------------------------------------------- */

/* Whether the path leads elsewhere now: the file was removed, or restored. */
static bool
has_moved(const struct database *db)
{
	struct stat st;

	return stat(db->path, &st) == -1 || st.st_dev != db->device ||
	    st.st_ino != db->inode;
}

/* Locked. */
static bool
await_turn(struct database *db)
{
	struct waiter self = { .wake = PTHREAD_COND_INITIALIZER };
	struct timespec limit;

	(void)clock_gettime(CLOCK_MONOTONIC, &limit);
	limit.tv_sec += ENTER_S;
	TAILQ_INSERT_TAIL(&db->waiters, &self, next);
	while (!self.has_it &&
	    pthread_cond_clockwait(&self.wake, &db->lock, CLOCK_MONOTONIC,
		&limit) == 0)
		;
	if (!self.has_it)
		TAILQ_REMOVE(&db->waiters, &self, next);
	(void)pthread_cond_destroy(&self.wake);
	return self.has_it;
}

/* Have it alone; false where that takes too long. */
static bool
occupy(struct database *db)
{
	bool got = true;

	(void)pthread_mutex_lock(&db->lock);
	if (db->in_use)
		got = await_turn(db);
	else
		db->in_use = true;
	(void)pthread_mutex_unlock(&db->lock);
	return got;
}

/*
 * It is handed to who has waited longest, and is not free in between: nobody
 * who comes back at once gets it first.
 */
static void
vacate(struct database *db)
{
	struct waiter *first;

	(void)pthread_mutex_lock(&db->lock);
	first = TAILQ_FIRST(&db->waiters);
	if (first != NULL) {
		TAILQ_REMOVE(&db->waiters, first, next);
		first->has_it = true;
		(void)pthread_cond_signal(&first->wake);
	} else {
		db->in_use = false;
	}
	(void)pthread_mutex_unlock(&db->lock);
}

enum err
database_enter(struct database *db, struct diag *diag)
{
	enum err err = ERR_OK;

	if (!occupy(db)) {
		diag_set(diag, "the store: too many wait for it");
		return ERR_UNAVAIL;
	}
	if (db->sqlite != NULL && has_moved(db))
		disconnect(db);
	if (db->sqlite == NULL)
		err = connect_once(db, diag);
	if (err != ERR_OK) {
		vacate(db);
		return ERR_UNAVAIL; /* somebody may mend it */
	}
	if (db->schema->use_max_ms > 0) {
		db->use_until_ms = clock_ms() + db->schema->use_max_ms;
		sqlite3_progress_handler(db->sqlite, USE_OPS, is_too_long, db);
	}
	return ERR_OK;
}

void
database_leave(struct database *db)
{
	if (db->broken)
		disconnect(db);
	vacate(db);
}

/* Take up a statement that is prepared when it is first used. */
static enum err
take_up(struct database *db, sqlite3_stmt **stmt, const char *sql,
    struct diag *diag)
{
	int rc = SQLITE_OK;

	if (*stmt == NULL)
		rc = sqlite3_prepare_v3(db->sqlite, sql, -1,
		    SQLITE_PREPARE_PERSISTENT, stmt, NULL);
	if (rc != SQLITE_OK)
		return fail(db, rc, diag);
	db->current = *stmt;
	return ERR_OK;
}

static enum err
run(struct database *db, sqlite3_stmt **stmt, const char *sql,
    struct diag *diag)
{
	enum err err = take_up(db, stmt, sql, diag);

	return err == ERR_OK ? database_finish(db, diag) : err;
}

/*
 * Has the log outgrown what checkpoints leave of it?  Then it can only grow, as
 * somebody reads what it was; when that has ended, it is emptied.
 */
static enum err
check_log(struct database *db, struct diag *diag)
{
	uint64_t max_bytes = db->schema->log_max_bytes;
	char *path;
	struct stat st;
	int rc;

	if (max_bytes == 0)
		return ERR_OK;
	path = xasprintf("%s-wal", db->path);
	rc = stat(path, &st);
	free(path);
	if (rc == -1 || (uint64_t)st.st_size <= max_bytes)
		return ERR_OK;
	/* each attempt waits, and holds up those behind it */
	if (clock_ms() >= db->log_until_ms &&
	    sqlite3_wal_checkpoint_v2(db->sqlite, NULL,
		SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) == SQLITE_OK)
		return ERR_OK;
	if (clock_ms() >= db->log_until_ms)
		db->log_until_ms = clock_ms() + LOG_RETRY_MS;
	diag_set(diag,
	    "the store: its -wal has %lld bytes: who reads it for so long?",
	    (long long)st.st_size);
	return ERR_UNAVAIL;
}

static enum err
begin(struct database *db, sqlite3_stmt **stmt, const char *sql,
    struct diag *diag)
{
	enum err err = database_enter(db, diag);

	if (err != ERR_OK)
		return err;
	if (stmt == &db->begin)
		err = check_log(db, diag);
	if (err == ERR_OK)
		err = run(db, stmt, sql, diag);
	if (err != ERR_OK)
		database_leave(db);
	return err;
}

enum err
database_begin(struct database *db, struct diag *diag)
{
	return begin(db, &db->begin, "BEGIN IMMEDIATE", diag);
}

enum err
database_begin_reading(struct database *db, struct diag *diag)
{
	return begin(db, &db->read, "BEGIN", diag);
}

enum err
database_end(struct database *db, enum err err, struct diag *diag)
{
	if (err == ERR_OK)
		err = run(db, &db->commit, "COMMIT", diag);
	/* some errors have undone it already */
	if (err != ERR_OK && !sqlite3_get_autocommit(db->sqlite) &&
	    run(db, &db->rollback, "ROLLBACK", NULL) != ERR_OK)
		db->broken = true;
	database_leave(db);
	return err;
}

enum err
database_probe(struct database *db, struct diag *diag)
{
	enum err err = database_begin(db, diag);
	char sql[64];
	int rc;

	if (err != ERR_OK)
		return err;
	/* it writes its page although it is the same */
	(void)snprintf(sql, sizeof(sql), "PRAGMA application_id = %d",
	    (int)db->schema->application_id);
	rc = sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		err = fail(db, rc, diag);
	return database_end(db, err, diag);
}

enum err
database_use(struct database *db, int statement, struct diag *diag)
{
	return take_up(db, &db->statements[statement],
	    db->schema->statements[statement], diag);
}

void
database_bind_text(struct database *db, int i, const char *text)
{
	if (text != NULL)
		(void)sqlite3_bind_text(db->current, i, text, -1,
		    SQLITE_STATIC);
}

void
database_bind_number(struct database *db, int i, int64_t number)
{
	(void)sqlite3_bind_int64(db->current, i, number);
}

void
database_bind_real(struct database *db, int i, double number)
{
	(void)sqlite3_bind_double(db->current, i, number);
}

enum err
database_step(struct database *db, struct diag *diag)
{
	int rc = sqlite3_step(db->current);

	if (rc == SQLITE_ROW)
		return ERR_OK;
	if (rc != SQLITE_DONE)
		return fail(db, rc, diag);
	diag_set(diag, "there is none");
	return ERR_NOTFOUND;
}

enum err
database_finish(struct database *db, struct diag *diag)
{
	enum err err;

	while ((err = database_step(db, diag)) == ERR_OK)
		;
	database_release(db);
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
database_ask(struct database *db, int statement,
    const struct database_param *params, size_t count, struct diag *diag)
{
	enum err err = database_use(db, statement, diag);

	for (size_t i = 0; err == ERR_OK && i < count; i++)
		if (params[i].is_text)
			database_bind_text(db, (int)i + 1, params[i].text);
		else
			database_bind_number(db, (int)i + 1, params[i].number);
	return err;
}

enum err
database_run(struct database *db, int statement,
    const struct database_param *params, size_t count, struct diag *diag)
{
	enum err err = database_ask(db, statement, params, count, diag);

	return err == ERR_OK ? database_finish(db, diag) : err;
}

enum err
database_find(struct database *db, int statement,
    const struct database_param *params, size_t count, struct diag *diag)
{
	enum err err = database_ask(db, statement, params, count, diag);

	if (err != ERR_OK)
		return err;
	err = database_step(db, diag);
	if (err != ERR_OK)
		database_release(db);
	return err;
}

int64_t
database_changed(const struct database *db)
{
	return sqlite3_changes64(db->sqlite);
}

char *
database_text(struct database *db, int column)
{
	const void *text = sqlite3_column_text(db->current, column);

	return text == NULL ? NULL : xstrdup(text);
}

int64_t
database_number(struct database *db, int column)
{
	return sqlite3_column_int64(db->current, column);
}

double
database_real(struct database *db, int column)
{
	return sqlite3_column_double(db->current, column);
}

void
database_release(struct database *db)
{
	(void)sqlite3_reset(db->current);
	(void)sqlite3_clear_bindings(db->current);
	db->current = NULL;
}
