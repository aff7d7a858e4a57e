/* SPDX-License-Identifier: MIT */
#include "common/err.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

static const struct {
	const char *code;
	const char *text;
	int http;
} errs[] = {
#define ERR(name, http, code, text) [ERR_##name] = { code, text, http },
#include "common/err.def"
};

void
diag_set(struct diag *diag, const char *fmt, ...)
{
	va_list ap;

	if (diag == NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(diag->text, sizeof(diag->text), fmt, ap);
	va_end(ap);
}

const char *
err_text(enum err code)
{
	return errs[code].text;
}

const char *
err_code(enum err code)
{
	return errs[code].code;
}

int
err_http_status(enum err code)
{
	return errs[code].http;
}
