/* SPDX-License-Identifier: MIT */
#ifndef SIM_ROUTES_H
#define SIM_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "anam_api.h"
#include "journal.h"
#include "options.h"
#include "reply.h"
#include "script.h"

/* routes: which HTTP request is answered by whom.  No sockets. */
struct routes {
	const struct options *options;
	struct journal *journal;
	struct script *script;
	struct anam_api *anam;
};

/* The answer to a request, which the caller frees.  Thread-safe. */
struct reply *routes_answer(const struct routes *routes,
    const struct request *request, const void *body, size_t len, bool tls);

#endif
