/* SPDX-License-Identifier: MIT */
#ifndef COMMON_SERVICE_H
#define COMMON_SERVICE_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/err.h"

/* service: what a daemon has to do with its manager and its sockets. */

/*
 * The descriptor of this socket type (SOCK_STREAM, SOCK_SEQPACKET) that
 * systemd passed (sd_listen_fds(3)), or -1 where there is none.  A
 * descriptor is close-on-exec; the environment is left as it is.
 */
int service_passed_socket(int type);

/*
 * Make a listening Unix socket, non-blocking and close-on-exec.  A socket
 * file that nobody listens on any more is replaced; one that is in use is
 * ERR_UNAVAIL.  mode is the file's; it is set with umask(2), so this is for
 * the time before there are threads.  ERR_LIMIT for a path over 107 bytes,
 * ERR_SYS else; diag says which.
 */
enum err service_listen_unix(const char *path, int type, mode_t mode,
    int *ret_fd, struct diag *diag) MUST_CHECK;

/*
 * For a process that holds keys: no core file, nothing for other processes of
 * the same user to read or trace, no way to gain privileges.
 */
void service_harden(void);

/*
 * Raise the soft limit of open descriptors, which is 1024 for the sake of
 * select(2), to the hard one.
 */
void service_use_all_descriptors(void);

/* Tell the manager, where there is one: sd_notify(3). */
void service_ready(const char *status);
void service_reloading(void);
void service_stopping(void);

#endif
