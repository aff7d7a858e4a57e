/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *
dump(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		abort();
	config_dump(config, f);
	if (fclose(f) != 0)
		abort();
	return text;
}

/* Whatever loads can be dumped, and the dump loads as the same. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config;
	struct diag diag = { "" };
	char *first, *second;

	/* nothing is to be read from the machine that runs this */
	if (size > 16384 || memmem(data, size, "file", 4) != NULL ||
	    memmem(data, size, "canary", 6) != NULL)
		return 0;
	if (setenv("K", "canary-0123456789-0123456789-0123456789", 1) != 0)
		abort();
	if (config_parse("c", (const char *)data, size, &config, &diag) !=
	    ERR_OK) {
		if (diag.text[0] == '\0')
			abort();
		return 0;
	}
	first = dump(config);
	config_unref(config);
	if (strstr(first, "canary") != NULL ||
	    config_parse("c", first, strlen(first), &config, &diag) != ERR_OK)
		abort();
	second = dump(config);
	config_unref(config);
	/* but for the comments that name `openai' and tell of prompts */
	if (strcmp(strstr(first, "control"), strstr(second, "control")) != 0 &&
	    strstr(first, "# openai") == NULL &&
	    strstr(first, "# instructions: ") == NULL &&
	    strstr(first, "# system: ") == NULL)
		abort();
	free(first);
	free(second);
	return 0;
}
