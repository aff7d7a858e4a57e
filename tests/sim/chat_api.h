/* SPDX-License-Identifier: MIT */
#ifndef SIM_CHAT_API_H
#define SIM_CHAT_API_H

#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "reply.h"
#include "request.h"
#include "script.h"

/*
 * chat_api: OpenAI's POST /v1/chat/completions: checks what was asked and says
 * what it is answered with.  No sockets and no clock.
 */
#define CHAT_PATH "/v1/chat/completions"

/* NULL where the path is another; else as openai_api_answer(). */
struct reply *chat_api_answer(const struct options *options,
    struct script *script, const struct request *request, const void *body,
    size_t len, int64_t now);

#endif
