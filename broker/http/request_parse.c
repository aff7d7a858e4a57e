/* SPDX-License-Identifier: MIT */
#include "broker/http/request_parse.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/str.h"
#include "common/xalloc.h"

/* Longest name of a header that somebody asks for here. */
#define HEADER_NAME_MAX_BYTES 64

const char *
request_parse_param(char *const envp[], const char *name)
{
	size_t len = strlen(name);

	if (strcmp(name, "HTTP_PROXY") == 0)
		return NULL;
	for (; *envp != NULL; envp++)
		if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

const char *
request_parse_header(char *const envp[], const char *name)
{
	char param[HEADER_NAME_MAX_BYTES + sizeof("HTTP_")] = "HTTP_";
	size_t len = strlen(name);
	char *p = param + strlen(param);

	if (len > HEADER_NAME_MAX_BYTES)
		return NULL;
	/* these two have no prefix (RFC 3875 4.1.2, 4.1.3) */
	if (strcasecmp(name, "content-type") == 0 ||
	    strcasecmp(name, "content-length") == 0)
		p = param;
	for (size_t i = 0; i <= len; i++)
		p[i] = name[i] == '-' ? '_'
				      : (char)toupper((unsigned char)name[i]);
	return request_parse_param(envp, param);
}

/*
 * Whether the client decides its value.  Others may well have line breaks,
 * as SSL_CLIENT_CERT.
 */
static bool
is_from_client(const char *param)
{
	static const char *const prefixes[] = { "HTTP_", "CONTENT_", "REQUEST_",
		"QUERY_STRING=", "PATH_INFO=", "SCRIPT_NAME=", "REMOTE_ADDR=" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(param, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static enum err
check_params(char *const envp[], struct diag *diag)
{
	size_t count = 0, bytes = 0;

	for (; *envp != NULL; envp++) {
		size_t len = strlen(*envp);

		bytes += len;
		if (++count > REQUEST_PARAMS_MAX ||
		    bytes > REQUEST_PARAMS_MAX_BYTES) {
			diag_set(diag, "too many or too large headers");
			return ERR_HEAD;
		}
		if (is_from_client(*envp) && !str_is_field_value(*envp, len)) {
			diag_set(diag, "a control character in the request");
			return ERR_PROTO;
		}
	}
	return ERR_OK;
}

/* Whether a parameter is there twice: then somebody reads the other one. */
static bool
is_twice(char *const envp[], const char *name)
{
	const char *first = request_parse_param(envp, name);
	size_t len = strlen(name) + 1; /* and the = */

	while (first != NULL && *envp != NULL && *envp + len != first)
		envp++;
	return first != NULL && *envp != NULL &&
	    request_parse_param(envp + 1, name) != NULL;
}

enum err
request_parse_check(char *const envp[], struct diag *diag)
{
	const char *method = request_parse_param(envp, "REQUEST_METHOD");
	const char *length = request_parse_param(envp, "CONTENT_LENGTH");
	uint64_t unused;
	enum err err = check_params(envp, diag);

	if (err != ERR_OK)
		return err;
	if (method == NULL || strlen(method) > REQUEST_METHOD_MAX_BYTES ||
	    !str_is_token(method, strlen(method))) {
		diag_set(diag, "the method is no token");
		return ERR_PROTO;
	}
	/* nginx passes a header that came twice as it came */
	if (is_twice(envp, "HTTP_ORIGIN")) {
		diag_set(diag, "more than one Origin header");
		return ERR_PROTO;
	}
	/* empty is what nginx sends for "no body" */
	if (length != NULL && *length != '\0' &&
	    request_parse_length(length, &unused) != ERR_OK) {
		diag_set(diag, "Content-Length is no number");
		return ERR_PROTO;
	}
	return ERR_OK;
}

enum err
request_parse_length(const char *text, uint64_t *ret)
{
	if (text == NULL ||
	    str_to_u64(text, strlen(text), INT64_MAX, ret) != ERR_OK)
		return ERR_PROTO;
	return ERR_OK;
}

/* The text that the path is in: REQUEST_URI, or what RFC 3875 alone has. */
static char *
path_source(char *const envp[])
{
	const char *uri = request_parse_param(envp, "REQUEST_URI");
	const char *script = request_parse_param(envp, "SCRIPT_NAME");
	const char *info = request_parse_param(envp, "PATH_INFO");

	if (uri != NULL)
		return xstrdup(uri);
	return xasprintf("%s%s", script == NULL ? "" : script,
	    info == NULL ? "" : info);
}

enum err
request_parse_path(char *const envp[], const char *base_path, char **ret)
{
	char *source = path_source(envp);
	size_t base_len = strlen(base_path), len = strcspn(source, "?");
	enum err err = ERR_OK;

	if (strlen(source) > REQUEST_URI_MAX_BYTES)
		err = ERR_HEAD;
	else if (str_path_fault(source, len) != NULL)
		err = ERR_PROTO;
	else if (len < base_len || memcmp(source, base_path, base_len) != 0 ||
	    (len > base_len && source[base_len] != '/'))
		err = ERR_NOTFOUND;
	else if (len == base_len)
		*ret = xstrdup("/");
	else
		*ret = xstrndup(source + base_len, len - base_len);
	free(source);
	return err;
}

const char *
request_parse_query(char *const envp[])
{
	const char *uri = request_parse_param(envp, "REQUEST_URI");
	const char *query = uri == NULL
	    ? request_parse_param(envp, "QUERY_STRING")
	    : strchr(uri, '?');

	if (query == NULL)
		return "";
	return uri == NULL ? query : query + 1;
}

const char *
request_parse_scheme(char *const envp[])
{
	const char *https = request_parse_param(envp, "HTTPS");
	const char *scheme = request_parse_param(envp, "REQUEST_SCHEME");

	if ((https != NULL && strcasecmp(https, "on") == 0) ||
	    (scheme != NULL && strcasecmp(scheme, "https") == 0))
		return "https";
	return "http";
}

bool
request_parse_is_type(const char *content_type, const char *type)
{
	size_t len = strcspn(content_type, ";");

	while (len > 0 &&
	    (content_type[len - 1] == ' ' || content_type[len - 1] == '\t'))
		len--;
	return len == strlen(type) && strncasecmp(content_type, type, len) == 0;
}

const char *
request_parse_cookie(const char *header, const char *name, size_t *ret_len)
{
	size_t name_len = strlen(name), len;

	while (header != NULL && *header != '\0') {
		header += strspn(header, "; \t");
		len = strcspn(header, ";");
		if (len > name_len && header[name_len] == '=' &&
		    strncmp(header, name, name_len) == 0) {
			header += name_len + 1;
			*ret_len = strcspn(header, "; \t");
			return header;
		}
		header += len;
	}
	return NULL;
}

const char *
request_parse_bearer(const char *authorization)
{
	static const char scheme[] = "Bearer";
	size_t len = sizeof(scheme) - 1;

	if (authorization == NULL ||
	    strncasecmp(authorization, scheme, len) != 0 ||
	    (authorization[len] != ' ' && authorization[len] != '\0'))
		return NULL;
	return authorization + len + strspn(authorization + len, " ");
}
