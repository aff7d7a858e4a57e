/* SPDX-License-Identifier: MIT */
#include "broker/signing_key.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crypt.h"
#include "common/json.h"
#include "common/log.h"
#include "common/str.h"
#include "common/xalloc.h"

#define KEY_BYTES 32
#define KEY_CHARS 43 /* of base64url */
#define ID_CHARS  16
#define NO_ID	  "-" /* of a file of the older format, which is one key */

#define FILE_MAX_BYTES (SIGNING_KEYS_MAX * 128)

#define RETRY_MS      30000 /* a rotation that failed */
#define CLOCK_SLACK_S 60    /* clocks of processes, set back a little */

struct key {
	char id[ID_CHARS + 1]; /* "": it has none, and its tokens no kid */
	int64_t created;
	struct secret *text; /* NULL: it is not of the file */
	struct crypt_key *key;
};

/* The last one is the newest. */
struct keys {
	struct key items[SIGNING_KEYS_MAX];
	size_t count;
	struct stat file; /* as it was when they were read */
};

/* `keys' is replaced as a whole: under `lock', by who has `file_lock'. */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct keys *keys;

static pthread_mutex_t file_lock = PTHREAD_MUTEX_INITIALIZER;
static char *path;
static int64_t rotate_s, retry_ms;

static void
keys_free(struct keys *old)
{
	if (old == NULL)
		return;
	for (size_t i = 0; i < old->count; i++) {
		secret_free(old->items[i].text);
		crypt_key_free(old->items[i].key);
	}
	free(old);
}

/* ---- reading the file ---- */

static enum err
add_key(struct keys *into, const char *id, int64_t created, struct secret *text,
    struct diag *diag)
{
	struct key *item = &into->items[into->count];
	enum err err = crypt_key_from_secret(text, &item->key, diag);

	if (err != ERR_OK) {
		secret_free(text);
		return err;
	}
	(void)strcpy(item->id, strcmp(id, NO_ID) == 0 ? "" : id);
	item->created = created;
	item->text = text;
	into->count++;
	return ERR_OK;
}

static bool
is_id(const char *text, size_t len)
{
	return (len == 1 && *text == *NO_ID) ||
	    (len == ID_CHARS && strspn(text, "0123456789abcdef") >= len);
}

static bool
is_key(const char *text, size_t len)
{
	uint8_t bytes[KEY_BYTES];
	size_t size = 0;
	bool is = len == KEY_CHARS &&
	    crypt_unbase64url(text, len, bytes, sizeof(bytes), &size) ==
		ERR_OK &&
	    size == KEY_BYTES;

	explicit_bzero(bytes, sizeof(bytes));
	return is;
}

/* ID CREATED KEY; false where it is not that. */
static bool
read_line(const char *line, size_t len, struct keys *into)
{
	const char *created = memchr(line, ' ', len), *text;
	char id[ID_CHARS + 1] = "";
	uint64_t at;

	if (created == NULL || !is_id(line, (size_t)(created - line)) ||
	    into->count == SIGNING_KEYS_MAX)
		return false;
	memcpy(id, line, (size_t)(created++ - line));
	text = memchr(created, ' ', (size_t)(line + len - created));
	if (text == NULL ||
	    str_to_u64(created, (size_t)(text - created), INT64_MAX, &at) !=
		ERR_OK)
		return false;
	text++;
	len -= (size_t)(text - line);
	for (size_t i = 0; i < into->count; i++)
		if (strcmp(into->items[i].id,
			strcmp(id, NO_ID) == 0 ? "" : id) == 0)
			return false;
	return is_key(text, len) &&
	    add_key(into, id, (int64_t)at, secret_new(text, len, path), NULL) ==
	    ERR_OK;
}

static enum err
read_lines(const struct secret *file, struct keys *into, struct diag *diag)
{
	size_t len;
	const char *p = secret_peek(file, &len), *end = p + len;

	/* the older format: a key, and nothing else */
	if (is_key(p, len))
		return add_key(into, NO_ID, into->file.st_mtim.tv_sec,
		    secret_new(p, len, path), diag);
	while (p < end) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));

		if (eol == NULL)
			eol = end;
		if (!read_line(p, (size_t)(eol - p), into))
			break;
		p = eol + 1;
	}
	if (p >= end && into->count > 0)
		return ERR_OK;
	diag_set(diag,
	    "the key file %s is damaged: put it back from a backup, or take it "
	    "away, and its tokens are good no longer",
	    path);
	return ERR_SYS;
}

/* What the file has; ERR_NOTFOUND where there is none. */
static enum err
read_file(struct keys **ret, struct diag *diag)
{
	struct keys *made = xcalloc(1, sizeof(*made));
	struct secret *file = NULL;
	char *spec = NULL;
	enum err err = ERR_OK;

	if (stat(path, &made->file) == -1) {
		diag_set(diag, "the key file %s cannot be read: %s", path,
		    strerror(errno));
		err = errno == ENOENT ? ERR_NOTFOUND : ERR_SYS;
	} else if ((made->file.st_mode & 077) != 0) {
		diag_set(diag,
		    "others can read the key file %s: chmod 600, and have its "
		    "tokens expire",
		    path);
		err = ERR_DENIED;
	} else {
		spec = xasprintf("file:%s", path);
		err = secret_load(spec, &file, diag);
		if (err == ERR_NOTFOUND) /* it is empty */
			err = ERR_SYS;
	}
	if (err == ERR_OK)
		err = read_lines(file, made, diag);
	secret_free(file);
	free(spec);
	if (err == ERR_OK)
		*ret = made;
	else
		keys_free(made);
	return err;
}

/* ---- changing the file ---- */

/* What was replaced is needed until all that it signed has expired. */
static bool
is_needed(const struct keys *all, size_t i, int64_t now)
{
	return i + 1 == all->count ||
	    all->items[i + 1].created + SIGNING_KEY_TOKEN_MAX_S +
		CLOCK_SLACK_S >
	    now;
}

/* Lines of what is needed, and of a new key; the caller clears and frees. */
static char *
format(const struct keys *old, int64_t now)
{
	char id[ID_CHARS + 1], *text = xstrdup(""), *longer, *key;
	uint8_t bytes[KEY_BYTES];

	for (size_t i = 0; old != NULL && i < old->count; i++) {
		const struct key *item = &old->items[i];

		if (!is_needed(old, i, now))
			continue;
		longer = xasprintf("%s%s %lld %s\n", text,
		    item->id[0] == '\0' ? NO_ID : item->id,
		    (long long)item->created, secret_peek(item->text, NULL));
		explicit_bzero(text, strlen(text));
		free(text);
		text = longer;
	}
	crypt_random(bytes, sizeof(bytes));
	crypt_random_hex(id, ID_CHARS / 2);
	key = crypt_base64url(bytes, sizeof(bytes));
	longer = xasprintf("%s%s %lld %s\n", text, id, (long long)now, key);
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(key, strlen(key));
	explicit_bzero(text, strlen(text));
	free(key);
	free(text);
	return longer;
}

/* Whole, or not at all: who reads it, or starts after a crash, finds one. */
static enum err
write_file(int folder, const char *text, struct diag *diag)
{
	char *new = xasprintf("%s.new", path);
	size_t len = strlen(text);
	int fd;
	bool ok;

	(void)unlink(new); /* of a process that has died here */
	fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
	    0600);
	ok = fd != -1 && write(fd, text, len) == (ssize_t)len &&
	    fsync(fd) == 0 && rename(new, path) == 0 && fsync(folder) == 0;
	if (!ok)
		diag_set(diag, "the key file %s cannot be made: %s", path,
		    strerror(errno));
	if (fd != -1)
		(void)close(fd);
	if (!ok)
		(void)unlink(new);
	free(new);
	return ok ? ERR_OK : ERR_SYS;
}

/*
 * The folder of the file, locked: no other process changes it then.  Others
 * have it for some milliseconds: wait for their end, or ERR_AGAIN.
 */
static enum err
lock_folder(bool wait, int *ret, struct diag *diag)
{
	const char *slash = strrchr(path, '/');
	char *name = slash == NULL ? xstrdup(".")
				   : xstrndup(path, (size_t)(slash - path) + 1);
	int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum err err = ERR_OK;
	int rc = -1;

	free(name);
	if (fd != -1)
		do
			rc = flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
		while (rc == -1 && errno == EINTR);
	if (rc == -1) {
		err = errno == EWOULDBLOCK ? ERR_AGAIN : ERR_SYS;
		diag_set(diag, "the folder of the key file %s: %s", path,
		    strerror(errno));
		if (fd != -1)
			(void)close(fd);
	}
	*ret = fd;
	return err;
}

/* One of the future is one of a clock that was wrong. */
static bool
is_due(const struct keys *all, int64_t now)
{
	int64_t created = all->items[all->count - 1].created;

	if (all->count == SIGNING_KEYS_MAX && is_needed(all, 0, now))
		return false; /* there is no room for one more */
	return rotate_s > 0 &&
	    (created > now + CLOCK_SLACK_S || now - created >= rotate_s);
}

/*
 * A file with a key that is not due; another process may be first.  ERR_AGAIN
 * where it is just about it, unless that is waited for.
 */
static enum err
renew(int64_t now, bool wait, struct keys **ret, struct diag *diag)
{
	struct keys *old = NULL;
	char *text;
	int folder;
	enum err err = lock_folder(wait, &folder, diag);

	if (err != ERR_OK)
		return err;
	err = read_file(&old, diag);
	if (err == ERR_NOTFOUND || (err == ERR_OK && is_due(old, now))) {
		text = format(old, now);
		keys_free(old);
		old = NULL;
		err = write_file(folder, text, diag);
		explicit_bzero(text, strlen(text));
		free(text);
		if (err == ERR_OK)
			err = read_file(&old, diag);
	}
	(void)close(folder);
	if (err == ERR_OK)
		*ret = old;
	return err;
}

/* ---- keeping up with it ---- */

static void
replace(struct keys *made)
{
	struct keys *old;

	(void)pthread_rwlock_wrlock(&lock);
	old = keys;
	keys = made;
	(void)pthread_rwlock_unlock(&lock);
	keys_free(old);
}

static bool
is_changed(const struct stat *was)
{
	struct stat is;

	/* who has taken it away gets a new one with the next key */
	return stat(path, &is) == 0 &&
	    (is.st_ino != was->st_ino || is.st_dev != was->st_dev ||
		is.st_size != was->st_size || is.st_mode != was->st_mode ||
		is.st_mtim.tv_sec != was->st_mtim.tv_sec ||
		is.st_mtim.tv_nsec != was->st_mtim.tv_nsec);
}

/* What came of it; others that are about it are no failure. */
static void
take(enum err err, struct keys *made, const struct diag *diag)
{
	retry_ms = 0;
	if (err == ERR_OK) {
		log_notice("signing_key.changed", "key=%s keys=%zu",
		    made->items[made->count - 1].id, made->count);
		replace(made);
	} else if (err != ERR_AGAIN) {
		retry_ms = clock_ms() + RETRY_MS;
		log_error("signing_key.failed", "reason=\"%s\"", diag->text);
	}
}

/*
 * Have the keys that the file has, or should have by now.  Where that fails
 * those that are there go on; it is tried again in a while, or, where another
 * process is about it, with the next token.
 */
static void
refresh(void)
{
	int64_t now = clock_unix();
	struct diag diag = { "" };
	struct keys *made = NULL;
	enum err err;

	/* one thread is enough, and nobody waits for it */
	if (path == NULL || pthread_mutex_trylock(&file_lock) != 0)
		return;
	/* it is replaced whole: no lock is needed to read it */
	if (clock_ms() >= retry_ms && is_changed(&keys->file)) {
		err = read_file(&made, &diag);
		take(err, made, &diag);
	}
	if (clock_ms() >= retry_ms && is_due(keys, now)) {
		err = renew(now, false, &made, &diag);
		take(err, made, &diag);
	}
	(void)pthread_mutex_unlock(&file_lock);
}

/* ---- the interface ---- */

enum err
signing_key_init(const struct secret *secret, const char *file,
    int64_t new_rotate_s, struct diag *diag)
{
	struct keys *made = NULL;
	enum err err;

	signing_key_done();
	rotate_s = new_rotate_s;
	if (secret != NULL) {
		made = xcalloc(1, sizeof(*made));
		made->count = 1;
		err = crypt_key_from_secret(secret, &made->items[0].key, diag);
	} else {
		path = xstrdup(file);
		err = renew(clock_unix(), true, &made, diag);
	}
	if (err == ERR_OK) {
		replace(made);
		return ERR_OK;
	}
	if (secret != NULL)
		keys_free(made);
	signing_key_done();
	return err;
}

bool
signing_key_is_there(void)
{
	bool is_there;

	(void)pthread_rwlock_rdlock(&lock);
	is_there = keys != NULL;
	(void)pthread_rwlock_unlock(&lock);
	return is_there;
}

static enum err
no_key(struct diag *diag)
{
	diag_set(diag, "there is no key to sign with");
	return ERR_UNAVAIL;
}

enum err
signing_key_sign(const json_t *claims, const char *typ, char **ret,
    struct diag *diag)
{
	const json_t *expires = json_object_get(claims, "exp");
	const struct key *newest;
	enum err err;

	if (!signing_key_is_there())
		return no_key(diag);
	if (!json_is_integer(expires) ||
	    json_integer_value(expires) >
		clock_unix() + SIGNING_KEY_TOKEN_MAX_S) {
		diag_set(diag, "a token of ours is good for 30 days at most");
		return ERR_LIMIT;
	}
	refresh();
	(void)pthread_rwlock_rdlock(&lock);
	newest = &keys->items[keys->count - 1];
	err = jwt_sign(claims, newest->key, "HS256", typ,
	    newest->id[0] == '\0' ? NULL : newest->id, ret);
	(void)pthread_rwlock_unlock(&lock);
	if (err != ERR_OK)
		diag_set(diag, "the token cannot be signed: %s", err_text(err));
	return err;
}

/* The id of the key that a token names; false where it is no token of ours. */
static bool
peek_id(const char *token, size_t len, char out[ID_CHARS + 1],
    struct diag *diag)
{
	const char *kid = "";
	json_t *header;
	enum err err = jwt_peek_header(token, len, &header, diag);

	if (err != ERR_OK)
		return false;
	err = json_get_string(header, "kid", ID_CHARS, &kid);
	/* an empty one is not the same as none */
	if ((err == ERR_OK && *kid != '\0') || err == ERR_NOTFOUND) {
		(void)strcpy(out, kid);
		err = ERR_OK;
	} else {
		diag_set(diag, "the token's key is not known");
		err = ERR_UNAUTH;
	}
	json_decref(header);
	return err == ERR_OK;
}

/* ERR_NOTFOUND where there is no such key. */
static enum err
verify(const char *id, const char *token, size_t len,
    const struct jwt_policy *policy, json_t **ret, struct diag *diag)
{
	enum err err = ERR_NOTFOUND;

	(void)pthread_rwlock_rdlock(&lock);
	for (size_t i = 0; i < keys->count && err == ERR_NOTFOUND; i++)
		if (strcmp(keys->items[i].id, id) == 0)
			err = jwt_verify(token, len, keys->items[i].key, policy,
			    ret, diag);
	(void)pthread_rwlock_unlock(&lock);
	return err;
}

enum err
signing_key_verify(const char *token, size_t len,
    const struct jwt_policy *policy, json_t **ret, struct diag *diag)
{
	struct jwt_policy ours = *policy;
	char id[ID_CHARS + 1];
	enum err err;

	ours.alg = "HS256";
	if (!signing_key_is_there())
		return no_key(diag);
	if (!peek_id(token, len, id, diag))
		return ERR_UNAUTH;
	err = verify(id, token, len, &ours, ret, diag);
	if (err == ERR_NOTFOUND) {
		/* another process may just have made it */
		refresh();
		err = verify(id, token, len, &ours, ret, diag);
	}
	if (err == ERR_NOTFOUND) {
		diag_set(diag, "the token's key is not known");
		err = ERR_UNAUTH;
	}
	return err;
}

void
signing_key_done(void)
{
	replace(NULL);
	free(path);
	path = NULL;
	retry_ms = 0;
}
