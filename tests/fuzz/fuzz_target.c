/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/tunnels/target.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define S(text) ((char[]){ text })

static struct config_query queries[] = {
	{ .name = S("a") },
	{ .name = S("b"), .fallback = S("x & y") },
};
static const struct config_relay relay = {
	.name = S("/r"),
	.upstream = { .path = S("/up"), .query = S("fixed=1") },
	.queries = queries,
	.query_count = 2,
};

static void
require(int condition)
{
	if (!condition)
		abort();
}

static const char *
value_of(const struct target *target, const char *name, const char *fallback)
{
	for (size_t i = 0; i < target->count; i++)
		if (strcmp(target->parameters[i].name, name) == 0)
			return target->parameters[i].value;
	return fallback;
}

/* What is sent upstream means the same, and holds nothing else. */
static void
check_rewritten(const struct target *target, const char *text)
{
	struct target *again;
	const char *a = value_of(target, "a", NULL);

	require(strncmp(text, "/up?fixed=1", 11) == 0);
	require(target_parse(text, &again, NULL) == ERR_OK);
	require(again->count == (a == NULL ? 2 : 3));
	require(strcmp(value_of(target, "b", "x & y"),
		    value_of(again, "b", "")) == 0);
	require(a == NULL || strcmp(a, value_of(again, "a", "")) == 0);
	target_free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xstrndup((const char *)data, size), *rewritten;
	struct target *target;

	if (target_parse(text, &target, NULL) == ERR_OK) {
		if (target_rewrite(target, &relay, &rewritten, NULL) ==
		    ERR_OK) {
			check_rewritten(target, rewritten);
			free(rewritten);
		}
		target_free(target);
	}
	free(text);
	return 0;
}
