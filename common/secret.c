/* SPDX-License-Identifier: MIT */
#include "common/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/xalloc.h"

#define SECRET_MAX_BYTES (64 * 1024)

struct secret {
	char *data; /* len bytes and a NUL */
	size_t len;
	char *source;
	char *description;
};

struct secret *
secret_new(const void *data, size_t len, const char *source)
{
	struct secret *secret = xcalloc(1, sizeof(*secret));

	secret->data = xcalloc(1, len + 1);
	memcpy(secret->data, data, len);
	secret->len = len;
	secret->source = xstrdup(source);
	secret->description = xasprintf("(%zu bytes from %s)", len, source);
	return secret;
}

void
secret_free(struct secret *secret)
{
	if (secret == NULL)
		return;
	explicit_bzero(secret->data, secret->len);
	free(secret->data);
	free(secret->source);
	free(secret->description);
	free(secret);
}

const char *
secret_peek(const struct secret *secret, size_t *ret_len)
{
	if (ret_len != NULL)
		*ret_len = secret->len;
	return secret->data;
}

const char *
secret_source(const struct secret *secret)
{
	return secret->source;
}

const char *
secret_describe(const struct secret *secret)
{
	return secret->description;
}

/* Read a whole small file into data; its length, or -1 with errno. */
static ssize_t
read_file(const char *path, char *data, size_t size)
{
	/* a pipe that nobody writes to is empty, and is not waited for */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t len = 0;
	ssize_t n = 0;
	int saved;

	if (fd == -1)
		return -1;
	while (len < size && (n = read(fd, data + len, size - len)) > 0)
		len += (size_t)n;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return n < 0 ? -1 : (ssize_t)len;
}

static enum err
load_file(const char *path, const char *spec, struct secret **ret,
    struct diag *diag)
{
	char data[SECRET_MAX_BYTES + 1];
	ssize_t n = read_file(path, data, sizeof(data));
	enum err err = ERR_OK;

	if (n < 0) {
		diag_set(diag, "%s: cannot read %s: %s", spec, path,
		    strerror(errno));
		return errno == ENOENT ? ERR_NOTFOUND : ERR_SYS;
	}
	if (n > SECRET_MAX_BYTES) {
		diag_set(diag, "%s: larger than %d bytes", spec,
		    SECRET_MAX_BYTES);
		err = ERR_LIMIT;
	}
	if (n > 0 && data[n - 1] == '\n')
		n--;
	if (n > 0 && data[n - 1] == '\r')
		n--;
	if (err == ERR_OK && n == 0) {
		diag_set(diag, "%s: the file is empty", spec);
		err = ERR_NOTFOUND;
	}
	if (err == ERR_OK)
		*ret = secret_new(data, (size_t)n, spec);
	explicit_bzero(data, sizeof(data));
	return err;
}

static enum err
load_credential(const char *name, const char *spec, struct secret **ret,
    struct diag *diag)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char path[PATH_MAX];

	if (dir == NULL) {
		diag_set(diag,
		    "%s: CREDENTIALS_DIRECTORY is not set: systemd sets it for "
		    "LoadCredential=",
		    spec);
		return ERR_NOTFOUND;
	}
	if (*name == '\0' || strchr(name, '/') != NULL) {
		diag_set(diag, "%s: not a credential's name", spec);
		return ERR_PROTO;
	}
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >=
	    (int)sizeof(path)) {
		diag_set(diag, "%s: the path is too long", spec);
		return ERR_LIMIT;
	}
	return load_file(path, spec, ret, diag);
}

enum err
secret_load(const char *spec, struct secret **ret, struct diag *diag)
{
	const char *value;

	if (strncmp(spec, "file:", 5) == 0)
		return load_file(spec + 5, spec, ret, diag);
	if (strncmp(spec, "credential:", 11) == 0)
		return load_credential(spec + 11, spec, ret, diag);
	if (strncmp(spec, "env:", 4) == 0) {
		value = getenv(spec + 4);
		if (value == NULL || *value == '\0') {
			diag_set(diag, "%s: the variable is not set", spec);
			return ERR_NOTFOUND;
		}
		*ret = secret_new(value, strlen(value), spec);
		return ERR_OK;
	}
	/* what stands here may be the secret itself: do not repeat it */
	diag_set(diag,
	    "a secret is given as env:NAME, file:/PATH or credential:NAME");
	return ERR_PROTO;
}
