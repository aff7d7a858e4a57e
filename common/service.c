/* SPDX-License-Identifier: MIT */
#include "common/service.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

int
service_passed_socket(int type)
{
	int n = sd_listen_fds(0);

	for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n; fd++)
		if (sd_is_socket(fd, AF_UNSPEC, type, -1) > 0)
			return fd;
	return -1;
}

/* Whether somebody accepts connections at this address. */
static bool
is_alive(const struct sockaddr_un *addr, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool alive;

	if (fd == -1)
		return true;
	alive = connect(fd, (const void *)addr, sizeof(*addr)) == 0 ||
	    errno == EAGAIN;
	(void)close(fd);
	return alive;
}

/* Why no socket could be made at a path, so that one knows what to do. */
static const char *
listen_fault(int error)
{
	switch (error) {
	case ENOENT:
		return "its directory does not exist";
	case EADDRINUSE:
		return "another file is there already";
	default:
		return strerror(error);
	}
}

enum err
service_listen_unix(const char *path, int type, mode_t mode, int *ret_fd,
    struct diag *diag)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t old_mask;
	int fd, rc;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		diag_set(diag, "%s: longer than %zu bytes", path,
		    sizeof(addr.sun_path) - 1);
		return ERR_LIMIT;
	}
	(void)strcpy(addr.sun_path, path);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
		if (is_alive(&addr, type)) {
			diag_set(diag, "%s: another process listens there",
			    path);
			return ERR_UNAVAIL;
		}
		(void)unlink(path);
	}
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	old_mask = umask(0777 & ~mode);
	rc = fd == -1 ? -1 : bind(fd, (void *)&addr, sizeof(addr));
	(void)umask(old_mask);
	if (rc == -1 || listen(fd, SOMAXCONN) == -1) {
		diag_set(diag, "%s: cannot listen: %s", path,
		    listen_fault(errno));
		if (fd != -1)
			(void)close(fd);
		return ERR_SYS;
	}
	*ret_fd = fd;
	return ERR_OK;
}

void
service_harden(void)
{
	const struct rlimit none = { 0 };

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
#ifndef WITH_SANITIZERS /* the leak checker attaches to us */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

void
service_use_all_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

void
service_ready(const char *status)
{
	(void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void
service_reloading(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
	    (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}

void
service_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1");
}
