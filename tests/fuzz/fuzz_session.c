/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/openai/session_rules.h"
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * A session that a client begins with.  What is taken by a relay with a pinned
 * session has, merged with that, what is pinned.
 */
static struct config *config;

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
setup(void)
{
	static const char text[] =
	    "relay \"/pinned\" { upstream = \"ws://x\" session {\n"
	    "model = m instructions = \"Be kind.\" voice = marin\n"
	    "max_output_tokens = 300 } }\n"
	    "relay \"/open\" { upstream = \"ws://x\" }";

	require(config_parse("c", text, strlen(text), &config, NULL) == ERR_OK);
}

static void
check(const struct config_relay *relay, const json_t *session)
{
	struct pin_refusal refusal = { .param = "" };
	const json_t *pinned = relay->messages.session;
	const char *names[] = { "instructions", "max_output_tokens" };
	json_t *merged = NULL;
	enum err err = session_rules_check(relay, "m", session, &refusal);

	if (err != ERR_OK) {
		require(err == ERR_PROTO || err == ERR_DENIED);
		return;
	}
	err = session_rules_merge(relay, session, NULL, &merged);
	require(err == ERR_OK || err == ERR_LIMIT);
	if (err == ERR_OK && pinned != NULL)
		for (size_t i = 0; i < 2; i++)
			require(json_equal(json_object_get(merged, names[i]),
			    json_object_get(pinned, names[i])));
	json_decref(merged);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *session;

	if (config == NULL)
		setup();
	if (json_parse(data, size, &session, NULL) != ERR_OK)
		return 0;
	for (size_t i = 0; i < config->relay_count; i++)
		check(&config->relays[i], session);
	json_decref(session);
	return 0;
}
