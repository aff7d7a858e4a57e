/* SPDX-License-Identifier: MIT */
#include "common/thread.h"

#include <signal.h>
#include <string.h>

enum err
thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg,
    struct diag *diag)
{
	sigset_t all, old;
	pthread_t thread;
	int error;

	/* a thread inherits the mask of the one that starts it */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&thread, NULL, run, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error != 0) {
		diag_set(diag, "cannot start a thread: %s", strerror(error));
		return ERR_SYS;
	}
	(void)pthread_setname_np(thread, name);
	*ret = thread;
	return ERR_OK;
}
