/* SPDX-License-Identifier: MIT */
#include "broker/signing_key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/xalloc.h"

#define KEY_BYTES 32

static struct crypt_key *current;

/* Write a new key as text, so that an editor or a backup cannot change it. */
static bool
write_key(int fd)
{
	uint8_t key[KEY_BYTES];
	char *text;
	size_t len;
	bool ok;

	crypt_random(key, sizeof(key));
	text = crypt_base64url(key, sizeof(key));
	explicit_bzero(key, sizeof(key));
	len = strlen(text);
	ok = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
	explicit_bzero(text, len);
	free(text);
	return ok;
}

/*
 * Make the file, whole or not at all.  Another process may be first: then its
 * file stands.
 */
static enum err
make_file(const char *path, struct diag *diag)
{
	char *new = xasprintf("%s.XXXXXX", path);
	int fd = mkstemp(new); /* mode 0600 */
	bool ok;

	ok = fd != -1 && write_key(fd) &&
	    (link(new, path) == 0 || errno == EEXIST);
	if (!ok)
		diag_set(diag, "the key file %s cannot be made: %s", path,
		    strerror(errno));
	if (fd != -1) {
		(void)close(fd);
		(void)unlink(new);
	}
	free(new);
	return ok ? ERR_OK : ERR_SYS;
}

/* The file's key, which is made where there is none. */
static enum err
load_file(const char *path, struct secret **ret, struct diag *diag)
{
	struct stat st;
	char *spec;
	enum err err;

	if (stat(path, &st) == -1 && errno == ENOENT) {
		err = make_file(path, diag);
		if (err != ERR_OK)
			return err;
	}
	if (stat(path, &st) == 0 && (st.st_mode & 077) != 0) {
		diag_set(diag,
		    "others can read the key file %s: chmod 600, and have its "
		    "tokens expire",
		    path);
		return ERR_DENIED;
	}
	spec = xasprintf("file:%s", path);
	err = secret_load(spec, ret, diag);
	free(spec);
	return err == ERR_NOTFOUND ? ERR_SYS : err;
}

enum err
signing_key_init(const struct secret *secret, const char *path,
    struct diag *diag)
{
	struct secret *loaded = NULL;
	enum err err = ERR_OK;

	signing_key_done();
	if (secret == NULL)
		err = load_file(path, &loaded, diag);
	if (err == ERR_OK)
		err = crypt_key_from_secret(secret == NULL ? loaded : secret,
		    &current, diag);
	secret_free(loaded);
	return err;
}

const struct crypt_key *
signing_key_current(void)
{
	return current;
}

void
signing_key_done(void)
{
	crypt_key_free(current);
	current = NULL;
}
