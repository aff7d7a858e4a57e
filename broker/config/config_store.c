/* SPDX-License-Identifier: MIT */
#include "broker/config/config_store.h"

#include <stdlib.h>
#include <string.h>

#include "broker/config/config_value.h"
#include "common/xalloc.h"

#define FILE_NAME "culvert.db"

/* In the first folder of systemd's list, or NULL. */
static char *
default_path(void)
{
	const char *folders = getenv("STATE_DIRECTORY");

	if (folders == NULL || *folders != '/')
		return NULL;
	return xasprintf("%.*s/" FILE_NAME, (int)strcspn(folders, ":"),
	    folders);
}

enum err
config_store_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	struct conf_section *section = conf_section(root, "store", 0);

	if (conf_given(section, "path"))
		return value_get_optional(section, "path", value_check_file,
		    &config->store.path, diag);
	config->store.path = default_path();
	return ERR_OK;
}

void
config_store_dump(const struct config *config, FILE *out)
{
	(void)fputs("store {\n", out);
	value_put_text(out, 1, "path", config->store.path);
	(void)fputs("}\n", out);
}
