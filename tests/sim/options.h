/* SPDX-License-Identifier: MIT */
#ifndef SIM_OPTIONS_H
#define SIM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include <stdint.h>

#include "common/secret.h"
#include "ephemeral.h"

/* options: what the simulator was started with. */

#define LIST_MAX 32

struct list {
	char *items[LIST_MAX];
	size_t count;
};

struct options {
	char *bind;
	int ws_port, http_port, raw_port, wss_port, https_port; /* -1: none */
	char *cert, *key;
	struct list models;	  /* patterns */
	struct list chat_models;  /* likewise, of chat completions */
	struct list subprotocols; /* that /echo selects */
	int pace_ms;
	int session_s;	/* until when one of OpenAI's says it lasts */
	int charges_fd; /* a line for each response; -1: nowhere */
	bool die_with_parent;
	/* From the environment; NULL where it says nothing. */
	struct secret *openai_key;
	struct secret *anam_key;
	struct secret *livekit_secret;
	const char *livekit_key;
	struct ephemeral *ephemeral;
};

/* Read the command line; exits for --help, --version and mistakes. */
struct options *options_new(int argc, char **argv);
void options_free(struct options *options);

/* Does a model of a request fit --models? */
bool options_has_model(const struct options *options, const char *model);

/* The same of --chat-models. */
bool options_has_chat_model(const struct options *options, const char *model);

/* Is this OpenAI's key?  Any is where the environment gave none. */
bool options_is_main_key(const struct options *options, const char *key,
    size_t len);

/* Is it that, or one that was issued and did not expire yet? */
bool options_key_is_good(const struct options *options, const char *key,
    size_t len, int64_t now);

#endif
