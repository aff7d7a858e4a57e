/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_peer.h"

#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
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

bool
control_peer_send(int fd, const void *data, size_t len, int passed)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .space = "" };
	struct iovec part = { .iov_base = (void *)(uintptr_t)data,
		.iov_len = len };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (passed != -1) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(passed));
		memcpy(CMSG_DATA(&control.header), &passed, sizeof(passed));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) != -1;
}
