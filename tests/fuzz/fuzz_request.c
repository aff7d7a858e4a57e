/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/request_parse.h"
#include "common/str.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

/* The input's lines (NUL or LF ends one) as parameters. */
static char **
split(const uint8_t *data, size_t size)
{
	char **envp = xcalloc(size + 2, sizeof(*envp));
	size_t count = 0;

	for (size_t start = 0, i = 0; i <= size; i++) {
		if (i < size && data[i] != '\0' && data[i] != '\n')
			continue;
		if (i > start)
			envp[count++] =
			    xstrndup((const char *)data + start, i - start);
		start = i + 1;
	}
	return envp;
}

/* What a path that was let through must be, whatever came in. */
static void
check_path(const char *path)
{
	size_t len = strlen(path);

	require(path[0] == '/');
	require(str_is_field_value(path, len));
	require(strpbrk(path, "?#%\\ \t\"") == NULL);
	require(strstr(path, "//") == NULL);
	require(strstr(path, "/./") == NULL && strstr(path, "/../") == NULL);
	require(len < 2 || strcmp(path + len - 2, "/.") != 0);
	require(len < 3 || strcmp(path + len - 3, "/..") != 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const bases[] = { "", "/base", "/a/b" };
	char **envp = split(data, size), *path;
	const char *value;
	uint64_t length;
	enum err err = request_parse_check(envp, NULL);

	value = request_parse_param(envp, "REQUEST_METHOD");
	require(err != ERR_OK ||
	    (value != NULL && str_is_token(value, strlen(value))));
	value = request_parse_header(envp, "origin");
	require(err != ERR_OK || value == NULL ||
	    str_is_field_value(value, strlen(value)));
	for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		if (request_parse_path(envp, bases[i], &path) != ERR_OK)
			continue;
		check_path(path);
		free(path);
	}
	value = request_parse_header(envp, "content-length");
	if (request_parse_length(value, &length) == ERR_OK)
		require(length <= INT64_MAX && *value != '\0');
	value = request_parse_header(envp, "content-type");
	if (value != NULL)
		(void)request_parse_is_type(value, "application/json");
	require(request_parse_header(envp, "proxy") == NULL);
	for (size_t i = 0; envp[i] != NULL; i++)
		free(envp[i]);
	free(envp);
	return 0;
}
