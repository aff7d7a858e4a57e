/* SPDX-License-Identifier: MIT */
#ifndef COMMON_THREAD_H
#define COMMON_THREAD_H

#include <pthread.h>

#include "common/err.h"

/*
 * Start a thread that takes no signals: they stay with the main thread.  name
 * is what ps(1) shows, at most 15 bytes.  ERR_SYS.  The caller joins or
 * detaches it.
 */
enum err thread_start(pthread_t *ret, const char *name, void *(*run)(void *),
    void *arg, struct diag *diag) MUST_CHECK;

#endif
