/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_RELAY_TEXT_H
#define TESTS_UNIT_RELAY_TEXT_H

#include "broker/config/config_relay.h"

/* relay_text: relays from a configuration's text, and back, for tests. */

/* NULL and diag where it will not do. */
struct config *relay_text_build(const char *text, struct diag *diag);

/* The test fails where it will not do. */
struct config *relay_text_good(const char *text);

/* The caller frees it. */
char *relay_text_dump(const struct config_relay *relay);

#endif
