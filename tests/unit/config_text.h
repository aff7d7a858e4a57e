/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_CONFIG_TEXT_H
#define TESTS_UNIT_CONFIG_TEXT_H

#include <string.h>

#include <cmocka.h>

#include "broker/config/config.h"

/* The configuration of a text; the test fails where it will not do. */
static inline struct config *
config_text(const char *text)
{
	struct config *config = NULL;
	struct diag diag = { "" };

	if (config_parse("t.conf", text, strlen(text), &config, &diag) !=
	    ERR_OK)
		fail_msg("%s: %s", text, diag.text);
	return config;
}

#endif
