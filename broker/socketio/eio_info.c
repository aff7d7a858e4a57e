/* SPDX-License-Identifier: MIT */
#include "broker/socketio/eio_info.h"

#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"

static char *
copy_of(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

struct eio_info
eio_info_copy(const struct eio_info *info)
{
	struct eio_info copy = {
		.address = copy_of(info->address),
		.authorization = copy_of(info->authorization),
		.anon_id = copy_of(info->anon_id),
		.origin = copy_of(info->origin),
		.host = copy_of(info->host),
		.fetch_site = copy_of(info->fetch_site),
		.cookie = copy_of(info->cookie),
	};

	(void)strcpy(copy.sid, info->sid);
	return copy;
}

void
eio_info_done(const struct eio_info *info)
{
	char *const all[] = { info->address, info->anon_id, info->origin,
		info->host, info->fetch_site, info->authorization,
		info->cookie };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i] != NULL)
			explicit_bzero(all[i], strlen(all[i]));
		free(all[i]);
	}
}
