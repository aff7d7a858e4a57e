/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_peer.h"

#include <unistd.h>

#include "broker/config/config.h"

static bool
is_operator(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

/* Those whom the configuration lets open tunnels. */
static bool
is_user(uid_t uid)
{
	struct config *config = config_current();
	bool found = false;

	for (size_t i = 0; i < config->control.user_count; i++)
		found |= config->control.users[i] == uid;
	config_unref(config);
	return found;
}

bool
control_peer_get(int fd, struct control_peer *ret)
{
	socklen_t len = sizeof(ret->cred);

	ret->cred = (struct ucred){ .uid = (uid_t)-1 };
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ret->cred, &len) == -1)
		return false;
	ret->is_operator = is_operator(ret->cred.uid);
	return ret->is_operator || is_user(ret->cred.uid);
}
