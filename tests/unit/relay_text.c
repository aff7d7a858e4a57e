/* SPDX-License-Identifier: MIT */
#include "relay_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct config *
relay_text_build(const char *text, struct diag *diag)
{
	struct config *config = config_new();
	struct conf_section *root = NULL;
	enum err err = conf_parse("t", text, strlen(text), &root, diag);

	if (err == ERR_OK)
		err = config_relay_build(root, config, diag);
	conf_free(root);
	if (err == ERR_OK)
		return config;
	config_unref(config);
	return NULL;
}

struct config *
relay_text_good(const char *text)
{
	struct diag diag = { "" };
	struct config *config = relay_text_build(text, &diag);

	if (config == NULL)
		fail_msg("%s: %s", text, diag.text);
	return config;
}

char *
relay_text_dump(const struct config_relay *relay)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	config_relay_dump(relay, f);
	assert_int_equal(fclose(f), 0);
	return text;
}
