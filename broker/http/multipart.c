/* SPDX-License-Identifier: MIT */
#include "broker/http/multipart.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/crypt.h"
#include "common/str.h"
#include "common/xalloc.h"

#define FORM_TYPE      "multipart/form-data"
#define BOUNDARY_MAX   70 /* RFC 2046 5.1.1 */
#define BOUNDARY_BYTES 16

/* The rest of what is read. */
struct cursor {
	const char *p, *end;
};

static enum err
malformed(struct diag *diag, const char *why)
{
	diag_set(diag, "the form is malformed: %s", why);
	return ERR_PROTO;
}

/* ---- parameters: `; name=value; name="value"' (RFC 9110 5.6.6) ---- */

static void
skip_blanks(struct cursor *in)
{
	while (in->p < in->end && (*in->p == ' ' || *in->p == '\t'))
		in->p++;
}

static bool
skip_char(struct cursor *in, char c)
{
	if (in->p == in->end || *in->p != c)
		return false;
	in->p++;
	return true;
}

static size_t
token_len(const struct cursor *in)
{
	size_t n = 0, left = (size_t)(in->end - in->p);

	while (n < left && str_is_token(in->p + n, 1))
		n++;
	return n;
}

/* A token or a quoted string, without escapes, which no such value needs. */
static bool
take_value(struct cursor *in, char *out, size_t size)
{
	const char *from = in->p, *quote;
	size_t n;

	if (skip_char(in, '"')) {
		from = in->p;
		quote = memchr(from, '"', (size_t)(in->end - from));
		if (quote == NULL)
			return false;
		n = (size_t)(quote - from);
		in->p = quote + 1;
	} else {
		n = token_len(in);
		in->p += n;
	}
	if (n == 0 || n >= size || memchr(from, '\\', n) != NULL ||
	    memchr(from, '\0', n) != NULL)
		return false;
	memcpy(out, from, n);
	out[n] = '\0';
	return true;
}

/*
 * The parameter `wanted' of what follows a media type or a disposition: there
 * once, and nothing malformed beside it.
 */
static bool
take_parameter(struct cursor in, const char *wanted, char *out, size_t size)
{
	char other[256];
	bool found = false;

	for (;;) {
		size_t n;
		bool is_it;

		skip_blanks(&in);
		if (in.p == in.end)
			return found;
		if (!skip_char(&in, ';'))
			return false;
		skip_blanks(&in);
		n = token_len(&in);
		is_it =
		    n == strlen(wanted) && strncasecmp(in.p, wanted, n) == 0;
		in.p += n;
		if (n == 0 || (is_it && found) || !skip_char(&in, '='))
			return false;
		if (!take_value(&in, is_it ? out : other,
			is_it ? size : sizeof(other)))
			return false;
		found = found || is_it;
	}
}

/* Skip a word that has to be there, whatever its case. */
static bool
skip_word(struct cursor *in, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(in->end - in->p) < len ||
	    strncasecmp(in->p, word, len) != 0)
		return false;
	in->p += len;
	return true;
}

/* ---- one part ---- */

/* A name that needs no escape in any way of writing it. */
static bool
is_name(const char *name)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz"
				      "0123456789_-.";

	return name[strspn(name, letters)] == '\0';
}

static enum err
take_header(struct cursor line, struct multipart_part *part, struct diag *diag)
{
	struct cursor name = line;
	size_t n = token_len(&line);

	line.p += n;
	if (n == 0 || !skip_char(&line, ':') ||
	    !str_is_field_value(line.p, (size_t)(line.end - line.p)))
		return malformed(diag, "a part's header");
	if (n == 25 && skip_word(&name, "Content-Transfer-Encoding"))
		return malformed(diag, "a part has a transfer encoding");
	if (n != 19 || !skip_word(&name, "Content-Disposition"))
		return ERR_OK; /* its type is not asked for */
	skip_blanks(&line);
	if (part->name[0] != '\0' || !skip_word(&line, "form-data") ||
	    !take_parameter(line, "name", part->name, sizeof(part->name)) ||
	    !is_name(part->name))
		return malformed(diag, "a part's Content-Disposition");
	return ERR_OK;
}

/* The headers of a part, and the empty line after them. */
static enum err
take_head(struct cursor *in, struct multipart_part *part, struct diag *diag)
{
	const char *from = in->p;

	for (;;) {
		struct cursor line = *in;
		enum err err;

		line.end = memmem(in->p, (size_t)(in->end - in->p), "\r\n", 2);
		if (line.end == NULL || line.end - from > MULTIPART_HEAD_MAX)
			return malformed(diag, "a part's head does not end");
		in->p = line.end + 2;
		if (line.p == line.end)
			break;
		err = take_header(line, part, diag);
		if (err != ERR_OK)
			return err;
	}
	if (part->name[0] == '\0')
		return malformed(diag, "a part has no name");
	return ERR_OK;
}

/* ---- the body ---- */

static enum err
get_delimiter(const char *content_type, char *out, size_t size,
    struct diag *diag)
{
	/* besides, a blank may stand in one, but not at its end */
	static const char marks[] = "'()+_,-./:=? ";
	struct cursor in = { content_type, NULL };
	char boundary[BOUNDARY_MAX + 1];
	size_t len;

	in.end = content_type + strlen(content_type);
	if (!skip_word(&in, FORM_TYPE) ||
	    !take_parameter(in, "boundary", boundary, sizeof(boundary))) {
		diag_set(diag,
		    "the body has to be " FORM_TYPE " with a boundary");
		return ERR_TYPE;
	}
	len = strlen(boundary);
	for (size_t i = 0; i < len; i++) {
		char c = boundary[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= '0' && c <= '9') && strchr(marks, c) == NULL)
			return malformed(diag, "its boundary");
	}
	if (boundary[len - 1] == ' ')
		return malformed(diag, "its boundary");
	(void)snprintf(out, size, "\r\n--%s", boundary);
	return ERR_OK;
}

/* What follows a delimiter: a part, or the end; *ret_last says which. */
static enum err
end_line(struct cursor *in, bool *ret_last, struct diag *diag)
{
	*ret_last = false;
	if (skip_word(in, "\r\n"))
		return ERR_OK;
	if (!skip_word(in, "--"))
		return malformed(diag, "a boundary has no end");
	(void)skip_word(in, "\r\n");
	*ret_last = true;
	return in->p == in->end ? ERR_OK
				: malformed(diag, "something follows its end");
}

static enum err
take_part(struct cursor *in, const char *delimiter, struct multipart *form,
    struct diag *diag)
{
	struct multipart_part part = { .data = NULL };
	size_t len = strlen(delimiter);
	const char *end;
	enum err err = take_head(in, &part, diag);

	if (err != ERR_OK)
		return err;
	/* a part without data begins right before its delimiter */
	end = memmem(in->p - 2, (size_t)(in->end - in->p) + 2, delimiter, len);
	if (end == NULL)
		return malformed(diag, "a part does not end");
	part.data = in->p;
	part.len = end < in->p ? 0 : (size_t)(end - in->p);
	in->p = end + len;
	if (multipart_find(form, part.name) != NULL)
		return malformed(diag, "two parts have one name");
	if (form->count == MULTIPART_PARTS_MAX) {
		diag_set(diag, "the form has more than %d parts",
		    MULTIPART_PARTS_MAX);
		return ERR_LIMIT;
	}
	form->parts[form->count++] = part;
	return ERR_OK;
}

enum err
multipart_parse(const char *content_type, const char *body, size_t len,
    struct multipart *ret, struct diag *diag)
{
	char delimiter[BOUNDARY_MAX + 5];
	struct cursor in = { body, body + len };
	struct multipart form = { .count = 0 };
	bool last = false;
	enum err err =
	    get_delimiter(content_type, delimiter, sizeof(delimiter), diag);

	if (err == ERR_OK &&
	    (len < strlen(delimiter) - 2 ||
		memcmp(body, delimiter + 2, strlen(delimiter) - 2) != 0))
		err = malformed(diag, "it does not begin with its boundary");
	if (err == ERR_OK) {
		in.p += strlen(delimiter) - 2;
		err = end_line(&in, &last, diag);
	}
	while (err == ERR_OK && !last) {
		err = take_part(&in, delimiter, &form, diag);
		if (err == ERR_OK)
			err = end_line(&in, &last, diag);
	}
	if (err == ERR_OK)
		*ret = form;
	return err;
}

const struct multipart_part *
multipart_find(const struct multipart *form, const char *name)
{
	for (size_t i = 0; i < form->count; i++)
		if (strcmp(form->parts[i].name, name) == 0)
			return &form->parts[i];
	return NULL;
}

/* ---- writing ---- */

void
multipart_format(const struct multipart_field *fields, size_t count,
    char **ret_content_type, char **ret_body, size_t *ret_len)
{
	char boundary[2 * BOUNDARY_BYTES + 1];
	FILE *out = open_memstream(ret_body, ret_len);

	if (out == NULL)
		abort(); /* out of memory */
	crypt_random_hex(boundary, BOUNDARY_BYTES);
	for (size_t i = 0; i < count; i++) {
		(void)fprintf(out,
		    "--%s\r\n"
		    "Content-Disposition: form-data; name=\"%s\"\r\n"
		    "Content-Type: %s\r\n\r\n",
		    boundary, fields[i].name, fields[i].type);
		(void)fwrite(fields[i].data, 1, fields[i].len, out);
		(void)fputs("\r\n", out);
	}
	(void)fprintf(out, "--%s--\r\n", boundary);
	if (fclose(out) != 0)
		abort(); /* out of memory */
	*ret_content_type = xasprintf(FORM_TYPE "; boundary=%s", boundary);
}
